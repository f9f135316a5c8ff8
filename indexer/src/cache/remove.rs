//! Taking pictures out of the cache on purpose: deletes leave no byte of a body. Eviction is elsewhere (`evict`).

use std::collections::BTreeSet;

use stills_model::id::{Timeline, UserId};
use stills_model::thumb::MediaId;

use super::slots::{PageKey, Slot};
use super::{CacheError, DiskCache, KEYS_MAX};

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
}
