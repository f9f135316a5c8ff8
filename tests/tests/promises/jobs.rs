//! Jobs: one frame of a video, made now or told to a webhook later, asked by Python's requests through NGINX.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::footage::{Footage, Rate, Recipe, cached};
use e2e::harness::media_server::{Asked, MediaServer, Object, Reply};
use e2e::harness::receiver::{Received, Receiver};
use e2e::harness::stills::thumb_sized;
use e2e::harness::{Camera, OTHER_USER, PUBLIC_HOST, START, Setup, Stills, USER, python, wait};
use reqwest::Method;
use serde_json::{Value, json};

use crate::fixtures::{check_picture, first_minute, span};

pub(crate) const KEY: &str = "a key of the usual user";
pub(crate) const OTHER_KEY: &str = "a key of the other user";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const THUMBNAIL: &str = "/v1/video/thumbnail";
pub(crate) const JOB_STATUS: &str = "/v1/toolkit/job/status";

/// A server that lets callers name what is at 127.0.0.1, with a key for each of two users.
pub(crate) async fn start(others: &[(&str, &str)]) -> Stills {
    let key = |key: &str, user: &str| {
        let sha256 = digest::digest(&digest::SHA256, key.as_bytes());
        let sha256: String = sha256.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{{ sha256 = \"{sha256}\", user_id = \"{user}\" }}")
    };
    let mut home = Setup::new()
        .set("fetch.allow_urls", "[\"^http://127\\\\.0\\\\.0\\\\.[0-9]+:[0-9]+/\"]")
        .set("fetch.allow_networks", "[\"127.0.0.1/32\"]")
        .set("jobs.api_keys", &format!("[{}, {}]", key(KEY, USER), key(OTHER_KEY, OTHER_USER)))
        .lay_out();
    let secret = home.write("webhook-secret", SECRET);
    home.set("jobs.webhook_secret_file", &format!("\"{}\"", secret.display()));
    others.iter().for_each(|(key, value)| home.set(key, value));
    Stills::start(home, true).await
}

/// Ten seconds at 25 frames a second, a keyframe every 2 s.
fn film() -> Footage {
    let rate = Rate { frames: 25, seconds: 1 };
    let recipe = Recipe { width: 320, height: 240, rate, gop: 50, duration_ms: 10_000, ..Recipe::default() };
    cached(&recipe).expect("footage")
}

/// A server with the film, which can be told to fall silent, and then has no other film.
pub(crate) async fn cinema() -> (MediaServer, Arc<AtomicBool>) {
    let is_silent = Arc::new(AtomicBool::new(false));
    let (silent, object) = (Arc::clone(&is_silent), Object::new(film().path, "1"));
    let behaviour = move |asked: &Asked, _| match (silent.load(Ordering::Relaxed), asked.target.as_str()) {
        (false, _) => Reply::Good(object.clone()),
        (true, "/other.mp4") => Reply::Status(404),
        (true, _) => Reply::Stalled(object.clone()),
    };
    (MediaServer::start(behaviour).await, is_silent)
}

pub(crate) fn call(stills: &Stills, target: &str, body: &Value) -> Value {
    json!({"url": format!("http://{}{target}", stills.address()), "key": KEY, "json": body})
}

/// The same call with other members.
pub(crate) fn with(mut call: Value, others: &Value) -> Value {
    for (name, value) in others.as_object().expect("an object") {
        call[name] = value.clone();
    }
    call
}

pub(crate) async fn post_all(calls: &[Value]) -> Vec<Value> {
    python::run("jobs.py", &json!({"calls": calls})).await.as_array().expect("answers").clone()
}

pub(crate) async fn post(stills: &Stills, target: &str, body: &Value) -> Value {
    post_all(&[call(stills, target, body)]).await.remove(0)
}

/// What the status call says of a job, asked without Python: it is asked often.
pub(crate) async fn status(stills: &Stills, job_id: &Value) -> Value {
    let ask = stills.ask(Method::POST, JOB_STATUS).header("x-api-key", KEY);
    let answer = ask.body("application/json", json!({"job_id": job_id}).to_string()).send().await.expect(200);
    answer.json()["response"].clone()
}

async fn until_status(stills: &Stills, job_id: &Value, expected: &str) {
    wait::until(&format!("a job {expected}"), async || status(stills, job_id).await["job_status"] == expected).await;
}

pub(crate) async fn until_webhook(stills: &Stills, job_id: &Value, expected: &str) -> Value {
    let what = format!("a webhook {expected}");
    wait::some(&what, async || Some(status(stills, job_id).await["webhook"].clone()).filter(|w| w["state"] == expected))
        .await
}

pub(crate) fn names(object: &Value) -> BTreeSet<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

pub(crate) const ENVELOPE: [&str; 13] = [
    "endpoint",
    "code",
    "id",
    "job_id",
    "response",
    "message",
    "run_time",
    "queue_time",
    "total_time",
    "pid",
    "queue_id",
    "queue_length",
    "build_number",
];

/// What an answer says of a job for which there is no place.
const REFUSED: [&str; 8] = ["code", "id", "job_id", "message", "pid", "queue_id", "queue_length", "build_number"];

/// Where a result is, without the host.
fn target(envelope: &Value) -> String {
    assert!(envelope["response"].is_string(), "no result: {envelope}");
    let url = envelope["response"].as_str().unwrap_or_default();
    url.strip_prefix(PUBLIC_HOST).expect("the public host").to_owned()
}

/// Demands a result that shows this instant of the film.
pub(crate) async fn check_result(stills: &Stills, envelope: &Value, offset: i64) {
    let answer = stills.ask(Method::GET, &target(envelope)).send().await;
    check_picture(&answer, (320, 240), START + offset);
    assert!(answer.header("cache-control").starts_with("private, max-age="), "{answer:?}");
}

#[tokio::test]
async fn a_picture_is_made_while_the_caller_waits() {
    let stills = start(&[]).await;
    let (media, _) = cinema().await;
    let url = media.url("/film.mp4");
    // A frame every 40 ms: the nearest one; past the end the last.
    let cases = [
        (json!({}), 0),
        (json!({"second": 3}), 3000),
        (json!({"second": 3.13}), 3120),
        (json!({"second": 3.15}), 3160),
        (json!({"second": 9.99}), 9960),
        (json!({"second": 1e9, "id": "custom-request-123"}), 9960),
    ];
    let calls: Vec<Value> = cases
        .iter()
        .map(|(body, _)| call(&stills, THUMBNAIL, &with(body.clone(), &json!({"video_url": url}))))
        .collect();
    for (answer, (asked, offset)) in post_all(&calls).await.iter().zip(cases) {
        let body = &answer["body"];
        assert_eq!(answer["status"], 200, "{asked}: {answer}");
        assert_eq!(names(body), BTreeSet::from(ENVELOPE));
        assert_eq!(
            (&body["endpoint"], &body["code"], &body["message"]),
            (&json!(THUMBNAIL), &json!(200), &json!("success"))
        );
        assert_eq!(body["id"], asked.get("id").cloned().unwrap_or_default());
        assert_eq!(body["queue_time"].as_f64(), Some(0.0));
        assert!(body["run_time"].is_f64() && body["total_time"].is_f64() && body["pid"].is_u64(), "{body}");
        assert!(body["queue_id"].is_u64() && body["queue_length"] == 0 && body["build_number"].is_string(), "{body}");
        check_result(&stills, body, offset).await;

        // The secret opens it, and nothing else does.
        let target = target(body);
        let wrong = target.replace(".jpg", "").rsplit_once('/').map(|(job, _)| format!("{job}/{}.jpg", "0".repeat(32)));
        stills.ask(Method::GET, &wrong.expect("a path")).send().await.problem(404, "not-found");
        assert!(!stills.log().join("\n").contains(target.rsplit('/').next().expect("a secret")), "logged");
    }
    // What cannot be shown is said in the same form.
    let missing = post(&stills, THUMBNAIL, &json!({"video_url": nowhere().await})).await;
    assert_eq!((&missing["status"], &missing["body"]["code"]), (&json!(500), &json!(500)), "{missing}");
    assert_eq!(names(&missing["body"]), BTreeSet::from(ENVELOPE));
    assert_eq!(missing["body"]["response"], Value::Null);
    assert!(missing["body"]["message"].as_str().is_some_and(|why| !why.is_empty() && why != "success"), "{missing}");
}

/// Thumbs that are made at most until something is evicted; each takes over 10 KB.
const THUMBS_MAX: u32 = 2000;

#[tokio::test]
async fn a_result_outlives_what_is_evicted() {
    let stills = start(&[("cache.max_bytes", "\"4MiB\""), ("cache.volume_bytes", "\"1MiB\"")]).await;
    let (media, _) = cinema().await;
    let answer = post(&stills, THUMBNAIL, &json!({"video_url": media.url("/film.mp4"), "second": 3})).await;
    let envelope = &answer["body"];
    check_result(&stills, envelope, 3000).await;

    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let mut n_thumbs = 0;
    while stills.metrics().await.sum("stills_cache_evicted_pictures_total", &[]) == 0.0 {
        assert!(n_thumbs < THUMBS_MAX, "nothing is evicted");
        for _ in 0..50 {
            let (offset, width) = (i64::from(n_thumbs % 30) * 2000, 640 - n_thumbs / 30);
            stills.get(&thumb_sized(&camera, span(&minute), offset, (width, 480))).await.expect(200);
            n_thumbs += 1;
        }
    }
    check_result(&stills, envelope, 3000).await;
}

/// A URL at which nobody answers.
pub(crate) async fn nowhere() -> String {
    let mut gone = Receiver::start().await;
    gone.close().await;
    gone.url("/film.mp4")
}

/// Demands that a webhook is what its job's status says, signed as published.
pub(crate) fn check_webhook(received: &Received, envelope: &Value) {
    assert_eq!(received.line, "POST /hook");
    assert_eq!(received.header("content-type"), "application/json");
    assert_eq!(&received.json(), envelope);
    let id = received.header("webhook-id");
    assert_eq!(id, format!("job_{}", envelope["job_id"].as_str().expect("an id")));
    let at = received.header("webhook-timestamp");
    assert!(at.parse::<u64>().is_ok_and(|at| at > 1_700_000_000), "{at}");
    let secret = BASE64_STANDARD.decode(SECRET.trim_start_matches("whsec_")).expect("base64");
    let text = [format!("{id}.{at}.").as_bytes(), &received.body].concat();
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), &text);
    assert_eq!(received.header("webhook-signature"), format!("v1,{}", BASE64_STANDARD.encode(signature)));
}

#[tokio::test]
async fn the_queue_has_an_end() {
    let stills = start(&[("jobs.max_queue_length", "2"), ("jobs.running_max", "1")]).await;
    let ((media, is_silent), receiver) = (cinema().await, Receiver::start().await);
    is_silent.store(true, Ordering::Relaxed);
    let order = json!({"video_url": media.url("/film.mp4"), "webhook_url": receiver.url("/hook"), "id": "x"});
    let order = |n: i32| with(order.clone(), &json!({"second": n}));
    let running = post(&stills, THUMBNAIL, &order(0)).await["body"].clone();
    assert_eq!(running["max_queue_length"], 2);
    until_status(&stills, &running["job_id"], "running").await;

    let calls: Vec<Value> = (1..5).map(|n| call(&stills, THUMBNAIL, &order(n))).collect();
    let answers = post_all(&calls).await;
    let found: Vec<_> =
        answers.iter().map(|answer| (answer["status"].as_i64(), answer["body"]["queue_length"].as_i64())).collect();
    assert_eq!(found, [(Some(202), Some(1)), (Some(202), Some(2)), (Some(429), Some(2)), (Some(429), Some(2))]);
    let full = &answers[2];
    assert_eq!(names(&full["body"]), BTreeSet::from(REFUSED));
    assert_eq!(
        (&full["body"]["code"], &full["body"]["message"]),
        (&json!(429), &json!("MAX_QUEUE_LENGTH (2) reached"))
    );
    assert_eq!(full["headers"]["retry-after"], "1");
    assert_eq!(status(&stills, &answers[0]["body"]["job_id"]).await["job_status"], "queued");

    // What was accepted is done, in its order.
    is_silent.store(false, Ordering::Relaxed);
    for answer in &answers[..2] {
        until_webhook(&stills, &answer["body"]["job_id"], "delivered").await;
    }
    until_webhook(&stills, &running["job_id"], "delivered").await;
    assert_eq!(receiver.received().len(), 3);
}

#[tokio::test]
async fn who_waits_for_an_answer_hears_at_once_that_there_is_no_decoder() {
    let stills = start(&[("fetch.running_max", "1"), ("fetch.deadline", "\"5s\"")]).await;
    let (media, is_silent) = cinema().await;
    is_silent.store(true, Ordering::Relaxed);
    let one = call(&stills, THUMBNAIL, &json!({"video_url": media.url("/film.mp4"), "id": "x"}));
    let calls = json!({"calls": [one, with(one.clone(), &json!({"key": OTHER_KEY}))], "at_once": 2});
    let answers = python::run("jobs.py", &calls).await;
    let mut answers = answers.as_array().expect("answers").clone();
    answers.sort_by_key(|answer| answer["status"].as_i64());
    assert_eq!((&answers[0]["status"], &answers[1]["status"]), (&json!(429), &json!(500)), "{answers:?}");
    let message = answers[0]["body"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("MAX_QUEUE_LENGTH (") && message.ends_with(") reached"), "{message}");
    assert_eq!(names(&answers[0]["body"]), BTreeSet::from(REFUSED));
}

#[tokio::test]
async fn accepted_jobs_survive_a_crash() {
    let mut stills = start(&[("jobs.running_max", "1")]).await;
    let ((media, is_silent), mut receiver) = (cinema().await, Receiver::start().await);
    let order = |n: i32| json!({"video_url": media.url("/film.mp4"), "webhook_url": receiver.url("/hook"), "second": n, "id": format!("{n}")});
    // One is done and told, one is done and its receiver gone, one runs, others wait.
    let told = post(&stills, THUMBNAIL, &order(0)).await["body"]["job_id"].clone();
    until_webhook(&stills, &told, "delivered").await;
    let (second, waiting) = (order(1), (2..6).map(order).collect::<Vec<_>>());
    receiver.close().await;
    let untold = post(&stills, THUMBNAIL, &second).await["body"]["job_id"].clone();
    until_status(&stills, &untold, "done").await;
    is_silent.store(true, Ordering::Relaxed);
    let calls: Vec<Value> = waiting.iter().map(|order| call(&stills, THUMBNAIL, order)).collect();
    let accepted: Vec<Value> = post_all(&calls).await.iter().map(|answer| answer["body"]["job_id"].clone()).collect();
    until_status(&stills, &accepted[0], "running").await;
    let before = status(&stills, &told).await;

    stills.kill9().await;
    is_silent.store(false, Ordering::Relaxed);
    receiver.open();
    // What is derived may go as well: results are not among it.
    for derived in ["cache", "catalog"] {
        std::fs::remove_dir_all(stills.home_mut().data().join(derived)).expect("a directory");
    }
    stills.start_again().await;
    for job_id in accepted.iter().chain([&untold]) {
        until_webhook(&stills, job_id, "delivered").await;
    }
    assert_eq!(status(&stills, &told).await, before, "what was over stays as it was");
    let received = receiver.received();
    for (n, job_id) in [&told, &untold].into_iter().chain(&accepted).enumerate() {
        let own: Vec<&Received> = received.iter().filter(|one| one.json()["job_id"] == *job_id).collect();
        assert_eq!(own.len(), 1, "job {n} was told {} times", own.len());
        let record = status(&stills, job_id).await;
        check_webhook(own[0], &record["response"]);
        check_result(&stills, &record["response"], i64::try_from(n).expect("few") * 1000).await;
    }
    // Asked again, they are what they were.
    let again = post_all(&calls.iter().map(|c| with(c.clone(), &json!({}))).collect::<Vec<_>>()).await;
    let again: Vec<Value> = again.iter().map(|answer| answer["body"]["job_id"].clone()).collect();
    assert_eq!(again, accepted);
    assert_eq!(receiver.received().len(), received.len());
}

#[tokio::test]
async fn the_same_order_again_is_the_same_job() {
    let stills = start(&[]).await;
    let (media, is_silent) = cinema().await;
    let order = json!({"video_url": media.url("/film.mp4"), "second": 2, "id": "mine"});
    let again = call(&stills, THUMBNAIL, &order);
    let first = post_all(&[again.clone(), again.clone()]).await;
    assert_eq!(first[0]["status"], 200);
    assert_eq!(first[0]["body"], first[1]["body"]);
    let job_id = &first[0]["body"]["job_id"];
    // Another body, another user, or no name for it: another job.
    let others = [
        call(&stills, THUMBNAIL, &with(order.clone(), &json!({"second": 3}))),
        call(&stills, THUMBNAIL, &with(order.clone(), &json!({"id": "yours"}))),
        with(again.clone(), &json!({"key": OTHER_KEY})),
        call(&stills, THUMBNAIL, &json!({"video_url": media.url("/film.mp4"), "second": 2})),
        call(&stills, THUMBNAIL, &json!({"video_url": media.url("/film.mp4"), "second": 2})),
    ];
    let all: BTreeSet<String> =
        post_all(&others).await.iter().map(|answer| answer["body"]["job_id"].to_string()).collect();
    assert_eq!((all.len(), all.contains(&job_id.to_string())), (5, false));

    // Many at once wait for one.
    let at_once = json!({"calls": vec![call(&stills, THUMBNAIL, &with(order.clone(), &json!({"id": "at once"}))); 8], "at_once": 8});
    let answers = python::run("jobs.py", &at_once).await;
    let ids: BTreeSet<String> =
        answers.as_array().expect("answers").iter().map(|a| a["body"]["job_id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{answers}");

    // One that failed runs again.
    is_silent.store(true, Ordering::Relaxed);
    let order = json!({"video_url": media.url("/other.mp4"), "id": "failing"});
    let failed = post(&stills, THUMBNAIL, &order).await;
    assert_eq!(failed["status"], 500, "{failed}");
    is_silent.store(false, Ordering::Relaxed);
    let ran = post(&stills, THUMBNAIL, &order).await;
    assert_eq!(ran["status"], 200, "{ran}");
    assert_ne!(ran["body"]["job_id"], failed["body"]["job_id"]);
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_said() {
    let stills = start(&[]).await;
    let url = "http://127.0.0.1:9/film.mp4";
    let required = "'video_url' is a required property";
    let bodies = [
        (json!({}), required),
        (json!({"second": 1}), required),
        (json!({"video_url": ""}), "video_url: \"\" is not a 'uri'"),
        (json!({"video_url": "film.mp4"}), "video_url: \"film.mp4\" is not a 'uri'"),
        (json!({"video_url": 1}), "video_url: 1 is not of type 'string'"),
        (json!({"video_url": url, "second": -1}), "second: -1 is less than the minimum of 0"),
        (json!({"video_url": url, "second": "1"}), "second: \"1\" is not of type 'number'"),
        (json!({"video_url": url, "webhook_url": ""}), "webhook_url: \"\" is not a 'uri'"),
        (json!({"video_url": url, "id": 1}), "id: 1 is not of type 'string'"),
        (json!({"video_url": url, "x": 1}), "Additional properties are not allowed ('x' was unexpected)"),
        (json!({"video_url": "https://elsewhere.example/film.mp4"}), "video_url: the URL matches none of"),
        (json!({"video_url": "file:///etc/passwd"}), "video_url: a file is never fetched"),
        (json!([]), "the body must be a JSON object"),
    ];
    let calls: Vec<Value> = bodies.iter().map(|(body, _)| call(&stills, THUMBNAIL, body)).collect();
    for (answer, (body, part)) in post_all(&calls).await.iter().zip(bodies) {
        let found = &answer["body"];
        assert_eq!((&answer["status"], &found["code"]), (&json!(400), &json!(400)), "{body}: {answer}");
        assert_eq!(names(found), BTreeSet::from(["code", "message", "job_id"]));
        let message = found["message"].as_str().unwrap_or_default();
        assert!(message.starts_with(&format!("Invalid request: {part}")), "{body}: {message}");
    }

    let good = json!({"video_url": url});
    let raw = |content_type: &str, data: &str| {
        let call = call(&stills, THUMBNAIL, &good);
        json!({"url": call["url"], "key": KEY, "data": data, "headers": {"Content-Type": content_type}})
    };
    let unauthorized = [
        with(call(&stills, THUMBNAIL, &good), &json!({"key": "another"})),
        with(call(&stills, THUMBNAIL, &json!({})), &json!({"key": ""})),
        with(call(&stills, JOB_STATUS, &json!({})), &json!({"key": "another"})),
        with(call(&stills, "/v1/toolkit/jobs/status", &json!({})), &json!({"key": "another"})),
    ];
    for answer in post_all(&unauthorized).await {
        assert_eq!((&answer["status"], &answer["body"]), (&json!(401), &json!({"message": "Unauthorized"})));
    }
    let calls = [
        raw("text/plain", "{}"),
        raw("application/x-www-form-urlencoded", "a=b"),
        raw("application/json", "{"),
        raw("application/json", ""),
        call(&stills, JOB_STATUS, &json!({})),
        call(&stills, JOB_STATUS, &json!({"job_id": "../../etc/passwd"})),
        call(&stills, "/v1/toolkit/jobs/status", &json!({"since_seconds": "x"})),
        call(&stills, "/v1/toolkit/jobs/status", &json!({})),
    ];
    let found: Vec<Option<i64>> = post_all(&calls).await.iter().map(|answer| answer["status"].as_i64()).collect();
    assert_eq!(found, [415, 415, 400, 400, 400, 404, 400, 200].map(Some));
    // Any letter case, and no token in its place.
    let body = json!({"since_seconds": 1}).to_string();
    let ask = |name: &str, value: &str| stills.ask(Method::POST, "/v1/toolkit/jobs/status").header(name, value);
    ask("X-API-KEY", KEY).body("application/json", body.clone()).send().await.expect(200);
    let bearer = format!("Bearer {}", stills.owner());
    ask("authorization", &bearer).body("application/json", body).send().await.expect(401);
    stills.get(THUMBNAIL).await.problem(405, "method-not-allowed");
}
