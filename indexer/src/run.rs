//! The composition root of everything behind the HTTP: builds the parts from the configuration, starts and stops them.
//!
//! Both programs use it: the origin serves on top of it, the indexer runs it alone.

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
use crate::catalog::{Catalog, CatalogError};
use crate::clips::{self, Clips, ClipsConfig};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::media::MediaRead;
use crate::config::pictures::PrerenderInterval;
use crate::data_dir::{DataDir, DataDirError};
use crate::decode::{DecodeConfig, DecodePool, StartError};
use crate::disk::{Disk, DiskState};
use crate::images::{self, Images};
use crate::jobs::webhook::Webhooks;
use crate::jobs::{self, Envelope, JobError, Jobs, JobsConfig};
use crate::journal::{Journal, JournalConfig, JournalError};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::pipeline::{self, Anchors, Pipeline, PipelineConfig, PrerenderConfig, SubmitError};
use crate::recovery::Recovery;
use crate::source::client::{Client, Pace};
use crate::source::credentials::Credentials;
use crate::source::fetch::Fetch;
use crate::source::guard::Guard;
use crate::source::policy::{MediaPolicy, PolicyConfig};
use crate::source::{RemoteConfig, Source};
use crate::threads::Threads;
use crate::thumbs::{self, Thumbs};
use crate::uploads::{UploadError, Uploads};

/// Calls to the stores that may wait for a thread.
const STORE_CALLS_MAX: usize = 4096;

/// Threads for images that people put, and calls that may wait for one.
const UPLOAD_THREADS: usize = 4;
const UPLOAD_CALLS_MAX: usize = 1024;

/// Reads of media that may wait for a thread.
const MEDIA_READS_MAX: usize = 1024;

/// Threads for the results of jobs, which are written and read whole.
const JOB_THREADS: usize = 2;

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
    pool: Arc<DecodePool>,
    tasks: JoinSet<()>,
    /// Held for as long as the engine runs.
    _data: DataDir,
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

fn fetch_policy(config: &Config) -> Result<MediaPolicy, RunError> {
    let allow_urls = config.fetch.allow_urls.iter().map(|pattern| pattern.as_str().to_owned()).collect();
    MediaPolicy::of_fetch(allow_urls).map_err(|faults| RunError::Policy(faults.join("; ")))
}

/// Reads what callers name: rules, networks and pace of `[fetch]`, never those of `[media]`.
fn fetch(config: &Config, threads: Arc<Threads>) -> Result<Fetch, RunError> {
    let policy = fetch_policy(config)?;
    let guard = Guard::new(config.fetch.allow_networks.iter().map(|network| network.0).collect());
    let pace = Pace { rate_min: config.fetch.rate_min, ..Pace::default() };
    let client = Client::paced(guard, pace).map_err(RunError::Network)?;
    Ok(Fetch::new(policy, client, credentials(config)?, threads))
}

fn clips_config(config: &Config) -> ClipsConfig {
    let fetch = &config.fetch;
    ClipsConfig {
        bytes_max: fetch.bytes_max,
        deadline: fetch.deadline,
        running_max: fetch.running_max,
        index_bytes_max: fetch.index_bytes_max,
    }
}

/// Jobs of this data directory, with a journal, threads and a client of their own.
fn jobs(
    config: &Config,
    data: &DataDir,
    clips: &Clips,
    clock: &Clock,
    metrics: &Arc<Metrics>,
) -> Result<Jobs, RunError> {
    // Nothing of a job makes room on a full disk.
    let journal_config = JournalConfig { reserve_bytes: 0, ..JournalConfig::default() };
    let (journal, report) = Journal::open(&data.jobs().join("journal"), journal_config)?;
    tracing::info!(?report, "the journal of jobs is open");
    let guard = Guard::new(config.fetch.allow_networks.iter().map(|network| network.0).collect());
    let client = Client::new(guard).map_err(RunError::Network)?;
    let webhooks = Webhooks::new(fetch_policy(config)?, client, config.jobs.webhook_secrets.clone());
    let threads = Threads::start("jobs", JOB_THREADS, STORE_CALLS_MAX)?;
    let (clips, clock, metrics) = (clips.clone(), clock.clone(), Arc::clone(metrics));
    let parts = jobs::Parts { journal, clips, webhooks, threads, clock, metrics };
    let jobs = &config.jobs;
    let config = JobsConfig { result_retention: jobs.result_retention, running_max: jobs.running_max };
    Ok(Jobs::open(parts, config, &data.jobs().join("results"))?)
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
async fn images(config: &Config, data: &DataDir, pool: &Arc<DecodePool>) -> Result<Images, RunError> {
    let uploads = Uploads::open(&data.uploads().join("images"), config.images.max_bytes)?;
    tracing::info!(stats = ?uploads.stats(), "the images are open");
    let parts = images::Parts {
        uploads,
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
fn journal_config() -> JournalConfig {
    let payload_max = u32::try_from(SCANNED_LEN_MAX + 4096).unwrap_or(u32::MAX);
    JournalConfig { payload_bytes_max: payload_max, ..JournalConfig::default() }
}

fn cache_config(config: &Config) -> CacheConfig {
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
        let disk = Arc::new(Disk::new(data.root(), config.data.free_min));
        let (journal, report) = Journal::open(&data.journal(), journal_config())?;
        tracing::info!(?report, "the journal is open");
        let seam_ms = i64::try_from(config.coverage.seam_max.as_millis()).unwrap_or(i64::MAX);
        let (catalog, opened) = Catalog::open(&data.catalog(), seam_ms, &incarnation(&clock))?;
        tracing::info!(?opened, "the catalog is open");
        // An empty catalog beside a full cache has forgotten deletes whose pictures may still be there.
        let is_new = catalog.checkpoint()?.is_none();
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
        let parts =
            clips::Parts { fetch: fetch(config, reads)?, pool: Arc::clone(&pool), metrics: Arc::clone(&metrics) };
        let clips = Clips::new(parts, clips_config(config));
        let images = images(config, &data, &pool).await?;
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
        };
        let (pipeline, replayed) = Pipeline::open(parts, pipeline_config(config)).await?;
        tracing::info!(?replayed, backlog = pipeline.backlog(), "the pipeline is open");
        if report.needs_rebuild || (is_new && report.volumes > 0) {
            let (cache, catalog) = (cache.get(), catalog.get());
            cache.zip(catalog).map_or(Ok(()), |(cache, catalog)| rebuild_cache(&cache, &catalog))?;
        }
        let jobs = jobs(config, &data, &clips, &clock, &metrics)?;
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
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
        };
        tasks.spawn(recovery.run());
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
            pool,
            tasks,
            _data: data,
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

    /// Has catalog and cache index made anew from journal and volumes, while requests are answered. Returns at once;
    /// [`Engine::is_rebuilding`] tells when it is over.
    pub fn rebuild(&self) {
        self.catalog.set_partial(true);
        self.rebuild.store(true, Ordering::Release);
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

    /// Stops: work in progress is left where it can go on, state is flushed.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.pipeline.checkpoint().await;
        if let Some(Err(error)) = self.cache.get().map(|cache| cache.sync()) {
            tracing::warn!(%error, "the disk cache could not be flushed");
        }
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
