//! Notifications of object stores as recording events: `{"Records": […]}` as S3 and what speaks like it send them.
//!
//! | event name | recording event |
//! |---|---|
//! | `ObjectCreated:*` | `recording.available`, complete |
//! | `ObjectRemoved:*`, `LifecycleExpiration:*` | `recording.deleted` |
//! | any other | none: the record is skipped |
//!
//! Names come with and without `s3:` in front. `media.layout` tells from the key whose recording it is; only
//! layouts with an `url_prefix` are asked. The recording's id is derived from the key, as backfill derives it.
//! The event's `time` is `eventTime`, its `source` the bucket; its `id` begins with the sequencer, so that of two
//! records of one millisecond the later one counts, and is the same when a record is delivered twice.
//!
//! A store can correct nothing, and sends again and again what was refused: who answers it should take what is
//! good and list the rest.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use stills_model::event::Event;
use stills_model::time::Timestamp;

use super::envelope::{Data, Envelope, Field, Object};
use super::rejection::EVENTS_MAX;
use super::{Check, Objection, Parsed, Refused, rules};
use crate::layout::{Layouts, Named, spelling};

/// The longest sequencer that goes into an id; AWS writes 16 to 18 digits.
const SEQUENCER_LEN_MAX: usize = 64;

/// Reads a notification; nothing when the body is none, so that others may try it.
///
/// # Errors
/// Too many records. What is wrong with single ones is in [`Parsed::rejected`], with pointers into the record.
pub fn parse(
    content_type: Option<&str>,
    body: &[u8],
    layouts: &Layouts,
    now: Timestamp,
    check: &Check<'_>,
) -> Option<Result<Parsed, Refused>> {
    let media_type = content_type?.split(';').next()?.trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return None;
    }
    match serde_json::from_slice(body).ok()? {
        Notification { records: Some(records), .. } if records.len() > EVENTS_MAX => Some(Err(Refused::TooManyEvents)),
        Notification { records: Some(records), .. } => {
            let mut parsed = Parsed::default();
            for (index, record) in records.into_iter().enumerate() {
                if let Some(outcome) = event(record, layouts, now, check).transpose() {
                    parsed.push(index, outcome.map_err(|objections| objections.into_iter().map(in_record).collect()));
                }
            }
            Some(Ok(parsed))
        }
        // What S3 sends once when notifications are set up.
        Notification { event: Some(test), .. } if test == "s3:TestEvent" => Some(Ok(Parsed::default())),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Notification {
    #[serde(rename = "Records")]
    records: Option<Vec<Value>>,
    #[serde(rename = "Event")]
    event: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_name: String,
    event_time: String,
    s3: Subject,
}

#[derive(Deserialize)]
struct Subject {
    bucket: Bucket,
    object: StoredObject,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredObject {
    key: String,
    size: Option<i64>,
    e_tag: Option<String>,
    sequencer: Option<String>,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happened {
    Created,
    Removed,
}

impl Happened {
    fn of(event_name: &str) -> Option<Self> {
        let name = event_name.strip_prefix("s3:").unwrap_or(event_name);
        match name.split(':').next()? {
            "ObjectCreated" => Some(Self::Created),
            "ObjectRemoved" | "LifecycleExpiration" => Some(Self::Removed),
            _ => None,
        }
    }
}

/// One record; nothing when it says nothing of footage coming or going.
fn event(record: Value, layouts: &Layouts, now: Timestamp, check: &Check<'_>) -> Result<Option<Event>, Vec<Objection>> {
    let one = |pointer, detail: String| vec![Objection::new(pointer, detail)];
    let named = record.get("eventName").and_then(Value::as_str).map(Happened::of);
    if named == Some(None) {
        return Ok(None);
    }
    let record: Record =
        serde_json::from_value(record).map_err(|error| one("", format!("not an S3 record: {error}")))?;
    let Some(happened) = Happened::of(&record.event_name) else { return Ok(None) };
    // Keys are written as in a query: a space is a plus.
    let key = record.s3.object.key.replace('+', " ");
    let key = percent_decode_str(&key).decode_utf8().map_err(|_| one("/data/media_url", "must be UTF-8".to_owned()))?;
    let url = spelling::s3_url(&record.s3.bucket.name, &key);
    let written = record.event_time.parse::<jiff::Timestamp>().ok();
    let written = written.map(|time| Timestamp::from_ms(time.as_millisecond()));
    let named = layouts.read(&url, None, written);
    let named = named.map_err(|wrong| one("/data/media_url", wrong.to_string()))?;
    let event = rules::event(&Object::Is(envelope(&record, happened, &named, &url)), now)?;
    check(&event).map_err(|objection| vec![objection])?;
    Ok(Some(event))
}

/// The same as a recorder would write it, so that the same rules hold.
fn envelope<'a>(record: &'a Record, happened: Happened, named: &Named, url: &'a str) -> Envelope<'a> {
    let text = |text: String| Field::Text(Cow::Owned(text));
    let whose = Data {
        user_id: text(named.user.to_string()),
        device_id: text(named.device.to_string()),
        recording_id: text(named.recording.to_string()),
        ..Data::default()
    };
    let (kind, data) = match happened {
        Happened::Removed => ("recording.deleted", whose),
        Happened::Created => {
            let object = &record.s3.object;
            let data = Data {
                start_timestamp: Field::Integer(named.start.as_ms()),
                end_timestamp: named.end.map_or(Field::Absent, |end| Field::Integer(end.as_ms())),
                media_url: Field::Text(Cow::Borrowed(url)),
                size: object.size.map_or(Field::Absent, Field::Integer),
                etag: entity_tag(object.e_tag.as_deref()),
                ..whose
            };
            ("recording.available", data)
        }
    };
    Envelope {
        specversion: Field::Text(Cow::Borrowed("1.0")),
        id: text(id(record)),
        source: text(format!("s3://{}", record.s3.bucket.name)),
        kind: Field::Text(Cow::Borrowed(kind)),
        time: Field::Text(Cow::Borrowed(&record.event_time)),
        data: Object::Is(data),
        ..Envelope::default()
    }
}

/// As HTTP writes it, in quotes; notifications leave them out.
fn entity_tag(tag: Option<&str>) -> Field<'_> {
    match tag.map(|tag| tag.trim_matches('"')) {
        None | Some("") => Field::Absent,
        Some(tag) => Field::Text(Cow::Owned(format!("\"{tag}\""))),
    }
}

/// Sequencer, then a digest of what makes the record this one. Sequencers of one key are compared as text.
fn id(record: &Record) -> String {
    let object = &record.s3.object;
    let sequencer = object.sequencer.as_deref().unwrap_or_default();
    let is_plain = sequencer.len() <= SEQUENCER_LEN_MAX && sequencer.bytes().all(|b| b.is_ascii_alphanumeric());
    let tag = object.e_tag.as_deref().unwrap_or_default();
    let size = object.size.unwrap_or_default().to_string();
    let parts = [&record.s3.bucket.name, &object.key, &record.event_name, &record.event_time, sequencer, tag, &size];
    let digest = Sha256::digest(parts.join("\0").as_bytes());
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hex}", if is_plain { sequencer } else { "" })
}

/// Pointers of the structured form become those of the record that the sender knows.
fn in_record(objection: Objection) -> Objection {
    let pointer = match objection.pointer {
        "/time" => "/eventTime",
        "/data/size" => "/s3/object/size",
        "/data/etag" => "/s3/object/eTag",
        "/source" => "/s3/bucket/name",
        pointer if pointer.starts_with("/data") => "/s3/object/key",
        _ => "",
    };
    Objection { pointer, ..objection }
}

#[cfg(test)]
mod tests;
