//! Coverage: the union of a device's recordings. A hole longer than a seam is a gap.
//!
//! A [`Coverage`] is a sorted list of spans further apart than the seam. Each remembers whether it holds a
//! keyframe at all: a stretch without one cannot show a picture, so it is covered but not listed.
//!
//! Stored form, version 1 (one value per device and UTC day): version, count, then per span the distance of
//! its start from the previous end, its length, and whether it has a keyframe.

use crate::codec::{Malformed, Reader, Writer};
use crate::time::{Span, Timestamp};

/// One stretch of coverage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// From when to when, both ends included.
    pub span: Span,
    /// Whether any keyframe lies in it.
    pub has_keyframe: bool,
}

/// Sorted stretches, each further from the next than the seam they were merged with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    stretches: Vec<Stretch>,
}

const VERSION: u8 = 1;

impl Coverage {
    /// Nothing recorded.
    pub fn new() -> Self {
        Self::default()
    }

    /// The stretches in order.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// Whether nothing is covered.
    pub fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Adds a stretch, merging all that lie no further apart than `seam_ms`.
    pub fn insert(&mut self, new: Stretch, seam_ms: i64) {
        let first = self.stretches.partition_point(|s| new.span.start.since_ms(s.span.end) > seam_ms);
        let behind = self.stretches.partition_point(|s| s.span.start.since_ms(new.span.end) <= seam_ms);
        let mut merged = new;
        for old in &self.stretches[first..behind.max(first)] {
            merged.span.start = merged.span.start.min(old.span.start);
            merged.span.end = merged.span.end.max(old.span.end);
            merged.has_keyframe |= old.has_keyframe;
        }
        self.stretches.splice(first..behind.max(first), [merged]);
    }

    /// The stretch that holds the instant.
    pub fn at(&self, instant: Timestamp) -> Option<Stretch> {
        let index = self.stretches.partition_point(|s| s.span.end < instant);
        self.stretches.get(index).filter(|s| s.span.contains(instant)).copied()
    }

    /// The last covered instant before `instant`, where `instant` itself is not covered.
    pub fn before(&self, instant: Timestamp) -> Option<Timestamp> {
        let index = self.stretches.partition_point(|s| s.span.end < instant);
        index.checked_sub(1).map(|i| self.stretches[i].span.end)
    }

    /// The first covered instant after `instant`, where `instant` itself is not covered.
    pub fn after(&self, instant: Timestamp) -> Option<Timestamp> {
        let index = self.stretches.partition_point(|s| s.span.start <= instant);
        self.stretches.get(index).map(|s| s.span.start)
    }

    /// The part inside `window`.
    #[must_use]
    pub fn clipped(&self, window: &Span) -> Self {
        let clip = |s: &Stretch| Some(Stretch { span: s.span.intersection(window)?, ..*s });
        Self { stretches: self.stretches.iter().filter_map(clip).collect() }
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(VERSION).unsigned(self.stretches.len() as u64);
        let mut previous = 0;
        for stretch in &self.stretches {
            let Span { start, end } = stretch.span;
            w.signed(start.as_ms() - previous).signed(end.since_ms(start)).byte(u8::from(stretch.has_keyframe));
            previous = end.as_ms();
        }
        w.finish()
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.byte()? != VERSION {
            return Err(Malformed("coverage version"));
        }
        let count = r.unsigned()?;
        let mut stretches = Vec::new();
        let mut previous = 0i64;
        for _ in 0..count {
            let start = previous.checked_add(r.signed()?).ok_or(Malformed("coverage"))?;
            let end = start.checked_add(r.signed()?).ok_or(Malformed("coverage"))?;
            let span = Span::new(Timestamp::from_ms(start), Timestamp::from_ms(end)).ok_or(Malformed("coverage"))?;
            stretches.push(Stretch { span, has_keyframe: r.flag()? });
            previous = end;
        }
        r.end()?;
        Ok(Self { stretches })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stretch(start: i64, len: i64, has_keyframe: bool) -> Stretch {
        let start = Timestamp::from_ms(start);
        Stretch { span: Span { start, end: start.plus_ms(len) }, has_keyframe }
    }

    proptest! {
        /// Against a model that marks covered instants one by one.
        #[test]
        fn union_with_seams(
            raw in prop::collection::vec((0i64..300, 0i64..30, any::<bool>()), 0..12),
            seam_ms in 0i64..8,
        ) {
            let mut coverage = Coverage::new();
            for &(start, len, keyframe) in &raw {
                coverage.insert(stretch(start, len, keyframe), seam_ms);
            }
            // The model: union-find by repeated merging of any two that are close enough.
            let mut model: Vec<Stretch> = raw.iter().map(|&(s, l, k)| stretch(s, l, k)).collect();
            loop {
                let close = (0..model.len()).flat_map(|i| (0..i).map(move |j| (i, j)))
                    .find(|&(i, j)| model[i].span.distance_ms(&model[j].span) <= seam_ms);
                let Some((i, j)) = close else { break };
                let (a, b) = (model.remove(i), model.remove(j));
                model.push(Stretch {
                    span: Span { start: a.span.start.min(b.span.start), end: a.span.end.max(b.span.end) },
                    has_keyframe: a.has_keyframe || b.has_keyframe,
                });
            }
            model.sort_by_key(|s| s.span);
            prop_assert_eq!(coverage.stretches(), &model[..]);
            prop_assert_eq!(Coverage::decode(&coverage.encode()), Ok(coverage.clone()));
            for t in (0..340).map(Timestamp::from_ms) {
                let holding = model.iter().find(|s| s.span.contains(t)).copied();
                prop_assert_eq!(coverage.at(t), holding);
                if holding.is_none() {
                    prop_assert_eq!(coverage.before(t), model.iter().map(|s| s.span.end).filter(|&e| e < t).max());
                    prop_assert_eq!(coverage.after(t), model.iter().map(|s| s.span.start).filter(|&s| s > t).min());
                }
            }
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = Coverage::decode(&bytes);
        }
    }
}
