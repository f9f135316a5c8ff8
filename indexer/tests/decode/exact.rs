//! Exact frames through the pool: one decode for many instants, bounded in frames and in time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use stills_indexer::decode::{Class, DecodePool, Frame};
use stills_model::exact::ExactQuery;
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe_index::KeyframeIndex;
use stills_model::rendition::Rendition;

use crate::harness::{self, Counted, Gone, Never, Process, pool, recording, user};

/// The recording (ten seconds at 10 frames a second, a keyframe each second) and its index.
async fn scanned(pool: &DecodePool) -> (Counted, KeyframeIndex) {
    let media = Counted::new(recording());
    let index = pool.scan(user(1), Class::Batch, media.request(), &media).await.expect("an index").index;
    media.reads.store(0, Ordering::Relaxed);
    (media, index)
}

/// The frames at these instants, decoded from this keyframe on.
fn query(media: &Counted, index: &KeyframeIndex, keyframe: usize, instants_ms: &[i64]) -> ExactQuery {
    let keyframe = &index.keyframes[keyframe];
    ExactQuery {
        len: media.file.len() as u64,
        growing: false,
        from_ms: keyframe.at_ms,
        ranges: keyframe.ranges.clone(),
        config: index.configs[usize::from(keyframe.config)].clone(),
        instants_ms: instants_ms.to_vec(),
        frames_max: u32::MAX,
        renditions: vec![Rendition::thumb(320, 240).expect("size")],
    }
}

fn instants(answers: Vec<Result<Frame, Fault>>) -> Vec<Result<i64, FaultKind>> {
    answers.into_iter().map(|answer| answer.map(|frame| frame.at_ms).map_err(|fault| fault.kind)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_between_keyframes_come_from_one_decode() {
    let pool = pool(1).await;
    let (media, index) = scanned(&pool).await;
    let asked = [3410, 3349, 3350, 3000, 3999, 3350];
    let query = query(&media, &index, 3, &asked);
    let answers = pool.exact(user(1), Class::Interactive, query, &media).await.expect("answers");
    let pictures: Vec<_> = answers.iter().map(|answer| answer.as_ref().expect("a frame").pictures[0].clone()).collect();
    assert!(pictures[0] != pictures[1] && pictures[2] == pictures[5] && pictures[0] == pictures[2]);
    assert_eq!(instants(answers), [Ok(3400), Ok(3300), Ok(3400), Ok(3000), Ok(4000), Ok(3400)]);
    assert_eq!(pool.counters().exacts.load(Ordering::Relaxed), 1);
    assert_eq!(pool.counters().forks.load(Ordering::Relaxed), 1, "the scan's worker");
    let reads = media.reads.load(Ordering::Relaxed);
    assert!(reads <= 8, "{reads} reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_bounded_by_the_configuration_and_by_the_query() {
    let config = harness::Config { exact_frames_max: 15, ..harness::config(1, 4, Duration::from_secs(30)) };
    let pool = DecodePool::start(config).await.expect("a pool");
    let (media, index) = scanned(&pool).await;
    let check = async |frames_max: u32, instants_ms: &[i64], expected: &[Result<i64, FaultKind>]| {
        let query = ExactQuery { frames_max, ..query(&media, &index, 0, instants_ms) };
        let answers = pool.exact(user(1), Class::Batch, query, &media).await.expect("answers");
        assert_eq!(instants(answers), expected);
    };
    check(u32::MAX, &[500, 1400, 1500], &[Ok(500), Ok(1400), Err(FaultKind::TooLarge)]).await;
    check(3, &[200, 300], &[Ok(200), Err(FaultKind::TooLarge)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sources_fault_is_the_answer() {
    let pool = pool(1).await;
    let (media, index) = scanned(&pool).await;
    let fault = pool.exact(user(1), Class::Batch, query(&media, &index, 0, &[0]), &Gone).await.expect_err("gone");
    assert_eq!(fault.kind, FaultKind::Gone);
    let answers = pool.exact(user(1), Class::Batch, query(&media, &index, 0, &[0]), &media).await.expect("goes on");
    assert_eq!(instants(answers), [Ok(0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_is_its_own_and_includes_reading() {
    let config = harness::Config {
        exact_deadline: Duration::from_millis(1500),
        ..harness::config(1, 4, Duration::from_secs(30))
    };
    let pool = DecodePool::start(config).await.expect("a pool");
    let (media, index) = scanned(&pool).await;
    let worker = Process::open(harness::workers(&pool)[0]);
    let never = Never::default();
    let query = query(&media, &index, 0, &[0]);
    let fault = pool.exact(user(1), Class::Interactive, query, &never).await.expect_err("late");
    assert_eq!((fault.kind, fault.detail.contains("1500 ms")), (FaultKind::Deadline, true), "{fault}");
    worker.wait_for_end();
}
