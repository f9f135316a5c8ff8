//! AV1: where the sequence header is. libdav1d wants it in the packets; containers may keep it in `av1C` alone.

use std::borrow::Cow;

const OBU_SEQUENCE_HEADER: u8 = 1;

/// The packet, with the sequence header of `extradata` in front unless it has its own.
pub(crate) fn with_sequence_header<'a>(extradata: &[u8], packet: &'a [u8]) -> Cow<'a, [u8]> {
    let header = config_obus(extradata);
    if header.is_empty() || has_sequence_header(packet) {
        return Cow::Borrowed(packet);
    }
    Cow::Owned([header, packet].concat())
}

/// The OBUs of an `av1C` box (marker bit and version 1, three bytes of flags), or all of bare OBUs.
fn config_obus(extradata: &[u8]) -> &[u8] {
    match extradata {
        [0x81, _, _, _, obus @ ..] => obus,
        bare => bare,
    }
}

/// Whether one of the OBUs is a sequence header. Bytes that are not OBUs have none.
fn has_sequence_header(mut packet: &[u8]) -> bool {
    while let [header, rest @ ..] = packet {
        if header >> 3 & 0xf == OBU_SEQUENCE_HEADER {
            return true;
        }
        let rest = if header & 4 == 0 { rest } else { rest.get(1..).unwrap_or_default() };
        if header & 2 == 0 {
            return false; // no size: it is the last
        }
        let Some((size, rest)) = leb128(rest) else { return false };
        let Some(next) = rest.get(size..) else { return false };
        packet = next;
    }
    false
}

fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_header_goes_in_front_only_when_it_is_missing() {
        let check = |extradata: &[u8], packet: &[u8], expected: &[u8]| {
            assert_eq!(*with_sequence_header(extradata, packet), *expected, "{extradata:x?} {packet:x?}");
        };
        let av1c = [0x81, 0, 0, 0, 0x0a, 1, 7];
        let frame = [0x12, 0, 0x32, 1, 9]; // temporal delimiter, frame
        check(&av1c, &frame, &[0x0a, 1, 7, 0x12, 0, 0x32, 1, 9]);
        check(&av1c[4..], &frame, &[0x0a, 1, 7, 0x12, 0, 0x32, 1, 9]);
        check(&[], &frame, &frame);
        check(&[0x81, 0, 0, 0], &frame, &frame);
        let whole = [0x12, 0, 0x0a, 1, 8, 0x32, 1, 9];
        check(&av1c, &whole, &whole);
    }

    proptest! {
        #[test]
        fn garbage_does_no_harm(extradata: Vec<u8>, packet: Vec<u8>) {
            prop_assert!(with_sequence_header(&extradata, &packet).ends_with(&packet));
        }
    }
}
