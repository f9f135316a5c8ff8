//! What a scan of a growing transport stream knows and the next one goes on with.
//!
//! Stored form, version 1: version, `TS`, the file's first bytes as count and check sum, the distance between packets,
//! where to read on, the video's PID and codec, clock, parameter sets, the sample held back, the timeline.

use stills_model::codec::{Malformed, Reader, Writer};
use stills_model::fault::Fault;
use stills_model::keyframe::Codec;

use super::super::bitstream::{Field, Sets};
use super::super::check_sum;
use super::super::timeline::{Access, Sample, Timeline};
use super::super::window::Window;
use super::clock::Clock;
use super::psi::Video;

const RESUME: &[u8] = b"\x01TS";

/// Bytes at the start of a file that tell it from another.
const START_LEN: u32 = 4096;

/// A sample that waits for the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) sample: Sample,
    pub(super) bytes: u64,
    pub(super) field: Option<Field>,
    /// As it was written.
    pub(super) pts: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// How many bytes of the file's start were seen, and their check sum.
    start: (u32, u64),
    pub(super) stride: u8,
    /// Where to read on.
    pub(super) at: u64,
    pub(super) video: Option<Video>,
    pub(super) clock: Clock,
    pub(super) sets: Sets,
    pub(super) held: Option<Held>,
    pub(super) timeline: Timeline,
}

impl State {
    /// At the file's first packet.
    pub(super) fn new(window: &mut Window<'_>, at: u64, stride: u8) -> Result<Self, Fault> {
        let start = window.up_to(0, START_LEN)?;
        Ok(Self {
            start: (u32::try_from(start.len()).unwrap_or(0), check_sum(start)),
            stride,
            at,
            video: None,
            clock: Clock::new(),
            sets: Sets::default(),
            held: None,
            timeline: Timeline::new(90_000),
        })
    }

    /// Whether it is of this file and leads into it.
    pub(super) fn goes_on(&self, window: &mut Window<'_>, stride: u8) -> Result<bool, Fault> {
        let (len, sum) = self.start;
        let start = window.up_to(0, len.min(START_LEN))?;
        Ok(check_sum(start) == sum && self.stride == stride && self.at <= window.len())
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(RESUME).unsigned(self.start.0.into()).unsigned(self.start.1).byte(self.stride).unsigned(self.at);
        match self.video {
            None => w.byte(0),
            Some(video) => w.byte(1).unsigned(video.pid.into()).byte(video.codec as u8),
        };
        self.clock.write(&mut w);
        w.unsigned(self.sets.0.len() as u64);
        for ((kind, id), set) in &self.sets.0 {
            w.byte(*kind).unsigned((*id).into()).bytes(set);
        }
        match &self.held {
            None => w.byte(0),
            Some(held) => write_held(w.byte(1), held),
        };
        self.timeline.write(&mut w);
        w.finish()
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.raw(RESUME.len())? != RESUME {
            return Err(Malformed("resume version"));
        }
        let start = (r.unsigned_32()?, r.unsigned()?);
        let (stride, at) = (r.byte()?, r.unsigned()?);
        let video = if r.flag()? { Some(Video { pid: r.unsigned_16()?, codec: codec(r.byte()?)? }) } else { None };
        let clock = Clock::read(&mut r)?;
        let mut sets = Sets::default();
        for _ in 0..r.unsigned()? {
            let (kind, id) = (r.byte()?, r.unsigned_32()?);
            sets.put(kind, id, r.bytes()?);
        }
        let held = if r.flag()? { Some(read_held(&mut r)?) } else { None };
        let timeline = Timeline::read(&mut r)?;
        r.end()?;
        let configs = timeline.configs().len();
        if held
            .as_ref()
            .is_some_and(|held| held.sample.access != Access::None && usize::from(held.sample.config) >= configs)
        {
            return Err(Malformed("configuration"));
        }
        Ok(Self { start, stride, at, video, clock, sets, held, timeline })
    }
}

fn codec(byte: u8) -> Result<Codec, Malformed> {
    Codec::ALL.into_iter().find(|codec| *codec as u8 == byte).ok_or(Malformed("codec"))
}

fn write_held<'w>(w: &'w mut Writer, held: &Held) -> &'w mut Writer {
    let Sample { offset, pts, len, duration, config, access, presented: _ } = held.sample;
    w.unsigned(offset).signed(pts).unsigned(len.into()).unsigned(duration.into()).unsigned(config.into());
    match access {
        Access::None => w.byte(0),
        Access::Alone => w.byte(1),
        Access::FirstField => w.byte(2),
        Access::Gradual(later) => w.byte(3).byte(later),
    };
    w.unsigned(held.bytes);
    match held.field {
        None => w.byte(0),
        Some(field) => w.byte(1).unsigned(field.number.into()).byte(field.bottom.into()),
    };
    w.optional_signed(held.pts.map(u64::cast_signed))
}

fn read_held(r: &mut Reader<'_>) -> Result<Held, Malformed> {
    let (offset, pts, len) = (r.unsigned()?, r.signed()?, r.unsigned_32()?);
    let (duration, config) = (r.unsigned_32()?, r.unsigned_16()?);
    let access = match r.byte()? {
        0 => Access::None,
        1 => Access::Alone,
        2 => Access::FirstField,
        3 => Access::Gradual(r.byte()?),
        _ => return Err(Malformed("access")),
    };
    let sample = Sample { offset, pts, len, duration, config, access, presented: true };
    let bytes = r.unsigned()?;
    let field = if r.flag()? { Some(Field { number: r.unsigned_32()?, bottom: r.flag()? }) } else { None };
    Ok(Held { sample, bytes, field, pts: r.optional_signed()?.map(i64::cast_unsigned) })
}

#[cfg(test)]
mod tests {
    use super::super::super::Media;
    use super::*;

    struct Empty;

    impl Media for Empty {
        fn len(&self) -> u64 {
            0
        }
        fn read(&mut self, _: u64, _: u32) -> Result<Vec<u8>, Fault> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn states_survive_their_stored_form() {
        let mut state = State::new(&mut Window::new(&mut Empty), 9, 192).expect("a state");
        assert_eq!(State::read(&state.write()), Ok(state.clone()));
        state.video = Some(Video { pid: 0x1ff, codec: Codec::Hevc });
        state.sets.put(7, 0, &[1, 2, 3]);
        let field = Some(Field { number: 3, bottom: true });
        let access = Access::Gradual(4);
        let sample = Sample { offset: 1 << 40, pts: -5, len: 6, duration: 7, config: 0, access, presented: true };
        state.held = Some(Held { sample, bytes: 8, field, pts: Some(9) });
        assert_eq!(State::read(&state.write()), Err(Malformed("configuration")));
        state.held = Some(Held { sample: Sample { access: Access::None, ..sample }, bytes: 8, field, pts: Some(9) });
        let bytes = state.write();
        assert_eq!(State::read(&bytes), Ok(state));
        for len in 0..bytes.len() {
            assert!(State::read(&bytes[..len]).is_err());
        }
    }
}
