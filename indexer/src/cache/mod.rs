//! The disk cache: pictures in append-only volumes, found through an index. All of it is derived: what is
//! missing is rendered again, so no write waits for the disk, but what is read is checked whole before it is given.
//! Synchronous: callers run it in a bounded set of threads of their own, with a deadline.
//!
//! The path of a picture:
//! 1. [`DiskCache::put`] appends it to the newest volume (`volume`), then notes in the index where it is (`slots`
//!    has the form, `index` the tree). One lock orders all changes; reads take none.
//! 2. [`DiskCache::get`] looks it up, reads exactly its entry and checks key and CRC over all of it. What is wrong is
//!    forgotten and a miss. Where a picture was found last is remembered, for [`DiskCache::get_at_once`].
//! 3. Over the budget, the oldest volume goes, whole; what was read lately (`reads`) is copied forward (`evict`).
//! 4. A delete punches the bodies, syncs, and only then forgets where they were (`remove`): were it the other way
//!    round, a crash in between would leave pictures that nobody finds any more.
//! 5. At start (`open`) what a crash kept from the index is read from the newest volumes. An index that cannot be
//!    used is set aside, and [`DiskCache::rebuild`] fills a new one from the volumes (`rebuild`).

mod evict;
mod index;
mod open;
mod reads;
mod rebuild;
mod remove;
mod slots;
mod verify;
mod volume;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use stills_model::id::Timeline;
use stills_model::rendition::Rendition;
use stills_model::thumb::{MediaId, ThumbKey};
use stills_model::time::Timestamp;

use crate::clock::Clock;
use crate::recent::Recent;

pub use index::IndexError;
use index::{CacheIndex, Checkpoint};
pub use open::{IndexState, OpenReport};
pub use rebuild::RebuildReport;
pub use remove::Removal;
use slots::{PageKey, Slot};
pub use verify::CacheFindings;
use volume::Volume;

/// How many volumes there may be: each is an open file.
const VOLUMES_MAX: u64 = 512;
/// How much may be appended before the index says that it has it: what a start reads again after a crash.
const CHECKPOINT_BYTES: u64 = 8 << 20;
/// Pictures whose place is remembered: about 3 MiB.
const FOUND_MAX: usize = 1 << 15;
/// How many index keys are listed at once.
const KEYS_MAX: usize = 256;

/// The cache's limits.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// What all volumes may take on the disk. The index comes on top: about one percent.
    pub max_bytes: u64,
    /// Where a volume ends and the next begins. Never more than a quarter of `max_bytes`, nor so little that there
    /// would be more than 512 volumes.
    pub volume_bytes: u64,
    /// The longest picture that is kept.
    pub body_bytes_max: u32,
    /// The index's memory cache. It counts log entries; the process takes about three times as much.
    pub index_cache_bytes: u64,
    /// How long opening the index may take before it is taken for damaged.
    pub index_open_max: Duration,
    /// The time: volumes remember when they were begun.
    pub clock: Clock,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            max_bytes: 20 << 30,
            volume_bytes: 256 << 20,
            body_bytes_max: 16 << 20,
            index_cache_bytes: 32 << 20,
            // 0.4 to 10.8 s were measured after kill -9 at ten million rows.
            index_open_max: Duration::from_secs(30),
            clock: Clock::system(),
        }
    }
}

impl CacheConfig {
    /// Where a volume ends, within the bounds that `volume_bytes` states.
    fn volume_len_max(&self) -> u64 {
        self.volume_bytes.max(self.max_bytes.div_ceil(VOLUMES_MAX)).min(self.max_bytes / 4)
    }
}

/// The cache refuses or fails. None of it loses anything that cannot be rendered again.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The index fails.
    #[error("cache index: {0}")]
    Index(#[from] IndexError),
    /// The picture is longer than the configured maximum.
    #[error("a picture of {len} bytes; the cache keeps at most {max}")]
    TooLarge {
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: u32,
    },
    /// The disk fails or is full.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl CacheError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// What the cache did since it was opened, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Volumes.
    pub volumes: u64,
    /// What they take on the disk.
    pub bytes: u64,
    /// Pictures given.
    pub hits: u64,
    /// Pictures asked for and not there.
    pub misses: u64,
    /// Of the misses, those that the index promised: damaged, or gone with their volume.
    pub damaged: u64,
    /// Pictures stored.
    pub puts: u64,
    /// Volumes dropped for the budget.
    pub evicted_volumes: u64,
    /// Pictures that went with them.
    pub evicted_pictures: u64,
    /// Of these, those that were rendered ahead and that nobody had looked at. What was stored by an earlier run is
    /// not counted: whether it was looked at is not known.
    pub evicted_unread: u64,
    /// Pictures copied forward because they had been read lately.
    pub copied_pictures: u64,
    /// When the oldest volume was begun: how far back the cache reaches. None while there is none.
    pub oldest: Option<Timestamp>,
    /// Whether the index may lack what the volumes hold, so that [`DiskCache::rebuild`] is due.
    pub needs_rebuild: bool,
    /// Whether the index failed and answers nothing until the next start.
    pub is_condemned: bool,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    damaged: AtomicU64,
    puts: AtomicU64,
    evicted_volumes: AtomicU64,
    evicted_pictures: AtomicU64,
    evicted_unread: AtomicU64,
    copied_pictures: AtomicU64,
}

/// What the lock over all changes guards.
#[derive(Debug)]
struct Appender {
    /// The volume that takes the next picture; None: a new one.
    active: Option<Arc<Volume>>,
    /// Never used before, even by volumes that are gone: the index may still name those.
    next_id: u32,
    /// Appended since the last checkpoint.
    uncheckpointed_bytes: u64,
}

/// The open cache; its directory belongs to this process alone.
#[derive(Debug)]
pub struct DiskCache {
    volumes_dir: PathBuf,
    config: CacheConfig,
    index: CacheIndex,
    volumes: RwLock<BTreeMap<u32, Arc<Volume>>>,
    /// Held by whoever changes volumes or index pages, so that reading, changing and writing a page is one step.
    appender: Mutex<Appender>,
    /// Held by the one thread that evicts.
    evicting: Mutex<()>,
    counters: Counters,
    /// Where pictures were found lately. An entry may be old: what is read there says itself which picture it is.
    found: Recent<ThumbKey, Slot>,
}

impl DiskCache {
    /// The picture, where its place is remembered and reading it waits for no disk; checked whole. None says nothing: then
    /// [`DiskCache::get`] knows. May be called where nothing may block.
    pub fn get_at_once(&self, key: &ThumbKey) -> Option<Bytes> {
        let slot = self.found.find(key, |slot| Some(*slot))?;
        let volume = self.volume(slot.volume)?;
        let body = volume.read_at_once(slot, key)?;
        volume.reads.mark(slot.offset);
        self.counters.hits.fetch_add(1, Ordering::Relaxed);
        Some(body)
    }

    /// The picture, checked whole. What turns out damaged or lost is forgotten and None.
    pub fn get(&self, key: &ThumbKey) -> Result<Option<Bytes>, CacheError> {
        let page_key = PageKey::of(key);
        // Twice: a put of the same key may move the picture between look-up and read.
        for _ in 0..2 {
            let Some(slot) = self.index.page(&page_key)?.get(key.at_ms) else { break };
            // A read error is damage like any other: the picture can be had again.
            let volume = self.volume(slot.volume);
            if let Some((volume, Ok(Some(body)))) = volume.map(|volume| (Arc::clone(&volume), volume.read(slot, key))) {
                volume.reads.mark(slot.offset);
                self.counters.hits.fetch_add(1, Ordering::Relaxed);
                self.found.put(*key, slot);
                return Ok(Some(body));
            }
            if self.forget(key, &page_key, slot)? {
                self.counters.damaged.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }

    /// Whether the index has the picture; unlike [`DiskCache::get`] this does not read it.
    pub fn contains(&self, key: &ThumbKey) -> Result<bool, CacheError> {
        let slot = self.index.page(&PageKey::of(key))?.get(key.at_ms);
        Ok(slot.is_some_and(|slot| self.volume(slot.volume).is_some()))
    }

    /// The instants (milliseconds after the recording's start, ascending) of all keyframes whose picture the index has.
    pub fn stored(
        &self,
        timeline: &Timeline,
        media: &MediaId,
        rendition: &Rendition,
        version: u16,
    ) -> Result<Vec<i64>, CacheError> {
        let prefix = PageKey::prefix(timeline, media, rendition, version);
        let mut stored = Vec::new();
        let mut after = None;
        loop {
            let keys = self.index.keys(&prefix, after.as_ref(), KEYS_MAX)?;
            let Some(last) = keys.last() else { return Ok(stored) };
            after = Some(*last);
            for key in &keys {
                let page = self.index.page(key)?;
                stored.extend(page.slots().iter().filter(|s| self.volume(s.volume).is_some()).map(|s| s.at_ms));
            }
        }
    }

    /// Keeps a picture that somebody asked for, in place of any that the key had. It may be lost to a power cut, but
    /// never be half there.
    pub fn put(&self, key: &ThumbKey, body: &[u8]) -> Result<(), CacheError> {
        let slot = self.put_slot(key, body)?;
        if let Some(volume) = self.volume(slot.volume) {
            volume.reads.mark_asked(slot.offset);
        }
        Ok(())
    }

    /// Keeps a picture that nobody has asked for yet, as [`DiskCache::put`] does.
    pub fn put_unasked(&self, key: &ThumbKey, body: &[u8]) -> Result<(), CacheError> {
        self.put_slot(key, body).map(drop)
    }

    fn put_slot(&self, key: &ThumbKey, body: &[u8]) -> Result<Slot, CacheError> {
        let max = self.config.body_bytes_max;
        if u32::try_from(body.len()).map_or(true, |len| len > max) {
            return Err(CacheError::TooLarge { len: body.len(), max });
        }
        let page_key = PageKey::of(key);
        let slot = {
            let mut appender = self.lock();
            let mut page = self.index.page(&page_key)?;
            let slot = self.append(&mut appender, key, body)?;
            // A slot of an evicted volume that was not cleaned up in time.
            page.retain(|slot| self.volume(slot.volume).is_some());
            if let Some(old) = page.insert(slot) {
                self.punch(old, key);
            }
            if let Err(error) = self.index.set_page(&page_key, &page) {
                self.punch(slot, key);
                return Err(error.into());
            }
            if appender.uncheckpointed_bytes >= CHECKPOINT_BYTES {
                self.checkpoint(&mut appender)?;
            }
            slot
        };
        self.counters.puts.fetch_add(1, Ordering::Release);
        // The last resort: `evict_ahead` has made room already.
        self.evict(self.config.max_bytes, |_| false)?;
        Ok(slot)
    }

    /// Writes volumes and index to the disk, so that the next start reads nothing again.
    pub fn sync(&self) -> Result<(), CacheError> {
        let volumes: Vec<_> = self.read_volumes().values().cloned().collect();
        for volume in volumes {
            volume.sync().map_err(CacheError::io("sync", &self.volume_path(volume.id)))?;
        }
        self.checkpoint(&mut self.lock())?;
        Ok(self.index.flush()?)
    }

    /// Counts for metrics.
    pub fn stats(&self) -> CacheStats {
        let (volumes, bytes) = self.usage();
        let Counters { hits, misses, damaged, puts, .. } = &self.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            volumes,
            bytes,
            hits: count(hits),
            misses: count(misses),
            damaged: count(damaged),
            puts: count(puts),
            evicted_volumes: count(&self.counters.evicted_volumes),
            evicted_pictures: count(&self.counters.evicted_pictures),
            evicted_unread: count(&self.counters.evicted_unread),
            copied_pictures: count(&self.counters.copied_pictures),
            oldest: self.read_volumes().values().next().map(|volume| volume.begun),
            needs_rebuild: !self.index.is_complete().unwrap_or(false),
            is_condemned: self.index.is_condemned(),
        }
    }

    /// How many pictures were stored since it was opened: while the number stays, what was not there is not there.
    pub fn n_puts(&self) -> u64 {
        self.counters.puts.load(Ordering::Acquire)
    }

    /// Ends the use of the index and has the next opening set it aside: for a caller whose call did not come back in
    /// time. Every later call fails at once.
    pub fn condemn_index(&self) {
        self.index.condemn("a call did not return in time");
    }

    /// Watches the calls into the index.
    pub(crate) fn watched(&self) -> &crate::watched::Watched {
        self.index.watched()
    }

    /// Appends to the active volume, or to a new one where that is full.
    fn append(&self, appender: &mut Appender, key: &ThumbKey, body: &[u8]) -> Result<Slot, CacheError> {
        let entry_len = (volume::HEADER_LEN + body.len()) as u64;
        let len_max = self.config.volume_len_max();
        let active =
            appender.active.take().filter(|v| v.len() == volume::FIRST_ENTRY || v.len() + entry_len <= len_max);
        let active = match active {
            Some(active) => active,
            None => {
                let id = appender.next_id;
                appender.next_id = id.saturating_add(1);
                let created = Volume::create(&self.volumes_dir, id, len_max, self.config.clock.now());
                let created = Arc::new(created.map_err(CacheError::io("create", &self.volume_path(id)))?);
                self.write_volumes().insert(id, Arc::clone(&created));
                created
            }
        };
        match active.append(key, body) {
            Ok(slot) => {
                appender.active = Some(active);
                appender.uncheckpointed_bytes += entry_len;
                Ok(slot)
            }
            Err((error, can_go_on)) => {
                let path = self.volume_path(active.id);
                appender.active = can_go_on.then_some(active);
                Err(CacheError::io("append to", &path)(error))
            }
        }
    }

    /// Says in the index that it has all that was appended.
    fn checkpoint(&self, appender: &mut Appender) -> Result<(), IndexError> {
        if let Some(active) = &appender.active {
            self.index.set_checkpoint(Checkpoint { volume: active.id, offset: active.len() })?;
        }
        appender.uncheckpointed_bytes = 0;
        Ok(())
    }

    /// Takes the slot out of the index unless another took its place, which false says.
    fn forget(&self, key: &ThumbKey, page_key: &PageKey, slot: Slot) -> Result<bool, CacheError> {
        let _appender = self.lock();
        let mut page = self.index.page(page_key)?;
        match page.get(key.at_ms) {
            Some(now) if now == slot => {
                self.punch(slot, key);
                page.retain(|s| *s != slot);
                self.index.set_page(page_key, &page)?;
                Ok(true)
            }
            now => Ok(now.is_none()),
        }
    }

    /// Punches a body that nothing will name any more. Where that fails, a rebuild is due, which punches it.
    fn punch(&self, slot: Slot, key: &ThumbKey) {
        let Some(volume) = self.volume(slot.volume) else { return };
        if let Err(error) = volume.punch(slot, key) {
            tracing::warn!(volume = slot.volume, %error, "cannot punch a picture out of its volume");
            // A condemned index is rebuilt anyway.
            let _ = self.index.set_incomplete();
        }
    }

    fn usage(&self) -> (u64, u64) {
        let volumes = self.read_volumes();
        (volumes.len() as u64, volumes.values().map(|volume| volume.disk_bytes()).sum())
    }

    fn volume(&self, id: u32) -> Option<Arc<Volume>> {
        self.read_volumes().get(&id).cloned()
    }

    fn volume_path(&self, id: u32) -> PathBuf {
        Volume::path(&self.volumes_dir, id)
    }

    // A panic under one of these locks leaves what they guard as it was before or after one insert or remove.
    fn lock(&self) -> MutexGuard<'_, Appender> {
        self.appender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_volumes(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u32, Arc<Volume>>> {
        self.volumes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_volumes(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u32, Arc<Volume>>> {
        self.volumes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
