//! The composition root of everything behind the HTTP: builds the parts from the configuration, starts and stops them.
//!
//! Both programs use it: the origin serves on top of it, the indexer runs it alone.

mod by_url;

use std::hash::{BuildHasher, RandomState};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stills_model::thumb::ThumbKey;
use stills_model::wire::SCANNED_LEN_MAX;
use thiserror::Error;
use tokio::task::JoinSet;

use crate::cache::{CacheConfig, CacheError, DiskCache};
use crate::catalog::{Catalog, CatalogError, RowCursor};
use crate::clips::{self, Clips};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::media::MediaRead;
use crate::config::pictures::PrerenderInterval;
use crate::data_dir::{DataDir, DataDirError};
use crate::decode::{DecodeConfig, DecodePool, StartError};
use crate::disk::{Disk, DiskState};
use crate::images::{self, Images};
use crate::jobs::{Envelope, JobError, Jobs};
use crate::journal::{Journal, JournalConfig, JournalError};
use crate::live::Live;
use crate::maintain::{Chore, Chores, Failure, Failures, Status, check, remote};
use crate::metrics::Metrics;
use crate::pipeline::{self, Anchors, Pipeline, PipelineConfig, PrerenderConfig, SubmitError};
use crate::recovery::Recovery;
use crate::source::client::Client;
use crate::source::credentials::Credentials;
use crate::source::guard::Guard;
use crate::source::policy::{MediaPolicy, PolicyConfig};
use crate::source::{RemoteConfig, Source};
use crate::threads::Threads;
use crate::thumbs::{self, ThumbError, Thumbs};
use crate::uploads::{UploadError, Uploads};

/// Calls to the stores that may wait for a thread.
const STORE_CALLS_MAX: usize = 4096;

/// Threads for images that people put, and calls that may wait for one.
const UPLOAD_THREADS: usize = 4;
const UPLOAD_CALLS_MAX: usize = 1024;

/// Reads of media that may wait for a thread.
const MEDIA_READS_MAX: usize = 1024;

/// The parts could not be started.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each variant is the part that failed")]
pub enum RunError {
    #[error(transparent)]
    Data(#[from] DataDirError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Uploads(#[from] UploadError),
    #[error("{0}")]
    Images(String),
    #[error("the decoder could not be started: {0}")]
    Decoder(#[from] StartError),
    #[error("the pipeline could not be started: {0}")]
    Pipeline(#[from] SubmitError),
    #[error("threads could not be started: {0}")]
    Threads(#[from] std::io::Error),
    #[error("jobs could not be taken up: {0}")]
    Jobs(#[from] JobError),
    #[error("the media policy is wrong: {0}")]
    Policy(String),
    #[error("{0}")]
    Credentials(String),
    #[error("media over the network could not be set up: {0}")]
    Network(std::io::Error),
}

/// Everything that runs behind the HTTP.
#[derive(Debug)]
pub struct Engine {
    /// The read path.
    pub thumbs: Thumbs,
    /// The write path.
    pub pipeline: Pipeline,
    /// Pictures of media that callers name by URL.
    pub clips: Clips,
    /// Pictures that are made as jobs.
    pub jobs: Jobs,
    /// Images that people put.
    pub images: Images,
    /// Which media may be read for whom.
    pub policy: Arc<MediaPolicy>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// Recordings this close are one coverage, in milliseconds.
    pub seam_ms: i64,
    source: Source,
    cache: Arc<Live<DiskCache>>,
    catalog: Arc<Live<Catalog>>,
    disk: Arc<Disk>,
    rebuild: Arc<AtomicBool>,
    chores: Arc<Chores>,
    pool: Arc<DecodePool>,
    tasks: JoinSet<()>,
    /// Held for as long as the engine runs.
    data: DataDir,
}

fn policy(config: &Config) -> Result<MediaPolicy, RunError> {
    let roots = config.media.roots.iter().map(|root| root.as_str().to_owned()).collect();
    let allow_urls = config.media.allow_urls.iter().map(|pattern| pattern.as_str().to_owned()).collect();
    MediaPolicy::new(PolicyConfig { roots, allow_urls }).map_err(|faults| RunError::Policy(faults.join("; ")))
}

/// What the credentials of a configuration are good for; nothing is asked of the network.
///
/// # Errors
/// [`RunError::Credentials`] names those that cannot be used.
pub fn credentials(config: &Config) -> Result<Credentials, RunError> {
    Credentials::new(&config.credentials).map_err(|faults| RunError::Credentials(faults.join("; ")))
}

fn remote_config(config: &Config, whole_dir: PathBuf) -> Result<RemoteConfig, RunError> {
    let allow_networks = config.media.allow_networks.iter().map(|network| network.0).collect();
    Ok(RemoteConfig {
        client: Client::new(Guard::new(allow_networks)).map_err(RunError::Network)?,
        credentials: credentials(config)?,
        is_whole: config.media.read == MediaRead::Whole,
        whole_dir,
        whole_bytes_max: config.media.whole_bytes_max,
    })
}

fn pipeline_config(config: &Config) -> PipelineConfig {
    let anchors = match config.prerender.interval {
        PrerenderInterval::Off => Anchors::Off,
        PrerenderInterval::EveryKeyframe => Anchors::EveryKeyframe,
        PrerenderInterval::Every(interval) => Anchors::Every(i64::try_from(interval.as_millis()).unwrap_or(i64::MAX)),
    };
    PipelineConfig {
        running_max: config.decoders.running_max,
        growing_idle: config.media.growing_idle,
        retention_days: config.retention.days.unwrap_or(0),
        prerender: PrerenderConfig {
            anchors,
            renditions: config.prerender.renditions.clone(),
            policy: config.prerender.policy,
            users: config.prerender.users.clone(),
        },
    }
}

/// The path of images that people put.
async fn images(config: &Config, data: &DataDir, disk: &Arc<Disk>, pool: &Arc<DecodePool>) -> Result<Images, RunError> {
    let uploads = Uploads::open(&data.uploads().join("images"), config.images.max_bytes)?;
    tracing::info!(stats = ?uploads.stats(), "the images are open");
    let parts = images::Parts {
        uploads,
        disk: Arc::clone(disk),
        pool: Arc::clone(pool),
        running_max: config.decoders.running_max.div_ceil(2),
        threads: Threads::start("uploads", UPLOAD_THREADS, UPLOAD_CALLS_MAX)?,
        pixels_max: config.images.pixels_max,
        derived_bytes: config.images.hot_bytes,
    };
    Images::new(parts, &config.images.defaults).await.map_err(RunError::Images)
}

/// Eight hexadecimal digits that no other store has had: what epochs begin with.
pub(crate) fn incarnation(clock: &Clock) -> String {
    let random = RandomState::new().hash_one(clock.now().as_ms());
    format!("{:08x}", random >> 32)
}

/// An entry takes the longest scan result: a day in which every picture is a keyframe.
pub(crate) fn journal_config() -> JournalConfig {
    let payload_max = u32::try_from(SCANNED_LEN_MAX + 4096).unwrap_or(u32::MAX);
    JournalConfig { payload_bytes_max: payload_max, ..JournalConfig::default() }
}

pub(crate) fn cache_config(config: &Config) -> CacheConfig {
    CacheConfig { max_bytes: config.cache.max_bytes, volume_bytes: config.cache.volume_bytes, ..CacheConfig::default() }
}

/// Finds again what the volumes hold and a lost index does not, except what was deleted. The catalog is up to date.
pub(crate) fn rebuild_cache(cache: &DiskCache, catalog: &Catalog) -> Result<(), RunError> {
    tracing::warn!("the cache index is rebuilt from the volumes");
    let is_shown = |key: &ThumbKey| catalog.is_media_shown(&key.timeline, &key.media).unwrap_or(false);
    let report = cache.rebuild(is_shown)?;
    tracing::info!(?report, "the cache index is rebuilt");
    Ok(())
}

impl Engine {
    /// Builds and starts everything. The configuration is valid; what can still fail is the machine.
    ///
    /// # Errors
    /// [`RunError`] names the part.
    pub async fn start(config: &Config, clock: Clock, version: &'static str) -> Result<Self, RunError> {
        let metrics = Arc::new(Metrics::new(version));
        let data = DataDir::open(&config.data.dir)?;
        if data.has_lost_power() {
            tracing::warn!("the power went while the data was in use; what is derived is made anew from the journal");
            data.set_derived_aside()?;
        }
        data.note_in_use()?;
        let disk = Arc::new(Disk::new(data.root(), config.data.free_min));
        let (journal, report) = Journal::open(&data.journal(), journal_config())?;
        tracing::info!(?report, "the journal is open");
        let seam_ms = i64::try_from(config.coverage.seam_max.as_millis()).unwrap_or(i64::MAX);
        let (catalog, opened) = Catalog::open(&data.catalog(), seam_ms, &incarnation(&clock))?;
        tracing::info!(?opened, "the catalog is open");
        // An empty catalog beside a full cache has forgotten deletes whose pictures may still be there.
        let is_new = catalog.checkpoint()?.is_none();
        let is_to_be_filled = is_new && journal.stats().bytes > 0;
        let catalog = Arc::new(Live::new(catalog));
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = Arc::new(Threads::start("store", cores.max(2) * 2, STORE_CALLS_MAX)?);
        // Writers wait for each other and for large deletes; look-ups must not wait for them.
        let writes = Arc::new(Threads::start("catalog-write", cores.max(2), STORE_CALLS_MAX)?);
        let reads = Arc::new(Threads::start("media", cores.max(2) * 2, MEDIA_READS_MAX)?);
        let policy = Arc::new(policy(config)?);
        let remote = remote_config(config, data.root().join("tmp"))?;
        let source = Source::new(Arc::clone(&policy), Arc::clone(&reads), remote).map_err(RunError::Network)?;
        let pool = DecodePool::start(decode_config(config)?).await?;
        let parts = clips::Parts {
            fetch: by_url::fetch(config, reads)?,
            pool: Arc::clone(&pool),
            metrics: Arc::clone(&metrics),
        };
        let clips = Clips::new(parts, by_url::clips_config(config));
        let images = images(config, &data, &disk, &pool).await?;
        let (cache, report) = DiskCache::open(&data.cache(), cache_config(config))?;
        tracing::info!(?report, "the disk cache is open");
        let cache = Arc::new(Live::new(cache));
        let thumbs = Thumbs::new(thumbs::Parts {
            catalog: Arc::clone(&catalog),
            cache: Arc::clone(&cache),
            disk: Arc::clone(&disk),
            pool: Arc::clone(&pool),
            source: source.clone(),
            threads: Arc::clone(&threads),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            hot_bytes: config.cache.hot_bytes,
            prerendered: config.prerender.renditions.clone(),
        });
        let chores = Arc::new(Chores::default());
        let parts = pipeline::Parts {
            journal: Arc::new(journal),
            catalog: Arc::clone(&catalog),
            disk: Arc::clone(&disk),
            thumbs: thumbs.clone(),
            pool: Arc::clone(&pool),
            source: source.clone(),
            threads: Arc::clone(&writes),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            chores: Arc::clone(&chores),
        };
        let pipeline = Pipeline::new(parts, pipeline_config(config));
        let needs_cache = report.needs_rebuild || (is_new && report.volumes > 0);
        if is_to_be_filled {
            // All of the journal is to be read: beside a server that answers, which begins with saying so.
            catalog.set_partial(true);
        } else {
            let replayed = pipeline.catch_up().await?;
            tracing::info!(?replayed, backlog = pipeline.backlog(), "the pipeline is open");
            if needs_cache {
                let (cache, catalog) = (cache.get(), catalog.get());
                cache.zip(catalog).map_or(Ok(()), |(cache, catalog)| rebuild_cache(&cache, &catalog))?;
            }
        }
        let jobs = by_url::jobs(config, &data, &clips, &clock, &metrics)?;
        let mut tasks = JoinSet::new();
        pipeline.start(&mut tasks);
        let rebuild = Arc::new(AtomicBool::new(false));
        let recovery = Recovery {
            catalog: Arc::clone(&catalog),
            catalog_dir: data.catalog(),
            seam_ms,
            cache: Arc::clone(&cache),
            cache_dir: data.cache(),
            cache_config: cache_config(config),
            disk: Arc::clone(&disk),
            pipeline: pipeline.clone(),
            threads: [threads, writes],
            rebuild: Arc::clone(&rebuild),
            chores: Arc::clone(&chores),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
        };
        tasks.spawn(recovery.run(is_to_be_filled && needs_cache));
        Ok(Self {
            thumbs,
            pipeline,
            clips,
            images,
            jobs,
            policy,
            metrics,
            clock,
            seam_ms,
            source,
            cache,
            catalog,
            disk,
            rebuild,
            chores,
            pool,
            tasks,
            data,
        })
    }

    /// Starts the work at jobs, which are told to their receivers as `envelope` says.
    pub fn start_jobs(&mut self, envelope: Envelope) {
        self.jobs.start(&mut self.tasks, envelope);
    }

    /// Takes the credentials of a configuration that was read again; faulty ones change nothing.
    ///
    /// # Errors
    /// [`RunError::Credentials`] names them.
    pub fn set_credentials(&self, config: &Config) -> Result<(), RunError> {
        let (for_recordings, for_clips) = (credentials(config)?, credentials(config)?);
        self.source.set_credentials(for_recordings);
        self.clips.set_credentials(for_clips);
        Ok(())
    }

    /// How the disk of the data directory is.
    pub fn disk_state(&self) -> DiskState {
        self.disk.state()
    }

    /// Has the catalog closed and opened anew, as when it were found damaged: for whoever notices what the watch over
    /// its calls cannot.
    pub fn condemn_catalog(&self, reason: &str) {
        if let Some(catalog) = self.catalog.get() {
            catalog.watched().condemn(reason);
        }
    }

    /// The same for the cache index.
    pub fn condemn_cache_index(&self) {
        if let Some(cache) = self.cache.get() {
            cache.condemn_index();
        }
    }

    /// Whether the catalog lacks what is still being put into it again.
    pub fn is_rebuilding(&self) -> bool {
        self.catalog.is_partial()
    }

    /// Copies what the parts count into the metrics, before they are read.
    pub fn measure(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        let (metrics, decoders) = (&self.metrics, self.pool.counters());
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.decoder_running.set(gauge(decoders.running.load(Relaxed)));
        metrics.decoder_queued.set(gauge(decoders.queued.load(Relaxed)));
        metrics.pipeline_backlog.set(gauge(self.pipeline.backlog() as u64));
        let images = self.images.stats();
        metrics.images.set(images.count as u64);
        metrics.images_bytes.set(images.bytes);
        let raise = |counter: &prometheus_client::metrics::counter::Counter, total: u64| {
            counter.inc_by(total.saturating_sub(counter.get()));
        };
        metrics.disk_free.set(self.disk.free_bytes());
        metrics.disk_well.set(self.disk.is_well().into());
        metrics.catalog_whole.set((!self.catalog.is_partial()).into());
        let cache = self.cache.get().map(|cache| cache.stats()).unwrap_or_default();
        metrics.cache_bytes.set(cache.bytes);
        let now = self.clock.now();
        metrics.cache_oldest_age.set(cache.oldest.map_or(0, |oldest| now.since_ms(oldest).max(0) / 1000));
        raise(&metrics.cache_evicted, cache.evicted_pictures);
        raise(&metrics.cache_evicted_unread, cache.evicted_unread);
        raise(&metrics.cache_copied, cache.copied_pictures);
        raise(&metrics.decoder_crashes, decoders.crashes.load(Relaxed));
        raise(&metrics.decoder_deadlines, decoders.deadline_kills.load(Relaxed));
        self.jobs.measure();
        let journal = self.pipeline.journal_stats();
        metrics.journal_bytes.set(journal.bytes);
        raise(&metrics.journal_entries, journal.entries);
        raise(&metrics.journal_syncs, journal.syncs);
        raise(&metrics.journal_sync_failures, journal.sync_failures);
    }

    /// Says in the data directory where the admin listener is, so that commands find it.
    pub fn note_admin(&self, address: std::net::SocketAddr) {
        let path = self.data.root().join(remote::ADDRESS_FILE);
        if let Err(error) = std::fs::write(&path, address.to_string()) {
            tracing::warn!(%error, "commands will not find this server");
        }
    }

    /// How far the chore is that runs, or how the last one ended.
    pub fn chore(&self) -> Status {
        self.chores.status()
    }

    /// Begins a chore; none: another one is under way. A rebuild makes catalog and cache index anew from journal and
    /// volumes while requests are answered from what is there.
    pub fn begin(&self, chore: Chore) -> Option<Status> {
        if !self.chores.begin(chore) {
            return None;
        }
        match chore {
            Chore::Rebuild => {
                self.catalog.set_partial(true);
                self.rebuild.store(true, Ordering::Release);
            }
            Chore::Check => {
                let (catalog, cache, chores) = (self.catalog.get(), self.cache.get(), Arc::clone(&self.chores));
                let journal = Arc::clone(self.pipeline.journal());
                // As long as it takes to read everything, and one at a time.
                tokio::task::spawn_blocking(move || {
                    let stores = catalog.zip(cache).ok_or_else(|| "a store is being opened".to_owned());
                    let found =
                        stores.and_then(|(catalog, cache)| check::check(&journal, &catalog, &cache, &chores.tally));
                    chores.end(chore, found);
                });
            }
        }
        Some(self.chores.status())
    }

    /// Some recordings that were set aside, from where an earlier call said to go on (empty: the beginning); with
    /// `is_retry` they are scanned again. None: that is not such a place.
    ///
    /// # Errors
    /// [`ThumbError`] when the catalog cannot answer.
    pub async fn failures(&self, from: &str, is_retry: bool) -> Result<Option<Failures>, ThumbError> {
        let Some(from) = unhex(from) else { return Ok(None) };
        let (found, next) = self.thumbs.ask(move |catalog| catalog.set_aside(&RowCursor(from))).await?;
        for set_aside in found.iter().filter(|_| is_retry) {
            let retried = self.pipeline.retry(set_aside.timeline, set_aside.recording.clone()).await;
            retried.map_err(|error| ThumbError::Store(error.to_string()))?;
        }
        let next = next.map(|RowCursor(key)| key.iter().map(|byte| format!("{byte:02x}")).collect());
        Ok(Some(Failures { failures: found.iter().map(Failure::of).collect(), next }))
    }

    /// Stops: work in progress is left where it can go on, state is flushed.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.pipeline.checkpoint().await;
        if let Some(Err(error)) = self.cache.get().map(|cache| cache.sync()) {
            tracing::warn!(%error, "the disk cache could not be flushed");
        }
        // Nobody writes to what is closed; what cannot be closed may still be written to.
        let are_closed = self.catalog.close().await & self.cache.close().await;
        if let Some(Err(error)) = are_closed.then(|| self.data.note_stopped()) {
            tracing::warn!(%error, "what is derived is not on the disk; after a power cut it would be made anew");
        }
        // It need not be there.
        let _ = std::fs::remove_file(self.data.root().join(remote::ADDRESS_FILE));
    }
}

fn decode_config(config: &Config) -> Result<DecodeConfig, RunError> {
    let decoders = &config.decoders;
    Ok(DecodeConfig {
        program: decoders.program_path()?,
        running_max: decoders.running_max,
        queued_max: decoders.queued_max,
        deadline: decoders.deadline,
        scan_deadline: decoders.scan_deadline,
        exact_deadline: decoders.exact_deadline,
        exact_frames_max: decoders.exact_frames_max,
        memory_max_bytes: decoders.memory_max,
    })
}

/// Undoes two hexadecimal digits a byte.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes().chunks(2);
    bytes
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
        .collect()
}
