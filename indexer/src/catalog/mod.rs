//! The catalog: which recordings exist, what they cover, where their keyframes lie. Derived from the journal.
//!
//! Every call is synchronous and short; callers run it on their own threads ([`crate::threads`]), never on an
//! async one. Writes to one timeline take turns (a lock per shard); reads never wait for them and see each
//! write whole or not at all, since a write is one batch.
//!
//! - [`apply`]: an event changes rows; the state is the same whatever the order of arrival.
//! - [`finish`]: a finished scan becomes coverage and keyframe pages.
//! - [`settle`]: what either means for coverage, entries and epochs, in one place.
//! - [`expire`]: recordings whose time is over go; [`retire`]: those that are past retention.
//! - [`fold`]: recordings that change no more leave the tables for hour blocks.
//! - [`seen`]: which events were taken in the last 24 hours.
//! - [`locate`]: the frame rule: which keyframe answers for an instant.
//! - [`verify`]: whether everything can be read; what was set aside.
//! - [`list`]: coverage, recordings and devices for search and for people.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stills_model::codec::Malformed;
use stills_model::event::EventOrder;
use stills_model::id::{RecordingId, Timeline, UserId};
use stills_model::keyframe::{ConfigId, DecoderConfig};
use stills_model::thumb::MediaId;
use stills_model::time::{Hour, Span, Timestamp};

mod generations;
mod items;
mod key;
pub mod row;
mod seen;
mod sled;
mod tables;

mod apply;
mod block;
mod expire;
mod finish;
mod fold;
mod folded_ids;
mod hour_files;
mod retire;
mod settle;

mod list;
mod locate;
mod verify;

pub use apply::{Effects, Received};
pub use finish::Finished;
pub use fold::{FoldCursor, Folded};
pub use list::{Device, Listed, RecordingsPage};
pub use locate::{Located, Locator, Missing};
pub use retire::RetireCursor;
pub(crate) use settle::SETTLED_AFTER_MS;
pub use sled::{Ladder, Opened, StoreError as CatalogError};
pub use verify::{CatalogFindings, RowCursor, SetAside};

use crate::watched::Watched;
use block::Block;
use folded_ids::FoldedIds;
use hour_files::{HourFiles, Place};
use row::Row;
use seen::SeenEvents;
use sled::Table;
use tables::{Batch, Tables};

/// Locks for writers; more than any machine has writers at once.
const SHARDS: usize = 64;

/// Memory for hour blocks that were read lately: about one of each of a thousand cameras.
const BLOCKS_BYTES: u64 = 64 << 20;

/// Memory for where folded recordings lie: eight bytes each.
const FOLDED_IDS_BYTES: u64 = 128 << 20;

/// Counters of changes; timelines that share one cost each other look-ups, nothing else.
const CHANGE_COUNTERS: usize = 4096;

/// The open catalog.
#[derive(Debug)]
pub struct Catalog {
    tables: Tables,
    shards: Vec<Shard>,
    seen: SeenEvents,
    hours: HourFiles,
    /// Blocks that were read lately.
    blocks: moka::sync::Cache<Place, Arc<Block>>,
    /// Where the folded recordings of devices that were asked for lately lie.
    folded_ids: moka::sync::Cache<Timeline, Arc<FoldedIds>>,
    /// Raised before and after recordings of a timeline move between tables and blocks.
    folds: Vec<AtomicU64>,
    /// One folds at a time.
    folding: Mutex<()>,
    /// Blocks that the tables no longer point to, and perhaps still do on the disk.
    left_behind: Mutex<Vec<Place>>,
    /// How often each timeline may have changed.
    changes: Vec<AtomicU64>,
    /// Tells this store from every other and from itself before a rebuild.
    incarnation: String,
    /// Recordings this close are one coverage.
    seam_ms: i64,
}

/// What writers to some timelines share.
#[derive(Debug, Default)]
struct Shard {
    /// Writers take turns.
    turn: Mutex<()>,
    /// Raised before and after recordings move between tables and blocks.
    moves: AtomicU64,
}

fn malformed(_: Malformed) -> CatalogError {
    CatalogError::Damaged { table: "timelines.v2" }
}

impl Catalog {
    /// Opens the catalog in `dir`; `incarnation` is used when the store is new.
    ///
    /// # Errors
    /// When no store can be opened or created there.
    pub fn open(dir: &Path, seam_ms: i64, incarnation: &str) -> Result<(Self, Opened), CatalogError> {
        Self::of_tables(dir, Tables::open(dir, Ladder::AsIs, false)?, seam_ms, incarnation)
    }

    /// Opens the catalog again after this process condemned it, beginning at `from` on the recovery ladder.
    ///
    /// # Errors
    /// When no store can be opened or created there.
    pub fn reopen(dir: &Path, seam_ms: i64, incarnation: &str, from: Ladder) -> Result<(Self, Opened), CatalogError> {
        Self::of_tables(dir, Tables::open(dir, from, true)?, seam_ms, incarnation)
    }

    fn of_tables(
        dir: &Path,
        (tables, opened): (Tables, Opened),
        seam_ms: i64,
        incarnation: &str,
    ) -> Result<(Self, Opened), CatalogError> {
        let known = tables.get(Table::Meta, b"incarnation")?.and_then(|raw| String::from_utf8(raw).ok());
        let incarnation = match known {
            Some(known) => known,
            None => {
                tables.put(Table::Meta, b"incarnation", incarnation.as_bytes())?;
                incarnation.to_owned()
            }
        };
        let blocks = moka::sync::Cache::builder()
            .max_capacity(BLOCKS_BYTES)
            .weigher(|_, block: &Arc<Block>| u32::try_from(block.cost()).unwrap_or(u32::MAX))
            .build();
        let folded_ids = moka::sync::Cache::builder()
            .max_capacity(FOLDED_IDS_BYTES)
            .weigher(|_, ids: &Arc<FoldedIds>| ids.cost())
            .build();
        let counters = || (0..CHANGE_COUNTERS).map(|_| AtomicU64::new(0)).collect();
        let catalog = Self {
            tables,
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            changes: counters(),
            folds: counters(),
            folded_ids,
            seen: SeenEvents::open(dir.join("seen")).map_err(CatalogError::Seen)?,
            hours: HourFiles::open(dir.join("hours")).map_err(CatalogError::Hours)?,
            blocks,
            folding: Mutex::default(),
            left_behind: Mutex::default(),
            incarnation,
            seam_ms,
        };
        Ok((catalog, opened))
    }

    /// Watches the calls into the store.
    pub(crate) fn watched(&self) -> &Watched {
        self.tables.watched()
    }

    /// How far apart recordings may lie and still be one coverage, in milliseconds.
    pub fn seam_ms(&self) -> i64 {
        self.seam_ms
    }

    /// Whether an event with this identity was taken in the last 24 hours.
    ///
    /// # Errors
    /// A failing store.
    pub fn is_seen(&self, user: UserId, order: &EventOrder, now: Timestamp) -> Result<bool, CatalogError> {
        self.tables.check()?;
        Ok(self.seen.is_known(&seen::identity(user, order), now))
    }

    /// Forgets identities of events that are old.
    ///
    /// # Errors
    /// A failing disk.
    pub fn forget_seen(&self, now: Timestamp) -> Result<(), CatalogError> {
        self.seen.forget(now).map_err(CatalogError::Seen)
    }

    /// Media whose stored pictures have to be removed and may still be there.
    ///
    /// # Errors
    /// A failing store.
    pub fn to_purge(&self) -> Result<Vec<(Timeline, MediaId)>, CatalogError> {
        let all = self.tables.prefix(Table::Purge, b"");
        all.filter_map(|item| item.map(|(key, _)| key::parse_purge(&key)).transpose()).collect()
    }

    /// Notes that the pictures of these media are off the disk.
    ///
    /// # Errors
    /// A failing store.
    pub fn note_purged(&self, media: &[(Timeline, MediaId)]) -> Result<(), CatalogError> {
        let mut done = Batch::default();
        media.iter().for_each(|(timeline, media)| done.delete(&key::purge(timeline, media)));
        self.tables.apply(Table::Purge, done)
    }

    /// The row of a recording.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn row(&self, timeline: &Timeline, recording: &RecordingId) -> Result<Option<Row>, CatalogError> {
        self.row_in(timeline, recording, None)
    }

    /// The row of a recording that most likely starts in `hour`: where it is folded there, nothing else is looked through.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn row_likely_in(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        hour: Hour,
    ) -> Result<Option<Row>, CatalogError> {
        self.row_in(timeline, recording, Some(hour))
    }

    fn row_in(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        hour: Option<Hour>,
    ) -> Result<Option<Row>, CatalogError> {
        let key = key::row(timeline, recording);
        self.steady(timeline, || match self.tables.get(Table::Timelines, &key)? {
            Some(raw) => Row::decode(&raw).map(Some).map_err(malformed),
            None => self.folded_row(timeline, recording, hour),
        })
    }

    /// A decoder configuration that a keyframe page names.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn config(&self, user: UserId, id: &ConfigId) -> Result<Option<DecoderConfig>, CatalogError> {
        let value = self.tables.get(Table::Timelines, &key::config(user, id))?;
        value.map(|raw| DecoderConfig::decode(&raw).map_err(malformed)).transpose()
    }

    /// Every recording with work left to do, as it stood at some moment during the walk.
    ///
    /// # Errors
    /// A failing store.
    pub fn pending(&self) -> Result<Vec<(Timeline, RecordingId)>, CatalogError> {
        let all = self.tables.prefix(Table::Pending, b"");
        all.filter_map(|item| item.map(|(key, _)| key::parse_pending(&key)).transpose()).collect()
    }

    /// The epochs of the buckets that a window touches, as one header value: what NGINX keys its pictures with.
    ///
    /// # Errors
    /// A failing store.
    pub fn epoch(&self, timeline: &Timeline, window: &Span) -> Result<String, CatalogError> {
        let mut text = String::new();
        for bucket in window.buckets() {
            let sequence = self.epoch_of(&key::epoch(timeline, bucket))?;
            let separator = if text.is_empty() { "" } else { "." };
            text.push_str(&format!("{separator}{}-{sequence}", self.incarnation));
        }
        Ok(text)
    }

    fn epoch_of(&self, key: &[u8]) -> Result<u64, CatalogError> {
        let value = self.tables.get(Table::Timelines, key)?;
        Ok(value.and_then(|raw| raw.try_into().ok()).map_or(0, u64::from_be_bytes))
    }

    /// How far each journal file is applied, as the journal's own opaque text.
    ///
    /// # Errors
    /// A failing store.
    pub fn checkpoint(&self) -> Result<Option<Vec<u8>>, CatalogError> {
        self.tables.get(Table::Meta, b"checkpoint")
    }

    /// Remembers how far the journal is applied; all that was applied before is handed to the disk first.
    ///
    /// # Errors
    /// A failing store.
    pub fn set_checkpoint(&self, value: &[u8]) -> Result<(), CatalogError> {
        self.seen.flush().map_err(CatalogError::Seen)?;
        self.hours.sync().map_err(CatalogError::Hours)?;
        self.tables.flush()?;
        self.tables.put(Table::Meta, b"checkpoint", value)?;
        self.tables.flush()
    }

    /// Does some of what it takes to give room back to the disk that the tables needed once and need no more, if it is
    /// much. True: there is more to do.
    ///
    /// # Errors
    /// A failing disk, which ends the attempt; nothing is lost, and the next call begins anew.
    pub fn compact(&self) -> Result<bool, CatalogError> {
        self.tables.compact()
    }

    /// Gives up a [`Self::compact`] that was begun, and the room it takes.
    pub fn stop_compaction(&self) {
        self.tables.stop_compaction();
    }

    /// Bytes of the tables and of the events taken.
    pub fn size_on_disk(&self) -> u64 {
        self.tables.size_on_disk() + self.seen.size_on_disk()
    }

    /// How often a timeline may have changed so far: while the number stays, what was read of it after an earlier look
    /// at the number is still so, but for what depends on the time.
    pub fn n_changes(&self, timeline: &Timeline) -> u64 {
        self.changes[Self::hash(timeline) % CHANGE_COUNTERS].load(Ordering::Acquire)
    }

    fn hash(timeline: &Timeline) -> usize {
        timeline.key().iter().fold(0usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(*byte)))
    }

    fn shard(&self, timeline: &Timeline) -> &Shard {
        &self.shards[Self::hash(timeline) % SHARDS]
    }

    fn lock(&self, timeline: &Timeline) -> Turn<'_> {
        let hash = Self::hash(timeline);
        // A writer that panicked left nothing half-done: its batch was not applied.
        let shard = self.shards[hash % SHARDS].turn.lock().unwrap_or_else(PoisonError::into_inner);
        Turn { _shards: vec![shard], changed: std::slice::from_ref(&self.changes[hash % CHANGE_COUNTERS]) }
    }

    fn lock_all(&self) -> Turn<'_> {
        let shards = self.shards.iter().map(|shard| shard.turn.lock().unwrap_or_else(PoisonError::into_inner));
        Turn { _shards: shards.collect(), changed: &self.changes }
    }
}

/// A writer's turn. Its end counts as a change, before the next writer's turn and before the write is told of.
struct Turn<'a> {
    _shards: Vec<MutexGuard<'a, ()>>,
    changed: &'a [AtomicU64],
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        for counter in self.changed {
            counter.fetch_add(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
