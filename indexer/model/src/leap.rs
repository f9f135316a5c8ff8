//! Leaps of a transport stream's clock: where a scan could not follow the time that is written and went on with one picture
//! after the other. What lies behind a leap is shown at the instants that the pictures before it lead to.

use crate::codec::{Malformed, Reader, Writer};
use crate::keyframe_index::KeyframeIndex;

/// The most leaps of one scan that are told one by one.
pub const LEAPS_MAX: usize = 16;

/// One leap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leap {
    /// Where the first picture behind it starts in the file.
    pub offset: u64,
    /// By how much the time that is written went on from one picture to the next, in milliseconds, by the shorter way
    /// round a clock that starts again every 26.5 hours; back below zero.
    pub by_ms: i64,
}

/// The leaps that one scan saw: in a file that grows, those in its new part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaps {
    /// How many there were.
    pub count: u32,
    /// The first [`LEAPS_MAX`] of them.
    pub first: Vec<Leap>,
}

/// What a scan gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// The keyframes.
    pub index: KeyframeIndex,
    /// Where time was not followed.
    pub leaps: Leaps,
}

impl From<KeyframeIndex> for Scanned {
    /// Of a container whose times cannot leap.
    fn from(index: KeyframeIndex) -> Self {
        Self { index, leaps: Leaps::default() }
    }
}

impl Leaps {
    /// Counts one.
    pub fn push(&mut self, leap: Leap) {
        self.count = self.count.saturating_add(1);
        if self.first.len() < LEAPS_MAX {
            self.first.push(leap);
        }
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.unsigned(self.count.into()).unsigned(self.first.len() as u64);
        for leap in &self.first {
            w.unsigned(leap.offset).signed(leap.by_ms);
        }
    }

    /// The sender is not trusted.
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (count, listed) = (r.unsigned_32()?, r.unsigned()?);
        if listed > LEAPS_MAX as u64 || listed > u64::from(count) {
            return Err(Malformed("count of leaps"));
        }
        let leap = |_| Ok(Leap { offset: r.unsigned()?, by_ms: r.signed()? });
        let first = (0..listed).map(leap).collect::<Result<_, Malformed>>()?;
        Ok(Self { count, first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_told() {
        let mut leaps = Leaps::default();
        for n in 0..20 {
            leaps.push(Leap { offset: n, by_ms: -5 });
        }
        assert_eq!((leaps.count, leaps.first.len()), (20, LEAPS_MAX));
        let mut w = Writer::new();
        leaps.write(&mut w);
        let bytes = w.finish();
        assert_eq!(Leaps::read(&mut Reader::new(&bytes)), Ok(leaps));
        for hostile in [&[0, 1, 1, 1][..], &[200, 1, 200, 1], &[1, 1, 0]] {
            assert!(Leaps::read(&mut Reader::new(hostile)).is_err(), "{hostile:?}");
        }
    }
}
