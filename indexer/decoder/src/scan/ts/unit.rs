//! One picture's stretch of transport packets, from the start of its PES packet to the last packet before the next.

use stills_model::keyframe::Codec;

use super::super::bitstream::{SLICE_HEAD, is_picture, next_start};
use super::packet::PesHeader;

/// Bytes in front of the first slice that are kept; more than this is no picture's head.
const HEAD_LEN_MAX: usize = 64 * 1024;

/// What has come of a picture.
#[derive(Debug)]
pub(super) struct Unit {
    /// From the first packet's sync byte to the end of the last.
    pub(super) offset: u64,
    pub(super) end: u64,
    /// Bytes of the stream, wrapping not counted.
    pub(super) bytes: u64,
    /// Once the header is whole.
    pub(super) header: Option<PesHeader>,
    /// The start of the PES packet until its header is whole, from then on the start of the picture.
    pub(super) head: Vec<u8>,
    scanned: usize,
    picture: Option<usize>,
}

impl Unit {
    pub(super) const fn new(offset: u64) -> Self {
        Self { offset, end: offset, bytes: 0, header: None, head: Vec::new(), scanned: 0, picture: None }
    }

    /// Takes the payload of the next packet.
    pub(super) fn push(&mut self, codec: Codec, payload: &[u8]) {
        self.bytes += payload.len() as u64;
        let full = self.picture.is_some_and(|picture| self.head.len() >= picture + SLICE_HEAD);
        if full || self.head.len() > HEAD_LEN_MAX {
            return;
        }
        self.head.extend_from_slice(payload);
        if self.header.is_none() {
            let Some(header) = PesHeader::read(&self.head) else { return };
            self.head.drain(..header.len);
            self.header = Some(header);
        }
        self.find_picture(codec);
    }

    /// The PES packet goes on in another one: its header is no part of the picture.
    pub(super) fn push_next(&mut self, codec: Codec, payload: &[u8]) {
        let header = PesHeader::read(payload).map_or(0, |header| header.len);
        self.push(codec, payload.get(header..).unwrap_or_default());
    }

    /// Whether picture data has begun.
    pub(super) const fn has_picture(&self) -> bool {
        self.picture.is_some()
    }

    fn find_picture(&mut self, codec: Codec) {
        while self.picture.is_none() {
            let Some(start) = next_start(&self.head, self.scanned) else {
                // A start code may be cut by the end of the packet.
                self.scanned = self.scanned.max(self.head.len().saturating_sub(2));
                return;
            };
            let Some(byte) = self.head.get(start) else { return };
            self.picture = is_picture(codec, *byte).then_some(start);
            self.scanned = start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_start_codes_may_be_cut_anywhere() {
        let stream = [
            &[0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 3][..],
            &[0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x65, 7, 8, 9],
        ]
        .concat();
        for step in 1..stream.len() {
            let mut unit = Unit::new(0);
            stream.chunks(step).for_each(|payload| unit.push(Codec::H264, payload));
            assert_eq!(unit.header.expect("a header").pts, Some(1), "in steps of {step}");
            assert_eq!((unit.picture, &unit.head[..]), (Some(15), &stream[14..]), "in steps of {step}");
        }
    }
}
