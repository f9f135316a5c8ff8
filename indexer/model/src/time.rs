//! Wall clock: Unix milliseconds, closed spans of them, and the two calendars that storage uses (days, buckets).
//!
//! A [`Timestamp`] is never mixed with media time (`pts`, ticks) except in [`crate::keyframe::Timing`].

use std::fmt;

/// One UTC day in milliseconds; also the longest recording and the longest window.
pub const DAY_MS: i64 = 86_400_000;

/// One hour in milliseconds.
pub const HOUR_MS: i64 = 3_600_000;

/// The width of an epoch bucket: timestamps without their last eight digits, about 28 hours.
pub const BUCKET_MS: i64 = 100_000_000;

/// The largest timestamp that any call accepts: year 9999, far from overflow in every sum made here.
pub const TIMESTAMP_MAX_MS: i64 = 253_402_300_799_999;

/// Wall-clock Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// `ms` since 1970-01-01T00:00:00Z.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// This instant moved by `ms`, saturating.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Signed milliseconds from `earlier` to this instant.
    pub const fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The UTC day that holds this instant.
    pub const fn day(self) -> Day {
        Day(self.0.div_euclid(DAY_MS))
    }

    /// The UTC hour that holds this instant; the first or last one that can be counted for what lies beyond.
    pub fn hour(self) -> Hour {
        let hour = self.0.div_euclid(HOUR_MS).clamp(i32::MIN.into(), i32::MAX.into());
        Hour(i32::try_from(hour).unwrap_or(i32::MAX))
    }

    /// The epoch bucket that holds this instant.
    pub const fn bucket(self) -> Bucket {
        Bucket(self.0.div_euclid(BUCKET_MS))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A closed span of wall clock: both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first instant.
    pub start: Timestamp,
    /// The last instant, never before `start`.
    pub end: Timestamp,
}

impl Span {
    /// A span, or nothing when `end` is before `start`.
    pub fn new(start: Timestamp, end: Timestamp) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// The length in milliseconds.
    pub const fn len_ms(&self) -> i64 {
        self.end.since_ms(self.start)
    }

    /// Whether the instant belongs to it.
    pub fn contains(&self, instant: Timestamp) -> bool {
        self.start <= instant && instant <= self.end
    }

    /// Whether `other` lies wholly inside.
    pub fn encloses(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// How far apart two spans are in milliseconds; 0 when they overlap or meet.
    pub fn distance_ms(&self, other: &Self) -> i64 {
        other.start.since_ms(self.end).max(self.start.since_ms(other.end)).max(0)
    }

    /// The common part.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// The days it touches, first to last.
    pub fn days(&self) -> impl DoubleEndedIterator<Item = Day> + use<> {
        (self.start.day().0..=self.end.day().0).map(Day)
    }

    /// The epoch buckets it touches, first to last.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + use<> {
        (self.start.bucket().0..=self.end.bucket().0).map(Bucket)
    }
}

/// A UTC day, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i64);

impl Day {
    /// The first instant of the day.
    pub const fn start(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(DAY_MS))
    }

    /// Midnight to midnight, both included, so that spans cut at midnight still meet.
    pub const fn span(self) -> Span {
        Span { start: self.start(), end: Timestamp(self.0.saturating_add(1).saturating_mul(DAY_MS)) }
    }
}

/// A UTC hour, counted from the first of 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(pub i32);

impl Hour {
    /// Four bytes that sort as the hours do.
    pub const fn to_bytes(self) -> [u8; 4] {
        (self.0.cast_unsigned() ^ 1 << 31).to_be_bytes()
    }

    /// Undoes [`Hour::to_bytes`].
    pub const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self((u32::from_be_bytes(bytes) ^ 1 << 31).cast_signed())
    }

    /// The first instant of the next hour.
    pub const fn end(self) -> Timestamp {
        Timestamp((self.0 as i64 + 1) * HOUR_MS)
    }
}

/// An epoch bucket: what [`BUCKET_MS`] cuts the wall clock into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: i64, end: i64) -> Span {
        Span { start: Timestamp(start), end: Timestamp(end) }
    }

    #[test]
    fn distances() {
        assert_eq!(span(0, 10).distance_ms(&span(15, 20)), 5);
        assert_eq!(span(15, 20).distance_ms(&span(0, 10)), 5);
        assert_eq!(span(0, 10).distance_ms(&span(10, 20)), 0);
        assert_eq!(span(0, 30).distance_ms(&span(10, 20)), 0);
    }

    #[test]
    fn hours_keep_their_order_as_bytes() {
        let hours = [i64::MIN, -HOUR_MS, -1, 0, HOUR_MS, 488_000 * HOUR_MS, i64::MAX].map(|ms| Timestamp(ms).hour());
        assert!(hours.windows(2).all(|pair| pair[0] <= pair[1] && pair[0].to_bytes() <= pair[1].to_bytes()));
        assert!(hours.iter().all(|hour| Hour::from_bytes(hour.to_bytes()) == *hour));
        assert_eq!((hours[1], hours[2], hours[3].end()), (Hour(-1), Hour(-1), Timestamp(HOUR_MS)));
    }

    #[test]
    fn days_and_buckets() {
        assert_eq!(span(0, DAY_MS).days().count(), 2);
        assert_eq!(span(0, DAY_MS - 1).days().count(), 1);
        assert_eq!(Timestamp(1_757_371_980_000).bucket(), Bucket(17_573));
        // A window is shorter than a bucket, so it touches two at most.
        assert_eq!(span(BUCKET_MS - 1, BUCKET_MS - 1 + DAY_MS).buckets().count(), 2);
    }
}
