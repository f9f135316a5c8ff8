//! Retention by age, and the journal's compaction: what of its entries is still needed.
//!
//! 1. Events of recordings past `retention.days` are accepted and ignored; those in the journal too, at a replay.
//! 2. [`Pipeline::retire`] removes from the catalog what has grown too old, in small batches, and punches its pictures.
//! 3. [`Pipeline::compact`] joins journal files day by day. Of each recording the newest event and its result are
//!    needed, and every delete. A day that is past retention by [`LATENESS_DAYS`] is not needed at all: by then nothing
//!    is accepted any more that one of its deletes could hit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use stills_model::event::{Event, EventKind};
use stills_model::time::{DAY_MS, Day, Timestamp};

use super::{Pipeline, entry_kind};
use crate::catalog::{Catalog, CatalogError, Finished, FoldCursor, RetireCursor};
use crate::clock::Clock;
use crate::journal::Journal;
use crate::live::Live;

/// How long journal files outlive retention: deletes lie with the day they came, and a recording ends at most a day
/// later than that; the other day is for clocks that are off.
const LATENESS_DAYS: i64 = 2;

/// The configured number of days, which SIGHUP may replace.
#[derive(Debug, Clone)]
pub(super) struct Retention {
    days: Arc<AtomicU32>,
    clock: Clock,
}

impl Retention {
    /// 0 days: for ever.
    pub(super) fn new(days: u32, clock: Clock) -> Self {
        Self { days: Arc::new(AtomicU32::new(days)), clock }
    }

    pub(super) fn set_days(&self, days: u32) {
        self.days.store(days, Ordering::Relaxed);
    }

    fn days(&self) -> i64 {
        self.days.load(Ordering::Relaxed).into()
    }

    /// Recordings that ended before this are past retention; none: no recording is.
    fn limit(&self) -> Option<Timestamp> {
        let days = self.days();
        (days > 0).then(|| self.clock.now().plus_ms(-days * DAY_MS))
    }

    /// Whether the event announces a recording that is past retention.
    pub(super) fn is_past(&self, event: &Event) -> bool {
        let EventKind::Available(available) = &event.kind else { return false };
        let last = available.end.unwrap_or(available.start);
        self.limit().is_some_and(|limit| last < limit)
    }

    /// Whether nothing of a journal day is needed any more.
    fn is_day_over(&self, day: Day) -> bool {
        let days = self.days();
        days > 0 && self.clock.now().day().0.saturating_sub(day.0) > days + LATENESS_DAYS
    }
}

/// Has the journal keep of recordings what a rebuild needs, and no more.
pub(super) fn own_entries(journal: &Journal, catalog: &Arc<Live<Catalog>>, retention: &Retention) {
    let (known, limits) = (Arc::clone(catalog), retention.clone());
    journal.set_owner(entry_kind::EVENT, move |day, payload| {
        // What cannot be understood or looked up is kept until its day is over.
        let is_needed = || Event::decode(payload).ok().and_then(|event| is_event_needed(&*known.get()?, &event).ok());
        !limits.is_day_over(day) && is_needed().unwrap_or(true)
    });
    let (known, limits) = (Arc::clone(catalog), retention.clone());
    journal.set_owner(entry_kind::FINISHED, move |day, payload| {
        let is_needed =
            || Finished::decode(payload).ok().and_then(|finished| is_result_needed(&*known.get()?, &finished).ok());
        !limits.is_day_over(day) && is_needed().unwrap_or(true)
    });
}

/// Of several events of a recording the last counts: the catalog has it, so it is in the journal.
fn is_event_needed(catalog: &Catalog, event: &Event) -> Result<bool, CatalogError> {
    let timeline = |device| stills_model::id::Timeline { user: event.user, device };
    Ok(match &event.kind {
        EventKind::Available(available) => {
            let (timeline, hour) = (timeline(available.device), available.start.hour());
            let row = catalog.row_likely_in(&timeline, &available.recording, hour)?;
            row.and_then(|row| row.latest).is_none_or(|(latest, _)| latest <= event.order)
        }
        EventKind::RecordingDeleted { device, recording } => {
            let row = catalog.row(&timeline(*device), recording)?;
            row.and_then(|row| row.deleted).is_none_or(|deleted| deleted <= event.order)
        }
        EventKind::RangeDeleted { .. } | EventKind::DeviceDeleted { .. } | EventKind::UserDeleted => true,
    })
}

/// A result is worth nothing once its recording was announced anew or deleted.
fn is_result_needed(catalog: &Catalog, finished: &Finished) -> Result<bool, CatalogError> {
    let row = catalog.row_likely_in(&finished.timeline, &finished.recording, finished.start.hour())?;
    Ok(row.is_none_or(|row| !row.removed && row.latest.is_none_or(|(latest, _)| latest <= finished.order)))
}

/// What compaction remembers of this run.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Damaged days, left alone.
    damaged: BTreeSet<Day>,
    /// Days past retention that were looked through, and when: what other owners still need of them stays.
    looked_through: BTreeMap<Day, Day>,
}

impl Pipeline {
    /// Removes recordings that are past retention, a batch at a time.
    pub(super) async fn retire(&self) {
        let mut cursor = RetireCursor::default();
        while let Some(limit) = self.0.retention.limit().filter(|_| !self.0.parts.catalog.is_partial()) {
            match self.write(move |catalog, now| catalog.retire(limit, cursor, now)).await {
                Ok((effects, next)) => {
                    let n_retired = effects.purge.len();
                    if n_retired > 0 {
                        tracing::info!(n_retired, "recordings past retention are removed");
                    }
                    self.0.parts.metrics.retired.inc_by(n_retired as u64);
                    self.follow(effects).await;
                    let Some(next) = next else { return };
                    cursor = next;
                }
                Err(error) => return tracing::warn!(%error, "recordings past retention could not be removed"),
            }
        }
    }

    /// Has recordings that change no more leave the catalog's tables for hour blocks, and those take no more room than
    /// they need.
    pub(super) async fn fold(&self) {
        let (mut from, mut hours, mut recordings) = (Some(FoldCursor::default()), 0, 0);
        while let Some(cursor) = from.take().filter(|_| self.0.parts.disk.is_well()) {
            match self.write(move |catalog, now| catalog.fold(cursor, now)).await {
                Ok((folded, next)) => {
                    (hours, recordings) = (hours + folded.hours, recordings + folded.recordings);
                    from = next;
                }
                Err(error) => {
                    tracing::warn!(%error, "settled recordings could not be folded");
                    break;
                }
            }
        }
        if hours > 0 {
            tracing::info!(hours, recordings, "settled recordings are folded");
        }
        while self.0.parts.disk.is_well() {
            match self.write(|catalog, _| catalog.compact()).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return tracing::warn!(%error, "the catalog could not be compacted"),
            }
        }
        // The room is needed now.
        if let Some(catalog) = self.0.parts.catalog.get() {
            catalog.stop_compaction();
        }
    }

    /// Joins the journal files of the days for which that is worth it.
    pub(super) async fn compact(&self, rounds: &mut Rounds) {
        if !self.0.parts.disk.is_well() {
            // What is copied takes room before it gives any.
            return;
        }
        let today = self.0.parts.clock.now().day();
        let journal = &self.0.parts.journal;
        journal.discard_retired();
        let over: Vec<Day> = journal.days().into_iter().filter(|day| self.0.retention.is_day_over(*day)).collect();
        rounds.looked_through.retain(|day, _| over.contains(day));
        for day in over {
            if rounds.looked_through.insert(day, today) != Some(today) && !self.compact_day(day, rounds).await {
                return;
            }
        }
        let skip = |rounds: &Rounds| &rounds.damaged | &rounds.looked_through.keys().copied().collect();
        while let Some(day) = journal.due(today, &skip(rounds)) {
            if !self.compact_day(day, rounds).await {
                return;
            }
        }
    }

    /// False: it failed, and the next day most likely would.
    async fn compact_day(&self, day: Day, rounds: &mut Rounds) -> bool {
        let journal = Arc::clone(&self.0.parts.journal);
        // As long as it takes to read and write a day, and one at a time.
        match tokio::task::spawn_blocking(move || journal.compact(day)).await {
            Ok(Ok(done)) if done.is_damaged => {
                tracing::warn!(day = day.0, "a day of the journal is damaged and not compacted");
                rounds.damaged.insert(day);
                true
            }
            Ok(Ok(done)) => {
                tracing::info!(day = day.0, ?done, "a day of the journal is compacted");
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(day = day.0, %error, "a day of the journal could not be compacted");
                false
            }
            Err(error) => {
                tracing::error!(day = day.0, %error, "a day of the journal could not be compacted");
                false
            }
        }
    }
}
