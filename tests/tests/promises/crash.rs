//! What was acknowledged is kept, whatever happens to the process; what is derived comes back.

use e2e::harness::stills::thumb;
use e2e::harness::{Camera, START, Search, Setup, event};
use serde_json::Value;

use crate::fixtures::{check_picture, first_minute, hour, span};

#[tokio::test]
async fn killed_straight_after_the_answer() {
    let mut stills = Setup::new().start().await;
    let minute = first_minute();
    for round in 0..5 {
        let cameras: Vec<Camera> = (0..20).map(|n| Camera::numbered(round * 100 + n)).collect();
        let events: Vec<Value> = cameras
            .iter()
            .map(|camera| event::available(camera, "r-1", span(&minute), &stills.place(camera, &minute.path, "r-1")))
            .collect();
        stills.send(&events).await.expect(202);
        stills.kill9().await;
        stills.start_again().await;
        for camera in &cameras {
            stills.until_state(camera, "r-1", span(&minute), "indexed").await;
            let entries = stills.list(&Search::new(camera, span(&minute), 20_000)).await;
            assert_eq!(entries.len(), 4, "round {round}");
            let picture = stills.get(&entries[1].target).await;
            check_picture(&picture, (320, 240), START + 20_000);
        }
    }
}

#[tokio::test]
async fn killed_after_a_delete() {
    let mut stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let target = thumb(&camera, span(&minute), 20_000);
    stills.get(&target).await.expect(200);
    stills.send(&[event::deleted(&camera, "r-1")]).await.expect(202);
    stills.kill9().await;
    stills.start_again().await;
    stills.get(&target).await.problem(404, "deleted");
    assert_eq!(stills.list(&Search::new(&camera, span(&minute), 20_000)).await, []);
}

#[tokio::test]
async fn killed_while_it_renders_a_picture_is_whole_or_absent() {
    let mut stills = Setup::new().set("prerender.interval", "\"every-keyframe\"").start().await;
    let (camera, hour) = (Camera::first(), hour());
    stills.record(&camera, "r-1", span(&hour), &hour.path).await;
    for _ in 0..4 {
        let before = stills.renders().await;
        e2e::harness::wait::until("some more renders", async || stills.renders().await >= before + 5.0).await;
        stills.kill9().await;
        stills.start_again().await;
    }
    for second in (0..3600).step_by(100) {
        let picture = stills.get(&thumb(&camera, span(&hour), second * 1000)).await;
        check_picture(&picture, (320, 240), START + second * 1000);
    }
}

#[tokio::test]
async fn duplicates_are_known_after_a_restart() {
    let mut stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    let event = event::available(&camera, "r-1", span(&minute), &stills.place(&camera, &minute.path, "r-1"));
    stills.send(std::slice::from_ref(&event)).await.expect(202);
    stills.kill9().await;
    stills.start_again().await;
    assert_eq!(stills.send(&[event]).await.expect(202).json()["duplicates"], 1);
}

/// The catalog is gone, or everything derived: it is made again from the journal, without reading media.
async fn check_rebuild(lost: &[&str], expect_stored: bool) {
    let mut stills = Setup::new().nginx().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    let (window, other) = (span(&minute), (START + 600_000, START + 660_000));
    stills.record(&camera, "r-1", window, &minute.path).await;
    stills.record(&camera, "r-2", other, &minute.path).await;
    stills.send(&[event::deleted(&camera, "r-2")]).await.expect(202);
    let stored = thumb(&camera, window, 20_000);
    let etag = stills.get(&stored).await.expect(200).header("etag").to_owned();
    stills.origin().stop().await;
    for folder in lost {
        std::fs::remove_dir_all(stills.home().data().join(folder)).expect("a folder of the server");
    }
    let media = stills.media_path(&camera, "r-1");
    let away = media.with_extension("away");
    std::fs::rename(&media, &away).expect("the media");
    stills.start_again().await;

    assert_eq!(stills.list(&Search::new(&camera, window, 20_000)).await.len(), 4, "without {lost:?}");
    assert_eq!(stills.list(&Search::new(&camera, other, 20_000)).await, []);
    assert_eq!(stills.metrics().await.sum("stills_scans_total", &[]), 0.0);
    let direct = stills.ask_origin(reqwest::Method::GET, &stored).bearer(stills.owner()).send().await;
    if expect_stored {
        check_picture(&direct, (320, 240), START + 20_000);
        assert_eq!(direct.header("etag"), etag);
        // What the search asked for ahead cannot be rendered, and this needed not to be.
        assert_eq!(stills.metrics().await.sum("stills_renders_total", &[("outcome", "ok")]), 0.0);
    } else {
        std::fs::rename(&away, &media).expect("the media");
        let picture = e2e::harness::wait::some("the media is found again", async || {
            let answer = stills.ask_origin(reqwest::Method::GET, &stored).bearer(stills.owner()).send().await;
            (answer.status == 200).then_some(answer)
        });
        let picture = picture.await;
        check_picture(&picture, (320, 240), START + 20_000);
        assert_eq!(picture.header("etag"), etag);
    }
}

#[tokio::test]
async fn a_lost_catalog_comes_back_from_the_journal() {
    check_rebuild(&["catalog"], true).await;
}

#[tokio::test]
async fn everything_derived_comes_back() {
    check_rebuild(&["catalog", "cache"], false).await;
}

#[tokio::test]
async fn a_lost_cache_costs_renders_and_nothing_else() {
    check_rebuild(&["cache"], false).await;
}

#[tokio::test]
async fn a_lost_cache_index_comes_back_from_the_volumes() {
    let mut stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let stored = thumb(&camera, span(&minute), 20_000);
    stills.get(&stored).await.expect(200);
    stills.origin().stop().await;
    let cache = stills.home().data().join("cache");
    let mut n_removed = 0;
    for entry in std::fs::read_dir(&cache).expect("the cache") {
        let path = entry.expect("an entry").path();
        let is_index = path.join("db").exists() || path.file_name().is_some_and(|name| name == "index");
        if is_index {
            std::fs::remove_dir_all(path).expect("the index");
            n_removed += 1;
        }
    }
    assert_eq!(n_removed, 1, "one index");
    stills.start_again().await;
    check_picture(&stills.get(&stored).await, (320, 240), START + 20_000);
    assert_eq!(stills.renders().await, 0.0);
}
