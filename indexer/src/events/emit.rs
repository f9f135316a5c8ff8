//! Events as structured CloudEvents JSON, for those who send them: backfill and tests. Never reads.

use serde::Serialize;
use stills_model::event::{Event, EventKind};
use stills_model::time::Timestamp;

/// The content type of [`to_structured`]; joined by newlines it is `application/x-ndjson`.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// One event as one line of JSON, without a newline. Reading it gives the same event back.
pub fn to_structured(event: &Event) -> String {
    let envelope = Envelope {
        specversion: "1.0",
        id: &event.order.id,
        source: &event.order.source,
        kind: kind_name(&event.kind),
        time: rfc_3339(event.order.time_ns),
        datacontenttype: "application/json",
        data: data(event),
    };
    // Strings, integers and flags under fixed names: nothing in it can fail to be written.
    serde_json::to_string(&envelope).unwrap_or_default()
}

/// In UTC, with as many digits as it takes. Every count of 64-bit nanoseconds is within the calendar's range.
fn rfc_3339(time_ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(time_ns.into()).unwrap_or_default().to_string()
}

#[derive(Serialize)]
struct Envelope<'a> {
    specversion: &'a str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    time: String,
    datacontenttype: &'a str,
    data: Data<'a>,
}

#[derive(Serialize, Default)]
struct Data<'a> {
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recording_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_timestamp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_timestamp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    growing: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials_key: Option<&'a str>,
}

fn kind_name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Available(_) => "recording.available",
        EventKind::RecordingDeleted { .. } | EventKind::RangeDeleted { .. } => "recording.deleted",
        EventKind::DeviceDeleted { .. } => "device.deleted",
        EventKind::UserDeleted => "user.deleted",
    }
}

fn data(event: &Event) -> Data<'_> {
    let whose = Data {
        user_id: event.user.to_string(),
        device_id: event.device().map(|device| device.to_string()),
        ..Data::default()
    };
    match &event.kind {
        EventKind::Available(available) => Data {
            recording_id: Some(available.recording.as_str()),
            start_timestamp: Some(available.start.as_ms()),
            end_timestamp: available.end.map(Timestamp::as_ms),
            media_url: Some(&available.media_url),
            growing: Some(available.growing),
            expires_at: available.expires_at.map(Timestamp::as_ms),
            size: available.size,
            etag: available.etag.as_deref(),
            credentials_key: available.credentials_key.as_deref(),
            ..whose
        },
        EventKind::RecordingDeleted { recording, .. } => Data { recording_id: Some(recording.as_str()), ..whose },
        EventKind::RangeDeleted { span, .. } => {
            Data { start_timestamp: Some(span.start.as_ms()), end_timestamp: Some(span.end.as_ms()), ..whose }
        }
        EventKind::DeviceDeleted { .. } | EventKind::UserDeleted => whose,
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;
    use stills_model::event::{Available, EventOrder};
    use stills_model::id::{DeviceId, RecordingId, UserId};
    use stills_model::time::{DAY_MS, Span, TIMESTAMP_MAX_MS};

    use super::*;
    use crate::events::cloudevents::parse;

    const NOW_MS: i64 = 1_795_255_200_000;

    fn text() -> impl Strategy<Value = Box<str>> {
        "\\PC{1,40}"
            .prop_filter("control characters are refused", |t| !t.chars().any(char::is_control))
            .prop_map(Into::into)
    }

    fn recording() -> impl Strategy<Value = RecordingId> {
        "[A-Za-z0-9._~-]{1,128}".prop_map(|id| id.parse().expect("id"))
    }

    fn device() -> impl Strategy<Value = DeviceId> {
        any::<[u8; 12]>().prop_map(DeviceId::from_bytes)
    }

    fn available() -> impl Strategy<Value = EventKind> {
        let when = (0..=NOW_MS, option::of(0..=DAY_MS), option::of(0..=TIMESTAMP_MAX_MS));
        let known = (option::of(0..=i64::MAX.cast_unsigned()), option::of(text()), option::of(text()));
        (device(), recording(), when, any::<bool>(), known, "[a-z0-9/._-]{1,60}").prop_map(
            |(device, recording, (start, len, expires), growing, (size, etag, credentials_key), path)| {
                let start = Timestamp::from_ms(start);
                EventKind::Available(Box::new(Available {
                    device,
                    recording,
                    start,
                    end: len.map(|len| start.plus_ms(len)),
                    media_url: format!("file:///{path}").into(),
                    growing,
                    expires_at: expires.map(Timestamp::from_ms),
                    size,
                    etag,
                    credentials_key,
                }))
            },
        )
    }

    fn kind() -> impl Strategy<Value = EventKind> {
        let instants = (0..=TIMESTAMP_MAX_MS, 0..=TIMESTAMP_MAX_MS);
        let span =
            instants.prop_map(|(a, b)| Span { start: Timestamp::from_ms(a.min(b)), end: Timestamp::from_ms(a.max(b)) });
        prop_oneof![
            available(),
            (device(), recording()).prop_map(|(device, recording)| EventKind::RecordingDeleted { device, recording }),
            (device(), span).prop_map(|(device, span)| EventKind::RangeDeleted { device, span }),
            device().prop_map(|device| EventKind::DeviceDeleted { device }),
            Just(EventKind::UserDeleted),
        ]
    }

    fn event() -> impl Strategy<Value = Event> {
        (any::<i64>(), text(), text(), any::<[u8; 12]>(), kind()).prop_map(|(time_ns, source, id, user, kind)| Event {
            order: EventOrder { time_ns, source, id },
            user: UserId::from_bytes(user),
            kind,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(event in event()) {
            let body = to_structured(&event);
            let now = Timestamp::from_ms(NOW_MS);
            let parsed = parse(Some(CONTENT_TYPE), [], body.as_bytes(), now, &|_| Ok(())).expect("media type");
            prop_assert_eq!(&parsed.rejected, &[], "{}", body);
            prop_assert_eq!(parsed.events, vec![(0, event)]);
        }
    }
}
