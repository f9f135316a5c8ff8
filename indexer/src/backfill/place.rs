//! What is walked: a folder or a prefix of an object store, and what the origin calls it.

use std::path::{Path, PathBuf};

use stills_model::time::Timestamp;
use thiserror::Error;
use url::Url;

use crate::layout::{Layouts, Named, Unnamed, spelling};

use super::walk::Seen;

/// Something with footage in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where it is looked at.
    pub kind: PlaceKind,
    /// The URL under which the origin reads it, ending in `/`.
    pub url: String,
}

/// Where footage lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceKind {
    /// A folder: absolute, without links.
    Folder(PathBuf),
    /// What lies beneath `s3://bucket/prefix/`, or `gs`, `az`.
    Store(Url),
}

/// A place that cannot be walked.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// No such kind of place.
    #[error("{0}: must be a folder, or an s3://, gs:// or az:// URL without a query")]
    Kind(String),
    /// Only folders can be watched.
    #[error("{0}: only folders can be watched; an object store sends notifications")]
    Watched(String),
    /// There is no such folder.
    #[error("{path}: {error}")]
    Folder {
        /// As given.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// A file was given.
    #[error("{0}: is not a folder")]
    NoFolder(String),
    /// The URL given for the place.
    #[error("--media-url {0}: must begin with a scheme, such as file:///srv/recordings/")]
    Url(String),
}

impl Place {
    /// Opens a place; `url` is what the origin calls it, where that is not its own name.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn open(text: &str, url: Option<&str>) -> Result<Self, PlaceError> {
        let (kind, own) = if text.contains("://") {
            let store = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "s3" | "gs" | "az"));
            let store = store.filter(|url| url.has_host() && url.query().is_none() && url.fragment().is_none());
            let store = store.ok_or_else(|| PlaceError::Kind(text.to_owned()))?;
            let own = store.to_string();
            (PlaceKind::Store(store), own)
        } else {
            let failed = |error| PlaceError::Folder { path: text.to_owned(), error };
            let root = Path::new(text).canonicalize().map_err(failed)?;
            if !root.is_dir() {
                return Err(PlaceError::NoFolder(text.to_owned()));
            }
            let own = spelling::file_url(&root);
            (PlaceKind::Folder(root), own)
        };
        let url = match url {
            None => own,
            Some(url) if url.contains("://") => url.to_owned(),
            Some(url) => return Err(PlaceError::Url(url.to_owned())),
        };
        Ok(Self { kind, url: format!("{}/", url.trim_end_matches('/')) })
    }

    /// What people call a file in it.
    pub fn shown(&self, path: &Path) -> String {
        match &self.kind {
            PlaceKind::Folder(root) => root.join(path).display().to_string(),
            PlaceKind::Store(url) => format!("{}/{}", url.as_str().trim_end_matches('/'), path.display()),
        }
    }

    /// The media URL of a file in it.
    pub fn url_of(&self, path: &Path) -> String {
        use std::os::unix::ffi::OsStrExt;
        format!("{}{}", self.url, spelling::escaped(path.as_os_str().as_bytes()))
    }

    /// What the name of a file in it tells.
    ///
    /// # Errors
    /// It tells too little.
    pub fn named(&self, layouts: &Layouts, seen: &Seen) -> Result<Named, Unnamed> {
        let written = Timestamp::from_ms(seen.modified_ns.div_euclid(1_000_000));
        layouts.read(&self.url_of(&seen.path), Some(&self.url), Some(written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_urls() {
        let dir = tempfile::tempdir().expect("dir");
        let text = dir.path().to_str().expect("text");
        let place = Place::open(text, None).expect("place");
        assert_eq!(place.url, format!("file://{text}/"));
        let other = Place::open(text, Some("file:///srv/recordings")).expect("place");
        assert_eq!(other.url_of(Path::new("cam 1/a.mp4")), "file:///srv/recordings/cam%201/a.mp4");
        for (wrong, part) in [("ftp://footage/", "must be a folder"), ("/no/such/folder", "No such file")] {
            let error = Place::open(wrong, None).expect_err("refused").to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(Place::open(text, Some("/srv")).is_err());
        let store = Place::open("s3://footage/cams", None).expect("place");
        assert_eq!(
            (store.url.as_str(), store.shown(Path::new("a b.mp4"))),
            ("s3://footage/cams/", "s3://footage/cams/a b.mp4".into())
        );
    }
}
