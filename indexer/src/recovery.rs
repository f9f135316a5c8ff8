//! Looks after the stores while they run: a disk that is full or fails, a catalog or a cache index that is damaged.
//! Composes them like [`crate::run`]; decides nothing about what is stored.
//!
//! Every half second:
//! 1. the disk is looked at; what it says pauses rendering ahead and refuses events, elsewhere;
//! 2. a store with a call that does not return is condemned; so is one that panicked or said that it is damaged, by
//!    whoever noticed;
//! 3. a condemned store, and one whose writes failed on a disk that takes writes again, is closed and opened anew,
//!    down the recovery ladder: the catalog as it is, then without its snapshots, then empty; the cache index as it
//!    condemned itself. One clear line says so;
//! 4. what is missing comes back from the journal and from the volumes while requests are answered from what is there;
//!    so it does after a start without a catalog.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cache::{CacheConfig, DiskCache};
use crate::catalog::{Catalog, CatalogError, Ladder, Opened};
use crate::clock::Clock;
use crate::disk::{Disk, DiskState};
use crate::live::Live;
use crate::maintain::{Chore, Chores, Report};
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::run::{incarnation, rebuild_cache};
use crate::threads::Threads;
use crate::watched::Watched;

/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A call into a store that takes longer never ends: they take milliseconds, seconds behind a slow disk, which is
/// looked at first.
const CALL_MAX: Duration = Duration::from_secs(10);

/// The parts that are looked after.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) catalog: Arc<Live<Catalog>>,
    pub(crate) catalog_dir: PathBuf,
    pub(crate) seam_ms: i64,
    pub(crate) cache: Arc<Live<DiskCache>>,
    pub(crate) cache_dir: PathBuf,
    pub(crate) cache_config: CacheConfig,
    pub(crate) disk: Arc<Disk>,
    pub(crate) pipeline: Pipeline,
    /// Pools of which a call that never ends has taken a thread.
    pub(crate) threads: [Arc<Threads>; 2],
    /// Whether somebody wants all that is derived made anew.
    pub(crate) rebuild: Arc<AtomicBool>,
    pub(crate) chores: Arc<Chores>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
}

/// Why a store has to be opened anew.
#[derive(Debug, thiserror::Error)]
enum Ailment {
    #[error("it is damaged: {0}")]
    Condemned(String),
    #[error("writing to it failed, and the disk takes writes again")]
    DiskFailed,
    #[error("a rebuild was asked for")]
    Asked,
}

impl Recovery {
    /// Looks until it is dropped. `needs_cache`: what the cache index has is to be compared with the catalog anew.
    pub(crate) async fn run(self, mut needs_cache: bool) {
        let mut ladder = Ladder::AsIs;
        loop {
            self.look_at_disk().await;
            if let Some(ailment) = self.catalog_ailment().await {
                needs_cache |= self.recover_catalog(&ailment, &mut ladder).await;
            }
            if self.catalog.is_partial() && self.fill_catalog().await && std::mem::take(&mut needs_cache) {
                self.rebuild_cache().await;
            }
            let cache = self.cache.get();
            let ailment = self.ailment(cache.as_deref().map(DiskCache::watched)).await;
            drop(cache);
            if let Some(ailment) = ailment {
                self.recover_cache(&ailment).await;
            }
            if self.rebuild.swap(false, Ordering::AcqRel) {
                self.recover_catalog(&Ailment::Asked, &mut ladder).await;
                let is_whole = self.fill_catalog().await;
                self.recover_cache(&Ailment::Asked).await;
                let result = if is_whole { Ok(Report::default()) } else { Err("see the log".to_owned()) };
                self.chores.end(Chore::Rebuild, result);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look_at_disk(&self) {
        let disk = Arc::clone(&self.disk);
        let changed = tokio::task::spawn_blocking(move || disk.look()).await.ok().flatten();
        match changed {
            Some(DiskState::Well) => tracing::info!("the disk takes writes again"),
            Some(state) => tracing::error!(
                state = state.name(),
                free_bytes = self.disk.free_bytes(),
                "the disk is not well: events are refused, deletes are taken, nothing is rendered ahead"
            ),
            None => {}
        }
    }

    async fn catalog_ailment(&self) -> Option<Ailment> {
        // Whoever looks at a store must let go of it before it can be closed.
        let catalog = self.catalog.get();
        self.ailment(catalog.as_deref().map(Catalog::watched)).await
    }

    async fn ailment(&self, watched: Option<&Watched>) -> Option<Ailment> {
        let watched = watched?;
        if watched.longest() > CALL_MAX {
            // A disk that stands still is not a store that does: this look waits as long as the disk does.
            self.disk.suspect();
            self.look_at_disk().await;
            if watched.longest() > CALL_MAX && watched.condemn("a call did not return") {
                // It has taken a thread with it.
                self.threads.iter().for_each(|threads| threads.add());
            }
        }
        if watched.is_condemned() {
            return Some(Ailment::Condemned(watched.reason().unwrap_or_default()));
        }
        (watched.has_disk_failed() && self.disk.takes_little()).then_some(Ailment::DiskFailed)
    }

    /// Opens the catalog anew, which is partial then. `ladder` is where a condemned one begins: further down each time.
    /// Whether it is a new one, which may have forgotten deletes whose pictures were still to be removed.
    async fn recover_catalog(&self, ailment: &Ailment, ladder: &mut Ladder) -> bool {
        let from = match ailment {
            Ailment::DiskFailed => Ladder::AsIs,
            Ailment::Asked => Ladder::Aside,
            Ailment::Condemned(_) => match *ladder {
                Ladder::AsIs => Ladder::WithoutSnapshots,
                _ => Ladder::Aside,
            },
        };
        tracing::error!(why = %ailment, ?from, "the catalog is closed and opened anew; what it lacks comes from the journal");
        self.catalog.set_partial(true);
        self.metrics.recovery("catalog");
        // One that cannot be closed keeps its lock and is set aside under its feet.
        let from = if self.catalog.close().await { from } else { Ladder::Aside };
        let opened = loop {
            match self.reopen_catalog(from).await {
                Ok(opened) => break opened,
                Err(error) => {
                    tracing::error!(%error, "the catalog cannot be opened anew; tried again");
                    self.look_at_disk().await;
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        };
        if matches!(ailment, Ailment::Condemned(_)) {
            *ladder = from;
        }
        opened == Opened::SetAside
    }

    /// Applies what the journal has and the catalog lacks; false: not all of it, and it is to be tried again. Damage that
    /// shows meanwhile ends it: what is damaged may never come to an end by itself.
    async fn fill_catalog(&self) -> bool {
        let filling = self.pipeline.catch_up();
        tokio::pin!(filling);
        let filled = loop {
            tokio::select! {
                filled = &mut filling => break filled,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    self.look_at_disk().await;
                    if self.catalog_ailment().await.is_some() {
                        return false;
                    }
                }
            }
        };
        match filled {
            Ok(replayed) => {
                self.catalog.set_partial(false);
                tracing::info!(?replayed, "the catalog is whole");
                true
            }
            Err(error) => {
                tracing::error!(%error, "the catalog could not be filled from the journal; tried again");
                false
            }
        }
    }

    async fn reopen_catalog(&self, from: Ladder) -> Result<Opened, CatalogError> {
        let (dir, seam_ms, incarnation) = (self.catalog_dir.clone(), self.seam_ms, incarnation(&self.clock));
        let open = move || Catalog::reopen(&dir, seam_ms, &incarnation, from);
        let opened = tokio::task::spawn_blocking(open).await;
        let (catalog, opened) = opened.map_err(|error| CatalogError::Open(error.to_string()))??;
        self.catalog.put(catalog);
        Ok(opened)
    }

    async fn recover_cache(&self, ailment: &Ailment) {
        tracing::error!(why = %ailment, "the cache index is closed and opened anew; what it lacks comes from the volumes");
        if let (Ailment::Asked, Some(cache)) = (ailment, self.cache.get()) {
            cache.condemn_index();
        }
        self.metrics.recovery("cache");
        self.cache.close().await;
        loop {
            let (dir, config) = (self.cache_dir.clone(), self.cache_config.clone());
            match tokio::task::spawn_blocking(move || DiskCache::open(&dir, config)).await {
                Ok(Ok((cache, report))) => {
                    self.cache.put(cache);
                    tracing::info!(?report, "the disk cache is open again");
                    if report.needs_rebuild {
                        self.rebuild_cache().await;
                    }
                    return;
                }
                Ok(Err(error)) => tracing::error!(%error, "the disk cache cannot be opened anew; tried again"),
                Err(error) => tracing::error!(%error, "the disk cache cannot be opened anew; tried again"),
            }
            self.look_at_disk().await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn rebuild_cache(&self) {
        let (cache, catalog) = (self.cache.get(), self.catalog.get());
        let Some((cache, catalog)) = cache.zip(catalog).filter(|_| !self.catalog.is_partial()) else { return };
        let rebuilt = tokio::task::spawn_blocking(move || rebuild_cache(&cache, &catalog)).await;
        if let Ok(Err(error)) = rebuilt {
            tracing::error!(%error, "the cache index could not be rebuilt");
        }
    }
}
