//! Reading the journal back: every entry in file order, around damage. Cuts torn tails off files of earlier
//! runs; writes nothing else.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::sync::PoisonError;

use super::file::FileName;
use super::walk::{Found, walk};
use super::{Journal, JournalError, Position, Shelved, lock};

/// How many damaged or torn stretches are listed; more are only counted.
const LISTED_MAX: usize = 1000;

/// Part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The file.
    pub file: FileName,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
}

/// What a replay found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Entries given.
    pub entries: u64,
    /// Whether the receiver asked to stop.
    pub is_stopped: bool,
    /// Invalid bytes with an entry behind them, or a file without a header: entries are lost here. The first 1000.
    pub damaged: Vec<Stretch>,
    /// How many such stretches there are.
    pub damaged_count: u64,
    /// Invalid bytes at the very end of files, now cut off: what a crash interrupted. The first 1000.
    pub torn: Vec<Stretch>,
}

impl ReplayReport {
    fn damage(&mut self, stretch: Stretch) {
        self.damaged_count += 1;
        if self.damaged.len() < LISTED_MAX {
            self.damaged.push(stretch);
        }
    }
}

impl Journal {
    /// Gives every entry behind `after(file)` (an offset from a [`Position`]; 0: the whole file) to `each`, file
    /// by file, as far as each file was durable when the replay came to it. Synchronous: call it from a thread
    /// that may wait. May run beside appends.
    pub fn replay(
        &self,
        after: impl Fn(&FileName) -> u64,
        mut each: impl FnMut(Position, u8, &[u8]) -> ControlFlow<()>,
    ) -> Result<ReplayReport, JournalError> {
        // No compaction takes a file away between listing and reading it.
        let _turn = self.replaying.read().unwrap_or_else(PoisonError::into_inner);
        let mut report = ReplayReport::default();
        for Position { file: name, .. } in self.files() {
            // Looked up anew: by now it may be longer.
            let Some(shelved) = lock(&self.shelf).get(&name).copied() else { continue };
            let path = self.dir.join(name.to_string());
            let replayed = self.replay_file(name, shelved, after(&name), &mut each, &mut report);
            replayed.map_err(|error| JournalError::io("read", &path, error))?;
            if report.is_stopped {
                break;
            }
        }
        Ok(report)
    }

    fn replay_file(
        &self,
        name: FileName,
        shelved: Shelved,
        after: u64,
        each: &mut impl FnMut(Position, u8, &[u8]) -> ControlFlow<()>,
        report: &mut ReplayReport,
    ) -> io::Result<()> {
        if after >= shelved.len {
            return Ok(());
        }
        let file = File::open(self.dir.join(name.to_string()))?;
        walk(file, after, shelved.len, |found| {
            match found {
                Found::Entry { kind, payload, after } => {
                    report.entries += 1;
                    if each(Position { file: name, end: after }, kind, payload).is_break() {
                        report.is_stopped = true;
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Found::Damaged { offset, end } => report.damage(Stretch { file: name, offset, len: end - offset }),
                Found::Torn { offset } => {
                    self.cut(Stretch { file: name, offset, len: shelved.len - offset }, report)?;
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Cuts a torn tail off a file of an earlier run. A file of this run ends where its last durable entry ends, so
    /// there the same finding is damage.
    fn cut(&self, tail: Stretch, report: &mut ReplayReport) -> io::Result<()> {
        let current = lock(&self.shelf).get(&tail.file).is_none_or(|shelved| shelved.current);
        if current {
            report.damage(tail);
            return Ok(());
        }
        let file = OpenOptions::new().write(true).open(self.dir.join(tail.file.to_string()))?;
        file.set_len(tail.offset)?;
        file.sync_data()?;
        if let Some(shelved) = lock(&self.shelf).get_mut(&tail.file) {
            shelved.len = tail.offset;
        }
        if report.torn.len() < LISTED_MAX {
            report.torn.push(tail);
        }
        Ok(())
    }
}
