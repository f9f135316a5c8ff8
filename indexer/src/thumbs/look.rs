//! One look at the stores for everything: which keyframe answers, whether its picture is stored, and what it takes to
//! render it where it is not. To wake a thread and wait for it costs more than the look, so a request does it once.

use std::sync::Arc;

use bytes::Bytes;
use stills_model::fault::Fault;
use stills_model::id::Timeline;
use stills_model::rendition::Rendition;
use stills_model::thumb::ThumbKey;
use stills_model::time::{Span, Timestamp};

use super::known::Outline;
use super::render::Plan;
use super::{LOOKUP_DEADLINE, Origin, Picture, ThumbError, Thumbs, key_of};
use crate::cache::DiskCache;
use crate::catalog::{Catalog, Located, Missing};
use crate::decode::Class;
use crate::metrics::CacheTier;

/// What a look found.
#[derive(Debug)]
pub struct Looked {
    /// The keyframe that answers.
    pub located: Located,
    /// Of its picture, if that was looked for too.
    sought: Option<(ThumbKey, Sought)>,
}

/// A picture, or what it takes to make it.
#[derive(Debug)]
enum Sought {
    Stored(Picture),
    Missing {
        plan: Result<Plan, Fault>,
        /// Pictures that the cache had stored before the look.
        as_of: u64,
    },
}

fn not_expired(located: &Located, now: Timestamp) -> Result<(), ThumbError> {
    match located.expires_at {
        Some(expires_at) if expires_at <= now => Err(ThumbError::Missing(Missing::Deleted)),
        _ => Ok(()),
    }
}

impl Thumbs {
    /// The keyframe that answers for `instant`, and its picture if a rendition is named: then
    /// [`Self::picture_of`] looks no more.
    ///
    /// # Errors
    /// [`ThumbError::Missing`] says what is there instead.
    pub async fn look(
        &self,
        timeline: Timeline,
        instant: Timestamp,
        rendition: Option<Rendition>,
    ) -> Result<Looked, ThumbError> {
        let (now, asked) = (self.0.parts.clock.now(), self.moment());
        let catalog = self.catalog().await?;
        if let Some(located) = self.0.known.get(&catalog, timeline, instant) {
            not_expired(&located, now)?;
            let key = rendition.map(|rendition| key_of(&located, rendition));
            let sought = key.and_then(|key| Some((key, self.at_once(key)?)));
            return Ok(Looked { located, sought });
        }
        let (this, cache) = (self.clone(), self.0.parts.cache.get());
        let look = move || {
            let n_changes = catalog.n_changes(&timeline);
            let located = match catalog.locate(timeline, instant, now)? {
                Ok(located) => located,
                Err(missing) => return Ok(Err(missing)),
            };
            this.0.known.note(&catalog, n_changes, &located);
            let key = rendition.map(|rendition| key_of(&located, rendition));
            let sought = key.map(|key| (key, this.seek(key, &located, cache, &catalog)));
            Ok(Ok(Looked { located, sought }))
        };
        let looked: Result<_, crate::catalog::CatalogError> = self.0.parts.threads.call(LOOKUP_DEADLINE, look).await?;
        let looked = looked?.map_err(|missing| self.missing(missing, asked))?;
        not_expired(&looked.located, now)?;
        Ok(looked)
    }

    /// What is covered in a window.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn outline(&self, timeline: Timeline, window: Span) -> Result<Outline, ThumbError> {
        let catalog = self.catalog().await?;
        if let Some(known) = self.0.known.outline(&catalog, timeline, window) {
            return Ok(known);
        }
        let this = self.clone();
        let look = move || {
            let n_changes = catalog.n_changes(&timeline);
            let coverage = Arc::new(catalog.coverage(&timeline, &window)?);
            let found = Outline { coverage, n_pending: catalog.n_pending(&timeline, &window)? };
            this.0.known.note_outline(&catalog, n_changes, (timeline, window), &found);
            Ok::<_, crate::catalog::CatalogError>(found)
        };
        Ok(self.0.parts.threads.call(LOOKUP_DEADLINE, look).await??)
    }

    /// The keyframe that answers for `instant`.
    ///
    /// # Errors
    /// [`ThumbError::Missing`] says what is there instead.
    pub async fn locate(&self, timeline: Timeline, instant: Timestamp) -> Result<Located, ThumbError> {
        Ok(self.look(timeline, instant, None).await?.located)
    }

    /// The picture of a located keyframe.
    ///
    /// # Errors
    /// [`ThumbError::Fault`] when it cannot be made, now or for as long as the failure is remembered.
    pub async fn picture(&self, located: &Located, rendition: Rendition, class: Class) -> Result<Picture, ThumbError> {
        self.picture_of(Looked { located: located.clone(), sought: None }, rendition, class).await
    }

    /// The picture of a keyframe that was looked for.
    ///
    /// # Errors
    /// As [`Self::picture`].
    pub async fn picture_of(&self, looked: Looked, rendition: Rendition, class: Class) -> Result<Picture, ThumbError> {
        let Looked { located, sought } = looked;
        let key = key_of(&located, rendition);
        let sought = match sought.filter(|(of, _)| *of == key) {
            Some((_, sought)) => sought,
            None => self.sought(key, &located).await?,
        };
        let (plan, as_of) = match sought {
            Sought::Stored(picture) => {
                if picture.origin == Origin::Earlier {
                    self.replace(located, rendition);
                }
                return Ok(picture);
            }
            Sought::Missing { plan, as_of } => (plan, as_of),
        };
        if let Some(fault) = self.0.faults.remembered(&key) {
            return Err(ThumbError::Fault(fault));
        }
        let this = self.clone();
        let render = move |landing| async move {
            match this.landed(key, as_of).await {
                Some(body) => Ok(body),
                None => this.render(&located, plan, &[rendition], class, landing).await,
            }
        };
        let rendered = self.0.flights.join(key, render).await.map_err(ThumbError::Fault)?;
        Ok(Picture { body: rendered, etag: key.etag(), origin: Origin::Rendered })
    }

    async fn sought(&self, key: ThumbKey, located: &Located) -> Result<Sought, ThumbError> {
        if let Some(stored) = self.at_once(key) {
            return Ok(stored);
        }
        let (this, located) = (self.clone(), located.clone());
        let (cache, catalog) = (self.0.parts.cache.get(), self.catalog().await?);
        let look = move || this.seek(key, &located, cache, &catalog);
        Ok(self.0.parts.threads.call(LOOKUP_DEADLINE, look).await?)
    }

    /// The picture, if no disk has to be waited for.
    fn at_once(&self, key: ThumbKey) -> Option<Sought> {
        if let Some(hot) = self.hot(key) {
            return Some(hot);
        }
        let body = self.0.parts.cache.get()?.get_at_once(&key)?;
        self.0.parts.metrics.cache_request(CacheTier::Hot, false);
        self.0.parts.metrics.cache_request(CacheTier::Disk, true);
        Some(self.kept_hot(key, body))
    }

    fn kept_hot(&self, key: ThumbKey, body: Bytes) -> Sought {
        // What nothing fits into need not weigh it.
        if self.0.parts.hot_bytes > 0 {
            self.0.hot.insert(key, body.clone());
        }
        Sought::Stored(Picture { body, etag: key.etag(), origin: Origin::Disk })
    }

    fn hot(&self, key: ThumbKey) -> Option<Sought> {
        let body = self.0.hot.get(&key)?;
        self.0.parts.metrics.cache_request(CacheTier::Hot, true);
        Some(Sought::Stored(Picture { body, etag: key.etag(), origin: Origin::Hot }))
    }

    /// The stored picture of a key, or what it takes to render it. Blocks.
    fn seek(&self, key: ThumbKey, located: &Located, cache: Option<Arc<DiskCache>>, catalog: &Catalog) -> Sought {
        if let Some(hot) = self.hot(key) {
            return hot;
        }
        let metrics = &self.0.parts.metrics;
        metrics.cache_request(CacheTier::Hot, false);
        let as_of = cache.as_ref().map_or(0, |cache| cache.n_puts());
        // A cache that cannot answer costs a render, never an answer.
        let body = cache.as_ref().and_then(|cache| cache.get(&key).transpose());
        let body = body.transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "the disk cache cannot answer");
            None
        });
        metrics.cache_request(CacheTier::Disk, body.is_some());
        if let Some(body) = body {
            return self.kept_hot(key, body);
        }
        // Whatever is wrong with an earlier one, a render makes it right.
        let earlier = key.earlier().zip(cache).and_then(|(key, cache)| Some((key, cache.get(&key).ok()??)));
        match earlier {
            Some((key, body)) => Sought::Stored(Picture { body, etag: key.etag(), origin: Origin::Earlier }),
            None => Sought::Missing { plan: Plan::of(catalog, located), as_of },
        }
    }

    /// Renders what an earlier render version has shown, beside everything else. When enough of that goes on already,
    /// or decoders are busy, a later look does it.
    fn replace(&self, located: Located, rendition: Rendition) {
        let Ok(turn) = Arc::clone(&self.0.replacing).try_acquire_owned() else { return };
        let this = self.clone();
        tokio::spawn(async move {
            let told = |fault| Err(ThumbError::Fault(fault));
            if let Err(error) = this.ensure_all(&[located], &[rendition], told).await {
                tracing::debug!(%error, "a picture of the render version before is not replaced yet");
            }
            drop(turn);
        });
    }

    /// The picture that another flight stored after its caller had looked for it and before the caller's own flight
    /// began. Looked at by the flight, so that no two of them render one picture. `as_of` are the puts before the look.
    pub(super) async fn landed(&self, key: ThumbKey, as_of: u64) -> Option<Bytes> {
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
}
