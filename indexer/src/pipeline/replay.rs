//! After a start: what the journal holds behind the catalog's checkpoint is applied again, events before results.
//!
//! Stored form of the checkpoint: one line a journal file, its name and the offset up to which it is applied.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

use stills_model::event::Event;

use super::retention::Retention;
use super::{Pipeline, SubmitError, entry_kind};
use crate::catalog::{Catalog, CatalogError, Effects, Finished, FoldCursor};
use crate::clock::Clock;
use crate::journal::{FileName, Journal, Position};
use crate::maintain::Tally;
use stills_model::id::Timeline;
use stills_model::thumb::MediaId;
use stills_model::time::{DAY_MS, Timestamp};

/// A catalog that is made anew from a larger journal (some hundred thousand recordings) is folded as it grows.
const LARGE_BYTES: u64 = 64 << 20;

/// In such a rebuild, what began or was told longer ago than this is history: it is not rendered ahead once more, and its
/// events are not expected to come again.
const HISTORY_AFTER_MS: i64 = 2 * DAY_MS;

/// What a replay found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Events applied.
    pub n_events: u64,
    /// Of these, those left out because their recordings are past retention.
    pub n_past: u64,
    /// Scan results taken.
    pub n_finished: u64,
    /// Entries that could not be understood; they stay in the journal.
    pub n_unreadable: u64,
    /// Damaged stretches of journal files.
    pub n_damaged: usize,
}

pub(super) fn encode_positions(positions: &[Position]) -> Vec<u8> {
    let lines: Vec<String> = positions.iter().map(|position| format!("{} {}", position.file, position.end)).collect();
    lines.join("\n").into_bytes()
}

fn decode_positions(text: &[u8]) -> HashMap<FileName, u64> {
    let line = |line: &str| {
        let (file, end) = line.split_once(' ')?;
        Some((FileName::from_str(file).ok()?, end.parse().ok()?))
    };
    std::str::from_utf8(text).unwrap_or_default().lines().filter_map(line).collect()
}

impl Pipeline {
    /// Applies what the catalog has not seen.
    pub(super) async fn replay(&self) -> Result<Replayed, SubmitError> {
        let (catalog, journal) = (self.0.parts.catalog.get(), Arc::clone(&self.0.parts.journal));
        let catalog = catalog.ok_or_else(|| SubmitError::Failed("the catalog is not open".to_owned()))?;
        let (now, retention) = (self.0.parts.clock.now(), self.0.retention.clone());
        let chores = Arc::clone(&self.0.parts.chores);
        // A thread of its own: a rebuild may take minutes, and look-ups go on meanwhile.
        let done = tokio::task::spawn_blocking(move || replay_all(&catalog, &journal, &retention, now, &chores.tally));
        let (replayed, purge) = done.await.map_err(|error| SubmitError::Failed(error.to_string()))??;
        self.follow(Effects { scan: Vec::new(), purge }).await;
        Ok(replayed)
    }
}

/// Fills an empty catalog on its own, without a pipeline: everything in the journal is applied when this returns.
///
/// # Errors
/// When the journal cannot be read or the catalog fails.
pub(crate) fn fill(
    catalog: &Catalog,
    journal: &Journal,
    retention_days: u32,
    clock: &Clock,
    tally: &Tally,
) -> Result<Replayed, SubmitError> {
    let retention = Retention::new(retention_days, clock.clone());
    // What is to be removed from the disk cache is noted in the catalog.
    let (replayed, _) = replay_all(catalog, journal, &retention, clock.now(), tally)?;
    catalog.set_checkpoint(&encode_positions(&journal.files()))?;
    Ok(replayed)
}

fn replay_all(
    catalog: &Catalog,
    journal: &Journal,
    retention: &Retention,
    now: Timestamp,
    tally: &Tally,
) -> Result<(Replayed, Vec<(Timeline, MediaId)>), SubmitError> {
    let applied = catalog.checkpoint()?.map(|text| decode_positions(&text)).unwrap_or_default();
    // Nothing is known yet, and years may come.
    let is_rebuild = applied.is_empty() && journal.stats().bytes > LARGE_BYTES;
    let mut replayed = Replayed::default();
    let mut purge = Vec::new();
    tally.begin("the journal, events and then results (bytes)", journal.stats().bytes.saturating_mul(2));
    // Results say nothing before the event they belong to is there, and files are not in the order of events. Both
    // lie with the day of the recording; people ask for the latest days first.
    let days = journal.days().into_iter().rev();
    for (day, kind) in days.flat_map(|day| [(day, entry_kind::EVENT), (day, entry_kind::FINISHED)]) {
        let mut failed: Option<CatalogError> = None;
        let report = journal.replay(
            |file| if file.day == day { applied.get(file).copied().unwrap_or(0) } else { u64::MAX },
            |_, entry, payload| {
                tally.add(payload.len() as u64);
                if entry != kind {
                    return ControlFlow::Continue(());
                }
                match apply_entry(catalog, retention, (kind, payload), (now, is_rebuild), &mut replayed) {
                    Ok(media) => {
                        purge.extend(media);
                        ControlFlow::Continue(())
                    }
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            },
        )?;
        if kind == entry_kind::EVENT {
            replayed.n_damaged += report.damaged.len();
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        if is_rebuild && kind == entry_kind::FINISHED {
            fold(catalog, now)?;
        }
    }
    Ok((replayed, purge))
}

/// Folds a day that was made anew before the next one comes, so that years take no more room than a day.
fn fold(catalog: &Catalog, now: Timestamp) -> Result<(), CatalogError> {
    let mut from = Some(FoldCursor::default());
    while let Some(cursor) = from {
        from = catalog.fold(cursor, now)?.1;
    }
    // It needs room for a while that there may not be.
    while catalog.compact().unwrap_or_else(|error| {
        tracing::warn!(%error, "the catalog could not be compacted");
        false
    }) {}
    Ok(())
}

fn is_history(at: Timestamp, now: Timestamp) -> bool {
    now.since_ms(at) > HISTORY_AFTER_MS
}

fn apply_entry(
    catalog: &Catalog,
    retention: &Retention,
    (kind, payload): (u8, &[u8]),
    (now, is_rebuild): (Timestamp, bool),
    replayed: &mut Replayed,
) -> Result<Vec<(Timeline, MediaId)>, CatalogError> {
    if kind == entry_kind::EVENT {
        let Ok(event) = Event::decode(payload) else {
            replayed.n_unreadable += 1;
            return Ok(Vec::new());
        };
        replayed.n_events += 1;
        if retention.is_past(&event) {
            replayed.n_past += 1;
            return Ok(Vec::new());
        }
        let is_history = is_rebuild && is_history(Timestamp::from_ms(event.order.time_ns / 1_000_000), now);
        let effects = if is_history { catalog.replay_old(&event, now)? } else { catalog.replay(&event, now)? };
        return Ok(effects.purge);
    }
    let Ok(finished) = Finished::decode(payload) else {
        replayed.n_unreadable += 1;
        return Ok(Vec::new());
    };
    replayed.n_finished += 1;
    let effects = catalog.finish(&finished, now)?;
    if is_rebuild && is_history(finished.start, now) {
        // Its pictures were rendered ahead when it came, or are on request.
        let row = catalog.row(&finished.timeline, &finished.recording)?;
        if let Some(indexed) = row.and_then(|row| row.indexed) {
            catalog.note_prerendered(&finished.timeline, &finished.recording, indexed.media, now)?;
        }
    }
    Ok(effects.map(|effects| effects.purge).unwrap_or_default())
}
