//! Finds a keyframe in media that has timestamps and no list of keyframes: by halves, then a short walk forward, and
//! longer ones from further back while those meet none. Knows no container; reads what its walk reads.
//!
//! Timestamps are taken to grow with the place. Where they do not (a clock that starts again in the middle) some
//! keyframe is found, in bounded time.

use stills_model::fault::Fault;

/// Halving ends here: what a walk reads forward anyway.
const NEAR_LEN: u64 = 512 * 1024;

/// The first step back; each is twice the one before.
const STEP_LEN: u64 = 1024 * 1024;

/// A picture that a walk came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen<K> {
    /// Where it begins, in bytes from the start.
    pub(crate) at: u64,
    /// When it is shown.
    pub(crate) time: i64,
    /// All of it, where decoding can start there.
    pub(crate) key: Option<K>,
}

/// Media that can be entered at any byte.
pub(crate) trait Walk {
    /// A keyframe.
    type Key;

    /// Bytes of the media.
    fn len(&self) -> u64;

    /// The time of the first picture found from `at` on; nothing where there is none before the end.
    fn time_from(&mut self, at: u64) -> Result<Option<i64>, Fault>;

    /// Goes to `at`; pictures that begin there or behind come next.
    fn go_to(&mut self, at: u64) -> Result<(), Fault>;

    /// The next picture in decoding order.
    fn next(&mut self) -> Result<Option<Seen<Self::Key>>, Fault>;
}

/// The last keyframe that is not shown behind `target`, and when it is; the first of all where there is none.
pub(crate) fn at_or_before<W: Walk>(walk: &mut W, target: i64) -> Result<Option<(i64, W::Key)>, Fault> {
    let (mut low, mut high) = (0, walk.len());
    while high - low > NEAR_LEN {
        let middle = low + (high - low) / 2;
        match walk.time_from(middle)? {
            Some(time) if time <= target => low = middle,
            _ => high = middle,
        }
    }
    let (mut from, mut until, mut step) = (low, u64::MAX, STEP_LEN);
    loop {
        if let Some(found) = last_in(walk, from, until, target)? {
            return Ok(Some(found));
        }
        if from == 0 {
            return first(walk);
        }
        (until, from) = (from, from.saturating_sub(step));
        step = step.saturating_mul(2);
    }
}

/// The last keyframe up to `target` among the pictures that begin in `from..until`.
fn last_in<W: Walk>(walk: &mut W, from: u64, until: u64, target: i64) -> Result<Option<(i64, W::Key)>, Fault> {
    walk.go_to(from)?;
    let mut best = None;
    while let Some(seen) = walk.next()? {
        // Whatever is decoded later and can be entered is shown later still.
        if seen.time > target || seen.at >= until {
            break;
        }
        best = seen.key.map(|key| (seen.time, key)).or(best);
    }
    Ok(best)
}

fn first<W: Walk>(walk: &mut W) -> Result<Option<(i64, W::Key)>, Fault> {
    walk.go_to(0)?;
    while let Some(seen) = walk.next()? {
        if let Some(key) = seen.key {
            return Ok(Some((seen.time, key)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pictures at places, in order; a keyframe is named by its number.
    struct Made {
        pictures: Vec<(u64, i64, bool)>,
        len: u64,
        next: usize,
        probes: usize,
        walked: usize,
    }

    impl Made {
        fn new(pictures: Vec<(u64, i64, bool)>) -> Self {
            let len = pictures.last().map_or(0, |(at, ..)| at + 10_000);
            Self { pictures, len, next: 0, probes: 0, walked: 0 }
        }

        fn place(&self, at: u64) -> usize {
            self.pictures.partition_point(|picture| picture.0 < at)
        }
    }

    impl Walk for Made {
        type Key = usize;

        fn len(&self) -> u64 {
            self.len
        }
        fn time_from(&mut self, at: u64) -> Result<Option<i64>, Fault> {
            self.probes += 1;
            Ok(self.pictures.get(self.place(at)).map(|picture| picture.1))
        }
        fn go_to(&mut self, at: u64) -> Result<(), Fault> {
            self.next = self.place(at);
            Ok(())
        }
        fn next(&mut self) -> Result<Option<Seen<usize>>, Fault> {
            let number = self.next;
            self.next += 1;
            self.walked += 1;
            Ok(self.pictures.get(number).map(|&(at, time, is_key)| Seen { at, time, key: is_key.then_some(number) }))
        }
    }

    proptest! {
        #[test]
        fn it_is_the_last_one_not_behind(
            pictures in prop::collection::vec((1_000u64..900_000, 1i64..50, prop::bool::weighted(0.1)), 1..300),
            target in -10i64..9_000,
        ) {
            let (mut at, mut time) = (0, 0);
            let pictures: Vec<_> = pictures.into_iter().map(|(len, step, is_key)| {
                (at, time) = (at + len, time + step);
                (at, time, is_key)
            }).collect();
            let keys = || pictures.iter().enumerate().filter(|(_, picture)| picture.2);
            let expected = keys().rfind(|(_, picture)| picture.1 <= target).or_else(|| keys().next());
            let expected = expected.map(|(number, picture)| (picture.1, number));
            let mut made = Made::new(pictures.clone());
            prop_assert_eq!(at_or_before(&mut made, target), Ok(expected));
            prop_assert!(made.probes <= 64);
        }

        #[test]
        fn times_in_disorder_end_too(
            pictures in prop::collection::vec((1_000u64..900_000, -50i64..50, any::<bool>()), 0..100),
            target in -10i64..90,
        ) {
            let mut at = 0;
            let pictures: Vec<_> = pictures.into_iter().map(|(len, time, is_key)| {
                at += len;
                (at, time, is_key)
            }).collect();
            let has_key = pictures.iter().any(|picture| picture.2);
            let found = at_or_before(&mut Made::new(pictures), target).expect("no fault");
            prop_assert_eq!(found.is_some(), has_key);
        }
    }

    #[test]
    fn a_long_one_takes_few_looks() {
        let pictures = (0..100_000_u64).map(|n| (n * 40_000, n.cast_signed() * 3600, n % 50 == 0)).collect();
        let mut made = Made::new(pictures);
        assert_eq!(at_or_before(&mut made, 77_777 * 3600), Ok(Some((77_750 * 3600, 77_750))));
        assert!(made.probes < 16 && made.walked < 120, "{} probes, {} pictures", made.probes, made.walked);
    }
}
