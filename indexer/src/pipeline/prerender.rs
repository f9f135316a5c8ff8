//! Rendering ahead of time: the keyframes that the frame rule gives at multiples of the prerender interval.
//!
//! Anchors lie on the wall clock, not on the recording, so every window that starts on the grid finds all of its
//! pictures stored. One decode makes all configured renditions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stills_model::fault::FaultKind;
use stills_model::id::{RecordingId, Timeline};
use stills_model::rendition::Rendition;
use stills_model::thumb::MediaId;
use stills_model::time::{Span, Timestamp};

use super::queue::{Job, Queue};
use super::{Anchors, Pipeline};
use crate::catalog::Located;
use crate::thumbs::ThumbError;

/// The pause after the decoders or the stores had no room: what is stored by then is not rendered again.
const BUSY_PAUSE: Duration = Duration::from_secs(5);

/// Instants looked up in one call, to keep the catalog's threads free for others.
const INSTANTS_PER_CALL: usize = 500;

impl Pipeline {
    /// Renders the anchors of a recording and notes that it is done.
    pub(super) async fn prerender(&self, timeline: &Timeline, recording: &RecordingId) {
        let (timeline, id) = (*timeline, recording.clone());
        let row = match self.write(move |catalog, _| catalog.row(&timeline, &id)).await {
            Ok(row) => row,
            Err(error) => return tracing::error!(%error, "a recording to prerender could not be looked up"),
        };
        let indexed = row.filter(|row| !row.removed && row.to_prerender).and_then(|row| row.indexed);
        let Some(indexed) = indexed else { return };
        let instants = match self.0.config.prerender.anchors {
            Anchors::Every(interval_ms) => anchors_of(&indexed.span, interval_ms),
            Anchors::EveryKeyframe => self.keyframe_instants(timeline, indexed.media, indexed.span.start).await,
            Anchors::Off => Vec::new(),
        };
        let renditions = &self.0.config.prerender.renditions;
        let rendered = self.prerender_instants(timeline, &instants, renditions).await;
        if let Err(ThumbError::Busy) = rendered {
            let job = Job::Prerender { timeline, recording: recording.clone() };
            return Queue::push_later(Arc::clone(&self.0), BUSY_PAUSE, job);
        }
        if let Err(error) = rendered {
            // Prerendering saves time and is no promise: what is missing is rendered when it is asked for.
            tracing::warn!(%error, %recording, "a recording is not wholly prerendered");
        }
        let (id, media) = (recording.clone(), indexed.media);
        if let Err(error) = self.write(move |catalog, now| catalog.note_prerendered(&timeline, &id, media, now)).await {
            tracing::warn!(%error, "a finished prerender could not be noted");
        }
    }

    /// Makes sure that the keyframes which answer for these instants, in order, are stored in all renditions.
    pub(super) async fn prerender_instants(
        &self,
        timeline: Timeline,
        instants: &[Timestamp],
        renditions: &[Rendition],
    ) -> Result<(), ThumbError> {
        if renditions.is_empty() {
            return Ok(());
        }
        for part in instants.chunks(INSTANTS_PER_CALL) {
            let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
            let window = Span { start: *first, end: *last };
            let located = self.0.parts.thumbs.locate_all(timeline, window, part.to_vec()).await?;
            // One keyframe may answer for several instants.
            let distinct: BTreeMap<(MediaId, i64), Located> =
                located.into_iter().flatten().map(|located| ((located.media, located.at_ms), located)).collect();
            for located in distinct.into_values() {
                match self.0.parts.thumbs.ensure(&located, renditions).await {
                    Ok(_) => {}
                    Err(ThumbError::Fault(fault)) if fault.kind == FaultKind::Busy => return Err(ThumbError::Busy),
                    // One bad keyframe is not the whole recording.
                    Err(ThumbError::Fault(fault)) => tracing::debug!(%fault, "a keyframe could not be prerendered"),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    async fn keyframe_instants(&self, timeline: Timeline, media: MediaId, start: Timestamp) -> Vec<Timestamp> {
        let pages = self.write(move |catalog, _| catalog.keyframe_pages(&timeline, &media)).await;
        let pages = pages.unwrap_or_default();
        pages.iter().flat_map(|page| &page.keyframes).map(|keyframe| start.plus_ms(keyframe.at_ms)).collect()
    }
}

/// The multiples of the interval that this recording may answer for: those it covers and one on either side,
/// which its first or last keyframe may have become the nearest to.
fn anchors_of(span: &Span, interval_ms: i64) -> Vec<Timestamp> {
    let interval_ms = interval_ms.max(1);
    let first = span.start.as_ms().div_euclid(interval_ms);
    let last = span.end.as_ms().div_euclid(interval_ms) + 1;
    (first..=last).map(|n| Timestamp::from_ms(n.saturating_mul(interval_ms))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_lie_on_the_wall_clock() {
        let span = Span { start: Timestamp::from_ms(10_500), end: Timestamp::from_ms(31_000) };
        let ms: Vec<i64> = anchors_of(&span, 10_000).into_iter().map(Timestamp::as_ms).collect();
        assert_eq!(ms, [10_000, 20_000, 30_000, 40_000]);
    }
}
