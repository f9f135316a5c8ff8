//! Recording events are taken in all their forms, once, whole or with every fault named.

use e2e::harness::event::{self, media_type};
use e2e::harness::token::{self, claims_with, now_ms};
use e2e::harness::{Answer, Camera, DEVICE, OTHER_DEVICE, OTHER_USER, START, Search, Setup, Stills, USER};
use reqwest::Method;
use serde_json::{Value, json};

use crate::fixtures::{check_picture, first_minute, span};

const PATH: &str = "/v1/recordings/events";

async fn post(stills: &Stills, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    stills.ask(Method::POST, PATH).bearer(stills.owner()).body(content_type, body).send().await
}

/// A good event over the usual minute, whose media is there.
fn good(stills: &Stills, id: &str) -> Value {
    let (camera, minute) = (Camera::first(), first_minute());
    event::available(&camera, id, span(&minute), &stills.place(&camera, &minute.path, id))
}

/// Ids of the recordings of the usual minute.
async fn taken(stills: &Stills) -> Vec<String> {
    let all = stills.recordings(&Camera::first(), (START, START + 60_000)).await;
    let all = all["recordings"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|recording| recording["recording_id"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn all_forms() {
    let stills = Setup::new().nginx().start().await;
    let [one, first, second, third, fourth, binary] =
        ["one", "first", "second", "third", "fourth", "binary"].map(|id| good(&stills, id));

    let answer = post(&stills, media_type::ONE, one.to_string()).await.expect(202);
    assert_eq!(answer.json(), json!({"accepted": 1, "duplicates": 0}));
    let answer = post(&stills, media_type::BATCH, json!([first, second]).to_string()).await.expect(202);
    assert_eq!(answer.json(), json!({"accepted": 2, "duplicates": 0}));
    // Blank lines, either line end, none at the end.
    let answer = post(&stills, media_type::LINES, format!("{third}\r\n\n{fourth}")).await.expect(202);
    assert_eq!(answer.json(), json!({"accepted": 2, "duplicates": 0}));
    let mut ask = stills.ask(Method::POST, PATH).bearer(stills.owner());
    for name in ["specversion", "id", "source", "type", "time"] {
        ask = ask.header(&format!("ce-{name}"), binary[name].as_str().expect("a text"));
    }
    let answer = ask.body("application/json; charset=utf-8", binary["data"].to_string()).send().await.expect(202);
    assert_eq!(answer.json(), json!({"accepted": 1, "duplicates": 0}));

    assert_eq!(
        post(&stills, media_type::BATCH, "[]").await.expect(202).json(),
        json!({"accepted": 0, "duplicates": 0})
    );
    let mut ids = taken(&stills).await;
    ids.sort_unstable();
    assert_eq!(ids, ["binary", "first", "fourth", "one", "second", "third"]);
    for id in ids {
        stills.until_state(&Camera::first(), &id, (START, START + 60_000), "indexed").await;
    }
}

#[tokio::test]
async fn what_comes_twice_is_counted_once() {
    let stills = Setup::new().start().await;
    let [a, b] = ["a", "b"].map(|id| good(&stills, id));
    assert_eq!(stills.send(&[a.clone(), b.clone()]).await.expect(202).json()["duplicates"], 0);
    assert_eq!(stills.send(&[a.clone(), b.clone()]).await.expect(202).json()["duplicates"], 2);
    let mut elsewhere = a.clone();
    elsewhere["source"] = "/elsewhere".into();
    assert_eq!(stills.send(&[elsewhere, b, good(&stills, "c")]).await.expect(202).json()["duplicates"], 1);
    // A duplicate is the same event by its name, whatever it says: the first one holds.
    let mut changed = a;
    changed["data"]["recording_id"] = "z".into();
    assert_eq!(stills.send(&[changed]).await.expect(202).json()["duplicates"], 1);
    assert_eq!(taken(&stills).await.len(), 3);
}

#[tokio::test]
async fn one_bad_event_and_nothing_is_taken() {
    let stills = Setup::new().nginx().start().await;
    let mut bad = good(&stills, "bad");
    bad["data"]["start_timestamp"] = json!("soon");
    bad["data"]["device_id"] = json!("123");
    let mut worse = good(&stills, "worse");
    worse["specversion"] = json!("0.3");
    let batch = json!([good(&stills, "a"), bad, good(&stills, "b"), worse]).to_string();

    let problem = post(&stills, media_type::BATCH, batch.clone()).await.problem(422, "invalid-events");
    let errors = problem["errors"].as_array().expect("a list");
    let places: Vec<(i64, &str)> =
        errors.iter().map(|e| (e["index"].as_i64().unwrap_or(-1), e["pointer"].as_str().unwrap_or("?"))).collect();
    assert_eq!(places, [(1, "/data/device_id"), (1, "/data/start_timestamp"), (3, "/specversion")]);
    assert!(errors.iter().all(|e| e["detail"].as_str().is_some_and(|detail| detail.len() > 5)), "{errors:?}");
    assert_eq!(taken(&stills).await, [""; 0]);

    let lenient = stills.ask(Method::POST, PATH).bearer(stills.owner()).header("prefer", "handling=lenient");
    let answer = lenient.body(media_type::BATCH, batch).send().await.expect(202).json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &problem["errors"]));
    assert_eq!(taken(&stills).await, ["a", "b"]);
}

#[tokio::test]
async fn every_fault_has_its_place() {
    let stills = Setup::new().start().await;
    let day = 86_400_000;
    let cases = [
        ("/specversion", json!(null)),
        ("/specversion", json!("2.0")),
        ("/id", json!(null)),
        ("/id", json!("")),
        ("/id", json!(7)),
        ("/source", json!(null)),
        ("/type", json!("recording.started")),
        ("/time", json!(null)),
        ("/time", json!("yesterday")),
        ("/data", json!(null)),
        ("/data", json!([])),
        ("/data/user_id", json!(null)),
        ("/data/user_id", json!("627d8ca8297a3d00019e2abg")),
        ("/data/device_id", json!("627d8ca8297a3d00019e2ab")),
        ("/data/recording_id", json!(null)),
        ("/data/recording_id", json!("a/b")),
        ("/data/recording_id", json!("x".repeat(129))),
        ("/data/start_timestamp", json!(null)),
        ("/data/start_timestamp", json!(-1)),
        ("/data/start_timestamp", json!(1.5)),
        ("/data/start_timestamp", json!("1757371980000")),
        ("/data/end_timestamp", json!(START - 1)),
        ("/data/end_timestamp", json!(START + day + 1)),
        ("/data/media_url", json!(null)),
        ("/data/media_url", json!("recording.mp4")),
        ("/data/growing", json!("yes")),
        ("/data/expires_at", json!("tomorrow")),
        ("/data/size", json!(-1)),
        ("/data/credentials_key", json!("unknown")),
    ];
    for (pointer, value) in cases {
        let mut event = good(&stills, "a");
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let parent = event.pointer_mut(parent).expect("an object");
        if value.is_null() {
            parent.as_object_mut().expect("an object").remove(name);
        } else {
            parent[name] = value.clone();
        }
        let problem = stills.send(&[event]).await.problem(422, "invalid-events");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{value}: {problem}");
        assert_eq!(problem["errors"][0]["index"], 0);
    }
    let mut ahead = good(&stills, "a");
    ahead["data"]["start_timestamp"] = now_ms().into();
    ahead["data"]["end_timestamp"] = (now_ms() + day + 60_000).into();
    let problem = stills.send(&[ahead]).await.problem(422, "invalid-events");
    assert_eq!(problem["errors"][0]["pointer"], "/data/end_timestamp", "{problem}");
    assert_eq!(taken(&stills).await, [""; 0]);
}

#[tokio::test]
async fn bodies_that_are_none() {
    let stills = Setup::new().start().await;
    for (content_type, body) in [
        (media_type::ONE, "{"),
        (media_type::ONE, "[]"),
        (media_type::ONE, "null"),
        (media_type::BATCH, "{}"),
        (media_type::BATCH, "[1]"),
        (media_type::BATCH, "[{}"),
        (media_type::LINES, "{}\n{"),
        (media_type::ONE, "\u{0}"),
    ] {
        let problem = post(&stills, content_type, body).await.problem(422, "invalid-events");
        assert!(problem["errors"].as_array().is_some_and(|errors| !errors.is_empty()), "{body}: {problem}");
    }
    let good_one = good(&stills, "a").to_string();
    for content_type in
        ["text/plain", "application/xml", "application/json", "application/cloudevents+json; charset=latin1"]
    {
        post(&stills, content_type, good_one.clone()).await.problem(415, "unsupported-media-type");
    }
    let bare = stills.ask(Method::POST, PATH).bearer(stills.owner()).send().await;
    bare.problem(415, "unsupported-media-type");
    assert_eq!(taken(&stills).await, [""; 0]);
}

#[tokio::test]
async fn media_must_lie_where_the_caller_may_have_it_read() {
    let stills = Setup::new().nginx().start().await;
    let (first, minute) = (Camera::first(), first_minute());
    let other = Camera::of(OTHER_USER, DEVICE);
    stills.place(&other, &minute.path, "theirs");
    let outside = stills.home().write("outside.mp4", std::fs::read(&minute.path).expect("footage"));
    let own = stills.media_path(&first, "x");
    let own = own.parent().expect("a directory").display();
    for url in [
        format!("file://{}", outside.display()),
        stills.media_url(&other, "theirs"),
        format!("file://{own}/../../../outside.mp4"),
        format!("file://{own}/%2e%2e/%2e%2e/%2e%2e/outside.mp4"),
        format!("file://elsewhere{own}/x"),
        "file:///etc/passwd".to_owned(),
        "http://127.0.0.1:1/x.mp4".to_owned(),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "s3://footage/x.mp4".to_owned(),
        "data:video/mp4;base64,AAAA".to_owned(),
        "concat:/etc/passwd|/etc/hosts".to_owned(),
    ] {
        let problem = stills.send(&[event::available(&first, "r-1", span(&minute), &url)]).await;
        let problem = problem.problem(422, "invalid-events");
        assert_eq!(problem["errors"][0]["pointer"], "/data/media_url", "{url}: {problem}");
        assert!(!problem.to_string().contains(&stills.home().path("").display().to_string()), "a path in {problem}");
    }
    assert_eq!(taken(&stills).await, [""; 0]);

    // A link inside is seen when it is opened.
    std::os::unix::fs::symlink(&outside, stills.media_path(&first, "link.mp4")).expect("a link");
    let event = event::available(&first, "r-1", span(&minute), &stills.media_url(&first, "link.mp4"));
    stills.send(&[event]).await.expect(202);
    stills.until_state(&first, "r-1", span(&minute), "failed").await;
    assert_eq!(stills.list(&Search::new(&first, span(&minute), 10_000)).await, []);
}

#[tokio::test]
async fn who_may_send_events() {
    let stills = Setup::new().nginx().start().await;
    let send = async |token: &str, event: &Value| stills.send_as(token, std::slice::from_ref(event)).await;
    let event = good(&stills, "a");
    let none = stills.ask(Method::POST, PATH).body(media_type::ONE, event.to_string()).send().await;
    none.problem(401, "invalid-token");
    send("x", &event).await.problem(401, "invalid-token");
    let write = "recordings:write";
    let with = |changes: Value| token::hs256(&claims_with(write, &changes));
    for (token, event) in [
        (token::with_scope("thumbnails:read recordings:read"), event.clone()),
        (with(json!({"user_id": OTHER_USER})), event.clone()),
        (with(json!({"device_id": OTHER_DEVICE})), event.clone()),
        (with(json!({"device_id": DEVICE})), event::user_deleted(USER)),
        (with(json!({})), event::user_deleted(OTHER_USER)),
        (with(json!({"device_id": DEVICE})), event::device_deleted(&Camera::second())),
    ] {
        let answer = send(&token, &event).await;
        answer.problem(403, "insufficient-scope");
        assert!(answer.header("www-authenticate").contains("insufficient_scope"), "{answer:?}");
    }
    assert_eq!(taken(&stills).await, [""; 0]);
    send(&with(json!({"device_id": DEVICE})), &event).await.expect(202);
    assert_eq!(taken(&stills).await, ["a"]);
}

#[tokio::test]
async fn bodies_over_the_limit() {
    let stills = Setup::new().nginx().set("http.body_max", "\"64KiB\"").start().await;
    let long = " ".repeat(70_000);
    for is_direct in [true, false] {
        let ask = if is_direct { stills.ask_origin(Method::POST, PATH) } else { stills.ask(Method::POST, PATH) };
        ask.bearer(stills.owner()).body(media_type::LINES, long.clone()).send().await.problem(413, "content-too-large");
    }
    // NGINX has a limit of its own, and the words for it.
    let huge = " ".repeat(9 << 20);
    post(&stills, media_type::LINES, huge).await.problem(413, "content-too-large");
}

#[tokio::test]
async fn a_recorder_that_everybody_trusts() {
    let stills = Setup::new().start().await;
    let recorder = token::hs256(&claims_with("recordings:write users:all", &json!({"user_id": null})));
    let (camera, minute) = (Camera::of(OTHER_USER, DEVICE), first_minute());
    let url = stills.place(&camera, &minute.path, "r-1");
    stills.send_as(&recorder, &[event::available(&camera, "r-1", span(&minute), &url)]).await.expect(202);
    let viewer = token::hs256(&claims_with("thumbnails:read", &json!({"user_id": OTHER_USER})));
    let target = e2e::harness::stills::thumb(&camera, span(&minute), 20_000);
    let picture = e2e::harness::wait::some("the picture", async || {
        let answer = stills.get_as(&viewer, &target).await;
        (answer.status == 200).then_some(answer)
    });
    check_picture(&picture.await, (320, 240), START + 20_000);
}
