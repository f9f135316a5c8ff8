//! What is rendered ahead of time at the edge of what is recorded, where the next recording is about to follow.

use std::time::{Duration, Instant};

use stills_indexer::clock::Clock;

use crate::harness::{PATIENCE, Site, at, make};

const RENDERED: &str = "stills_renders_total{class=\"batch\",outcome=\"ok\"}";

/// Twenty seconds with a keyframe every three: at an edge none lies where the anchor does.
async fn record(site: &Site, n: i64) {
    let source = "-f lavfi -i testsrc2=size=160x120:rate=1:duration=20 -c:v libx264 -preset ultrafast";
    make(&site.path("a.mp4"), &format!("{source} -pix_fmt yuv420p -g 3"));
    site.record(n, n * 20_000, "a.mp4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_anchor_at_a_fresh_edge_waits_for_the_recording_that_follows() {
    let clock = Clock::settable(at(21_000));
    let site = Site::start_at(clock.clone(), "", "interval = \"10s\"").await;
    record(&site, 0).await;
    assert_eq!(site.metric(RENDERED), 2, "0 and 10 s; at 20 s the next recording may begin with a keyframe");
    clock.set(at(41_000));
    record(&site, 1).await;
    assert_eq!(site.metric(RENDERED), 4, "20 and 30 s, and nothing of the first recording");
    // Nothing follows.
    clock.set(at(41_000 + 600_001));
    let (began, mut ticks) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
    while site.metric(RENDERED) < 5 {
        assert!(began.elapsed() < PATIENCE, "{} rendered", site.metric(RENDERED));
        ticks.tick().await;
    }
    // Time for more, were there more to come: all that is due was queued together.
    while site.engine.pipeline.backlog() > 0 {
        ticks.tick().await;
    }
    assert_eq!(site.metric(RENDERED), 5, "40 s by the last keyframe; at 20 s the second recording had answered");
}

/// A clip of its own, whose first anchor no keyframe lies at: nothing is expected before it.
#[tokio::test(flavor = "multi_thread")]
async fn the_anchor_at_the_start_of_a_stretch_does_not_wait() {
    let site = Site::start_at(Clock::settable(at(26_000)), "", "interval = \"10s\"").await;
    let source = "-f lavfi -i testsrc2=size=160x120:rate=1:duration=16 -c:v libx264 -preset ultrafast";
    make(&site.path("b.mp4"), &format!("{source} -pix_fmt yuv420p -g 8"));
    site.record(0, 9_500, "b.mp4").await;
    assert_eq!(site.metric(RENDERED), 2, "9.5 s for 10 s, 17.5 s for 20 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn footage_of_long_ago_has_its_edge_rendered_at_once() {
    let site = Site::start_at(Clock::settable(at(86_400_000)), "", "interval = \"10s\"").await;
    record(&site, 0).await;
    assert_eq!(site.metric(RENDERED), 3);
}
