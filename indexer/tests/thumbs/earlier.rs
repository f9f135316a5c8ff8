//! What the render version before this one has stored is shown until it is replaced.

use std::path::Path;

use stills_indexer::cache::{CacheConfig, DiskCache};
use stills_indexer::decode::Class;
use stills_indexer::thumbs::{Origin, Picture, key_of};
use stills_model::rendition::Rendition;
use stills_model::thumb::ThumbKey;

use crate::harness::{Site, TIMELINE, at, make};

async fn picture(site: &Site) -> Picture {
    let located = site.engine.thumbs.locate(TIMELINE, at(0)).await.expect("located");
    site.engine.thumbs.picture(&located, rendition(), Class::Interactive).await.expect("a picture")
}

/// The one that is rendered ahead of time unless something else is asked for.
fn rendition() -> Rendition {
    Rendition::thumb(320, 240).expect("size")
}

const STORED: &[u8] = b"what it looked like";

/// A recording whose first picture is stored as the release before has left it.
async fn site() -> Site {
    let site = Site::start("").await;
    let source = "-f lavfi -i testsrc2=size=160x120:rate=10:duration=2 -c:v libx264 -preset ultrafast";
    make(&site.path("a.mp4"), &format!("{source} -pix_fmt yuv420p -g 10"));
    site.record(1, 0, "a.mp4").await;
    let earlier = key(&site).await.earlier().expect("there was one");
    let store = |data: &Path| {
        let (cache, _) = DiskCache::open(&data.join("cache"), CacheConfig::default()).expect("cache");
        cache.put(&earlier, STORED).expect("put");
        cache.sync().expect("synced");
    };
    site.stopped(store).await
}

async fn key(site: &Site) -> ThumbKey {
    key_of(&site.engine.thumbs.locate(TIMELINE, at(0)).await.expect("located"), rendition())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_the_version_before_is_shown_until_it_is_replaced() {
    let site = site().await;
    let (key, shown) = (key(&site).await, picture(&site).await);
    assert_eq!((&shown.body[..], shown.origin), (STORED, Origin::Earlier));
    assert_eq!(Some(shown.etag), key.earlier().map(|key| key.etag()), "it is another picture than the new one");
    let new = loop {
        let shown = picture(&site).await;
        if shown.origin != Origin::Earlier {
            break shown;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((&new.body[..2], new.etag), (&[0xff, 0xd8][..], key.etag()));
    assert_eq!(site.metric("stills_renders_total{class=\"batch\",outcome=\"ok\"}"), 1, "beside whoever asks");
}

/// Media that is gone shows what is stored of it, by whichever version.
#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_the_version_before_outlives_its_media() {
    let site = site().await;
    std::fs::remove_file(site.path("a.mp4")).expect("removed");
    let located = site.engine.thumbs.locate(TIMELINE, at(0)).await.expect("located");
    site.engine.thumbs.note_gone(TIMELINE, located.recording.clone(), located.media).await.expect("noted");
    for _ in 0..3 {
        assert_eq!(&picture(&site).await.body[..], STORED);
    }
}
