//! Transport packets and PES headers (ISO/IEC 13818-1 2.4.3): what both the scanner and the packet assembly read.

use super::super::bytes::Bytes;

/// Bytes of a transport packet, whatever stands between two of them.
pub(crate) const PACKET_LEN: usize = 188;

/// The byte that each transport packet starts with.
pub(crate) const SYNC: u8 = 0x47;

/// One transport packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) pid: u16,
    /// A PES packet or a section starts in it.
    pub(crate) starts: bool,
    pub(crate) scrambled: bool,
    pub(crate) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The packet that `bytes` begin with; nothing where they do not, or where it is marked as broken.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Bytes::new(bytes.get(..PACKET_LEN)?);
        let (sync, head, flags) = (fields.u8()?, fields.u16()?, fields.u8()?);
        if sync != SYNC || head & 0x8000 != 0 {
            return None;
        }
        if flags & 0x20 != 0 {
            let adaptation = fields.u8()?;
            fields.skip(adaptation.into())?;
        }
        let payload = if flags & 0x10 == 0 { &[] } else { fields.rest() };
        Some(Self { pid: head & 0x1fff, starts: head & 0x4000 != 0, scrambled: flags & 0xc0 != 0, payload })
    }
}

/// The front of a PES packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PesHeader {
    /// Presentation and decoding time in 90 kHz ticks of 33 bits.
    pub(crate) pts: Option<u64>,
    pub(crate) dts: Option<u64>,
    /// Bytes of the header.
    pub(crate) len: usize,
    /// Bytes behind the header, where the packet says how many.
    pub(crate) payload_len: Option<usize>,
}

impl PesHeader {
    /// The header that `bytes` begin with; nothing where it is not whole or none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Bytes::new(bytes);
        if fields.u24()? != 1 {
            return None;
        }
        fields.skip(1)?;
        let total = usize::from(fields.u16()?);
        fields.skip(1)?;
        let (flags, extra) = (fields.u8()?, usize::from(fields.u8()?));
        let mut optional = Bytes::new(fields.take(extra)?);
        let pts = if flags & 0x80 == 0 { None } else { time(&mut optional) };
        let dts = if flags & 0xc0 == 0xc0 { time(&mut optional) } else { None };
        let payload_len = if total == 0 { None } else { total.checked_sub(3 + extra) };
        Some(Self { pts, dts, len: 9 + extra, payload_len })
    }
}

fn time(fields: &mut Bytes<'_>) -> Option<u64> {
    let (high, mid, low) = (u64::from(fields.u8()?), u64::from(fields.u16()?), u64::from(fields.u16()?));
    Some((high >> 1 & 7) << 30 | (mid >> 1) << 15 | low >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_with_and_without_adaptation() {
        let mut bytes = [0xff; PACKET_LEN];
        bytes[..4].copy_from_slice(&[SYNC, 0x41, 0x00, 0x10]);
        let packet = Packet::read(&bytes).expect("a packet");
        assert_eq!((packet.pid, packet.starts, packet.payload.len()), (0x100, true, 184));
        bytes[3..5].copy_from_slice(&[0x30, 183]);
        assert_eq!(Packet::read(&bytes).expect("a packet").payload.len(), 0);
        bytes[4] = 184;
        assert_eq!(Packet::read(&bytes), None);
        bytes[3] = 0x20;
        bytes[4] = 183;
        assert!(Packet::read(&bytes).expect("a packet").payload.is_empty());
        bytes[1] |= 0x80;
        assert_eq!(Packet::read(&bytes), None);
        assert_eq!(Packet::read(&bytes[..187]), None);
    }

    #[test]
    fn pes_headers() {
        let bytes = [0, 0, 1, 0xe0, 0, 20, 0x80, 0xc0, 10, 0x31, 0, 1, 0, 3, 0x1f, 0xff, 0xff, 0xff, 0xff, 7];
        let header = PesHeader::read(&bytes).expect("a header");
        assert_eq!((header.pts, header.dts), (Some(1), Some((1 << 33) - 1)));
        assert_eq!((header.len, header.payload_len), (19, Some(7)));
        assert_eq!(PesHeader::read(&bytes[..18]), None);
        assert_eq!(PesHeader::read(&[0, 0, 2, 0xe0, 0, 0, 0x80, 0, 0]), None);
    }
}
