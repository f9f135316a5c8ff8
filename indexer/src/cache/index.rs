//! The cache index in sled: pages of slots, and two facts about the index itself. One of the two files that name sled.
//! Derived and disposable: what it loses is found again in the volumes.
//!
//! sled answers damage with a panic or by never returning, rarely with an error. So every call is caught; after the
//! first panic or reported corruption the index is condemned: it answers nothing any more, and a file says to the
//! next start that it is to be set aside. A call that never returns is its caller's to notice ([`CacheIndex::condemn`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stills_model::codec::{Reader, Writer};

use super::slots::{Page, PageKey};
use crate::watched::Watched;

/// Raised, with the tree left behind, when the form of keys or values changes.
const PAGES_TREE: &str = "pages.v2";
const FACTS_TREE: &str = "facts.v2";
const CHECKPOINT: &str = "checkpoint";
const COMPLETE: &str = "complete";
/// How often sled writes what it holds; a crash loses no more than this, and the volumes have it.
const FLUSH_EVERY_MS: u64 = 500;
/// How long a lock that an earlier user holds is waited for, and how often it is tried.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(5);

/// The cache index cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The disk is full or refuses; the index itself may be whole.
    #[error("{0}")]
    Disk(String),
    /// An earlier user of it in this process is not quite gone.
    #[error("{0}")]
    Busy(String),
    /// sled says that it is damaged, panics, or does not come back.
    #[error("{0}")]
    Damaged(String),
    /// It was found damaged before, in this run.
    #[error("condemned after damage")]
    Condemned,
}

impl From<sled::Error> for IndexError {
    fn from(error: sled::Error) -> Self {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match &error {
            sled::Error::Io(io) => match io.kind() {
                StorageFull | QuotaExceeded | PermissionDenied | ReadOnlyFilesystem => Self::Disk(error.to_string()),
                // sled tells this apart from other failures by its text alone.
                _ if io.to_string().contains("could not acquire lock") => Self::Busy(error.to_string()),
                _ => Self::Damaged(error.to_string()),
            },
            _ => Self::Damaged(error.to_string()),
        }
    }
}

/// All volumes before `volume`, and that one up to `offset`, are in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Checkpoint {
    pub(super) volume: u32,
    pub(super) offset: u64,
}

#[derive(Debug)]
pub(super) struct CacheIndex {
    db: sled::Db,
    pages: sled::Tree,
    facts: sled::Tree,
    /// How often something made it incomplete in this run.
    incomplete_marks: AtomicU64,
    watched: Watched,
    /// Exists while the index is condemned.
    condemned_path: PathBuf,
}

impl CacheIndex {
    /// May panic or never return on a damaged directory: `open` calls it in a thread of its own.
    pub(super) fn open(dir: &Path, condemned_path: PathBuf, cache_bytes: u64) -> Result<Self, IndexError> {
        let config = sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(Some(FLUSH_EVERY_MS));
        let mut waited = Duration::ZERO;
        // A closed sled holds its lock a little longer: its own threads still have the file.
        let db = loop {
            match config.open().map_err(IndexError::from) {
                Err(IndexError::Busy(_)) if waited < LOCK_WAIT_MAX => {
                    std::thread::sleep(LOCK_POLL);
                    waited += LOCK_POLL;
                }
                opened => break opened?,
            }
        };
        let pages = db.open_tree(PAGES_TREE)?;
        let facts = db.open_tree(FACTS_TREE)?;
        let (watched, incomplete_marks) = (Watched::default(), AtomicU64::new(0));
        Ok(Self { db, pages, facts, incomplete_marks, watched, condemned_path })
    }

    /// The second step of recovery: without its snapshots sled reads its whole log again, which alone often helps.
    pub(super) fn delete_snapshots(index_dir: &Path) -> io::Result<()> {
        for item in fs::read_dir(index_dir)? {
            let item = item?;
            if item.file_name().to_str().is_some_and(|name| name.starts_with("snap.")) {
                fs::remove_file(item.path())?;
            }
        }
        Ok(())
    }

    /// The page, empty when there is none. One that is damaged is removed, and the index incomplete from then on.
    pub(super) fn page(&self, key: &PageKey) -> Result<Page, IndexError> {
        let Some(value) = self.guarded(|| self.pages.get(key.as_bytes()))? else { return Ok(Page::default()) };
        match Page::decode(key, &value) {
            Ok(page) => Ok(page),
            Err(error) => {
                tracing::error!(%error, "a page of the cache index is damaged; the index needs a rebuild");
                self.set_incomplete()?;
                // Unless somebody stored a new one meanwhile; which of the two happened is the same to the caller.
                let _ = self.guarded(|| self.pages.compare_and_swap(key.as_bytes(), Some(value), None::<&[u8]>))?;
                Ok(Page::default())
            }
        }
    }

    /// Stores the page; an empty one is removed.
    pub(super) fn set_page(&self, key: &PageKey, page: &Page) -> Result<(), IndexError> {
        if page.slots().is_empty() {
            self.guarded(|| self.pages.remove(key.as_bytes()))?;
        } else {
            let value = page.encode(key);
            self.guarded(|| self.pages.insert(key.as_bytes(), value))?;
        }
        Ok(())
    }

    /// Up to `max` keys that begin with `prefix`, in order, behind `after`.
    pub(super) fn keys(&self, prefix: &[u8], after: Option<&PageKey>, max: usize) -> Result<Vec<PageKey>, IndexError> {
        self.guarded(|| {
            let from = after.map_or_else(|| prefix.to_vec(), |key| [key.as_bytes(), &[0]].concat());
            let mut keys = Vec::new();
            for item in self.pages.range(from..).keys() {
                let key = item?;
                if !key.starts_with(prefix) || keys.len() == max {
                    break;
                }
                keys.extend(PageKey::from_bytes(&key));
            }
            Ok(keys)
        })
    }

    pub(super) fn checkpoint(&self) -> Result<Option<Checkpoint>, IndexError> {
        let value = self.guarded(|| self.facts.get(CHECKPOINT))?;
        Ok(value.and_then(|value| {
            let (body, crc) = value.split_last_chunk::<4>()?;
            let mut r = Reader::new(body);
            let checkpoint = Checkpoint { volume: r.unsigned_32().ok()?, offset: r.unsigned().ok()? };
            (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then_some(checkpoint)
        }))
    }

    /// sled comes back after a crash as it was at one moment, so what was stored before the checkpoint is there with it.
    pub(super) fn set_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), IndexError> {
        let mut w = Writer::new();
        w.unsigned(checkpoint.volume.into()).unsigned(checkpoint.offset);
        let mut value = w.finish();
        value.extend_from_slice(&crc32c::crc32c(&value).to_le_bytes());
        self.guarded(|| self.facts.insert(CHECKPOINT, value)).map(drop)
    }

    /// Whether every live entry of the volumes is in it.
    pub(super) fn is_complete(&self) -> Result<bool, IndexError> {
        Ok(self.guarded(|| self.facts.get(COMPLETE))?.is_some_and(|value| value == [1]))
    }

    /// Something in the volumes may be missing from the index.
    pub(super) fn set_incomplete(&self) -> Result<(), IndexError> {
        self.incomplete_marks.fetch_add(1, Ordering::AcqRel);
        self.guarded(|| self.facts.insert(COMPLETE, &[0])).map(drop)
    }

    /// How often [`CacheIndex::set_incomplete`] was called.
    pub(super) fn incomplete_marks(&self) -> u64 {
        self.incomplete_marks.load(Ordering::Acquire)
    }

    /// Everything in the volumes was put in by a walk that began when there were `marks`: complete, unless there are
    /// more by now.
    pub(super) fn set_complete(&self, marks: u64) -> Result<(), IndexError> {
        self.guarded(|| self.facts.insert(COMPLETE, &[1]))?;
        if self.incomplete_marks() == marks { Ok(()) } else { self.set_incomplete() }
    }

    pub(super) fn flush(&self) -> Result<(), IndexError> {
        self.guarded(|| self.db.flush()).map(drop)
    }

    pub(super) fn is_condemned(&self) -> bool {
        self.watched.is_condemned()
    }

    /// Watches the calls into it.
    pub(super) fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Ends the use of this index; whoever opens it next, in this run or another, sets it aside.
    pub(super) fn condemn(&self, reason: &str) {
        self.watched.condemn(reason);
        self.mark();
    }

    fn mark(&self) {
        let reason = self.watched.reason().unwrap_or_default();
        let marked = fs::write(&self.condemned_path, &reason).or_else(|error| match error.kind() {
            // Without the mark the next start goes by what sled says.
            io::ErrorKind::StorageFull => fs::File::create(&self.condemned_path).map(drop),
            _ => Err(error),
        });
        if let Err(error) = marked {
            tracing::error!(%error, "cannot mark the cache index as condemned");
        }
    }

    fn guarded<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
        if self.is_condemned() {
            return Err(IndexError::Condemned);
        }
        match self.watched.call(call) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let error = IndexError::from(error);
                match &error {
                    IndexError::Disk(_) => self.watched.note_disk_failure(),
                    _ => self.condemn(&error.to_string()),
                }
                Err(error)
            }
            Err(_) => {
                self.mark();
                Err(IndexError::Damaged("panicked".to_owned()))
            }
        }
    }
}
