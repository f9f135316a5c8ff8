//! A render: read the keyframe's bytes, decode in another process, store, answer.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::{ByteRange, DecoderConfig};
use stills_model::rendition::Rendition;

use super::{LOOKUP_DEADLINE, Thumbs, key_of};
use crate::catalog::Located;
use crate::decode::Class;
use crate::source::Wanted;

/// What it takes to show a keyframe.
struct Plan {
    media_url: Box<str>,
    credentials_key: Option<Box<str>>,
    is_growing: bool,
    media_len: u64,
    config: DecoderConfig,
    ranges: Vec<ByteRange>,
}

impl Thumbs {
    /// Renders a keyframe in `renditions` with one decode, stores all of them, and returns the first.
    pub(super) async fn render(
        &self,
        located: &Located,
        renditions: &[Rendition],
        class: Class,
    ) -> Result<Bytes, Fault> {
        let began = Instant::now();
        let rendered = self.decode(located, renditions, class).await;
        let outcome = rendered.as_ref().map(|_| ()).map_err(|fault| fault.kind);
        self.0.parts.metrics.render(class.name(), outcome, began.elapsed());
        match rendered {
            Ok(pictures) => self.store(located, renditions, pictures).await,
            Err(fault) => {
                if fault.kind == FaultKind::Gone {
                    let noted = self.note_gone(located.timeline, located.recording.clone(), located.media);
                    if let Err(error) = noted.await {
                        tracing::warn!(%error, "a missing media could not be noted");
                    }
                }
                // What still grows may be whole in a moment.
                for rendition in renditions.iter().filter(|_| located.is_settled) {
                    self.0.faults.remember(key_of(located, *rendition), &fault);
                }
                Err(fault)
            }
        }
    }

    async fn decode(&self, located: &Located, renditions: &[Rendition], class: Class) -> Result<Vec<Bytes>, Fault> {
        let plan = self.plan(located).await?;
        let parts = &self.0.parts;
        let wanted = Wanted {
            user: located.timeline.user,
            media_url: &plan.media_url,
            credentials_key: plan.credentials_key.as_deref(),
            is_growing: plan.is_growing,
        };
        let media = parts.source.open_indexed(wanted, plan.media_len).await?;
        if media.len() < plan.media_len && plan.ranges.iter().any(|range| range.end() > media.len()) {
            return Err(Fault::new(FaultKind::Changed, "the media is shorter than when it was indexed"));
        }
        let pieces = media.read_ranges(&plan.ranges).await?;
        parts.pool.render(located.timeline.user, class, &plan.config, &pieces, renditions).await
    }

    /// Looks up where the keyframe's bytes lie and what decodes them.
    async fn plan(&self, located: &Located) -> Result<Plan, Fault> {
        let located = located.clone();
        let looked_up = self.ask(move |catalog| {
            let Located { timeline, media, at_ms, recording, .. } = &located;
            let row = catalog.row(timeline, recording)?;
            let Some((keyframe, page)) = catalog.keyframe(timeline, media, *at_ms)? else { return Ok(None) };
            let Some(id) = page.configs.get(usize::from(keyframe.config)) else { return Ok(None) };
            let config = catalog.config(timeline.user, id)?;
            // The place that was scanned: an event may have named another one, whose bytes lie elsewhere.
            let row = row.and_then(|row| row.indexed.zip(row.latest)).filter(|(indexed, _)| indexed.media == *media);
            Ok(row.zip(config).map(|((indexed, (_, available)), config)| Plan {
                media_url: indexed.media_url,
                credentials_key: available.credentials_key,
                is_growing: available.growing,
                media_len: indexed.media_len,
                config,
                ranges: keyframe.ranges,
            }))
        });
        match looked_up.await {
            Ok(Some(plan)) => Ok(plan),
            Ok(None) => Err(Fault::new(FaultKind::Changed, "the recording changed while it was asked for")),
            Err(error) => Err(Fault::new(FaultKind::Internal, error.to_string())),
        }
    }

    async fn store(&self, located: &Located, renditions: &[Rendition], pictures: Vec<Bytes>) -> Result<Bytes, Fault> {
        let first = pictures.first().cloned();
        let keyed: Vec<_> = renditions.iter().map(|rendition| key_of(located, *rendition)).zip(pictures).collect();
        for (key, body) in &keyed {
            self.0.hot.insert(*key, body.clone());
        }
        let cache = Arc::clone(&self.0.parts.cache);
        let put = move || keyed.iter().try_for_each(|(key, body)| cache.put(key, body));
        // A picture that cannot be stored is still a picture.
        match self.0.parts.threads.call(LOOKUP_DEADLINE, put).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a picture could not be stored"),
            Err(error) => tracing::warn!(%error, "a picture could not be stored"),
        }
        self.unless_deleted(located).await;
        first.ok_or_else(|| Fault::new(FaultKind::Internal, "the decoder gave no picture"))
    }

    /// A delete that came during the render has purged before we stored: what was stored goes again.
    async fn unless_deleted(&self, located: &Located) {
        let Located { timeline, media, recording, .. } = located.clone();
        let is_shown = self.ask(move |catalog| {
            let row = catalog.row(&timeline, &recording)?;
            Ok(row.is_some_and(|row| !row.removed && row.indexed.is_some_and(|indexed| indexed.media == media)))
        });
        if matches!(is_shown.await, Ok(false))
            && let Err(error) = self.purge(vec![(timeline, media)]).await
        {
            tracing::warn!(%error, "pictures of a deleted recording could not be removed");
        }
    }
}
