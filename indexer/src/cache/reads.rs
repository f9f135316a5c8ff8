//! Which parts of a volume were read: three sets of bits, in memory alone. No IO, no lock.
//!
//! A bit stands for a stretch of the volume, so a picture may pass for read because its neighbour was: that costs a
//! copy at eviction, nothing else. What an earlier run read is not known.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a set: 4 KiB of memory, and 4 KiB of a volume of the usual size in each, less than a picture.
const STRETCHES: u64 = 1 << 15;

/// One bit for each stretch.
#[derive(Debug)]
struct Bits(Box<[AtomicU64]>);

impl Bits {
    fn new() -> Self {
        Self((0..STRETCHES / 64).map(|_| AtomicU64::new(0)).collect())
    }

    fn word(&self, stretch: u64) -> (&AtomicU64, u64) {
        let stretch = stretch.min(STRETCHES - 1);
        let word = usize::try_from(stretch / 64).unwrap_or(0);
        (&self.0[word], 1 << (stretch % 64))
    }

    fn set(&self, stretch: u64) {
        let (word, bit) = self.word(stretch);
        // Most marks are there already: a load is cheaper than a write that all cores hear of.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    fn get(&self, stretch: u64) -> bool {
        let (word, bit) = self.word(stretch);
        word.load(Ordering::Relaxed) & bit != 0
    }
}

/// What was read of one volume.
#[derive(Debug)]
pub(super) struct Reads {
    stretch_bytes: u64,
    ever: Bits,
    lately: Bits,
    before: Bits,
}

impl Reads {
    /// Of a volume of about `len_max` bytes.
    pub(super) fn new(len_max: u64) -> Self {
        let stretch_bytes = len_max.div_ceil(STRETCHES).max(1);
        Self { stretch_bytes, ever: Bits::new(), lately: Bits::new(), before: Bits::new() }
    }

    /// Notes that the entry at `offset` was read.
    pub(super) fn mark(&self, offset: u64) {
        self.lately.set(offset / self.stretch_bytes);
        self.mark_asked(offset);
    }

    /// Notes that somebody has seen the entry at `offset`, which alone does not keep it.
    pub(super) fn mark_asked(&self, offset: u64) {
        self.ever.set(offset / self.stretch_bytes);
    }

    /// Whether it was read since the turn before last.
    pub(super) fn is_recent(&self, offset: u64) -> bool {
        let stretch = offset / self.stretch_bytes;
        self.lately.get(stretch) || self.before.get(stretch)
    }

    /// Whether anybody has seen it.
    pub(super) fn is_ever(&self, offset: u64) -> bool {
        self.ever.get(offset / self.stretch_bytes)
    }

    /// What was read lately becomes what was read before; what was read before that is forgotten.
    pub(super) fn turn(&self) {
        for (before, lately) in self.before.0.iter().zip(&self.lately.0) {
            before.store(lately.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_forgotten_after_two_turns_but_not_that_there_were_any() {
        let reads = Reads::new(128 << 20);
        reads.mark(5_000_000);
        reads.mark_asked(9_000_000);
        let recent = || [5_000_000, 9_000_000, 20_000_000].map(|offset| reads.is_recent(offset));
        assert_eq!(recent(), [true, false, false]);
        reads.turn();
        assert_eq!(recent(), [true, false, false]);
        reads.turn();
        assert_eq!(recent(), [false; 3]);
        assert_eq!([5_000_000, 9_000_000, 20_000_000].map(|offset| reads.is_ever(offset)), [true, true, false]);
        // Behind the expected end, as in a volume of another configuration.
        reads.mark(u64::MAX);
        assert!(reads.is_recent(u64::MAX) && !reads.is_recent(0));
    }
}
