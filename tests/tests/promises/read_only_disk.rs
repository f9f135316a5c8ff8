//! A disk that turns read-only, as a file system does that has found a fault in itself: what is there is served, nothing is
//! acknowledged that is not kept, deletes included, and all of it ends by itself when the disk takes writes again.
//!
//! While a program writes, the kernel lets nobody remount its disk read-only by hand, so the running server gets the error
//! of a read-only disk from libfiu; the one that starts finds a real one.

use e2e::harness::faults::Faults;
use e2e::harness::program::Program;
use e2e::harness::stills::{thumb, thumb_sized};
use e2e::harness::tmpfs::Tmpfs;
use e2e::harness::{Camera, START, Search, Setup, Stills, event, wait};

use crate::fixtures::{check_picture, first_minute, span};
use crate::image_fixtures::{GREEN, image, png, put};

const DISK_BYTES: u64 = 48 << 20;

/// The calls by which the server writes.
const WRITES: [&str; 6] = [
    "posix/io/rw/pwrite",
    "posix/io/rw/ftruncate",
    "posix/io/sync/fsync",
    "posix/io/sync/fdatasync",
    "posix/io/dir/rename",
    "posix/io/dir/unlink",
];

/// Read-only file system.
const EROFS: i32 = 30;

async fn check_served(stills: &Stills, size: (u32, u32)) {
    let (camera, window) = (Camera::first(), span(&first_minute()));
    assert_eq!(stills.list(&Search::new(&camera, window, 20_000)).await.len(), 4);
    check_picture(&stills.get(&thumb(&camera, window, 20_000)).await, (320, 240), START + 20_000);
    // Never rendered before.
    check_picture(&stills.get(&thumb_sized(&camera, window, 40_000, size)).await, size, START + 40_000);
}

async fn check_refused(stills: &Stills) {
    let (camera, window) = (Camera::first(), span(&first_minute()));
    let new = event::available(&camera, "refused", window, &stills.media_url(&camera, "r-1"));
    for event in [new, event::deleted(&camera, "r-1"), event::device_deleted(&camera)] {
        let refused = stills.send(&[event]).await;
        refused.problem(503, "unavailable");
        assert!(refused.header("retry-after").parse::<u32>().is_ok(), "{refused:?}");
    }
    put(stills, &image("Show/1/Poster", ""), png(64, 36, GREEN)).await.problem(503, "unavailable");
}

#[tokio::test]
async fn what_is_there_is_served_and_nothing_is_taken_that_would_be_lost() {
    let mut home = Setup::new().set("prerender.interval", "\"2s\"").lay_out();
    let faults = Faults::under(&mut home);
    let mut stills = Stills::start(home, false).await;
    let (camera, footage) = (Camera::first(), first_minute());
    let window = span(&footage);
    stills.record(&camera, "r-1", window, &footage.path).await;
    for round in 0..2 {
        let process = stills.origin().id();
        faults.begin(process, &WRITES.map(|point| (point, 100, EROFS)));
        check_refused(&stills).await;
        wait::until("readiness says so", async || stills.admin("/readyz").await.status == 503).await;
        assert_eq!(stills.admin("/readyz").await.json()["status"], "disk read-only");
        assert_eq!(stills.metrics().await.sum("stills_disk_well", &[]), 0.0);
        check_served(&stills, (300 + round, 200)).await;
        check_refused(&stills).await;
        faults.end(process, &WRITES);
        wait::until("readiness says so", async || stills.admin("/readyz").await.status == 200).await;
        assert!(stills.recording(&camera, "refused", window).await.is_null(), "nothing of it was taken");
        check_served(&stills, (300 + round, 210)).await;
        let id = format!("late-{round}");
        stills.record(&Camera::second(), &id, window, &footage.path).await;
        stills.send(&[event::deleted(&Camera::second(), &id)]).await.expect(202);
        put(&stills, &image("Show/1/Poster", ""), png(64, 36, GREEN)).await.expect(if round == 0 { 201 } else { 204 });
        stills.kill9().await;
        stills.start_again().await;
        check_served(&stills, (300 + round, 220)).await;
        stills.get(&thumb(&Camera::second(), window, 20_000)).await.problem(404, "deleted");
    }
}

#[tokio::test]
async fn a_start_on_it_is_refused_with_a_reason_and_succeeds_later() {
    let home = Setup::new().set("data.free_min", "\"1MiB\"").lay_out();
    let disk = Tmpfs::mount(&home.data(), DISK_BYTES);
    let mut stills = Stills::start(home, false).await;
    let footage = first_minute();
    stills.record(&Camera::first(), "r-1", span(&footage), &footage.path).await;
    stills.origin().stop().await;
    disk.set_read_only(true);
    let mut refused = Program::start("stills-origin", &mut stills.home().server());
    let status = refused.end().await;
    let said = refused.lines().join("\n");
    let data = stills.home().data().display().to_string();
    assert!(!status.success() && said.contains(&data) && said.contains("Read-only file system"), "{status}: {said}");
    disk.set_read_only(false);
    stills.start_again().await;
    check_served(&stills, (300, 200)).await;
    drop(stills);
    drop(disk);
}
