//! Requests of CloudEvents 1.0, in the four shapes that recorders send:
//!
//! | content type | body |
//! |---|---|
//! | `application/cloudevents+json` | one event (structured mode) |
//! | `application/cloudevents-batch+json` | an array of events, which may be empty |
//! | `application/x-ndjson` | one structured event a line; blank lines are skipped (ours) |
//! | `application/json` with `ce-*` headers | the data of one event (binary mode) |
//!
//! A body that is not JSON is one rejection naming line and column; of lines, only the bad one is rejected. The
//! body's size is bounded by who read it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use stills_model::event::Event;
use stills_model::time::Timestamp;

use super::envelope::{Data, Envelope, Field, Object, skip_seq};
use super::rejection::EVENTS_MAX;
use super::{Check, Objection, Parsed, Refused, headers, rules};

/// Reads all events of a request. `headers` are looked at in binary mode only; their names in any letter case.
///
/// # Errors
/// When the request as a whole is refused: its media type, or too many events. Everything else that is wrong is
/// in [`Parsed::rejected`].
pub fn parse<'h>(
    content_type: Option<&str>,
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    body: &[u8],
    now: Timestamp,
    check: &Check<'_>,
) -> Result<Parsed, Refused> {
    let rules = Rules { now, check };
    // RFC 8259, 8.1: a byte order mark may be ignored.
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    match Shape::of(content_type)? {
        Shape::Structured => Ok(structured(body, &rules)),
        Shape::Batch => batch(body, &rules),
        Shape::Lines => lines(body, &rules),
        Shape::Data => {
            let envelope = headers::attributes(headers).ok_or(Refused::UnsupportedMediaType)?;
            Ok(binary(envelope, body, &rules))
        }
    }
}

/// How the body is cut into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Structured,
    Batch,
    Lines,
    Data,
}

impl Shape {
    /// By media type, in any letter case; the only parameter that matters is `charset`, which must be UTF-8.
    fn of(content_type: Option<&str>) -> Result<Self, Refused> {
        let mut parts = content_type.unwrap_or_default().split(';').map(str::trim);
        let shape = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "application/cloudevents+json" => Self::Structured,
            "application/cloudevents-batch+json" => Self::Batch,
            "application/x-ndjson" => Self::Lines,
            "application/json" => Self::Data,
            _ => return Err(Refused::UnsupportedMediaType),
        };
        let foreign = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            name.eq_ignore_ascii_case("charset") && !value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        };
        if parts.any(foreign) { Err(Refused::UnsupportedMediaType) } else { Ok(shape) }
    }
}

/// What every event of one request is held against.
struct Rules<'a> {
    now: Timestamp,
    check: &'a Check<'a>,
}

impl Rules<'_> {
    fn apply(&self, envelope: &Object<Envelope<'_>>) -> Result<Event, Vec<Objection>> {
        let event = rules::event(envelope, self.now)?;
        (self.check)(&event).map_err(|objection| vec![objection])?;
        Ok(event)
    }
}

fn structured(body: &[u8], rules: &Rules<'_>) -> Parsed {
    match serde_json::from_slice(body) {
        Ok(Object::Not(what)) if what == "an array" => {
            Parsed::malformed("must be one object; an array of events is application/cloudevents-batch+json".into())
        }
        Ok(envelope) => {
            let mut parsed = Parsed::default();
            parsed.push(0, rules.apply(&envelope));
            parsed
        }
        Err(error) => Parsed::malformed(position(&error, error.line())),
    }
}

fn binary(envelope: Envelope<'_>, body: &[u8], rules: &Rules<'_>) -> Parsed {
    let data = if body.trim_ascii().is_empty() {
        Object::Absent
    } else {
        serde_json::from_slice::<Object<Data<'_>>>(body)
            .unwrap_or_else(|error| Object::Not(Cow::Owned(position(&error, error.line()))))
    };
    let mut parsed = Parsed::default();
    // The body's content type is the data's; in binary mode no other member carries data.
    let envelope = Envelope { data, datacontenttype: Field::Absent, data_base64: Field::Absent, ..envelope };
    parsed.push(0, rules.apply(&Object::Is(envelope)));
    parsed
}

fn lines(body: &[u8], rules: &Rules<'_>) -> Result<Parsed, Refused> {
    let mut parsed = Parsed::default();
    let lines = body.split(|byte| *byte == b'\n').enumerate();
    for (index, (line, text)) in lines.filter(|(_, text)| !text.trim_ascii().is_empty()).enumerate() {
        if index == EVENTS_MAX {
            return Err(Refused::TooManyEvents);
        }
        let outcome = match serde_json::from_slice(text) {
            Ok(envelope) => rules.apply(&envelope),
            Err(error) => Err(vec![Objection::new("", position(&error, line + 1))]),
        };
        parsed.push(index, outcome);
    }
    Ok(parsed)
}

fn batch(body: &[u8], rules: &Rules<'_>) -> Result<Parsed, Refused> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let batch = Batch { rules, parsed: Parsed::default() };
    match batch.deserialize(&mut deserializer).and_then(|outcome| deserializer.end().map(|()| outcome)) {
        Ok(outcome) => outcome,
        Err(error) => Ok(Parsed::malformed(position(&error, error.line()))),
    }
}

/// Checks each event of an array as it is read, so that only good events are held.
struct Batch<'a> {
    rules: &'a Rules<'a>,
    parsed: Parsed,
}

impl<'de> DeserializeSeed<'de> for Batch<'_> {
    type Value = Result<Parsed, Refused>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Batch<'_> {
    type Value = Result<Parsed, Refused>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut index = 0;
        while let Some(envelope) = seq.next_element()? {
            if index == EVENTS_MAX {
                skip_seq(seq)?;
                return Ok(Err(Refused::TooManyEvents));
            }
            self.parsed.push(index, self.rules.apply(&envelope));
            index += 1;
        }
        Ok(Ok(self.parsed))
    }
}

/// What is wrong with the JSON and where, in the lines of the body.
fn position(error: &serde_json::Error, line: usize) -> String {
    let text = error.to_string();
    let what = text.rfind(" at line ").map_or(&*text, |end| &text[..end]);
    format!("malformed JSON at line {line}, column {}: {what}", error.column())
}

#[cfg(test)]
mod tests;
