//! From what a name says of time to an instant: formats, and time zones with their two odd hours a year.
//!
//! - An hour that the clock **skips** (spring) exists nowhere: a name in it is refused, for its layout's `time_zone`
//!   cannot be the recorder's. A recorder whose clock does not follow summer time has a fixed zone, `+01:00`.
//! - An hour that the clock **repeats** (autumn) names two instants. `repeated_hour` chooses: the `earlier`, the
//!   `later`, or by when the file was last `written` (the default): the later one if the writing ended within the
//!   hour and a quarter after it, else the earlier. That is right for recordings of up to an hour that were not
//!   copied since; a copy that lost its time falls back to the earlier.
//! - An end is the first instant of its name that is not before the start.

use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use regex::Captures;
use stills_model::time::{TIMESTAMP_MAX_MS, Timestamp};

/// The groups that together are a date and time; minute, second and fraction may be missing.
pub(super) const MOMENT_PARTS: [&str; 7] = ["year", "month", "day", "hour", "minute", "second", "fraction"];

/// How long after the repeated hour's second beginning its recordings may still be written to.
const WRITTEN_WITHIN_MS: i64 = 75 * 60 * 1000;

/// How the groups tell a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeFormat {
    /// Groups `year`, `month`, `day`, `hour`, perhaps `minute`, `second`, `fraction`.
    Parts,
    /// Groups `time` and perhaps `end` in milliseconds since 1970.
    EpochMs,
    /// The same in seconds, fractions allowed.
    EpochSeconds,
    /// The same in the notation of `strftime`: `%Y-%m-%d_%H-%M-%S`, with `%f` digits of a second, `%z` an offset.
    Written(String),
}

/// Where the recorder's clock stands.
#[derive(Debug, Clone)]
pub struct Zone {
    /// The time zone.
    pub zone: TimeZone,
    /// Which of two equal local times is meant.
    pub repeated_hour: RepeatedHour,
}

/// Which of two equal local times is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatedHour {
    /// As the time of the file's last writing tells.
    Written,
    /// The first, in summer time.
    Earlier,
    /// The second, in winter time.
    Later,
}

impl FromStr for TimeFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "epoch_ms" => Ok(Self::EpochMs),
            "epoch_s" => Ok(Self::EpochSeconds),
            _ if !text.contains('%') => {
                Err("must be \"epoch_ms\", \"epoch_s\" or a format such as \"%Y-%m-%d_%H-%M-%S\"".to_owned())
            }
            _ => {
                let now = jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
                let written = strtime::format(text, &now).map_err(|error| format!("not a time format: {error}"))?;
                let format = Self::Written(text.to_owned());
                format
                    .written(&written)
                    .map_err(|_| "cannot be read back: name year, month, day and hour".to_owned())?;
                Ok(format)
            }
        }
    }
}

/// A time zone by name (`Europe/Berlin`, `UTC`) or a fixed offset (`+01:00`).
#[derive(Debug, Clone)]
pub struct ZoneName(pub TimeZone);

impl FromStr for ZoneName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "must be a time zone such as \"Europe/Berlin\", \"UTC\", or an offset such as \"+01:00\"";
        if text.starts_with(['+', '-']) {
            let offset = strtime::BrokenDownTime::parse("%:z", text).ok().and_then(|parsed| parsed.offset());
            return offset.map(|offset| Self(TimeZone::fixed(offset))).ok_or(WRONG);
        }
        TimeZone::get(text).map(Self).map_err(|_| WRONG)
    }
}

/// What a text says: an instant, or a local time that needs a zone.
enum Moment {
    Instant(Timestamp),
    Local(DateTime),
}

impl TimeFormat {
    /// When the recording begins.
    pub(super) fn start(
        &self,
        groups: &Captures<'_>,
        zone: &Zone,
        written: Option<Timestamp>,
    ) -> Result<Timestamp, String> {
        let moment = match self {
            Self::Parts => Moment::Local(of_parts(groups)?),
            _ => self.moment(groups.name("time").map_or("", |found| found.as_str()))?,
        };
        let start = match moment {
            Moment::Instant(instant) => instant,
            Moment::Local(local) => zone.start(local, written)?,
        };
        if (0..=TIMESTAMP_MAX_MS).contains(&start.as_ms()) { Ok(start) } else { Err("time is before 1970".to_owned()) }
    }

    /// When it ends: the group `end`, written as `time` is, or `duration` in seconds.
    pub(super) fn end(
        &self,
        groups: &Captures<'_>,
        zone: &Zone,
        start: Timestamp,
    ) -> Result<Option<Timestamp>, String> {
        if let Some(duration) = groups.name("duration") {
            let ms = decimal_ms(duration.as_str()).ok_or("duration must be seconds, such as 60 or 59.98")?;
            return Ok(Some(start.plus_ms(ms)));
        }
        let Some(end) = groups.name("end") else { return Ok(None) };
        match self.moment(end.as_str())? {
            Moment::Instant(instant) => Ok(Some(instant)),
            Moment::Local(local) => zone.end(local, start).map(Some),
        }
    }

    fn moment(&self, text: &str) -> Result<Moment, String> {
        let instant = |ms: Option<i64>| {
            let ms = ms.filter(|ms| *ms <= TIMESTAMP_MAX_MS).ok_or_else(|| format!("time {text:?} is not a number"));
            ms.map(|ms| Moment::Instant(Timestamp::from_ms(ms)))
        };
        match self {
            Self::Parts => Err("the groups `time` and `end` need a time_format".to_owned()),
            Self::EpochMs => instant(text.parse().ok().filter(|ms| *ms >= 0)),
            Self::EpochSeconds => instant(decimal_ms(text)),
            Self::Written(_) => self.written(text),
        }
    }

    fn written(&self, text: &str) -> Result<Moment, String> {
        let Self::Written(format) = self else { return Err("no format".to_owned()) };
        let parsed = strtime::BrokenDownTime::parse(format, text);
        let parsed = parsed.map_err(|_| format!("time {text:?} is not written as {format:?}"))?;
        if parsed.timestamp().is_some() || parsed.offset().is_some() {
            let instant = parsed.to_timestamp().map_err(|_| format!("time {text:?} does not exist"))?;
            return Ok(Moment::Instant(Timestamp::from_ms(instant.as_millisecond())));
        }
        parsed.to_datetime().map(Moment::Local).map_err(|_| format!("time {text:?} does not exist"))
    }
}

impl Zone {
    fn start(&self, local: DateTime, written: Option<Timestamp>) -> Result<Timestamp, String> {
        let (earlier, later) = self.instants(local)?;
        Ok(match (self.repeated_hour, written) {
            (RepeatedHour::Later, _) => later,
            (RepeatedHour::Written, Some(written)) if (0..=WRITTEN_WITHIN_MS).contains(&written.since_ms(later)) => {
                later
            }
            _ => earlier,
        })
    }

    fn end(&self, local: DateTime, start: Timestamp) -> Result<Timestamp, String> {
        let (earlier, later) = self.instants(local)?;
        Ok(if earlier < start { later } else { earlier })
    }

    /// The one or two instants at which the recorder's clock shows this.
    fn instants(&self, local: DateTime) -> Result<(Timestamp, Timestamp), String> {
        let at = |offset: Offset| {
            let instant = offset.to_timestamp(local).map_err(|_| format!("time {local} is out of range"))?;
            Ok::<_, String>(Timestamp::from_ms(instant.as_millisecond()))
        };
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => Ok((at(offset)?, at(offset)?)),
            AmbiguousOffset::Fold { before, after } => Ok((at(before)?, at(after)?)),
            AmbiguousOffset::Gap { .. } => {
                let zone = self.zone.iana_name().unwrap_or("the zone");
                Err(format!(
                    "time {local} does not exist in {zone}: summer time skips it; is time_zone the recorder's?"
                ))
            }
        }
    }
}

fn of_parts(groups: &Captures<'_>) -> Result<DateTime, String> {
    let part = |name: &str| groups.name(name).map_or("0", |found| found.as_str());
    let number = |name: &str| part(name).parse().map_err(|_| format!("{name} {:?} is not a number", part(name)));
    let small =
        |name: &str| number(name).and_then(|n: i16| i8::try_from(n).map_err(|_| format!("{name} is too large")));
    let nanoseconds = fraction_ns(part("fraction")).ok_or("fraction must be 1 to 9 digits")?;
    let (month, day, hour) = (small("month")?, small("day")?, small("hour")?);
    let made = DateTime::new(number("year")?, month, day, hour, small("minute")?, small("second")?, nanoseconds);
    made.map_err(|_| "the date or time does not exist".to_owned())
}

/// Digits behind a decimal point.
fn fraction_ns(digits: &str) -> Option<i32> {
    let is_fraction = (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if is_fraction { format!("{digits:0<9}").parse().ok() } else { None }
}

/// Seconds with or without a fraction, in milliseconds; digits beyond are cut off.
fn decimal_ms(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit());
    let seconds: i64 = if is_number { whole.parse().ok()? } else { return None };
    seconds.checked_mul(1000)?.checked_add(i64::from(fraction_ns(fraction)? / 1_000_000))
}
