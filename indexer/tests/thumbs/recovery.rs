//! Stores that fail while they are used: noticed, opened anew, filled again, while requests are answered.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use stills_indexer::decode::Class;
use stills_indexer::thumbs::{Origin, ThumbError};

use crate::harness::{Site, TIMELINE, at, id, make, rendition};

/// A recording of six seconds with a keyframe each second, the first picture stored.
async fn site() -> Site {
    let site = Site::start("").await;
    let source = "-f lavfi -i testsrc2=size=160x120:rate=10:duration=6";
    make(
        &site.path("a.mp4"),
        &format!("{source} -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 10 -sc_threshold 0"),
    );
    site.record(1, 0, "a.mp4").await;
    assert_eq!(shown(&site).await.expect("shown").1, Origin::Rendered);
    until_stored(&site).await;
    site
}

/// Waits until the picture at the start is stored: it is shown a moment before.
async fn until_stored(site: &Site) {
    let located = site.engine.thumbs.locate(TIMELINE, at(0)).await.expect("located");
    let began = Instant::now();
    while !site.engine.thumbs.not_stored(vec![located.clone()], &[rendition()]).await.is_ok_and(|left| left.is_empty())
    {
        assert!(began.elapsed() < Duration::from_secs(60), "not stored");
        tokio::task::yield_now().await;
    }
}

/// The picture at the start: of which recording, and where it came from.
async fn shown(site: &Site) -> Result<(String, Origin), ThumbError> {
    let located = site.engine.thumbs.locate(TIMELINE, at(0)).await?;
    let picture = site.engine.thumbs.picture(&located, rendition(), Class::Interactive).await?;
    Ok((located.recording.to_string(), picture.origin))
}

/// Asks until the store is whole again. Every answer until then is right or says that there is none now, and none
/// takes longer than its deadlines.
async fn until_recovered(site: &Site, series: &str, n_before: u64) {
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        match shown(site).await {
            Ok((recording, _)) => assert_eq!(recording, id(1).to_string()),
            Err(ThumbError::Rebuilding | ThumbError::Busy | ThumbError::Store(_)) => {}
            other => assert!(other.is_ok(), "{other:?}"),
        }
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
        if site.metric(series) > n_before && !site.engine.is_rebuilding() && shown(site).await.is_ok() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "not recovered");
    }
}

const CATALOG: &str = "stills_recoveries_total{store=\"catalog\"}";
const CACHE: &str = "stills_recoveries_total{store=\"cache\"}";

/// The ladder: without snapshots first, then empty. What it lacks comes from the journal.
#[tokio::test(flavor = "multi_thread")]
async fn a_condemned_catalog_is_opened_anew_and_then_made_anew() {
    let site = site().await;
    for n in 0..3 {
        site.engine.condemn_catalog("asked for by a test");
        until_recovered(&site, CATALOG, n).await;
        assert_eq!(shown(&site).await.expect("shown").0, id(1).to_string());
    }
    // Events go on being taken, and are there.
    let source = "-f lavfi -i testsrc2=size=160x120:rate=10:duration=3";
    make(&site.path("b.mp4"), &format!("{source} -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 10"));
    site.record(2, 100_000, "b.mp4").await;
    assert_eq!(site.engine.thumbs.locate(TIMELINE, at(100_000)).await.expect("located").recording, id(2));
}

/// A call that does not come back keeps the old store open: the new one is made beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_does_not_come_back_is_left_behind() {
    let site = site().await;
    let (release, held) = mpsc::channel::<()>();
    let (began, has_begun) = tokio::sync::oneshot::channel();
    let thumbs = site.engine.thumbs.clone();
    let stuck = tokio::spawn(async move {
        let hang = move |_: &stills_indexer::catalog::Catalog| {
            let _ = began.send(());
            let _ = held.recv();
            Ok(())
        };
        thumbs.ask(hang).await
    });
    has_begun.await.expect("begun");
    site.engine.condemn_catalog("asked for by a test");
    until_recovered(&site, CATALOG, 0).await;
    assert!(matches!(stuck.await.expect("a task"), Err(ThumbError::Busy)), "its caller was told in time");
    assert_eq!(shown(&site).await.expect("shown").0, id(1).to_string());
    drop(release);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condemned_cache_index_is_filled_from_the_volumes() {
    let site = site().await;
    site.engine.condemn_cache_index();
    until_recovered(&site, CACHE, 0).await;
    // Found in the volume again, not rendered again.
    until_stored(&site).await;
    assert_eq!(site.metric("stills_renders_total{class=\"interactive\",outcome=\"ok\"}"), 1);
}
