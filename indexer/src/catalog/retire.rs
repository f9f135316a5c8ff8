//! Retention: recordings that ended before an instant go, a batch at a time, with all that is known of them.
//!
//! Nothing here raises an epoch, and none is forgotten: were a sequence to begin anew, NGINX would find again what it
//! stored under the first one. What is still to be removed from the disk cache is noted before the row goes, so a crash
//! in between costs nothing; where a round stood is not kept, the next one finds what is left.

use stills_model::id::{RecordingId, Timeline};
use stills_model::time::{Hour, Timestamp};

use super::key::Scope;
use super::row::{Entry, Row};
use super::settle::Change;
use super::sled::Table;
use super::tables::Batch;
use super::{Catalog, CatalogError, Effects, apply, key, malformed};

/// Recordings that one call removes: the timeline is locked for some milliseconds.
const RETIRED_PER_CALL: usize = 200;
/// Timelines that one call looks at.
const TIMELINES_PER_CALL: usize = 200;

/// Where a round of retention goes on; the default is the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetireCursor(Vec<u8>);

impl Catalog {
    /// Forgets recordings that ended before `before`. Returns what is left to do and where to go on; none: all is done.
    ///
    /// # Errors
    /// A failing or damaged store; the call can be made again.
    pub fn retire(
        &self,
        before: Timestamp,
        mut cursor: RetireCursor,
        now: Timestamp,
    ) -> Result<(Effects, Option<RetireCursor>), CatalogError> {
        let mut effects = Effects::default();
        for _ in 0..TIMELINES_PER_CALL {
            let Some(timeline) = self.timeline_from(&cursor.0)? else { return Ok((effects, None)) };
            let _turn = self.lock(&timeline);
            let old = self.ended_before(&timeline, before)?;
            let is_more = old.len() == RETIRED_PER_CALL;
            let mut changes = Vec::new();
            for (recording, hour) in old {
                let Some(old) = self.row_likely_in(&timeline, &recording, hour)? else { continue };
                changes.push(Change { recording, old, new: Row::default() });
            }
            effects.purge.extend(self.settle_removed(&timeline, &changes, now)?);
            if is_more {
                return Ok((effects, Some(cursor)));
            }
            self.forget_deletes(&timeline, before)?;
            cursor = RetireCursor(key::device_end(&timeline));
        }
        Ok((effects, Some(cursor)))
    }

    /// The first timeline that has a key from `from` on.
    pub(super) fn timeline_from(&self, from: &[u8]) -> Result<Option<Timeline>, CatalogError> {
        let first = self.tables.range(Table::Timelines, from, &[u8::MAX; 32]).next().transpose()?;
        Ok(first.and_then(|(key, _)| key::parse_timeline(&key)))
    }

    /// Some recordings that ended before and in which hour each starts, the oldest of each class of length first.
    fn ended_before(&self, timeline: &Timeline, before: Timestamp) -> Result<Vec<(RecordingId, Hour)>, CatalogError> {
        let classes = self.classes(timeline)?;
        let mut found = Vec::new();
        for class in (0u8..).take(key::CLASS_MAX_MS.len()).filter(|class| classes & 1 << class != 0) {
            let (from, to) = key::entries(timeline, class, Timestamp::from_ms(i64::MIN), before);
            for item in self.tables.range(Table::Timelines, &from, &to) {
                let (key, value) = item?;
                let Some((start, recording)) = key::parse_entry(&key) else { continue };
                let entry = Entry::decode(start, recording, &value).map_err(malformed)?;
                if entry.span.end < before {
                    found.push((entry.recording, start.hour()));
                }
                if found.len() == RETIRED_PER_CALL {
                    return Ok(found);
                }
            }
        }
        let folded = self.steady(timeline, || {
            let mut folded = Vec::new();
            for block in self.blocks_within(timeline, Hour(i32::MIN), before.hour()) {
                let block = block?;
                let old = block.members().iter().filter(|member| member.entry.span.end < before);
                folded.extend(old.map(|member| (member.entry.recording.clone(), member.entry.span.start.hour())));
                if found.len() + folded.len() >= RETIRED_PER_CALL {
                    break;
                }
            }
            Ok(folded)
        })?;
        found.extend(folded);
        found.truncate(RETIRED_PER_CALL);
        Ok(found)
    }

    /// Forgets deletes by range that lie wholly before: what they could hit is no longer taken.
    fn forget_deletes(&self, timeline: &Timeline, before: Timestamp) -> Result<(), CatalogError> {
        let (from, to) = key::deletes(Scope::Device(*timeline));
        let mut old = Batch::default();
        for item in self.tables.range(Table::Timelines, &from, &to) {
            let (key, value) = item?;
            if apply::deleted_span(&value)?.is_some_and(|span| span.end < before) {
                old.delete(&key);
            }
        }
        self.tables.apply(Table::Timelines, old)
    }
}
