//! Which reads to make for a set of ranges: neighbours share one read, because each read has a price of its own
//! (a system call here, a request at an object store). Pure arithmetic, no IO.

use bytes::Bytes;
use stills_model::keyframe::ByteRange;

/// Neighbours closer than this share a read: reading 64 KiB costs less than another request.
const GAP_MAX: u64 = 64 * 1024;

/// A shared read grows no further than this, so that reads stay even; a single longer range is read as it is.
const SHARED_LEN_MAX: u64 = 4 * 1024 * 1024;

/// Reads to make, and where in them the ranges asked for will be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// In order of offset.
    pub(super) reads: Vec<ByteRange>,
    /// For each range asked for: which read, from which byte of it, how many.
    pieces: Vec<(usize, usize, usize)>,
}

impl Plan {
    /// Cuts the ranges asked for out of what was read, without copying. `read` holds the bytes of each of
    /// [`Plan::reads`].
    pub(super) fn cut(&self, read: &[Bytes]) -> Vec<Bytes> {
        self.pieces.iter().map(|&(index, from, len)| read[index].slice(from..from + len)).collect()
    }
}

/// Plans the reads.
pub(super) fn plan(ranges: &[ByteRange]) -> Plan {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|&i| ranges[i].offset);
    let mut reads: Vec<ByteRange> = Vec::new();
    let mut pieces = vec![(0, 0, 0); ranges.len()];
    for i in order {
        let range = ranges[i];
        match reads.last_mut().and_then(|last| joined(*last, range).map(|both| (last, both))) {
            Some((last, both)) => *last = both,
            None => reads.push(range),
        }
        let index = reads.len() - 1;
        // The read begins at or before the range and spans at most 4 GiB.
        let from = usize::try_from(range.offset - reads[index].offset).unwrap_or(usize::MAX);
        pieces[i] = (index, from, range.len as usize);
    }
    Plan { reads, pieces }
}

/// One read for both, if it is worth it; `next` does not begin before `last`. Ranges past the end of all numbers
/// are left alone: reading them fails.
fn joined(last: ByteRange, next: ByteRange) -> Option<ByteRange> {
    let last_end = last.offset.checked_add(last.len.into())?;
    let next_end = next.offset.checked_add(next.len.into())?;
    let len = u32::try_from(last_end.max(next_end) - last.offset).ok()?;
    let inside = next_end <= last_end;
    let near = next.offset.saturating_sub(last_end) < GAP_MAX && u64::from(len) <= SHARED_LEN_MAX;
    (inside || near).then_some(ByteRange { offset: last.offset, len })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(ranges: &[(u64, u32)], expected: &[(u64, u32)]) {
        let of = |list: &[(u64, u32)]| list.iter().map(|&(offset, len)| ByteRange { offset, len }).collect::<Vec<_>>();
        assert_eq!(plan(&of(ranges)).reads, of(expected), "{ranges:?}");
    }

    #[test]
    fn neighbours_share_a_read() {
        const KIB: u32 = 1024;
        const MIB: u32 = 1024 * KIB;
        check(&[], &[]);
        check(&[(5, 10)], &[(5, 10)]);
        check(&[(0, 10), (10, 10)], &[(0, 20)]);
        check(&[(10, 10), (0, 10)], &[(0, 20)]);
        check(&[(0, 100), (10, 10), (50, 80)], &[(0, 130)]);
        check(&[(0, 10), (10 + 64 * 1024 - 1, 10)], &[(0, 20 + 64 * KIB - 1)]);
        check(&[(0, 10), (10 + 64 * 1024, 10)], &[(0, 10), (10 + 64 * 1024, 10)]);
        check(&[(0, 3 * MIB), (3 << 20, MIB)], &[(0, 4 * MIB)]);
        check(&[(0, 3 * MIB), (3 << 20, MIB + 1)], &[(0, 3 * MIB), (3 << 20, MIB + 1)]);
        check(&[(0, 9 * MIB), (5, 7), (9 << 20, 1)], &[(0, 9 * MIB), (9 << 20, 1)]);
        check(&[(u64::MAX, u32::MAX), (u64::MAX - 1, 1)], &[(u64::MAX - 1, 1), (u64::MAX, u32::MAX)]);
    }

    proptest! {
        #[test]
        fn pieces_are_what_was_asked_for(asked in prop::collection::vec((0_u64..400_000, 0_u32..90_000), 0..20)) {
            let media: Vec<u8> = (0..500_000_u32).map(|i| (i * 31 % 251) as u8).collect();
            let bytes = |range: &ByteRange| {
                let from = usize::try_from(range.offset).expect("small");
                Bytes::copy_from_slice(&media[from..from + range.len as usize])
            };
            let ranges: Vec<_> = asked.iter().map(|&(offset, len)| ByteRange { offset, len }).collect();
            let plan = plan(&ranges);
            let read: Vec<_> = plan.reads.iter().map(bytes).collect();
            prop_assert_eq!(plan.cut(&read), ranges.iter().map(bytes).collect::<Vec<_>>());
            prop_assert!(plan.reads.len() <= ranges.len());
            prop_assert!(plan.reads.windows(2).all(|pair| pair[1].offset >= pair[0].end()
                || u64::from(pair[0].len) + u64::from(pair[1].len) > SHARED_LEN_MAX));
        }
    }
}
