//! Compaction: what counts is copied into a new store, which then takes the place of the old one.
//!
//! 1. It is due when the store's file is much larger than what it holds: after a burst of changes (a rebuild, a month of
//!    footage announced at once, years deleted) sled keeps its size, and its opening takes as long. What it holds is
//!    counted when so much has changed that it can be worth it.
//! 2. Key by key in order, some at a time. What is handed down meanwhile goes into both, in turns with the copying, so
//!    that a copied key is never older than its original.
//! 3. When all is copied, the new one is marked as whole and takes over between two flushes; the old one goes.
//!
//! A crash before the mark leaves the old store, one behind it the new one, and either is as it was when it last counted.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::statvfs;

use super::super::generations;
use super::super::sled::{Bounds, Store, StoreError, Table};
use super::{KEYS_PER_BATCH, Shared, TIMELINE_LEN, Tables};

/// A file of this size is left alone.
const SMALL_BYTES: u64 = 64 << 20;

/// Batches that one call copies: some ten milliseconds.
const BATCHES_PER_CALL: usize = 20;

/// What a key takes in sled's file beside its bytes and its value's (an empty store filled with keys of ten bytes).
const KEY_COST: u64 = 100;

/// A fresh store is up to this many times as large as what it holds by that count: sled frees what is half empty.
const LARGE_TIMES: u64 = 3;

/// What a change of a key lets a file grow by at most, about.
const CHANGE_BYTES: u64 = 256;

/// How long those who still read the old store are waited for, and how often they are looked for.
const READERS_TRIES: usize = 2000;
const READERS_PAUSE: Duration = Duration::from_millis(1);

/// The store that is being filled.
#[derive(Debug)]
pub(super) struct Next {
    store: Store,
    dir: PathBuf,
    /// The table that is copied, by its place in [`Table::ALL`], and its last key that was.
    table: usize,
    after: Option<Vec<u8>>,
    keys_per_batch: usize,
}

/// Counts what the store holds.
#[derive(Debug, Default)]
pub(super) struct Look {
    table: usize,
    after: Option<Vec<u8>>,
    bytes: u64,
}

impl Look {
    /// Counts some; false: all is counted.
    fn go_on(&mut self, store: &Arc<Store>) -> Result<bool, StoreError> {
        let Some(table) = Table::ALL.get(self.table).copied() else { return Ok(false) };
        let first = self.after.take().map_or(Bound::Unbounded, Bound::Excluded);
        for item in store.range(table, &(first, Bound::Unbounded)).take(KEYS_PER_BATCH) {
            let (key, value) = item?;
            // Keys of a timeline share its name in the file.
            self.bytes += KEY_COST + (key.len().saturating_sub(TIMELINE_LEN) + value.len()) as u64;
            self.after = Some(key);
        }
        self.table += usize::from(self.after.is_none());
        Ok(true)
    }
}

impl Next {
    fn begin(root: &Path, keys_per_batch: usize) -> Result<Self, StoreError> {
        let dir = generations::next(root).map_err(StoreError::Directory)?;
        match Store::create(&dir) {
            Ok(store) => Ok(Self { store, dir, table: 0, after: None, keys_per_batch }),
            Err(error) => {
                generations::remove(&dir);
                Err(error)
            }
        }
    }

    /// Copies a batch. False: all is copied.
    fn copy(&mut self, from: &Arc<Store>) -> Result<bool, StoreError> {
        let Some(table) = Table::ALL.get(self.table).copied() else { return Ok(false) };
        let first = self.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let bounds: Bounds = (first, Bound::Unbounded);
        let items = from.range(table, &bounds).take(self.keys_per_batch).collect::<Result<Vec<_>, _>>()?;
        let changes = items.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice())));
        self.store.apply(table, changes)?;
        match items.into_iter().next_back() {
            Some((last, _)) => self.after = Some(last),
            None => (self.table, self.after) = (self.table + 1, None),
        }
        Ok(true)
    }

    /// Whether all is copied.
    fn is_full(&self) -> bool {
        self.table == Table::ALL.len()
    }

    fn discard(self) {
        let Self { store, dir, .. } = self;
        close(store);
        generations::remove(&dir);
    }
}

/// sled may panic when the disk fails as it closes.
fn close(store: impl Sized) {
    if catch_unwind(AssertUnwindSafe(|| drop(store))).is_err() {
        tracing::warn!("tables of the catalog that count no more were not closed well");
    }
}

impl Tables {
    /// Does some of a compaction, if one is due. True: there is more to do.
    ///
    /// # Errors
    /// A failing disk or a damaged value: the attempt is over, and the old store still counts.
    pub(in super::super) fn compact(&self) -> Result<bool, StoreError> {
        self.shared.compact().inspect_err(|_| self.stop_compaction())
    }

    /// Gives up a compaction that was begun, and its room.
    pub(in super::super) fn stop_compaction(&self) {
        self.shared.discard_next();
        *self.shared.look.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Shared {
    fn next(&self) -> MutexGuard<'_, Option<Next>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to the store, and to the one that is being filled.
    pub(super) fn write_batch(&self, table: Table, changes: &[(&[u8], Option<&[u8]>)]) -> Result<(), StoreError> {
        self.n_changes.fetch_add(changes.len() as u64, Ordering::Relaxed);
        let also = {
            let next = self.next();
            self.store().apply(table, changes.iter().copied())?;
            next.as_ref().map_or(Ok(()), |next| next.store.apply(table, changes.iter().copied()))
        };
        if let Err(error) = also {
            tracing::warn!(%error, "a compaction of the catalog is given up");
            self.discard_next();
        }
        Ok(())
    }

    fn discard_next(&self) {
        let next = self.next().take();
        next.into_iter().for_each(Next::discard);
    }

    /// Whether it can be worth it to count what the store holds.
    fn is_worth_a_look(&self) -> bool {
        let size = self.store().size_on_disk();
        let n_changes = self.n_changes.load(Ordering::Relaxed);
        size > SMALL_BYTES && n_changes.saturating_mul(CHANGE_BYTES) > size / 8
    }

    /// Whether the file is much larger than the `bytes` that count, and there is room for both for a while.
    fn is_due(&self, bytes: u64) -> bool {
        let size = self.store().size_on_disk();
        let is_room = || statvfs(&self.root).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) > size);
        size > SMALL_BYTES + LARGE_TIMES * bytes && is_room()
    }

    pub(super) fn begin_compaction(&self, keys_per_batch: usize) -> Result<(), StoreError> {
        self.discard_next();
        let begun = Next::begin(&self.root, keys_per_batch)?;
        *self.next() = Some(begun);
        Ok(())
    }

    fn compact(&self) -> Result<bool, StoreError> {
        if self.next().is_some() {
            for _ in 0..BATCHES_PER_CALL {
                if !self.copy_batch()? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        if self.next().is_some() {
            // Somebody else has begun meanwhile.
            return Ok(true);
        }
        if look.is_none() {
            if !self.is_worth_a_look() {
                return Ok(false);
            }
            self.n_changes.store(0, Ordering::Relaxed);
        }
        let counted = look.get_or_insert_default();
        for _ in 0..BATCHES_PER_CALL {
            if !counted.go_on(&self.store())? {
                let is_due = self.is_due(counted.bytes);
                *look = None;
                return if is_due { self.begin_compaction(KEYS_PER_BATCH).map(|()| true) } else { Ok(false) };
            }
        }
        Ok(true)
    }

    /// Copies a batch; false: that was all, and the new store counts, or it could not be written to and is gone.
    pub(super) fn copy_batch(&self) -> Result<bool, StoreError> {
        let mut next = self.next();
        let Some(filled) = next.as_mut() else { return Ok(false) };
        if filled.copy(&self.store())? {
            return Ok(true);
        }
        drop(next);
        self.take_over().map(|()| false)
    }

    /// Lets the new store count.
    fn take_over(&self) -> Result<(), StoreError> {
        let (old, old_dir) = {
            let _alone = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut next = self.next();
            // Another one may have been begun meanwhile.
            let Some(filled) = next.as_ref().filter(|next| next.is_full()) else { return Ok(()) };
            filled.store.flush()?;
            generations::make_whole(&filled.dir).map_err(StoreError::Directory)?;
            let Some(Next { store, dir, .. }) = next.take() else { return Ok(()) };
            let store = Arc::new(store.watched_by(Arc::clone(&self.watched)));
            let mut current = self.store.write().unwrap_or_else(PoisonError::into_inner);
            let old = std::mem::replace(&mut *current, store);
            (old, std::mem::replace(&mut *self.dir(), dir))
        };
        let (before, after) = (old.size_on_disk(), self.store().size_on_disk());
        // Whoever drops it last waits for its threads: not one who reads.
        for _ in 0..READERS_TRIES {
            if Arc::strong_count(&old) == 1 {
                break;
            }
            std::thread::park_timeout(READERS_PAUSE);
        }
        close(old);
        generations::remove(&old_dir);
        tracing::info!(before, after, "the catalog's tables are compacted (bytes)");
        Ok(())
    }

    fn dir(&self) -> MutexGuard<'_, PathBuf> {
        self.dir.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
