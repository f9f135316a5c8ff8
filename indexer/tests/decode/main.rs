//! The decoder pool against the real `stills-decoder`: what works, what dies, and what is left afterwards.
//!
//! The program is looked for beside the tests' own directory (`target/debug/stills-decoder`), so the workspace is
//! built before the tests run. Pictures come from FFmpeg's own test source.

/// Polls a future once: it has sent its request when it comes back pending.
macro_rules! begin {
    ($future:ident) => {
        tokio::pin!($future);
        let once = std::future::poll_fn(|cx| std::task::Poll::Ready($future.as_mut().poll(cx).is_pending())).await;
        assert!(once, "it ended at once");
    };
}

mod exact;
mod harness;
mod images;
mod scans;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use harness::{Footage, Process, pool, pool_with, program, user, wait_for};
use stills_indexer::decode::{Class, DecodePool};
use stills_model::fault::{Fault, FaultKind};
use stills_model::rendition::Rendition;

fn renditions() -> [Rendition; 2] {
    [Rendition::thumb(320, 240).expect("size"), Rendition::thumb(64, 48).expect("size")]
}

async fn render(pool: &DecodePool, n: u8, footage: &Footage) -> Result<Vec<Bytes>, Fault> {
    let rendered = pool.render(user(n), Class::Interactive, &footage.config, &footage.pieces, &renditions()).await;
    rendered.map(|rendered| rendered.pictures)
}

#[tokio::test(flavor = "multi_thread")]
async fn keyframes_become_pictures() {
    let pool = pool(2).await;
    for footage in [Footage::mjpeg(), Footage::h264()] {
        let pictures = render(&pool, 1, &footage).await.expect("pictures");
        assert_eq!(pictures.len(), 2);
        assert!(pictures.iter().all(|picture| picture.starts_with(&[0xff, 0xd8, 0xff])));
        assert!(pictures[0].len() > pictures[1].len());
    }
    let counters = pool.counters();
    assert_eq!((counters.renders.load(Ordering::Relaxed), counters.forks.load(Ordering::Relaxed)), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_media_is_a_value_and_the_worker_goes_on() {
    let pool = pool(1).await;
    let good = Footage::mjpeg();
    let bad = Footage { pieces: vec![Bytes::from_static(&[7; 300])], ..Footage::mjpeg() };
    let before = harness::workers(&pool);
    for _ in 0..3 {
        assert_eq!(render(&pool, 1, &bad).await.expect_err("a fault").kind, FaultKind::Damaged);
    }
    render(&pool, 1, &good).await.expect("pictures");
    assert_eq!(harness::workers(&pool), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_serves_one_user() {
    let footage = Footage::mjpeg();
    let pool = pool(2).await;
    render(&pool, 1, &footage).await.expect("pictures");
    let first = harness::workers(&pool);
    assert_eq!(first.len(), 1);
    render(&pool, 2, &footage).await.expect("pictures");
    let both = harness::workers(&pool);
    assert_eq!(both.len(), 2);
    render(&pool, 1, &footage).await.expect("pictures");
    assert_eq!(harness::workers(&pool), both, "each has its own");
    // A third user: the longest idle goes, and that is user 2's.
    let gone = *both.iter().find(|pid| !first.contains(pid)).expect("user 2's");
    let gone = Process::open(gone);
    render(&pool, 3, &footage).await.expect("pictures");
    gone.wait_for_end();
    let now = harness::workers(&pool);
    assert!(now.len() == 2 && now.contains(&first[0]), "{now:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_locked_in() {
    let pool = pool(1).await;
    render(&pool, 1, &Footage::mjpeg()).await.expect("pictures");
    let pid = harness::workers(&pool)[0];
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).expect("a limit");
        line[name.len()..].split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max address space"), ["1073741824", "1073741824"]);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    assert_eq!(limit("Max open files"), ["4", "4"]);
    let cpu_s: u64 = limit("Max cpu time")[0].parse().expect("a soft limit");
    assert!((1..=40).contains(&cpu_s), "{cpu_s}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Threads:\t1"), "{status}");
    // Only those who may look into a process that is not dumpable can see this.
    if let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) {
        let mut open: Vec<_> = open.filter_map(|fd| fd.ok()?.file_name().into_string().ok()).collect();
        open.sort();
        assert_eq!(open, ["0", "1", "2"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_worker_is_killed_at_the_deadline() {
    // Long enough for a good render on a busy machine.
    let pool = pool_with(1, 4, Duration::from_secs(4)).await;
    let footage = Footage::mjpeg();
    let worker = Process::open(harness::workers(&pool)[0]);
    worker.stop();
    assert_eq!(render(&pool, 1, &footage).await.expect_err("late").kind, FaultKind::Deadline);
    worker.wait_for_end();
    render(&pool, 1, &footage).await.expect("the next one is fine");
    assert_eq!(pool.counters().deadline_kills.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_one_requests_fault() {
    let pool = pool(2).await;
    let footage = Footage::mjpeg();
    render(&pool, 1, &footage).await.expect("pictures");
    let worker = Process::open(harness::workers(&pool)[0]);
    worker.stop();
    let doomed = render(&pool, 1, &footage);
    begin!(doomed);
    render(&pool, 2, &footage).await.expect("another user's is fine meanwhile");
    worker.kill();
    // User 2's worker was forked while this one lived: had it inherited the socket, no end would be seen here.
    assert_eq!(doomed.await.expect_err("died").kind, FaultKind::Crashed);
    render(&pool, 1, &footage).await.expect("the next one is fine");
    assert_eq!(pool.counters().crashes.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_died_idle_costs_nobody_anything() {
    let pool = pool(1).await;
    let footage = Footage::mjpeg();
    for _ in 0..3 {
        let worker = Process::open(harness::workers(&pool)[0]);
        worker.kill();
        worker.wait_for_end();
        render(&pool, 1, &footage).await.expect("a fresh worker");
    }
    assert_eq!(pool.counters().crashes.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_program_is_started_again() {
    let pool = pool(2).await;
    let footage = Footage::mjpeg();
    for deaths in 1..=2 {
        render(&pool, 1, &footage).await.expect("pictures");
        let worker = Process::open(harness::workers(&pool)[0]);
        worker.stop();
        let doomed = render(&pool, 1, &footage);
        begin!(doomed);
        let parent = Process::open(harness::parent(&pool));
        parent.kill();
        worker.wait_for_end();
        assert_eq!(doomed.await.expect_err("died").kind, FaultKind::Crashed);
        render(&pool, 1, &footage).await.expect("a new program");
        assert_eq!(pool.counters().starts.load(Ordering::Relaxed), deaths + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_ask_politely_are_the_services_to_answer() {
    let pool = pool(1).await;
    let parent = Process::open(harness::parent(&pool));
    parent.ask_to_end();
    for worker in harness::workers(&pool) {
        Process::open(worker).ask_to_end();
    }
    render(&pool, 1, &Footage::mjpeg()).await.expect("pictures");
    assert_eq!(pool.counters().forks.load(Ordering::Relaxed), 1);
    assert_eq!(pool.counters().starts.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_leaves_nothing_behind() {
    let pool = pool_with(1, 0, Duration::from_secs(30)).await;
    let footage = Footage::mjpeg();
    let worker = Process::open(harness::workers(&pool)[0]);
    worker.stop();
    {
        let given_up = render(&pool, 1, &footage);
        begin!(given_up);
        assert_eq!(pool.counters().running.load(Ordering::Relaxed), 1);
    }
    worker.wait_for_end();
    assert_eq!(pool.counters().running.load(Ordering::Relaxed), 0);
    render(&pool, 1, &footage).await.expect("the slot is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let pool = pool_with(1, 1, Duration::from_secs(30)).await;
    let footage = Footage::mjpeg();
    let worker = Process::open(harness::workers(&pool)[0]);
    worker.stop();
    let (running, waiting) = (render(&pool, 1, &footage), render(&pool, 1, &footage));
    begin!(running);
    begin!(waiting);
    assert_eq!(render(&pool, 1, &footage).await.expect_err("full").kind, FaultKind::Busy);
    let batch = pool.render(user(1), Class::Batch, &footage.config, &footage.pieces, &[]);
    begin!(batch);
    worker.go_on();
    running.await.expect("pictures");
    waiting.await.expect("pictures");
    assert!(batch.await.is_ok_and(|rendered| rendered.pictures.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_does_not_wait_longer_than_a_render_may_take() {
    let pool = pool_with(1, 4, Duration::from_millis(200)).await;
    let worker = Process::open(harness::workers(&pool)[0]);
    worker.stop();
    let never = harness::Never::default();
    let request = stills_indexer::decode::ScanRequest { len: 1 << 20, growing: false, resume: &[] };
    let scan = pool.scan(user(1), Class::Batch, request, &never);
    begin!(scan);
    assert_eq!(render(&pool, 2, &Footage::mjpeg()).await.expect_err("late").kind, FaultKind::Busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_renewed() {
    let pool = pool(1).await;
    let bad = Footage { pieces: vec![Bytes::from_static(&[7; 300])], ..Footage::mjpeg() };
    let first = Process::open(harness::workers(&pool)[0]);
    for _ in 0..201 {
        assert_eq!(render(&pool, 1, &bad).await.expect_err("a fault").kind, FaultKind::Damaged);
    }
    first.wait_for_end();
    assert_eq!(pool.counters().forks.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_ends_with_the_pool() {
    let pool = pool(2).await;
    for n in 1..=2 {
        render(&pool, n, &Footage::mjpeg()).await.expect("pictures");
    }
    let mut all: Vec<Process> = harness::workers(&pool).into_iter().map(Process::open).collect();
    all.push(Process::open(harness::parent(&pool)));
    assert_eq!(all.len(), 3);
    drop(pool);
    all.iter().for_each(Process::wait_for_end);
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_workers_are_reaped() {
    let pool = pool(1).await;
    let pids: Vec<u32> = harness::workers(&pool);
    render(&pool, 1, &Footage::mjpeg()).await.expect("pictures");
    render(&pool, 2, &Footage::mjpeg()).await.expect("pictures");
    wait_for("the first worker's entry to go", || !std::path::Path::new(&format!("/proc/{}", pids[0])).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_serve_is_refused_at_the_start() {
    let check = async |config, expected: &str| {
        let error = DecodePool::start(config).await.expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    let fine = harness::config(1, 1, Duration::from_secs(1));
    check(harness::Config { running_max: 0, ..fine.clone() }, "running_max").await;
    check(harness::Config { deadline: Duration::ZERO, ..fine.clone() }, "longer than zero").await;
    check(harness::Config { exact_deadline: Duration::ZERO, ..fine.clone() }, "longer than zero").await;
    check(harness::Config { exact_frames_max: 0, ..fine.clone() }, "exact_frames_max").await;
    check(harness::Config { program: program().with_file_name("nothing-here"), ..fine.clone() }, "nothing-here").await;
    check(harness::Config { program: "/bin/true".into(), ..fine.clone() }, "/bin/true").await;
    check(harness::Config { memory_max_bytes: 4096, ..fine }, "memory_max").await;
}
