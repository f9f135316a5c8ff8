//! MPEG-2 Video (ITU-T H.262 6.2) and MPEG-4 Visual (ISO/IEC 14496-2 6.2) heads: intra pictures by coding type.

use super::{Field, Kind, Look, Sets};

/// Start codes of MPEG-2: what a sequence needs in front, and what its pictures are.
const SEQUENCE: u8 = 0xb3;
const EXTENSION: u8 = 0xb5;
const PICTURE: u8 = 0x00;

pub(super) fn look_2<'a>(units: impl Iterator<Item = &'a [u8]>, sets: &mut Sets) -> Look {
    let mut found = Look::default();
    let mut number = 0;
    for unit in units {
        match (unit, found.kind) {
            (&[SEQUENCE, ..], None) => {
                sets.0.clear();
                sets.put(SEQUENCE, 0, unit);
            }
            (&[EXTENSION, id, ..], None) => sets.put(EXTENSION, u32::from(id >> 4), unit),
            (&[PICTURE, high, low, ..], None) => {
                number = u32::from(high) << 2 | u32::from(low >> 6);
                let intra = low >> 3 & 7 == 1;
                found.kind = Some(if intra { Kind::Instant } else { Kind::Dependent });
            }
            // picture_coding_extension: picture_structure is 1 for a top field, 2 for a bottom field, 3 for a frame.
            (&[EXTENSION, id, _, structure, ..], Some(_)) if id >> 4 == 8 => {
                let bottom = structure & 3 == 2;
                found.field = matches!(structure & 3, 1 | 2).then_some(Field { number, bottom });
                return found;
            }
            _ => {}
        }
    }
    found
}

/// Start codes of MPEG-4 Visual: below this everything is a header of objects and layers.
const LAYER_LAST: u8 = 0x2f;
const SEQUENCE_START: u8 = 0xb0;
const OBJECT_START: u8 = 0xb5;
const VOP: u8 = 0xb6;

pub(super) fn look_4<'a>(units: impl Iterator<Item = &'a [u8]>, sets: &mut Sets) -> Look {
    for unit in units {
        match *unit {
            [code @ (SEQUENCE_START | OBJECT_START | 0..=LAYER_LAST), ..] => {
                sets.put(mpeg_4_order(code), code.into(), unit)
            }
            [VOP, coding, ..] => {
                let kind = if coding >> 6 == 0 { Kind::Instant } else { Kind::Dependent };
                return Look { kind: Some(kind), ..Look::default() };
            }
            _ => {}
        }
    }
    Look::default()
}

/// The order that the headers stand in: sequence, visual object, video object, layer.
const fn mpeg_4_order(code: u8) -> u8 {
    match code {
        SEQUENCE_START => 0,
        OBJECT_START => 1,
        0..=0x1f => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mpeg_2_pictures() {
        let check = |units: &[&[u8]], kind, field| {
            let expected = Look { kind, field, ..Look::default() };
            assert_eq!(look_2(units.iter().copied(), &mut Sets::default()), expected, "{units:x?}");
        };
        check(&[&[PICTURE, 0, 0x48]], Some(Kind::Instant), None);
        check(&[&[PICTURE, 0, 0x50]], Some(Kind::Dependent), None);
        check(&[&[PICTURE, 0, 0x48], &[EXTENSION, 0x8f, 0xff, 0xf3]], Some(Kind::Instant), None);
        let bottom = Some(Field { number: 1, bottom: true });
        check(&[&[PICTURE, 0, 0x48], &[EXTENSION, 0x8f, 0xff, 0xf2]], Some(Kind::Instant), bottom);
        check(&[&[0xb8, 0, 0]], None, None);
    }

    #[test]
    fn mpeg_4_pictures() {
        let check = |units: &[&[u8]], kind| {
            assert_eq!(look_4(units.iter().copied(), &mut Sets::default()).kind, kind, "{units:x?}");
        };
        check(&[&[0x20, 1], &[VOP, 0x10]], Some(Kind::Instant));
        check(&[&[VOP, 0x50]], Some(Kind::Dependent));
        check(&[&[0xb3, 0]], None);
    }
}
