//! The journal's only writer: takes everything queued, appends it, syncs each touched file once, answers all.
//! Never writes to a file again whose sync failed, and never to a file of an earlier run.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use stills_model::time::Day;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::file::{self, FIRST_ENTRY, FileName};
use super::{Entry, JournalConfig, JournalError, Position, Shelf, Shelved, Space, lock};
use crate::marker::Marker;

/// The file that waits for deletes on a full disk.
const RESERVE: &str = "reserve";
/// A file until it has its header on the disk and its name.
const UNNAMED: &str = "unnamed";
/// How many day files are held open between batches; a backfill touches thousands of days.
const OPEN_MAX: usize = 64;

/// An append on its way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) entries: Vec<Entry>,
    pub(super) space: Space,
    pub(super) answer: oneshot::Sender<Result<Vec<Position>, JournalError>>,
    /// Its share of the queue's bytes, given back before the answer.
    pub(super) permit: OwnedSemaphorePermit,
}

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Append(Request),
    /// Let nothing more go to the day's files, and leave twice as many numbers behind them free. Answers their names.
    Seal {
        day: Day,
        answer: oneshot::Sender<Vec<FileName>>,
    },
}

/// Counted since the journal was opened.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) entries: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) sync_failures: AtomicU64,
}

/// Failures that tests ask for.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// How many of the next syncs fail.
    pub(super) failing_syncs: AtomicU64,
    /// How many of the next writes stop half way on a full disk.
    pub(super) failing_writes: AtomicU64,
    /// Whether nothing but the reserve has room.
    pub(super) is_full: std::sync::atomic::AtomicBool,
    /// At which step a compaction ends as a crash would end it; 0: none.
    pub(super) crash_point: AtomicU64,
}

#[cfg(test)]
impl Faults {
    fn take(count: &AtomicU64) -> bool {
        count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    }
}

/// A file of this run that takes entries.
#[derive(Debug)]
struct Active {
    name: FileName,
    marker: Marker,
    /// The durable length: the next entry begins here.
    len: u64,
    /// None: closed between batches.
    file: Option<File>,
}

/// The writer's state; only its thread has it.
#[derive(Debug)]
pub(super) struct Writer {
    dir: PathBuf,
    dir_file: File,
    config: JournalConfig,
    shelf: Shelf,
    counters: Arc<Counters>,
    active: HashMap<Day, Active>,
    /// The last number of each day that a compaction may use.
    sealed: HashMap<Day, u32>,
    /// The preallocated file, with its header.
    reserve: Option<(File, Marker)>,
    /// What the reserve became on a full disk; only reserved appends go there.
    emergency: Option<Active>,
    #[cfg(test)]
    faults: Arc<Faults>,
}

impl Writer {
    pub(super) fn new(
        dir: &Path,
        config: JournalConfig,
        shelf: Shelf,
        counters: Arc<Counters>,
    ) -> Result<Self, JournalError> {
        let dir_file = File::open(dir).map_err(|e| JournalError::io("open", dir, e))?;
        let mut writer = Self {
            dir: dir.to_owned(),
            dir_file,
            config,
            shelf,
            counters,
            active: HashMap::new(),
            sealed: HashMap::new(),
            reserve: None,
            emergency: None,
            #[cfg(test)]
            faults: Arc::default(),
        };
        writer.restock();
        Ok(writer)
    }

    pub(super) fn has_reserve(&self) -> bool {
        self.reserve.is_some()
    }

    #[cfg(test)]
    pub(super) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults)
    }

    /// Works until the journal is dropped.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut batch = Vec::new();
            for command in std::iter::once(first).chain(commands.try_iter()) {
                match command {
                    Command::Append(request) => batch.push(request),
                    Command::Seal { day, answer } => {
                        self.commit(std::mem::take(&mut batch));
                        // Whoever asked may have gone: then some numbers are never used.
                        let _ = answer.send(self.seal(day));
                    }
                }
                // A batch ends with its bytes: otherwise a steady stream of appends would never be answered.
                if batch.len() >= self.config.queued_max {
                    break;
                }
            }
            self.commit(batch);
        }
    }

    fn commit(&mut self, batch: Vec<Request>) {
        if batch.is_empty() {
            return;
        }
        let mut days: BTreeMap<Day, Vec<(usize, usize)>> = BTreeMap::new();
        for (r, request) in batch.iter().enumerate() {
            for (e, entry) in request.entries.iter().enumerate() {
                days.entry(entry.day).or_default().push((r, e));
            }
        }
        let mut results: Vec<Result<Vec<Option<Position>>, JournalError>> =
            batch.iter().map(|request| Ok(vec![None; request.entries.len()])).collect();
        for (day, members) in days {
            let entries: Vec<&Entry> = members.iter().map(|&(r, e)| &batch[r].entries[e]).collect();
            let mut positions = Vec::with_capacity(entries.len());
            let failure = self.append_day(day, &entries, &mut positions).err();
            for (i, (r, e)) in members.into_iter().enumerate() {
                match (positions.get(i), &mut results[r], &failure) {
                    (Some(&position), Ok(found), _) => found[e] = Some(position),
                    (None, result, Some(failure)) => *result = Err(failure.clone()),
                    _ => {}
                }
            }
        }
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        for (request, result) in batch.into_iter().zip(results) {
            let Request { entries, space, answer, permit } = request;
            let result = match result {
                Err(JournalError::NoSpace { .. }) if space == Space::Reserved => self.append_reserved(&entries),
                Ok(positions) => Ok(positions.into_iter().flatten().collect()),
                Err(error) => Err(error),
            };
            drop((entries, permit));
            // Whoever asked may have gone: the entries stay.
            let _ = answer.send(result);
        }
        self.restock();
        if self.active.values().filter(|active| active.file.is_some()).count() > OPEN_MAX {
            self.active.values_mut().for_each(|active| active.file = None);
        }
    }

    /// Appends one day's entries, in as many files as they need. `positions` gets those that are durable.
    fn append_day(&mut self, day: Day, all: &[&Entry], positions: &mut Vec<Position>) -> Result<(), JournalError> {
        let mut is_second_try = false;
        while positions.len() < all.len() {
            let entries = &all[positions.len()..];
            let mut active = self.take_active(day, entries[0])?;
            let run = Run::new(&active, entries, self.config.file_bytes_max);
            match self.write(&mut active, &run) {
                Ok(()) => {
                    positions.extend(run.ends.iter().map(|&end| Position { file: active.name, end }));
                    self.active.insert(day, active);
                }
                Err(Failed::Write(error)) => {
                    let path = self.path(active.name);
                    // Nothing may stand behind the durable end; a file that cannot be cut is not used again.
                    if active.file.as_ref().is_some_and(|file| file.set_len(active.len).is_ok()) {
                        self.active.insert(day, active);
                    }
                    return Err(JournalError::io("write", &path, error));
                }
                // The file is given up: after a failed sync nobody knows which of its pages are on the disk, and a
                // second sync would say that all is well. What was not acknowledged is written again, elsewhere.
                Err(Failed::Sync(error)) => {
                    self.counters.sync_failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(file = %active.name, %error, "fdatasync of a journal file failed; it is given up");
                    if is_second_try {
                        return Err(JournalError::io("sync", &self.path(active.name), error));
                    }
                    is_second_try = true;
                }
            }
        }
        Ok(())
    }

    /// Deletes on a full disk go to the preallocated file. It has the name of the latest day in them, so that it is
    /// not dropped before any of them.
    fn append_reserved(&mut self, entries: &[Entry]) -> Result<Vec<Position>, JournalError> {
        let full = || JournalError::NoSpace { path: self.dir.join(RESERVE) };
        let Some(day) = entries.iter().map(|entry| entry.day).max() else { return Ok(Vec::new()) };
        let mut active = match (self.emergency.take(), self.reserve.take()) {
            (Some(active), reserve) => {
                self.reserve = reserve;
                active
            }
            (None, Some((file, marker))) => {
                let name = self.next_name(day);
                self.name_file(RESERVE, name)?;
                Active { name, marker, len: FIRST_ENTRY, file: Some(file) }
            }
            (None, None) => return Err(full()),
        };
        let entries: Vec<&Entry> = entries.iter().collect();
        let run = Run::new(&active, &entries, self.config.reserve_bytes);
        let fits = run.ends.len() == entries.len() && run.end() <= self.config.reserve_bytes;
        if !fits || day > active.name.day {
            self.emergency = Some(active);
            return Err(full());
        }
        match self.write(&mut active, &run) {
            Ok(()) => {
                tracing::warn!(file = %active.name, entries = entries.len(), "disk full: deletes taken in reserve");
                let positions = run.ends.iter().map(|&end| Position { file: active.name, end }).collect();
                self.emergency = Some(active);
                Ok(positions)
            }
            // The file is not used again.
            Err(Failed::Write(error) | Failed::Sync(error)) => {
                Err(JournalError::io("write", &self.path(active.name), error))
            }
        }
    }

    /// The file that takes the day's next entry, open.
    fn take_active(&mut self, day: Day, next: &Entry) -> Result<Active, JournalError> {
        #[cfg(test)]
        self.fail_if_full().map_err(|e| JournalError::io("write", &self.dir, e))?;
        if let Some(mut active) = self.active.remove(&day) {
            let is_new = active.len == FIRST_ENTRY;
            if is_new || active.len + encoded_len(next) <= self.config.file_bytes_max {
                if active.file.is_none() {
                    let path = self.path(active.name);
                    let opened = OpenOptions::new().write(true).open(&path);
                    active.file = Some(opened.map_err(|e| JournalError::io("open", &path, e))?);
                }
                return Ok(active);
            }
        }
        let name = self.next_name(day);
        let path = self.dir.join(UNNAMED);
        let (file, marker) = file::create(&path, 0).map_err(|e| JournalError::io("create", &path, e))?;
        self.name_file(UNNAMED, name)?;
        Ok(Active { name, marker, len: FIRST_ENTRY, file: Some(file) })
    }

    fn next_name(&self, day: Day) -> FileName {
        let last = lock(&self.shelf).range(all_of(day)).next_back().map_or(0, |(name, _)| name.sequence);
        let last = last.max(self.sealed.get(&day).copied().unwrap_or(0));
        FileName { day, sequence: last.saturating_add(1) }
    }

    /// Gives a finished file its name, durably, before anything is written to it.
    fn name_file(&self, from: &str, name: FileName) -> Result<(), JournalError> {
        let path = self.path(name);
        let renamed = fs::rename(self.dir.join(from), &path).and_then(|()| self.dir_file.sync_all());
        renamed.map_err(|e| JournalError::io("name", &path, e))?;
        lock(&self.shelf).insert(name, Shelved { len: FIRST_ENTRY, current: true, compacted: false });
        Ok(())
    }

    fn write(&self, active: &mut Active, run: &Run) -> Result<(), Failed> {
        let Some(file) = &active.file else { return Err(Failed::Write(io::ErrorKind::NotFound.into())) };
        self.put(file, &run.bytes, active.len).map_err(Failed::Write)?;
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync(file).map_err(Failed::Sync)?;
        active.len = run.end();
        lock(&self.shelf).insert(active.name, Shelved { len: active.len, current: true, compacted: false });
        self.counters.entries.fetch_add(run.ends.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn put(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        if Faults::take(&self.faults.failing_writes) {
            file.write_all_at(&bytes[..bytes.len() / 2], at)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        if Faults::take(&self.faults.failing_syncs) {
            return Err(io::Error::other("asked to fail"));
        }
        file.sync_data()
    }

    #[cfg(test)]
    fn fail_if_full(&self) -> io::Result<()> {
        if self.faults.is_full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Makes the reserve when there is none and the disk has room for it.
    fn restock(&mut self) {
        if self.reserve.is_some() || self.config.reserve_bytes == 0 {
            return;
        }
        #[cfg(test)]
        if self.fail_if_full().is_err() {
            return;
        }
        let path = self.dir.join(RESERVE);
        match file::create(&path, self.config.reserve_bytes) {
            Ok(reserve) => {
                self.reserve = Some(reserve);
                self.emergency = None;
            }
            Err(error) => {
                tracing::warn!(%error, "no room for the journal's reserve");
                // Half a reserve only takes space.
                let _ = fs::remove_file(&path);
            }
        }
    }

    fn seal(&mut self, day: Day) -> Vec<FileName> {
        self.active.remove(&day);
        self.emergency.take_if(|active| active.name.day == day);
        let names: Vec<FileName> = lock(&self.shelf).range(all_of(day)).map(|(name, _)| *name).collect();
        if let Some(last) = names.last() {
            let free = u32::try_from(names.len()).unwrap_or(u32::MAX);
            self.sealed.insert(day, last.sequence.saturating_add(free.saturating_mul(2)));
        }
        names
    }

    fn path(&self, name: FileName) -> PathBuf {
        self.dir.join(name.to_string())
    }
}

/// How a write failed: what may be done next differs.
enum Failed {
    Write(io::Error),
    Sync(io::Error),
}

fn all_of(day: Day) -> std::ops::RangeInclusive<FileName> {
    FileName { day, sequence: 0 }..=FileName { day, sequence: u32::MAX }
}

fn encoded_len(entry: &Entry) -> u64 {
    (file::ENTRY_HEADER_LEN + entry.payload.len()) as u64
}

/// Entries encoded for the end of a file: at least one, then as many as fit.
struct Run {
    bytes: Vec<u8>,
    /// Where each ends in the file.
    ends: Vec<u64>,
}

impl Run {
    fn new(active: &Active, entries: &[&Entry], file_bytes_max: u64) -> Self {
        let mut run = Self { bytes: Vec::new(), ends: Vec::new() };
        let mut end = active.len;
        for entry in entries {
            if !run.ends.is_empty() && end + encoded_len(entry) > file_bytes_max {
                break;
            }
            file::encode_entry(&mut run.bytes, &active.marker, end, entry.kind, &entry.payload);
            end += encoded_len(entry);
            run.ends.push(end);
        }
        run
    }

    fn end(&self) -> u64 {
        self.ends.last().copied().unwrap_or(FIRST_ENTRY)
    }
}
