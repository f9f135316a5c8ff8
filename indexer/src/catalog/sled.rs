//! What the catalog's tables keep on disk, in sled 0.34: ordered keys, checked values, atomic batches. Knows bytes, no
//! domain; written to by [`super::tables`] alone.
//!
//! One of the two files that name sled. What sled does not promise is made up for here or by the caller:
//! every value carries its own CRC-32C (one flipped bit on disk otherwise comes back as data or as a spin),
//! values stay small, there are no merge operators, and nothing is ground state: whatever this directory holds
//! is rebuilt from the journal. sled may panic or block on a damaged file, so it is opened on a thread of its
//! own under a time limit, and callers run every call on their own few threads, never on an async one.

use std::io::ErrorKind;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::generations;
use crate::watched::Watched;

/// Memory for sled's page cache. Resident memory follows it only while values are small.
const PAGE_CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// How often sled writes what it has buffered. A crash loses at most this much, and the journal brings it back.
const FLUSH_EVERY_MS: u64 = 300;

/// 10 million rows opened in 10.8 s at worst; beyond this the directory counts as damaged.
const OPEN_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a lock that is still held is waited for, and how often it is tried.
const LOCK_TIME_MAX: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The catalog cannot answer.
#[derive(Debug, Error)]
pub enum StoreError {
    /// sled reported an error.
    #[error("the catalog's store failed: {0}")]
    Sled(#[from] sled::Error),
    /// A value's check sum or form is wrong.
    #[error("the catalog holds a damaged value in table {table}")]
    Damaged {
        /// The tree's name.
        table: &'static str,
    },
    /// sled panicked or did not open in time.
    #[error("the catalog's store could not be opened: {0}")]
    Open(String),
    /// The directory of its tables failed.
    #[error("the directory of the catalog's tables cannot be read or written: {0}")]
    Directory(#[source] std::io::Error),
    /// The files of hour blocks failed.
    #[error("the catalog's hour blocks cannot be read or written: {0}")]
    Hours(#[source] std::io::Error),
    /// The files of events taken failed.
    #[error("the catalog's files of events taken cannot be read or written: {0}")]
    Seen(#[source] std::io::Error),
    /// An hour block is not what was written.
    #[error("the catalog holds a damaged hour block")]
    Block,
    /// It was found damaged in this run and is about to be opened anew.
    #[error("the catalog's store is condemned after damage")]
    Condemned,
}

impl StoreError {
    /// Whether the disk refuses; the store itself may be whole.
    fn is_disk(&self) -> bool {
        match self {
            Self::Sled(error) => is_disk(error),
            Self::Directory(error) => is_refusal(error.kind()),
            _ => false,
        }
    }
}

fn is_disk(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(io) if is_refusal(io.kind()))
}

fn is_refusal(kind: ErrorKind) -> bool {
    use ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(kind, StorageFull | QuotaExceeded | PermissionDenied | ReadOnlyFilesystem)
}

/// From which key to which.
pub(super) type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// Which tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// All that belongs to timelines: rows, coverage, keyframe pages, epochs, deletes, decoder configurations.
    Timelines,
    /// Recordings with work left to do.
    Pending,
    /// Recordings by the instant at which they disappear.
    Expiry,
    /// Media whose stored pictures have to be removed.
    Purge,
    /// The store's own facts: incarnation, how far the journal is applied.
    Meta,
}

impl Table {
    pub(super) const ALL: [Self; 5] = [Self::Timelines, Self::Pending, Self::Expiry, Self::Purge, Self::Meta];

    /// The tree's name; the number is its schema.
    const fn name(self) -> &'static str {
        match self {
            Self::Timelines => "timelines.v2",
            Self::Pending => "pending.v2",
            Self::Expiry => "expiry.v2",
            Self::Purge => "purge.v2",
            Self::Meta => "meta.v2",
        }
    }
}

/// The open store.
pub(super) struct Store {
    db: sled::Db,
    trees: [sled::Tree; Table::ALL.len()],
    watched: Arc<Watched>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Makes a call into sled: its panics, reports of damage and failures of the disk are noted.
fn guarded<T>(watched: &Watched, call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    let called = watched.call(call).map_err(|_| StoreError::Condemned)?;
    called.map_err(|error| {
        if is_disk(&error) {
            watched.note_disk_failure();
        } else {
            watched.condemn(&error.to_string());
        }
        StoreError::Sled(error)
    })
}

/// Where on the recovery ladder to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ladder {
    /// As it is.
    AsIs,
    /// Without its snapshots.
    WithoutSnapshots,
    /// Set aside, and empty.
    Aside,
}

/// How an opening went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// As it was left.
    AsIs,
    /// After its snapshots were removed, which alone brings every key back when a snapshot is what is damaged.
    WithoutSnapshots,
    /// Empty: the damaged directory was set aside.
    SetAside,
}

impl Store {
    /// Opens the store in `root`, going down the recovery ladder from `from` as far as it has to: as it is; without its
    /// snapshots; set aside and empty, to be rebuilt from the journal. `is_ours` says that whoever still holds its
    /// lock is a call of this process that does not end.
    ///
    /// # Errors
    /// When not even an empty store can be opened (permissions, a full disk).
    pub(super) fn open(root: &Path, from: Ladder, is_ours: bool) -> Result<(Self, Opened), StoreError> {
        let current = || generations::current(root).map_err(StoreError::Directory);
        // Somebody else has it, or the disk refuses: nothing is damaged, and nothing may be removed.
        let is_no_damage = |error: &StoreError| error.is_disk() || (is_locked(error) && !is_ours);
        if from == Ladder::AsIs {
            match current().and_then(|dir| open_unlocked(&dir)) {
                Ok(tables) => return Ok((tables, Opened::AsIs)),
                Err(error) if is_no_damage(&error) => return Err(error),
                Err(error) => tracing::error!(%error, "the catalog does not open; removing its snapshots"),
            }
        }
        if from <= Ladder::WithoutSnapshots {
            let opened = current().and_then(|dir| {
                remove_snapshots(&dir);
                open_unlocked(&dir)
            });
            match opened {
                Ok(tables) => return Ok((tables, Opened::WithoutSnapshots)),
                // Whoever holds the lock now is the first attempt, which did not come back.
                Err(error) if error.is_disk() => return Err(error),
                Err(error) => tracing::error!(%error, "the catalog is damaged; setting it aside and rebuilding"),
            }
        }
        let mut aside: PathBuf = root.to_owned();
        aside.set_extension("damaged");
        let _ = std::fs::remove_dir_all(&aside);
        std::fs::rename(root, &aside).map_err(|error| StoreError::Open(error.to_string()))?;
        open_in_time(&current()?).map(|tables| (tables, Opened::SetAside))
    }

    /// Makes an empty store in an empty directory.
    ///
    /// # Errors
    /// A full or failing disk.
    pub(super) fn create(dir: &Path) -> Result<Self, StoreError> {
        open_in_time(dir)
    }

    /// Watches the calls into it.
    pub(super) fn watched(&self) -> Arc<Watched> {
        Arc::clone(&self.watched)
    }

    /// The same store, its calls watched by another.
    pub(super) fn watched_by(self, watched: Arc<Watched>) -> Self {
        Self { watched, ..self }
    }

    fn tree(&self, table: Table) -> &sled::Tree {
        &self.trees[table as usize]
    }

    /// Whether it still answers.
    ///
    /// # Errors
    /// It was condemned.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.watched.is_condemned() { Err(StoreError::Condemned) } else { Ok(()) }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// A failing store or a damaged value.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let sealed = guarded(&self.watched, || self.tree(table).get(key))?;
        sealed.map(|sealed| unseal(&self.watched, table, &sealed)).transpose()
    }

    /// Applies changes as one: each sets a key, or removes it.
    ///
    /// # Errors
    /// A failing store.
    pub(super) fn apply<'c>(
        &self,
        table: Table,
        changes: impl IntoIterator<Item = (&'c [u8], Option<&'c [u8]>)>,
    ) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, seal(value)),
                None => batch.remove(key),
            }
        }
        guarded(&self.watched, || self.tree(table).apply_batch(batch))
    }

    /// Keys within the bounds, in order, from either end.
    pub(super) fn range(self: &Arc<Self>, table: Table, bounds: &Bounds) -> Items {
        let iter = self.tree(table).range::<&[u8], _>((as_slice(&bounds.0), as_slice(&bounds.1)));
        Items { iter, table, store: Arc::clone(self), is_over: false }
    }

    /// Hands all buffered changes to the operating system.
    ///
    /// # Errors
    /// A failing store.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        guarded(&self.watched, || self.db.flush()).map(drop)
    }

    /// Bytes on disk.
    pub(super) fn size_on_disk(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

/// A key and its value.
pub(super) type Item = Result<(Vec<u8>, Vec<u8>), StoreError>;

/// Keys and values in order; ends with the first error.
pub(super) struct Items {
    iter: sled::Iter,
    table: Table,
    /// Not closed while it is walked over.
    store: Arc<Store>,
    is_over: bool,
}

impl Items {
    fn step(
        &mut self,
        step: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Option<Item> {
        if self.is_over {
            return None;
        }
        let watched = &self.store.watched;
        let item = guarded(watched, || step(&mut self.iter).transpose()).transpose()?;
        let item = item.and_then(|(key, sealed)| Ok((key.to_vec(), unseal(watched, self.table, &sealed)?)));
        self.is_over = item.is_err();
        Some(item)
    }
}

impl Iterator for Items {
    type Item = Item;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Iterator::next)
    }
}

impl DoubleEndedIterator for Items {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(DoubleEndedIterator::next_back)
    }
}

/// sled's own threads hold its lock a little longer than the one who dropped it: wait for that.
fn open_unlocked(dir: &Path) -> Result<Store, StoreError> {
    let until = Instant::now() + LOCK_TIME_MAX;
    loop {
        match open_in_time(dir) {
            Err(error) if is_locked(&error) && Instant::now() < until => std::thread::park_timeout(LOCK_PAUSE),
            opened => return opened,
        }
    }
}

fn is_locked(error: &StoreError) -> bool {
    matches!(error, StoreError::Sled(sled::Error::Io(io)) if io.to_string().contains("could not acquire lock"))
}

/// Opens on a thread of its own: a damaged file can make sled panic or spin for ever, and neither may take the
/// program with it. A spinning thread is left behind; the directory is then set aside.
fn open_in_time(dir: &Path) -> Result<Store, StoreError> {
    let (send, receive) = mpsc::channel();
    let dir = dir.to_owned();
    let open = move || {
        let opened = std::panic::catch_unwind(|| open_now(&dir));
        let _ = send.send(opened.unwrap_or_else(|_| Err(StoreError::Open("sled panicked".to_owned()))));
    };
    std::thread::Builder::new()
        .name("catalog-open".to_owned())
        .spawn(open)
        .map_err(|error| StoreError::Open(error.to_string()))?;
    receive
        .recv_timeout(OPEN_TIME_MAX)
        .unwrap_or_else(|_| Err(StoreError::Open(format!("not open after {} s", OPEN_TIME_MAX.as_secs()))))
}

fn open_now(dir: &Path) -> Result<Store, StoreError> {
    let db =
        sled::Config::new().path(dir).cache_capacity(PAGE_CACHE_BYTES).flush_every_ms(Some(FLUSH_EVERY_MS)).open()?;
    let [a, b, c, d, e] = Table::ALL.map(|table| db.open_tree(table.name()));
    let trees = [a?, b?, c?, d?, e?];
    Ok(Store { db, trees, watched: Arc::default() })
}

fn remove_snapshots(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Four bytes of CRC-32C, then the value.
fn seal(value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(value.len() + 4);
    sealed.extend_from_slice(&crc32c::crc32c(value).to_le_bytes());
    sealed.extend_from_slice(value);
    sealed
}

/// A value that is not what was stored condemns the store: nothing but a rebuild makes it right.
fn unseal(watched: &Watched, table: Table, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
    match sealed.split_first_chunk::<4>() {
        Some((sum, value)) if u32::from_le_bytes(*sum) == crc32c::crc32c(value) => Ok(value.to_vec()),
        _ => {
            watched.condemn("a value is damaged");
            Err(StoreError::Damaged { table: table.name() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: Bounds = (Bound::Unbounded, Bound::Unbounded);

    #[test]
    fn values_are_checked() {
        let dir = tempfile::tempdir().expect("dir");
        let (tables, opened) = Store::open(dir.path(), Ladder::AsIs, false).expect("open");
        let tables = Arc::new(tables);
        assert_eq!(opened, Opened::AsIs);
        let changes: [(&[u8], Option<&[u8]>); 3] =
            [(b"a1", Some(b"one")), (b"a2", Some(b"two")), (b"b", Some(b"three"))];
        tables.apply(Table::Timelines, changes).expect("apply");
        assert_eq!(tables.get(Table::Timelines, b"a1").expect("get").as_deref(), Some(&b"one"[..]));
        let to_a = (Bound::Included(b"a".to_vec()), Bound::Excluded(b"b".to_vec()));
        let keys: Vec<_> = tables.range(Table::Timelines, &to_a).map(|kv| kv.expect("kv").1).collect();
        assert_eq!(keys, [b"one".to_vec(), b"two".to_vec()]);
        tables.apply(Table::Timelines, [(&b"a2"[..], None)]).expect("apply");
        assert_eq!(tables.get(Table::Timelines, b"a2").expect("get"), None);
        tables.tree(Table::Timelines).insert(b"a1", b"\0\0\0\0one").expect("damage");
        assert!(matches!(tables.get(Table::Timelines, b"a1"), Err(StoreError::Damaged { .. })));
        assert_eq!(tables.watched().reason().as_deref(), Some("a value is damaged"));
        assert!(matches!(tables.get(Table::Timelines, b"b"), Err(StoreError::Condemned)), "no more answers");
        drop(tables);
        // A call that never ends keeps the lock: the directory is set aside all the same.
        let (held, _) = Store::open(dir.path(), Ladder::AsIs, false).expect("open");
        let (tables, opened) = Store::open(dir.path(), Ladder::Aside, true).expect("open");
        assert_eq!(opened, Opened::SetAside);
        assert_eq!(Arc::new(tables).range(Table::Timelines, &EVERYTHING).count(), 0);
        assert!(held.get(Table::Timelines, b"b").expect("still there").is_some());
    }

    /// The usual damage: a snapshot that is empty or cut. All keys come back once it is gone.
    #[test]
    fn a_damaged_snapshot_costs_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        let (tables, _) = Store::open(dir.path(), Ladder::AsIs, false).expect("open");
        for n in 0u32..500 {
            tables.apply(Table::Timelines, [(&n.to_be_bytes()[..], Some(&b"value"[..]))]).expect("put");
        }
        tables.flush().expect("flush");
        drop(tables);
        // sled writes its snapshot when it opens; cut it to nothing.
        let store = generations::current(dir.path()).expect("directory");
        drop(open_now(&store).expect("reopen"));
        let mut n_cut = 0;
        for entry in std::fs::read_dir(store).expect("list").flatten() {
            if entry.file_name().to_string_lossy().starts_with("snap.") {
                std::fs::write(entry.path(), b"").expect("cut");
                n_cut += 1;
            }
        }
        assert!(n_cut > 0, "no snapshot to damage");
        let (tables, opened) = Store::open(dir.path(), Ladder::AsIs, false).expect("open");
        assert_eq!(opened, Opened::WithoutSnapshots);
        assert_eq!(Arc::new(tables).range(Table::Timelines, &EVERYTHING).count(), 500);
    }
}
