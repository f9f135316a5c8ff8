//! The journal: ground state. What was accepted (events, finished entries, tombstones, epochs) is here, durably,
//! before anyone is told that it was. Payloads are opaque; their forms belong to who writes them.
//!
//! The path of an entry:
//! 1. [`Journal::append`] puts it into a bounded queue, or answers `Full` at once.
//! 2. The writer thread (`commit`) takes everything queued, appends it to the file of each entry's recording day
//!    (`file` has the form), syncs each touched file once, then answers all.
//! 3. [`Journal::replay`] gives it back, at least once: what could not be acknowledged may be there too, and an
//!    entry written again after a failed sync may be there twice. In one file, entries come as they were taken.
//! 4. [`Journal::compact`] joins the files of a day, compresses what is in them (`run`), and leaves out what nobody needs
//!    any more, which the owner of each kind decides ([`Journal::set_owner`]); a day of which nothing is needed vanishes
//!    (`compact`).
//!
//! Files of an earlier run are never written to: each run starts files of its own, so that what a crash left
//! unclear stays at the end of a file, where `replay` cuts it off.
//!
//! Backup: copying the directory file by file, at any time, gives every entry that was durable when it began.

mod commit;
mod compact;
mod file;
mod replay;
mod run;
mod walk;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use stills_model::time::Day;
use tokio::sync::{Semaphore, oneshot};

use commit::{Command, Counters, Request, Writer};
pub use compact::Compacted;
pub use file::{FileName, InvalidFileName};
use file::{Header, read_header};
pub use replay::{ReplayReport, Stretch};

use crate::durable;

/// The journal's limits.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// A file is not appended to beyond this; the next sequence number begins.
    pub file_bytes_max: u64,
    /// The longest payload of one entry.
    pub payload_bytes_max: u32,
    /// How many appends may wait.
    pub queued_max: usize,
    /// How many payload bytes may wait; also the longest single append.
    pub queued_bytes_max: u32,
    /// The size of the preallocated file that takes deletes on a full disk; 0: none.
    pub reserve_bytes: u64,
    /// How much of a day's entries a compaction compresses together; at most a MiB counts.
    pub run_bytes_max: u32,
    /// How long files stay that a compaction has replaced: longer than copying the directory takes.
    pub retired_grace: Duration,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            file_bytes_max: 64 << 20,
            payload_bytes_max: 8 << 20,
            queued_max: 1024,
            queued_bytes_max: 64 << 20,
            reserve_bytes: 1 << 20,
            run_bytes_max: run::RUN_BYTES_MAX,
            retired_grace: Duration::from_secs(3600),
        }
    }
}

/// One entry to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The recording day that it belongs to: it is dropped with that day.
    pub day: Day,
    /// What the payload is, as the writer names it.
    pub kind: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Where an entry ends: what was applied up to here need not be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The file.
    pub file: FileName,
    /// The offset behind the entry.
    pub end: u64,
}

/// Which space an append may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// What the disk has.
    Ordinary,
    /// The reserve too, when the disk is full: for deletes, which make room.
    Reserved,
}

/// What [`Journal::open`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Journal files.
    pub files: usize,
    /// Their length together.
    pub bytes: u64,
    /// Files without a readable header: nothing can be found in them. They are kept for inspection.
    pub unreadable: Vec<FileName>,
    /// Whether a file stands in reserve for deletes on a full disk.
    pub has_reserve: bool,
}

/// The journal refuses or fails.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// Too much is waiting; come back later.
    #[error("the journal's queue is full")]
    Full,
    /// An append or an entry is over the maximum.
    #[error("{what} of {len} bytes; at most {max} are allowed")]
    TooLarge {
        /// Append or payload.
        what: &'static str,
        /// How long it is.
        len: u64,
        /// How long it may be.
        max: u64,
    },
    /// No file can be named for the day.
    #[error("day {0} is outside 0 to {max}", max = FileName::DAY_MAX.0)]
    Day(i64),
    /// The disk is full.
    #[error("no space left for the journal at {path}")]
    NoSpace {
        /// What was being written.
        path: PathBuf,
    },
    /// The disk failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// A file was written by a later release.
    #[error("{path} has format version {version}, written by a later release; this one knows versions 1 and 2")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The writer thread is gone: only a bug in it can do that.
    #[error("the journal's writer has stopped")]
    Stopped,
}

impl JournalError {
    /// Names what failed; a full disk is told apart.
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path: path.to_owned() },
            _ => Self::Io { action, path: path.to_owned(), source: Arc::new(source) },
        }
    }
}

/// What the journal did since it was opened, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Journal files.
    pub files: usize,
    /// Their length together.
    pub bytes: u64,
    /// Entries made durable.
    pub entries: u64,
    /// Batches committed.
    pub batches: u64,
    /// Calls of fdatasync on entries.
    pub syncs: u64,
    /// Files given up after a failed fdatasync.
    pub sync_failures: u64,
}

/// A file as far as it may be read.
#[derive(Debug, Clone, Copy)]
struct Shelved {
    /// The durable length.
    len: u64,
    /// Written by this run: its end is exact, and nobody cuts it.
    current: bool,
    /// Made by a compaction.
    compacted: bool,
}

/// All files by name, shared by the writer and the readers. Locked for moments only, never across IO.
type Shelf = Arc<Mutex<BTreeMap<FileName, Shelved>>>;

fn lock(shelf: &Shelf) -> MutexGuard<'_, BTreeMap<FileName, Shelved>> {
    // Every change is one insert or remove, so a panic elsewhere leaves the map whole.
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The open journal. Dropping it writes what is queued, then stops the writer thread.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    config: JournalConfig,
    shelf: Shelf,
    counters: Arc<Counters>,
    queue: Option<SyncSender<Command>>,
    queued_bytes: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
    owners: compact::Owners,
    /// One compaction at a time.
    compacting: Mutex<()>,
    /// Held shared by replays, alone by the moment in which a compaction takes files away.
    replaying: RwLock<()>,
    /// Files that a compaction has replaced, and since when: deleted a while later.
    retired: Mutex<Vec<(FileName, Instant)>>,
    #[cfg(test)]
    faults: Arc<commit::Faults>,
}

impl Journal {
    /// Opens the journal in `dir`, which the caller owns alone. Reads names and headers only; what is in the
    /// files is checked by [`Journal::replay`].
    pub fn open(dir: &Path, config: JournalConfig) -> Result<(Self, OpenReport), JournalError> {
        durable::create_dir(dir).map_err(|e| JournalError::io("create", dir, e))?;
        compact::remove_unnamed(dir).map_err(|e| JournalError::io("tidy", dir, e))?;
        let mut report = OpenReport::default();
        let (mut shelved, mut batches) = (BTreeMap::new(), BTreeMap::new());
        for name in list(dir)? {
            let path = dir.join(name.to_string());
            let opened = File::open(&path).and_then(|file| Ok((read_header(&file)?, file.metadata()?.len())));
            let (header, len) = opened.map_err(|e| JournalError::io("read", &path, e))?;
            match header {
                Header::Known(_, _, batch) => drop(batches.insert(name, Some(batch))),
                Header::Newer(version) => return Err(JournalError::Newer { path, version }),
                Header::Damaged => {
                    report.unreadable.push(name);
                    batches.insert(name, None);
                }
            }
            let compacted = batches.get(&name).is_some_and(|batch| batch.is_some_and(|batch| batch.first > 0));
            shelved.insert(name, Shelved { len, current: false, compacted });
        }
        let retired = compact::contained(&batches);
        shelved.retain(|name, _| !retired.contains(name));
        report.files = shelved.len();
        report.bytes = shelved.values().map(|shelved| shelved.len).sum();
        let shelf = Arc::new(Mutex::new(shelved));
        let counters = Arc::new(Counters::default());
        let writer = Writer::new(dir, config.clone(), Arc::clone(&shelf), Arc::clone(&counters))?;
        report.has_reserve = writer.has_reserve();
        #[cfg(test)]
        let faults = writer.faults();
        let (queue, commands) = sync_channel(config.queued_max);
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let spawned = thread.spawn(move || writer.run(&commands));
        let writer = Some(spawned.map_err(|e| JournalError::io("start the writer of", dir, e))?);
        let queued_bytes = Arc::new(Semaphore::new(usize::try_from(config.queued_bytes_max).unwrap_or(usize::MAX)));
        let journal = Self {
            dir: dir.to_owned(),
            config,
            shelf,
            counters,
            queue: Some(queue),
            queued_bytes,
            writer,
            owners: compact::Owners::default(),
            compacting: Mutex::default(),
            replaying: RwLock::default(),
            retired: Mutex::new(retired.into_iter().map(|name| (name, Instant::now())).collect()),
            #[cfg(test)]
            faults,
        };
        Ok((journal, report))
    }

    /// Keeps the entries: when this returns positions (one per entry, in order) they are on the disk. After an
    /// error, or when the future is dropped, each of them may or may not be kept.
    pub async fn append(&self, entries: Vec<Entry>, space: Space) -> Result<Vec<Position>, JournalError> {
        let permits = self.check(&entries)?;
        let bytes = Arc::clone(&self.queued_bytes);
        let permit = bytes.try_acquire_many_owned(permits).map_err(|_| JournalError::Full)?;
        let (answer, answered) = oneshot::channel();
        self.send(Command::Append(Request { entries, space, answer, permit }))?;
        answered.await.map_err(|_| JournalError::Stopped)?
    }

    /// How many bytes of the queue the entries take.
    fn check(&self, entries: &[Entry]) -> Result<u32, JournalError> {
        let mut total = 0;
        for entry in entries {
            if !(0..=FileName::DAY_MAX.0).contains(&entry.day.0) {
                return Err(JournalError::Day(entry.day.0));
            }
            let (len, max) = (entry.payload.len() as u64, u64::from(self.config.payload_bytes_max));
            if len > max {
                return Err(JournalError::TooLarge { what: "a journal payload", len, max });
            }
            total += len + file::ENTRY_HEADER_LEN as u64;
        }
        let max = self.config.queued_bytes_max;
        match u32::try_from(total) {
            Ok(total) if total <= max => Ok(total),
            _ => Err(JournalError::TooLarge { what: "a journal append", len: total, max: max.into() }),
        }
    }

    fn send(&self, command: Command) -> Result<(), JournalError> {
        let queue = self.queue.as_ref().ok_or(JournalError::Stopped)?;
        queue.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => JournalError::Full,
            TrySendError::Disconnected(_) => JournalError::Stopped,
        })
    }

    /// All files and how far each is durable.
    pub fn files(&self) -> Vec<Position> {
        lock(&self.shelf).iter().map(|(&file, shelved)| Position { file, end: shelved.len }).collect()
    }

    /// Counts for metrics.
    pub fn stats(&self) -> JournalStats {
        let (files, bytes) = {
            let shelf = lock(&self.shelf);
            (shelf.len(), shelf.values().map(|shelved| shelved.len).sum())
        };
        let Counters { entries, batches, syncs, sync_failures } = &*self.counters;
        JournalStats {
            files,
            bytes,
            entries: entries.load(Ordering::Relaxed),
            batches: batches.load(Ordering::Relaxed),
            syncs: syncs.load(Ordering::Relaxed),
            sync_failures: sync_failures.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A panic of the writer was answered to everyone who waited; there is nobody left to tell.
            let _ = writer.join();
        }
    }
}

fn list(dir: &Path) -> Result<Vec<FileName>, JournalError> {
    let failed = |e| JournalError::io("list", dir, e);
    let mut names = Vec::new();
    for item in fs::read_dir(dir).map_err(failed)? {
        let name = item.map_err(failed)?.file_name();
        names.extend(name.to_str().and_then(|text| text.parse::<FileName>().ok()));
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
