//! How far a backfill came, kept in a small file, so that a run that was stopped goes on where it was.
//!
//! The file is written anew and renamed after each acknowledged batch: it is always whole, and never ahead of what
//! the origin has taken. It may be one batch behind; that batch is sent again and is all duplicates. A lock beside it
//! keeps two runs from sharing it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The version of the file; version 1 is all there ever was.
const VERSION: u32 = 1;

/// How far a run came, by the URLs of its places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    version: u32,
    places: BTreeMap<String, PlaceState>,
}

/// How far one place came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceState {
    /// `newest` or `oldest`: a run goes on in the order it began in.
    pub order: String,
    /// When the first of its runs began, Unix milliseconds: what was written last shortly before may still grow.
    pub started_ms: i64,
    /// The last path that was dealt with, percent-encoded.
    pub cursor: Option<String>,
    /// How many files were dealt with.
    pub n_files: u64,
    /// Whether the walk came to its end.
    pub is_complete: bool,
}

/// The state file, locked.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    stored: Stored,
    _lock: File,
}

/// The state cannot be kept.
#[derive(Debug, Error)]
#[error("--state {}: {problem}", path.display())]
pub struct StateError {
    path: PathBuf,
    problem: String,
}

impl StateFile {
    /// Opens or begins a state file.
    ///
    /// # Errors
    /// It is in use, cannot be written, or is of another version.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let wrong = |problem: String| StateError { path: path.to_owned(), problem };
        let lock = lock(path).map_err(wrong)?;
        let stored = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                wrong(format!("is not a state file of this program: {error}; remove it to start over"))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Stored { version: VERSION, places: BTreeMap::new() }
            }
            Err(error) => return Err(wrong(error.to_string())),
        };
        if stored.version != VERSION {
            return Err(wrong(format!("is of version {}, this program writes {VERSION}", stored.version)));
        }
        Ok(Self { path: path.to_owned(), stored, _lock: lock })
    }

    /// How far a place came.
    pub fn get(&self, place_url: &str) -> Option<&PlaceState> {
        self.stored.places.get(place_url)
    }

    /// Remembers how far a place came; durable on return.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&mut self, place_url: &str, state: PlaceState) -> Result<(), StateError> {
        self.stored.places.insert(place_url.to_owned(), state);
        let bytes = serde_json::to_vec_pretty(&self.stored).unwrap_or_default();
        write_whole(&self.path, &bytes)
            .map_err(|error| StateError { path: self.path.clone(), problem: error.to_string() })
    }
}

/// Takes the lock beside a file, with the folder it lies in.
///
/// # Errors
/// In words, when another holds it or it cannot be made.
pub fn lock(path: &Path) -> Result<File, String> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(name);
    let lock = lock.map_err(|error| error.to_string())?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err("another run is using it".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Replaces a file by a new one that is whole and on the disk before it has the name.
///
/// # Errors
/// The disk's.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&new, path)
}

/// Where state is kept unless said otherwise: one file for what is walked and to whom it is told.
pub fn default_path(kind: &str, origin: &str, place_urls: &[&str]) -> PathBuf {
    let variable =
        |name: &str| std::env::var_os(name).filter(|value| Path::new(value).is_absolute()).map(PathBuf::from);
    let home = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    let mut digest = Sha256::new();
    for part in [&[origin], place_urls].concat() {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let hex: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    home.unwrap_or_else(|| PathBuf::from(".")).join("stills").join(format!("{kind}-{hex}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_nobody_else_may_keep() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("deep/er/state.json");
        let state =
            PlaceState { order: "newest".into(), n_files: 7, cursor: Some("a/b".into()), ..PlaceState::default() };
        let mut file = StateFile::open(&path).expect("open");
        assert_eq!(file.get("file:///a/"), None);
        file.set("file:///a/", state.clone()).expect("written");
        assert!(StateFile::open(&path).expect_err("locked").to_string().contains("another run"));
        drop(file);
        assert_eq!(StateFile::open(&path).expect("open").get("file:///a/"), Some(&state));
        std::fs::write(&path, "{\"version\":9,\"places\":{}}").expect("write");
        assert!(StateFile::open(&path).expect_err("version").to_string().contains("version 9"));
        std::fs::write(&path, "half").expect("write");
        assert!(StateFile::open(&path).expect_err("garbage").to_string().contains("remove it"));
    }

    #[test]
    fn each_run_has_a_file_of_its_own() {
        let path = |origin: &str, places: &[&str]| default_path("backfill", origin, places);
        assert_eq!(path("http://a/", &["file:///x/"]), path("http://a/", &["file:///x/"]));
        assert_ne!(path("http://a/", &["file:///x/"]), path("http://b/", &["file:///x/"]));
        assert_ne!(path("http://a/", &["file:///x/"]), path("http://a/", &["file:///x/", "file:///y/"]));
    }
}
