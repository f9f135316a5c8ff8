//! Exact frames: what a decoder is asked to show at instants between keyframes, and what it answers.

use crate::codec::{Malformed, Reader, Writer};
use crate::fault::Fault;
use crate::keyframe::{ByteRange, DecoderConfig};
use crate::keyframe_index::RANGES_MAX;
use crate::rendition::Rendition;
use crate::wire::PICTURES_MAX;

/// Which frames of a media file are wanted, and where decoding starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExactQuery {
    /// Bytes in the file now.
    pub len: u64,
    /// More will come: what is incomplete at the end counts as not there.
    pub growing: bool,
    /// The keyframe that decoding starts at: its instant in milliseconds after the recording's start,
    pub from_ms: i64,
    /// its ranges,
    pub ranges: Vec<ByteRange>,
    /// and what decodes it.
    pub config: DecoderConfig,
    /// Milliseconds after the recording's start; answered in this order.
    pub instants_ms: Vec<i64>,
    /// The most frames that may be decoded.
    pub frames_max: u32,
    /// What to make of each frame.
    pub renditions: Vec<Rendition>,
}

impl ExactQuery {
    /// Appends the form on the socket.
    pub fn write(&self, w: &mut Writer) {
        w.unsigned(self.len).byte(u8::from(self.growing)).signed(self.from_ms).unsigned(self.ranges.len() as u64);
        for range in &self.ranges {
            w.unsigned(range.offset).unsigned(range.len.into());
        }
        w.bytes(&self.config.encode()).unsigned(self.instants_ms.len() as u64);
        for instant_ms in &self.instants_ms {
            w.signed(*instant_ms);
        }
        w.unsigned(self.frames_max.into()).unsigned(self.renditions.len() as u64);
        self.renditions.iter().for_each(|rendition| rendition.write(w));
    }

    /// Takes the form of [`Self::write`] off the reader.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (len, growing, from_ms) = (r.unsigned()?, r.flag()?, r.signed()?);
        let range = |r: &mut Reader<'_>| Ok(ByteRange { offset: r.unsigned()?, len: r.unsigned_32()? });
        let ranges = (0..count(r, RANGES_MAX)?).map(|_| range(r)).collect::<Result<_, _>>()?;
        let config = DecoderConfig::decode(r.bytes()?)?;
        let instants_ms = (0..count(r, PICTURES_MAX)?).map(|_| r.signed()).collect::<Result<_, _>>()?;
        let frames_max = r.unsigned_32()?;
        let renditions = (0..count(r, PICTURES_MAX)?).map(|_| Rendition::read(r)).collect::<Result<_, _>>()?;
        Ok(Self { len, growing, from_ms, ranges, config, instants_ms, frames_max, renditions })
    }
}

/// The frame nearest to an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExactFrame {
    /// When it is presented, in milliseconds after the recording's start.
    pub at_ms: i64,
    /// It in each rendition asked for, in their order.
    pub pictures: Vec<Vec<u8>>,
}

/// Appends the answers to all instants.
pub fn write_answers(answers: &[Result<ExactFrame, Fault>], w: &mut Writer) {
    w.unsigned(answers.len() as u64);
    for answer in answers {
        match answer {
            Ok(frame) => {
                w.byte(1).signed(frame.at_ms).unsigned(frame.pictures.len() as u64);
                frame.pictures.iter().for_each(|picture| {
                    w.bytes(picture);
                });
            }
            Err(fault) => fault.write(w.byte(0)),
        }
    }
}

/// Takes the form of [`write_answers`] off the reader.
///
/// # Errors
/// [`Malformed`], also for more pictures than any request may ask for.
pub fn read_answers(r: &mut Reader<'_>) -> Result<Vec<Result<ExactFrame, Fault>>, Malformed> {
    let mut left = PICTURES_MAX;
    let mut answer = |r: &mut Reader<'_>| {
        if !r.flag()? {
            return Ok(Err(Fault::read(r)?));
        }
        let at_ms = r.signed()?;
        let pictures = count(r, left)?;
        left -= pictures;
        let pictures = (0..pictures).map(|_| Ok(r.bytes()?.to_vec())).collect::<Result<_, Malformed>>()?;
        Ok(Ok(ExactFrame { at_ms, pictures }))
    };
    (0..count(r, PICTURES_MAX)?).map(|_| answer(r)).collect()
}

pub(crate) fn count(r: &mut Reader<'_>, max: usize) -> Result<usize, Malformed> {
    usize::try_from(r.unsigned()?).ok().filter(|count| *count <= max).ok_or(Malformed("count"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;
    use crate::keyframe::{Codec, Orientation, Packaging};

    #[test]
    fn queries_survive_and_are_bounded() {
        let query = ExactQuery {
            len: 1 << 40,
            growing: true,
            from_ms: -40,
            ranges: vec![ByteRange { offset: 1 << 33, len: 7 }],
            config: DecoderConfig {
                codec: Codec::Hevc,
                packaging: Packaging::Ts { pid: 256, packet_len: 192 },
                extradata: vec![1, 2],
                size: (0, 0),
                sample_aspect: (0, 0),
                orientation: Orientation::default(),
            },
            instants_ms: vec![5, -1, 1 << 40],
            frames_max: 600,
            renditions: vec![Rendition::thumb(320, 240).expect("size")],
        };
        let check = |query: &ExactQuery, expected: bool| {
            let mut w = Writer::new();
            query.write(&mut w);
            let bytes = w.finish();
            let read = ExactQuery::read(&mut Reader::new(&bytes));
            assert_eq!(read.is_ok_and(|read| read == *query), expected);
            assert!(ExactQuery::read(&mut Reader::new(&bytes[..bytes.len() - 1])).is_err());
        };
        check(&query, true);
        check(&ExactQuery { instants_ms: vec![0; PICTURES_MAX + 1], ..query.clone() }, false);
        check(&ExactQuery { ranges: vec![query.ranges[0]; RANGES_MAX + 1], ..query }, false);
    }

    #[test]
    fn answers_survive_and_are_bounded() {
        let frame = |pictures: usize| Ok(ExactFrame { at_ms: -3, pictures: vec![vec![0xff]; pictures] });
        let check = |answers: &[Result<ExactFrame, Fault>], expected: bool| {
            let mut w = Writer::new();
            write_answers(answers, &mut w);
            let read = read_answers(&mut Reader::new(&w.finish()));
            assert_eq!(read.is_ok_and(|read| read == answers), expected);
        };
        check(&[], true);
        check(&[frame(2), Err(Fault::new(FaultKind::TooLarge, "far")), frame(1)], true);
        check(&[frame(PICTURES_MAX)], true);
        check(&[frame(PICTURES_MAX), frame(1)], false);
    }
}
