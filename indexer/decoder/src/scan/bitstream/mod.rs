//! What the first bytes of a coded picture say: whether decoding can start there, and the parameter sets on the way.
//!
//! Reads start codes and headers up to the first slice, never a picture's data.

use std::collections::BTreeMap;

use stills_model::keyframe::{Codec, DecoderConfig};

mod h264;
mod hevc;
#[cfg(test)]
pub(super) mod made;
mod mpeg;

pub(super) use h264::Field;

/// The parameter sets in force, by kind and id: for H.264 and HEVC VPS, SPS and PPS, for MPEG the headers of a sequence.
/// Together they stay below what extradata may take; what does not fit is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sets(pub(super) BTreeMap<(u8, u32), Vec<u8>>);

impl Sets {
    pub(super) fn put(&mut self, kind: u8, id: u32, set: &[u8]) {
        let others = self.0.iter().filter(|(known, _)| **known != (kind, id));
        let held: usize = others.map(|(_, other)| other.len() + 4).sum();
        if held + set.len() + 4 <= DecoderConfig::EXTRADATA_MAX_BYTES {
            self.0.insert((kind, id), set.to_vec());
        }
    }

    fn get(&self, kind: u8, id: u32) -> Option<&[u8]> {
        self.0.get(&(kind, id)).map(Vec::as_slice)
    }

    /// All sets as FFmpeg takes them as extradata: each behind a start code, in the order that decoders need.
    pub(super) fn annex_b(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for set in self.0.values() {
            out.extend_from_slice(&[0, 0, 0, 1]);
            out.extend_from_slice(set);
        }
        out
    }
}

/// The coded size that the sets tell, in pixels, the smallest where they tell several; (0, 0) where they tell none.
pub(super) fn size(codec: Codec, sets: &Sets) -> (u32, u32) {
    let size = |kind: u8, set: &[u8]| match (codec, kind) {
        (Codec::H264, h264::SPS) => h264::size(set),
        (Codec::Hevc, hevc::SPS) => hevc::size(set),
        _ => None,
    };
    let sizes = sets.0.iter().filter_map(|((kind, _), set)| size(*kind, set));
    sizes.min_by_key(|(width, height)| u64::from(*width) * u64::from(*height)).unwrap_or_default()
}

/// What the head of a sample says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// How decoding can start here; `None` where nothing was recognised.
    pub(super) kind: Option<Kind>,
    /// The picture starts here, and not in the sample before.
    pub(super) begins: bool,
    /// The first slice is intra, so the picture may be.
    pub(super) intra: bool,
    /// The bitstream says that all slices are intra.
    pub(super) all_intra: bool,
    /// For a picture that is one field of two: which.
    pub(super) field: Option<Field>,
}

/// How decoding can start at a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It cannot.
    Dependent,
    /// It can: IDR, IRAP, an intra picture with its headers, a recovery point at once.
    Instant,
    /// It can, and this many pictures later one is whole.
    Gradual(u8),
}

/// Bytes behind the start of a slice that its header needs.
pub(super) const SLICE_HEAD: usize = 48;

/// Whether a unit whose first byte after the start code is `byte` begins picture data.
pub(super) fn is_picture(codec: Codec, byte: u8) -> bool {
    match codec {
        Codec::H264 => (1..=5).contains(&(byte & 0x1f)),
        Codec::Hevc => byte >> 1 & 0x3f <= 31,
        Codec::Mpeg2 => byte == 0x00,
        Codec::Mpeg4 => byte == 0xb6,
        Codec::Av1 | Codec::Vp8 | Codec::Vp9 | Codec::Mjpeg | Codec::ProRes | Codec::Dnxhd => false,
    }
}

/// What the units of a picture's head say, in order and without start codes, the last one perhaps cut off; takes
/// over the parameter sets that it meets.
pub(super) fn look<'a>(codec: Codec, units: impl Iterator<Item = &'a [u8]>, sets: &mut Sets) -> Look {
    match codec {
        Codec::H264 => h264::look(units, sets),
        Codec::Hevc => hevc::look(units, sets),
        Codec::Mpeg2 => mpeg::look_2(units, sets),
        Codec::Mpeg4 => mpeg::look_4(units, sets),
        Codec::Av1 | Codec::Vp8 | Codec::Vp9 | Codec::Mjpeg | Codec::ProRes | Codec::Dnxhd => Look::default(),
    }
}

/// Whether the sets suffice to decode a keyframe.
pub(super) fn complete(codec: Codec, sets: &Sets) -> bool {
    let has = |kind: u8| sets.0.keys().any(|(known, _)| *known == kind);
    match codec {
        Codec::H264 => has(h264::SPS) && has(h264::PPS),
        Codec::Hevc => has(hevc::SPS) && has(hevc::PPS),
        Codec::Mpeg2 | Codec::Mpeg4 => !sets.0.is_empty(),
        Codec::Av1 | Codec::Vp8 | Codec::Vp9 | Codec::Mjpeg | Codec::ProRes | Codec::Dnxhd => true,
    }
}

/// The parameter sets in `avcC` or `hvcC`, and how many bytes the lengths of NAL units take; `None` for other
/// extradata.
pub(super) fn configured(codec: Codec, extradata: &[u8]) -> Option<(Sets, usize)> {
    let mut sets = Sets::default();
    let (units, length_size) = match codec {
        Codec::H264 => h264::configured(extradata)?,
        Codec::Hevc => hevc::configured(extradata)?,
        _ => return None,
    };
    look(codec, units.into_iter(), &mut sets);
    Some((sets, length_size))
}

/// The units between start codes, without trailing zeros.
pub(super) fn units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = next_start(bytes, 0);
    std::iter::from_fn(move || {
        let start = at?;
        at = next_start(bytes, start);
        let end = at.map_or(bytes.len(), |next| next - 3);
        let mut unit = bytes.get(start..end)?;
        while let [rest @ .., 0] = unit {
            unit = rest;
        }
        Some(unit)
    })
}

/// Where the next unit starts, behind its start code, at or after `from`.
pub(super) fn next_start(bytes: &[u8], from: usize) -> Option<usize> {
    let tail = bytes.get(from..)?;
    tail.windows(3).position(|three| three == [0, 0, 1]).map(|place| from + place + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_between_start_codes() {
        let check = |bytes: &[u8], expected: &[&[u8]]| assert_eq!(units(bytes).collect::<Vec<_>>(), expected);
        check(&[0, 0, 0, 1, 9, 8, 0, 0, 0, 1, 7, 0, 0, 1, 6], &[&[9, 8], &[7], &[6]]);
        check(&[5, 0, 0, 1], &[&[]]);
        check(&[0, 0], &[]);
        check(&[0, 0, 1, 0, 0, 1, 4], &[&[], &[4]]);
    }
}
