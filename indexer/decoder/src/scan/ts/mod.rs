//! MPEG-TS (ISO/IEC 13818-1) with 188, 192 or 204 bytes from packet to packet: reads the whole file once, looks at
//! transport and PES headers and at each picture's head.
//!
//! 1. find the distance between sync bytes;
//! 2. program tables name the video's packets; when they come late, the walk starts again with what they say;
//! 3. each PES packet of the video is a unit; its head says whether decoding can start there;
//! 4. units go to the timeline one behind, because the next one tells whether it goes on or is the second field.
//!
//! One PES packet is taken to hold one picture (or both fields of one), as cameras and all common muxers write it; one
//! without a time, or with the time of the one before, that begins inside a picture goes on with it.

use std::collections::VecDeque;

use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::{Codec, DecoderConfig, Orientation, Packaging, ticks_to_ms};
use stills_model::leap::{Leap, Leaps, Scanned};
use stills_model::wire::READ_LEN_MAX;

use super::bitstream::{self, Kind, Look, Sets};
use super::timeline::{Access, Sample};
use super::window::Window;
use super::{damaged, unsupported};

mod clock;
pub(crate) mod packet;
mod psi;
pub(super) mod seek;
mod state;
mod unit;

use packet::{PACKET_LEN, Packet, PesHeader, SYNC};
use psi::{Tables, Video};
use state::{Held, State};
use unit::Unit;

/// Distances between packets: plain, with a time stamp in front, with error correction behind.
const STRIDES: [u8; 3] = [188, 192, 204];

/// Bytes that a stream reads at once: several pictures of most cameras.
const STREAM_CHUNK_LEN: u32 = 256 * 1024;

/// Sync bytes in a row that make a transport stream.
const SYNCS: usize = 5;

/// Bytes at the start of a file in which the first packet has to be.
pub(super) const HEAD_LEN: u32 = 16 * 1024;

/// Where the first packet is and how far it is to the next.
pub(super) fn layout(head: &[u8]) -> Option<(usize, u8)> {
    let syncs = |first: usize, stride: u8, count: usize| {
        (0..count).all(|n| head.get(first + n * usize::from(stride)).is_none_or(|byte| *byte == SYNC))
    };
    let long = head.len() > SYNCS * 204 + 204;
    let found = (0..head.len().saturating_sub(SYNCS * 204)).find_map(|first| {
        STRIDES.into_iter().find(|stride| syncs(first, *stride, SYNCS)).map(|stride| (first, stride))
    });
    if found.is_some() || long {
        return found;
    }
    // A file of a few packets: all there are, from the start on.
    let fits = |first: usize, stride: u8| head.len() >= first + PACKET_LEN && syncs(first, stride, SYNCS + 1);
    [(0, 188), (4, 192), (0, 204)].into_iter().find(|(first, stride)| fits(*first, *stride))
}

/// Finds the keyframes of a transport stream.
pub(super) fn scan(
    window: &mut Window<'_>,
    (first, stride): (usize, u8),
    growing: bool,
    resume: &[u8],
) -> Result<Scanned, Fault> {
    let start = State::new(window, first as u64, stride)?;
    let state = match State::read(resume) {
        Ok(state) if state.goes_on(window, stride)? => state,
        _ => start.clone(),
    };
    let mut walk = Walk::new(state, None);
    if walk.all(window)? == Ended::Late {
        // The tables came behind pictures of the video that they name.
        let video = walk.state.video;
        walk.state = start;
        walk.state.video = video;
        walk.leaps = Leaps::default();
        walk.all(window)?;
    }
    walk.finish(growing)
}

/// The pictures of one video from some packet on, in decoding order, read as they are asked for.
pub(super) struct Stream {
    walk: Walk,
    growing: bool,
    whole: bool,
    /// Bytes that are read at once.
    chunk_len: u32,
}

impl Stream {
    /// From the packet at `at` on.
    pub(super) fn new(window: &mut Window<'_>, config: &DecoderConfig, at: u64, growing: bool) -> Result<Self, Fault> {
        let Packaging::Ts { pid, packet_len } = config.packaging else {
            return Err(Fault::new(
                FaultKind::Changed,
                "the media is a transport stream, and was not when it was indexed",
            ));
        };
        let mut state = State::new(window, at, packet_len.max(STRIDES[0]))?;
        state.video = Some(Video { pid, codec: config.codec });
        Ok(Self { walk: Walk::new(state, Some(VecDeque::new())), growing, whole: false, chunk_len: STREAM_CHUNK_LEN })
    }

    /// The next picture; all of its bytes are in the file.
    pub(super) fn next(&mut self, window: &mut Window<'_>) -> Result<Option<Sample>, Fault> {
        loop {
            if let Some(sample) = self.walk.listed.as_mut().and_then(VecDeque::pop_front) {
                return Ok(Some(sample));
            }
            if self.whole {
                return Ok(None);
            }
            if self.walk.chunk(window, self.chunk_len)? == Ended::Whole {
                self.whole = true;
                if !self.growing {
                    self.walk.close()?;
                }
                self.walk.release()?;
            }
        }
    }

    /// Ticks after which the clock starts again.
    pub(super) const fn wrap() -> i64 {
        clock::WRAP.cast_signed()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// At the end of the file.
    Whole,
    /// Not yet.
    More,
    /// At the first table that names the video, and its packets had passed.
    Late,
}

struct Walk {
    state: State,
    tables: Tables,
    /// PIDs that have passed while no video was known.
    passed: Vec<bool>,
    open: Option<Unit>,
    scrambled: bool,
    leaps: Leaps,
    /// Where pictures go instead of the timeline; then the video is fixed, whatever tables say.
    listed: Option<VecDeque<Sample>>,
}

impl Walk {
    fn new(state: State, listed: Option<VecDeque<Sample>>) -> Self {
        let passed = vec![false; 1 << 13];
        Self { state, tables: Tables::default(), passed, open: None, scrambled: false, leaps: Leaps::default(), listed }
    }

    fn all(&mut self, window: &mut Window<'_>) -> Result<Ended, Fault> {
        loop {
            match self.chunk(window, READ_LEN_MAX)? {
                Ended::More => {}
                ended => return Ok(ended),
            }
        }
    }

    /// Takes the packets in the next `len` bytes.
    fn chunk(&mut self, window: &mut Window<'_>, len: u32) -> Result<Ended, Fault> {
        let chunk = window.up_to(self.state.at, len)?;
        if chunk.len() < PACKET_LEN {
            return Ok(Ended::Whole);
        }
        let (stride, mut place) = (usize::from(self.state.stride), 0);
        while let Some(rest) = chunk.get(place..).filter(|rest| rest.len() >= PACKET_LEN) {
            if rest.first() != Some(&SYNC) {
                place += next_sync(rest, stride);
                continue;
            }
            if let Some(packet) = Packet::read(rest)
                && self.packet(&packet, self.state.at + place as u64)? == Ended::Late
            {
                return Ok(Ended::Late);
            }
            place += stride;
        }
        self.state.at += place as u64;
        Ok(Ended::More)
    }

    fn packet(&mut self, packet: &Packet<'_>, offset: u64) -> Result<Ended, Fault> {
        if self.listed.is_none()
            && let Some(video) = self.tables.take(packet)
            && self.state.video != Some(video)
        {
            if self.state.video.is_none() && self.passed.get(usize::from(video.pid)) == Some(&true) {
                self.state.video = Some(video);
                return Ok(Ended::Late);
            }
            self.close()?;
            self.state.sets = Sets::default();
            self.state.video = Some(video);
        }
        let Some(Video { pid, codec }) = self.state.video else {
            if let Some(passed) = self.passed.get_mut(usize::from(packet.pid)) {
                *passed = true;
            }
            return Ok(Ended::Whole);
        };
        if packet.pid != pid || packet.payload.is_empty() {
            return Ok(Ended::Whole);
        }
        if packet.scrambled {
            self.scrambled = true;
            return Ok(Ended::Whole);
        }
        self.video(codec, packet, offset)?;
        Ok(Ended::Whole)
    }

    fn video(&mut self, codec: Codec, packet: &Packet<'_>, offset: u64) -> Result<(), Fault> {
        if packet.starts {
            let next = PesHeader::read(packet.payload);
            let goes_on = self.open.as_mut().filter(|unit| {
                let same = |next: PesHeader| next.pts.is_none() || next.pts == unit.header.and_then(|own| own.pts);
                !unit.has_picture() && next.is_some_and(same)
            });
            if let Some(unit) = goes_on {
                unit.push_next(codec, packet.payload);
            } else {
                self.close()?;
                self.open.insert(Unit::new(offset)).push(codec, packet.payload);
            }
        } else if let Some(unit) = &mut self.open {
            unit.push(codec, packet.payload);
        }
        if let Some(unit) = &mut self.open {
            unit.end = offset + PACKET_LEN as u64;
        }
        Ok(())
    }

    /// Turns the open unit into a sample.
    fn close(&mut self) -> Result<(), Fault> {
        let (Some(unit), Some(video)) = (self.open.take(), self.state.video) else { return Ok(()) };
        let Some(header) = unit.header else { return Ok(()) };
        let look = bitstream::look(video.codec, bitstream::units(&unit.head), &mut self.state.sets);
        if !look.begins
            && let Some(held) = self.state.held.as_mut().filter(|held| header.pts.is_none() || header.pts == held.pts)
        {
            held.sample.len = len(held.sample.offset, unit.end);
            held.bytes += unit.bytes;
            return Ok(());
        }
        if let Some(by) = self.state.clock.leap(header.pts, header.dts) {
            self.leaps.push(Leap { offset: unit.offset, by_ms: ticks_to_ms(by, 90_000) });
        }
        let pts = self.state.clock.place(header.pts, header.dts);
        if look.kind.is_none() {
            return Ok(());
        }
        let mut access = access(look);
        if access != Access::None && !bitstream::complete(video.codec, &self.state.sets) {
            access = Access::None;
        }
        if let Some(held) = &mut self.state.held
            && held.sample.access == Access::Alone
            && held.field.zip(look.field).is_some_and(|(first, second)| first.pairs_with(second))
        {
            held.sample.access = Access::FirstField;
            access = Access::None;
        }
        let config = if access == Access::None { 0 } else { self.config(video)? };
        let duration = u32::try_from(self.state.clock.frame()).unwrap_or(0);
        let len = len(unit.offset, unit.end);
        let sample = Sample { offset: unit.offset, pts, len, duration, config, access, presented: true };
        self.release()?;
        self.state.held = Some(Held { sample, bytes: unit.bytes, field: look.field, pts: header.pts });
        Ok(())
    }

    fn config(&mut self, video: Video) -> Result<u16, Fault> {
        self.state.timeline.config(&DecoderConfig {
            codec: video.codec,
            packaging: Packaging::Ts { pid: video.pid, packet_len: self.state.stride },
            extradata: self.state.sets.annex_b(),
            size: bitstream::size(video.codec, &self.state.sets),
            sample_aspect: (0, 0),
            orientation: Orientation::default(),
        })
    }

    /// Hands the unit that waited to the timeline.
    fn release(&mut self) -> Result<(), Fault> {
        match (self.state.held.take(), &mut self.listed) {
            (Some(held), None) => self.state.timeline.push(&held.sample, held.bytes),
            (Some(held), Some(listed)) => {
                listed.push_back(held.sample);
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    fn finish(mut self, growing: bool) -> Result<Scanned, Fault> {
        if self.state.video.is_none() {
            return Err(match self.tables.unsupported {
                Some(name) => unsupported(format!("the video codec '{name}' is not decoded here")),
                None => damaged("the transport stream has no program table that names a video"),
            });
        }
        let mut resume = Vec::new();
        if growing {
            self.state.at = self.open.as_ref().map_or(self.state.at, |unit| unit.offset);
            resume = self.state.write();
        } else {
            self.close()?;
        }
        self.release()?;
        if self.state.timeline.is_empty() && self.scrambled {
            return Err(unsupported("the video is scrambled"));
        }
        if self.state.timeline.is_empty() && !growing {
            return Err(damaged("the transport stream has no whole picture"));
        }
        Ok(Scanned { index: self.state.timeline.into_index(resume), leaps: self.leaps })
    }
}

fn access(look: Look) -> Access {
    match look.kind {
        Some(Kind::Instant) => Access::Alone,
        Some(Kind::Gradual(later)) => Access::Gradual(later),
        Some(Kind::Dependent) | None => Access::None,
    }
}

fn len(from: u64, to: u64) -> u32 {
    u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX)
}

/// How far it is to the next packet in bytes that do not begin with one; all of them where there is none.
pub(crate) fn next_sync(bytes: &[u8], stride: usize) -> usize {
    let sync = |place: usize| bytes.get(place).is_none_or(|byte| *byte == SYNC);
    (1..bytes.len()).find(|place| (0..3).all(|n| sync(place + n * stride))).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        let stream = |first: usize, stride: usize, packets: usize| {
            let mut bytes = vec![0; first + stride * packets];
            (0..packets).for_each(|n| bytes[first + n * stride] = SYNC);
            bytes
        };
        let check = |bytes: &[u8], expected| assert_eq!(layout(bytes), expected);
        check(&stream(0, 188, 20), Some((0, 188)));
        check(&stream(4, 192, 20), Some((4, 192)));
        check(&stream(0, 204, 20), Some((0, 204)));
        check(&stream(77, 188, 30), Some((77, 188)));
        check(&stream(0, 188, 2), Some((0, 188)));
        check(&stream(0, 188, 1)[..187], None);
        check(&[0; 5000], None);
        check(&[], None);
    }

    #[test]
    fn sync_is_found_again() {
        let mut bytes = vec![0; 1000];
        bytes[5] = SYNC;
        [50, 238, 426, 614].iter().for_each(|place| bytes[*place] = SYNC);
        assert_eq!(next_sync(&bytes, 188), 50);
        assert_eq!(next_sync(&[0; 300], 188), 300);
    }
}
