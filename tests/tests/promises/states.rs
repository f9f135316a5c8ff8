//! What becomes of a recording: pending, indexed, growing, failed, gone, and what is told about each.

use e2e::footage::{Container, Rate, Recipe, cached};
use e2e::harness::stills::thumb;
use e2e::harness::{Camera, START, Search, Setup, event, wait};
use serde_json::{Value, json};

use crate::fixtures::{check_picture, first_minute, span};

#[tokio::test]
async fn what_is_no_media_fails_with_a_reason_and_is_tried_again_for_a_later_event() {
    let stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    let window = span(&minute);
    std::fs::write(stills.media_path(&camera, "r-1"), "#EXTM3U\nfile:///etc/passwd\n".repeat(400)).expect("a file");
    let event = event::available(&camera, "r-1", window, &stills.media_url(&camera, "r-1"));
    stills.send(&[event]).await.expect(202);
    stills.until_state(&camera, "r-1", window, "failed").await;
    let told = stills.recording(&camera, "r-1", window).await;
    let reason = told["reason"].as_str().expect("a reason");
    assert!(reason.len() > 10 && !reason.contains("passwd") && !reason.contains("/tmp"), "{reason}");
    assert_eq!(stills.list(&Search::new(&camera, window, 10_000)).await, []);
    let answer = stills.get(&thumb(&camera, window, 0)).await;
    assert!([404, 415, 502].contains(&answer.status), "{answer:?}");
    answer.problem(
        answer.status,
        answer.json()["type"].as_str().and_then(|t| t.strip_prefix("/problems/")).expect("a type"),
    );

    stills.record(&camera, "r-1", window, &minute.path).await;
    check_picture(&stills.get(&thumb(&camera, window, 0)).await, (320, 240), START);
}

#[tokio::test]
async fn an_end_that_nobody_told_is_found() {
    let stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    let mut event = event::available(&camera, "r-1", span(&minute), &stills.place(&camera, &minute.path, "r-1"));
    event["data"].as_object_mut().expect("an object").remove("end_timestamp");
    stills.send(&[event]).await.expect(202);
    stills.until_state(&camera, "r-1", span(&minute), "indexed").await;
    let told = stills.recordings(&camera, span(&minute)).await;
    assert_eq!(told["coverage"], json!([{"start_timestamp": START, "end_timestamp": START + 60_000}]));
    assert_eq!(told["recordings"][0]["keyframes"], 30);
}

#[tokio::test]
async fn a_growing_recording_is_shown_as_far_as_it_has_come() {
    let stills = Setup::new().nginx().start().await;
    let rate = Rate { frames: 2, seconds: 1 };
    let container = Container::MpegTs;
    let recipe = Recipe { width: 320, height: 240, rate, gop: 4, duration_ms: 40_000, container, ..Recipe::default() };
    let (camera, footage) = (Camera::first(), cached(&recipe).expect("footage"));
    let bytes = std::fs::read(&footage.path).expect("footage");
    // Recorders write whole packets or less; this is less.
    let half = bytes.len() / 2 + 77;
    let path = stills.media_path(&camera, "r-1");
    std::fs::write(&path, &bytes[..half]).expect("a file");
    let window = (START, START + 60_000);
    let growing = || {
        let mut event = event::available(&camera, "r-1", window, &stills.media_url(&camera, "r-1"));
        event["data"]["growing"] = true.into();
        event["data"].as_object_mut().expect("an object").remove("end_timestamp");
        event
    };
    stills.send(&[growing()]).await.expect(202);
    stills.until_state(&camera, "r-1", window, "growing").await;
    let end = |told: &Value| told["coverage"][0]["end_timestamp"].as_i64().unwrap_or_default();
    let so_far = end(&stills.recordings(&camera, window).await);
    assert!((START + 10_000..START + 30_000).contains(&so_far), "{}", so_far - START);
    check_picture(&stills.get(&thumb(&camera, window, 4_000)).await, (320, 240), START + 4_000);
    let beyond = stills.get(&thumb(&camera, window, so_far + 3_000 - START)).await;
    assert!([404, 503].contains(&beyond.status), "{beyond:?}");
    let n_listed = stills.list(&Search::new(&camera, window, 1000)).await.len();

    std::fs::write(&path, &bytes).expect("a file");
    let mut last = growing();
    last["data"]["growing"] = false.into();
    stills.send(&[last]).await.expect(202);
    stills.until_state(&camera, "r-1", window, "indexed").await;
    assert_eq!(end(&stills.recordings(&camera, window).await), START + 40_000);
    let keyframe = ((so_far + 3_000 - START + 1_000) / 2_000 * 2_000).min(38_000);
    // That nothing was there may be remembered for seconds.
    let picture = wait::some("what was recorded since", async || {
        let answer = stills.get(&thumb(&camera, window, so_far + 3_000 - START)).await;
        (answer.status == 200).then_some(answer)
    });
    check_picture(&picture.await, (320, 240), START + keyframe);
    assert!(stills.list(&Search::new(&camera, window, 1000)).await.len() > n_listed);
}

#[tokio::test]
async fn media_that_is_gone_leaves_what_was_stored() {
    let stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let stored = thumb(&camera, span(&minute), 20_000);
    check_picture(&stills.get(&stored).await, (320, 240), START + 20_000);
    std::fs::remove_file(stills.media_path(&camera, "r-1")).expect("the media");
    let missing = stills.get(&thumb(&camera, span(&minute), 40_000)).await;
    missing.problem(404, "media-gone");
    stills.until_state(&camera, "r-1", span(&minute), "gone").await;
    check_picture(&stills.get(&stored).await, (320, 240), START + 20_000);
}

#[tokio::test]
async fn devices_and_their_coverage_are_told() {
    let stills = Setup::new().start().await;
    let minute = first_minute();
    let (first, second) = (Camera::first(), Camera::second());
    stills.record(&first, "a", (START, START + 60_000), &minute.path).await;
    stills.record(&first, "b", (START + 60_500, START + 120_000), &minute.path).await;
    stills.record(&first, "c", (START + 200_000, START + 260_000), &minute.path).await;
    stills.record(&second, "d", (START + 7_000, START + 67_000), &minute.path).await;

    let told = stills.get(&format!("/v1/devices?user_id={}", first.user)).await.expect(200).json();
    let text = told.to_string();
    for part in [&first.device, &second.device, &START.to_string(), &(START + 260_000).to_string()] {
        assert!(text.contains(part.as_str()), "{part} in {text}");
    }
    let told = stills.recordings(&first, (START - 1000, START + 600_000)).await;
    let span = |from: i64, to: i64| json!({"start_timestamp": START + from, "end_timestamp": START + to});
    assert_eq!(told["coverage"], json!([span(0, 120_000), span(200_000, 260_000)]));
    let ids: Vec<&Value> = told["recordings"].as_array().expect("a list").iter().map(|r| &r["recording_id"]).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert!(
        told["recordings"].as_array().expect("a list").iter().all(|r| r["state"] == "indexed" && r["keyframes"] == 30)
    );

    let target = |page: i64| {
        format!(
            "/v1/recordings?user_id={}&device_id={}&start_timestamp={START}&end_timestamp={}&page={page}&page_size=2",
            first.user,
            first.device,
            START + 600_000
        )
    };
    let sizes = [1, 2, 3].map(|page| {
        let target = target(page);
        let stills = &stills;
        async move { stills.get(&target).await.expect(200) }
    });
    let [one, two, three] = sizes;
    let n = |answer: e2e::harness::Answer| {
        assert_eq!(answer.header("x-total-count"), "3");
        answer.json()["recordings"].as_array().map_or(0, Vec::len)
    };
    assert_eq!([n(one.await), n(two.await), n(three.await)], [2, 1, 0]);
}

#[tokio::test]
async fn activity_has_a_number_for_every_bucket() {
    let stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let target = format!(
        "/v1/recordings?user_id={}&device_id={}&start_timestamp={}&end_timestamp={}&activity=10s",
        camera.user,
        camera.device,
        START - 60_000,
        START + 120_000
    );
    let told = stills.get(&target).await.expect(200).json();
    let values = told["activity"]["values"].as_array().expect("numbers").clone();
    assert!((18..=19).contains(&values.len()), "{told}");
    assert!(values[..6].iter().chain(&values[12..18]).all(Value::is_null), "{told}");
    assert!(values[6..12].iter().all(|value| value.as_f64().is_some_and(|value| value > 0.0)), "{told}");
}

#[tokio::test]
async fn metrics_count_what_was_done() {
    let stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    stills.get(&thumb(&camera, span(&minute), 0)).await.expect(200);
    stills.get(&thumb(&camera, span(&minute), 60_001)).await.expect(422);
    let metrics = stills.metrics().await;
    assert_eq!(metrics.sum("stills_scans_total", &[("outcome", "ok")]), 1.0);
    assert_eq!(metrics.sum("stills_renders_total", &[("class", "interactive"), ("outcome", "ok")]), 1.0);
    assert_eq!(metrics.sum("stills_http_requests_total", &[("route", "thumb"), ("status", "200")]), 1.0);
    assert_eq!(metrics.sum("stills_http_requests_total", &[("route", "thumb"), ("status", "422")]), 1.0);
    assert_eq!(metrics.sum("stills_events_total", &[]), 1.0);
}
