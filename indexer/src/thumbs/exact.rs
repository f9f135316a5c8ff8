//! Exact frames: from instants to the frames nearest to them, keyframes or not.
//!
//! 1. the catalog names the recording that covers each instant, and the keyframe that decoding starts at;
//! 2. instants of one stretch between keyframes share one decode;
//! 3. the decoder reads the media through us and gives the frames.
//!
//! Any frame of the covering recording may answer; before its first and behind its last frame these do. Nothing is
//! kept: an exact frame is asked for by an instant that hardly comes twice, which frame answers is only known once it is
//! decoded, and in full quality it is another picture than the thumb of the same keyframe, whose key it must not take.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use stills_model::exact::ExactQuery;
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::{RecordingId, Timeline};
use stills_model::keyframe::ByteRange;
use stills_model::rendition::Rendition;
use stills_model::thumb::MediaId;
use stills_model::time::{Span, Timestamp};
use stills_model::wire::PICTURES_MAX;

use super::{ThumbError, Thumbs};
use crate::catalog::{Located, Missing};
use crate::decode::{Class, Frame, Ranges};
use crate::source::Media;

/// The class of these renders in the metrics.
const METRICS_CLASS: &str = "exact";

/// The frame nearest to an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExactPicture {
    /// Wall clock of the frame.
    pub timestamp: Timestamp,
    /// The encoded picture.
    pub body: Bytes,
}

/// A decoder's reads, answered from the media.
struct Readable(Media);

impl Ranges for Readable {
    async fn read(&self, offset: u64, len: u32) -> Result<Bytes, Fault> {
        self.0.read(ByteRange { offset, len }).await
    }
}

/// Where a decode starts.
type Stretch = (RecordingId, MediaId, i64);

impl Thumbs {
    /// The frames nearest to `instants` (of two equally near the later), in their order. Callers bound how many.
    ///
    /// # Errors
    /// For each instant its own: as [`Thumbs::locate`]; [`ThumbError::Fault`] when the frame cannot be decoded within
    /// `decoders.exact_frames_max` and `decoders.exact_deadline`.
    pub async fn exact(
        &self,
        timeline: Timeline,
        instants: Vec<Timestamp>,
        rendition: Rendition,
        class: Class,
    ) -> Vec<Result<ExactPicture, ThumbError>> {
        let mut results: Vec<Option<Result<ExactPicture, ThumbError>>> = vec![None; instants.len()];
        let mut stretches: BTreeMap<Stretch, Vec<(usize, Located)>> = BTreeMap::new();
        for (place, start) in self.starts(timeline, instants).await.into_iter().enumerate() {
            match start {
                Ok(start) => {
                    let stretch = (start.recording.clone(), start.media, start.at_ms);
                    stretches.entry(stretch).or_default().push((place, start));
                }
                Err(error) => set(&mut results, place, Err(error)),
            }
        }
        for asked in stretches.values().flat_map(|asked| asked.chunks(PICTURES_MAX)) {
            self.exact_of(asked, rendition, class, &mut results).await;
        }
        let unanswered = || Err(ThumbError::Fault(Fault::new(FaultKind::Internal, "an instant was left out")));
        results.into_iter().map(|result| result.unwrap_or_else(unanswered)).collect()
    }

    /// Where decoding starts for each instant.
    async fn starts(&self, timeline: Timeline, instants: Vec<Timestamp>) -> Vec<Result<Located, ThumbError>> {
        let (now, count) = (self.0.parts.clock.now(), instants.len());
        let starts = self.ask(move |catalog| {
            let start = |asked: Timestamp| {
                catalog.locator(timeline, Span { start: asked, end: asked }, now)?.locate_start(asked)
            };
            instants.into_iter().map(start).collect::<Result<Vec<_>, _>>()
        });
        let has_expired = |located: &Located| located.expires_at.is_some_and(|expires_at| expires_at <= now);
        let check = |start: Result<Located, Missing>| match start {
            Ok(located) if has_expired(&located) => Err(ThumbError::Missing(Missing::Deleted)),
            start => start.map_err(ThumbError::Missing),
        };
        match starts.await {
            Ok(starts) => starts.into_iter().map(check).collect(),
            Err(error) => vec![Err(error); count],
        }
    }

    /// Answers instants that share a decode: all of them start at one keyframe.
    async fn exact_of(
        &self,
        asked: &[(usize, Located)],
        rendition: Rendition,
        class: Class,
        results: &mut [Option<Result<ExactPicture, ThumbError>>],
    ) {
        let Some((_, located)) = asked.first() else { return };
        let start = located.timestamp.plus_ms(-located.at_ms);
        let instants_ms: Vec<i64> = asked.iter().map(|(_, located)| located.asked.since_ms(start)).collect();
        let began = Instant::now();
        let frames = self.frames(located, &instants_ms, &[rendition], u32::MAX, class).await;
        let outcome = frames.as_ref().map(|_| ()).map_err(|fault| fault.kind);
        self.0.parts.metrics.render(METRICS_CLASS, outcome, began.elapsed());
        if matches!(outcome, Err(FaultKind::Gone)) {
            self.set_gone(located).await;
        }
        let frames = frames.unwrap_or_else(|fault| vec![Err(fault); asked.len()]);
        for ((place, _), frame) in asked.iter().zip(frames) {
            let picture = frame.and_then(|Frame { at_ms, pictures }| {
                let body = pictures.into_iter().next();
                let body = body.ok_or_else(|| Fault::new(FaultKind::Internal, "the decoder gave no picture"))?;
                Ok(ExactPicture { timestamp: start.plus_ms(at_ms), body })
            });
            set(results, *place, picture.map_err(ThumbError::Fault));
        }
    }

    /// The frames nearest to `instants_ms`, which count from the recording's start, decoded from the located keyframe
    /// on.
    pub(super) async fn frames(
        &self,
        from: &Located,
        instants_ms: &[i64],
        renditions: &[Rendition],
        frames_max: u32,
        class: Class,
    ) -> Result<Vec<Result<Frame, Fault>>, Fault> {
        let plan = self.plan(from).await?;
        let media = self.open(from, &plan).await?;
        let query = ExactQuery {
            len: media.len(),
            growing: plan.is_growing,
            from_ms: from.at_ms,
            ranges: plan.ranges,
            config: plan.config,
            instants_ms: instants_ms.to_vec(),
            frames_max,
            renditions: renditions.to_vec(),
        };
        self.0.parts.pool.exact(from.timeline.user, class, query, &Readable(media)).await
    }
}

fn set(
    results: &mut [Option<Result<ExactPicture, ThumbError>>],
    place: usize,
    result: Result<ExactPicture, ThumbError>,
) {
    if let Some(slot) = results.get_mut(place) {
        *slot = Some(result);
    }
}
