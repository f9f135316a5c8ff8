//! What is known of each file and what is to be told of it next: a file grows, is complete, is gone. No IO, no clock.
//!
//! | a file that | is told as |
//! |---|---|
//! | is new, or was written since it was told | growing, at most every `growing_every` |
//! | was closed or moved into place, or is unchanged for `settled` | complete |
//! | is not there any more, and was told | deleted |
//!
//! A complete file that is written again grows again. A file that comes back after it was told as deleted is told
//! with a time after that, whatever its own time says, so that the deletion does not hit it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::announce::Phase;
use super::super::walk::Seen;

/// How long it is remembered that a file was told as deleted, in nanoseconds: a day, as long as duplicates are known.
const DELETED_KEPT_NS: i64 = 86_400 * 1_000_000_000;

/// What was told of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The file as it was then.
    pub seen: Seen,
    /// What was said.
    pub phase: Phase,
    /// The event's time, nanoseconds since 1970.
    pub time_ns: i64,
}

/// All files that are known.
#[derive(Debug)]
pub struct Tracker {
    files: BTreeMap<PathBuf, Entry>,
    /// Those of which something may be told without anything further happening to them.
    awake: BTreeSet<PathBuf>,
    settled_ms: i64,
    growing_every_ms: i64,
    round: u64,
}

#[derive(Debug, Default)]
struct Entry {
    /// As it is; nothing when it is gone.
    now: Option<Now>,
    told: Option<Told>,
    /// When something was told last, Unix milliseconds.
    told_ms: i64,
    /// The last round of looking at everything that found it.
    round: u64,
}

#[derive(Debug)]
struct Now {
    seen: Seen,
    /// Since when it is like that, Unix milliseconds.
    since_ms: i64,
    /// Whether whoever wrote it has closed it since.
    is_closed: bool,
}

impl Tracker {
    /// Knows what was told before.
    pub fn new(told: impl IntoIterator<Item = Told>, settled_ms: i64, growing_every_ms: i64) -> Self {
        let entry = |told: Told| (told.seen.path.clone(), Entry { told: Some(told), ..Entry::default() });
        let files = told.into_iter().map(entry).collect();
        Self { files, awake: BTreeSet::new(), settled_ms, growing_every_ms, round: 0 }
    }

    /// How many files are known.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// A file is there. `is_closed`: it was closed after writing, or moved into place.
    pub fn seen(&mut self, seen: Seen, is_closed: bool, now_ms: i64) {
        let round = self.round;
        let entry = self.files.entry(seen.path.clone()).or_default();
        entry.round = round;
        match &mut entry.now {
            Some(now) if now.seen == seen => now.is_closed |= is_closed,
            now => {
                self.awake.insert(seen.path.clone());
                // A file that is new to us may be old; a clock that runs ahead of ours must not make it never settle.
                let since_ms = if now.is_none() { seen.modified_ns.div_euclid(1_000_000).min(now_ms) } else { now_ms };
                *now = Some(Now { seen, since_ms, is_closed });
            }
        }
    }

    /// A file is not there any more.
    pub fn gone(&mut self, path: &Path) {
        if let Some(entry) = self.files.get_mut(path) {
            entry.now = None;
            self.awake.insert(path.to_owned());
            if entry.told.is_none() {
                self.files.remove(path);
            }
        }
    }

    /// Begins a round of looking at everything, and forgets what was told as deleted long ago.
    pub fn begin_round(&mut self, now_ms: i64) {
        self.round += 1;
        let now_ns = now_ms.saturating_mul(1_000_000);
        self.files.retain(|_, entry| !entry.is_forgotten(now_ns));
    }

    /// Ends it: what it did not find is gone. Not so when it found nothing at all, for that is what a mount that was
    /// lost looks like; `false` then.
    pub fn end_round(&mut self) -> bool {
        let round = self.round;
        let is_told = |entry: &Entry| entry.told.as_ref().is_some_and(|told| told.phase != Phase::Deleted);
        let has_found = self.files.values().any(|entry| entry.round == round);
        if !has_found && self.files.values().any(is_told) {
            return false;
        }
        let lost: Vec<PathBuf> =
            self.files.iter().filter(|(_, entry)| entry.round != round).map(|(path, _)| path.clone()).collect();
        lost.iter().for_each(|path| self.gone(path));
        true
    }

    /// What is to be told now, at most `max` of it.
    pub fn due(&mut self, now_ms: i64, max: usize) -> Vec<Told> {
        let files = &self.files;
        self.awake.retain(|path| files.get(path).is_some_and(|entry| !entry.is_at_rest()));
        let entries = self.awake.iter().filter_map(|path| self.files.get(path));
        entries.filter_map(|entry| self.next(entry, now_ms)).take(max).collect()
    }

    /// It was told.
    pub fn told(&mut self, told: Told, now_ms: i64) {
        let entry = self.files.entry(told.seen.path.clone()).or_default();
        entry.told = Some(told);
        entry.told_ms = now_ms;
    }

    fn next(&self, entry: &Entry, now_ms: i64) -> Option<Told> {
        let told = entry.told.as_ref();
        let Some(now) = &entry.now else {
            let told = told.filter(|told| told.phase != Phase::Deleted)?;
            let time_ns = now_ms.saturating_mul(1_000_000).max(told.time_ns.saturating_add(1));
            return Some(Told { seen: told.seen.clone(), phase: Phase::Deleted, time_ns });
        };
        // A file that is created has no media yet.
        if now.seen.size == 0 {
            return None;
        }
        let is_whole = now.is_closed || now_ms.saturating_sub(now.since_ms) >= self.settled_ms;
        let phase = if is_whole { Phase::Whole } else { Phase::Growing };
        let is_wanted = match told.filter(|told| told.phase != Phase::Deleted) {
            None => true,
            Some(told) if told.seen == now.seen => phase > told.phase,
            Some(_) => is_whole || now_ms.saturating_sub(entry.told_ms) >= self.growing_every_ms,
        };
        let after_deletion =
            told.filter(|told| told.phase == Phase::Deleted).map(|told| told.time_ns.saturating_add(1));
        let after_growing = told.filter(|told| told.phase == Phase::Growing).map(|told| told.time_ns);
        let time_ns = now.seen.modified_ns.max(after_deletion.or(after_growing).unwrap_or(i64::MIN));
        is_wanted.then(|| Told { seen: now.seen.clone(), phase, time_ns })
    }
}

impl Entry {
    /// Whether nothing is to be told before something happens to the file.
    fn is_at_rest(&self) -> bool {
        match (&self.now, &self.told) {
            (Some(now), _) if now.seen.size == 0 => true,
            (Some(now), Some(told)) => told.phase == Phase::Whole && told.seen == now.seen,
            (Some(_), None) => false,
            (None, told) => told.as_ref().is_none_or(|told| told.phase == Phase::Deleted),
        }
    }

    fn is_forgotten(&self, now_ns: i64) -> bool {
        let is_old =
            |told: &Told| told.phase == Phase::Deleted && told.time_ns < now_ns.saturating_sub(DELETED_KEPT_NS);
        self.now.is_none() && self.told.as_ref().is_none_or(is_old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tracker that settles after 10 s and tells growth every 30 s; times in seconds.
    struct Story(Tracker);

    impl Story {
        fn new() -> Self {
            Self(Tracker::new([], 10_000, 30_000))
        }

        fn write(&mut self, at: i64, size: u64, is_closed: bool) {
            let seen = Seen { path: "a.mp4".into(), size, modified_ns: at * 1_000_000_000 };
            self.0.seen(seen, is_closed, at * 1000);
        }

        /// What is told at a time, as phase, size and the event's time.
        fn check(&mut self, at: i64, expected: Option<(Phase, u64, i64)>) {
            let due = self.0.due(at * 1000, 10);
            let found = due.first().map(|told| (told.phase, told.seen.size, told.time_ns / 1_000_000_000));
            assert_eq!((due.len(), found), (usize::from(expected.is_some()), expected), "at {at} s");
            due.into_iter().for_each(|told| self.0.told(told, at * 1000));
        }
    }

    #[test]
    fn a_file_grows_is_complete_and_goes() {
        let mut story = Story::new();
        story.write(100, 0, false);
        story.check(100, None);
        story.write(101, 10, false);
        story.check(101, Some((Phase::Growing, 10, 101)));
        story.check(102, None);
        story.write(105, 20, false);
        story.check(105, None);
        story.write(131, 90, false);
        story.check(131, Some((Phase::Growing, 90, 131)));
        story.check(140, None);
        story.check(141, Some((Phase::Whole, 90, 131)));
        story.check(1000, None);
        // Written again.
        story.write(1001, 95, false);
        story.check(1001, Some((Phase::Growing, 95, 1001)));
        story.write(1002, 99, true);
        story.check(1002, Some((Phase::Whole, 99, 1002)));
        story.0.gone(Path::new("a.mp4"));
        story.check(1003, Some((Phase::Deleted, 99, 1003)));
        story.check(1004, None);
        // Put back with the time it had.
        story.write(1002, 99, true);
        story.check(1010, Some((Phase::Whole, 99, 1003)));
    }

    #[test]
    fn old_files_are_complete_at_once_and_unwritten_clocks_do_no_harm() {
        let mut story = Story::new();
        let at = |seconds: i64| Seen { path: "a.mp4".into(), size: 5, modified_ns: seconds * 1_000_000_000 };
        story.0.seen(at(100), false, 500_000);
        story.check(500, Some((Phase::Whole, 5, 100)));
        // An hour ahead: it settles by our clock.
        story.0.seen(at(4200), false, 600_000);
        story.check(600, Some((Phase::Growing, 5, 4200)));
        story.check(610, Some((Phase::Whole, 5, 4200)));
        // Deleted after all that it was, though its time is yet to come.
        story.0.gone(Path::new("a.mp4"));
        story.check(611, Some((Phase::Deleted, 5, 4200)));
    }

    #[test]
    fn what_was_told_is_not_told_again_by_the_next_run() {
        let mut first = Story::new();
        first.write(100, 5, true);
        let told = first.0.due(100_000, 10);
        let mut next = Story(Tracker::new(told.clone(), 10_000, 30_000));
        next.0.begin_round(200_000);
        next.write(100, 5, false);
        assert!(next.0.end_round());
        next.check(200, None);
        // A mount that was lost is not a deletion; a file that is missing among others is.
        let mut lost = Story(Tracker::new(told, 10_000, 30_000));
        lost.0.begin_round(200_000);
        assert!(!lost.0.end_round());
        lost.check(200, None);
        lost.0.begin_round(200_000);
        lost.0.seen(Seen { path: "b.mp4".into(), size: 0, modified_ns: 0 }, false, 200_000);
        assert!(lost.0.end_round());
        lost.check(200, Some((Phase::Deleted, 5, 200)));
        // Remembered for a day, then forgotten.
        lost.0.begin_round((200 + 86_400) * 1000);
        assert_eq!(lost.0.len(), 2);
        lost.0.begin_round((202 + 86_400) * 1000);
        assert_eq!(lost.0.len(), 1);
    }
}
