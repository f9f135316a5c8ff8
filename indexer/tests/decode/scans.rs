//! Scans through the pool: the worker reads the file through the service, and nothing of it goes wrong unseen.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use stills_indexer::decode::{Class, DecodePool};
use stills_model::fault::FaultKind;
use stills_model::rendition::Rendition;

use crate::harness::{self, Counted, Gone, Never, Process, pool, recording, user};

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_scanned_and_each_keyframe_shown() {
    let pool = pool(2).await;
    let media = Counted::new(recording());
    let index = pool.scan(user(1), Class::Batch, media.request(), &media).await.expect("an index").index;
    assert_eq!(
        index.keyframes.iter().map(|keyframe| keyframe.at_ms).collect::<Vec<_>>(),
        [0, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000]
    );
    assert_eq!(index.duration_ms, 10_000);
    // The head, the tables at the end, perhaps the parameter sets: requests cost more than bytes elsewhere.
    let reads = media.reads.load(Ordering::Relaxed);
    assert!(reads <= 4, "{reads} reads");
    for keyframe in &index.keyframes {
        let slice = |range: &stills_model::keyframe::ByteRange| {
            let start = usize::try_from(range.offset).expect("small");
            media.file.slice(start..start + range.len as usize)
        };
        let pieces: Vec<Bytes> = keyframe.ranges.iter().map(slice).collect();
        let config = &index.configs[usize::from(keyframe.config)];
        let renditions = [Rendition::thumb(320, 240).expect("size")];
        let rendered = pool.render(user(1), Class::Interactive, config, &pieces, &renditions).await.expect("a picture");
        assert_eq!(rendered.pictures.len(), 1);
        // A test chart is neither dark nor flat.
        assert!(rendered.luma.mean > 60 && rendered.luma.deviation > 40, "{:?}", rendered.luma);
    }
    assert_eq!(pool.counters().forks.load(Ordering::Relaxed), 1, "one user, one request at a time, one worker");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_recording_goes_on_from_its_resume_state() {
    let pool = pool(1).await;
    let media = Counted::new(recording());
    let first = pool.scan(user(1), Class::Batch, media.request(), &media).await.expect("an index").index;
    let again = stills_indexer::decode::ScanRequest { growing: true, resume: &first.resume, ..media.request() };
    let second = pool.scan(user(1), Class::Batch, again, &media).await.expect("an index").index;
    assert_eq!(second.keyframes, first.keyframes);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sources_fault_is_the_answer() {
    let pool = pool(1).await;
    let request = Counted::new(recording()).request();
    for _ in 0..2 {
        let fault = pool.scan(user(1), Class::Batch, request, &Gone).await.expect_err("gone");
        assert_eq!((fault.kind, fault.detail.as_str()), (FaultKind::Gone, "the media is no longer there"));
    }
    assert_eq!(pool.counters().forks.load(Ordering::Relaxed), 1, "the worker goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_media_is_named() {
    let pool = pool(1).await;
    let check = async |file: &'static [u8], expected: FaultKind| {
        let media = Counted::new(Bytes::from_static(file));
        let fault = pool.scan(user(1), Class::Batch, media.request(), &media).await.expect_err("a fault");
        assert_eq!(fault.kind, expected, "{fault}");
    };
    check(b"", FaultKind::Damaged).await;
    check(b"#EXTM3U\n#EXT-X-ENDLIST\n", FaultKind::Unsupported).await;
    check(&[0x5a; 100_000], FaultKind::Unsupported).await;
}

/// A scan that waits for bytes which never come, and what ends it.
async fn stuck(pool: &DecodePool, then: impl AsyncFnOnce()) -> FaultKind {
    let media = Never::default();
    let request = Counted::new(recording()).request();
    let scan = pool.scan(user(1), Class::Batch, request, &media);
    let meanwhile = async {
        media.0.notified().await;
        then().await;
    };
    let both = tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(scan, meanwhile) });
    let (result, ()) = both.await.expect("the scan asks for bytes");
    result.expect_err("no bytes came").kind
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_has_a_deadline_that_includes_reading() {
    let config =
        harness::Config { scan_deadline: Duration::from_millis(1500), ..harness::config(1, 4, Duration::from_secs(9)) };
    let pool = DecodePool::start(config).await.expect("a pool");
    let worker = Process::open(harness::workers(&pool)[0]);
    assert_eq!(stuck(&pool, async || {}).await, FaultKind::Deadline);
    worker.wait_for_end();
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_scans_that_wait_leave_a_slot_for_people() {
    let pool = pool(2).await;
    let worker = Process::open(harness::workers(&pool)[0]);
    let footage = harness::Footage::mjpeg();
    let (second, other) = (Never::default(), Counted::new(recording()).request());
    let kind = stuck(&pool, async || {
        let scan = pool.scan(user(2), Class::Batch, other, &second);
        begin!(scan);
        let renditions = [Rendition::thumb(320, 240).expect("size")];
        let shown = pool.render(user(3), Class::Interactive, &footage.config, &footage.pieces, &renditions).await;
        assert!(shown.is_ok());
        assert_eq!(pool.counters().running.load(Ordering::Relaxed), 1);
        assert_eq!(pool.counters().queued.load(Ordering::Relaxed), 1);
        worker.kill();
    })
    .await;
    assert_eq!(kind, FaultKind::Crashed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_place_does_not_hide_a_dead_worker() {
    let pool = pool(1).await;
    let worker = Process::open(harness::workers(&pool)[0]);
    assert_eq!(stuck(&pool, async || worker.kill()).await, FaultKind::Crashed);
}
