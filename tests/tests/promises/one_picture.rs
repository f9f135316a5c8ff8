//! The same picture is rendered once, whoever asks for it, in whatever window and by whatever URL.

use std::collections::BTreeMap;

use e2e::harness::stills::{listed, thumb};
use e2e::harness::{Camera, DEVICE, OTHER_USER, START, Search, Setup, USER, event, token, wait};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::fixtures::{check_picture, first_minute, span};

const THIRD_USER: &str = "627d8ca8297a3d00019e2abd";

#[tokio::test]
async fn every_window_shows_the_one_picture() {
    let stills = Setup::new().nginx().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let mut etags = BTreeMap::new();
    for n in 0..40 {
        // Instants around the keyframe at 20 s, in windows that begin and end anywhere.
        let window = (START - n * 977, START + 30_000 + n * 1_013);
        let instant = START + 20_000 + (n * 49) % 1_999 - 1_000;
        let picture = stills.get(&thumb(&camera, window, instant - window.0)).await;
        check_picture(&picture, (320, 240), START + 20_000);
        etags.insert(picture.header("etag").to_owned(), picture.body);
    }
    assert_eq!(etags.len(), 1, "{:?}", etags.keys());
    let (etag, _) = etags.first_key_value().expect("an entity tag");
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 18, "a strong entity tag: {etag}");
    assert_eq!(stills.renders().await, 1.0);

    // Another size is another picture.
    let small = stills.get(&thumb(&camera, span(&minute), 20_000).replace("w320", "w160")).await;
    check_picture(&small, (160, 240), START + 20_000);
    assert_ne!(small.header("etag"), etag);
    assert_eq!(stills.renders().await, 2.0);
}

#[tokio::test]
async fn a_hundred_at_once_wait_for_one_render() {
    let stills = Setup::new().nginx().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    for (offset, is_direct) in [(10_000, false), (30_000, true)] {
        let before = stills.renders().await;
        let target = thumb(&camera, span(&minute), offset);
        let mut asked = JoinSet::new();
        for _ in 0..100 {
            let ask =
                if is_direct { stills.ask_origin(Method::GET, &target) } else { stills.ask(Method::GET, &target) };
            asked.spawn(ask.bearer(stills.owner()).send());
        }
        for picture in asked.join_all().await {
            check_picture(&picture, (320, 240), START + offset);
        }
        assert_eq!(stills.renders().await - before, 1.0, "{target}");
    }
}

#[tokio::test]
async fn shared_urls_are_the_same_in_every_window() {
    let stills = Setup::new().nginx().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let day = START / 86_400_000 * 86_400_000;
    let prefix = format!("/{}/{}/{day}/{}/1/false/thumb-", camera.user, camera.device, day + 86_400_000);
    let mut urls: BTreeMap<i64, String> = BTreeMap::new();
    for n in 0..50 {
        let start = START + n * 311;
        let search = Search::new(&camera, (start, start + 40_000), 1_000 + n * 37).with("urls=shared");
        for entry in stills.list(&search).await {
            // The nearest of a keyframe every 2 s; of two equally near the later; the last one is at 58 s.
            let instant = start + entry.timestamp - START;
            let keyframe = START + ((instant + 1_000) / 2_000 * 2_000).min(58_000);
            let url = urls.entry(keyframe).or_insert_with(|| entry.target.clone());
            assert_eq!(*url, entry.target, "one picture, two URLs");
        }
    }
    assert!(urls.len() > 20, "{} pictures", urls.len());
    for (keyframe, url) in urls {
        let (path, version) = url.split_once("?v=").expect("a version");
        assert_eq!(path, format!("{prefix}{}-w320-h240.jpg", keyframe - day));
        let picture = stills.get(&url).await;
        check_picture(&picture, (320, 240), keyframe);
        assert!(picture.header("etag").trim_matches('"').starts_with(version), "{url}");
        assert_eq!(picture.header("cache-control"), "private, max-age=86400, immutable", "{url}");
    }
}

#[tokio::test]
async fn anchors_are_there_before_anyone_asks() {
    let stills = Setup::new().set("prerender.interval", "\"10s\"").start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    // 0, 10, … 50 s and, for 60 s, the last keyframe at 58 s.
    wait::until("the anchors are rendered", async || stills.renders().await == 7.0).await;

    let unaligned = (START + 3_217, START + 59_000);
    let search = Search::new(&camera, unaligned, 20_000);
    let snapped = stills.list(&search.clone().with("snap=anchors")).await;
    assert_eq!(snapped.iter().map(|entry| entry.timestamp).collect::<Vec<_>>(), [0, 20_000, 40_000]);
    // 3.217 s is nearest to the anchor of 0 s, which is not in the window: the nearest one in it is that of 10 s.
    for (entry, anchor) in snapped.iter().zip([10_000, 20_000, 40_000]) {
        check_picture(&stills.get(&entry.target).await, (320, 240), START + anchor);
    }
    let shared = stills.list(&search.clone().with("snap=anchors&urls=shared")).await;
    for (entry, anchor) in shared.iter().zip([10_000, 20_000, 40_000]) {
        check_picture(&stills.get(&entry.target).await, (320, 240), START + anchor);
    }
    assert_eq!(stills.renders().await, 7.0, "rendered although there were anchors");

    // Finer than twice the interval, the nearest keyframe is meant.
    let fine = stills.list(&Search::new(&camera, unaligned, 19_000).with("snap=anchors")).await;
    check_picture(&stills.get(&fine[0].target).await, (320, 240), START + 4_000);
    assert!(stills.renders().await > 7.0);
}

#[tokio::test]
async fn every_keyframe_can_be_rendered_ahead_in_several_sizes() {
    let setup = Setup::new().set("prerender.interval", "\"every-keyframe\"");
    let stills = setup.set("prerender.renditions", "[\"320x240\", \"160x120\"]").start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    // One render a keyframe gives both sizes.
    wait::until("all are rendered", async || stills.renders().await == 30.0).await;
    for second in 0..60 {
        let target = thumb(&camera, span(&minute), second * 1000);
        stills.get(&target).await.expect(200);
        stills.get(&target.replace("w320-h240", "w160-h120")).await.expect(200);
    }
    assert_eq!(stills.renders().await, 30.0);
}

/// `all`, `viewed` and `none`, for all users and for one.
#[tokio::test]
async fn who_has_pictures_made_ahead_is_configured() {
    let viewer = Camera::of(OTHER_USER, DEVICE);
    let stills = Setup::new()
        .set("prerender.interval", "\"10s\"")
        .set("prerender.policy", "\"none\"")
        .set(&format!("prerender.users.{OTHER_USER}"), "\"viewed\"")
        .set(&format!("prerender.users.{THIRD_USER}"), "\"all\"")
        .start()
        .await;
    let minute = first_minute();
    let users = json!({"user_id": [USER, OTHER_USER, THIRD_USER]});
    let everyone = token::hs256(&token::claims_with("recordings:write thumbnails:read", &users));
    let third = Camera::of(THIRD_USER, DEVICE);
    for camera in [&Camera::first(), &viewer, &third] {
        let url = stills.place(camera, &minute.path, "r-1");
        let event = event::available(camera, "r-1", span(&minute), &url);
        stills.send_as(&everyone, &[event]).await.expect(202);
    }
    wait::until("one user's are rendered", async || stills.renders().await == 7.0).await;
    wait::until("at rest", async || stills.metrics().await.sum("stills_pipeline_backlog", &[]) == 0.0).await;
    assert_eq!(stills.renders().await, 7.0, "one user's, and nobody else's");
    for (camera, n_rendered) in [(&Camera::first(), 7.0), (&viewer, 14.0)] {
        let listing = stills.get_as(&everyone, &Search::new(camera, span(&minute), 10_000).target()).await;
        assert_eq!(listed(&listing).len(), 7);
        wait::until("what is viewed is rendered", async || stills.renders().await == n_rendered).await;
        wait::until("at rest", async || stills.metrics().await.sum("stills_pipeline_backlog", &[]) == 0.0).await;
        assert_eq!(stills.renders().await, n_rendered);
    }
}

#[tokio::test]
async fn what_is_listed_is_rendered_before_it_is_fetched() {
    let stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let entries = stills.list(&Search::new(&camera, span(&minute), 10_000)).await;
    wait::until("the listed ones are rendered", async || stills.renders().await == 7.0).await;
    for entry in entries {
        stills.get(&entry.target).await.expect(200);
    }
    assert_eq!(stills.renders().await, 7.0);
}
