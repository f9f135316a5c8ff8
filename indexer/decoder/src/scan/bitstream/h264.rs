//! H.264 heads (ITU-T H.264 7.3 and Annex D): IDR, recovery points, intra pictures, field pairs.

use super::super::bytes::{Bits, Bytes, unescape};
use super::{Kind, Look, SLICE_HEAD, Sets};

pub(super) const SPS: u8 = 7;
pub(super) const PPS: u8 = 8;
const SEI: u8 = 6;
const IDR: u8 = 5;
const DELIMITER: u8 = 9;

/// Bytes of a SEI message that are read: the recovery point usually comes first.
pub(super) const SEI_LEN_MAX: usize = 1024;

/// One field of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Field {
    /// The picture's number; both fields share it.
    pub(in super::super) number: u32,
    /// Top or bottom.
    pub(in super::super) bottom: bool,
}

impl Field {
    /// Whether `other` makes a whole picture with this field.
    pub(in super::super) fn pairs_with(self, other: Self) -> bool {
        self.number == other.number && self.bottom != other.bottom
    }
}

pub(super) fn look<'a>(units: impl Iterator<Item = &'a [u8]>, sets: &mut Sets) -> Look {
    let (mut recovery, mut with_sps, mut with_pps, mut delimited) = (None, false, false, false);
    for unit in units {
        let Some((&header, payload)) = unit.split_first() else { continue };
        match header & 0x1f {
            SPS => {
                let id = payload.get(3..).and_then(|rest| Bits::new(&unescape(rest, 8)).ue());
                sets.put(SPS, id.unwrap_or(0), unit);
                with_sps = true;
            }
            PPS => {
                sets.put(PPS, Bits::new(&unescape(payload, 8)).ue().unwrap_or(0), unit);
                with_pps = true;
            }
            DELIMITER => delimited = true,
            SEI => recovery = recovery.or_else(|| recovery_point(&unescape(payload, SEI_LEN_MAX))),
            kind @ 1..=5 => {
                let slice = slice(&unescape(payload, SLICE_HEAD), sets);
                let intra = slice.as_ref().is_some_and(|slice| slice.intra);
                let kind = match recovery {
                    _ if kind == IDR => Kind::Instant,
                    Some(0) => Kind::Instant,
                    Some(later) => u8::try_from(later).map_or(Kind::Dependent, Kind::Gradual),
                    None if intra && with_sps && with_pps => Kind::Instant,
                    None => Kind::Dependent,
                };
                let all_intra = slice.as_ref().is_some_and(|slice| slice.all_intra);
                let begins = delimited || with_sps || slice.as_ref().is_some_and(|slice| slice.begins);
                return Look { kind: Some(kind), begins, intra, all_intra, field: slice.and_then(|slice| slice.field) };
            }
            _ => {}
        }
    }
    Look::default()
}

/// `recovery_frame_cnt` of a recovery point among the messages.
fn recovery_point(messages: &[u8]) -> Option<u32> {
    Bits::new(recovery_message(messages)?).ue()
}

/// The recovery point among the messages, in whose form H.264 and HEVC differ.
pub(super) fn recovery_message(messages: &[u8]) -> Option<&[u8]> {
    let mut bytes = Bytes::new(messages);
    loop {
        let kind = extended(&mut bytes)?;
        let len = extended(&mut bytes)?;
        if kind == 6 {
            return Some(bytes.rest());
        }
        bytes.skip(len)?;
    }
}

/// A number in bytes of 255 and a last smaller one.
fn extended(bytes: &mut Bytes<'_>) -> Option<usize> {
    let mut value = 0;
    loop {
        let byte = bytes.u8()?;
        value += usize::from(byte);
        if byte != 255 {
            return Some(value);
        }
    }
}

struct Slice {
    begins: bool,
    intra: bool,
    all_intra: bool,
    field: Option<Field>,
}

fn slice(payload: &[u8], sets: &Sets) -> Option<Slice> {
    let mut bits = Bits::new(payload);
    let begins = bits.ue()? == 0; // first_mb_in_slice
    // 2 and 4 are I and SI; 5 more says that all slices of the picture are of that type.
    let (kind, pps) = (bits.ue()?, bits.ue()?);
    let (intra, all_intra) = (matches!(kind % 5, 2 | 4), matches!(kind, 7 | 9));
    Some(Slice { begins, intra, all_intra, field: field(bits, pps, sets) })
}

/// The rest of the slice header up to the field flags; nothing for frames.
fn field(mut bits: Bits<'_>, pps: u32, sets: &Sets) -> Option<Field> {
    let pps = unescape(sets.get(PPS, pps)?.get(1..)?, 16);
    let mut pps = Bits::new(&pps);
    pps.ue()?;
    let sps = Sps::read(sets.get(SPS, pps.ue()?)?)?;
    if sps.frames_only {
        return None;
    }
    if sps.separate_planes {
        bits.bits(2)?;
    }
    let number = bits.bits(sps.number_bits)?;
    if !bits.flag()? {
        return None;
    }
    Some(Field { number, bottom: bits.flag()? })
}

struct Sps {
    separate_planes: bool,
    number_bits: u32,
    frames_only: bool,
    size: (u32, u32),
}

/// The coded size that a sequence parameter set tells, in pixels, before cropping.
pub(super) fn size(sps: &[u8]) -> Option<(u32, u32)> {
    Sps::read(sps).map(|sps| sps.size)
}

impl Sps {
    fn read(unit: &[u8]) -> Option<Self> {
        let payload = unescape(unit.get(1..)?, 512);
        let profile = *payload.first()?;
        let mut bits = Bits::new(payload.get(3..)?);
        bits.ue()?;
        let mut separate_planes = false;
        if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            let chroma = bits.ue()?;
            if chroma == 3 {
                separate_planes = bits.flag()?;
            }
            bits.ue()?;
            bits.ue()?;
            bits.flag()?;
            if bits.flag()? {
                for list in 0..if chroma == 3 { 12 } else { 8 } {
                    if bits.flag()? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        let number_bits = bits.ue()?.checked_add(4).filter(|bits| *bits <= 16)?;
        match bits.ue()? {
            0 => {
                bits.ue()?;
            }
            1 => {
                bits.flag()?;
                bits.se()?;
                bits.se()?;
                for _ in 0..bits.ue()?.min(255) {
                    bits.se()?;
                }
            }
            _ => {}
        }
        bits.ue()?; // max_num_ref_frames
        bits.flag()?;
        let (width, height) = (bits.ue()?, bits.ue()?); // in macroblocks, those of one field where there are fields
        let frames_only = bits.flag()?;
        let pixels = |units: u32, unit: u32| units.saturating_add(1).saturating_mul(unit);
        let size = (pixels(width, 16), pixels(height, if frames_only { 16 } else { 32 }));
        Some(Self { separate_planes, number_bits, frames_only, size })
    }
}

fn skip_scaling_list(bits: &mut Bits<'_>, len: usize) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..len {
        if next != 0 {
            next = (last + bits.se()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// The units of an `avcC` (ISO/IEC 14496-15 5.3.3) and its length size.
pub(super) fn configured(avcc: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let mut bytes = Bytes::new(avcc);
    if bytes.u8()? != 1 {
        return None;
    }
    bytes.skip(3)?;
    let length_size = usize::from(bytes.u8()? & 3) + 1;
    let mut units = Vec::new();
    for _ in 0..bytes.u8()? & 0x1f {
        let len = bytes.u16()?;
        units.push(bytes.take(len.into())?);
    }
    for _ in 0..bytes.u8()? {
        let len = bytes.u16()?;
        units.push(bytes.take(len.into())?);
    }
    Some((units, length_size))
}

#[cfg(test)]
mod tests {
    use super::super::made::{BitWriter, interlaced, pps, slice};
    use super::super::units;
    use super::*;

    fn check(units: &[Vec<u8>], kind: Option<Kind>, field: Option<Field>) {
        let mut sets = Sets::default();
        let found = look(units.iter().map(Vec::as_slice), &mut sets);
        assert_eq!((found.kind, found.field), (kind, field), "{units:x?}");
    }

    #[test]
    fn pictures() {
        let (sps, pps) = (interlaced(), pps());
        let sei = |cnt| [&[0x06, 6, 1][..], &BitWriter::default().ue(cnt).finish(), &[0x80]].concat();
        let sets = [sps.clone(), pps.clone()];
        let with = |rest: &[Vec<u8>]| [&sets[..], rest].concat();
        check(&with(&[slice(0x65, 7, 0, None)]), Some(Kind::Instant), None);
        check(&with(&[slice(0x41, 5, 1, None)]), Some(Kind::Dependent), None);
        check(&with(&[slice(0x41, 7, 1, None)]), Some(Kind::Instant), None);
        check(&[slice(0x41, 7, 1, None)], Some(Kind::Dependent), None);
        check(&[sei(0), slice(0x41, 7, 1, None)], Some(Kind::Instant), None);
        check(&[sei(9), slice(0x41, 5, 1, None)], Some(Kind::Gradual(9)), None);
        check(&[sei(900), slice(0x41, 5, 1, None)], Some(Kind::Dependent), None);
        let top = Field { number: 3, bottom: false };
        check(&with(&[slice(0x65, 7, 3, Some(false))]), Some(Kind::Instant), Some(top));
        check(&with(&[slice(0x41, 5, 3, Some(true))]), Some(Kind::Dependent), Some(Field { bottom: true, ..top }));
        check(&[vec![0x09, 0xf0]], None, None);
        check(&[vec![]], None, None);
    }

    #[test]
    fn other_sei_messages_are_passed_over() {
        assert_eq!(recovery_point(&[5, 255, 1, 0]), None);
        let user = [&[5, 3, 9, 9, 9][..], &[6, 1, 0b1010_0000, 0x80]].concat();
        assert_eq!(recovery_point(&user), Some(0));
    }

    #[test]
    fn sets_survive_annex_b() {
        let mut sets = Sets::default();
        let units_in = [pps(), interlaced(), slice(0x65, 7, 0, None)];
        look(units_in.iter().map(Vec::as_slice), &mut sets);
        let bytes = sets.annex_b();
        assert_eq!(units(&bytes).map(<[u8]>::to_vec).collect::<Vec<_>>(), [interlaced(), pps()]);
    }
}
