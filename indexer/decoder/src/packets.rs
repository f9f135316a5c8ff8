//! From the bytes of a keyframe's ranges to the packets that a decoder is fed. Looks at containers' wrapping only,
//! never into a packet.

use std::borrow::Cow;

use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::Packaging;

use crate::scan::ts::next_sync;
use crate::scan::ts::packet::{PACKET_LEN, Packet, PesHeader, SYNC};

/// The packets in decoding order. `pieces` are the bytes of the keyframe's ranges, in order.
///
/// # Errors
/// [`FaultKind::Damaged`] when the bytes are not what the packaging says.
pub fn packets<'a>(packaging: &Packaging, pieces: &'a [impl AsRef<[u8]>]) -> Result<Vec<Cow<'a, [u8]>>, Fault> {
    let mut pieces = pieces.iter().map(AsRef::as_ref);
    match packaging {
        Packaging::Samples { prefix } if prefix.is_empty() => Ok(pieces.map(Cow::Borrowed).collect()),
        Packaging::Samples { prefix } => Ok(pieces.map(|piece| Cow::Owned([&prefix[..], piece].concat())).collect()),
        Packaging::Ts { pid, packet_len } => {
            let stride = usize::from(*packet_len).max(PACKET_LEN);
            let packets = pieces.try_fold(Vec::new(), |mut packets, piece| {
                packets.append(&mut pes_packets(piece, *pid, stride)?);
                Ok(packets)
            });
            Ok(packets?.into_iter().map(Cow::Owned).collect())
        }
    }
}

/// The payloads of the PES packets that start in `piece`. One without a time of its own, or with the time of the one
/// before, goes on with it.
fn pes_packets(piece: &[u8], pid: u16, stride: usize) -> Result<Vec<Vec<u8>>, Fault> {
    let mut raw: Vec<Vec<u8>> = Vec::new();
    let (mut place, mut last) = (0, &[][..]);
    while let Some(rest) = piece.get(place..).filter(|rest| rest.len() >= PACKET_LEN) {
        if rest.first() != Some(&SYNC) {
            place += next_sync(rest, stride);
            continue;
        }
        place += stride;
        let Some(packet) = Packet::read(rest).filter(|packet| packet.pid == pid && !packet.payload.is_empty()) else {
            continue;
        };
        // A transport packet may be sent twice in a row.
        if rest.get(..PACKET_LEN) == Some(last) {
            continue;
        }
        last = rest.get(..PACKET_LEN).unwrap_or_default();
        if packet.starts {
            // Most pieces are one packet: it gets its room at once. Others may be any number.
            let mut bytes = Vec::with_capacity(if raw.is_empty() { rest.len() } else { 0 });
            bytes.extend_from_slice(packet.payload);
            raw.push(bytes);
        } else if let Some(raw) = raw.last_mut() {
            raw.extend_from_slice(packet.payload);
        }
    }
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let mut before = None;
    for mut raw in raw {
        let Some(header) = PesHeader::read(&raw) else { return Err(damaged("has no PES header")) };
        raw.truncate(header.payload_len.map_or(usize::MAX, |len| header.len.saturating_add(len)));
        raw.drain(..header.len.min(raw.len()));
        match packets.last_mut() {
            Some(packet) if header.pts.is_none() || header.pts == before => packet.append(&mut raw),
            _ => packets.push(raw),
        }
        before = header.pts.or(before);
    }
    if packets.iter().all(Vec::is_empty) { Err(damaged("has no packet of its video")) } else { Ok(packets) }
}

fn damaged(what: &str) -> Fault {
    Fault::new(FaultKind::Damaged, format!("the keyframe's stretch of the transport stream {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One transport packet with this payload, filled up by an adaptation field.
    fn packet(pid: u16, starts: bool, payload: &[u8]) -> Vec<u8> {
        let fill = 183 - payload.len();
        let [high, low] = (pid | u16::from(starts) << 14).to_be_bytes();
        let mut packet = vec![SYNC, high, low, 0x30, u8::try_from(fill).expect("fits")];
        packet.extend(vec![0; fill]);
        packet.extend(payload);
        packet
    }

    const PES: [u8; 9] = [0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0];

    fn pes(pts: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, pts << 1 | 1], payload].concat()
    }

    fn check(piece: &[Vec<u8>], expected: &[&[u8]]) {
        let ts = Packaging::Ts { pid: 9, packet_len: 188 };
        assert_eq!(packets(&ts, &[piece.concat()]).expect("packets"), expected);
    }

    #[test]
    fn pes_packets_are_put_together() {
        check(&[packet(9, true, &pes(1, b"ab")), packet(8, true, b"x"), packet(9, false, b"c")], &[b"abc"]);
        check(
            &[packet(9, false, b"rest"), packet(9, true, &pes(1, b"a")), packet(9, true, &pes(2, b"b"))],
            &[b"a", b"b"],
        );
        check(&[packet(9, true, &pes(1, b"a")), packet(9, true, &pes(1, b"b"))], &[b"ab"]);
        check(&[packet(9, true, &pes(1, b"a")), packet(9, true, &[&PES[..], b"b"].concat())], &[b"ab"]);
        let twice = packet(9, false, b"b");
        check(&[packet(9, true, &pes(1, b"a")), twice.clone(), twice], &[b"ab"]);
        // The length that a PES packet states cuts what is behind it.
        let mut short = pes(1, b"abc");
        short[5] = 3 + 5 + 2;
        check(&[packet(9, true, &short)], &[b"ab"]);
    }

    #[test]
    fn samples_get_their_prefix_back() {
        let samples = Packaging::Samples { prefix: vec![1] };
        assert_eq!(packets(&samples, &[vec![2], vec![]]).expect("packets"), [vec![1, 2], vec![1]]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_packets_or_a_fault(bytes: Vec<u8>, pid in 0u16..4, packet_len: u8, start in 0usize..4) {
            let mut stream = packet(pid, true, &pes(1, b"abc"));
            stream.splice(start..start, bytes);
            let _ = packets(&Packaging::Ts { pid, packet_len }, &[stream]);
        }
    }
}
