//! The data directory: its layout, and the lock that says which process owns it. Never reads what is stored in it.
//!
//! ```text
//! <data>/lock              flock held for the owner's life; holds its process id, for the error message only
//! <data>/journal/          recording events, ground state
//! <data>/uploads/          images put by users, ground state
//! <data>/jobs/             jobs in a journal of their own, and their results; ground state
//! <data>/catalog/          derived from the journal: tables in sled (tables-N/, the newest whole one counts), blocks of
//!                          hours that change no more (hours/), events taken in the last day (seen/)
//! <data>/cache/            pictures in volumes and where they are, derived
//! <data>/admin             where the admin listener of the server is that runs on it
//! <data>/ballast           room that is let go when the disk is full
//! <data>/tmp/              media read whole, in files without a name; emptied at start
//! <data>/in-use            which start of the machine this is; there until a stop that left nothing unwritten
//! ```
//!
//! `in-use` tells a power cut from everything else. sled orders what it writes and does not sync it: after a `kill -9`
//! the operating system still has all of it, after a power cut its files may be anything, and some of that looks whole.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::cache::DiskCache;
use crate::durable;

/// Drawn anew by the kernel at every start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

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
        durable::sync_dir(root).map_err(failed("sync", root))?;
        // The one above may not be ours to open; what makes data directories need not be us either.
        let _ = root.parent().map(durable::sync_dir);
        Ok(data)
    }

    /// Whether the power went while the directory was in use: what was not synced may be lost in any part.
    pub fn has_lost_power(&self) -> bool {
        match fs::read(self.in_use()) {
            Ok(boot) => boot != boot_id(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Takes what is derived and cannot be trusted out of the way, durably: the catalog, which is made anew from the
    /// journal, and the cache index, which is made anew from the volumes.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn set_derived_aside(&self) -> Result<(), DataDirError> {
        let (catalog, aside) = (self.catalog(), self.catalog().with_extension("damaged"));
        let moved = match fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::rename(&catalog, &aside).and_then(|()| create(&catalog)),
        };
        let set_aside = moved.and_then(|()| DiskCache::distrust_index(&self.cache()));
        let set_aside = set_aside.and_then(|()| durable::sync_dir(&self.root));
        set_aside.map_err(|source| DataDirError::Io { action: "set aside", path: catalog, source })
    }

    /// Says that the directory is in use since this start of the machine. To be called before anything is written that
    /// is not synced, and after what an earlier start left unclear is out of the way.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn note_in_use(&self) -> Result<(), DataDirError> {
        let path = self.in_use();
        let failed = |source| DataDirError::Io { action: "write", path: path.clone(), source };
        let boot = boot_id();
        if fs::read(&path).is_ok_and(|known| known == boot) {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(&boot).and_then(|()| file.sync_data()));
        written.and_then(|()| durable::sync_dir(&self.root)).map_err(failed)
    }

    /// Puts on the disk what is derived, which nobody writes any more, and says that nothing is left unwritten.
    ///
    /// # Errors
    /// The disk refuses: then the next start after a power cut makes it anew.
    pub fn note_stopped(&self) -> io::Result<()> {
        durable::sync_tree(&self.catalog())?;
        durable::sync_tree(&self.cache())?;
        durable::sync_dir(&self.root)?;
        fs::remove_file(self.in_use())?;
        durable::sync_dir(&self.root)
    }

    fn in_use(&self) -> PathBuf {
        self.root.join("in-use")
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

/// Empty where the kernel does not say: then every stop counts as clean.
fn boot_id() -> Vec<u8> {
    fs::read(BOOT_ID).unwrap_or_default()
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
    fn a_power_cut_is_told_from_a_kill_and_from_a_stop() {
        let temp = tempfile::tempdir().expect("directory");
        let open = || DataDir::open(temp.path()).expect("data");
        let data = open();
        assert!(!data.has_lost_power(), "new");
        data.note_in_use().expect("noted");
        drop(data);
        let data = open();
        assert!(!data.has_lost_power(), "killed");
        // The machine started again meanwhile, or the note itself did not wholly reach the disk.
        for other in [&b"00000000-0000-4000-8000-000000000000\n"[..], b""] {
            std::fs::write(data.in_use(), other).expect("another start");
            assert!(data.has_lost_power());
        }
        data.note_in_use().expect("noted");
        assert!(!data.has_lost_power(), "seen to");
        data.note_stopped().expect("stopped");
        assert!(!data.in_use().exists() && !data.has_lost_power());
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
