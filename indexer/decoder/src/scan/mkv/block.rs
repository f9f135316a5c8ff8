//! Blocks of Matroska (RFC 9559 10): track, time, flags and the places of the frames inside. Never reads a frame.

use stills_model::fault::Fault;

use super::super::bytes::Bytes;
use super::super::window::Window;
use super::ebml::{Element, number, unsigned};

/// Bytes of a block's header with its lacing: 256 sizes of at most 8 bytes.
const HEADER_LEN_MAX: u32 = 2064;

const SIMPLE_BLOCK: u32 = 0xa3;
const BLOCK_GROUP: u32 = 0xa0;

/// Children of one block group that are looked at.
const CHILDREN_MAX: usize = 64;

/// What a block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) track: u64,
    /// Against the cluster's time, in the segment's ticks.
    pub(super) time: i16,
    pub(super) keyframe: bool,
    /// How long it lasts in the segment's ticks, where the file says so.
    pub(super) duration: Option<u64>,
    /// Place and length of each frame.
    pub(super) frames: Vec<(u64, u32)>,
}

/// Whether elements with this id hold a block.
pub(super) const fn holds_block(id: u32) -> bool {
    matches!(id, SIMPLE_BLOCK | BLOCK_GROUP)
}

/// The block in a `SimpleBlock` or `BlockGroup` that ends at `end`; nothing where it is broken.
pub(super) fn read(window: &mut Window<'_>, element: Element, end: u64) -> Result<Option<Block>, Fault> {
    if element.id == SIMPLE_BLOCK {
        let block = raw(window, element.content, end)?;
        return Ok(block.map(|(block, flags)| Block { keyframe: flags & 0x80 != 0, ..block }));
    }
    let (mut at, mut found) = (element.content, None);
    let (mut duration, mut refers) = (None, false);
    for _ in 0..CHILDREN_MAX {
        let Some(child) = Element::read(window, at)?.filter(|_| at < end) else { break };
        let Some(child_end) = child.end.filter(|child_end| *child_end <= end) else { break };
        match child.id {
            0xa1 => found = raw(window, child.content, child_end)?,
            0x9b => duration = Some(unsigned(window.up_to(child.content, length(child.content, child_end).min(8))?)),
            0xfb => refers = true,
            _ => {}
        }
        at = child_end;
    }
    Ok(found.map(|(block, _)| Block { keyframe: !refers, duration, ..block }))
}

/// The block between two places of the file, and its flags.
fn raw(window: &mut Window<'_>, at: u64, end: u64) -> Result<Option<(Block, u8)>, Fault> {
    // Without lacing, which is how nearly all video comes, the header has at most 11 bytes.
    let len = length(at, end);
    let short = header(window.up_to(at, len.min(12))?, at, end);
    match short {
        Some((block, flags)) if flags & 0x06 == 0 => Ok(Some((block, flags))),
        Some(_) | None if len > 12 => Ok(header(window.up_to(at, len.min(HEADER_LEN_MAX))?, at, end)),
        found => Ok(found),
    }
}

fn header(bytes: &[u8], at: u64, end: u64) -> Option<(Block, u8)> {
    let (track, track_len) = number(bytes)?;
    let mut fields = Bytes::new(bytes);
    fields.skip(track_len)?;
    let (time, flags) = (fields.u16()?.cast_signed(), fields.u8()?);
    let lens = match flags & 0x06 {
        0 => Vec::new(),
        lacing => laced(&mut fields, lacing, at, bytes.len(), end)?,
    };
    let mut place = at + (bytes.len() - fields.rest().len()) as u64;
    let mut frames = Vec::new();
    for len in lens {
        frames.push((place, len));
        place = place.checked_add(len.into())?;
    }
    frames.push((place, u32::try_from(end.checked_sub(place)?).ok()?));
    Some((Block { track: track?, time, keyframe: false, duration: None, frames }, flags))
}

/// The lengths of all frames but the last, which has what is left.
fn laced(fields: &mut Bytes<'_>, lacing: u8, at: u64, held: usize, end: u64) -> Option<Vec<u32>> {
    let others = usize::from(fields.u8()?);
    let mut lens: Vec<u32> = Vec::new();
    match lacing {
        // Xiph: bytes of 255 and a last smaller one.
        0x02 => {
            for _ in 0..others {
                let mut len = 0;
                loop {
                    let byte = fields.u8()?;
                    len += u32::from(byte);
                    if byte != 255 {
                        break;
                    }
                }
                lens.push(len);
            }
        }
        // Fixed: all alike.
        0x04 => {
            let start = at + (held - fields.rest().len()) as u64;
            let each = end.checked_sub(start)? / (others as u64 + 1);
            lens = vec![u32::try_from(each).ok()?; others];
        }
        // EBML: a first length, then differences.
        _ => {
            let mut last = 0i64;
            for n in 0..others {
                let (value, len) = number(fields.rest())?;
                fields.skip(len)?;
                let value = value?.cast_signed();
                last = if n == 0 { value } else { last + value - ((1 << (7 * len - 1)) - 1) };
                lens.push(u32::try_from(last).ok()?);
            }
        }
    }
    Some(lens)
}

fn length(from: u64, to: u64) -> u32 {
    u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], end: u64, expected: Option<&[(u64, u32)]>) {
        let found = header(bytes, 100, end).map(|(block, _)| block.frames);
        assert_eq!(found.as_deref(), expected, "{bytes:x?}");
    }

    #[test]
    fn frames_of_blocks() {
        check(&[0x81, 0, 5, 0x80, 1, 2], 110, Some(&[(104, 6)]));
        check(&[0x81, 0, 5, 0x82, 1, 3, 1, 2, 3, 9], 110, Some(&[(106, 3), (109, 1)]));
        check(&[0x81, 0, 5, 0x82, 1, 255, 1, 2, 3, 9], 400, Some(&[(107, 256), (363, 37)]));
        check(&[0x81, 0, 5, 0x84, 1, 1, 2, 3, 4], 109, Some(&[(105, 2), (107, 2)]));
        // Lengths 3, 3 - 1, and what is left.
        check(&[0x81, 0, 5, 0x86, 2, 0x83, 0xbe], 117, Some(&[(107, 3), (110, 2), (112, 5)]));
        check(&[0x81, 0, 5, 0x86, 2, 0x83, 0x80], 117, None);
        check(&[0x81, 0, 5, 0x82, 1, 200], 110, None);
        check(&[0x81, 0], 110, None);
        check(&[], 110, None);
    }
}
