//! A search lists one entry for every instant of its grid that is covered, and whatever it lists is served.

use std::collections::BTreeSet;

use e2e::harness::stills::{listed, thumb};
use e2e::harness::{Camera, START, Search, Setup, USER};

use crate::fixtures::{check_picture, first_minute, hour, span};

/// The keyframe nearest to an instant of [`hour`], which has one every 10 s; of two equally near the later.
fn nearest_of_hour(instant: i64) -> i64 {
    START + ((instant - START + 5_000) / 10_000 * 10_000).min(3_590_000)
}

#[tokio::test]
async fn the_example_of_the_contract() {
    let stills = Setup::new().nginx().start().await;
    let (camera, hour) = (Camera::first(), hour());
    stills.record(&camera, "r-1", span(&hour), &hour.path).await;

    let window = (1_757_371_980_000, 1_757_375_580_000);
    let answer = stills.get(&Search::new(&camera, window, 480_000).target()).await;
    assert_eq!(answer.header("x-total-count"), "8");
    let entries = listed(&answer);
    let offsets: Vec<i64> = entries.iter().map(|entry| entry.timestamp).collect();
    assert_eq!(offsets, [0, 480_000, 960_000, 1_440_000, 1_920_000, 2_400_000, 2_880_000, 3_360_000]);
    for entry in entries {
        assert_eq!(entry.target, thumb(&camera, window, entry.timestamp));
        let picture = stills.get(&entry.target).await;
        check_picture(&picture, (320, 240), nearest_of_hour(window.0 + entry.timestamp));
    }
}

#[tokio::test]
async fn an_end_on_the_grid_is_listed_and_served() {
    let stills = Setup::new().nginx().start().await;
    let (camera, hour) = (Camera::first(), hour());
    stills.record(&camera, "r-1", span(&hour), &hour.path).await;

    let window = span(&hour);
    let entries = stills.list(&Search::new(&camera, window, 600_000)).await;
    assert_eq!(entries.len(), 7);
    let last = entries.last().expect("an entry");
    assert_eq!(last.timestamp, 3_600_000);
    check_picture(&stills.get(&last.target).await, (320, 240), START + 3_590_000);

    // One millisecond less, and the end is not hit any more; one more, and it is not covered.
    assert_eq!(stills.list(&Search::new(&camera, (window.0, window.1 - 1), 600_000)).await.len(), 6);
    assert_eq!(stills.list(&Search::new(&camera, (window.0 + 1, window.1 + 1), 600_000)).await.len(), 6);
}

#[tokio::test]
async fn a_day_by_seconds_is_paged_without_loss_or_repetition() {
    let stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    // What counts is what the recorder declared.
    let day = (START, START + 86_400_000);
    stills.record(&camera, "r-1", day, &minute.path).await;

    let search = Search::new(&camera, day, 1000);
    let mut offsets = Vec::new();
    for page in 1..=87 {
        let answer = stills.get(&search.clone().with(&format!("page={page}")).target()).await;
        assert_eq!(answer.header("x-total-count"), "86401");
        let entries = listed(&answer);
        assert_eq!(entries.len(), if page == 87 { 401 } else { 1000 }, "page {page}");
        assert!(entries.iter().all(|entry| entry.target == thumb(&camera, day, entry.timestamp)));
        offsets.extend(entries.iter().map(|entry| entry.timestamp));
    }
    assert!(offsets.iter().copied().eq((0..=86_400).map(|k| k * 1000)), "{} offsets", offsets.len());
    assert_eq!(stills.list(&search.with("page=88")).await, []);
}

#[tokio::test]
async fn pages_count_what_is_listed_and_are_linked() {
    let stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    // Two minutes with one between them that nobody recorded.
    stills.record(&camera, "a", (START, START + 60_000), &minute.path).await;
    stills.record(&camera, "b", (START + 120_000, START + 180_000), &minute.path).await;

    let search = Search::new(&camera, (START, START + 180_000), 10_000).with("page_size=5");
    let mut offsets = Vec::new();
    let mut target = search.target();
    let mut seen = BTreeSet::new();
    loop {
        assert!(seen.insert(target.clone()), "a circle of links: {target}");
        let answer = stills.get(&target).await;
        assert_eq!(answer.header("x-total-count"), "14");
        offsets.extend(listed(&answer).iter().map(|entry| entry.timestamp / 1000));
        let links = links(answer.header("link"));
        assert!(links.iter().any(|(rel, _)| rel == "first") && links.iter().any(|(rel, _)| rel == "last"));
        assert_eq!(links.iter().any(|(rel, _)| rel == "prev"), seen.len() > 1);
        match links.into_iter().find(|(rel, _)| rel == "next") {
            Some((_, next)) => target = next,
            None => break,
        }
    }
    assert_eq!(seen.len(), 3);
    assert_eq!(offsets, [0, 10, 20, 30, 40, 50, 60, 120, 130, 140, 150, 160, 170, 180]);
}

/// Relation and target of every link of a header.
fn links(header: &str) -> Vec<(String, String)> {
    let link = |part: &str| {
        let (url, rest) = part.trim().strip_prefix('<')?.split_once('>')?;
        let rel = rest.trim_start_matches(';').trim().strip_prefix("rel=\"")?.strip_suffix('"')?;
        Some((rel.to_owned(), url.strip_prefix(e2e::harness::PUBLIC_HOST)?.to_owned()))
    };
    header.split(", ").map(|part| link(part).expect("a link")).collect()
}

#[tokio::test]
async fn what_is_not_indexed_yet_is_told_and_not_listed() {
    let stills = Setup::new().start().await;
    let camera = Camera::first();
    let url = stills.media_url(&camera, "absent.mp4");
    let window = (START, START + 60_000);
    let event = e2e::harness::event::available(&camera, "r-1", window, &url);
    stills.send(&[event]).await.expect(202);
    let answer = stills.get(&Search::new(&camera, window, 10_000).target()).await;
    assert_eq!((listed(&answer).len(), answer.header("stills-pending")), (0, "1"));
    let picture = stills.get(&thumb(&camera, window, 0)).await;
    picture.problem(503, "not-indexed");
    assert!(picture.number("retry-after") > 0);
}

#[tokio::test]
async fn ids_in_either_letter_case_are_one_camera() {
    let stills = Setup::new().nginx().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let shouted = Camera::of(&USER.to_uppercase(), &camera.device.to_uppercase());
    let small = stills.list(&Search::new(&camera, span(&minute), 10_000)).await;
    let large = stills.list(&Search::new(&shouted, span(&minute), 10_000)).await;
    assert_eq!((small.len(), &small), (7, &large));
    let picture = stills.get(&thumb(&shouted, span(&minute), 10_000)).await;
    check_picture(&picture, (320, 240), START + 10_000);
}
