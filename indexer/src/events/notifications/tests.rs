//! Notifications as the stores send them, and the events they become.

use serde_json::json;
use stills_model::event::EventKind;

use super::*;
use crate::config::{Config, Program};

const USER: &str = "627d8ca8297a3d00019e2abb";
const DEVICE: &str = "627d911f7f58e4f344ca726c";
const NOW_MS: i64 = 1_795_255_200_000;

fn layouts() -> Layouts {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("stills.toml");
    let text = format!(
        "[media.layout.yard]\nrecorder = \"mediamtx\"\ntime_zone = \"Europe/Berlin\"\nuser_id = \"{USER}\"\n\
         url_prefix = \"s3://footage/cams/\"\ndevices = {{ \"front door\" = \"{DEVICE}\" }}\n"
    );
    std::fs::write(&path, text).expect("file");
    Config::load(Program::Indexer, Some(&path), []).expect("config").media.layouts
}

const KEY: &str = "cams/front+door/2026-10-25_02-30-00-000000.mp4";

fn record(name: &str, key: &str) -> Value {
    json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-central-1", "eventName": name,
        "eventTime": "2026-10-25T01:45:00.123Z", "userIdentity": {"principalId": "x"},
        "s3": {"s3SchemaVersion": "1.0", "configurationId": "c", "bucket": {"name": "footage", "arn": "arn:aws:s3:::footage"},
               "object": {"key": key, "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0055AED6DCD90281E5"}}
    })
}

fn parse_body(body: &Value) -> Option<Result<Parsed, Refused>> {
    let now = Timestamp::from_ms(NOW_MS);
    parse(Some("application/json; charset=utf-8"), body.to_string().as_bytes(), &layouts(), now, &|_| Ok(()))
}

fn parsed(records: &[Value]) -> Parsed {
    parse_body(&json!({"Records": records})).expect("a notification").expect("taken")
}

#[test]
fn a_created_object_is_available() {
    let Parsed { events, rejected } = parsed(&[record("ObjectCreated:Put", KEY)]);
    assert_eq!(rejected, []);
    let (index, event) = &events[0];
    assert_eq!((*index, &*event.order.source, event.user.to_string().as_str()), (0, "s3://footage", USER));
    assert_eq!(event.order.time_ns, 1_792_892_700_123_000_000);
    assert!(event.order.id.starts_with("0055AED6DCD90281E5-"), "{}", event.order.id);
    let EventKind::Available(available) = &event.kind else { panic!("{event:?}") };
    assert_eq!(available.device.to_string(), DEVICE);
    assert_eq!(&*available.media_url, "s3://footage/cams/front%20door/2026-10-25_02-30-00-000000.mp4");
    // Of the repeated hour the second: it was written a quarter of an hour later.
    assert_eq!(available.start.as_ms(), 1_792_891_800_000);
    assert_eq!((available.end, available.growing, available.size), (None, false, Some(1024)));
    assert_eq!(available.etag.as_deref(), Some("\"d41d8cd98f00b204e9800998ecf8427e\""));
}

fn check_kind(name: &str, expected: Option<Happened>) {
    let Parsed { events, rejected } = parsed(&[record(name, KEY)]);
    assert_eq!(rejected, [], "{name}");
    let found = events.first().map(|(_, event)| match event.kind {
        EventKind::Available(_) => Happened::Created,
        _ => Happened::Removed,
    });
    assert_eq!(found, expected, "{name}");
}

#[test]
fn names_of_events() {
    check_kind("ObjectCreated:CompleteMultipartUpload", Some(Happened::Created));
    check_kind("s3:ObjectCreated:Copy", Some(Happened::Created));
    check_kind("s3:ObjectRemoved:Delete", Some(Happened::Removed));
    check_kind("ObjectRemoved:DeleteMarkerCreated", Some(Happened::Removed));
    check_kind("LifecycleExpiration:Delete", Some(Happened::Removed));
    check_kind("ObjectTagging:Put", None);
    check_kind("s3:ObjectAccessed:Get", None);
}

#[test]
fn the_same_object_is_the_same_recording_and_a_repeated_record_the_same_event() {
    let both = parsed(&[record("ObjectCreated:Put", KEY), record("ObjectRemoved:Delete", KEY)]);
    let EventKind::Available(available) = &both.events[0].1.kind else { panic!("{both:?}") };
    let EventKind::RecordingDeleted { device, recording } = &both.events[1].1.kind else { panic!("{both:?}") };
    assert_eq!((device, recording), (&available.device, &available.recording));
    assert_ne!(both.events[0].1.order.id, both.events[1].1.order.id);
    let twice = parsed(&[record("ObjectCreated:Put", KEY), record("ObjectCreated:Put", KEY)]);
    assert_eq!(twice.events[0].1, twice.events[1].1);
    let mut later = record("ObjectRemoved:Delete", KEY);
    later["s3"]["object"]["sequencer"] = "0055AED6DCD90281E6".into();
    let ordered = parsed(&[later, record("ObjectCreated:Put", KEY)]);
    assert!(ordered.events[0].1.order > ordered.events[1].1.order);
}

fn check_rejected(change: impl Fn(&mut Value), pointer: &str, part: &str) {
    let mut faulty = record("ObjectCreated:Put", KEY);
    change(&mut faulty);
    let Parsed { events, rejected } = parsed(&[record("ObjectCreated:Put", KEY), faulty]);
    assert_eq!(events.len(), 1, "the good one is taken");
    assert_eq!((rejected[0].index, rejected[0].pointer), (1, pointer), "{rejected:?}");
    assert!(rejected[0].detail.contains(part), "{rejected:?}");
}

#[test]
fn faulty_records_are_listed_with_their_place() {
    let key = "/s3/object/key";
    check_rejected(|r| r["s3"]["object"]["key"] = "readme.txt".into(), key, "matches no pattern");
    check_rejected(|r| r["s3"]["bucket"]["name"] = "other".into(), key, "matches no pattern");
    check_rejected(|r| r["s3"]["object"]["key"] = "cams/x/2026-10-25_02-30-00-000000.mp4".into(), key, "device \"x\"");
    check_rejected(|r| r["s3"]["object"]["key"] = KEY.replace("10-25", "03-29").into(), key, "does not exist");
    check_rejected(|r| r["s3"]["object"]["key"] = KEY.replace("2026", "2036").into(), key, "24 h from now");
    check_rejected(|r| r["s3"]["object"]["key"] = "cams/%ff".into(), key, "must be UTF-8");
    check_rejected(|r| r["eventTime"] = "yesterday".into(), "/eventTime", "RFC 3339");
    check_rejected(|r| r["s3"]["object"]["size"] = (-1).into(), "/s3/object/size", "must be an integer");
    check_rejected(|r| r["s3"] = Value::Null, "", "not an S3 record");
    check_rejected(|r| *r = 7.into(), "", "not an S3 record");
}

#[test]
fn the_callers_check_has_the_last_word() {
    let body = json!({"Records": [record("ObjectCreated:Put", KEY)]}).to_string();
    let refuse = |_: &Event| Err(Objection::new("/data/media_url", "no"));
    let now = Timestamp::from_ms(NOW_MS);
    let parsed = parse(Some("application/json"), body.as_bytes(), &layouts(), now, &refuse);
    let parsed = parsed.expect("a notification").expect("taken");
    assert_eq!((parsed.events.len(), parsed.rejected[0].pointer), (0, "/s3/object/key"));
}

#[test]
fn what_is_no_notification_is_left_to_others() {
    assert!(parse_body(&json!({"user_id": USER})).is_none());
    assert!(parse_body(&json!([1])).is_none());
    assert!(parse_body(&json!({"Records": "x"})).is_none());
    assert!(
        parse(Some("application/x-ndjson"), b"{\"Records\":[]}", &layouts(), Timestamp::from_ms(0), &|_| Ok(()))
            .is_none()
    );
    let test = parse_body(&json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "footage"}));
    assert_eq!(test, Some(Ok(Parsed::default())));
    let many: Vec<u8> = vec![0; EVENTS_MAX + 1];
    assert_eq!(parse_body(&json!({"Records": many})), Some(Err(Refused::TooManyEvents)));
    // As one store sends it, with a summary beside the records.
    let minio = json!({"EventName": "s3:ObjectCreated:Put", "Key": format!("footage/{KEY}"),
                       "Records": [record("s3:ObjectCreated:Put", KEY)]});
    assert_eq!(parse_body(&minio).expect("a notification").expect("taken").events.len(), 1);
}
