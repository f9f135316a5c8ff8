//! EBML (RFC 8794): element headers in the file, and elements inside bytes that are already here.

use stills_model::fault::Fault;

use super::super::window::Window;

/// The longest header: 4 bytes of id and 8 of size.
const HEADER_LEN_MAX: u32 = 12;

/// An element in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) id: u32,
    pub(super) at: u64,
    /// Where its content starts.
    pub(super) content: u64,
    /// Where it ends; nothing when it was written before that was known.
    pub(super) end: Option<u64>,
}

impl Element {
    /// The element at `at`; nothing where its header is not whole or no header at all.
    pub(super) fn read(window: &mut Window<'_>, at: u64) -> Result<Option<Self>, Fault> {
        let head = window.up_to(at, HEADER_LEN_MAX)?;
        Ok(header(head).map(|(id, size, len)| {
            let content = at + len as u64;
            Self { id, at, content, end: size.map(|size| content.saturating_add(size)) }
        }))
    }

    /// Bytes of content, where that is known.
    pub(super) fn len(&self) -> Option<u64> {
        Some(self.end? - self.content)
    }
}

/// Id, size if known, and length of the header that `bytes` begin with.
fn header(bytes: &[u8]) -> Option<(u32, Option<u64>, usize)> {
    let first = *bytes.first()?;
    let id_len = usize::try_from(first.leading_zeros()).ok()? + 1;
    if id_len > 4 {
        return None;
    }
    let id = bytes.get(..id_len)?.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    let (size, size_len) = number(bytes.get(id_len..)?)?;
    Some((id, size, id_len + size_len))
}

/// A number of variable length and how many bytes it took; nothing inside for "unknown", which is all ones.
pub(super) fn number(bytes: &[u8]) -> Option<(Option<u64>, usize)> {
    let first = *bytes.first()?;
    let len = usize::try_from(first.leading_zeros()).ok()? + 1;
    if len > 8 {
        return None;
    }
    let raw = bytes.get(..len)?.iter().fold(0u64, |raw, byte| raw << 8 | u64::from(*byte));
    let mask = (1u64 << (7 * len)) - 1;
    let value = raw & mask;
    Some(((value != mask).then_some(value), len))
}

/// The elements in `bytes`, one after another: id and content. One of unknown size, or of more than there is, gets
/// what there is.
pub(super) fn elements(bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (id, size, len) = header(rest)?;
        let content = rest.get(len..)?;
        let size = usize::try_from(size.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).min(content.len());
        let (content, after) = content.split_at(size);
        rest = after;
        Some((id, content))
    })
}

/// The content of the first element with this id.
pub(super) fn find(bytes: &[u8], wanted: u32) -> Option<&[u8]> {
    elements(bytes).find(|(id, _)| *id == wanted).map(|(_, content)| content)
}

/// An unsigned integer of up to 8 bytes; none at all is 0.
pub(super) fn unsigned(content: &[u8]) -> u64 {
    content.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// A float of 4 or 8 bytes; anything else is 0.
pub(super) fn float(content: &[u8]) -> f64 {
    match content {
        [a, b, c, d] => f32::from_be_bytes([*a, *b, *c, *d]).into(),
        [a, b, c, d, e, f, g, h] => f64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |bytes: &[u8], expected| assert_eq!(number(bytes), expected, "{bytes:x?}");
        check(&[0x82], Some((Some(2), 1)));
        check(&[0x40, 0x02], Some((Some(2), 2)));
        check(&[0xff], Some((None, 1)));
        check(&[0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Some((None, 8)));
        check(&[0x01, 0, 0, 0, 0, 0, 1, 0], Some((Some(256), 8)));
        check(&[0x00, 1], None);
        check(&[0x40], None);
        check(&[], None);
    }

    #[test]
    fn elements_end() {
        let check = |bytes: &[u8], expected: &[(u32, usize)]| {
            let found: Vec<_> = elements(bytes).map(|(id, content)| (id, content.len())).collect();
            assert_eq!(found, expected, "{bytes:x?}");
        };
        check(&[0xa3, 0x81, 9, 0xec, 0x80], &[(0xa3, 1), (0xec, 0)]);
        check(&[0x1a, 0x45, 0xdf, 0xa3, 0x85, 1], &[(0x1a45_dfa3, 1)]);
        check(&[0xa3, 0xff, 1, 2], &[(0xa3, 2)]);
        check(&[0x08, 0x81, 1], &[]);
        assert_eq!((unsigned(&[1, 0]), unsigned(&[]), float(&90f32.to_be_bytes())), (256, 0, 90.0));
    }
}
