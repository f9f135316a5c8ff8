//! The samples of a recording from one keyframe on, in decoding order: what exact frames are decoded from.
//!
//! 1. MP4: all tables are read, as a scan does; the samples' bytes as they are asked for;
//! 2. MPEG-TS: from the keyframe's first packet on; the file's first pictures tell where its time starts;
//! 3. Matroska: from the cluster that the cues name, else through all block headers.
//!
//! The clock is that of the keyframe index. A container that tells another instant for the keyframe than the index has
//! (a transport stream whose clock leapt in between) is moved to the index's.

use std::borrow::Cow;
use std::collections::VecDeque;

use stills_model::exact::ExactQuery;
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::{DecoderConfig, ticks_to_ms};
use stills_model::wire::MESSAGE_LEN_MAX;

use super::timeline::{Access, Sample};
use super::window::Window;
use super::{Container, Media, mkv, mp4, too_large, ts};
use crate::packets::packets;

/// Pictures at a file's start that are looked at for its earliest instant: reordering never reaches further.
const FIRST_FRAMES: usize = 32;

/// Where samples come from.
enum Source {
    /// All are known: those to come, and the configurations that they name.
    Listed(VecDeque<Sample>, Vec<DecoderConfig>),
    Ts(Box<ts::Stream>),
    Mkv(Box<mkv::Stream>),
}

/// From ticks to the index's milliseconds.
#[derive(Debug, Clone, Copy)]
struct Clock {
    origin: i64,
    timescale: u32,
    shift_ms: i64,
}

impl Clock {
    fn ms(&self, pts: i64) -> i64 {
        ticks_to_ms(pts.saturating_sub(self.origin), self.timescale).saturating_add(self.shift_ms)
    }
}

/// Samples of one recording, read as they are asked for.
pub(crate) struct Samples<'m> {
    window: Window<'m>,
    config: DecoderConfig,
    source: Source,
    /// Read already, to come before what the source has.
    ahead: VecDeque<Sample>,
    clock: Clock,
    from_ms: i64,
}

/// One sample: a picture, or a field of one.
pub(crate) struct Fed {
    /// Presentation time in the container's ticks.
    pub(crate) pts: i64,
    /// False for what an edit list trims away.
    pub(crate) presented: bool,
    /// What decodes it.
    pub(crate) config: DecoderConfig,
    /// What a decoder is fed, in order.
    pub(crate) packets: Vec<Vec<u8>>,
}

impl<'m> Samples<'m> {
    /// From the query's keyframe on; from an earlier one where an edit list trims that keyframe but not all that
    /// needs it, and an instant before the query's keyframe is asked for.
    ///
    /// # Errors
    /// Those of a scan, and [`FaultKind::Changed`] where the keyframe is no longer at its place.
    pub(crate) fn new(media: &'m mut dyn Media, query: &ExactQuery) -> Result<Self, Fault> {
        let moved = || Fault::new(FaultKind::Changed, "the keyframe is not where it was when the media was indexed");
        let mut window = Window::new(media);
        let first = query.ranges.first().ok_or_else(moved)?.offset;
        let (mut source, mut clock) = match Container::of(&mut window, query.growing)? {
            Container::Mp4 => {
                let (samples, timescale, configs) =
                    mp4::samples(&mut window, query.growing, query.config.codec.is_of_clips_alone())?;
                let clock = Clock { origin: earliest(&samples), timescale, shift_ms: 0 };
                (Source::Listed(from(samples, first, clock, query).ok_or_else(moved)?, configs), clock)
            }
            Container::Ts((begin, _)) => {
                let mut head = ts::Stream::new(&mut window, &query.config, begin as u64, query.growing)?;
                let firsts = take(FIRST_FRAMES, || head.next(&mut window))?;
                let stream = ts::Stream::new(&mut window, &query.config, first, query.growing)?;
                let clock = Clock { origin: earliest(&firsts), timescale: 90_000, shift_ms: 0 };
                (Source::Ts(Box::new(stream)), clock)
            }
            Container::Mkv => {
                let mut stream = mkv::Stream::new(&mut window, query.growing)?;
                let firsts = take(FIRST_FRAMES, || stream.next(&mut window))?;
                stream.seek(&mut window, first)?;
                let clock = Clock { origin: earliest(&firsts), timescale: 1_000_000_000, shift_ms: 0 };
                (Source::Mkv(Box::new(stream)), clock)
            }
        };
        let ahead = take(query.ranges.len(), || source.next(&mut window))?;
        let (Some(own), Some(last)) = (ahead.first(), ahead.last()) else { return Err(moved()) };
        let mut from_ms = query.from_ms;
        if own.offset == first {
            // A gradual refresh is the instant of its last picture; a field pair that of its first.
            if matches!(source, Source::Ts(_)) && own.pts < clock.origin {
                clock.origin -= ts::Stream::wrap();
            }
            let own_ms = [own, last].map(|sample| clock.ms(sample.pts));
            if !own_ms.contains(&from_ms) {
                clock.shift_ms = from_ms.saturating_sub(own_ms[usize::from(query.ranges.len() > 2)]);
            }
        } else {
            from_ms = clock.ms(own.pts);
        }
        Ok(Self { window, config: query.config.clone(), source, ahead: ahead.into(), clock, from_ms })
    }

    /// Milliseconds after the recording's start.
    pub(crate) fn ms(&self, pts: i64) -> i64 {
        self.clock.ms(pts)
    }

    /// The instant of the keyframe that decoding starts at: what is presented before it may need what is not fed.
    pub(crate) fn start_ms(&self) -> i64 {
        self.from_ms
    }

    /// The next sample with its bytes; none at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Fed>, Fault> {
        let sample = match self.ahead.pop_front() {
            Some(sample) => Some(sample),
            None => self.source.next(&mut self.window)?,
        };
        let Some(sample) = sample else { return Ok(None) };
        if sample.len as usize > MESSAGE_LEN_MAX {
            return Err(too_large(format!("a picture takes {} bytes; {MESSAGE_LEN_MAX} are allowed", sample.len)));
        }
        let config = match &self.source {
            Source::Listed(_, configs) => configs.get(usize::from(sample.config)).unwrap_or(&self.config),
            Source::Ts(_) | Source::Mkv(_) => &self.config,
        };
        let bytes = self.window.whole(sample.offset, sample.len.into())?;
        // A stretch of a broken stream that holds no packet is a picture less.
        let pieces = [bytes];
        let packets = packets(&config.packaging, &pieces).unwrap_or_default();
        let packets = packets.into_iter().map(Cow::into_owned).collect();
        Ok(Some(Fed { pts: sample.pts, presented: sample.presented, config: config.clone(), packets }))
    }
}

impl Source {
    fn next(&mut self, window: &mut Window<'_>) -> Result<Option<Sample>, Fault> {
        match self {
            Self::Listed(samples, _) => Ok(samples.pop_front()),
            Self::Ts(stream) => stream.next(window),
            Self::Mkv(stream) => stream.next(window),
        }
    }
}

/// Up to `count` samples.
fn take(count: usize, mut next: impl FnMut() -> Result<Option<Sample>, Fault>) -> Result<Vec<Sample>, Fault> {
    let mut samples = Vec::new();
    while samples.len() < count {
        let Some(sample) = next()? else { break };
        samples.push(sample);
    }
    Ok(samples)
}

/// The earliest presented instant, else the earliest.
fn earliest(samples: &[Sample]) -> i64 {
    let presented = samples.iter().filter(|sample| sample.presented).map(|sample| sample.pts).min();
    presented.or_else(|| samples.iter().map(|sample| sample.pts).min()).unwrap_or(0)
}

/// The samples from the one at `offset` on, or from a trimmed keyframe before it; nothing where there is none.
fn from(samples: Vec<Sample>, offset: u64, clock: Clock, query: &ExactQuery) -> Option<VecDeque<Sample>> {
    let mut place = samples.iter().position(|sample| sample.offset == offset)?;
    let earliest_ms = query.instants_ms.iter().min().copied().unwrap_or(query.from_ms);
    if earliest_ms < query.from_ms {
        let before = samples.get(..place).unwrap_or_default();
        let keys = before.iter().enumerate().filter(|(_, sample)| sample.access == Access::Alone);
        let near = keys.clone().rev().find(|(_, key)| clock.ms(key.pts) <= earliest_ms);
        place = near.or_else(|| keys.clone().next()).map_or(place, |(key, _)| key);
    }
    let mut samples = VecDeque::from(samples);
    samples.drain(..place);
    Some(samples)
}
