//! The data directory: its layout, and the lock that says which process owns it. Never reads what is stored in it.
//!
//! ```text
//! <data>/lock              flock held for the owner's life; holds its process id, for the error message only
//! <data>/journal/          recording events, ground state
//! <data>/uploads/          images put by users, ground state
//! <data>/jobs/             jobs in a journal of their own, and their results; ground state
//! <data>/catalog/          derived from the journal
//! <data>/cache/            pictures in volumes and where they are, derived
//! <data>/admin             where the admin listener of the server is that runs on it
//! <data>/ballast           room that is let go when the disk is full
//! <data>/tmp/              media read whole, in files without a name; emptied at start
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process owns it: two owners would overwrite each other.
    #[error("data directory {dir} is owned by another process{owner}; every process needs a directory of its own")]
    Owned {
        /// The directory.
        dir: PathBuf,
        /// ` (process 123)`, or nothing when the lock file does not say.
        owner: String,
    },
    /// It cannot be created, opened or locked.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// A data directory that this process owns for as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    /// Closing it gives the lock back, as does the end of the process, however it ends.
    _lock: File,
}

impl DataDir {
    /// Creates what is missing (readable by the owner alone) and takes the lock, without waiting for it.
    pub fn open(root: &Path) -> Result<Self, DataDirError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { action, path, source }
        };
        create(root).map_err(failed("create", root))?;
        let lock_path = root.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataDirError::Owned { dir: root.to_owned(), owner: owner_of(&mut lock) });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        lock.set_len(0).map_err(failed("empty", &lock_path))?;
        writeln!(lock, "{}", std::process::id()).map_err(failed("write", &lock_path))?;
        let data = Self { root: root.to_owned(), _lock: lock };
        for dir in [data.journal(), data.uploads(), data.jobs(), data.catalog(), data.cache()] {
            create(&dir).map_err(failed("create", &dir))?;
        }
        Ok(data)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the journal's files are.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Where uploaded images are.
    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// Where jobs and their results are.
    pub fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    /// Where the catalog is.
    pub fn catalog(&self) -> PathBuf {
        self.root.join("catalog")
    }

    /// Where the disk cache is.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }
}

fn create(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn owner_of(lock: &mut File) -> String {
    let mut text = String::new();
    // Only decoration of an error: what cannot be read is left out.
    let read = lock.take(20).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(pid) if read.is_ok() => format!(" (process {pid})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time() {
        let temp = tempfile::tempdir().expect("directory");
        let root = temp.path().join("data");
        let first = DataDir::open(&root).expect("first owner");
        assert!(first.cache().is_dir() && first.journal().is_dir());
        let refused = DataDir::open(&root).expect_err("second owner").to_string();
        assert!(refused.contains(&root.display().to_string()), "{refused}");
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        DataDir::open(&root).expect("free again");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let temp = tempfile::tempdir().expect("directory");
        let root = temp.path().join("data");
        std::fs::write(&root, b"x").expect("file");
        let refused = DataDir::open(&root).expect_err("not a directory").to_string();
        assert!(refused.contains("cannot create") && refused.contains("data"), "{refused}");
    }
}
