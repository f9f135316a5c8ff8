//! Tables of what is taken and what is refused, and where the fault is found.

use serde_json::{Value, json};
use stills_model::event::EventKind;

use super::*;
use crate::events::rejection::FAULTS_MAX;

const NOW: Timestamp = Timestamp::from_ms(1_795_255_200_000);
const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const LINES: &str = "application/x-ndjson";

/// The contract's example.
fn good() -> Value {
    json!({
        "specversion": "1.0", "id": "6f", "source": "/recorder/eu-1", "type": "recording.available",
        "time": "2026-11-21T10:00:00Z", "datacontenttype": "application/json",
        "data": {
            "user_id": "627d8ca8297a3d00019e2abb", "device_id": "627d911f7f58e4f344ca726c",
            "recording_id": "r-000123", "start_timestamp": 1_757_371_980_000_i64,
            "end_timestamp": 1_757_372_040_000_i64,
            "media_url": "file:///srv/recordings/cam1/1757371980000.mp4", "growing": false
        }
    })
}

/// The example with members replaced (or taken away by `null`), each named by its JSON pointer.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut event = good();
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').expect("pointer");
        let parent = event.pointer_mut(parent).and_then(Value::as_object_mut).expect("object");
        if value.is_null() {
            parent.remove(name);
        } else {
            parent.insert(name.to_owned(), value.clone());
        }
    }
    event
}

fn read(content_type: &str, body: &str) -> Parsed {
    parse(Some(content_type), [], body.as_bytes(), NOW, &|_| Ok(())).expect("media type")
}

/// Where faults are found, as `index pointer`.
fn places(parsed: &Parsed) -> Vec<String> {
    parsed.rejected.iter().map(|r| format!("{} {}", r.index, r.pointer)).collect()
}

fn check(changes: &[(&str, Value)], pointers: &[&str]) {
    let parsed = read(ONE, &with(changes).to_string());
    let found: Vec<_> = parsed.rejected.iter().map(|r| r.pointer).collect();
    assert_eq!(found, pointers, "{changes:?}: {:?}", parsed.rejected);
    assert_eq!(parsed.events.len(), usize::from(pointers.is_empty()), "{changes:?}");
    assert!(parsed.rejected.iter().all(|r| !r.detail.is_empty()), "{changes:?}");
}

#[test]
fn the_example_is_read() {
    let parsed = read(ONE, &good().to_string());
    let available = |event: &Event| match &event.kind {
        EventKind::Available(available) => Some(available.clone()),
        _ => None,
    };
    let (index, event) = parsed.events.first().expect("an event");
    let available = available(event).expect("available");
    assert_eq!((*index, parsed.events.len()), (0, 1));
    assert_eq!(event.order.time_ns, 1_795_255_200_000_000_000);
    assert_eq!((&*event.order.source, &*event.order.id), ("/recorder/eu-1", "6f"));
    assert_eq!(event.user.to_string(), "627d8ca8297a3d00019e2abb");
    assert_eq!(available.device.to_string(), "627d911f7f58e4f344ca726c");
    assert_eq!(available.recording.as_str(), "r-000123");
    assert_eq!(available.span().expect("span").len_ms(), 60_000);
    assert_eq!(&*available.media_url, "file:///srv/recordings/cam1/1757371980000.mp4");
    assert!(!available.growing);
}

#[test]
fn attributes() {
    for name in ["/specversion", "/id", "/source", "/type", "/time"] {
        check(&[(name, Value::Null)], &[name]);
        check(&[(name, json!(""))], &[name]);
        check(&[(name, json!(1))], &[name]);
        check(&[(name, json!({"a": [1]}))], &[name]);
    }
    check(&[("/specversion", json!("0.3"))], &["/specversion"]);
    check(&[("/id", json!("x".repeat(256)))], &[]);
    check(&[("/id", json!("x".repeat(257)))], &["/id"]);
    check(&[("/source", json!("x".repeat(257)))], &["/source"]);
    check(&[("/source", json!("a\u{0}b"))], &["/source"]);
    check(&[("/source", json!("a\nb"))], &["/source"]);
    check(&[("/type", json!("recording.started"))], &["/type"]);
    check(&[("/type", json!("Recording.Available"))], &["/type"]);
    check(&[("/time", json!("yesterday"))], &["/time"]);
    check(&[("/time", json!(1_757_371_980))], &["/time"]);
    check(&[("/datacontenttype", Value::Null)], &[]);
    check(&[("/datacontenttype", json!("Application/JSON; charset=utf-8"))], &[]);
    check(&[("/datacontenttype", json!("text/xml"))], &["/datacontenttype"]);
    check(&[("/data_base64", json!("AA=="))], &["/data_base64"]);
    check(&[("/traceparent", json!("00-0af7")), ("/anything", json!([{"deep": 1}]))], &[]);
    check(&[("/data", Value::Null)], &["/data"]);
    check(&[("/data", json!("text"))], &["/data"]);
    check(&[("/data", json!([]))], &["/data"]);
}

#[test]
fn data_of_a_recording() {
    for name in ["/data/user_id", "/data/device_id", "/data/recording_id", "/data/start_timestamp", "/data/media_url"] {
        check(&[(name, Value::Null)], &[name]);
        check(&[(name, json!(true))], &[name]);
        check(&[(name, json!([1, {"a": 2}]))], &[name]);
    }
    check(&[("/data/user_id", json!("627D8CA8297A3D00019E2ABB"))], &[]);
    check(&[("/data/user_id", json!("627d8ca8297a3d00019e2ab"))], &["/data/user_id"]);
    check(&[("/data/device_id", json!("627d911f7f58e4f344ca726g"))], &["/data/device_id"]);
    check(&[("/data/recording_id", json!("a/b"))], &["/data/recording_id"]);
    check(&[("/data/recording_id", json!(""))], &["/data/recording_id"]);
    check(&[("/data/media_url", json!("/srv/1.mp4"))], &["/data/media_url"]);
    check(&[("/data/media_url", json!(""))], &["/data/media_url"]);
    check(&[("/data/media_url", json!(format!("file:///{}", "x".repeat(4088))))], &[]);
    check(&[("/data/media_url", json!(format!("file:///{}", "x".repeat(4089))))], &["/data/media_url"]);
    check(&[("/data/growing", Value::Null)], &[]);
    check(&[("/data/growing", json!(true))], &[]);
    check(&[("/data/growing", json!("true"))], &["/data/growing"]);
    check(&[("/data/growing", json!(0))], &["/data/growing"]);
    check(&[("/data/expires_at", json!(1)), ("/data/size", json!(0)), ("/data/etag", json!("\"a\""))], &[]);
    check(&[("/data/expires_at", json!(-1))], &["/data/expires_at"]);
    check(&[("/data/expires_at", json!("2026-11-21T10:00:00Z"))], &["/data/expires_at"]);
    check(&[("/data/size", json!(-1))], &["/data/size"]);
    check(&[("/data/size", json!(u64::MAX))], &["/data/size"]);
    check(&[("/data/etag", json!("x".repeat(257)))], &["/data/etag"]);
    check(&[("/data/credentials_key", json!("my_s3"))], &[]);
    check(&[("/data/credentials_key", json!(""))], &["/data/credentials_key"]);
    check(&[("/data/unknown", json!({"a": [1, 2]}))], &[]);
}

#[test]
fn instants_of_a_recording() {
    const START: &str = "/data/start_timestamp";
    const END: &str = "/data/end_timestamp";
    const DAY: i64 = 86_400_000;
    let now = NOW.as_ms();
    check(&[(END, Value::Null)], &[]);
    check(&[(START, json!(0)), (END, json!(0))], &[]);
    check(&[(START, json!(-1)), (END, Value::Null)], &[START]);
    check(&[(START, json!(1.5)), (END, Value::Null)], &[START]);
    check(&[(START, json!(1.0)), (END, Value::Null)], &[START]);
    check(&[(START, json!("1757371980000"))], &[START]);
    check(&[(START, json!(u64::MAX))], &[START]);
    check(&[(END, json!(1_757_371_979_999_i64))], &[END]);
    check(&[(START, json!(0)), (END, json!(DAY))], &[]);
    check(&[(START, json!(0)), (END, json!(DAY + 1))], &[END]);
    check(&[(START, json!(now + DAY)), (END, json!(now + DAY))], &[]);
    check(&[(START, json!(now + DAY)), (END, json!(now + DAY + 1))], &[END]);
    check(&[(START, json!(now + DAY + 1)), (END, Value::Null)], &[START]);
    check(&[(START, json!(i64::MAX)), (END, Value::Null)], &[START]);
    check(&[(START, json!(i64::MIN)), (END, json!(i64::MAX))], &[START, END]);
}

fn check_deletion(kind: &str, data: &Value, pointers: &[&str]) {
    check(&[("/type", json!(kind)), ("/data", data.clone())], pointers);
}

#[test]
fn deletions() {
    let (user, device) = ("627d8ca8297a3d00019e2abb", "627d911f7f58e4f344ca726c");
    let deleted = |more: Value| {
        let mut data = json!({"user_id": user, "device_id": device});
        data.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        data
    };
    const KIND: &str = "recording.deleted";
    const START: &str = "/data/start_timestamp";
    const END: &str = "/data/end_timestamp";
    check_deletion(KIND, &deleted(json!({"recording_id": "r"})), &[]);
    check_deletion(KIND, &deleted(json!({"recording_id": "r", "start_timestamp": null})), &[]);
    check_deletion(KIND, &deleted(json!({"recording_id": ""})), &["/data/recording_id"]);
    check_deletion(KIND, &deleted(json!({"start_timestamp": 0, "end_timestamp": 0})), &[]);
    check_deletion(KIND, &deleted(json!({"start_timestamp": 0, "end_timestamp": 253_402_300_799_999_i64})), &[]);
    check_deletion(KIND, &deleted(json!({"start_timestamp": 0, "end_timestamp": i64::MAX})), &[END]);
    check_deletion(KIND, &deleted(json!({"start_timestamp": 2, "end_timestamp": 1})), &[END]);
    check_deletion(KIND, &deleted(json!({"start_timestamp": 2})), &[END]);
    check_deletion(KIND, &deleted(json!({"end_timestamp": 2})), &[START]);
    check_deletion(KIND, &deleted(json!({"start_timestamp": "0", "end_timestamp": 0.5})), &[START, END]);
    check_deletion(KIND, &deleted(json!({})), &["/data"]);
    let both = json!({"recording_id": "r", "start_timestamp": 0, "end_timestamp": 1});
    check_deletion(KIND, &deleted(both), &["/data/recording_id"]);
    check_deletion(KIND, &json!({"recording_id": "r"}), &["/data/user_id", "/data/device_id"]);
    check_deletion("device.deleted", &json!({"user_id": user, "device_id": device}), &[]);
    check_deletion("device.deleted", &json!({"user_id": user}), &["/data/device_id"]);
    check_deletion("user.deleted", &json!({"user_id": user}), &[]);
    check_deletion("user.deleted", &json!({}), &["/data/user_id"]);
}

#[test]
fn all_faults_of_all_events_are_listed() {
    let first = with(&[("/specversion", json!("2")), ("/time", json!("x")), ("/data/media_url", json!(1))]);
    let third = with(&[("/id", Value::Null), ("/data/user_id", json!("x"))]);
    let batch = json!([first, good(), third, 7, null, [good()]]).to_string();
    let parsed = read(BATCH, &batch);
    let expected = ["0 /specversion", "0 /time", "0 /data/media_url", "2 /id", "2 /data/user_id", "3 ", "4 ", "5 "];
    assert_eq!(places(&parsed), expected);
    assert_eq!(parsed.events.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
    let object = json!({}).to_string();
    let missing = ["0 /specversion", "0 /id", "0 /source", "0 /type", "0 /time", "0 /data"];
    assert_eq!(places(&read(ONE, &object)), missing);
}

#[test]
fn the_caller_has_the_last_word() {
    let check = |event: &Event| match &*event.order.id {
        "6f" => Err(Objection::new("/data/user_id", "not yours")),
        _ => Ok(()),
    };
    let body = json!([good(), with(&[("/id", json!("70"))])]).to_string();
    let parsed = parse(Some(BATCH), [], body.as_bytes(), NOW, &check).expect("media type");
    assert_eq!(places(&parsed), ["0 /data/user_id"]);
    assert_eq!(parsed.events.len(), 1);
}

fn check_malformed(content_type: &str, body: &str, expected: &str) {
    let parsed = read(content_type, body);
    assert_eq!(parsed.events, [], "{body:?}");
    assert_eq!(parsed.rejected.len(), 1, "{body:?}: {parsed:?}");
    let rejection = &parsed.rejected[0];
    assert_eq!((rejection.index, rejection.pointer), (0, ""), "{body:?}");
    assert!(rejection.detail.contains(expected), "{body:?}: {}", rejection.detail);
}

#[test]
fn malformed_bodies_name_line_and_column() {
    check_malformed(ONE, "", "line 1, column 0");
    check_malformed(ONE, "{\n \"id\": }", "line 2, column 8");
    check_malformed(ONE, "{} {}", "trailing characters");
    check_malformed(ONE, "[]", "application/cloudevents-batch+json");
    check_malformed(ONE, "{\"id\": \"\u{1}\"}", "line 1");
    check_malformed(BATCH, "{}", "an array of events");
    check_malformed(BATCH, "[", "line 1");
    check_malformed(BATCH, &format!("[{},\n{},]", good(), good()), "line 2");
    check_malformed(BATCH, &format!("[{}] x", good()), "trailing characters");
    check_malformed(ONE, &"[".repeat(100_000), "malformed JSON");
    check_malformed(ONE, &"{\"data\":".repeat(100_000), "malformed JSON");
    check_malformed(ONE, &format!("{{\"x\":{}", "[".repeat(1_000_000)), "malformed JSON");
    let not_text = parse(Some(ONE), [], b"{\"id\":\"\xff\"}", NOW, &|_| Ok(())).expect("media type");
    assert_eq!(places(&not_text), ["0 "]);
}

#[test]
fn batches_and_lines() {
    assert_eq!(read(BATCH, "[]"), Parsed::default());
    assert_eq!(read(BATCH, " [ ] \n"), Parsed::default());
    assert_eq!(read(LINES, ""), Parsed::default());
    assert_eq!(read(LINES, "\n\r\n  \n"), Parsed::default());
    let line = good().to_string();
    assert_eq!(read(LINES, &format!("{line}\n")).events.len(), 1);
    assert_eq!(read(LINES, &format!("\u{feff}{line}\r\n\n{line}")).events.len(), 2);
    let parsed = read(LINES, &format!("{line}\n\n{{\"id\":\n{line}\n[{line}]"));
    assert_eq!(parsed.events.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(places(&parsed), ["1 ", "3 "]);
    assert!(parsed.rejected[0].detail.starts_with("malformed JSON at line 3, column 6"), "{parsed:?}");
}

#[test]
fn a_request_may_be_as_long_as_the_limit() {
    let body = vec![good().to_string(); EVENTS_MAX].join("\n");
    let parsed = read(LINES, &body);
    assert_eq!((parsed.events.len(), parsed.rejected.len()), (EVENTS_MAX, 0));
    assert!(parsed.events.iter().enumerate().all(|(place, (index, _))| place == *index));
}

#[test]
fn numbers_of_events_and_of_faults_are_bounded() {
    let bad = |n: usize| format!("[{}]", vec!["{}"; n].join(","));
    let parsed = read(BATCH, &bad(EVENTS_MAX));
    let last = parsed.rejected.last().expect("rejected");
    assert_eq!(last.index, EVENTS_MAX - 1);
    assert!(parsed.rejected.len() < FAULTS_MAX + 6 + EVENTS_MAX);
    let refused = |content_type, body: &str| parse(Some(content_type), [], body.as_bytes(), NOW, &|_| Ok(()));
    assert_eq!(refused(BATCH, &bad(EVENTS_MAX + 1)), Err(Refused::TooManyEvents));
    assert_eq!(refused(LINES, &"{}\n".repeat(EVENTS_MAX + 1)), Err(Refused::TooManyEvents));
    assert_eq!(refused(LINES, &"\n".repeat(EVENTS_MAX + 9)), Ok(Parsed::default()));
}

#[test]
fn the_last_of_repeated_members_counts_and_escapes_are_read() {
    let text = good().to_string();
    let repeated = text.replacen('{', r#"{"id":17,"data":{"user_id":5},"#, 1);
    assert_eq!(read(ONE, &repeated), read(ONE, &text));
    let escaped = text.replace("\"device_id\"", r#""\u0064evice_id""#).replace("r-000123", r"r\u002d000123");
    assert_eq!(read(ONE, &escaped), read(ONE, &text));
}

type Header = (&'static str, &'static [u8]);

const HEADERS: [Header; 6] = [
    ("host", b"x"),
    ("CE-SpecVersion", b"1.0"),
    ("ce-id", b"6f"),
    ("ce-source", b"/recorder/eu%2D1"),
    ("ce-type", b"recording.available"),
    ("ce-time", b"\"2026-11-21T10:00:00Z\""),
];

fn check_binary(headers: &[Header], body: &str, expected: &[&str]) {
    let headers = headers.iter().copied();
    let parsed = parse(Some("application/json"), headers, body.as_bytes(), NOW, &|_| Ok(())).expect("media type");
    assert_eq!(places(&parsed), expected, "{body:?}: {:?}", parsed.rejected);
}

#[test]
fn binary_mode() {
    let data = good()["data"].to_string();
    let parsed = parse(Some("application/json"), HEADERS, data.as_bytes(), NOW, &|_| Ok(())).expect("media type");
    assert_eq!(parsed, read(ONE, &good().to_string()));
    check_binary(&HEADERS[2..], &data, &["0 /specversion"]);
    check_binary(&HEADERS[..5], &data, &["0 /time"]);
    check_binary(&HEADERS, "", &["0 /data"]);
    check_binary(&HEADERS, "null", &["0 /data"]);
    check_binary(&HEADERS, "[1]", &["0 /data"]);
    check_binary(&HEADERS, "{\"user_id\":", &["0 /data"]);
    check_binary(&HEADERS[3..], "{", &["0 /specversion", "0 /id", "0 /data"]);
    let twice: Vec<Header> = HEADERS.iter().copied().chain([("ce-id", &b"70"[..])]).collect();
    check_binary(&twice, &data, &["0 /id"]);
    let bytes: Vec<Header> = HEADERS[..5].iter().copied().chain([("ce-time", &b"%ff"[..])]).collect();
    check_binary(&bytes, &data, &["0 /time"]);
}

fn check_media_type(content_type: Option<&str>, headers: &[Header], accepted: bool) {
    let parsed = parse(content_type, headers.iter().copied(), b"[]", NOW, &|_| Ok(()));
    assert_eq!(parsed.is_ok(), accepted, "{content_type:?}: {parsed:?}");
    assert!(accepted || parsed == Err(Refused::UnsupportedMediaType));
}

#[test]
fn media_types() {
    for accepted in [
        ONE,
        BATCH,
        LINES,
        "Application/CloudEvents+JSON",
        "application/x-ndjson;charset=UTF-8",
        "application/cloudevents-batch+json ; Charset=\"utf-8\"; profile=x",
        "application/x-ndjson;",
    ] {
        check_media_type(Some(accepted), &[], true);
    }
    check_media_type(Some("application/json; charset=utf-8"), &HEADERS, true);
    for refused in [
        "",
        "text/plain",
        "application/json",
        "application/cloudevents",
        "application/cloudevents+xml",
        "application/cloudevents+json; charset=utf-16",
        "application/cloudevents+jsonx",
        "*/*",
        ";",
        "é",
    ] {
        check_media_type(Some(refused), &[("content-type", b"x")], false);
    }
    check_media_type(None, &HEADERS, false);
    assert!(Refused::UnsupportedMediaType.to_string().contains("application/cloudevents-batch+json"));
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(body: Vec<u8>, shape in 0_usize..4) {
        let content_type = [ONE, BATCH, LINES, "application/json"][shape];
        let parsed = parse(Some(content_type), HEADERS, &body, NOW, &|_| Ok(())).expect("media type");
        proptest::prop_assert!(parsed.events.is_empty());
    }

    #[test]
    fn a_damaged_line_spoils_no_other(at in 0_usize..400, byte: u8) {
        let line = good().to_string();
        let mut damaged = line.clone().into_bytes();
        let at = at % damaged.len();
        damaged[at] = if byte == b'\n' { b' ' } else { byte };
        let body = [line.as_bytes(), b"\n", &damaged, b"\n", line.as_bytes()].concat();
        let parsed = parse(Some(LINES), [], &body, NOW, &|_| Ok(())).expect("media type");
        let taken: Vec<_> = parsed.events.iter().map(|(index, _)| *index).collect();
        proptest::prop_assert!(taken == [0, 2] || taken == [0, 1, 2], "{:?}", taken);
        proptest::prop_assert_eq!(parsed.rejected.is_empty(), taken.len() == 3);
    }
}
