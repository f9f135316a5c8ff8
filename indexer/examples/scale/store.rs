//! Journal and catalog as a server has them: recordings are taken in groups, with upkeep in between. The clock is that of
//! the recordings. Never measures anything but the time that taking takes.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stills_indexer::catalog::{Catalog, Finished, FoldCursor};
use stills_indexer::journal::{Entry, FileName, Journal, JournalConfig, Space};
use stills_model::event::{Event, EventKind};
use stills_model::id::{RecordingId, Timeline};
use stills_model::time::{DAY_MS, Timestamp};

use super::Outcome;
use super::synth::{self, MINUTE_MS};

const SEAM_MS: i64 = 1000;
/// Recordings whose events come together, and whose results do.
const GROUP: u64 = 100;
/// Recordings between two rounds of upkeep: ten minutes of all cameras, as a server's.
const UPKEEP_EVERY: u64 = 10_000;
/// The kinds of journal entries, as the pipeline has them.
const EVENT: u8 = 1;
const FINISHED: u8 = 2;

/// How long taking took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taking {
    /// Journal and catalog: what an event waits for until it is acknowledged.
    pub(super) events: Duration,
    /// Journal and catalog: what a scan's result waits for.
    pub(super) results: Duration,
}

impl Taking {
    pub(super) fn since(&self, before: &Self) -> Self {
        Self { events: self.events - before.events, results: self.results - before.results }
    }
}

pub(super) struct Store {
    pub(super) catalog: Arc<Catalog>,
    pub(super) taking: Taking,
    journal: Journal,
    runtime: tokio::runtime::Runtime,
}

impl Store {
    pub(super) fn open(dir: &Path) -> Outcome<Self> {
        let catalog = Arc::new(Catalog::open(&dir.join("catalog"), SEAM_MS, "scale")?.0);
        // What was replaced stays for an hour; the hours here pass too fast.
        let config = JournalConfig { retired_grace: Duration::ZERO, ..JournalConfig::default() };
        let (journal, _) = Journal::open(&dir.join("journal"), config)?;
        own_entries(&journal, &catalog);
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Self { catalog, taking: Taking::default(), journal, runtime })
    }

    /// Takes the recordings from the `from`-th to before the `to`-th.
    pub(super) fn take(&mut self, from: u64, to: u64) -> Outcome<()> {
        let mut first = from;
        while first < to {
            let last = (first + GROUP).min(to);
            self.take_group(first, last)?;
            if first / UPKEEP_EVERY != last / UPKEEP_EVERY {
                self.upkeep(synth::start(last))?;
            }
            first = last;
        }
        Ok(())
    }

    fn take_group(&mut self, first: u64, last: u64) -> Outcome<()> {
        let group: Vec<(Event, Finished)> = (first..last).map(synth::recording).collect::<Outcome<_>>()?;
        let now = synth::start(first).plus_ms(2 * MINUTE_MS);
        let began = Instant::now();
        let entry = |(event, finished): &(Event, Finished)| (finished.start, EVENT, event.encode());
        self.append(group.iter().map(entry))?;
        for (event, _) in &group {
            self.catalog.apply(event, now)?;
        }
        self.taking.events += began.elapsed();
        let began = Instant::now();
        let entry = |(_, finished): &(Event, Finished)| (finished.start, FINISHED, finished.encode());
        self.append(group.iter().map(entry))?;
        for (_, finished) in &group {
            self.finish(finished, now)?;
        }
        self.taking.results += began.elapsed();
        Ok(())
    }

    fn append(&self, entries: impl Iterator<Item = (Timestamp, u8, Vec<u8>)>) -> Outcome<()> {
        let entries = entries.map(|(start, kind, payload)| Entry { day: start.day(), kind, payload }).collect();
        self.runtime.block_on(self.journal.append(entries, Space::Ordinary))?;
        Ok(())
    }

    /// A result, and that its pictures are rendered ahead.
    fn finish(&self, finished: &Finished, now: Timestamp) -> Outcome<()> {
        let Finished { timeline, recording, .. } = finished;
        self.catalog.finish(finished, now)?;
        let row = self.catalog.row(timeline, recording)?;
        if let Some(indexed) = row.and_then(|row| row.indexed) {
            self.catalog.note_prerendered(timeline, recording, indexed.media, now)?;
        }
        Ok(())
    }

    /// As upkeep does: what is done from time to time, in the pipeline's order.
    fn upkeep(&mut self, now: Timestamp) -> Outcome<()> {
        self.catalog.forget_seen(now)?;
        let mut from = Some(FoldCursor::default());
        while let Some(cursor) = from {
            from = self.catalog.fold(cursor, now)?.1;
        }
        while self.catalog.compact()? {}
        self.journal.discard_retired();
        while let Some(day) = self.journal.due(now.day(), &BTreeSet::new()) {
            self.journal.compact(day)?;
        }
        self.checkpoint()
    }

    /// What upkeep has done once the days of the first `count` recordings are settled.
    pub(super) fn settle(&mut self, count: u64) -> Outcome<()> {
        self.upkeep(synth::start(count).plus_ms(3 * DAY_MS))
    }

    /// Notes how far the journal is applied.
    pub(super) fn checkpoint(&self) -> Outcome<()> {
        let positions = self.journal.files();
        let lines: Vec<String> =
            positions.iter().map(|position| format!("{} {}", position.file, position.end)).collect();
        Ok(self.catalog.set_checkpoint(lines.join("\n").as_bytes())?)
    }

    /// Applies what stands in the journal behind the checkpoint: events, then results. Returns how many entries it was.
    pub(super) fn replay(&mut self) -> Outcome<u64> {
        let text = String::from_utf8(self.catalog.checkpoint()?.unwrap_or_default())?;
        let line = |line: &str| {
            let (file, end) = line.split_once(' ')?;
            Some((file.parse::<FileName>().ok()?, end.parse::<u64>().ok()?))
        };
        let applied: HashMap<FileName, u64> = text.lines().filter_map(line).collect();
        let mut entries: Vec<(u8, Vec<u8>)> = Vec::new();
        let after = |file: &FileName| applied.get(file).copied().unwrap_or(0);
        self.journal.replay(after, |_, kind, payload| {
            entries.push((kind, payload.to_vec()));
            ControlFlow::Continue(())
        })?;
        entries.sort_by_key(|(kind, _)| *kind);
        for (kind, payload) in &entries {
            if *kind == EVENT {
                let event = Event::decode(payload)?;
                self.catalog.replay(&event, Timestamp::from_ms(event.order.time_ns / 1_000_000))?;
            } else {
                let finished = Finished::decode(payload)?;
                self.finish(&finished, finished.start.plus_ms(2 * MINUTE_MS))?;
            }
        }
        Ok(entries.len() as u64)
    }

    /// From which recording on a process that was killed has to be followed: behind the last whole group.
    pub(super) fn first_missing(&mut self, from: u64) -> Outcome<u64> {
        self.replay()?;
        let mut first = from;
        loop {
            let (_, finished) = synth::recording(first + GROUP - 1)?;
            if self.catalog.row(&finished.timeline, &finished.recording)?.and_then(|row| row.indexed).is_none() {
                return Ok(first);
            }
            first += GROUP;
        }
    }
}

/// Has the journal ask the catalog for what is needed, as the pipeline does.
fn own_entries(journal: &Journal, catalog: &Arc<Catalog>) {
    let is_newest = |catalog: &Catalog, timeline: &Timeline, recording: &RecordingId, start: Timestamp, order: &_| {
        let row = catalog.row_likely_in(timeline, recording, start.hour()).ok().flatten();
        row.and_then(|row| row.latest).is_none_or(|(latest, _)| latest <= *order)
    };
    let known = Arc::clone(catalog);
    journal.set_owner(EVENT, move |_, payload| match Event::decode(payload) {
        Ok(Event { order, user, kind: EventKind::Available(available) }) => {
            let timeline = Timeline { user, device: available.device };
            is_newest(&known, &timeline, &available.recording, available.start, &order)
        }
        _ => true,
    });
    let known = Arc::clone(catalog);
    journal.set_owner(FINISHED, move |_, payload| match Finished::decode(payload) {
        Ok(Finished { timeline, recording, start, order, .. }) => {
            is_newest(&known, &timeline, &recording, start, &order)
        }
        Err(_) => true,
    });
}
