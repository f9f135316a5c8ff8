//! Filling the index from the volumes' headers. Bodies are not read: a damaged one shows when it is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use stills_model::thumb::ThumbKey;

use super::slots::PageKey;
use super::volume::{Found, Volume};
use super::{CacheError, DiskCache};

/// What a rebuild did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RebuildReport {
    /// Pictures that the index lacked and has now.
    pub admitted: u64,
    /// Pictures that were not admitted, or of which there is a newer one: punched out.
    pub rejected: u64,
}

impl DiskCache {
    /// Gives the index what the volumes hold, newest first, and takes off the disk what `admit` refuses (what the
    /// catalog does not have). May run beside everything else and may be called again. `admit` is called under the
    /// lock that orders all changes, so that a delete that the catalog knew in time is never undone: it must be quick
    /// and must not call the cache.
    pub fn rebuild(&self, admit: impl Fn(&ThumbKey) -> bool) -> Result<RebuildReport, CacheError> {
        let mut report = RebuildReport::default();
        let marks = self.index.incomplete_marks();
        let volumes: Vec<_> = self.read_volumes().values().rev().map(Arc::clone).collect();
        for volume in volumes {
            let mut pages: BTreeMap<PageKey, Vec<Found>> = BTreeMap::new();
            let walked = volume.walk(0, |found| pages.entry(PageKey::of(&found.key)).or_default().push(found));
            walked.map_err(CacheError::io("read", &self.volume_path(volume.id)))?;
            for (key, entries) in pages {
                self.rebuild_page(&volume, &key, &entries, &admit, &mut report)?;
            }
        }
        self.index.set_complete(marks)?;
        self.index.flush()?;
        Ok(report)
    }

    fn rebuild_page(
        &self,
        volume: &Volume,
        key: &PageKey,
        entries: &[Found],
        admit: &impl Fn(&ThumbKey) -> bool,
        report: &mut RebuildReport,
    ) -> Result<(), CacheError> {
        let _appender = self.lock();
        let failed = || CacheError::io("punch", &self.volume_path(volume.id));
        let mut page = self.index.page(key)?;
        let mut is_changed = false;
        for entry in entries.iter().rev() {
            let known = page.get(entry.key.at_ms);
            if entry.is_punched {
                // Marked, but a crash may have come before the hole.
                volume.punch(entry.slot, &entry.key).map_err(failed())?;
                continue;
            }
            if known == Some(entry.slot) && admit(&entry.key) {
                continue;
            }
            if !admit(&entry.key) || known.is_some_and(|known| known.age() > entry.slot.age()) {
                volume.punch(entry.slot, &entry.key).map_err(failed())?;
                page.retain(|slot| *slot != entry.slot);
                report.rejected += 1;
            } else {
                if let Some(older) = page.insert(entry.slot) {
                    self.punch(older, &entry.key);
                }
                report.admitted += 1;
            }
            is_changed = true;
        }
        if is_changed && self.volume(volume.id).is_some() {
            self.index.set_page(key, &page)?;
        }
        Ok(())
    }
}
