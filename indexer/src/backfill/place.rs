//! What is walked: a folder, and what the origin calls it.

use std::path::{Path, PathBuf};

use stills_model::time::Timestamp;
use thiserror::Error;

use crate::layout::{Layouts, Named, Unnamed, spelling};

use super::walk::Seen;

/// A folder with footage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Absolute, without links.
    pub root: PathBuf,
    /// The URL under which the origin reads it, ending in `/`.
    pub url: String,
}

/// A place that cannot be walked.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// Object stores are not listed.
    #[error("{0}: s3:// places cannot be listed yet; mount the bucket, or have the store send notifications")]
    ObjectStore(String),
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
    /// Opens a folder; `url` is what the origin calls it, where that is not its own path.
    pub fn open(text: &str, url: Option<&str>) -> Result<Self, PlaceError> {
        if text.contains("://") {
            return Err(PlaceError::ObjectStore(text.to_owned()));
        }
        let failed = |error| PlaceError::Folder { path: text.to_owned(), error };
        let root = Path::new(text).canonicalize().map_err(failed)?;
        if !root.is_dir() {
            return Err(PlaceError::NoFolder(text.to_owned()));
        }
        let url = match url {
            None => spelling::file_url(&root),
            Some(url) if url.contains("://") => url.to_owned(),
            Some(url) => return Err(PlaceError::Url(url.to_owned())),
        };
        Ok(Self { root, url: format!("{}/", url.trim_end_matches('/')) })
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
        for (wrong, part) in [("s3://footage/", "cannot be listed"), ("/no/such/folder", "No such file")] {
            let error = Place::open(wrong, None).expect_err("refused").to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(Place::open(text, Some("/srv")).is_err());
    }
}
