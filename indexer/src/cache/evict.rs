//! Eviction: whole volumes go, oldest first; what was read lately is copied forward, up to a share. Reads take no
//! lock and go on meanwhile: a picture is in the old place, in the new one, or a miss.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::TryLockError;
use std::sync::atomic::Ordering;

use stills_model::thumb::ThumbKey;

use super::slots::PageKey;
use super::volume::{Found, Volume};
use super::{CacheError, DiskCache, VOLUMES_MAX};

/// The share of a volume that may be copied forward, one in this many: were it all, the cache would copy for ever
/// and gain nothing.
const COPIED_ONE_IN: u64 = 4;

/// Reads are recent for one to two quarters of what the cache holds: one in this many evicted volumes ends a turn.
const TURNS_PER_CACHE: u64 = 4;

impl DiskCache {
    /// Makes room for half a volume below the budget, so that no [`DiskCache::put`] has to. `is_hot` names pictures
    /// that are read without this cache hearing of it. Takes seconds at most; for a thread of its own.
    pub fn evict_ahead(&self, is_hot: impl Fn(&ThumbKey) -> bool) -> Result<(), CacheError> {
        self.evict(self.config.max_bytes - self.config.volume_len_max() / 2, is_hot)
    }

    /// Drops the oldest volumes while there is more than `bytes_max`. One thread does it; the others go on.
    pub(super) fn evict(&self, bytes_max: u64, is_hot: impl Fn(&ThumbKey) -> bool) -> Result<(), CacheError> {
        let _evicting = match self.evicting.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        loop {
            let (volumes, bytes) = self.usage();
            if bytes <= bytes_max && volumes <= VOLUMES_MAX {
                return Ok(());
            }
            let active = self.lock().active.as_ref().map(|volume| volume.id);
            let oldest = self.read_volumes().first_key_value().map(|(_, volume)| Arc::clone(volume));
            let Some(oldest) = oldest.filter(|volume| Some(volume.id) != active) else { return Ok(()) };
            if let Err(error) = self.copy_forward(&oldest, &is_hot) {
                // What could not be copied is rendered again; the room is needed now.
                tracing::warn!(volume = oldest.id, %error, "hot pictures are not wholly copied forward");
            }
            self.drop_volume(&oldest)?;
            let n_evicted = self.counters.evicted_volumes.load(Ordering::Relaxed);
            if n_evicted.is_multiple_of((volumes / TURNS_PER_CACHE).max(1)) {
                self.read_volumes().values().for_each(|volume| volume.reads.turn());
            }
        }
    }

    /// Copies what was read lately to the newest volume, no more than a share of the old one.
    fn copy_forward(&self, volume: &Volume, is_hot: impl Fn(&ThumbKey) -> bool) -> Result<(), CacheError> {
        let mut hot = Vec::new();
        let walked = volume.walk(0, |found| {
            if !found.is_punched && (volume.reads.is_recent(found.slot.offset) || is_hot(&found.key)) {
                hot.push(found);
            }
        });
        walked.map_err(CacheError::io("read", &self.volume_path(volume.id)))?;
        let mut left = volume.len() / COPIED_ONE_IN;
        // The newest first: the others were passed over before, or soon will be.
        for found in hot.iter().rev() {
            let len = u64::from(found.slot.len);
            if len <= left && self.copy_entry(volume, found)? {
                left -= len;
            }
        }
        Ok(())
    }

    /// Copies one entry, unless it is no longer what its key stands for. All under the lock, so that a delete comes
    /// before (there is nothing to copy) or after (it finds the copy).
    fn copy_entry(&self, volume: &Volume, found: &Found) -> Result<bool, CacheError> {
        let page_key = PageKey::of(&found.key);
        let mut appender = self.lock();
        let mut page = self.index.page(&page_key)?;
        if page.get(found.key.at_ms) != Some(found.slot) {
            return Ok(false);
        }
        let read = volume.read(found.slot, &found.key);
        let Some(body) = read.map_err(CacheError::io("read", &self.volume_path(volume.id)))? else { return Ok(false) };
        let slot = self.append(&mut appender, &found.key, &body)?;
        if let Some(copy) = self.volume(slot.volume) {
            copy.reads.mark_asked(slot.offset);
        }
        page.insert(slot);
        if let Err(error) = self.index.set_page(&page_key, &page) {
            self.punch(slot, &found.key);
            return Err(error.into());
        }
        self.punch(found.slot, &found.key);
        self.counters.copied_pictures.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    fn drop_volume(&self, volume: &Volume) -> Result<(), CacheError> {
        let id = volume.id;
        // The file first: slots without a volume are misses, a volume without slots would be a leak.
        volume.unlink().map_err(CacheError::io("delete", &self.volume_path(id)))?;
        self.write_volumes().remove(&id);
        self.counters.evicted_volumes.fetch_add(1, Ordering::Relaxed);
        let mut pages = BTreeSet::new();
        let (mut n_pictures, mut n_unread) = (0u64, 0u64);
        let walked = volume.walk(0, |found| {
            pages.insert(PageKey::of(&found.key));
            n_pictures += u64::from(!found.is_punched);
            n_unread += u64::from(!found.is_punched && volume.is_unread(found.slot.offset));
        });
        walked.map_err(CacheError::io("read", &self.volume_path(id)))?;
        self.counters.evicted_pictures.fetch_add(n_pictures, Ordering::Relaxed);
        self.counters.evicted_unread.fetch_add(n_unread, Ordering::Relaxed);
        let bytes = volume.disk_bytes();
        if n_unread > 0 {
            tracing::warn!(
                volume = id,
                bytes,
                n_pictures,
                n_unread,
                "dropped the oldest volume for the budget; pictures rendered ahead were never looked at: a larger \
                 cache.max_bytes keeps them, a longer prerender.interval makes fewer"
            );
        } else {
            tracing::info!(volume = id, bytes, n_pictures, "dropped the oldest volume for the budget");
        }
        for key in pages {
            let _appender = self.lock();
            let mut page = self.index.page(&key)?;
            if page.slots().iter().any(|slot| slot.volume == id) {
                page.retain(|slot| slot.volume != id);
                self.index.set_page(&key, &page)?;
            }
        }
        Ok(())
    }
}
