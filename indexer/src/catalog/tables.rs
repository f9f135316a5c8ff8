//! The catalog's tables: what was just written, in memory, over what is on disk. Knows bytes, no domain.
//!
//! sled writes some hundred bytes for every change, however small, and a recording changes a handful of times within
//! seconds: announced, scanned, rendered. So changes are taken into memory and handed down together:
//! 1. [`Tables::apply`] puts a batch into the active layer, whole for whoever reads.
//! 2. Every [`FLUSH_EVERY`], or when it is large, the layer is frozen, a new one takes its place, and the frozen one is
//!    written to the store: by timeline, each timeline's changes in one batch, so that a crash in between leaves every
//!    timeline as it was at some moment; work before rows, and the end of work after them.
//! 3. Reads look into the active layer, then the frozen one, then the store.
//!
//! sled's file keeps the size that a burst of changes gave it for long: [`Tables::compact`] copies what counts into a new one
//! beside it, and what is handed down meanwhile goes into both.
//!
//! What a crash takes with the layers is in the journal: a checkpoint is only set when all before it is handed down.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use self::compaction::{Look, Next};
use super::generations;
use super::items::Items;
use super::sled::{Bounds, Ladder, Opened, Store, StoreError, Table};
use crate::watched::Watched;

mod compaction;

/// How often changes are handed down: what a crash takes, and the journal gives again.
const FLUSH_EVERY: Duration = Duration::from_secs(2);

/// A layer of this many bytes is handed down at once.
const LAYER_BYTES: usize = 16 << 20;

/// Above this a writer waits for the store, or hears why it does not take anything.
const LAYER_BYTES_MAX: usize = 4 * LAYER_BYTES;

/// What a key costs beside its bytes and its value's.
const KEY_COST: usize = 96;

/// About how many keys are handed down in one batch: it keeps readers of the store out for some milliseconds.
const KEYS_PER_BATCH: usize = 500;

/// How long the keys are of what belongs to one timeline: user and device.
const TIMELINE_LEN: usize = 24;

/// Changes to one table that happen together or not at all, in their order.
#[derive(Debug, Default)]
pub(super) struct Batch(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Batch {
    /// Sets a key.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.push((key.to_vec(), Some(value.to_vec())));
    }

    /// Removes a key.
    pub(super) fn delete(&mut self, key: &[u8]) {
        self.0.push((key.to_vec(), None));
    }
}

/// Changed keys of one table; none: removed.
pub(super) type Changed = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Changes that are not handed down yet.
#[derive(Debug, Default)]
pub(super) struct Layer {
    changed: [RwLock<Changed>; Table::ALL.len()],
    bytes: AtomicUsize,
}

impl Layer {
    fn apply(&self, table: Table, batch: Batch) {
        let mut changed = self.changed[table as usize].write().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        for (key, value) in batch.0 {
            // What it replaces is not counted off: a key that changes all the time is handed down in time.
            bytes += KEY_COST + key.len() + value.as_ref().map_or(0, Vec::len);
            changed.insert(key, value);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn with<T>(&self, table: Table, look: impl FnOnce(&Changed) -> T) -> T {
        look(&self.changed[table as usize].read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_empty(&self) -> bool {
        Table::ALL.into_iter().all(|table| self.with(table, Changed::is_empty))
    }
}

#[derive(Debug, Clone, Default)]
struct Layers {
    active: Arc<Layer>,
    frozen: Option<Arc<Layer>>,
}

/// What the writing thread shares with everybody.
#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// Where the store lies in it.
    dir: Mutex<PathBuf>,
    /// Watches the calls into whichever store it is.
    watched: Arc<Watched>,
    store: RwLock<Arc<Store>>,
    /// Who copies into it and who hands down take turns.
    next: Mutex<Option<Next>>,
    /// What the store holds, while it is counted.
    look: Mutex<Option<Look>>,
    /// Keys that were handed down since it was counted last.
    n_changes: AtomicU64,
    layers: RwLock<Layers>,
    /// One hands down at a time.
    flushing: Mutex<()>,
}

/// The open tables.
#[derive(Debug)]
pub(super) struct Tables {
    shared: Arc<Shared>,
    /// Asks for a flush; dropped to end the thread.
    ask: Option<SyncSender<()>>,
    flusher: Option<JoinHandle<()>>,
}

impl Tables {
    /// Opens the directory; see [`Store::open`].
    ///
    /// # Errors
    /// When not even an empty store can be opened, or the thread that hands changes down cannot be started.
    pub(super) fn open(dir: &Path, from: Ladder, is_ours: bool) -> Result<(Self, Opened), StoreError> {
        let (store, opened) = Store::open(dir, from, is_ours)?;
        let shared = Arc::new(Shared {
            root: dir.to_owned(),
            dir: Mutex::new(generations::current(dir).map_err(StoreError::Directory)?),
            watched: store.watched(),
            store: RwLock::new(Arc::new(store)),
            next: Mutex::default(),
            look: Mutex::default(),
            n_changes: AtomicU64::new(0),
            layers: RwLock::default(),
            flushing: Mutex::default(),
        });
        let (ask, asked) = mpsc::sync_channel(1);
        let flushed = Arc::clone(&shared);
        let flusher = std::thread::Builder::new().name("catalog-flush".to_owned()).spawn(move || {
            while asked.recv_timeout(FLUSH_EVERY) != Err(RecvTimeoutError::Disconnected) {
                // Whoever looks after the store hears of it from there; what is not handed down is tried again.
                let _ = flushed.flush();
            }
        });
        let flusher = flusher.map_err(|error| StoreError::Open(error.to_string()))?;
        Ok((Self { shared, ask: Some(ask), flusher: Some(flusher) }, opened))
    }

    /// Watches the calls into the store.
    pub(super) fn watched(&self) -> &Watched {
        &self.shared.watched
    }

    /// Whether it still answers.
    ///
    /// # Errors
    /// It was condemned.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.shared.store().check()
    }

    /// The value of a key.
    ///
    /// # Errors
    /// A failing store or a damaged value.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.store().check()?;
        let layers = self.shared.layers();
        for layer in [Some(&layers.active), layers.frozen.as_ref()].into_iter().flatten() {
            if let Some(changed) = layer.with(table, |changed| changed.get(key).cloned()) {
                return Ok(changed);
            }
        }
        self.shared.store().get(table, key)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// See [`Tables::apply`].
    pub(super) fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(key, value);
        self.apply(table, batch)
    }

    /// Applies a batch as one.
    ///
    /// # Errors
    /// A store that was condemned, or that has not taken what was written before.
    pub(super) fn apply(&self, table: Table, batch: Batch) -> Result<(), StoreError> {
        self.shared.store().check()?;
        if batch.0.is_empty() {
            return Ok(());
        }
        self.make_room()?;
        {
            // The layer is not frozen while it is written to.
            let layers = self.shared.layers.read().unwrap_or_else(PoisonError::into_inner);
            layers.active.apply(table, batch);
        }
        if self.shared.active_bytes() > LAYER_BYTES
            && let Some(ask) = &self.ask
        {
            // It may have been asked already.
            let _ = ask.try_send(());
        }
        Ok(())
    }

    /// Waits until the active layer has room.
    ///
    /// # Errors
    /// See [`Tables::apply`].
    pub(super) fn make_room(&self) -> Result<(), StoreError> {
        if self.shared.active_bytes() > LAYER_BYTES_MAX { self.shared.flush() } else { Ok(()) }
    }

    /// Keys from `from` to `to`, both included, in order (backwards with `.rev()`).
    pub(super) fn range(&self, table: Table, from: &[u8], to: &[u8]) -> Items {
        self.items(table, (Bound::Included(from.to_vec()), Bound::Included(to.to_vec())))
    }

    /// Keys that begin with `prefix`, in order.
    pub(super) fn prefix(&self, table: Table, prefix: &[u8]) -> Items {
        self.items(table, (Bound::Included(prefix.to_vec()), behind(prefix)))
    }

    fn items(&self, table: Table, bounds: Bounds) -> Items {
        // The layers first: what is handed down meanwhile is still in them.
        let layers = self.shared.layers();
        let mut over: Vec<Arc<Layer>> = [Some(layers.active), layers.frozen].into_iter().flatten().collect();
        over.retain(|layer| layer.with(table, |changed| !changed.is_empty()));
        let under = self.shared.store().range(table, &bounds);
        Items::new(table, over, under, bounds)
    }

    /// Hands all changes down, and to the operating system.
    ///
    /// # Errors
    /// A failing store.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.shared.flush()?;
        self.shared.store().flush()
    }

    /// Bytes on disk.
    pub(super) fn size_on_disk(&self) -> u64 {
        self.shared.store().size_on_disk()
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.ask = None;
        if let Some(flusher) = self.flusher.take() {
            // It has nothing to say.
            let _ = flusher.join();
        }
        if let Err(error) = self.shared.flush() {
            tracing::warn!(%error, "the catalog was closed with changes that it will take from the journal again");
        }
    }
}

impl Shared {
    fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn layers(&self) -> Layers {
        self.layers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn active_bytes(&self) -> usize {
        self.layers.read().unwrap_or_else(PoisonError::into_inner).active.bytes.load(Ordering::Relaxed)
    }

    /// Hands down what was written before the call.
    fn flush(&self) -> Result<(), StoreError> {
        let _alone = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        // One that the store did not take before comes first.
        self.hand_down()?;
        {
            let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
            if layers.active.is_empty() {
                return Ok(());
            }
            layers.frozen = Some(std::mem::take(&mut layers.active));
        }
        self.hand_down()
    }

    /// Writes the frozen layer to the store.
    fn hand_down(&self) -> Result<(), StoreError> {
        let Some(frozen) = self.layers().frozen else { return Ok(()) };
        let is_work = |table| matches!(table, Table::Pending | Table::Expiry | Table::Purge);
        // Work is there before the row that asks for it, and goes after the row that needs it no more.
        for table in Table::ALL.into_iter().filter(|table| *table != Table::Timelines) {
            frozen.with(table, |changed| {
                self.write(table, changed.iter().filter(|(_, value)| value.is_some() || !is_work(table)))
            })?;
        }
        frozen.with(Table::Timelines, |changed| self.write(Table::Timelines, changed.iter()))?;
        for table in Table::ALL.into_iter().filter(|table| is_work(*table)) {
            frozen.with(table, |changed| self.write(table, changed.iter().filter(|(_, value)| value.is_none())))?;
        }
        self.layers.write().unwrap_or_else(PoisonError::into_inner).frozen = None;
        Ok(())
    }

    /// Writes changes in order of their keys, a timeline's in one batch.
    fn write<'c>(
        &self,
        table: Table,
        changes: impl Iterator<Item = (&'c Vec<u8>, &'c Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        let mut batch: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
        for (key, value) in changes {
            let is_another = batch.last().is_some_and(|(last, _)| last.get(..TIMELINE_LEN) != key.get(..TIMELINE_LEN));
            if batch.len() >= KEYS_PER_BATCH && (is_another || table != Table::Timelines) {
                self.write_batch(table, &batch)?;
                batch.clear();
            }
            batch.push((key, value.as_deref()));
        }
        if batch.is_empty() { Ok(()) } else { self.write_batch(table, &batch) }
    }
}

/// Behind every key that begins with `prefix`.
fn behind(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

#[cfg(test)]
mod tests;
