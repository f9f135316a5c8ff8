//! The boxes of ISO base media files (ISO/IEC 14496-12 4.2) inside bytes that are already here.

use super::super::bytes::Bytes;

/// The boxes in `bytes`, one after another: type and content. A box that claims more than there is gets what there is;
/// one that claims less than its own header ends the walk.
pub(super) fn boxes(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = Bytes::new(bytes);
    std::iter::from_fn(move || {
        let (size, kind) = (rest.u32()?, rest.fourcc()?);
        let len = match size {
            0 => u64::MAX,
            1 => rest.u64()?.checked_sub(16)?,
            _ => u64::from(size).checked_sub(8)?,
        };
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.rest().len());
        Some((kind, rest.take(len)?))
    })
}

/// The content of the first box of this type.
pub(super) fn find<'a>(bytes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(kind, _)| kind == wanted).map(|(_, content)| content)
}

/// The content of a box inside boxes.
pub(super) fn path<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, kind| find(bytes, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_end() {
        let check = |bytes: &[u8], expected: &[(&[u8; 4], usize)]| {
            let found: Vec<_> = boxes(bytes).map(|(kind, content)| (kind, content.len())).collect();
            assert_eq!(found, expected.iter().map(|(kind, len)| (**kind, *len)).collect::<Vec<_>>());
        };
        check(b"\0\0\0\x09free.\0\0\0\x08skip", &[(b"free", 1), (b"skip", 0)]);
        check(b"\0\0\0\0free....", &[(b"free", 4)]);
        check(b"\0\0\0\x01free\0\0\0\0\0\0\0\x11.", &[(b"free", 1)]);
        check(b"\0\0\0\x01free\0\0\0\0\0\0\0\x01.", &[]);
        check(b"\0\0\0\x07free", &[]);
        check(b"\xff\xff\xff\xfffree..", &[(b"free", 2)]);
        check(b"\0\0\0\x08fre", &[]);
    }
}
