//! What a changed row means for coverage, entries, epochs and pending work: worked out in one place, written as one batch.
//!
//! Growth is cheap: a stretch that only adds is merged into the day's coverage. Whatever takes away (a delete, a
//! re-recording, a shorter end) computes the days it touches anew from the entries that are left.
//!
//! Epochs: a bucket's sequence is raised by every change of what an already covered instant shows. A recording
//! that follows another within a seam changes only instants near that edge; while the edge is younger than
//! [`SETTLED_AFTER_MS`] those are answered with a short age instead (see [`super::locate`]), so that a
//! recorder that appends minute after minute leaves the day's cached pictures alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stills_model::coverage::{Coverage, Stretch};
use stills_model::id::{RecordingId, Timeline};
use stills_model::thumb::MediaId;
use stills_model::time::{Bucket, Day, Span, Timestamp};

use super::block::Block;
use super::row::{Entry, Indexed, Row};
use super::sled::Table;
use super::tables::Batch;
use super::{Catalog, CatalogError, key, malformed};

/// How long after the end of coverage a following recording is expected: pictures near such an edge get a short
/// age, later arrivals raise the epoch (ours).
pub(crate) const SETTLED_AFTER_MS: i64 = 600_000;

/// One row before and after.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) recording: RecordingId,
    pub(super) old: Row,
    pub(super) new: Row,
}

/// The stretch of coverage that a row gives, if any.
fn covered(row: &Row) -> Option<&Indexed> {
    row.indexed.as_ref().filter(|_| row.is_covering())
}

fn stretch(indexed: &Indexed) -> Stretch {
    Stretch { span: indexed.span, has_keyframe: indexed.n_keyframes > 0 }
}

/// What a set of changes does beside the rows themselves.
#[derive(Default)]
struct Consequences {
    additions: Vec<Stretch>,
    dirty_days: BTreeSet<Day>,
    buckets: BTreeSet<Bucket>,
    purge: Vec<MediaId>,
}

impl Consequences {
    fn take_away(&mut self, span: &Span) {
        self.dirty_days.extend(span.days());
        self.raise(span);
    }

    /// Raises the buckets of a span and of what lies close by: a keyframe also answers for the neighbour's instants.
    fn raise(&mut self, span: &Span) {
        let near = Span { start: span.start.plus_ms(-SETTLED_AFTER_MS), end: span.end.plus_ms(SETTLED_AFTER_MS) };
        self.buckets.extend(near.buckets());
    }
}

impl Catalog {
    /// Writes changed rows of one timeline and all that follows from them, as one batch. The timeline is locked
    /// by the caller. Returns the media whose pictures nothing shows any more.
    pub(super) fn settle(
        &self,
        timeline: &Timeline,
        changes: &[Change],
        mut batch: Batch,
        now: Timestamp,
    ) -> Result<Vec<MediaId>, CatalogError> {
        let mut effects = Consequences::default();
        for change in changes {
            self.write_row(timeline, change, &mut batch)?;
            self.weigh(timeline, change, now, &mut effects)?;
        }
        self.write_coverage(timeline, changes, &effects, &mut batch)?;
        for bucket in &effects.buckets {
            let key = key::epoch(timeline, *bucket);
            let sequence = self.epoch_of(&key)? + 1;
            batch.put(&key, &sequence.to_be_bytes());
        }
        for Change { recording, new, .. } in changes.iter().filter(|change| !change.new.removed) {
            if let Some(at) = new.expires_at() {
                self.tables.put(Table::Expiry, &key::expiry(at, timeline, recording), b"")?;
            }
        }
        // Pictures to remove are noted before the row names them no more, and forgotten when they are off the disk.
        for media in &effects.purge {
            self.tables.put(Table::Purge, &key::purge(timeline, media), b"")?;
        }
        // Work is noted before the row and forgotten after it: a crash in between costs a look, never a recording.
        for change in changes.iter().filter(|change| change.new.has_work()) {
            self.tables.put(Table::Pending, &key::pending(timeline, &change.recording), b"")?;
        }
        self.tables.apply(Table::Timelines, batch)?;
        let mut done = Batch::default();
        for change in changes.iter().filter(|change| change.old.has_work() && !change.new.has_work()) {
            done.delete(&key::pending(timeline, &change.recording));
        }
        self.tables.apply(Table::Pending, done)?;
        Ok(effects.purge)
    }

    fn write_row(&self, timeline: &Timeline, change: &Change, batch: &mut Batch) -> Result<(), CatalogError> {
        let Change { recording, old, new } = change;
        if new.is_forgotten() {
            batch.delete(&key::row(timeline, recording));
        } else {
            batch.put(&key::row(timeline, recording), &new.encode());
        }
        let entry_key = |entry: &Entry| key::entry_of(timeline, entry);
        let (before, after) = (old.entry(recording), new.entry(recording));
        let new_key = after.as_ref().map(&entry_key);
        if let Some(old_key) = before.as_ref().map(&entry_key).filter(|key| Some(key) != new_key.as_ref()) {
            batch.delete(&old_key);
        }
        if let (Some(key), Some(entry)) = (new_key, after.filter(|after| before.as_ref() != Some(after))) {
            batch.put(&key, &entry.encode());
            let classes = self.classes(timeline)?;
            let with = classes | 1 << key::class_of(entry.span.len_ms());
            if with != classes {
                // Beside the batch: a class too many costs an empty look, a class missing would hide recordings.
                self.tables.put(Table::Timelines, &key::classes(timeline), &[with])?;
            }
        }
        Ok(())
    }

    /// Which length classes the timeline has, a bit each.
    pub(super) fn classes(&self, timeline: &Timeline) -> Result<u8, CatalogError> {
        let value = self.tables.get(Table::Timelines, &key::classes(timeline))?;
        Ok(value.and_then(|raw| raw.first().copied()).unwrap_or(0))
    }

    /// What one change does to coverage and epochs.
    fn weigh(
        &self,
        timeline: &Timeline,
        change: &Change,
        now: Timestamp,
        effects: &mut Consequences,
    ) -> Result<(), CatalogError> {
        match (covered(&change.old), covered(&change.new)) {
            (None, None) => {
                // A delete of what was indexed but no longer shown leaves pictures behind all the same.
                if let (Some(old), None) = (&change.old.indexed, &change.new.indexed) {
                    effects.purge.push(old.media);
                }
            }
            // No answer lives longer than what it shows, or than a few minutes.
            (Some(old), None) if change.new.is_expired(now) || change.new.is_forgotten() => {
                effects.dirty_days.extend(old.span.days());
                effects.purge.push(old.media);
            }
            (Some(old), None) => {
                effects.take_away(&old.span);
                effects.purge.push(old.media);
            }
            (None, Some(new)) => {
                effects.additions.push(stretch(new));
                self.raise_for_addition(timeline, &new.span, now, effects)?;
            }
            (Some(old), Some(new)) if old.media == new.media && new.span.encloses(&old.span) => {
                effects.additions.push(stretch(new));
                if let Some(grown) = Span::new(old.span.end.plus_ms(1), new.span.end) {
                    self.raise_for_addition(timeline, &grown, now, effects)?;
                }
            }
            (Some(old), Some(new)) => {
                effects.take_away(&old.span);
                effects.take_away(&new.span);
                if old.media != new.media {
                    effects.purge.push(old.media);
                }
            }
        }
        Ok(())
    }

    /// Raises the buckets in which a new stretch changes what was already covered.
    fn raise_for_addition(
        &self,
        timeline: &Timeline,
        new: &Span,
        now: Timestamp,
        effects: &mut Consequences,
    ) -> Result<(), CatalogError> {
        let seam_ms = self.seam_ms;
        let around = Span { start: new.start.plus_ms(-seam_ms), end: new.end.plus_ms(seam_ms) };
        for old in self.coverage(timeline, &around)?.stretches() {
            let overlap = Span { start: old.span.start.max(new.start), end: old.span.end.min(new.end) };
            if overlap.len_ms() > seam_ms {
                effects.raise(&overlap);
                continue;
            }
            // They only touch: instants near the old edge may now be answered by the new recording.
            let edge = if old.span.start < new.start { old.span.end } else { old.span.start };
            if now.since_ms(edge) > SETTLED_AFTER_MS {
                effects.raise(&Span { start: edge, end: edge });
            }
        }
        Ok(())
    }

    fn write_coverage(
        &self,
        timeline: &Timeline,
        changes: &[Change],
        effects: &Consequences,
        batch: &mut Batch,
    ) -> Result<(), CatalogError> {
        let mut days: BTreeMap<Day, Coverage> = BTreeMap::new();
        for day in &effects.dirty_days {
            days.insert(*day, self.coverage_anew(timeline, *day, changes)?);
        }
        for addition in &effects.additions {
            for day in addition.span.days() {
                if effects.dirty_days.contains(&day) {
                    continue;
                }
                let Some(span) = addition.span.intersection(&day.span()) else { continue };
                let coverage = match days.entry(day) {
                    std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                    std::collections::btree_map::Entry::Vacant(place) => {
                        place.insert(self.day_coverage(timeline, day)?)
                    }
                };
                coverage.insert(Stretch { span, ..*addition }, self.seam_ms);
            }
        }
        for (day, coverage) in days {
            let key = key::coverage(timeline, day);
            if coverage.is_empty() {
                batch.delete(&key);
            } else {
                batch.put(&key, &coverage.encode());
            }
        }
        Ok(())
    }

    pub(super) fn day_coverage(&self, timeline: &Timeline, day: Day) -> Result<Coverage, CatalogError> {
        let value = self.tables.get(Table::Timelines, &key::coverage(timeline, day))?;
        value.map_or(Ok(Coverage::new()), |raw| Coverage::decode(&raw).map_err(malformed))
    }

    /// A day's coverage from the recordings themselves, with `changes` in place of what is stored of them.
    fn coverage_anew(&self, timeline: &Timeline, day: Day, changes: &[Change]) -> Result<Coverage, CatalogError> {
        let changed: BTreeSet<&RecordingId> = changes.iter().map(|change| &change.recording).collect();
        let mut coverage = Coverage::new();
        let mut add = |span: &Span, has_keyframe: bool| {
            // What starts at the midnight that ends this day belongs to the next day, which will forget it alone.
            if let Some(span) = span.intersection(&day.span()).filter(|_| span.start.day() <= day) {
                coverage.insert(Stretch { span, has_keyframe }, self.seam_ms);
            }
        };
        for entry in self.entries(timeline, &day.span())? {
            if entry.is_covering() && !changed.contains(&entry.recording) {
                add(&entry.span, entry.n_keyframes > 0);
            }
        }
        for change in changes {
            if let Some(indexed) = covered(&change.new) {
                add(&indexed.span, indexed.n_keyframes > 0);
            }
        }
        Ok(coverage)
    }

    /// The length classes that the timeline has, each with the length that all its recordings are longer than.
    pub(super) fn classes_of(&self, timeline: &Timeline) -> Result<impl Iterator<Item = (u8, i64)>, CatalogError> {
        let classes = self.classes(timeline)?;
        let all = (0u8..).zip(std::iter::once(0).chain(key::CLASS_MAX_MS)).take(key::CLASS_MAX_MS.len());
        Ok(all.filter(move |(class, _)| classes & 1 << class != 0))
    }

    /// The entries of all recordings that have a part in `span`, in no order.
    pub(super) fn entries(&self, timeline: &Timeline, span: &Span) -> Result<Vec<Entry>, CatalogError> {
        self.steady(timeline, || {
            let mut found = self.entries_in_tables(timeline, span)?;
            self.folded_entries(timeline, span, &mut found, drop)?;
            Ok(found)
        })
    }

    /// The same, and the hour blocks around `span`, which hold the keyframes of those that are folded.
    pub(super) fn entries_and_blocks(
        &self,
        timeline: &Timeline,
        span: &Span,
    ) -> Result<(Vec<Entry>, Vec<Arc<Block>>), CatalogError> {
        self.steady(timeline, || {
            let (mut found, mut blocks) = (self.entries_in_tables(timeline, span)?, Vec::new());
            self.folded_entries(timeline, span, &mut found, |block| blocks.push(block))?;
            Ok((found, blocks))
        })
    }

    fn entries_in_tables(&self, timeline: &Timeline, span: &Span) -> Result<Vec<Entry>, CatalogError> {
        let mut found = Vec::new();
        for (class, _) in self.classes_of(timeline)? {
            let class_max_ms = key::CLASS_MAX_MS[usize::from(class)];
            let (from, to) = key::entries(timeline, class, span.start.plus_ms(-class_max_ms), span.end);
            for item in self.tables.range(Table::Timelines, &from, &to) {
                let (key, value) = item?;
                let Some((start, recording)) = key::parse_entry(&key) else { continue };
                let entry = Entry::decode(start, recording, &value).map_err(malformed)?;
                if entry.span.end >= span.start {
                    found.push(entry);
                }
            }
        }
        Ok(found)
    }
}
