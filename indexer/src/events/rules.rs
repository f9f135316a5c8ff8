//! What makes an event acceptable: every field checked, every fault listed, in the order of the structured form.
//!
//! Limits that CloudEvents leaves open are ours and stand here as constants: `id` and `source` at most 256 bytes
//! (both are kept beside each recording as its order), `media_url` 4096, `etag` 256, `credentials_key` 128; texts
//! are not empty and hold no control characters; instants are at most the end of the year 9999; `time` lies in
//! the years 1677 to 2262, which signed 64-bit nanoseconds can say. Unknown members and extensions are ignored.

use std::ops::RangeInclusive;
use std::str::FromStr;

use stills_model::event::{Available, Event, EventKind, EventOrder};
use stills_model::id::{DeviceId, InvalidId, UserId};
use stills_model::time::{DAY_MS, Span, TIMESTAMP_MAX_MS, Timestamp};

use super::envelope::{Data, Envelope, Field, Object};
use super::rejection::Objection;

const NAME_LEN_MAX: usize = 256;
const MEDIA_URL_LEN_MAX: usize = 4096;
const ETAG_LEN_MAX: usize = 256;
const CREDENTIALS_KEY_LEN_MAX: usize = 128;

/// Checks one event. `now` bounds how far ahead a recording may reach.
pub(super) fn event(envelope: &Object<Envelope<'_>>, now: Timestamp) -> Result<Event, Vec<Objection>> {
    let envelope = match envelope {
        Object::Is(envelope) => envelope,
        Object::Absent => return Err(vec![Objection::new("", "must be an object, not null")]),
        Object::Not(what) => return Err(vec![Objection::new("", format!("must be an object, not {what}"))]),
    };
    let mut faults = Faults(Vec::new());
    let event = faults.event(envelope, now);
    match event {
        Some(event) if faults.0.is_empty() => Ok(event),
        _ => Err(faults.0),
    }
}

/// The faults of one event. Methods give the value, or nothing after noting why.
struct Faults(Vec<Objection>);

impl Faults {
    fn add<T>(&mut self, pointer: &'static str, detail: impl Into<String>) -> Option<T> {
        self.0.push(Objection::new(pointer, detail));
        None
    }

    fn noted<T>(&mut self, pointer: &'static str, outcome: Result<T, &'static str>) -> Option<T> {
        outcome.map_err(|wrong| self.add::<()>(pointer, wrong)).ok()
    }

    fn event(&mut self, envelope: &Envelope<'_>, now: Timestamp) -> Option<Event> {
        if let Some(version) = self.text("/specversion", &envelope.specversion, NAME_LEN_MAX)
            && version != "1.0"
        {
            self.add::<()>("/specversion", "must be \"1.0\"");
        }
        let id = self.text("/id", &envelope.id, NAME_LEN_MAX);
        let source = self.text("/source", &envelope.source, NAME_LEN_MAX);
        let kind = self.text("/type", &envelope.kind, NAME_LEN_MAX);
        let time = self.text("/time", &envelope.time, NAME_LEN_MAX);
        let time_ns = time.and_then(|text| self.noted("/time", time_ns(text)));
        if let Some(given) = self.optional_text("/datacontenttype", &envelope.datacontenttype, NAME_LEN_MAX)
            && !given.split(';').next().unwrap_or(given).trim().eq_ignore_ascii_case("application/json")
        {
            self.add::<()>("/datacontenttype", "must be absent or application/json");
        }
        if !matches!(envelope.data_base64, Field::Absent) {
            self.add::<()>("/data_base64", "binary data is not taken: give data as an object");
        }
        let data = match &envelope.data {
            Object::Is(data) => data,
            Object::Absent => return self.add("/data", "is required: an object"),
            Object::Not(what) => return self.add("/data", format!("must be an object, not {what}")),
        };
        let user = self.id::<UserId>("/data/user_id", &data.user_id);
        let kind = self.kind(kind?, data, now);
        let order = EventOrder { time_ns: time_ns?, source: source?.into(), id: id?.into() };
        Some(Event { order, user: user?, kind: kind? })
    }

    fn kind(&mut self, name: &str, data: &Data<'_>, now: Timestamp) -> Option<EventKind> {
        match name {
            "recording.available" => self.available(data, now).map(|it| EventKind::Available(Box::new(it))),
            "recording.deleted" => self.deleted(data),
            "device.deleted" => self.device(data).map(|device| EventKind::DeviceDeleted { device }),
            "user.deleted" => Some(EventKind::UserDeleted),
            _ => self.add("/type", "must be recording.available, recording.deleted, device.deleted or user.deleted"),
        }
    }

    fn available(&mut self, data: &Data<'_>, now: Timestamp) -> Option<Available> {
        let device = self.device(data);
        let recording = self.id("/data/recording_id", &data.recording_id);
        let (start, end) = self.recorded(data, now);
        let media_url = self.media_url(data);
        let growing = match &data.growing {
            Field::Absent => false,
            Field::Bool(growing) => *growing,
            other => {
                self.wrong_type::<()>("/data/growing", "true or false", other);
                false
            }
        };
        let expires_at = self.optional_instant("/data/expires_at", &data.expires_at);
        let size = self.optional_integer("/data/size", &data.size, 0..=i64::MAX);
        let etag = self.optional_text("/data/etag", &data.etag, ETAG_LEN_MAX);
        let key = self.optional_text("/data/credentials_key", &data.credentials_key, CREDENTIALS_KEY_LEN_MAX);
        Some(Available {
            device: device?,
            recording: recording?,
            start: start?,
            end,
            media_url: media_url?.into(),
            growing,
            expires_at,
            size: size.map(i64::cast_unsigned),
            etag: etag.map(Into::into),
            credentials_key: key.map(Into::into),
        })
    }

    /// Start and end of a recording: in order, at most a day apart, at most a day ahead.
    fn recorded(&mut self, data: &Data<'_>, now: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
        const AHEAD: &str = "must be at most 24 h from now";
        let start = self.instant("/data/start_timestamp", &data.start_timestamp);
        let end = self.optional_instant("/data/end_timestamp", &data.end_timestamp);
        let latest = now.plus_ms(DAY_MS);
        if start.is_some_and(|start| start > latest) {
            self.add::<()>("/data/start_timestamp", AHEAD);
        }
        if end.is_some_and(|end| end > latest) {
            self.add::<()>("/data/end_timestamp", AHEAD);
        }
        if let (Some(start), Some(end)) = (start, end) {
            if end < start {
                self.add::<()>("/data/end_timestamp", "must not be before start_timestamp");
            } else if end.since_ms(start) > DAY_MS {
                self.add::<()>("/data/end_timestamp", "must be at most 24 h (86400000 ms) after start_timestamp");
            }
        }
        (start, end)
    }

    /// Only that it is a URL; whether it may be read is the caller's check.
    fn media_url<'e>(&mut self, data: &'e Data<'_>) -> Option<&'e str> {
        const POINTER: &str = "/data/media_url";
        let text = self.text(POINTER, &data.media_url, MEDIA_URL_LEN_MAX)?;
        match url::Url::parse(text) {
            Ok(_) => Some(text),
            Err(_) => self.add(POINTER, "must be an absolute URL such as file:///recordings/1.mp4"),
        }
    }

    /// One recording, or all that lie in a range; exactly one of the two forms.
    fn deleted(&mut self, data: &Data<'_>) -> Option<EventKind> {
        let device = self.device(data);
        let one = !matches!(data.recording_id, Field::Absent);
        let range = !matches!((&data.start_timestamp, &data.end_timestamp), (Field::Absent, Field::Absent));
        match (one, range) {
            (true, false) => {
                let recording = self.id("/data/recording_id", &data.recording_id);
                Some(EventKind::RecordingDeleted { device: device?, recording: recording? })
            }
            (false, true) => {
                let start = self.instant("/data/start_timestamp", &data.start_timestamp);
                let end = self.instant("/data/end_timestamp", &data.end_timestamp);
                let span = Span::new(start?, end?)
                    .or_else(|| self.add("/data/end_timestamp", "must not be before start_timestamp"));
                Some(EventKind::RangeDeleted { device: device?, span: span? })
            }
            (true, true) => self
                .add("/data/recording_id", "give either recording_id, or start_timestamp and end_timestamp, not both"),
            (false, false) => {
                self.add("/data", "give recording_id, or start_timestamp and end_timestamp, of what is deleted")
            }
        }
    }

    fn device(&mut self, data: &Data<'_>) -> Option<DeviceId> {
        self.id("/data/device_id", &data.device_id)
    }

    fn text<'e>(&mut self, pointer: &'static str, field: &'e Field<'_>, len_max: usize) -> Option<&'e str> {
        match field {
            Field::Absent => self.add(pointer, "is required: a string"),
            Field::Text(text) if text.is_empty() => self.add(pointer, "must not be empty"),
            Field::Text(text) if text.len() > len_max => self.add(pointer, format!("must be at most {len_max} bytes")),
            Field::Text(text) if text.chars().any(char::is_control) => {
                self.add(pointer, "must hold no control characters")
            }
            Field::Text(text) => Some(text),
            other => self.wrong_type(pointer, "a string", other),
        }
    }

    fn optional_text<'e>(&mut self, pointer: &'static str, field: &'e Field<'_>, len_max: usize) -> Option<&'e str> {
        if matches!(field, Field::Absent) { None } else { self.text(pointer, field, len_max) }
    }

    fn id<T: FromStr<Err = InvalidId>>(&mut self, pointer: &'static str, field: &Field<'_>) -> Option<T> {
        match field {
            Field::Absent => self.add(pointer, "is required: a string"),
            Field::Text(text) => self.noted(pointer, text.parse().map_err(|InvalidId(wrong)| wrong)),
            other => self.wrong_type(pointer, "a string", other),
        }
    }

    fn integer(&mut self, pointer: &'static str, field: &Field<'_>, range: RangeInclusive<i64>) -> Option<i64> {
        match field {
            Field::Absent => self.add(pointer, "is required: an integer"),
            Field::Integer(value) if range.contains(value) => Some(*value),
            Field::Integer(_) => {
                self.add(pointer, format!("must be an integer from {} to {}", range.start(), range.end()))
            }
            other => self.wrong_type(pointer, "an integer", other),
        }
    }

    fn optional_integer(
        &mut self,
        pointer: &'static str,
        field: &Field<'_>,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        if matches!(field, Field::Absent) { None } else { self.integer(pointer, field, range) }
    }

    fn instant(&mut self, pointer: &'static str, field: &Field<'_>) -> Option<Timestamp> {
        self.integer(pointer, field, 0..=TIMESTAMP_MAX_MS).map(Timestamp::from_ms)
    }

    fn optional_instant(&mut self, pointer: &'static str, field: &Field<'_>) -> Option<Timestamp> {
        if matches!(field, Field::Absent) { None } else { self.instant(pointer, field) }
    }

    fn wrong_type<T>(&mut self, pointer: &'static str, wanted: &str, field: &Field<'_>) -> Option<T> {
        let given = match field {
            Field::Absent => "null",
            Field::Text(_) => "a string",
            Field::Integer(_) => "a number",
            Field::Bool(_) => "a boolean",
            Field::Other(what) => what,
        };
        self.add(pointer, format!("must be {wanted}, not {given}"))
    }
}

/// RFC 3339 to nanoseconds since the Unix epoch; digits after the ninth of a fraction are cut off.
///
/// The shape is checked here because the parser takes more than RFC 3339 (a space for the `T`, zone names, hours
/// alone); the calendar is left to it.
fn time_ns(text: &str) -> Result<i64, &'static str> {
    const SHAPE: &str = "must be an RFC 3339 date and time with offset, such as 2026-11-21T10:00:00.123Z";
    const RANGE: &str = "must lie in the years 1677 to 2262";
    let (head, tail) = text.split_at_checked(19).ok_or(SHAPE)?;
    let digits = tail.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    if tail.starts_with('.') && digits == 0 {
        return Err(SHAPE);
    }
    let (fraction, offset) = tail.split_at(if digits == 0 { 0 } else { digits + 1 });
    if !same_shape(head, "0000-00-00T00:00:00") || !(same_shape(offset, "Z") || is_offset(offset)) {
        return Err(SHAPE);
    }
    let kept = &fraction[..fraction.len().min(10)];
    let instant: jiff::Timestamp = format!("{head}{kept}{offset}").parse().map_err(|_| SHAPE)?;
    i64::try_from(instant.as_nanosecond()).map_err(|_| RANGE)
}

/// Whether digits stand where the pattern has `0`, and the pattern's own letters (of either case) elsewhere.
fn same_shape(text: &str, pattern: &str) -> bool {
    let same = |(byte, wanted): (u8, u8)| {
        if wanted == b'0' { byte.is_ascii_digit() } else { byte.eq_ignore_ascii_case(&wanted) }
    };
    text.len() == pattern.len() && text.bytes().zip(pattern.bytes()).all(same)
}

/// `+hh:mm` or `-hh:mm` within a day.
fn is_offset(text: &str) -> bool {
    (same_shape(text, "+00:00") || same_shape(text, "-00:00")) && text[1..3] <= *"23" && text[4..] <= *"59"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(time_ns(text).ok(), expected, "{text:?}");
    }

    #[test]
    fn times_are_rfc_3339_and_nothing_else() {
        const SECOND: i64 = 1_000_000_000;
        check("1970-01-01T00:00:00Z", Some(0));
        check("1970-01-01t00:00:01z", Some(SECOND));
        check("1970-01-01T01:00:01+01:00", Some(SECOND));
        check("1969-12-31T19:00:01-05:00", Some(SECOND));
        check("1970-01-01T00:00:00-00:00", Some(0));
        check("1970-01-01T00:00:00.000000001Z", Some(1));
        check("1970-01-01T00:00:00.0000000019999Z", Some(1));
        check("1970-01-01T00:00:00.5+00:00", Some(SECOND / 2));
        check("1969-12-31T23:59:59.5Z", Some(-SECOND / 2));
        check("2016-12-31T23:59:60Z", Some(1_483_228_799 * SECOND));
        check("2026-11-21T10:00:00Z", Some(1_795_255_200 * SECOND));
        check("1677-09-22T00:00:00Z", Some(-9_223_286_400 * SECOND));
        check("1677-09-20T00:00:00Z", None);
        check("2262-04-12T00:00:00Z", None);
        check("9999-12-31T23:59:59Z", None);
        for wrong in [
            "",
            "2026",
            "2026-11-21",
            "2026-11-21T10:00:00",
            "2026-11-21 10:00:00Z",
            "2026-11-21T10:00Z",
            "2026-11-21T10:00:00.Z",
            "2026-11-21T10:00:00,5Z",
            "2026-11-21T10:00:00+01",
            "2026-11-21T10:00:00+0100",
            "2026-11-21T10:00:00+24:00",
            "2026-11-21T10:00:00+01:60",
            "2026-13-21T10:00:00Z",
            "2026-02-29T10:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T10:60:00Z",
            "2026-11-21T10:00:00Z[UTC]",
            " 2026-11-21T10:00:00Z",
            "2026-11-21T10:00:00Z ",
            "+002026-11-21T10:00:00Z",
            "20261121T100000Z",
            "2026-11-21T10:00:00ZZ",
            "２026-11-21T10:00:00Z",
            "1757371980000",
            "2026-11-21T10:00:00.1é",
        ] {
            check(wrong, None);
        }
    }
}
