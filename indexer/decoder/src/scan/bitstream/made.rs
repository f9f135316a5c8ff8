//! H.264 units made by hand, for tests of what encoders at hand do not write.

/// A High profile 1920x1080 interlaced sequence: frame_mbs_only_flag 0, frame numbers of 4 bits.
pub(in super::super) fn interlaced() -> Vec<u8> {
    let mut w = BitWriter::default();
    w.ue(0).ue(1).ue(0).ue(0).bits(0, 1).bits(0, 1); // sps id, chroma, depths, bypass, no scaling lists
    w.ue(0).ue(2).ue(4).bits(0, 1).ue(119).ue(33).bits(0, 1).bits(1, 1);
    [&[0x67, 100, 0, 40][..], &w.finish()].concat()
}

/// A picture parameter set of it.
pub(in super::super) fn pps() -> Vec<u8> {
    [&[0x68][..], &BitWriter::default().ue(0).ue(0).bits(0b11, 2).finish()].concat()
}

/// The head of a slice: NAL header, slice type, frame number below 16, and for a field whether it is the bottom one.
pub(in super::super) fn slice(header: u8, kind: u32, number: u32, field: Option<bool>) -> Vec<u8> {
    let mut w = BitWriter::default();
    w.ue(0).ue(kind).ue(0).bits(number, 4);
    match field {
        None => w.bits(0, 1),
        Some(bottom) => w.bits(1, 1).bits(bottom.into(), 1),
    };
    [&[header][..], &w.bits(0x1234, 16).finish()].concat()
}

/// Puts bits together, most significant first.
#[derive(Default)]
pub(in super::super) struct BitWriter(Vec<bool>);

impl BitWriter {
    pub(in super::super) fn bits(&mut self, value: u32, count: u32) -> &mut Self {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    pub(in super::super) fn ue(&mut self, value: u32) -> &mut Self {
        let len = (value + 1).ilog2();
        self.bits(0, len).bits(value + 1, len + 1)
    }

    pub(in super::super) fn finish(&self) -> Vec<u8> {
        self.0.chunks(8).map(|c| c.iter().enumerate().fold(0, |b, (n, bit)| b | u8::from(*bit) << (7 - n))).collect()
    }
}
