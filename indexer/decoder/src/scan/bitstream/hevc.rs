//! HEVC heads (ITU-T H.265 7.3 and Annex D): IRAP pictures by NAL unit type, recovery points.

use super::super::bytes::{Bits, Bytes, unescape};
use super::h264::{SEI_LEN_MAX, recovery_message};
use super::{Kind, Look, Sets};

const VPS: u8 = 32;
pub(super) const SPS: u8 = 33;
pub(super) const PPS: u8 = 34;
const DELIMITER: u8 = 35;
const SEI: u8 = 39;

pub(super) fn look<'a>(units: impl Iterator<Item = &'a [u8]>, sets: &mut Sets) -> Look {
    let (mut recovery, mut delimited) = (None, false);
    for unit in units {
        let (Some(header), Some(payload)) = (unit.first(), unit.get(2..)) else { continue };
        let kind = header >> 1 & 0x3f;
        match kind {
            VPS | PPS | SPS => {
                let id = match kind {
                    VPS => payload.first().map(|byte| u32::from(byte >> 4)),
                    PPS => Bits::new(&unescape(payload, 8)).ue(),
                    _ => Sps::read(unit).map(|sps| sps.id),
                };
                sets.put(kind, id.unwrap_or(0), unit);
                delimited |= kind != PPS;
            }
            0..=31 => {
                let kind = match recovery {
                    _ if (16..=21).contains(&kind) => Kind::Instant,
                    Some(0) => Kind::Instant,
                    Some(later) => u8::try_from(later).map_or(Kind::Dependent, Kind::Gradual),
                    None => Kind::Dependent,
                };
                // first_slice_segment_in_pic_flag
                let begins = delimited || payload.first().is_some_and(|byte| byte & 0x80 != 0);
                return Look { kind: Some(kind), begins, ..Look::default() };
            }
            DELIMITER => delimited = true,
            SEI => recovery = recovery.or_else(|| recovery_point(&unescape(payload, SEI_LEN_MAX))),
            _ => {}
        }
    }
    Look::default()
}

/// `recovery_poc_cnt` of a recovery point: pictures in the order of presentation, which gradual refresh does not change.
fn recovery_point(messages: &[u8]) -> Option<i64> {
    Bits::new(recovery_message(messages)?).se()
}

/// The coded size that a sequence parameter set tells, in pixels, before cropping.
pub(super) fn size(sps: &[u8]) -> Option<(u32, u32)> {
    Sps::read(sps)?.size
}

/// What stands behind `profile_tier_level`.
struct Sps {
    id: u32,
    size: Option<(u32, u32)>,
}

impl Sps {
    fn read(unit: &[u8]) -> Option<Self> {
        let payload = unescape(unit.get(2..)?, 128);
        let mut bits = Bits::new(&payload);
        skip_profile(&mut bits)?;
        let id = bits.ue()?;
        let size = |mut bits: Bits<'_>| {
            if bits.ue()? == 3 {
                bits.flag()?;
            }
            Some((bits.ue()?, bits.ue()?))
        };
        Some(Self { id, size: size(bits) })
    }
}

fn skip_profile(bits: &mut Bits<'_>) -> Option<()> {
    bits.bits(4)?;
    let sub_layers = bits.bits(3)?;
    bits.flag()?;
    let skip = |bits: &mut Bits<'_>, mut count: u32| {
        while count > 0 {
            let step = count.min(32);
            bits.bits(step)?;
            count -= step;
        }
        Some(())
    };
    skip(bits, 96)?;
    let mut present = Vec::new();
    for _ in 0..sub_layers {
        present.push((bits.flag()?, bits.flag()?));
    }
    if sub_layers > 0 {
        skip(bits, 2 * (8 - sub_layers))?;
    }
    for (profile, level) in present {
        skip(bits, if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}

/// The units of an `hvcC` (ISO/IEC 14496-15 8.3.3) and its length size.
pub(super) fn configured(hvcc: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let mut bytes = Bytes::new(hvcc);
    // Some muxers write 0 where the version 1 belongs; a start code begins with three zeros.
    if bytes.u8()? > 1 || hvcc.starts_with(&[0, 0, 0]) || hvcc.starts_with(&[0, 0, 1]) {
        return None;
    }
    bytes.skip(20)?;
    let length_size = usize::from(bytes.u8()? & 3) + 1;
    let mut units = Vec::new();
    for _ in 0..bytes.u8()? {
        bytes.skip(1)?;
        for _ in 0..bytes.u16()? {
            let len = bytes.u16()?;
            units.push(bytes.take(len.into())?);
        }
    }
    Some((units, length_size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn irap_pictures() {
        let check = |kind: u8, expected| {
            let unit = [kind << 1, 1, 0x80, 0];
            assert_eq!(look([&unit[..]].into_iter(), &mut Sets::default()).kind, expected, "NAL unit type {kind}");
        };
        check(1, Some(Kind::Dependent));
        check(8, Some(Kind::Dependent));
        check(16, Some(Kind::Instant));
        check(19, Some(Kind::Instant));
        check(21, Some(Kind::Instant));
        check(22, Some(Kind::Dependent));
        check(35, None);
    }

    #[test]
    fn recovery_points() {
        let check = |count: u8, expected| {
            let (sei, slice) = ([SEI << 1, 1, 6, 1, count, 0x80], [1 << 1, 1, 0x80, 0]);
            let found = look([&sei[..], &slice].into_iter(), &mut Sets::default());
            assert_eq!(found.kind, expected, "{count:08b}");
        };
        check(0b0010_0001, Some(Kind::Gradual(2)));
        check(0b1001_0000, Some(Kind::Instant));
        check(0b0110_0000, Some(Kind::Dependent)); // whole one picture ago: of no use
    }
}
