//! Clips: pictures of media that callers name by URL. Composes source, decode and model; knows neither catalog nor HTTP.
//!
//! The path of a picture:
//!
//! 1. the URL is checked against `[fetch]`, the credentials against those that the user may name;
//! 2. a slot is taken (`fetch.running_max`), or the call is refused at once; `fetch.deadline` runs for all that follows;
//! 3. [`index`] knows the clip's keyframes, for this user, these credentials and the version last seen; else
//! 4. a decoder finds them through ranged reads, of which `fetch.bytes_max` are allowed;
//! 5. one ranged read gets the keyframe, of that very version, or is told that it changed: then all is done anew, once;
//! 6. a decoder of this user renders it. Nothing of the picture is stored.

mod error;
mod index;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stills_model::clip::{ClipFound, ClipPoint, ClipQuery, ClipShown, Containers, KeyframeBytes, Percent};
use stills_model::exact::ExactQuery;
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::UserId;
use stills_model::keyframe::{ByteRange, DecoderConfig, Keyframe};
use stills_model::keyframe_index::KeyframeIndex;
use stills_model::rendition::Rendition;
use tokio::sync::Semaphore;

use crate::decode::{Class, DecodePool, Frame, Ranges};
use crate::metrics::Metrics;
use crate::source::Media;
use crate::source::credentials::Credentials;
use crate::source::fetch::Fetch;
use crate::source::policy::Refused;

pub use error::ClipError;
use index::{Known, Memory, Single};

/// The class of these renders in the metrics.
const METRICS_CLASS: &str = "clip";

/// The limits of `[fetch]`.
#[derive(Debug, Clone)]
pub struct ClipsConfig {
    /// The most bytes of media that may be read for one picture.
    pub bytes_max: u64,
    /// How long one picture may take, reading included.
    pub deadline: Duration,
    /// Pictures of clips that may be made at once; one more is refused.
    pub running_max: usize,
    /// The most bytes of memory for what is known of clips.
    pub index_bytes_max: u64,
    /// Containers that are read beside those of recordings.
    pub containers: Containers,
}

/// What clips are made with.
#[derive(Debug)]
pub struct Parts {
    /// Reads what callers name.
    pub fetch: Fetch,
    /// Decodes.
    pub pool: Arc<DecodePool>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Which clip, for whom.
#[derive(Debug, Clone, Copy)]
pub struct ClipWanted<'a> {
    /// Who names it.
    pub user: UserId,
    /// As it was named.
    pub url: &'a str,
    /// The credentials that the user named; without, those that the user may name and whose `url_prefix` the URL has.
    pub credentials_key: Option<&'a str>,
}

/// A picture of a clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipPicture {
    /// Of the frame shown: milliseconds after the clip's first presented frame.
    pub at_ms: i64,
    /// The encoded picture.
    pub body: Bytes,
}

/// Pictures of what callers name. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Clips(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    config: ClipsConfig,
    slots: Semaphore,
    memory: Memory,
}

/// A decoder's reads, answered from the clip and counted.
struct Counted<'a> {
    media: &'a Media,
    left: AtomicU64,
    max: u64,
}

impl<'a> Counted<'a> {
    fn new(media: &'a Media, max: u64) -> Self {
        Self { media, left: AtomicU64::new(max), max }
    }

    /// Takes `len` bytes off what may still be read.
    fn spend(&self, len: u64) -> Result<(), Fault> {
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(len));
        let over = || format!("more than {} bytes (fetch.bytes_max) would have to be read for this picture", self.max);
        spent.map(|_| ()).map_err(|_| Fault::new(FaultKind::Unreadable, over()))
    }

    async fn read_ranges(&self, ranges: &[ByteRange]) -> Result<Vec<Bytes>, Fault> {
        self.spend(ranges.iter().map(|range| u64::from(range.len)).sum())?;
        self.media.read_ranges(ranges).await
    }
}

impl Ranges for Counted<'_> {
    async fn read(&self, offset: u64, len: u32) -> Result<Bytes, Fault> {
        self.spend(len.into())?;
        self.media.read(ByteRange { offset, len }).await
    }
}

impl Clips {
    /// Clips under these limits.
    pub fn new(parts: Parts, config: ClipsConfig) -> Self {
        let (slots, memory) = (Semaphore::new(config.running_max), Memory::new(config.index_bytes_max));
        Self(Arc::new(Inner { parts, config, slots, memory }))
    }

    /// Whether a user may have this URL fetched, as far as its text tells; asks nothing of the network.
    ///
    /// # Errors
    /// Why not; public text.
    pub fn check(&self, user: UserId, url: &str) -> Result<(), Refused> {
        self.0.parts.fetch.check(user, url)
    }

    /// Replaces the credentials.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.0.parts.fetch.set_credentials(credentials);
    }

    /// The keyframe at or before a point of the clip; at 100 percent the last one.
    ///
    /// # Errors
    /// [`ClipError`] says whether the URL, the credentials or the media are at fault.
    pub async fn picture(
        &self,
        wanted: ClipWanted<'_>,
        at: Percent,
        rendition: Rendition,
    ) -> Result<ClipPicture, ClipError> {
        self.show(wanted, ClipPoint::Keyframe(at), rendition, Class::Interactive).await
    }

    /// The frame nearest to `second`, counted from the first presented frame; past the end the last frame. What is
    /// negative or no number is 0.
    ///
    /// # Errors
    /// As [`Clips::picture`]; a frame that is more than `decoders.exact_frames_max` behind its keyframe is a fault.
    pub async fn exact(
        &self,
        wanted: ClipWanted<'_>,
        second: f64,
        rendition: Rendition,
        class: Class,
    ) -> Result<ClipPicture, ClipError> {
        self.show(wanted, ClipPoint::Exact(millis(second)), rendition, class).await
    }

    async fn show(
        &self,
        wanted: ClipWanted<'_>,
        point: ClipPoint,
        rendition: Rendition,
        class: Class,
    ) -> Result<ClipPicture, ClipError> {
        self.check(wanted.user, wanted.url).map_err(|refused| ClipError::Refused(refused.detail))?;
        if let Some(key) = wanted.credentials_key
            && !self.0.parts.fetch.has_credentials(wanted.user, key)
        {
            return Err(ClipError::UnknownCredentials);
        }
        let busy = || Fault::new(FaultKind::Busy, "too many pictures of URLs are being made; try again soon");
        let _slot = self.0.slots.try_acquire().map_err(|_| busy())?;
        let (began, deadline) = (Instant::now(), self.0.config.deadline);
        let late = || Fault::new(FaultKind::Deadline, format!("it took longer than {deadline:?} (fetch.deadline)"));
        let shown = tokio::time::timeout(deadline, self.shown(wanted, point, rendition, class)).await;
        let shown = shown.unwrap_or_else(|_| Err(late()));
        let outcome = shown.as_ref().map(|_| ()).map_err(|fault| fault.kind);
        self.0.parts.metrics.render(METRICS_CLASS, outcome, began.elapsed());
        Ok(shown?)
    }

    /// By what is known, else anew; what changed meanwhile is looked at anew once.
    async fn shown(
        &self,
        wanted: ClipWanted<'_>,
        point: ClipPoint,
        rendition: Rendition,
        class: Class,
    ) -> Result<ClipPicture, Fault> {
        if let Some(known) = self.0.memory.get(&wanted) {
            let ClipWanted { user, url, credentials_key } = wanted;
            let media = self.0.parts.fetch.open_pinned(user, url, credentials_key, &known.pinned)?;
            let media = Counted::new(&media, self.0.config.bytes_max);
            let shown = match &known {
                Known { index: Some(index), .. } => {
                    self.of_index(&media, user, index, point, rendition, class).await.map(Some)
                }
                Known { singles, .. } => match singles.iter().find(|single| single.point == point) {
                    Some(single) => self.of_single(&media, user, single, rendition, class).await.map(Some),
                    None => Ok(None),
                },
            };
            match shown {
                Ok(Some(shown)) => return Ok(shown),
                Ok(None) => {}
                Err(fault) if fault.kind == FaultKind::Changed => self.0.memory.forget(&wanted),
                Err(fault) => return Err(fault),
            }
        }
        match self.anew(wanted, point, rendition, class).await {
            Err(fault) if fault.kind == FaultKind::Changed => self.anew(wanted, point, rendition, class).await,
            shown => shown,
        }
    }

    async fn anew(
        &self,
        wanted: ClipWanted<'_>,
        point: ClipPoint,
        rendition: Rendition,
        class: Class,
    ) -> Result<ClipPicture, Fault> {
        let ClipWanted { user, url, credentials_key } = wanted;
        let opened = self.0.parts.fetch.open(user, url, credentials_key).await?;
        let media = Counted::new(&opened, self.0.config.bytes_max);
        let query = ClipQuery {
            len: opened.len(),
            point,
            containers: self.0.config.containers,
            frames_max: u32::MAX,
            renditions: vec![rendition],
        };
        // Without a word of the server about its version, the next answer may be of another: nothing is kept.
        let pinned = opened.pinned();
        match self.0.parts.pool.clip(user, class, query, &media).await? {
            ClipFound::Listed(index) => {
                let index = Arc::new(index);
                let shown = self.of_index(&media, user, &index, point, rendition, class).await?;
                if let Some(pinned) = pinned {
                    self.0.memory.keep(&wanted, Known { pinned, index: Some(index), singles: Vec::new() });
                }
                Ok(shown)
            }
            ClipFound::Shown(ClipShown { at_ms, config, keyframe, pictures }) => {
                if let (Some(pinned), ClipPoint::Keyframe(_)) = (pinned, point) {
                    self.0.memory.add(&wanted, pinned, Single { point, at_ms, config, keyframe });
                }
                picture(at_ms, pictures.into_iter().map(Bytes::from).collect())
            }
        }
    }

    /// The keyframe that was found before. One whose bytes are held is asked for too, by one byte: whether the media is
    /// still the same, and still open to these credentials, its place alone can tell.
    async fn of_single(
        &self,
        media: &Counted<'_>,
        user: UserId,
        single: &Single,
        rendition: Rendition,
        class: Class,
    ) -> Result<ClipPicture, Fault> {
        let pieces = match &single.keyframe {
            KeyframeBytes::Ranges(ranges) => media.read_ranges(ranges).await?,
            KeyframeBytes::Packets(packets) => {
                media.read(0, 1).await?;
                packets.iter().map(|packet| Bytes::copy_from_slice(packet)).collect()
            }
        };
        let rendered = self.0.parts.pool.render(user, class, &single.config, &pieces, &[rendition]).await?;
        picture(single.at_ms, rendered.pictures)
    }

    async fn of_index(
        &self,
        media: &Counted<'_>,
        user: UserId,
        index: &KeyframeIndex,
        point: ClipPoint,
        rendition: Rendition,
        class: Class,
    ) -> Result<ClipPicture, Fault> {
        let point_ms = match point {
            ClipPoint::Keyframe(percent) => percent.of_ms(index.duration_ms),
            ClipPoint::Exact(at_ms) => at_ms,
        };
        let (keyframe, config) = at_or_before(index, point_ms)?;
        if let ClipPoint::Exact(at_ms) = point {
            return self.frame(media, user, (keyframe, config), at_ms, rendition, class).await;
        }
        let pieces = media.read_ranges(&keyframe.ranges).await?;
        let rendered = self.0.parts.pool.render(user, class, config, &pieces, &[rendition]).await?;
        picture(keyframe.at_ms, rendered.pictures)
    }

    /// The frame nearest to `at_ms`, decoded from a keyframe on.
    async fn frame(
        &self,
        media: &Counted<'_>,
        user: UserId,
        (keyframe, config): (&Keyframe, &DecoderConfig),
        at_ms: i64,
        rendition: Rendition,
        class: Class,
    ) -> Result<ClipPicture, Fault> {
        let query = ExactQuery {
            len: media.media.len(),
            growing: false,
            from_ms: keyframe.at_ms,
            ranges: keyframe.ranges.clone(),
            config: config.clone(),
            instants_ms: vec![at_ms],
            frames_max: u32::MAX,
            renditions: vec![rendition],
        };
        let frames = self.0.parts.pool.exact(user, class, query, media).await?;
        let none = || Err(Fault::new(FaultKind::Internal, "the decoder gave no frame"));
        let Frame { at_ms, pictures } = frames.into_iter().next().unwrap_or_else(none)?;
        picture(at_ms, pictures)
    }
}

/// The last keyframe that is not behind `point_ms`; the first where all are.
fn at_or_before(index: &KeyframeIndex, point_ms: i64) -> Result<(&Keyframe, &DecoderConfig), Fault> {
    let place = index.keyframes.partition_point(|keyframe| keyframe.at_ms <= point_ms).saturating_sub(1);
    let found = index.keyframes.get(place);
    let found = found.and_then(|keyframe| Some((keyframe, index.configs.get(usize::from(keyframe.config))?)));
    found.ok_or_else(|| Fault::new(FaultKind::Damaged, "the media holds no keyframe"))
}

fn picture(at_ms: i64, pictures: Vec<Bytes>) -> Result<ClipPicture, Fault> {
    let body = pictures.into_iter().next();
    let body = body.ok_or_else(|| Fault::new(FaultKind::Internal, "the decoder gave no picture"))?;
    Ok(ClipPicture { at_ms, body })
}

/// Seconds as milliseconds, rounded down; what no clip is long is the longest.
fn millis(second: f64) -> i64 {
    let second = if second.is_nan() { 0.0 } else { second.max(0.0) };
    Duration::try_from_secs_f64(second).ok().and_then(|d| i64::try_from(d.as_millis()).ok()).unwrap_or(MILLIS_MAX)
}

/// Thirty thousand years: past the end of anything, and far from overflow.
const MILLIS_MAX: i64 = 1 << 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds() {
        let check = |second: f64, expected: i64| assert_eq!(millis(second), expected, "{second}");
        check(0.0, 0);
        check(1.5, 1500);
        check(-3.0, 0);
        check(f64::NAN, 0);
        check(f64::INFINITY, MILLIS_MAX);
        check(1e300, MILLIS_MAX);
    }
}
