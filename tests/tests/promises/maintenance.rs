//! The commands about what is stored: on the server that runs, and on the data of one that does not.

use std::path::PathBuf;
use std::process::Output;

use e2e::harness::stills::thumb;
use e2e::harness::{Camera, START, Search, Setup, Stills, event, wait};

use crate::fixtures::{check_picture, first_minute, span};

/// Runs a command on the configuration of this server.
async fn command(stills: &Stills, arguments: &[&str]) -> (i32, String) {
    let mut command = stills.home().command("stills-indexer", arguments);
    let output: Output = tokio::task::spawn_blocking(move || command.output()).await.expect("a task").expect("output");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().expect("an exit code"), said)
}

async fn check(stills: &Stills, arguments: &[&str], expected: (i32, &str)) {
    let (code, said) = command(stills, arguments).await;
    assert!(code == expected.0 && said.contains(expected.1), "{arguments:?}: {code}, {said}");
}

fn volumes(stills: &Stills) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(stills.home().data().join("cache/volumes")).expect("volumes");
    listed.map(|item| item.expect("a volume").path()).collect()
}

/// A server with a minute whose pictures are stored.
async fn one_minute() -> (Stills, Camera) {
    let stills = Setup::new().set("prerender.interval", "\"10s\"").start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    wait::until("all are rendered", async || stills.renders().await == 7.0).await;
    (stills, camera)
}

#[tokio::test]
async fn a_check_finds_what_is_wrong_and_nothing_else() {
    let (mut stills, camera) = one_minute().await;
    for is_running in [true, false] {
        check(&stills, &["check"], (0, "1 recordings")).await;
        check(&stills, &["check"], (0, "nothing is wrong")).await;
        check(&stills, &["check", "--deleted"], (0, "no byte of a deleted")).await;
        if is_running {
            stills.origin().stop().await;
        }
    }
    let path = volumes(&stills).remove(0);
    let whole = std::fs::read(&path).expect("a volume");
    let mut damaged = whole.clone();
    *damaged.last_mut().expect("a byte") ^= 1;
    std::fs::write(&path, &damaged).expect("damaged");
    check(&stills, &["check"], (1, "1 pictures are damaged")).await;
    std::fs::write(&path, &whole).expect("whole again");

    // Deleted, every byte is off the disk; put back by hand, it is found.
    stills.start_again().await;
    stills.send(&[event::deleted(&camera, "r-1")]).await.expect(202);
    check(&stills, &["check", "--deleted"], (0, "no byte of a deleted")).await;
    stills.origin().stop().await;
    check(&stills, &["check", "--deleted"], (0, "no byte of a deleted")).await;
    std::fs::write(&path, &whole).expect("put back");
    check(&stills, &["check", "--deleted"], (1, "7 pictures of deleted recordings are still stored")).await;
    // Half of it: what is no picture any more is found too.
    let mut half = whole.clone();
    half[32..whole.len() / 2].fill(0);
    std::fs::write(&path, &half).expect("put back");
    check(&stills, &["check", "--deleted"], (1, "hold bytes where nothing is stored")).await;
}

#[tokio::test]
async fn a_rebuild_needs_no_media_and_takes_nothing_away() {
    let (mut stills, camera) = one_minute().await;
    let window = span(&first_minute());
    let target = thumb(&camera, window, 20_000);
    let etag = stills.get(&target).await.expect(200).header("etag").to_owned();
    stills
        .send(&[event::available(&Camera::second(), "r-2", window, &stills.media_url(&camera, "r-1"))])
        .await
        .expect(202);
    stills.until_state(&Camera::second(), "r-2", window, "indexed").await;
    stills.send(&[event::deleted(&Camera::second(), "r-2")]).await.expect(202);
    let media = stills.media_path(&camera, "r-1");
    std::fs::rename(&media, media.with_extension("away")).expect("the media");
    let scans = async |stills: &Stills| stills.metrics().await.sum("stills_scans_total", &[]);
    for is_running in [true, false, true] {
        if is_running && !stills.origin().is_running() {
            stills.start_again().await;
        }
        let n_scans = if is_running { scans(&stills).await } else { 0.0 };
        check(&stills, &["rebuild"], (0, "made anew")).await;
        if !is_running {
            stills.start_again().await;
        }
        assert_eq!(stills.admin("/readyz").await.status, 200);
        let picture = stills.get(&target).await;
        check_picture(&picture, (320, 240), START + 20_000);
        assert_eq!(picture.header("etag"), etag);
        assert_eq!(stills.list(&Search::new(&camera, window, 20_000)).await.len(), 4);
        assert_eq!(stills.list(&Search::new(&Camera::second(), window, 20_000)).await, []);
        assert_eq!(scans(&stills).await, n_scans);
        check(&stills, &["check"], (0, "nothing is wrong")).await;
        stills.origin().stop().await;
    }
}

#[tokio::test]
async fn what_is_asked_while_it_is_rebuilt_is_answered_right_or_not_at_all() {
    let (stills, camera) = one_minute().await;
    let window = span(&first_minute());
    let target = thumb(&camera, window, 20_000);
    let rebuilding = command(&stills, &["rebuild"]);
    let asking = async {
        for _ in 0..200 {
            let picture = stills.get(&target).await;
            if picture.status == 503 {
                picture.problem(503, "unavailable");
            } else {
                check_picture(&picture, (320, 240), START + 20_000);
            }
        }
    };
    let ((code, said), ()) = tokio::join!(rebuilding, asking);
    assert_eq!(code, 0, "{said}");
    check_picture(&stills.get(&target).await, (320, 240), START + 20_000);
    assert_eq!(stills.metrics().await.sum("stills_recoveries_total", &[]), 2.0);
}

#[tokio::test]
async fn failures_are_listed_and_tried_again() {
    let mut stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    check(&stills, &["failures"], (0, "no recording is set aside")).await;
    let repair = |stills: &Stills, id: &str| drop(stills.place(&camera, &minute.path, id));
    for (id, is_running) in [("r-1", true), ("r-2", false)] {
        let garbage = stills.home().write("garbage", b"this is no film".repeat(100));
        let url = stills.place(&camera, &garbage, id);
        stills.send(&[event::available(&camera, id, span(&minute), &url)]).await.expect(202);
        stills.until_state(&camera, id, span(&minute), "failed").await;
        if !is_running {
            stills.origin().stop().await;
        }
        let (code, said) = command(&stills, &["failures"]).await;
        assert_eq!(code, 1);
        assert!(said.lines().count() == 1 && said.contains(id) && said.contains("attempts="), "{said}");
        repair(&stills, id);
        check(&stills, &["failures", "--retry"], (0, "1 recordings are scanned again")).await;
        if !is_running {
            stills.start_again().await;
        }
        stills.until_state(&camera, id, span(&minute), "indexed").await;
        check(&stills, &["failures"], (0, "no recording is set aside")).await;
    }
}
