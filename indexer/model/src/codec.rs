//! The byte codec of every stored and piped form: LEB128 integers, zigzag for signed, length-prefixed strings.
//!
//! Reading never panics and never allocates more than the input holds; whoever stores a form puts a version
//! byte first and keeps the form's history in its own module.

/// The input ended early, held an overlong integer, bad UTF-8 or a value outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Appends values to a byte vector.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        // Most forms fit: growing byte by byte would move them six times.
        Self(Vec::with_capacity(256))
    }

    /// One byte.
    pub fn byte(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// An unsigned integer as LEB128, 1 to 10 bytes.
    pub fn unsigned(&mut self, mut value: u64) -> &mut Self {
        loop {
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            if value == 0 {
                self.0.push(low);
                return self;
            }
            self.0.push(low | 0x80);
        }
    }

    /// A signed integer, zigzag then LEB128.
    pub fn signed(&mut self, value: i64) -> &mut Self {
        self.unsigned(((value << 1) ^ (value >> 63)).cast_unsigned())
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    /// A length, then the bytes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.unsigned(value.len() as u64).raw(value)
    }

    /// A length, then UTF-8.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// A text that is often a UUID: 0 and its 16 bytes where it is one as it is usually written (8-4-4-4-12 digits, in
    /// lower case), else the length plus one, then UTF-8.
    pub fn name(&mut self, value: &str) -> &mut Self {
        match parse_uuid(value) {
            Some(uuid) => self.byte(0).raw(&uuid),
            None => self.unsigned(value.len() as u64 + 1).raw(value.as_bytes()),
        }
    }

    /// A presence byte, then the text.
    pub fn optional_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            None => self.byte(0),
            Some(text) => self.byte(1).text(text),
        }
    }

    /// A presence byte, then the signed integer.
    pub fn optional_signed(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            None => self.byte(0),
            Some(value) => self.byte(1).signed(value),
        }
    }

    /// How many bytes were written.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes values off the front of a byte slice.
#[derive(Debug, Clone)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.0.split_first().ok_or(Malformed("end"))?;
        self.0 = rest;
        Ok(first)
    }

    /// A LEB128 integer.
    pub fn unsigned(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                break;
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("integer"))
    }

    /// A LEB128 integer that fits 32 bits.
    pub fn unsigned_32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.unsigned()?).map_err(|_| Malformed("32-bit integer"))
    }

    /// A LEB128 integer that fits 16 bits.
    pub fn unsigned_16(&mut self) -> Result<u16, Malformed> {
        u16::try_from(self.unsigned()?).map_err(|_| Malformed("16-bit integer"))
    }

    /// A zigzag integer.
    pub fn signed(&mut self) -> Result<i64, Malformed> {
        let raw = self.unsigned()?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// `len` bytes as they are.
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        if len > self.0.len() {
            return Err(Malformed("length"));
        }
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(head)
    }

    /// Bytes of a fixed length.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.raw(N)?.try_into().map_err(|_| Malformed("length"))
    }

    /// Length-prefixed bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.unsigned()?).map_err(|_| Malformed("length"))?;
        self.raw(len)
    }

    /// Length-prefixed UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("text"))
    }

    /// What [`Writer::name`] wrote.
    pub fn name(&mut self) -> Result<Box<str>, Malformed> {
        match self.unsigned()?.checked_sub(1) {
            None => Ok(show_uuid(self.array()?)),
            Some(len) => {
                let bytes = self.raw(usize::try_from(len).map_err(|_| Malformed("length"))?)?;
                std::str::from_utf8(bytes).map(Into::into).map_err(|_| Malformed("text"))
            }
        }
    }

    /// A presence byte and perhaps a text.
    pub fn optional_text(&mut self) -> Result<Option<&'a str>, Malformed> {
        Ok(if self.flag()? { Some(self.text()?) } else { None })
    }

    /// A presence byte and perhaps a signed integer.
    pub fn optional_signed(&mut self) -> Result<Option<i64>, Malformed> {
        Ok(if self.flag()? { Some(self.signed()?) } else { None })
    }

    /// A byte that is 0 or 1.
    pub fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("flag")),
        }
    }

    /// How many bytes are left: an upper bound for any count that the input announces.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Succeeds only when nothing is left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("trailing bytes")) }
    }
}

/// Where hyphens stand in a UUID's text.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 36 || HYPHENS.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut digits = text.iter().filter(|byte| **byte != b'-');
    let mut digit = || {
        let digit = digits.next()?;
        DIGITS.iter().position(|known| known == digit).and_then(|value| u8::try_from(value).ok())
    };
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        *byte = digit()? << 4 | digit()?;
    }
    Some(uuid)
}

fn show_uuid(uuid: [u8; 16]) -> Box<str> {
    let mut text = String::with_capacity(36);
    for byte in uuid {
        if HYPHENS.contains(&text.len()) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(a: u64, b: i64, c: Vec<u8>, d: String, e: Option<i64>) {
            let mut writer = Writer::new();
            writer.unsigned(a).signed(b).bytes(&c).text(&d).optional_signed(e).optional_text(Some(&d));
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.unsigned(), Ok(a));
            prop_assert_eq!(reader.signed(), Ok(b));
            prop_assert_eq!(reader.bytes(), Ok(&c[..]));
            prop_assert_eq!(reader.text(), Ok(&d[..]));
            prop_assert_eq!(reader.optional_signed(), Ok(e));
            prop_assert_eq!(reader.optional_text(), Ok(Some(&d[..])));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn garbage_is_an_error_or_a_value_but_never_a_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            let _ = reader.unsigned();
            let _ = reader.text().map(str::len);
            let _ = reader.signed();
            let _ = reader.bytes().map(<[u8]>::len);
        }
    }

    #[test]
    fn names() {
        let check = |text: &str, len: usize| {
            let mut w = Writer::new();
            w.name(text);
            let bytes = w.finish();
            let mut r = Reader::new(&bytes);
            assert_eq!(r.name().as_deref(), Ok(text));
            assert_eq!((r.end(), bytes.len()), (Ok(()), len), "{text:?}");
        };
        check("", 1);
        check("r-000123", 9);
        check("0d1f9bd4-3a5b-4c6d-8e7f-a0b1c2d3e4f5", 17);
        check("00000000-0000-0000-0000-000000000000", 17);
        // As long, and something else.
        check("0D1f9bd4-3a5b-4c6d-8e7f-a0b1c2d3e4f5", 37);
        check("0g1f9bd4-3a5b-4c6d-8e7f-a0b1c2d3e4f5", 37);
        check("0d1f9bd4a3a5b-4c6d-8e7f-a0b1c2d3e4f5", 37);
        check("0d1f9bd4-3a5b-4c6d-8e7f-a0b1-2d3e4f5", 37);
        check("------------------------------------", 37);
    }

    proptest! {
        #[test]
        fn all_names_survive(text: String, uuid in "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bytes: Vec<u8>) {
            for text in [text, uuid] {
                let mut w = Writer::new();
                w.name(&text);
                prop_assert_eq!(Reader::new(&w.finish()).name(), Ok(text.into()));
            }
            let _ = Reader::new(&bytes).name();
        }
    }

    #[test]
    fn overlong_integers_are_refused() {
        assert_eq!(Reader::new(&[0xff; 11]).unsigned(), Err(Malformed("integer")));
        assert_eq!(Reader::new(&[0x80; 3]).unsigned(), Err(Malformed("end")));
    }
}
