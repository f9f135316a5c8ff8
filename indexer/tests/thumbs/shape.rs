//! The shape that a keyframe is shown in, and the newest keyframe of a device.

use stills_indexer::catalog::Missing;
use stills_indexer::decode::Class;
use stills_indexer::thumbs::ThumbError;

use crate::harness::{Site, TIMELINE, at, id, make};

const CODING: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 10 -sc_threshold 0";

/// Three seconds with a keyframe each second.
fn media(site: &Site, name: &str, size: &str, filter: &str) {
    let source = format!("-f lavfi -i testsrc2=size={size}:rate=10:duration=3");
    make(&site.path(name), &format!("{source} -vf {filter} {CODING}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn shapes_are_those_that_are_seen() {
    let site = Site::start("").await;
    media(&site, "plain.mp4", "160x120", "null");
    // A transport stream tells no size; the bitstream does.
    media(&site, "stream.ts", "160x90", "null");
    media(&site, "portrait.mp4", "120x160", "null");
    media(&site, "anamorphic.ts", "160x120", "setsar=2");
    let turned = format!("-i {} -c copy -metadata:s:v rotate=90", site.path("plain.mp4").display());
    make(&site.path("turned.mp4"), &turned);
    for (n, (name, expected)) in (0..).zip([
        ("plain.mp4", (256, 192)),
        ("stream.ts", (256, 144)),
        ("portrait.mp4", (192, 256)),
        ("anamorphic.ts", (256, 96)),
        ("turned.mp4", (192, 256)),
    ]) {
        site.record(n, n * 60_000, name).await;
        let located = site.engine.thumbs.locate(TIMELINE, at(n * 60_000)).await.expect("a keyframe");
        let shape = site.engine.thumbs.shape(&located, Class::Interactive).await.expect("a shape");
        assert_eq!(shape, expected, "{name}");
        let poster = site.engine.thumbs.poster_shape(TIMELINE, id(n), Class::Interactive).await.expect("a poster");
        assert_eq!((poster.0.timestamp, poster.1), (located.timestamp, expected), "{name}");
    }
    site.engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_is_the_last_keyframe_of_what_is_covered() {
    let site = Site::start("").await;
    let latest = async || site.engine.thumbs.latest(TIMELINE).await;
    assert!(matches!(latest().await, Err(ThumbError::Missing(Missing::NotRecorded))));
    media(&site, "a.mp4", "160x120", "null");
    // A day later, and then between the two: what came last is not what is newest.
    for (n, start_ms, expected) in [(0, 0, 2000), (1, 86_400_000, 86_402_000), (2, 3_600_000, 86_402_000)] {
        site.record(n, start_ms, "a.mp4").await;
        assert_eq!(latest().await.expect("a keyframe").timestamp, at(expected));
    }
    site.engine.stop().await;
}
