//! Compaction: the files of a day become few, without what their owners no longer need; a day of which nothing is
//! needed vanishes. Never writes to a file that anybody appends to.
//!
//! 1. The writer seals the day: what comes later goes to files with higher numbers than the new ones get.
//! 2. The day's entries are copied, in their order, to unnamed files, each asked of the owner of its kind. There they
//!    stand in compressed runs.
//! 3. Those are synced, then named one by one; the last one's name makes the batch valid (its header says which
//!    numbers belong to it, and that every lower one is contained in it).
//! 4. The old files are no longer replayed. They are deleted a while later, so that whoever copies the directory
//!    file by file finds each entry in what he listed first or in what he listed last.
//!
//! A crash before the last name leaves the old files and perhaps some new ones: entries are there twice, which a
//! replay may give anyway. A crash behind it leaves old files, which the next opening tells by the header.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use stills_model::time::Day;
use tokio::sync::oneshot;

use super::commit::Command;
use super::file::{self, Batch, FIRST_ENTRY, FileName, Form};
use super::run::{Collector, Run};
use super::walk::{Found, walk};
use super::{Journal, JournalError, Shelved, lock};
use crate::durable;

/// Of a day that still gets entries: so many files are joined, however short they are.
const FILES_MAX: usize = 8;
/// Of a day that still gets entries: with so many bytes its files are joined, if that is as much as is compressed
/// already: each byte is rewritten a few times at most, and what is not compressed yet stays a small part of all.
pub(super) const LATE_BYTES: u64 = 128 << 20;
/// A day is settled when it ended this many days ago: its files are joined once more.
const SETTLED_DAYS: i64 = 2;
/// A settled day is rewritten when what came since is more than one in this many bytes of it.
const LATE_ONE_IN: u64 = 4;
/// How much is collected before it is written.
const CHUNK_LEN: usize = 1 << 20;

/// Whether an entry of this day with this payload is still needed.
type Owner = Arc<dyn Fn(Day, &[u8]) -> bool + Send + Sync>;

/// Who owns the entries of each kind. Kinds without an owner (a later release's, perhaps) are needed.
#[derive(Default)]
pub(super) struct Owners(Mutex<BTreeMap<u8, Owner>>);

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owners").finish_non_exhaustive()
    }
}

impl Owners {
    fn get(&self) -> BTreeMap<u8, Owner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files before.
    pub files_before: usize,
    /// Files after.
    pub files_after: usize,
    /// Entries that are still needed.
    pub kept: u64,
    /// Entries that were left out.
    pub dropped: u64,
    /// Whether nothing was done, because some of the day is damaged: it is kept for inspection.
    pub is_damaged: bool,
}

impl Journal {
    /// Makes `is_needed` decide which entries of a kind a compaction keeps; it gets the day and the payload. It is
    /// called on the thread that compacts, for every such entry of a day, and must answer true where it is not sure.
    pub fn set_owner(&self, kind: u8, is_needed: impl Fn(Day, &[u8]) -> bool + Send + Sync + 'static) {
        let mut owners = self.owners.0.lock().unwrap_or_else(PoisonError::into_inner);
        owners.insert(kind, Arc::new(is_needed));
    }

    /// The first day, but for those in `skip`, whose files are worth joining.
    pub fn due(&self, today: Day, skip: &BTreeSet<Day>) -> Option<Day> {
        let mut days: BTreeMap<Day, Vec<Shelved>> = BTreeMap::new();
        for (name, shelved) in lock(&self.shelf).iter() {
            days.entry(name.day).or_default().push(*shelved);
        }
        let is_settled = |day: Day| today.0.saturating_sub(day.0) >= SETTLED_DAYS;
        let mut days = days.into_iter();
        days.find(|(day, files)| !skip.contains(day) && is_due(files, is_settled(*day))).map(|(day, _)| day)
    }

    /// All days that have files.
    pub fn days(&self) -> Vec<Day> {
        let mut days: Vec<Day> = lock(&self.shelf).keys().map(|name| name.day).collect();
        days.dedup();
        days
    }

    /// Compacts a day. Synchronous and as long as reading and writing that day takes; appends go on meanwhile. After
    /// an error everything is as it was.
    pub fn compact(&self, day: Day) -> Result<Compacted, JournalError> {
        let _alone = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        self.discard_retired();
        let (answer, answered) = oneshot::channel();
        self.send(Command::Seal { day, answer })?;
        let sources = answered.blocking_recv().map_err(|_| JournalError::Stopped)?;
        let mut done = Compacted { files_before: sources.len(), ..Compacted::default() };
        let failed = |error| JournalError::io("compact", &self.dir, error);
        let run = Collector::new(self.config.run_bytes_max).map_err(failed)?;
        let mut outputs = Outputs { journal: self, done: Vec::new(), open: None, run };
        self.crash_point(1)?;
        let copied = self.copy_needed(&sources, &mut outputs, &mut done);
        let named = match copied {
            Ok(false) => {
                outputs.discard();
                return Ok(Compacted { files_after: done.files_before, is_damaged: true, ..done });
            }
            Ok(true) => outputs.name(&sources),
            Err(error) => Err(error),
        };
        let names = match named {
            Ok(names) => names,
            Err(error) => {
                outputs.discard();
                return Err(failed(error));
            }
        };
        self.crash_point(5)?;
        self.swap(&sources, &names);
        done.files_after = names.len();
        self.discard_retired();
        Ok(done)
    }

    /// Copies what is needed; false: some of it is damaged.
    fn copy_needed(&self, sources: &[FileName], outputs: &mut Outputs<'_>, done: &mut Compacted) -> io::Result<bool> {
        let owners = self.owners.get();
        for name in sources {
            let Some(shelved) = lock(&self.shelf).get(name).copied() else { continue };
            let (file, mut is_whole) = (File::open(self.dir.join(name.to_string()))?, true);
            walk(file, FIRST_ENTRY, shelved.len, |found| {
                match found {
                    Found::Entry { kind, payload, .. } => {
                        if owners.get(&kind).is_none_or(|is_needed| is_needed(name.day, payload)) {
                            outputs.append(kind, payload)?;
                            done.kept += 1;
                        } else {
                            done.dropped += 1;
                        }
                    }
                    Found::Damaged { .. } => is_whole = false,
                    // What a crash interrupted was never acknowledged; of this run's files nothing may be torn.
                    Found::Torn { .. } => is_whole = !shelved.current,
                }
                Ok(if is_whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            if !is_whole {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// From here on the new files are read in place of the old ones.
    fn swap(&self, sources: &[FileName], names: &[(FileName, u64)]) {
        // No replay is between listing files and reading them.
        let _alone = self.replaying.write().unwrap_or_else(PoisonError::into_inner);
        {
            let mut shelf = lock(&self.shelf);
            for (name, len) in names {
                shelf.insert(*name, Shelved { len: *len, current: true, compacted: true });
            }
            shelf.retain(|name, _| !sources.contains(name));
        }
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.extend(sources.iter().map(|name| (*name, Instant::now())));
    }

    /// Deletes old files whose time to be copied is over. What cannot be deleted stays for the next time. A compaction
    /// does so too, but the last one for a while leaves files behind.
    pub fn discard_retired(&self) {
        let grace = self.config.retired_grace;
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|(name, since)| {
            let is_kept = since.elapsed() < grace || self.crash_point(6).is_err();
            is_kept
                || fs::remove_file(self.dir.join(name.to_string())).is_err_and(|e| e.kind() != io::ErrorKind::NotFound)
        });
    }

    /// Where a test lets a compaction end as a crash would.
    #[cfg(test)]
    fn crash_point(&self, point: u64) -> Result<(), JournalError> {
        if self.faults.crash_point.load(std::sync::atomic::Ordering::SeqCst) == point {
            return Err(JournalError::Stopped);
        }
        Ok(())
    }

    #[cfg(test)]
    fn crash_point_is_set(&self) -> bool {
        self.faults.crash_point.load(std::sync::atomic::Ordering::SeqCst) > 0
    }

    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the shape of the tests' one")]
    fn crash_point(&self, _: u64) -> Result<(), JournalError> {
        Ok(())
    }
}

/// Whether the files of a day are worth joining.
pub(super) fn is_due(files: &[Shelved], is_settled: bool) -> bool {
    let bytes = |compacted| files.iter().filter(|file| file.compacted == compacted).map(|file| file.len).sum::<u64>();
    let (late_bytes, compacted_bytes) = (bytes(false), bytes(true));
    let n_late = files.iter().filter(|file| !file.compacted).count();
    n_late >= FILES_MAX
        || (late_bytes >= LATE_BYTES && late_bytes >= compacted_bytes)
        || (is_settled && n_late > 0 && late_bytes >= compacted_bytes / LATE_ONE_IN)
}

/// A new file on its way.
struct Output {
    file: File,
    marker: crate::marker::Marker,
    len: u64,
    buffer: Vec<u8>,
}

impl Output {
    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.len)?;
        self.len += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn end(&self) -> u64 {
        self.len + self.buffer.len() as u64
    }
}

/// The new files, without names yet.
struct Outputs<'a> {
    journal: &'a Journal,
    done: Vec<Output>,
    open: Option<Output>,
    run: Collector,
}

impl Outputs<'_> {
    fn path(&self, index: usize) -> std::path::PathBuf {
        self.journal.dir.join(format!("{UNNAMED}-{index}"))
    }

    fn append(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let full = self.run.push(kind, payload)?;
        full.map_or(Ok(()), |run| self.append_run(&run))
    }

    /// Files are filled beyond the maximum, by a run at most: so there are not more of them than there were.
    fn append_run(&mut self, run: &Run) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|output| output.end() >= self.journal.config.file_bytes_max) {
            self.close()?;
        }
        let output = match &mut self.open {
            Some(output) => output,
            none => {
                let path = self.journal.dir.join(format!("{UNNAMED}-{}", self.done.len()));
                let (file, marker) = file::create(&path, 0)?;
                none.insert(Output { file, marker, len: FIRST_ENTRY, buffer: Vec::new() })
            }
        };
        let at = output.end();
        file::encode_entry(&mut output.buffer, &output.marker, at, run.method, &run.bytes);
        if output.buffer.len() >= CHUNK_LEN {
            output.write()?;
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        if let Some(mut output) = self.open.take() {
            output.write()?;
            self.done.push(output);
        }
        Ok(())
    }

    /// Syncs and names everything, the last one last. The numbers that are free suffice by far: an entry takes fewer
    /// bytes in a run than before, or six more where it is a run of its own, and all new files but the last are full.
    fn name(&mut self, sources: &[FileName]) -> io::Result<Vec<(FileName, u64)>> {
        if let Some(run) = self.run.finish()? {
            self.append_run(&run)?;
        }
        self.close()?;
        let Some(source) = sources.last() else { return Ok(Vec::new()) };
        let first = source.sequence.saturating_add(1);
        let count = u32::try_from(self.done.len()).unwrap_or(u32::MAX);
        let batch = Batch { first, last: first.saturating_add(count.saturating_sub(1)) };
        let crash = |point| self.journal.crash_point(point).map_err(io::Error::other);
        crash(2)?;
        for output in &self.done {
            file::write_header(&output.file, Form::Runs, &output.marker, batch)?;
            output.file.sync_all()?;
        }
        crash(3)?;
        let mut names = Vec::new();
        for (index, output) in self.done.iter().enumerate() {
            let sequence = first.saturating_add(u32::try_from(index).unwrap_or(u32::MAX));
            let name = FileName { day: source.day, sequence };
            if index > 0 && index + 1 == self.done.len() {
                // The last name says that all are there: after a power cut too.
                durable::sync_dir(&self.journal.dir)?;
            }
            fs::rename(self.path(index), self.journal.dir.join(name.to_string()))?;
            names.push((name, output.len));
            crash(4)?;
        }
        durable::sync_dir(&self.journal.dir)?;
        Ok(names)
    }

    /// Leaves nothing behind but what has a name already: that is contained in the old files too.
    fn discard(self) {
        #[cfg(test)]
        if self.journal.crash_point_is_set() {
            return;
        }
        for index in 0..=self.done.len() {
            // What cannot be removed now, the next opening removes.
            let _ = fs::remove_file(self.path(index));
        }
    }
}

/// What unnamed new files are called; their number follows.
const UNNAMED: &str = "compacting";

/// Removes what a crash left without a name.
pub(super) fn remove_unnamed(dir: &std::path::Path) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let item = item?;
        if item.file_name().to_str().is_some_and(|name| name.starts_with(UNNAMED)) {
            fs::remove_file(item.path())?;
        }
    }
    Ok(())
}

/// Of all files (None: without a readable header), those that are contained in others: the old files of a batch whose
/// last file is there, and the new ones of a batch that a crash cut short.
pub(super) fn contained(files: &BTreeMap<FileName, Option<Batch>>) -> Vec<FileName> {
    let is_whole = |name: &FileName, batch: &Batch| {
        let last = files.get(&FileName { day: name.day, sequence: batch.last });
        // A last file without a header is there all the same.
        last.is_some_and(|last| last.is_none_or(|last| last == *batch))
    };
    let made: Vec<(&FileName, &Batch, bool)> = files
        .iter()
        .filter_map(|(name, batch)| Some((name, batch.as_ref().filter(|batch| batch.first > 0)?)))
        .map(|(name, batch)| (name, batch, is_whole(name, batch)))
        .collect();
    let mut from: BTreeMap<Day, u32> = BTreeMap::new();
    for (name, batch, _) in made.iter().filter(|(_, _, is_whole)| *is_whole) {
        let first = from.entry(name.day).or_default();
        *first = batch.first.max(*first);
    }
    let cut_short = made.iter().filter(|(_, _, is_whole)| !is_whole).map(|(name, _, _)| **name);
    let old = files.keys().filter(|name| from.get(&name.day).is_some_and(|first| name.sequence < *first)).copied();
    old.chain(cut_short).collect()
}
