//! Whoever gave a webhook with a job is told how it ended, and nobody else is.

use std::collections::BTreeSet;

use e2e::harness::receiver::{Received, Receiver};
use e2e::harness::wait;
use serde_json::{Value, json};

use crate::jobs::{
    ENVELOPE, JOB_STATUS, OTHER_KEY, THUMBNAIL, call, check_result, check_webhook, cinema, names, nowhere, post,
    post_all, start, status, until_webhook, with,
};

#[tokio::test]
async fn a_webhook_is_told_how_its_job_ended() {
    let stills = start(&[]).await;
    let ((media, _), receiver) = (cinema().await, Receiver::start().await);
    let order =
        json!({"video_url": media.url("/film.mp4"), "second": 5, "webhook_url": receiver.url("/hook"), "id": "x"});
    let broken = json!({"video_url": nowhere().await, "webhook_url": receiver.url("/hook")});
    let accepted = post_all(&[call(&stills, THUMBNAIL, &order), call(&stills, THUMBNAIL, &broken)]).await;
    let fields =
        ["code", "id", "job_id", "message", "pid", "queue_id", "max_queue_length", "queue_length", "build_number"];
    for answer in &accepted {
        let body = &answer["body"];
        assert_eq!(
            (&answer["status"], &body["code"], &body["message"]),
            (&json!(202), &json!(202), &json!("processing"))
        );
        assert_eq!((names(body), &body["max_queue_length"]), (BTreeSet::from(fields), &json!("unlimited")));
    }
    for (answer, code) in accepted.iter().zip([200, 500]) {
        let job_id = &answer["body"]["job_id"];
        assert_eq!(until_webhook(&stills, job_id, "delivered").await["attempts"], 1);
        let record = status(&stills, job_id).await;
        assert_eq!(
            (&record["job_status"], &record["job_id"], &record["response"]["code"]),
            (&json!("done"), job_id, &json!(code))
        );
        let all = receiver.received();
        let own: Vec<&Received> = all.iter().filter(|received| received.json()["job_id"] == *job_id).collect();
        assert_eq!(own.len(), 1);
        check_webhook(own[0], &record["response"]);
        assert_eq!(names(&own[0].json()), BTreeSet::from(ENVELOPE));
    }
    let done = status(&stills, &accepted[0]["body"]["job_id"]).await;
    assert_eq!(done["response"]["id"], "x");
    check_result(&stills, &done["response"], 5000).await;

    // All of them are listed to their user, and to nobody else.
    let listed = post(&stills, "/v1/toolkit/jobs/status", &json!({"since_seconds": 3600})).await;
    let expected: Value =
        accepted.iter().map(|a| (a["body"]["job_id"].as_str().expect("an id").to_owned(), json!("done"))).collect();
    assert_eq!(listed["body"]["response"], expected, "{listed}");
    let stranger = json!({"key": OTHER_KEY});
    let listed = with(call(&stills, "/v1/toolkit/jobs/status", &json!({})), &stranger);
    let asked = with(call(&stills, JOB_STATUS, &json!({"job_id": done["job_id"]})), &stranger);
    let answers = post_all(&[listed, asked]).await;
    assert_eq!(answers[0]["body"]["response"], json!({}));
    assert_eq!((&answers[1]["status"], &answers[1]["body"]["response"]), (&json!(404), &Value::Null));
    assert_eq!(answers[1]["body"]["message"], json!({"error": "Job not found", "job_id": done["job_id"]}));
}

#[tokio::test]
async fn a_receiver_that_is_down_is_told_when_it_is_back() {
    let stills = start(&[]).await;
    let ((media, _), mut receiver) = (cinema().await, Receiver::start().await);
    receiver.close().await;
    let order = json!({"video_url": media.url("/film.mp4"), "webhook_url": receiver.url("/hook")});
    let job_id = post(&stills, THUMBNAIL, &order).await["body"]["job_id"].clone();
    let failed = async || status(&stills, &job_id).await["webhook"]["attempts"].as_u64().unwrap_or(0);
    wait::until("an attempt fails", async || failed().await >= 1).await;
    // Back, and not well yet.
    receiver.answer("503 Service Unavailable", &[]);
    receiver.open();
    wait::until("another one is refused", async || !receiver.received().is_empty()).await;
    receiver.answer("204 No Content", &[]);
    let told = until_webhook(&stills, &job_id, "delivered").await;
    let received = receiver.received();
    assert_eq!(received.len() as u64, told["attempts"].as_u64().expect("a number") - 1, "{told}");
    let record = status(&stills, &job_id).await;
    for one in &received {
        check_webhook(one, &record["response"]);
    }
    let metrics = stills.metrics().await;
    assert_eq!(metrics.sum("stills_webhooks_total", &[("outcome", "delivered")]), 1.0);
    assert_eq!(metrics.sum("stills_webhooks_due", &[]), 0.0);
}

#[tokio::test]
async fn no_webhook_reaches_what_is_not_allowed() {
    let stills = start(&[]).await;
    let ((media, _), receiver) = (cinema().await, Receiver::start().await);
    let order = |webhook: &str| json!({"video_url": media.url("/film.mp4"), "webhook_url": webhook});
    for webhook in [
        receiver.url("/hook").replace("127.0.0.1", "127.0.0.2"),
        receiver.url("/hook").replace("127.0.0.1", "localhost"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "s3://bucket/key".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let answer = post(&stills, THUMBNAIL, &order(&webhook)).await;
        let message = answer["body"]["message"].as_str().unwrap_or_default();
        assert_eq!(answer["status"], 400, "{webhook}: {answer}");
        assert!(message.starts_with("Invalid request: webhook_url: "), "{webhook}: {answer}");
    }
    // A redirect is looked at as the URL was, and what is forbidden is not tried again.
    let hidden = format!("Location: {}", receiver.url("/secret").replace("127.0.0.1", "127.0.0.2"));
    receiver.answer("307 Temporary Redirect", &[&hidden]);
    let job_id = post(&stills, THUMBNAIL, &order(&receiver.url("/hook"))).await["body"]["job_id"].clone();
    let dead = until_webhook(&stills, &job_id, "dead").await;
    assert_eq!(dead["attempts"], 1, "{dead}");
    assert!(dead["reason"].as_str().is_some_and(|reason| !reason.contains("127.0.0.2")), "{dead}");
    assert_eq!(receiver.received().len(), 1);
    let metrics = stills.metrics().await;
    assert_eq!(metrics.sum("stills_webhooks_dead", &[]), 1.0);
    // To a place that is allowed it is followed.
    receiver.answer("307 Temporary Redirect", &[&format!("Location: {}", receiver.url("/moved"))]);
    let job_id = post(&stills, THUMBNAIL, &order(&receiver.url("/hook"))).await["body"]["job_id"].clone();
    wait::until("it is followed", async || receiver.received().iter().any(|one| one.line == "POST /moved")).await;
    receiver.answer("204 No Content", &[]);
    until_webhook(&stills, &job_id, "delivered").await;
}
