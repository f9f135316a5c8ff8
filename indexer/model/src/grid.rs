//! The search grid: the instants `start + k * interval` of a window at which something is recorded.
//!
//! Counted and paged arithmetically, never walked: a day at one second has 86,401 instants, and a page of them
//! must cost what the page costs.

use crate::coverage::Coverage;
use crate::time::{Span, Timestamp};

/// The covered instants of a window's grid.
#[derive(Debug, Clone)]
pub struct Grid {
    start: Timestamp,
    interval_ms: i64,
    /// Inclusive ranges of k, in order and disjoint.
    runs: Vec<(i64, i64)>,
}

impl Grid {
    /// The grid of `window` at `interval_ms` (at least 1) over the coverage that holds a keyframe.
    pub fn new(window: &Span, interval_ms: i64, coverage: &Coverage) -> Self {
        let interval_ms = interval_ms.max(1);
        let runs = coverage.stretches().iter().filter(|s| s.has_keyframe).filter_map(|stretch| {
            let part = stretch.span.intersection(window)?;
            let first = part.start.since_ms(window.start).div_euclid(interval_ms)
                + i64::from(part.start.since_ms(window.start).rem_euclid(interval_ms) != 0);
            let last = part.end.since_ms(window.start).div_euclid(interval_ms);
            (first <= last).then_some((first, last))
        });
        Self { start: window.start, interval_ms, runs: runs.collect() }
    }

    /// How many instants there are.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|(first, last)| (last - first + 1).unsigned_abs()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Up to `count` instants from the `skip`-th on.
    pub fn page(&self, skip: u64, count: usize) -> impl Iterator<Item = Timestamp> {
        let mut skip = i64::try_from(skip).unwrap_or(i64::MAX);
        let runs = self.runs.iter().map(move |&(first, last)| {
            let len = last - first + 1;
            let skipped = skip.min(len);
            skip -= skipped;
            first + skipped..=last
        });
        runs.flatten().take(count).map(|k| self.start.plus_ms(k * self.interval_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Stretch;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pages_equal_the_walked_grid(
            raw in prop::collection::vec((0i64..4_000, 0i64..900, any::<bool>()), 0..8),
            window in (0i64..3_000, 0i64..2_000),
            interval_ms in 1i64..400,
            page_size in 1usize..9,
        ) {
            let mut coverage = Coverage::new();
            for (start, len, has_keyframe) in raw {
                let start = Timestamp::from_ms(start);
                coverage.insert(Stretch { span: Span { start, end: start.plus_ms(len) }, has_keyframe }, 20);
            }
            let start = Timestamp::from_ms(window.0);
            let window = Span { start, end: start.plus_ms(window.1) };
            let walked: Vec<_> = (0..)
                .map(|k| start.plus_ms(k * interval_ms))
                .take_while(|&t| t <= window.end)
                .filter(|&t| coverage.at(t).is_some_and(|s| s.has_keyframe))
                .collect();
            let grid = Grid::new(&window, interval_ms, &coverage);
            prop_assert_eq!(grid.len(), walked.len() as u64);
            let mut paged = Vec::new();
            for page in 0.. {
                let part: Vec<_> = grid.page(page * page_size as u64, page_size).collect();
                if part.is_empty() { break }
                paged.extend(part);
            }
            prop_assert_eq!(paged, walked);
        }
    }
}
