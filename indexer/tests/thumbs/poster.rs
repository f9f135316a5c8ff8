//! Posters: the first keyframe that shows something.

use stills_indexer::decode::Class;
use stills_indexer::thumbs::Origin;

use crate::harness::{Site, TIMELINE, at, id, make, rendition};

/// Twelve seconds with a keyframe each second, of what `filter` makes of a test chart.
fn media(site: &Site, name: &str, filter: &str) {
    let source = "-f lavfi -i testsrc2=size=160x120:rate=10:duration=12";
    let coding = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 10 -sc_threshold 0";
    make(&site.path(name), &format!("{source} -vf {filter} {coding}"));
}

/// Where the poster of recording `n` is, counted from the recording's start.
async fn poster(site: &Site, n: i64, start_ms: i64) -> (i64, Origin) {
    let poster = site.engine.thumbs.poster(TIMELINE, id(n), rendition(), Class::Interactive).await;
    let (picture, located) = poster.expect("a poster");
    assert!(picture.body.starts_with(&[0xff, 0xd8, 0xff]));
    assert_eq!(located.timestamp, at(start_ms + located.at_ms));
    (located.at_ms, picture.origin)
}

fn rendered(site: &Site) -> u64 {
    site.metric("stills_renders_total{class=\"interactive\",outcome=\"ok\"}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_blank_is_passed_over() {
    let site = Site::start("").await;
    let black = "drawbox=color=black:t=fill:enable='lt(t,2.5)'";
    let grey = "drawbox=color=gray:t=fill:enable='lt(t,1)'";
    let all = "drawbox=color=black:t=fill";
    let cases = [
        ("chart.mp4", "null", 0, 1),
        ("black.mp4", black, 3000, 4),
        ("grey.mp4", grey, 1000, 2),
        ("all.mp4", all, 0, 8),
    ];
    for (n, (name, filter, expected, renders)) in (0..).zip(cases) {
        media(&site, name, filter);
        let start_ms = n * 60_000;
        site.record(n, start_ms, name).await;
        let before = rendered(&site);
        assert_eq!(poster(&site, n, start_ms).await.0, expected, "{name}");
        assert_eq!(rendered(&site) - before, renders, "{name}: looks");
        // The choice is remembered, and the picture is kept as any other.
        assert_eq!(poster(&site, n, start_ms).await, (expected, Origin::Hot), "{name}");
        assert_eq!(rendered(&site) - before, renders, "{name}");
        // A thumb at an instant is of that instant, however dark.
        let located = site.engine.thumbs.locate(TIMELINE, at(start_ms)).await.expect("a keyframe");
        assert_eq!(located.at_ms, 0, "{name}");
    }
    site.engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_at_once_waits_for_one_choice() {
    let site = Site::start("").await;
    media(&site, "black.mp4", "drawbox=color=black:t=fill:enable='lt(t,2.5)'");
    site.record(1, 0, "black.mp4").await;
    let ask = || poster(&site, 1, 0);
    let all = tokio::join!(ask(), ask(), ask(), ask());
    assert!([all.0, all.1, all.2, all.3].iter().all(|(at_ms, _)| *at_ms == 3000));
    assert_eq!(rendered(&site), 4);
    site.engine.stop().await;
}
