//! The files of a place as they are found, ahead of whoever takes them by a bounded number: a folder is walked on a
//! thread, an object store listed by a task. And how many there are, as far as that is known.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use futures_util::StreamExt;
use stills_model::fault::Fault;
use tokio::sync::mpsc;

use super::place::{Place, PlaceKind};
use super::post::BATCH_MAX;
use super::walk::{self, Order, Seen, Unreadable, Walk};
use crate::config::Config;
use crate::source::client::Client;
use crate::source::credentials::Credentials;
use crate::source::guard::Guard;
use crate::source::listing;

/// Files that are seen ahead of what is sent.
const SEEN_AHEAD_MAX: usize = 2 * BATCH_MAX;

/// One file, a place in the place that cannot be read, or what ends the listing before its end.
pub type Found = Result<Result<Seen, Unreadable>, Fault>;

/// Reaches object stores: what `[media]` and `[credentials]` let it.
#[derive(Debug, Clone)]
pub struct Stores {
    client: Client,
    credentials: Arc<Credentials>,
}

impl Stores {
    /// As the origin reads them.
    ///
    /// # Errors
    /// In words: credentials that cannot be used, or the system's certificates.
    pub fn new(config: &Config) -> Result<Self, String> {
        let allow_networks = config.media.allow_networks.iter().map(|network| network.0).collect();
        let client = Client::new(Guard::new(allow_networks)).map_err(|error| error.to_string())?;
        let credentials = Credentials::new(&config.credentials).map_err(|faults| faults.join("; "))?;
        Ok(Self { client, credentials: Arc::new(credentials) })
    }

    /// Goes through a place behind `after`; it ends when nobody listens any more.
    ///
    /// # Errors
    /// A store that cannot be asked.
    pub fn seek(
        &self,
        place: &Place,
        order: Order,
        after: Option<PathBuf>,
        total: &Total,
    ) -> Result<mpsc::Receiver<Found>, Fault> {
        let (sender, receiver) = mpsc::channel(SEEN_AHEAD_MAX);
        match &place.kind {
            PlaceKind::Folder(root) => {
                let root = root.clone();
                std::thread::spawn(move || {
                    for seen in Walk::new(&root, order, after.as_deref()) {
                        if sender.blocking_send(Ok(seen)).is_err() {
                            return;
                        }
                    }
                });
            }
            PlaceKind::Store(url) => {
                let after = after.as_ref().map(|after| after.to_string_lossy());
                let mut listed = listing::list(&self.client, &self.credentials, url, after.as_deref())?;
                let total = total.clone();
                tokio::spawn(async move {
                    while let Some(object) = listed.next().await {
                        total.n_files.fetch_add(u64::from(object.is_ok()), Relaxed);
                        let seen = object.map(|object| {
                            let modified_ns = object.modified_ms.saturating_mul(1_000_000);
                            Ok(Seen { path: object.key.into(), size: object.size, modified_ns })
                        });
                        let is_last = seen.is_err();
                        if sender.send(seen).await.is_err() || is_last {
                            return;
                        }
                    }
                    total.n_uncounted.fetch_sub(1, Relaxed);
                });
            }
        }
        Ok(receiver)
    }
}

/// How many files there are. Folders are counted on a thread while they are walked; counting a store would cost as
/// much as listing it, so what is listed counts.
#[derive(Debug, Clone, Default)]
pub struct Total {
    n_files: Arc<AtomicU64>,
    n_uncounted: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Total {
    /// Begins to count.
    ///
    /// # Errors
    /// No thread.
    pub fn count(places: &[Place]) -> io::Result<Self> {
        let total = Self::default();
        total.n_uncounted.store(places.len(), Relaxed);
        let folder = |place: &Place| match &place.kind {
            PlaceKind::Folder(root) => Some(root.clone()),
            PlaceKind::Store(_) => None,
        };
        let roots: Vec<PathBuf> = places.iter().filter_map(folder).collect();
        let counting = total.clone();
        std::thread::Builder::new().name("count".to_owned()).spawn(move || {
            for root in roots {
                counting.folder(&root);
            }
        })?;
        Ok(total)
    }

    fn folder(&self, root: &Path) {
        let mut before = 0;
        walk::count(root, |n| {
            self.n_files.fetch_add(n - before, Relaxed);
            before = n;
            !self.is_over.load(Relaxed)
        });
        self.n_uncounted.fetch_sub(1, Relaxed);
    }

    /// Files of a store that an earlier run has dealt with, which are not listed again.
    pub fn add(&self, n_files: u64) {
        self.n_files.fetch_add(n_files, Relaxed);
    }

    /// How many, and whether that is all.
    pub fn look(&self) -> (u64, bool) {
        (self.n_files.load(Relaxed), self.n_uncounted.load(Relaxed) == 0)
    }

    /// Nobody wants to know any more.
    pub fn end(&self) {
        self.is_over.store(true, Relaxed);
    }
}
