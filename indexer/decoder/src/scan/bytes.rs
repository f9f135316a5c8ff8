//! Big-endian fields and bits off the front of a slice. `None` means that the slice ended; nothing here panics.

/// Takes fields off the front of a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn skip(&mut self, len: usize) -> Option<()> {
        self.take(len).map(|_| ())
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u24(&mut self) -> Option<u32> {
        self.array().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn fourcc(&mut self) -> Option<[u8; 4]> {
        self.array()
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// Takes bits off the front of a slice, most significant first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// At most 32 bits.
    pub(crate) fn bits(&mut self, count: u32) -> Option<u32> {
        (0..count.min(32)).try_fold(0, |value, _| Some(value << 1 | u32::from(self.flag()?)))
    }

    /// An unsigned Exp-Golomb code.
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.bits(zeros)?)
    }

    /// A signed Exp-Golomb code.
    pub(crate) fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code & 1 == 1 { (code + 1) / 2 } else { -(code / 2) })
    }
}

/// The payload of a NAL unit without its emulation prevention bytes, at most `max` bytes of it.
pub(crate) fn unescape(nal: &[u8], max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(nal.len().min(max));
    let mut zeros = 0;
    for &byte in nal {
        if out.len() == max {
            break;
        }
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_end_with_the_slice() {
        let mut bytes = Bytes::new(&[1, 2, 3, 4, 5]);
        assert_eq!(bytes.u16(), Some(0x0102));
        assert_eq!(bytes.u32(), None);
        assert_eq!(bytes.u24(), Some(0x03_0405));
        assert_eq!(bytes.u8(), None);
    }

    #[test]
    fn exp_golomb() {
        let check = |bits: &[u8], expected| assert_eq!(Bits::new(bits).ue(), expected);
        check(&[0b1000_0000], Some(0));
        check(&[0b0100_0000], Some(1));
        check(&[0b0011_1000], Some(6));
        check(&[0, 0, 0, 0, 0, 0], None);
        check(&[], None);
        assert_eq!(Bits::new(&[0b0010_0000]).se(), Some(2));
        assert_eq!(Bits::new(&[0b0010_1000]).se(), Some(-2));
    }

    #[test]
    fn emulation_prevention_is_taken_out() {
        assert_eq!(unescape(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3], 9), [0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(unescape(&[7, 8, 9], 2), [7, 8]);
    }
}
