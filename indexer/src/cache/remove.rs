//! Taking pictures out of the cache: deletes, which leave no byte of a body, and eviction, which drops whole volumes.

use std::collections::BTreeSet;
use std::sync::TryLockError;
use std::sync::atomic::Ordering;

use stills_model::id::{Timeline, UserId};
use stills_model::thumb::MediaId;

use super::slots::{PageKey, Slot};
use super::{CacheError, DiskCache, KEYS_MAX, VOLUMES_MAX};

/// What a delete did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removal {
    /// Pictures whose bodies are off the disk now.
    pub pictures: u64,
    /// False while the index may lack pictures that the volumes hold: those are punched by the rebuild that is due,
    /// which must not admit what was deleted.
    pub is_complete: bool,
}

impl DiskCache {
    /// Removes all pictures of one recording's media, in every rendition and render version: the bodies are punched
    /// out of their volumes and that is on the disk when this returns; headers stay. May be called again.
    pub fn remove_media(&self, timeline: &Timeline, media: &MediaId) -> Result<Removal, CacheError> {
        self.remove_prefix(&[&timeline.key()[..], &media.0[..]].concat())
    }

    /// Removes all pictures of many recordings' media, as [`DiskCache::remove_media`] does, with a sync for many of them.
    pub fn remove_many(&self, media: &[(Timeline, MediaId)]) -> Result<Removal, CacheError> {
        let mut pictures = 0;
        for some in media.chunks(KEYS_MAX) {
            loop {
                let mut keys = Vec::new();
                for (timeline, media) in some {
                    let _appender = self.lock();
                    let prefix = [&timeline.key()[..], &media.0[..]].concat();
                    keys.extend(self.index.keys(&prefix, None, KEYS_MAX - keys.len())?);
                }
                if keys.is_empty() {
                    break;
                }
                pictures += self.remove_pages(&keys)?;
            }
        }
        self.index.flush()?;
        Ok(Removal { pictures, is_complete: self.index.is_complete()? })
    }

    /// Removes all pictures of one device of one user, as [`DiskCache::remove_media`] does.
    pub fn remove_timeline(&self, timeline: &Timeline) -> Result<Removal, CacheError> {
        self.remove_prefix(&timeline.key())
    }

    /// Removes all pictures of one user, as [`DiskCache::remove_media`] does.
    pub fn remove_user(&self, user: &UserId) -> Result<Removal, CacheError> {
        self.remove_prefix(user.as_bytes())
    }

    fn remove_prefix(&self, prefix: &[u8]) -> Result<Removal, CacheError> {
        let mut pictures = 0;
        loop {
            // Under the lock: whoever is about to add a page by what the catalog said before the delete is seen.
            let keys = {
                let _appender = self.lock();
                self.index.keys(prefix, None, KEYS_MAX)?
            };
            if keys.is_empty() {
                break;
            }
            pictures += self.remove_pages(&keys)?;
        }
        self.index.flush()?;
        Ok(Removal { pictures, is_complete: self.index.is_complete()? })
    }

    /// Punches, syncs, then forgets: the other way round a crash would leave bodies that nothing names.
    fn remove_pages(&self, keys: &[PageKey]) -> Result<u64, CacheError> {
        let mut punched: Vec<(PageKey, Vec<Slot>)> = Vec::new();
        let mut touched = BTreeSet::new();
        for key in keys {
            let _appender = self.lock();
            let page = self.index.page(key)?;
            for slot in page.slots() {
                let (Some(thumb), Some(volume)) = (key.thumb(slot.at_ms), self.volume(slot.volume)) else { continue };
                volume.punch(*slot, &thumb).map_err(CacheError::io("punch", &self.volume_path(slot.volume)))?;
                touched.insert(slot.volume);
            }
            punched.push((*key, page.slots().to_vec()));
        }
        for volume in touched.into_iter().filter_map(|id| self.volume(id)) {
            volume.sync().map_err(CacheError::io("sync", &self.volume_path(volume.id)))?;
        }
        let mut count = 0;
        for (key, slots) in punched {
            let _appender = self.lock();
            let mut page = self.index.page(&key)?;
            page.retain(|slot| !slots.contains(slot));
            self.index.set_page(&key, &page)?;
            count += slots.len() as u64;
        }
        Ok(count)
    }

    /// Drops the oldest volumes while there is more than the budget. One thread does it; the others go on.
    // Copying hot entries forward belongs in front of `drop_volume`, which loses whatever still lies in the volume.
    pub(super) fn evict(&self) -> Result<(), CacheError> {
        let _evicting = match self.evicting.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        loop {
            let (volumes, bytes) = self.usage();
            if bytes <= self.config.max_bytes && volumes <= VOLUMES_MAX {
                return Ok(());
            }
            let active = self.lock().active.as_ref().map(|volume| volume.id);
            let Some(oldest) = self.read_volumes().keys().next().copied().filter(|id| Some(*id) != active) else {
                return Ok(());
            };
            self.drop_volume(oldest)?;
        }
    }

    fn drop_volume(&self, id: u32) -> Result<(), CacheError> {
        let Some(volume) = self.volume(id) else { return Ok(()) };
        // The file first: slots without a volume are misses, a volume without slots would be a leak.
        volume.unlink().map_err(CacheError::io("delete", &self.volume_path(id)))?;
        self.write_volumes().remove(&id);
        self.counters.evicted_volumes.fetch_add(1, Ordering::Relaxed);
        tracing::info!(volume = id, bytes = volume.disk_bytes(), "dropped the oldest volume for the budget");
        let mut pages = BTreeSet::new();
        let walked = volume.walk(0, |found| {
            pages.insert(PageKey::of(&found.key));
        });
        walked.map_err(CacheError::io("read", &self.volume_path(id)))?;
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
