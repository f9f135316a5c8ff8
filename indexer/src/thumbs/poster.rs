//! Posters: the picture that stands for a recording. Not for an instant: those get the nearest keyframe, however dark.
//!
//! The first keyframe that is neither black nor flat, of the first [`CHOICES_MAX`]; where all are, the most varied one.
//! Cameras begin with black while they wake, and gradual refresh begins with grey. What a candidate looks like is
//! known when it is rendered; which one was chosen is remembered in memory, and found again after a restart.

use std::hash::{DefaultHasher, Hash, Hasher};

use stills_model::fault::{Fault, FaultKind};
use stills_model::id::{RecordingId, Timeline};
use stills_model::rendition::Rendition;
use stills_model::thumb::MediaId;
use stills_model::time::Timestamp;
use stills_model::wire::Luma;
use tokio::sync::Mutex;

use super::{Picture, ThumbError, Thumbs, key_of};
use crate::catalog::row::Row;
use crate::catalog::{Located, Missing};
use crate::decode::Class;

/// Keyframes that are looked at: 16 s of most cameras.
const CHOICES_MAX: usize = 8;

/// Choices remembered; each is some forty bytes.
const REMEMBERED_MAX: u64 = 100_000;

/// Choices that are made at once, by a hash of the media.
const CHOOSING_MAX: usize = 64;

/// A picture of one tone: the deviation of JPEG noise is below it.
const FLAT_DEVIATION_MAX: u8 = 2;

/// A picture in the dark with some noise: footage at night has lights or infrared.
const DARK_MEAN_MAX: u8 = 20;
const DARK_DEVIATION_MAX: u8 = 6;

/// Whether a picture shows next to nothing: black, or grey all over.
const fn is_blank(luma: Luma) -> bool {
    luma.deviation <= FLAT_DEVIATION_MAX || luma.mean <= DARK_MEAN_MAX && luma.deviation <= DARK_DEVIATION_MAX
}

/// Which keyframes were chosen, and who is choosing.
#[derive(Debug)]
pub(super) struct Posters {
    chosen: moka::sync::Cache<(Timeline, MediaId), i64>,
    choosing: Vec<Mutex<()>>,
}

impl Posters {
    pub(super) fn new() -> Self {
        let choosing = (0..CHOOSING_MAX).map(|_| Mutex::new(())).collect();
        Self { chosen: moka::sync::Cache::new(REMEMBERED_MAX), choosing }
    }

    /// Held by whoever chooses for this media, so that others wait for the choice.
    fn lock_of(&self, media: (Timeline, MediaId)) -> Option<&Mutex<()>> {
        let mut hasher = DefaultHasher::new();
        media.hash(&mut hasher);
        let place = hasher.finish() % CHOOSING_MAX as u64;
        usize::try_from(place).ok().and_then(|place| self.choosing.get(place))
    }
}

/// A recording's first keyframes.
struct Choices {
    /// The first one; the others differ in their instant.
    first: Located,
    start: Timestamp,
    instants_ms: Vec<i64>,
}

impl Choices {
    fn located(&self, at_ms: i64) -> Located {
        let timestamp = self.start.plus_ms(at_ms);
        Located { at_ms, timestamp, asked: timestamp, ..self.first.clone() }
    }
}

impl Thumbs {
    /// The picture that stands for a recording, and the keyframe that it shows.
    ///
    /// # Errors
    /// [`ThumbError::Missing`] where there is no such recording, or none that is indexed; [`ThumbError::Fault`] when
    /// none of its first keyframes can be shown.
    pub async fn poster(
        &self,
        timeline: Timeline,
        recording: RecordingId,
        rendition: Rendition,
        class: Class,
    ) -> Result<(Picture, Located), ThumbError> {
        let choices = self.choices(timeline, recording).await?;
        let media = (timeline, choices.first.media);
        let posters = &self.0.posters;
        let mut chosen = posters.chosen.get(&media);
        if chosen.is_none() {
            let _choosing = match posters.lock_of(media) {
                Some(lock) => Some(lock.lock().await),
                None => None,
            };
            chosen = match posters.chosen.get(&media) {
                Some(chosen) => Some(chosen),
                None => Some(self.choose(&choices, rendition, class).await?),
            };
        }
        let located = choices.located(chosen.unwrap_or(choices.first.at_ms));
        let picture = self.picture(&located, rendition, class).await?;
        Ok((picture, located))
    }

    /// Renders the first keyframes until one shows something. The pictures are those of any thumb, and kept.
    async fn choose(&self, choices: &Choices, rendition: Rendition, class: Class) -> Result<i64, ThumbError> {
        let (mut best, mut fault): (Option<(u8, i64)>, Option<Fault>) = (None, None);
        let mut is_certain = choices.first.is_settled || choices.instants_ms.len() == CHOICES_MAX;
        for at_ms in &choices.instants_ms {
            let located = choices.located(*at_ms);
            let rendered = match self.0.faults.remembered(&key_of(&located, rendition)) {
                Some(fault) => Err(fault),
                None => self.render_measured(&located, self.plan(&located).await, &[rendition], class, None).await,
            };
            match rendered {
                // One that did not stand alone was no easy picture, and is one.
                Ok((_, luma)) if luma.is_none_or(|luma| !is_blank(luma)) => {
                    best = Some((u8::MAX, *at_ms));
                    is_certain = true;
                    break;
                }
                Ok((_, luma)) => {
                    let deviation = luma.map_or(0, |luma| luma.deviation);
                    if best.is_none_or(|(known, _)| known < deviation) {
                        best = Some((deviation, *at_ms));
                    }
                }
                // These will not pass, and the next keyframe may be fine.
                Err(why) if matches!(why.kind, FaultKind::Damaged | FaultKind::Unsupported | FaultKind::TooLarge) => {
                    fault = fault.or(Some(why));
                }
                Err(why) => return Err(ThumbError::Fault(why)),
            }
        }
        let none = || fault.unwrap_or_else(|| Fault::new(FaultKind::Damaged, "the recording has no keyframe"));
        let (_, at_ms) = best.ok_or_else(|| ThumbError::Fault(none()))?;
        if is_certain {
            self.0.posters.chosen.insert((choices.first.timeline, choices.first.media), at_ms);
        }
        Ok(at_ms)
    }

    /// A recording's first keyframes.
    async fn choices(&self, timeline: Timeline, recording: RecordingId) -> Result<Choices, ThumbError> {
        let id = recording.clone();
        let looked_up = self.ask(move |catalog| {
            let Some(row) = catalog.row(&timeline, &id)? else { return Ok(None) };
            let instants_ms = match &row.indexed {
                Some(indexed) => catalog.first_keyframes(&timeline, &indexed.media, CHOICES_MAX)?,
                None => Vec::new(),
            };
            Ok(Some((row, instants_ms)))
        });
        let Some((row, instants_ms)) = looked_up.await? else {
            return Err(ThumbError::Missing(Missing::NotRecorded));
        };
        let first = first(timeline, recording, &row, instants_ms.first().copied(), self.0.parts.clock.now());
        let first = first.map_err(ThumbError::Missing)?;
        let start = first.timestamp.plus_ms(-first.at_ms);
        Ok(Choices { first, start, instants_ms })
    }
}

/// The first keyframe of a recording that is shown, else what is there instead.
fn first(
    timeline: Timeline,
    recording: RecordingId,
    row: &Row,
    first_ms: Option<i64>,
    now: Timestamp,
) -> Result<Located, Missing> {
    if row.removed || row.is_expired(now) {
        return Err(Missing::Deleted);
    }
    let Some(indexed) = &row.indexed else {
        return Err(match &row.fault {
            Some(fault) if !row.to_scan => Missing::Failed(fault.clone()),
            _ => Missing::NotIndexed,
        });
    };
    let at_ms = first_ms.ok_or(Missing::NotIndexed)?;
    let timestamp = indexed.span.start.plus_ms(at_ms);
    Ok(Located {
        timeline,
        recording,
        media: indexed.media,
        at_ms,
        timestamp,
        asked: timestamp,
        is_settled: !indexed.growing,
        is_provisional: false,
        is_own_instant: indexed.span.contains(timestamp),
        expires_at: row.expires_at(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_next_to_nothing() {
        let check = |mean, deviation, expected| {
            assert_eq!(is_blank(Luma { mean, deviation }), expected, "mean {mean}, deviation {deviation}");
        };
        check(0, 0, true);
        check(16, 3, true);
        check(128, 1, true);
        check(255, 2, true);
        check(15, 12, false);
        check(40, 5, false);
        check(128, 60, false);
    }
}
