//! The read path: from an instant to a picture. Every interface and the prerenderer go through here.
//!
//! 1. [`Thumbs::look`]: the catalog's frame rule names recording and keyframe, remembered for as long as nothing of the
//!    device changes ([`known`]); hot memory; the disk cache, at once where no disk has to be waited for ([`look`]);
//! 2. [`Thumbs::picture`]: what the look found; a failure that is still remembered; else
//! 3. one render for all who ask ([`flight`]): it runs as a task of its own that outlives its callers;
//! 4. the render reads the keyframe's bytes, decodes in another process, stores, and answers ([`render`]).
//!
//! Beside it: [`exact`] for frames between keyframes, [`poster`] for the picture of a whole recording, [`shape`] for what
//! shape a keyframe has.
//!
//! Failures are values with their own age ([`age`]). Nothing here knows HTTP.

pub mod age;
mod ahead;
pub mod exact;
pub(crate) mod flight;
mod known;
mod look;
pub mod poster;
mod render;
mod shape;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stills_model::fault::Fault;
use stills_model::id::{RecordingId, Timeline};
use stills_model::rendition::Rendition;
use stills_model::thumb::{ETag, MediaId, RENDER_VERSION, ThumbKey};
use stills_model::time::{Span, Timestamp};
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::cache::{CacheError, DiskCache};
use crate::catalog::{Catalog, CatalogError, Located, Missing};
use crate::clock::Clock;
use crate::decode::DecodePool;
use crate::disk::Disk;
use crate::live::{Live, Moment};
use crate::metrics::Metrics;
use crate::source::Source;
use crate::threads::{CallError, Threads};

use age::FaultMemory;
use flight::Flights;
use known::Known;
pub use known::Outline;
pub use look::Looked;
use poster::Posters;

/// A look-up that takes longer has a store that is not well: better an error now.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(2);

/// Punching out the pictures of some media, of which there may be thousands.
const PURGE_DEADLINE: Duration = Duration::from_secs(60);

/// Pictures of an earlier render version that are replaced at once.
const REPLACED_AT_ONCE: usize = 4;

/// Media whose pictures are punched out in one call.
const PURGED_PER_CALL: usize = 512;

/// Why there is no picture.
#[derive(Debug, Clone, Error)]
pub enum ThumbError {
    /// No keyframe answers for the instant.
    #[error("nothing is shown at this instant")]
    Missing(Missing),
    /// There is one, and it cannot be shown.
    #[error("{0}")]
    Fault(Fault),
    /// Our own store cannot answer.
    #[error("the store cannot answer: {0}")]
    Store(String),
    /// What is known of recordings is being put together again.
    #[error("the catalog is being rebuilt")]
    Rebuilding,
    /// Too many look-ups are waiting.
    #[error("too many look-ups are waiting")]
    Busy,
}

impl From<CallError> for ThumbError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Full | CallError::Late => Self::Busy,
            CallError::Died => Self::Store("a look-up died".to_owned()),
        }
    }
}

impl From<CatalogError> for ThumbError {
    fn from(error: CatalogError) -> Self {
        Self::Store(error.to_string())
    }
}

/// Where a picture came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Hot memory.
    Hot,
    /// The disk cache.
    Disk,
    /// The disk cache, by the render version before this one: it is about to be replaced.
    Earlier,
    /// It was rendered for this request, or for another one at the same time.
    Rendered,
}

/// A picture, whole.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The encoded bytes.
    pub body: Bytes,
    /// Its strong entity tag.
    pub etag: ETag,
    /// Where it came from.
    pub origin: Origin,
}

/// The parts that the read path composes.
#[derive(Debug)]
pub struct Parts {
    /// Which keyframe answers.
    pub catalog: Arc<Live<Catalog>>,
    /// Stored pictures.
    pub cache: Arc<Live<DiskCache>>,
    /// Whether pictures may be stored.
    pub disk: Arc<Disk>,
    /// Decoders.
    pub pool: Arc<DecodePool>,
    /// Media.
    pub source: Source,
    /// Threads for blocking look-ups.
    pub threads: Arc<Threads>,
    /// The time.
    pub clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Bytes of encoded pictures kept in memory.
    pub hot_bytes: u64,
    /// The renditions that are rendered ahead of time: what is left to show when media is gone.
    pub prerendered: Vec<Rendition>,
}

/// The read path.
#[derive(Debug, Clone)]
pub struct Thumbs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    hot: moka::sync::Cache<ThumbKey, Bytes>,
    known: Known,
    faults: FaultMemory,
    flights: Flights<ThumbKey>,
    posters: Posters,
    /// Pictures of an earlier render version that are replaced at once.
    replacing: Arc<Semaphore>,
}

/// The key of the picture that a located keyframe makes in a rendition.
pub fn key_of(located: &Located, rendition: Rendition) -> ThumbKey {
    let Located { timeline, media, at_ms, .. } = *located;
    ThumbKey { timeline, media, at_ms, rendition, version: RENDER_VERSION }
}

impl Thumbs {
    /// Builds the read path.
    pub fn new(parts: Parts) -> Self {
        let weigh = |_: &ThumbKey, body: &Bytes| u32::try_from(body.len()).unwrap_or(u32::MAX);
        let hot = moka::sync::Cache::builder().max_capacity(parts.hot_bytes).weigher(weigh).build();
        Self(Arc::new(Inner {
            parts,
            hot,
            known: Known::new(),
            faults: FaultMemory::new(),
            flights: Flights::default(),
            posters: Posters::new(),
            replacing: Arc::new(Semaphore::new(REPLACED_AT_ONCE)),
        }))
    }

    /// Makes a catalog call on a thread that may block.
    ///
    /// # Errors
    /// [`ThumbError::Busy`] when too much waits, [`ThumbError::Store`] when the catalog fails.
    pub async fn ask<T, F>(&self, call: F) -> Result<T, ThumbError>
    where
        T: Send + 'static,
        F: FnOnce(&Catalog) -> Result<T, CatalogError> + Send + 'static,
    {
        let catalog = self.catalog().await?;
        let answer = self.0.parts.threads.call(LOOKUP_DEADLINE, move || call(&catalog)).await?;
        answer.map_err(ThumbError::from)
    }

    /// The keyframe that answers for the newest covered instant of a device.
    ///
    /// # Errors
    /// As [`Self::locate`]; [`Missing::NotRecorded`] where nothing is covered.
    pub async fn latest(&self, timeline: Timeline) -> Result<Located, ThumbError> {
        let asked = self.moment();
        let newest = self.ask(move |catalog| catalog.newest(&timeline)).await?;
        self.locate(timeline, newest.ok_or_else(|| self.missing(Missing::NotRecorded, asked))?).await
    }

    /// A moment before the catalog is asked, for [`Self::is_whole_since`].
    pub fn moment(&self) -> Moment {
        self.0.parts.catalog.moment()
    }

    /// Whether the catalog had all that there is since a moment.
    pub fn is_whole_since(&self, moment: Moment) -> bool {
        self.0.parts.catalog.is_whole_since(moment)
    }

    /// What the catalog did not have when it was asked may be among what was not in it yet.
    fn missing(&self, missing: Missing, asked: Moment) -> ThumbError {
        if self.is_whole_since(asked) { ThumbError::Missing(missing) } else { ThumbError::Rebuilding }
    }

    /// The keyframes that answer for several instants of one window, in their order.
    ///
    /// # Errors
    /// [`ThumbError::Busy`] and [`ThumbError::Store`]; what is missing is a value, and [`Self::is_whole_since`] says whether
    /// that is final.
    pub async fn locate_all(
        &self,
        timeline: Timeline,
        window: Span,
        instants: Vec<Timestamp>,
    ) -> Result<Vec<Result<Located, Missing>>, ThumbError> {
        let now = self.0.parts.clock.now();
        self.ask(move |catalog| {
            let mut locator = catalog.locator(timeline, window, now)?;
            instants.into_iter().map(|instant| locator.locate(instant)).collect()
        })
        .await
    }

    /// The disk cache, for what cannot do without.
    fn cache(&self) -> Result<Arc<DiskCache>, ThumbError> {
        self.0.parts.cache.get().ok_or_else(|| ThumbError::Store("the disk cache is being opened".to_owned()))
    }

    /// The catalog, waited for while it is opened anew.
    async fn catalog(&self) -> Result<Arc<Catalog>, ThumbError> {
        self.0.parts.catalog.get_within(LOOKUP_DEADLINE).await.ok_or(ThumbError::Rebuilding)
    }

    /// Notes that a recording's media is gone: from now on it shows what is stored of it, and nothing once that is
    /// evicted. Doing it again finds out what is left.
    ///
    /// # Errors
    /// [`ThumbError::Store`] when catalog or disk cache fail.
    pub async fn note_gone(
        &self,
        timeline: Timeline,
        recording: RecordingId,
        media: MediaId,
    ) -> Result<(), ThumbError> {
        let (cache, renditions) = (self.cache()?, self.0.parts.prerendered.clone());
        // What was answered a moment ago may be on its way to the disk.
        let stored = self.0.flights.stored(|key| key.timeline == timeline && key.media == media);
        if tokio::time::timeout(LOOKUP_DEADLINE, stored).await.is_err() {
            tracing::warn!("pictures of a media that is gone take long to store, and may be missing from now on");
        }
        let list = move || {
            // What is listed must be servable in every rendition that is promised ahead of time.
            let mut stored: Option<BTreeSet<i64>> = None;
            for rendition in &renditions {
                let mut of = BTreeSet::new();
                for version in (1..=RENDER_VERSION).rev().take(2) {
                    of.extend(cache.stored(&timeline, &media, rendition, version)?);
                }
                stored = Some(stored.map_or(of.clone(), |all| all.intersection(&of).copied().collect()));
            }
            Ok::<_, CacheError>(stored.unwrap_or_default())
        };
        let stored = self.0.parts.threads.call(PURGE_DEADLINE, list).await?;
        let stored = stored.map_err(|error| ThumbError::Store(error.to_string()))?;
        let now = self.0.parts.clock.now();
        self.ask(move |catalog| catalog.note_gone(&timeline, &recording, media, &stored, now)).await
    }

    /// Lets the disk cache make room for what comes next; pictures in hot memory count as read. Once at a time.
    pub async fn make_room(&self) {
        let (Some(cache), this) = (self.0.parts.cache.get(), self.clone()) else { return };
        // May take seconds, which no look-up should wait for.
        let made = tokio::task::spawn_blocking(move || cache.evict_ahead(|key| this.0.hot.contains_key(key)));
        match made.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the disk cache could not make room"),
            Err(error) => tracing::error!(%error, "the disk cache could not make room"),
        }
    }

    /// How many volumes the disk cache has evicted so far.
    pub fn n_evicted(&self) -> u64 {
        self.0.parts.cache.get().map_or(0, |cache| cache.stats().evicted_volumes)
    }

    /// Forgets all pictures of these media: from memory and from the disk, before this returns.
    ///
    /// # Errors
    /// [`ThumbError::Store`] when the disk cache fails.
    pub async fn purge(&self, media: Vec<(Timeline, MediaId)>) -> Result<(), ThumbError> {
        let gone: HashSet<(Timeline, MediaId)> = media.iter().copied().collect();
        for (key, _) in &self.0.hot {
            if gone.contains(&(key.timeline, key.media)) {
                self.0.hot.invalidate(&*key);
            }
        }
        for some in media.chunks(PURGED_PER_CALL) {
            let (cache, some) = (self.cache()?, some.to_vec());
            let remove = move || cache.remove_many(&some);
            let removed = self.0.parts.threads.call(PURGE_DEADLINE, remove).await?;
            removed.map_err(|error| ThumbError::Store(error.to_string()))?;
        }
        Ok(())
    }
}
