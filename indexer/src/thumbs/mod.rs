//! The read path: from an instant to a picture. Every interface and the prerenderer go through here.
//!
//! 1. [`Thumbs::locate`]: the catalog's frame rule names recording and keyframe;
//! 2. [`Thumbs::picture`]: hot memory; a failure that is still remembered; the disk cache; else
//! 3. one render for all who ask ([`flight`]): it runs as a task of its own that outlives its callers;
//! 4. the render reads the keyframe's bytes, decodes in another process, stores, and answers ([`render`]).
//!
//! Beside it: [`exact`] for frames between keyframes, [`poster`] for the picture of a whole recording, [`shape`] for what
//! shape a keyframe has.
//!
//! Failures are values with their own age ([`age`]). Nothing here knows HTTP.

pub mod age;
pub mod exact;
pub(crate) mod flight;
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

use crate::cache::{CacheError, DiskCache};
use crate::catalog::{Catalog, CatalogError, Located, Missing};
use crate::clock::Clock;
use crate::decode::{Class, DecodePool};
use crate::disk::Disk;
use crate::live::{Live, Moment};
use crate::metrics::{CacheTier, Metrics};
use crate::source::Source;
use crate::threads::{CallError, Threads};

use age::FaultMemory;
use flight::Flights;
use poster::Posters;
use render::Plan;

/// A look-up that takes longer has a store that is not well: better an error now.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(2);

/// Punching out the pictures of some media, of which there may be thousands.
const PURGE_DEADLINE: Duration = Duration::from_secs(60);

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
    faults: FaultMemory,
    flights: Flights<ThumbKey>,
    posters: Posters,
}

/// What a look at the store found.
enum Sought {
    Stored(Picture),
    Missing {
        plan: Result<Plan, Fault>,
        /// Pictures that the cache had stored before the look.
        as_of: u64,
    },
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
            faults: FaultMemory::new(),
            flights: Flights::default(),
            posters: Posters::new(),
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

    /// The keyframe that answers for `instant`.
    ///
    /// # Errors
    /// [`ThumbError::Missing`] says what is there instead.
    pub async fn locate(&self, timeline: Timeline, instant: Timestamp) -> Result<Located, ThumbError> {
        let (now, asked) = (self.0.parts.clock.now(), self.moment());
        let located = self.ask(move |catalog| catalog.locate(timeline, instant, now)).await?;
        let located = located.map_err(|missing| self.missing(missing, asked))?;
        if located.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(ThumbError::Missing(Missing::Deleted));
        }
        Ok(located)
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

    /// The picture of a located keyframe.
    ///
    /// # Errors
    /// [`ThumbError::Fault`] when it cannot be made, now or for as long as the failure is remembered.
    pub async fn picture(&self, located: &Located, rendition: Rendition, class: Class) -> Result<Picture, ThumbError> {
        let key = key_of(located, rendition);
        let (plan, as_of) = match self.seek(key, located).await? {
            Sought::Stored(picture) => return Ok(picture),
            Sought::Missing { plan, as_of } => (plan, as_of),
        };
        if let Some(fault) = self.0.faults.remembered(&key) {
            return Err(ThumbError::Fault(fault));
        }
        let render = {
            let (this, located) = (self.clone(), located.clone());
            move || async move {
                match this.landed(key, as_of).await {
                    Some(body) => Ok(body),
                    None => this.render(&located, plan, &[rendition], class).await,
                }
            }
        };
        let rendered = self.0.flights.join(key, render).await.map_err(ThumbError::Fault)?;
        Ok(Picture { body: rendered, etag: key.etag(), origin: Origin::Rendered })
    }

    /// The disk cache, for what cannot do without.
    fn cache(&self) -> Result<Arc<DiskCache>, ThumbError> {
        self.0.parts.cache.get().ok_or_else(|| ThumbError::Store("the disk cache is being opened".to_owned()))
    }

    /// The catalog, waited for while it is opened anew.
    async fn catalog(&self) -> Result<Arc<Catalog>, ThumbError> {
        self.0.parts.catalog.get_within(LOOKUP_DEADLINE).await.ok_or(ThumbError::Rebuilding)
    }

    /// The stored picture of a key, or what it takes to render it: one call of the store either way.
    async fn seek(&self, key: ThumbKey, located: &Located) -> Result<Sought, ThumbError> {
        let etag = key.etag();
        let metrics = &self.0.parts.metrics;
        if let Some(body) = self.0.hot.get(&key) {
            metrics.cache_request(CacheTier::Hot, true);
            return Ok(Sought::Stored(Picture { body, etag, origin: Origin::Hot }));
        }
        metrics.cache_request(CacheTier::Hot, false);
        let (cache, catalog, located) = (self.0.parts.cache.get(), self.catalog().await?, located.clone());
        let look = move || {
            let as_of = cache.as_ref().map_or(0, |cache| cache.n_puts());
            // A cache that cannot answer costs a render, never an answer.
            let body = cache.and_then(|cache| cache.get(&key).transpose()).transpose().unwrap_or_else(|error| {
                tracing::warn!(%error, "the disk cache cannot answer");
                None
            });
            match body {
                Some(body) => Sought::Stored(Picture { body, etag, origin: Origin::Disk }),
                None => Sought::Missing { plan: Plan::of(&catalog, &located), as_of },
            }
        };
        let sought = self.0.parts.threads.call(LOOKUP_DEADLINE, look).await?;
        if let Sought::Stored(picture) = &sought {
            self.0.hot.insert(key, picture.body.clone());
        }
        metrics.cache_request(CacheTier::Disk, matches!(sought, Sought::Stored(_)));
        Ok(sought)
    }

    /// The picture that another flight stored after its caller had looked for it and before the caller's own flight
    /// began. Looked at by the flight, so that no two of them render one picture. `as_of` are the puts before the look.
    async fn landed(&self, key: ThumbKey, as_of: u64) -> Option<Bytes> {
        let cache = self.0.parts.cache.get();
        if cache.as_ref().is_some_and(|cache| cache.n_puts() == as_of) {
            return None;
        }
        if let Some(body) = self.0.hot.get(&key) {
            return Some(body);
        }
        let cache = cache?;
        let read = self.0.parts.threads.call(LOOKUP_DEADLINE, move || cache.get(&key)).await;
        // What cannot be read is rendered; whoever looked first has logged why.
        read.ok()?.ok()?
    }

    /// Of these keyframes, those that lack a stored picture in one of the renditions.
    ///
    /// # Errors
    /// [`ThumbError::Busy`] when too much waits, [`ThumbError::Store`] while there is no disk cache.
    pub async fn not_stored(
        &self,
        located: Vec<Located>,
        renditions: &[Rendition],
    ) -> Result<Vec<Located>, ThumbError> {
        let (cache, renditions) = (self.cache()?, renditions.to_vec());
        let is_missing = move |located: &Located| {
            let mut keys = renditions.iter().map(|rendition| key_of(located, *rendition));
            keys.any(|key| !cache.contains(&key).unwrap_or(false))
        };
        let filter = move || located.into_iter().filter(is_missing).collect();
        Ok(self.0.parts.threads.call(LOOKUP_DEADLINE, filter).await?)
    }

    /// Makes sure that the pictures of a keyframe are stored, rendering those that are not with one decode.
    /// Returns how many were rendered.
    ///
    /// # Errors
    /// [`ThumbError::Fault`] when they cannot be made.
    pub async fn ensure(&self, located: &Located, renditions: &[Rendition]) -> Result<usize, ThumbError> {
        let (cache, keys) = (self.cache()?, renditions.to_vec());
        let keys: Vec<ThumbKey> = keys.into_iter().map(|rendition| key_of(located, rendition)).collect();
        let (catalog, place) = (self.catalog().await?, located.clone());
        let look = move || {
            let as_of = cache.n_puts();
            let is_missing = |key: &ThumbKey| !cache.contains(key).unwrap_or(false);
            let missing: Vec<ThumbKey> = keys.into_iter().filter(is_missing).collect();
            let plan = (!missing.is_empty()).then(|| Plan::of(&catalog, &place));
            (missing, plan, as_of)
        };
        let (missing, plan, as_of) = self.0.parts.threads.call(LOOKUP_DEADLINE, look).await?;
        let (Some(first), Some(plan)) = (missing.first(), plan) else { return Ok(0) };
        if let Some(fault) = self.0.faults.remembered(first) {
            return Err(ThumbError::Fault(fault));
        }
        let n_missing = missing.len();
        let render = {
            let (this, located, first) = (self.clone(), located.clone(), *first);
            let renditions: Vec<Rendition> = missing.iter().map(|key| key.rendition).collect();
            move || async move {
                match this.landed(first, as_of).await {
                    Some(body) if renditions.len() == 1 => Ok(body),
                    _ => this.render(&located, plan, &renditions, Class::Batch).await,
                }
            }
        };
        self.0.flights.join(*first, render).await.map_err(ThumbError::Fault)?;
        Ok(n_missing)
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
        let list = move || {
            // What is listed must be servable in every rendition that is promised ahead of time.
            let mut stored: Option<BTreeSet<i64>> = None;
            for rendition in &renditions {
                let of: BTreeSet<i64> =
                    cache.stored(&timeline, &media, rendition, RENDER_VERSION)?.into_iter().collect();
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
