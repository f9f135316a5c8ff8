//! An event changes rows. The state is what results from all events in [`EventOrder`], whatever the order of arrival.
//!
//! 1. `available`: kept if its order is greater than the row's. Whether any delete hits it is asked anew: the
//!    row's own, the device's and the user's, each only if its order is greater.
//! 2. `deleted` by id: kept in the row, even before any `available` of that id arrives.
//! 3. `deleted` by range, of a device, of a user: kept as a value of its own, so that an `available` that arrives
//!    late meets it; then every row it can hit is asked anew.

use stills_model::codec::{Malformed, Reader, Writer};
use stills_model::event::{Available, Event, EventKind, EventOrder};
use stills_model::id::{RecordingId, Timeline, UserId};
use stills_model::thumb::MediaId;
use stills_model::time::{Hour, Span, Timestamp};

use super::block::Member;
use super::key::Scope;
use super::row::{Row, State};
use super::settle::Change;
use super::sled::Table;
use super::tables::Batch;
use super::{Catalog, CatalogError, key, malformed, seen};

/// Rows that one batch of a large delete changes: small enough to keep the lock short.
const ROWS_PER_BATCH: usize = 1000;

/// Whether an event was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Applied for the first time.
    New,
    /// The same user, source and id within 24 hours.
    Duplicate,
}

/// What is left to do after an event or a scan.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Recordings to scan.
    pub scan: Vec<(Timeline, RecordingId)>,
    /// Media whose stored pictures nothing shows any more.
    pub purge: Vec<(Timeline, MediaId)>,
}

/// A delete that is not by recording id.
struct Delete {
    order: EventOrder,
    /// Only recordings wholly inside; none: all.
    span: Option<Span>,
}

impl Delete {
    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(1);
        self.order.write(&mut w);
        w.byte(u8::from(self.span.is_some()));
        if let Some(span) = self.span {
            w.signed(span.start.as_ms()).signed(span.end.as_ms());
        }
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.byte()? != 1 {
            return Err(Malformed("delete version"));
        }
        let order = EventOrder::read(&mut r)?;
        let span = if r.flag()? {
            let start = Timestamp::from_ms(r.signed()?);
            Some(Span::new(start, Timestamp::from_ms(r.signed()?)).ok_or(Malformed("range"))?)
        } else {
            None
        };
        r.end()?;
        Ok(Self { order, span })
    }

    fn hits(&self, order: &EventOrder, span: Option<Span>) -> bool {
        self.order > *order && self.span.is_none_or(|range| span.is_some_and(|span| range.encloses(&span)))
    }
}

/// The span by which a delete by range judges a recording: what was announced, or what the scan supplied for it
/// (of this `available`: while its scan is due, what an earlier one covered says nothing).
fn judged_span(row: &Row) -> Option<Span> {
    let (_, available) = row.latest.as_ref()?;
    let scanned = row.indexed.as_ref().filter(|_| !row.to_scan);
    available.span().or_else(|| scanned.map(|indexed| indexed.span))
}

/// In which hour a recording is folded if it is.
fn hour_of(row: &Row) -> Option<Hour> {
    row.span().map(|span| span.start.hour())
}

/// The range of a stored delete; none: it has none.
pub(super) fn deleted_span(raw: &[u8]) -> Result<Option<Span>, CatalogError> {
    Delete::decode(raw).map(|delete| delete.span).map_err(malformed)
}

fn with_timeline(timeline: &Timeline, media: Vec<MediaId>) -> Vec<(Timeline, MediaId)> {
    media.into_iter().map(|media| (*timeline, media)).collect()
}

impl Catalog {
    /// Applies one event.
    ///
    /// # Errors
    /// A failing or damaged store; the event can be applied again.
    pub fn apply(&self, event: &Event, now: Timestamp) -> Result<(Received, Effects), CatalogError> {
        if self.is_seen(event.user, &event.order, now)? {
            return Ok((Received::Duplicate, Effects::default()));
        }
        Ok((Received::New, self.replay(event, now)?))
    }

    /// Applies one event of the journal, whether or not it was seen, and notes it as seen.
    ///
    /// # Errors
    /// A failing or damaged store; the event can be applied again.
    pub fn replay(&self, event: &Event, now: Timestamp) -> Result<Effects, CatalogError> {
        let effects = self.replay_old(event, now)?;
        self.seen.note(seen::identity(event.user, &event.order), now);
        Ok(effects)
    }

    /// Applies one event of the journal that came longer ago than events are remembered.
    ///
    /// # Errors
    /// A failing or damaged store; the event can be applied again.
    pub fn replay_old(&self, event: &Event, now: Timestamp) -> Result<Effects, CatalogError> {
        let user = event.user;
        match &event.kind {
            EventKind::Available(available) => self.apply_available(user, &event.order, available, now),
            EventKind::RecordingDeleted { device, recording } => {
                self.apply_deleted(&Timeline { user, device: *device }, recording, &event.order, now)
            }
            EventKind::RangeDeleted { device, span } => {
                let delete = Delete { order: event.order.clone(), span: Some(*span) };
                self.apply_delete(&Timeline { user, device: *device }, &delete, now)
            }
            EventKind::DeviceDeleted { device } => {
                let delete = Delete { order: event.order.clone(), span: None };
                self.apply_delete(&Timeline { user, device: *device }, &delete, now)
            }
            EventKind::UserDeleted => self.apply_user_deleted(user, &event.order, now),
        }
    }

    fn apply_available(
        &self,
        user: UserId,
        order: &EventOrder,
        available: &Available,
        now: Timestamp,
    ) -> Result<Effects, CatalogError> {
        let timeline = Timeline { user, device: available.device };
        let recording = &available.recording;
        let _turn = self.lock(&timeline);
        let old = self.row(&timeline, recording)?.unwrap_or_default();
        if old.latest.as_ref().is_some_and(|(known, _)| known >= order) {
            return Ok(Effects::default());
        }
        let mut new = old.clone();
        // Instants of an index count from the start: with another start it says nothing any more. And the pages
        // of what was deleted are gone.
        if old.removed || old.latest.as_ref().is_some_and(|(_, before)| before.start != available.start) {
            new.indexed = None;
        }
        new.latest = Some((order.clone(), available.clone()));
        (new.to_scan, new.fault, new.attempts, new.gone) = (true, None, 0, false);
        new.removed = self.is_removed(&timeline, &new, now)?;
        let mut effects = self.settle_one(&timeline, recording, old, new.clone(), now)?;
        if !new.removed {
            effects.scan.push((timeline, recording.clone()));
        }
        Ok(effects)
    }

    fn apply_deleted(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        order: &EventOrder,
        now: Timestamp,
    ) -> Result<Effects, CatalogError> {
        let _turn = self.lock(timeline);
        let old = self.row(timeline, recording)?.unwrap_or_default();
        if old.deleted.as_ref().is_some_and(|known| known >= order) {
            return Ok(Effects::default());
        }
        let mut new = old.clone();
        new.deleted = Some(order.clone());
        new.removed = self.is_removed(timeline, &new, now)?;
        self.settle_one(timeline, recording, old, new, now)
    }

    fn apply_delete(&self, timeline: &Timeline, delete: &Delete, now: Timestamp) -> Result<Effects, CatalogError> {
        let _turn = self.lock(timeline);
        self.tables.put(Table::Timelines, &key::delete(Scope::Device(*timeline), &delete.order), &delete.encode())?;
        self.remove_hit(timeline, delete, now)
    }

    fn apply_user_deleted(&self, user: UserId, order: &EventOrder, now: Timestamp) -> Result<Effects, CatalogError> {
        let delete = Delete { order: order.clone(), span: None };
        {
            // Nobody is between asking for deletes and writing a row; from here on every event meets this one.
            let _turns = self.lock_all();
            self.tables.put(Table::Timelines, &key::delete(Scope::User(user), order), &delete.encode())?;
        }
        let mut effects = Effects::default();
        for timeline in self.timelines(user)? {
            let _turn = self.lock(&timeline);
            effects.purge.extend(self.remove_hit(&timeline, &delete, now)?.purge);
        }
        Ok(effects)
    }

    /// The recordings that a delete might hit, and in which hour each is folded if it is: by time where it has a range, else all.
    fn within_reach(&self, timeline: &Timeline, delete: &Delete) -> Result<Vec<(RecordingId, Hour)>, CatalogError> {
        if let Some(range) = delete.span {
            let entries = self.entries(timeline, &range)?;
            let alive = entries.into_iter().filter(|entry| entry.state != State::Deleted);
            return Ok(alive.map(|entry| (entry.recording, entry.span.start.hour())).collect());
        }
        let mut all = Vec::new();
        for item in self.tables.prefix(Table::Timelines, &key::rows(timeline)) {
            let (key, _) = item?;
            let recording = std::str::from_utf8(key.get(25..).unwrap_or_default()).ok();
            // It lies in the tables, whatever its hour is.
            all.extend(recording.and_then(|id| id.parse::<RecordingId>().ok()).map(|id| (id, Hour(0))));
        }
        all.extend(self.steady(timeline, || {
            let mut folded = Vec::new();
            for block in self.blocks_within(timeline, Hour(i32::MIN), Hour(i32::MAX)) {
                let hour = |member: &Member| member.entry.span.start.hour();
                folded.extend(block?.members().iter().map(|member| (member.entry.recording.clone(), hour(member))));
            }
            Ok(folded)
        })?);
        Ok(all)
    }

    /// Removes every recording of a timeline that a delete hits.
    fn remove_hit(&self, timeline: &Timeline, delete: &Delete, now: Timestamp) -> Result<Effects, CatalogError> {
        let mut effects = Effects::default();
        // Folded ones come by time, so a batch works out few days anew; the rows of years do not fit into memory.
        for recordings in self.within_reach(timeline, delete)?.chunks(ROWS_PER_BATCH) {
            let mut changes = Vec::new();
            for (recording, hour) in recordings {
                let row = self.row_likely_in(timeline, recording, *hour)?;
                let Some(old) = row.filter(|row| !row.removed) else { continue };
                if old.latest.as_ref().is_some_and(|(order, _)| delete.hits(order, judged_span(&old))) {
                    let new = Row { removed: true, ..old.clone() };
                    changes.push(Change { recording: recording.clone(), old, new });
                }
            }
            effects.purge.extend(self.settle_removed(timeline, &changes, now)?);
        }
        Ok(effects)
    }

    /// Whether any delete hits the row's latest `available`, or its time is over.
    pub(super) fn is_removed(&self, timeline: &Timeline, row: &Row, now: Timestamp) -> Result<bool, CatalogError> {
        let Some((order, _)) = &row.latest else { return Ok(row.deleted.is_some()) };
        if row.is_expired(now) {
            return Ok(true);
        }
        if row.deleted.as_ref().is_some_and(|deleted| deleted > order) {
            return Ok(true);
        }
        let span = judged_span(row);
        for scope in [Scope::Device(*timeline), Scope::User(timeline.user)] {
            let (from, to) = key::deletes_since(scope, order);
            for item in self.tables.range(Table::Timelines, &from, &to) {
                if Delete::decode(&item?.1).map_err(malformed)?.hits(order, span) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    pub(super) fn settle_one(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        old: Row,
        new: Row,
        now: Timestamp,
    ) -> Result<Effects, CatalogError> {
        self.unfold(timeline, recording, hour_of(&old))?;
        let removed = new.removed;
        let changes = vec![Change { recording: recording.clone(), old, new }];
        let purge = if removed {
            self.settle_removed(timeline, &changes, now)?
        } else {
            let purge = self.settle(timeline, &changes, Batch::default(), now)?;
            with_timeline(timeline, purge)
        };
        Ok(Effects { scan: Vec::new(), purge })
    }

    /// Settles rows that were removed: their keyframe pages go in the same batch.
    pub(super) fn settle_removed(
        &self,
        timeline: &Timeline,
        changes: &[Change],
        now: Timestamp,
    ) -> Result<Vec<(Timeline, MediaId)>, CatalogError> {
        let mut batch = Batch::default();
        for change in changes {
            self.unfold(timeline, &change.recording, hour_of(&change.old))?;
            if let Some(indexed) = &change.old.indexed {
                self.delete_pages(timeline, &indexed.media, &mut batch)?;
            }
        }
        let purge = self.settle(timeline, changes, batch, now)?;
        Ok(with_timeline(timeline, purge))
    }

    /// Adds the deletion of a media's keyframe pages to the batch.
    pub(super) fn delete_pages(
        &self,
        timeline: &Timeline,
        media: &MediaId,
        batch: &mut Batch,
    ) -> Result<(), CatalogError> {
        for item in self.tables.prefix(Table::Timelines, &key::pages(timeline, media)) {
            batch.delete(&item?.0);
        }
        Ok(())
    }
}
