//! One keyframe of a transport stream by its time, without reading it all: the stream's tables from its start, its last
//! time from its end, and in between by halves ([`crate::bisect`]).

use stills_model::clip::ClipPoint;
use stills_model::fault::Fault;
use stills_model::keyframe::{ByteRange, DecoderConfig, Keyframe, Orientation, Packaging, ticks_to_ms};

use super::super::bitstream::Sets;
use super::super::timeline::{Access, Sample};
use super::super::window::Window;
use super::super::{Found, damaged, unsupported};
use super::clock::WRAP;
use super::packet::{PACKET_LEN, Packet, PesHeader, SYNC};
use super::psi::{Tables, Video};
use super::{Stream, next_sync};
use crate::bisect::{Seen, Walk, at_or_before as find};

/// Bytes read at once: three to four times for the picture of a usual camera.
const CHUNK_LEN: u32 = 64 * 1024;

/// How far tables, or the next time, are looked for: a picture of 8 MB lies in between at most.
const REACH: u64 = 8 * 1024 * 1024;

/// Pictures at the start that are looked at for the earliest one, and the same for exact instants.
const FIRST_FRAMES: usize = 4;
const FIRST_FRAMES_EXACT: usize = 32;

/// What is shown before the picture that is first in the file, at most: ten seconds.
const BEFORE: u64 = 10 * 90_000;

/// The keyframe at or before a point.
pub(in crate::scan) fn at_or_before(
    window: &mut Window<'_>,
    (first, stride): (usize, u8),
    point: ClipPoint,
) -> Result<Found, Fault> {
    let video = video(window, first as u64, stride)?;
    let mut seek = Seek { window, first: first as u64, stride, video, origin: 0, sets: Sets::default(), stream: None };
    seek.find_origin(if matches!(point, ClipPoint::Exact(_)) { FIRST_FRAMES_EXACT } else { FIRST_FRAMES })?;
    let last = seek.last_time()?;
    let target = match point {
        ClipPoint::Keyframe(percent) => percent.of_ms(last),
        ClipPoint::Exact(at_ms) => at_ms.saturating_mul(90).min(last),
    };
    let found = find(&mut seek, target)?;
    let (time, (ranges, config)) = found.ok_or_else(|| damaged("the transport stream has no keyframe"))?;
    let keyframe = Keyframe { at_ms: ticks_to_ms(time, 90_000), config: 0, ranges, gop_bytes: 0 };
    Ok(Found { keyframe, config })
}

/// What the tables say; pictures are not looked at.
fn video(window: &mut Window<'_>, first: u64, stride: u8) -> Result<Video, Fault> {
    let mut tables = Tables::default();
    let mut found = None;
    packets(window, first, first + REACH, stride, |_, packet| {
        found = tables.take(packet);
        found.is_some()
    })?;
    found.ok_or_else(|| match tables.unsupported {
        Some(name) => unsupported(format!("the video codec '{name}' is not decoded here")),
        None => damaged("the transport stream has no program table that names a video"),
    })
}

/// Shows the packets that begin in `from..until` to `take` until that has enough.
fn packets(
    window: &mut Window<'_>,
    from: u64,
    until: u64,
    stride: u8,
    mut take: impl FnMut(u64, &Packet<'_>) -> bool,
) -> Result<(), Fault> {
    let stride = usize::from(stride);
    let mut at = from;
    while at < until {
        let chunk = window.up_to(at, CHUNK_LEN)?;
        if chunk.len() < PACKET_LEN {
            break;
        }
        let mut place = 0;
        while let Some(rest) = chunk.get(place..).filter(|rest| rest.len() >= PACKET_LEN) {
            if rest.first() != Some(&SYNC) {
                place += next_sync(rest, stride);
                continue;
            }
            if Packet::read(rest).is_some_and(|packet| take(at + place as u64, &packet)) {
                return Ok(());
            }
            place += stride;
        }
        at += place as u64;
    }
    Ok(())
}

struct Seek<'w, 'm> {
    window: &'w mut Window<'m>,
    first: u64,
    stride: u8,
    video: Video,
    /// The earliest picture's time as it is written.
    origin: u64,
    /// The parameter sets at the start: a stream may not repeat them.
    sets: Sets,
    stream: Option<Stream>,
}

impl Seek<'_, '_> {
    fn since(&self, pts: u64) -> i64 {
        since(self.origin, pts)
    }

    fn stream_at(&mut self, at: u64) -> Result<Stream, Fault> {
        let config = DecoderConfig {
            codec: self.video.codec,
            packaging: Packaging::Ts { pid: self.video.pid, packet_len: self.stride },
            extradata: Vec::new(),
            size: (0, 0),
            sample_aspect: (0, 0),
            orientation: Orientation::default(),
        };
        let mut stream = Stream::new(self.window, &config, at, false)?;
        stream.chunk_len = CHUNK_LEN;
        stream.walk.state.sets = self.sets.clone();
        Ok(stream)
    }

    fn find_origin(&mut self, frames: usize) -> Result<(), Fault> {
        let mut stream = self.stream_at(self.first)?;
        let mut earliest: Option<i64> = None;
        for _ in 0..frames {
            let Some(sample) = stream.next(self.window)? else { break };
            earliest = Some(earliest.map_or(sample.pts, |earliest| earliest.min(sample.pts)));
        }
        let earliest = earliest.ok_or_else(|| damaged("the transport stream has no whole picture"))?;
        self.origin = earliest.rem_euclid(WRAP.cast_signed()).cast_unsigned();
        self.sets = stream.walk.state.sets.clone();
        Ok(())
    }

    /// The latest time near the end, in ticks.
    fn last_time(&mut self) -> Result<i64, Fault> {
        let (len, pid) = (self.window.len(), self.video.pid);
        let mut reach = u64::from(CHUNK_LEN) * 2;
        loop {
            let from = len.saturating_sub(reach).max(self.first);
            let mut latest = None;
            let origin = self.origin;
            packets(self.window, from, len, self.stride, |_, packet| {
                latest = time(packet, pid).map(|pts| since(origin, pts)).max(latest);
                false
            })?;
            if latest.is_some() || from == self.first || reach >= REACH {
                return Ok(latest.unwrap_or(0).max(0));
            }
            reach *= 2;
        }
    }
}

/// Ticks from the earliest picture to another, by a clock that may have started again from 0 in between.
fn since(origin: u64, pts: u64) -> i64 {
    let ahead = pts.wrapping_add(BEFORE).wrapping_sub(origin) % WRAP;
    ahead.cast_signed() - BEFORE.cast_signed()
}

/// The time of the picture that begins in a packet.
fn time(packet: &Packet<'_>, pid: u16) -> Option<u64> {
    let begins = packet.pid == pid && packet.starts;
    begins.then(|| PesHeader::read(packet.payload)).flatten()?.pts
}

impl Walk for Seek<'_, '_> {
    type Key = (Vec<ByteRange>, DecoderConfig);

    fn len(&self) -> u64 {
        self.window.len()
    }

    fn time_from(&mut self, at: u64) -> Result<Option<i64>, Fault> {
        let (at, pid) = (at.max(self.first), self.video.pid);
        let mut found = None;
        packets(self.window, at, at.saturating_add(REACH), self.stride, |_, packet| {
            found = time(packet, pid);
            found.is_some()
        })?;
        Ok(found.map(|pts| self.since(pts)))
    }

    fn go_to(&mut self, at: u64) -> Result<(), Fault> {
        self.stream = Some(self.stream_at(at.max(self.first))?);
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Seen<Self::Key>>, Fault> {
        let Some(mut stream) = self.stream.take() else { return Ok(None) };
        let Some(sample) = stream.next(self.window)? else { return Ok(None) };
        let later = match sample.access {
            Access::None => None,
            Access::Alone => Some(0),
            Access::FirstField => Some(1),
            Access::Gradual(later) => Some(usize::from(later)),
        };
        let mut pts = sample.pts;
        let mut key = None;
        if let Some(later) = later {
            let range = |sample: &Sample| ByteRange { offset: sample.offset, len: sample.len };
            let mut ranges = vec![range(&sample)];
            while ranges.len() <= later {
                let Some(next) = stream.next(self.window)? else { break };
                ranges.push(range(&next));
                // Gradual refresh is whole, and shown, with its last picture; a field pair with its first.
                pts = if matches!(sample.access, Access::Gradual(_)) { next.pts } else { pts };
            }
            let config = stream.walk.state.timeline.configs().get(usize::from(sample.config)).cloned();
            key = config.filter(|_| ranges.len() == later + 1).map(|config| (ranges, config));
        }
        self.stream = Some(stream);
        let time = self.since(pts.rem_euclid(WRAP.cast_signed()).cast_unsigned());
        Ok(Some(Seen { at: sample.offset, time, key }))
    }
}
