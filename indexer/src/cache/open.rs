//! Opening the cache: the recovery ladder of its index, its volumes, and what a crash kept from the index.
//!
//! The ladder, each step under a time limit in a thread of its own, because a damaged index panics or
//! never returns: open; delete its snapshots and open again; set the directory aside and begin a new index,
//! which [`DiskCache::rebuild`] fills.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use super::index::{CacheIndex, Checkpoint};
use super::slots::PageKey;
use super::volume::{Found, Volume};
use super::{Appender, CacheConfig, CacheError, Counters, DiskCache, IndexError};
use crate::durable;

/// Exists while the index is not to be used.
const CONDEMNED: &str = "condemned";

/// How the index was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexState {
    /// Whole.
    Opened,
    /// Whole once its snapshots were deleted.
    Repaired,
    /// A new one began: there was none, or it was set aside.
    New,
}

/// What [`DiskCache::open`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// How the index was found.
    pub index: IndexState,
    /// Whether the volumes hold what the index lacks: they are served only after [`DiskCache::rebuild`].
    pub needs_rebuild: bool,
    /// Volumes.
    pub volumes: usize,
    /// What they take on the disk.
    pub bytes: u64,
    /// Pictures that a crash had kept from the index, found again.
    pub recovered: u64,
    /// Bytes of half-written pictures, cut off.
    pub torn_bytes: u64,
    /// Volumes without a readable header, deleted.
    pub unreadable: Vec<u32>,
}

impl DiskCache {
    /// Opens the cache in `dir`, creating what is missing. Reads again at most what was stored since the last
    /// checkpoint.
    pub fn open(dir: &Path, config: CacheConfig) -> Result<(Self, OpenReport), CacheError> {
        let volumes_dir = dir.join("volumes");
        fs::create_dir_all(&volumes_dir).map_err(CacheError::io("create", &volumes_dir))?;
        let (index, index_state) = open_index(dir, &config)?;
        let mut unreadable = Vec::new();
        let volumes = open_volumes(&volumes_dir, config.volume_len_max(), &mut unreadable)?;
        let checkpoint = index.checkpoint()?;
        if volumes.is_empty() && !index.is_complete()? {
            index.set_complete(index.incomplete_marks())?;
        }
        let newest = volumes.last_key_value().map(|(id, volume)| (*id, Arc::clone(volume)));
        let last_id = newest.as_ref().map(|(id, _)| *id).max(checkpoint.map(|c| c.volume));
        // Appending goes on only where the index and the disk agree to the byte. After a crash a new volume begins,
        // so that no slot that outlived its entry in a power cut ever names bytes of another.
        let active = newest
            .map(|(_, volume)| volume)
            .filter(|volume| checkpoint == Some(Checkpoint { volume: volume.id, offset: volume.len() }));
        let next_id = last_id.map_or(1, |id| id.saturating_add(1));
        let is_clean = active.is_some();
        let needs_rebuild = !index.is_complete()?;
        let cache = Self {
            volumes_dir,
            config,
            index,
            volumes: RwLock::new(volumes),
            appender: Mutex::new(Appender { active, next_id, uncheckpointed_bytes: 0 }),
            evicting: Mutex::new(()),
            counters: Counters::default(),
            found: super::Recent::new(super::FOUND_MAX),
        };
        let mut report = OpenReport {
            index: index_state,
            needs_rebuild,
            volumes: 0,
            bytes: 0,
            recovered: 0,
            torn_bytes: 0,
            unreadable,
        };
        // Without a checkpoint the index knows nothing, and the rebuild reads everything.
        if let Some(checkpoint) = checkpoint {
            cache.recover(checkpoint, &mut report)?;
        }
        if !is_clean {
            cache.index.set_checkpoint(Checkpoint { volume: next_id, offset: 0 })?;
        }
        let (volumes, bytes) = cache.usage();
        report.volumes = usize::try_from(volumes).unwrap_or(usize::MAX);
        report.bytes = bytes;
        Ok((cache, report))
    }

    /// Has the next opening set the index aside, durably: for whoever knows that it may lack anything.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn distrust_index(dir: &Path) -> io::Result<()> {
        fs::File::create(dir.join(CONDEMNED))?.sync_all()?;
        durable::sync_dir(dir)
    }

    /// Puts into the index what the volumes hold behind the checkpoint, and cuts torn tails.
    fn recover(&self, checkpoint: Checkpoint, report: &mut OpenReport) -> Result<(), CacheError> {
        let volumes: Vec<_> = self.read_volumes().range(checkpoint.volume..).map(|(_, v)| Arc::clone(v)).collect();
        for volume in volumes {
            let failed = |action| CacheError::io(action, &self.volume_path(volume.id));
            let from = if volume.id == checkpoint.volume { checkpoint.offset } else { 0 };
            let mut found = Vec::new();
            let end = volume.walk(from, |entry| found.push(entry)).map_err(failed("read"))?;
            for entry in found {
                report.recovered += u64::from(self.admit(&volume, &entry)?);
            }
            if end < volume.len() {
                report.torn_bytes += volume.len() - end;
                volume.cut(end).map_err(failed("cut"))?;
            }
        }
        Ok(())
    }

    /// Puts one found entry into the index; whether it was missing there. Of two entries of one key the newer stays.
    fn admit(&self, volume: &Volume, entry: &Found) -> Result<bool, CacheError> {
        // A power cut may have left header and length but no body.
        let whole = !entry.is_punched && volume.read(entry.slot, &entry.key).is_ok_and(|body| body.is_some());
        if !whole {
            self.punch(entry.slot, &entry.key);
            return Ok(false);
        }
        let _appender = self.lock();
        let page_key = PageKey::of(&entry.key);
        let mut page = self.index.page(&page_key)?;
        match page.get(entry.key.at_ms) {
            Some(slot) if slot == entry.slot => return Ok(false),
            Some(newer) if newer.age() > entry.slot.age() => {
                self.punch(entry.slot, &entry.key);
                return Ok(false);
            }
            Some(older) => self.punch(older, &entry.key),
            None => {}
        }
        page.insert(entry.slot);
        self.index.set_page(&page_key, &page)?;
        Ok(true)
    }
}

/// Opens all volumes and deletes those without a readable header, whose numbers are added to `unreadable`.
fn open_volumes(dir: &Path, len_max: u64, unreadable: &mut Vec<u32>) -> Result<BTreeMap<u32, Arc<Volume>>, CacheError> {
    let mut volumes = BTreeMap::new();
    for item in fs::read_dir(dir).map_err(CacheError::io("list", dir))? {
        let name = item.map_err(CacheError::io("list", dir))?.file_name();
        let Some(id) = name.to_str().and_then(Volume::id_of) else { continue };
        let path = Volume::path(dir, id);
        match Volume::open(dir, id, len_max).map_err(CacheError::io("open", &path))? {
            Some(volume) => {
                volumes.insert(id, Arc::new(volume));
            }
            None => {
                tracing::warn!(volume = id, "a volume without a readable header is deleted");
                fs::remove_file(&path).map_err(CacheError::io("delete", &path))?;
                unreadable.push(id);
            }
        }
    }
    Ok(volumes)
}

/// The ladder.
fn open_index(dir: &Path, config: &CacheConfig) -> Result<(CacheIndex, IndexState), CacheError> {
    let (index_dir, condemned) = (dir.join("index"), dir.join(CONDEMNED));
    let open = || {
        let (index_dir, condemned, cache_bytes) = (index_dir.clone(), condemned.clone(), config.index_cache_bytes);
        within(config.index_open_max, move || {
            let index = CacheIndex::open(&index_dir, condemned, cache_bytes)?;
            // The facts are read too: damage shows when it is touched.
            index.checkpoint()?;
            index.is_complete()?;
            Ok(index)
        })
    };
    if index_dir.exists() && !condemned.exists() {
        match open() {
            Ok(index) => return Ok((index, IndexState::Opened)),
            // Neither a full disk nor a lock is a reason to give up an index.
            Err(error @ (IndexError::Disk(_) | IndexError::Busy(_))) => return Err(error.into()),
            Err(error) => tracing::error!(%error, "the cache index does not open; deleting its snapshots"),
        }
        CacheIndex::delete_snapshots(&index_dir).map_err(CacheError::io("delete the snapshots of", &index_dir))?;
        match open() {
            Ok(index) => return Ok((index, IndexState::Repaired)),
            Err(error @ IndexError::Disk(_)) => return Err(error.into()),
            Err(error) => tracing::error!(%error, "the cache index does not open; setting it aside"),
        }
    }
    set_aside(&index_dir, &dir.join("index.aside")).map_err(CacheError::io("set aside", &index_dir))?;
    match fs::remove_file(&condemned) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(CacheError::io("delete", &condemned)(error));
        }
        _ => {}
    }
    let index = open()?;
    index.set_incomplete()?;
    Ok((index, IndexState::New))
}

/// Runs `call` in a thread of its own. Past the limit the thread is left behind: nothing can end it.
fn within<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    let (answer, answered) = sync_channel(1);
    let thread = std::thread::Builder::new().name("cache index".to_owned());
    let spawned = thread.spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(call));
        // Nobody listens past the limit.
        let _ = answer.send(result.unwrap_or_else(|_| Err(IndexError::Damaged("panicked while opening".to_owned()))));
    });
    spawned.map_err(|error| IndexError::Disk(error.to_string()))?;
    answered.recv_timeout(limit).unwrap_or_else(|error| match error {
        RecvTimeoutError::Timeout => Err(IndexError::Damaged(format!("did not open within {limit:?}"))),
        RecvTimeoutError::Disconnected => Err(IndexError::Damaged("its thread ended".to_owned())),
    })
}

/// Keeps one damaged index for inspection, the last one.
fn set_aside(index_dir: &PathBuf, aside: &PathBuf) -> io::Result<()> {
    if !index_dir.exists() {
        return Ok(());
    }
    match fs::remove_dir_all(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(index_dir, aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_that_never_returns_is_given_up() {
        let (release, blocked) = sync_channel::<()>(0);
        let error = within(Duration::from_millis(10), move || {
            // Ends only when the test lets go.
            let _ = blocked.recv();
            Ok(())
        });
        assert_eq!(error.expect_err("limit").to_string(), "did not open within 10ms");
        drop(release);
    }

    #[test]
    fn an_open_that_panics_is_an_error() {
        let error =
            within(Duration::from_secs(60), || -> Result<(), IndexError> { std::panic::resume_unwind(Box::new(())) });
        assert_eq!(error.expect_err("panic").to_string(), "panicked while opening");
    }
}
