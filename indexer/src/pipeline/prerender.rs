//! Rendering ahead of time: the keyframes that the frame rule gives at multiples of the prerender interval.
//!
//! Anchors lie on the wall clock, not on the recording, so every window that starts on the grid finds all of its
//! pictures stored. One decode makes all configured renditions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stills_model::fault::{Fault, FaultKind};
use stills_model::id::{RecordingId, Timeline};
use stills_model::rendition::Rendition;
use stills_model::thumb::MediaId;
use stills_model::time::{Span, Timestamp};

use super::queue::{Job, Queue, Urgency};
use super::{Anchors, Pipeline};
use crate::catalog::{Located, SETTLED_AFTER_MS};
use crate::config::pictures::PrerenderPolicy;
use crate::thumbs::ThumbError;

/// The pause after the decoders or the stores had no room: what is stored by then is not rendered again.
const BUSY_PAUSE: Duration = Duration::from_secs(5);

/// Instants in one turn: about a second of decoding, so that a recording of a whole day never holds up a scan.
const INSTANTS_PER_TURN: usize = 40;

/// What becomes of an anchor whose answer is provisional: that a recording which follows within the minute has a nearer
/// keyframe is what mostly happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// It waits for ten minutes, and is shown by whatever answers then.
    HeldBack,
    /// It is rendered.
    Rendered,
}

/// What a turn has left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// This many anchors are done, others are left.
    More(usize),
    /// Nothing, or nothing now.
    Done,
}

impl Pipeline {
    /// Takes one turn, and queues the next.
    pub(super) async fn prerender_turn(&self, job: &Job, timeline: &Timeline, recording: &RecordingId, n_done: usize) {
        if let Turn::More(n_done) = self.prerender(timeline, recording, n_done, Edge::HeldBack).await {
            let next = Job::Prerender { timeline: *timeline, recording: recording.clone(), n_done };
            self.0.queue.push(self.0.queue.urgency(job), next);
        }
    }

    /// Renders a turn's worth of a recording's anchors behind the first `n_done`, and notes when all are done.
    pub(super) async fn prerender(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        n_done: usize,
        edge: Edge,
    ) -> Turn {
        let (timeline, id) = (*timeline, recording.clone());
        let row = match self.write(move |catalog, _| catalog.row(&timeline, &id)).await {
            Ok(row) => row,
            Err(error) => {
                tracing::error!(%error, "a recording to prerender could not be looked up");
                return Turn::Done;
            }
        };
        let indexed = row.filter(|row| !row.removed && row.to_prerender).and_then(|row| row.indexed);
        let Some(indexed) = indexed else { return Turn::Done };
        let instants = match self.0.config.prerender.anchors {
            _ if self.0.config.prerender.policy(timeline.user) != PrerenderPolicy::All => Vec::new(),
            Anchors::Every(interval_ms) => anchors_of(&indexed.span, interval_ms),
            Anchors::EveryKeyframe => self.keyframe_instants(timeline, indexed.media, indexed.span.start).await,
            Anchors::Off => Vec::new(),
        };
        let turn = instants.get(n_done..).unwrap_or_default();
        let turn = &turn[..turn.len().min(INSTANTS_PER_TURN)];
        let renditions = &self.0.config.prerender.renditions;
        let rendered = self.prerender_instants(timeline, turn, renditions, edge).await;
        if let Err(ThumbError::Busy) = rendered {
            let job = Job::Prerender { timeline, recording: recording.clone(), n_done };
            Queue::push_later(Arc::clone(&self.0), BUSY_PAUSE, job);
            return Turn::Done;
        }
        if let Err(error) = rendered {
            // Prerendering saves time and is no promise: what is missing is rendered when it is asked for.
            tracing::warn!(%error, %recording, "a recording is not wholly prerendered");
        }
        let n_done = n_done + turn.len();
        if n_done < instants.len() {
            return Turn::More(n_done);
        }
        let (id, media) = (recording.clone(), indexed.media);
        if let Err(error) = self.write(move |catalog, now| catalog.note_prerendered(&timeline, &id, media, now)).await {
            tracing::warn!(%error, "a finished prerender could not be noted");
        }
        Turn::Done
    }

    /// Renders a turn's worth of a listed window, and queues the rest.
    pub(super) async fn render_listed(&self, timeline: Timeline, rendition: Rendition, instants: &[Timestamp]) {
        let (turn, rest) = instants.split_at(instants.len().min(INSTANTS_PER_TURN));
        if let Err(error) = self.prerender_instants(timeline, turn, &[rendition], Edge::Rendered).await {
            return tracing::debug!(%error, "a listed window is not wholly rendered");
        }
        if !rest.is_empty() {
            self.request_listed(timeline, rendition, rest.to_vec());
        }
    }

    /// Queues the anchors that were held back for long enough.
    pub(super) fn queue_held(&self) {
        for (timeline, instants) in self.0.held.take_due(self.0.parts.clock.now()) {
            self.0.queue.push(Urgency::Backfill, Job::Anchors { timeline, instants });
        }
    }

    /// Renders anchors that were held back, by whatever keyframe answers for them now.
    pub(super) async fn render_held(&self, timeline: Timeline, instants: &Arc<[Timestamp]>) {
        let renditions = &self.0.config.prerender.renditions;
        match self.prerender_instants(timeline, instants, renditions, Edge::Rendered).await {
            Ok(()) => {}
            Err(ThumbError::Busy) => {
                let job = Job::Anchors { timeline, instants: Arc::clone(instants) };
                Queue::push_later(Arc::clone(&self.0), BUSY_PAUSE, job);
            }
            Err(error) => tracing::warn!(%error, "anchors that were held back are not wholly prerendered"),
        }
    }

    /// Makes sure that the keyframes which answer for these instants, in order, are stored in all renditions; of those whose
    /// answer is provisional what `edge` says.
    async fn prerender_instants(
        &self,
        timeline: Timeline,
        instants: &[Timestamp],
        renditions: &[Rendition],
        edge: Edge,
    ) -> Result<(), ThumbError> {
        if renditions.is_empty() {
            return Ok(());
        }
        let (Some(first), Some(last)) = (instants.first(), instants.last()) else { return Ok(()) };
        let window = Span { start: *first, end: *last };
        let located = self.0.parts.thumbs.locate_all(timeline, window, instants.to_vec()).await?;
        let is_held = |located: &Located| edge == Edge::HeldBack && located.is_provisional;
        let (held, located): (Vec<_>, Vec<_>) = located.into_iter().flatten().partition(is_held);
        self.store_located(located, renditions).await?;
        // Behind what may have to be done again.
        let due = self.0.parts.clock.now().plus_ms(SETTLED_AFTER_MS);
        if self.0.held.hold(due, timeline, held.iter().map(|located| located.asked).collect()) {
            return Ok(());
        }
        self.store_located(held, renditions).await
    }

    /// Makes sure that these keyframes are stored in all renditions.
    async fn store_located(&self, located: Vec<Located>, renditions: &[Rendition]) -> Result<(), ThumbError> {
        // One keyframe may answer for several instants.
        let distinct: BTreeMap<(MediaId, i64), Located> =
            located.into_iter().map(|located| ((located.media, located.at_ms), located)).collect();
        // Most of a page that is listed again is stored: one look for all of them.
        let missing = self.0.parts.thumbs.not_stored(distinct.into_values().collect(), renditions).await?;
        let told = |fault: Fault| match fault.kind {
            FaultKind::Busy => Err(ThumbError::Busy),
            // One bad keyframe is not the whole recording.
            _ => {
                tracing::debug!(%fault, "a keyframe could not be prerendered");
                Ok(())
            }
        };
        self.0.parts.thumbs.ensure_all(&missing, renditions, told).await
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
