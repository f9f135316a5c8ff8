//! What is older than `retention.days` goes by itself: from search, from the server, from the disk; nothing else does.

use e2e::harness::stills::thumb;
use e2e::harness::{Camera, Search, Setup, Stills, event, token, wait};
use rustix::process::Signal;

use crate::fixtures::{check_picture, first_minute, is_hit, span};

const DAY: i64 = 86_400_000;

/// Recordings of 40 days ago and of yesterday, in minutes of the usual footage.
async fn two_ages(stills: &Stills) -> [(i64, i64); 2] {
    let footage = first_minute();
    let (start, end) = span(&footage);
    let windows = [40, 1].map(|days| {
        // Not near midnight, so that each lies in one day.
        let day = (token::now_ms() / DAY - days) * DAY;
        (day + DAY / 2, day + DAY / 2 + end - start)
    });
    for (id, window) in ["r-old", "r-new"].into_iter().zip(windows) {
        stills.record(&Camera::first(), id, window, &footage.path).await;
    }
    windows
}

/// How often the bytes of a picture lie in the disk cache.
fn count_on_disk(stills: &Stills, picture: &[u8]) -> usize {
    let volumes = std::fs::read_dir(stills.home().data().join("cache/volumes")).expect("volumes");
    // The end of a JPEG differs from picture to picture more than its head does.
    let tail = &picture[picture.len() / 2..];
    let count = |path: std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(tail.len()).filter(|window| *window == tail).count()
    };
    volumes.map(|volume| count(volume.expect("a volume").path())).sum()
}

async fn n_listed(stills: &Stills, window: (i64, i64)) -> usize {
    stills.list(&Search::new(&Camera::first(), window, 20_000)).await.len()
}

#[tokio::test]
async fn what_is_too_old_goes_when_retention_is_set() {
    let mut stills = Setup::new().nginx().start().await;
    let [old, new] = two_ages(&stills).await;
    let camera = Camera::first();
    let (doomed, kept) = (thumb(&camera, old, 20_000), thumb(&camera, new, 20_000));
    let picture = stills.get(&doomed).await.expect(200);
    let kept_etag = stills.get(&kept).await.expect(200).header("etag").to_owned();
    assert!(is_hit(&stills.get(&kept).await));
    wait::until("both are stored", async || count_on_disk(&stills, &picture.body) >= 2).await;
    let n_same = count_on_disk(&stills, &picture.body);

    stills.home_mut().set("retention.days", "30");
    stills.origin().signal(Signal::HUP);
    wait::until("the old one leaves the listing", async || n_listed(&stills, old).await == 0).await;
    // Both are the same footage: of two copies one stays.
    wait::until("its pictures leave the disk", async || count_on_disk(&stills, &picture.body) == n_same / 2).await;
    let direct = stills.ask_origin(reqwest::Method::GET, &doomed).bearer(stills.owner()).send().await;
    direct.problem(404, "gap");
    assert_eq!(stills.recordings(&camera, old).await["recordings"].as_array().map(Vec::len), Some(0));
    assert_eq!(stills.metrics().await.sum("stills_retired_recordings_total", &[]), 1.0);

    // Nothing of the other one changes: NGINX still has it under the same key.
    let again = stills.get(&kept).await.expect(200);
    assert!(is_hit(&again) && again.header("etag") == kept_etag);
    assert_eq!(n_listed(&stills, new).await, 4);

    // It stays away: through a restart, and when everything derived is made again from the journal.
    stills.origin().stop().await;
    std::fs::remove_dir_all(stills.home().data().join("catalog")).expect("the catalog");
    stills.start_again().await;
    assert_eq!((n_listed(&stills, old).await, n_listed(&stills, new).await), (0, 4));
    assert_eq!(count_on_disk(&stills, &picture.body), n_same / 2);
}

#[tokio::test]
async fn a_crash_in_between_leaves_nothing_behind() {
    let mut stills = Setup::new().set("prerender.interval", "\"10s\"").start().await;
    let [old, new] = two_ages(&stills).await;
    let picture = stills.get(&thumb(&Camera::first(), old, 20_000)).await.expect(200);
    wait::until("both are stored", async || count_on_disk(&stills, &picture.body) >= 2).await;
    let n_same = count_on_disk(&stills, &picture.body);
    stills.home_mut().set("retention.days", "30");
    for _ in 0..3 {
        // Wherever it was.
        stills.origin().signal(Signal::HUP);
        stills.kill9().await;
        stills.start_again().await;
    }
    wait::until("it leaves the listing", async || n_listed(&stills, old).await == 0).await;
    wait::until("and the disk", async || count_on_disk(&stills, &picture.body) == n_same / 2).await;
    check_picture(
        &stills.get(&thumb(&Camera::first(), new, 20_000)).await,
        (320, 240),
        span(&first_minute()).0 + 20_000,
    );
}

#[tokio::test]
async fn a_copy_of_the_journal_made_while_it_runs_is_a_backup() {
    let mut stills = Setup::new().start().await;
    let footage = first_minute();
    let window = span(&footage);
    let cameras: Vec<Camera> = (0..40).map(Camera::numbered).collect();
    let (first, rest) = cameras.split_at(20);
    let announce = |camera: &Camera| {
        let url = stills.place(camera, &footage.path, "r-1");
        event::available(camera, "r-1", window, &url)
    };
    stills.send(&first.iter().map(&announce).collect::<Vec<_>>()).await.expect(202);
    stills.send(&[event::deleted(&first[0], "r-1")]).await.expect(202);
    // More comes while the files are copied.
    let later: Vec<_> = rest.iter().map(&announce).collect();
    let (data, copy) = (stills.home().data(), stills.home().path("copy"));
    let copying = tokio::task::spawn_blocking({
        let copy = copy.clone();
        move || {
            std::fs::create_dir_all(copy.join("journal")).expect("a directory");
            for item in std::fs::read_dir(data.join("journal")).expect("the journal") {
                let path = item.expect("a file").path();
                std::fs::copy(&path, copy.join("journal").join(path.file_name().expect("a name"))).expect("a copy");
            }
        }
    });
    for event in &later {
        stills.send(std::slice::from_ref(event)).await.expect(202);
    }
    copying.await.expect("copied");
    stills.kill9().await;
    // The machine is gone; the copy is all there is.
    stills.home_mut().set("data.dir", &format!("\"{}\"", copy.display()));
    stills.start_again().await;
    for camera in &first[1..] {
        stills.until_state(camera, "r-1", window, "indexed").await;
        assert_eq!(stills.list(&Search::new(camera, window, 20_000)).await.len(), 4);
    }
    assert_eq!(stills.list(&Search::new(&first[0], window, 20_000)).await, []);
}
