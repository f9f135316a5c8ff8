//! Exact frames through everything: which recording answers, which frame, how many decodes it takes.

use stills_indexer::catalog::Missing;
use stills_indexer::decode::Class;
use stills_indexer::thumbs::ThumbError;
use stills_model::fault::FaultKind;
use stills_model::time::Timestamp;

use crate::harness::{Site, TIMELINE, at, id, make, rendition, tone};

/// Ten seconds at 10 frames a second, a keyframe each second; each frame has a tone of its own, 2 brighter than the
/// one before.
const GREY: &str = "-f lavfi -i color=black:size=160x120:rate=10:duration=10,geq=lum=16+2*N:cb=128:cr=128 \
    -c:v libx264 -preset ultrafast -qp 4 -pix_fmt yuv420p -bf 2 -g 10 -color_range tv";

/// The full-range tone of frame `n`.
fn tone_of(n: i64) -> u8 {
    u8::try_from((2 * n * 255 + 109) / 219).expect("a byte")
}

async fn ask(site: &Site, instants: Vec<Timestamp>) -> Vec<Result<(i64, u8), ThumbError>> {
    let pictures = site.engine.thumbs.exact(TIMELINE, instants, rendition(), Class::Interactive).await;
    pictures
        .into_iter()
        .map(|picture| picture.map(|picture| (picture.timestamp.since_ms(at(0)), tone(&picture.body))))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn instants_get_their_nearest_frame_and_share_decodes() {
    let site = Site::start("").await;
    make(&site.path("a.mp4"), GREY);
    site.record(1, 0, "a.mp4").await;
    let asked = [3449, 3450, 0, 49, 50, 9999, 3000, 3999, 9900, 7777];
    let expected = [34, 35, 0, 0, 1, 99, 30, 40, 99, 78];
    let answers = ask(&site, asked.map(at).to_vec()).await;
    for ((asked, n), answer) in asked.into_iter().zip(expected).zip(answers) {
        let (instant, tone) = answer.expect("a frame");
        assert_eq!(instant, n * 100, "asked for {asked}");
        assert!(tone.abs_diff(tone_of(n)) <= 1, "asked for {asked}: {tone} is not frame {n}'s {}", tone_of(n));
    }
    // From the keyframes at 0, 3, 7 and 9 seconds.
    assert_eq!(site.metric("stills_renders_total{class=\"exact\",outcome=\"ok\"}"), 4);
    site.engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_covering_recording_answers_and_nothing_else() {
    let site = Site::start("").await;
    make(&site.path("a.mp4"), GREY);
    site.record(1, 0, "a.mp4").await;
    // Half a second later the next one begins: a seam. An hour later another.
    site.record(2, 10_500, "a.mp4").await;
    site.record(3, 3_600_000, "a.mp4").await;
    let instants: Vec<_> = [10_100, 10_249, 10_250, 10_400, 12_345, 60_000, 3_600_000].map(at).to_vec();
    let answers = ask(&site, instants).await;
    let instants: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok().map(|(instant, _)| *instant)).collect();
    let expected = [Some(9900), Some(9900), Some(10_500), Some(10_500), Some(12_300), None, Some(3_600_000)];
    assert_eq!(instants, expected);
    assert!(matches!(&answers[5], Err(ThumbError::Missing(Missing::Gap { .. }))), "{:?}", answers[5]);
    site.engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_is_each_instants_own() {
    let site = Site::start("exact_frames_max = 5").await;
    make(&site.path("a.mp4"), GREY);
    site.record(1, 0, "a.mp4").await;
    let answers = ask(&site, vec![at(900), at(1200), at(300)]).await;
    assert!(matches!(&answers[0], Err(ThumbError::Fault(fault)) if fault.kind == FaultKind::TooLarge), "{answers:?}");
    assert_eq!((answers[1].as_ref().ok().map(|a| a.0), answers[2].as_ref().ok().map(|a| a.0)), (Some(1200), Some(300)));
    std::fs::remove_file(site.path("a.mp4")).expect("removed");
    let answers = ask(&site, vec![at(300)]).await;
    assert!(matches!(&answers[0], Err(ThumbError::Fault(fault)) if fault.kind == FaultKind::Gone), "{answers:?}");
    let poster = site.engine.thumbs.poster(TIMELINE, id(9), rendition(), Class::Interactive).await;
    assert!(matches!(poster, Err(ThumbError::Missing(Missing::NotRecorded))));
    site.engine.stop().await;
}
