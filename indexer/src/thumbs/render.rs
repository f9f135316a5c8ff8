//! A render: read the keyframe's bytes, decode in another process, store, answer.
//!
//! A keyframe that gives no picture alone (one that its container flags wrongly) is decoded from the keyframe before it
//! on, within bounds; how often is counted.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::{ByteRange, DecoderConfig};
use stills_model::rendition::Rendition;
use stills_model::thumb::ThumbKey;
use stills_model::wire::Luma;

use super::flight::Landing;
use super::{LOOKUP_DEADLINE, Thumbs, key_of};
use crate::cache::DiskCache;
use crate::catalog::{Catalog, CatalogError, Located};
use crate::decode::Class;
use crate::source::{Media, Wanted};

/// What it takes to show a keyframe.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) media_url: Box<str>,
    pub(super) credentials_key: Option<Box<str>>,
    pub(super) is_growing: bool,
    pub(super) media_len: u64,
    pub(super) config: DecoderConfig,
    pub(super) ranges: Vec<ByteRange>,
}

impl Plan {
    /// Looks up where the bytes of a located keyframe lie and what decodes them. Blocks.
    pub(super) fn of(catalog: &Catalog, located: &Located) -> Result<Self, Fault> {
        let Located { timeline, media, at_ms, recording, .. } = located;
        let look_up = || {
            let row = catalog.row_likely_in(timeline, recording, media.hour())?;
            let Some((keyframe, page)) = catalog.keyframe(timeline, media, *at_ms)? else { return Ok(None) };
            let Some(id) = page.configs.get(usize::from(keyframe.config)) else { return Ok(None) };
            let config = catalog.config(timeline.user, id)?;
            // The place that was scanned: an event may have named another one, whose bytes lie elsewhere.
            let row = row.and_then(|row| row.indexed.zip(row.latest)).filter(|(indexed, _)| indexed.media == *media);
            Ok::<_, CatalogError>(row.zip(config).map(|((indexed, (_, available)), config)| Self {
                is_growing: available.growing,
                // What the newest event says of the place, if it speaks of the same one.
                credentials_key: available.credentials_key.filter(|_| available.media_url == indexed.media_url),
                media_url: indexed.media_url,
                media_len: indexed.media_len,
                config,
                ranges: keyframe.ranges,
            }))
        };
        match look_up() {
            Ok(Some(plan)) => Ok(plan),
            Ok(None) => Err(Fault::new(FaultKind::Changed, "the recording changed while it was asked for")),
            Err(error) => Err(Fault::new(FaultKind::Internal, error.to_string())),
        }
    }

    fn wanted(&self, located: &Located) -> Wanted<'_> {
        Wanted {
            user: located.timeline.user,
            media_url: &self.media_url,
            credentials_key: self.credentials_key.as_deref(),
            is_growing: self.is_growing,
        }
    }
}

/// Frames that are decoded at most to show a keyframe that does not stand alone: five seconds at 30 a second.
const FALLBACK_FRAMES_MAX: u32 = 150;

impl Thumbs {
    /// Renders a keyframe in `renditions` with one decode, stores all of them, and returns the first.
    pub(super) async fn render(
        &self,
        located: &Located,
        plan: Result<Plan, Fault>,
        renditions: &[Rendition],
        class: Class,
        landing: Arc<Landing<ThumbKey>>,
    ) -> Result<Bytes, Fault> {
        self.render_measured(located, plan, renditions, class, Some(landing)).await.map(|(first, _)| first)
    }

    /// The same, with the first picture's luma, which only a keyframe that stands alone tells.
    pub(super) async fn render_measured(
        &self,
        located: &Located,
        plan: Result<Plan, Fault>,
        renditions: &[Rendition],
        class: Class,
        landing: Option<Arc<Landing<ThumbKey>>>,
    ) -> Result<(Bytes, Option<Luma>), Fault> {
        // What still grows may be whole in a moment.
        let may_heal = plan.as_ref().map_or(!located.is_settled, |plan| plan.is_growing);
        let began = Instant::now();
        let rendered = match plan {
            Ok(plan) => self.decode(located, &plan, renditions, class).await,
            Err(fault) => Err(fault),
        };
        let outcome = rendered.as_ref().map(|_| ()).map_err(|fault| fault.kind);
        self.0.parts.metrics.render(class.name(), outcome, began.elapsed());
        match rendered {
            Ok((pictures, luma)) => Ok((self.store(located, renditions, pictures, class, landing).await?, luma)),
            Err(fault) => {
                if fault.kind == FaultKind::Gone {
                    self.set_gone(located).await;
                }
                for rendition in renditions.iter().filter(|_| !may_heal) {
                    self.0.faults.remember(key_of(located, *rendition), &fault);
                }
                Err(fault)
            }
        }
    }

    async fn decode(
        &self,
        located: &Located,
        plan: &Plan,
        renditions: &[Rendition],
        class: Class,
    ) -> Result<(Vec<Bytes>, Option<Luma>), Fault> {
        let wanted = plan.wanted(located);
        let pieces = self.0.parts.source.read_indexed(wanted, plan.media_len, &plan.ranges).await?;
        let user = located.timeline.user;
        match self.0.parts.pool.render(user, class, &plan.config, &pieces, renditions).await {
            Ok(rendered) => Ok((rendered.pictures, Some(rendered.luma))),
            Err(fault) if fault.kind == FaultKind::Damaged => {
                let shown = self.decode_from_the_one_before(located, renditions, class).await;
                // The fault of the keyframe says more than that of a detour.
                shown.map(|pictures| (pictures, None)).ok_or(fault)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Notes that the media of a located keyframe is gone.
    pub(super) async fn set_gone(&self, located: &Located) {
        let noted = self.note_gone(located.timeline, located.recording.clone(), located.media);
        if let Err(error) = noted.await {
            tracing::warn!(%error, "a missing media could not be noted");
        }
    }

    /// Opens the media of a plan, in which the keyframe's bytes still lie.
    pub(super) async fn open(&self, located: &Located, plan: &Plan) -> Result<Media, Fault> {
        let media = self.0.parts.source.open_indexed(plan.wanted(located), plan.media_len).await?;
        if media.len() < plan.media_len && plan.ranges.iter().any(|range| range.end() > media.len()) {
            return Err(Fault::new(FaultKind::Changed, "the media is shorter than when it was indexed"));
        }
        Ok(media)
    }

    /// A keyframe that gives no picture alone, decoded from the keyframe before it on; nothing where that fails too.
    async fn decode_from_the_one_before(
        &self,
        located: &Located,
        renditions: &[Rendition],
        class: Class,
    ) -> Option<Vec<Bytes>> {
        let Located { timeline, media, at_ms, .. } = *located;
        let before = self.ask(move |catalog| catalog.keyframe_up_to(&timeline, &media, at_ms - 1)).await.ok()??;
        let start = Located { at_ms: before, ..located.clone() };
        let frames = self.frames(&start, &[at_ms], renditions, FALLBACK_FRAMES_MAX, class).await;
        let frame = frames.and_then(|frames| frames.into_iter().next().unwrap_or_else(|| Err(no_frame())));
        // Another frame than the keyframe itself is no picture of it.
        let frame = frame.and_then(|frame| if frame.at_ms == at_ms { Ok(frame) } else { Err(no_frame()) });
        let outcome = frame.as_ref().map(|_| ()).map_err(|fault| fault.kind);
        self.0.parts.metrics.render_fallback(outcome);
        frame.ok().map(|frame| frame.pictures)
    }

    /// Looks up where the keyframe's bytes lie and what decodes them.
    pub(super) async fn plan(&self, located: &Located) -> Result<Plan, Fault> {
        let located = located.clone();
        let plan = self.ask(move |catalog| Ok(Plan::of(catalog, &located)));
        plan.await.unwrap_or_else(|error| Err(Fault::new(FaultKind::Internal, error.to_string())))
    }

    /// Stores the pictures and gives the first. What a person waits for is stored behind his back, and stays `landing`
    /// until then.
    async fn store(
        &self,
        located: &Located,
        renditions: &[Rendition],
        pictures: Vec<Bytes>,
        class: Class,
        landing: Option<Arc<Landing<ThumbKey>>>,
    ) -> Result<Bytes, Fault> {
        let no_picture = || Fault::new(FaultKind::Internal, "the decoder gave no picture");
        let first = pictures.first().cloned().ok_or_else(no_picture)?;
        let keyed: Vec<_> = renditions.iter().map(|rendition| key_of(located, *rendition)).zip(pictures).collect();
        let is_asked = class == Class::Interactive;
        // What nobody has asked for must not push out of memory what somebody did.
        for (key, body) in keyed.iter().filter(|_| is_asked) {
            self.0.hot.insert(*key, body.clone());
        }
        let (this, located) = (self.clone(), located.clone());
        let (cache, catalog) = (self.0.parts.cache.get(), self.0.parts.catalog.get());
        let threads = &self.0.parts.threads;
        if let Some(landing) = landing.filter(|_| is_asked) {
            let runtime = tokio::runtime::Handle::current();
            let left = threads.leave(move || {
                if !this.put(&keyed, is_asked, &located, cache, catalog) {
                    runtime.spawn(async move { this.take_back(&located).await });
                }
                drop(landing);
            });
            if let Err(error) = left {
                tracing::warn!(%error, "a picture could not be stored");
            }
            return Ok(first);
        }
        let at = located.clone();
        let put = move || this.put(&keyed, is_asked, &at, cache, catalog);
        match threads.call(LOOKUP_DEADLINE, put).await {
            Ok(true) => {}
            Ok(false) => self.take_back(&located).await,
            Err(error) => tracing::warn!(%error, "a picture could not be stored"),
        }
        Ok(first)
    }

    /// Puts pictures into the disk cache; false when they have to be taken back. Blocks.
    fn put(
        &self,
        keyed: &[(ThumbKey, Bytes)],
        is_asked: bool,
        located: &Located,
        cache: Option<Arc<DiskCache>>,
        catalog: Option<Arc<Catalog>>,
    ) -> bool {
        let disk = &self.0.parts.disk;
        // What can be rendered again must not take the last room.
        if let Some(cache) = cache.filter(|_| disk.is_well()) {
            let put = |(key, body): &(_, Bytes)| match is_asked {
                true => cache.put(key, body),
                false => cache.put_unasked(key, body),
            };
            // A picture that cannot be stored is still a picture.
            if let Err(error) = keyed.iter().try_for_each(put) {
                disk.suspect();
                tracing::warn!(%error, "a picture could not be stored");
            }
        }
        // While the catalog is being opened nobody deletes.
        let Some(catalog) = catalog else { return true };
        match catalog.row_likely_in(&located.timeline, &located.recording, located.media.hour()) {
            Ok(row) => row.is_some_and(|row| !row.removed && row.indexed.is_some_and(|at| at.media == located.media)),
            Err(error) => {
                tracing::warn!(%error, "whether a recording was deleted cannot be told");
                true
            }
        }
    }

    /// A delete that came during the render has purged before the pictures were stored: they go again.
    async fn take_back(&self, located: &Located) {
        if let Err(error) = self.purge(vec![(located.timeline, located.media)]).await {
            tracing::warn!(%error, "pictures of a deleted recording could not be removed");
        }
    }
}

fn no_frame() -> Fault {
    Fault::new(FaultKind::Damaged, "the keyframe could not be decoded from the one before it either")
}
