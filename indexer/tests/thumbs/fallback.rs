//! Keyframes that do not stand alone, whatever their container says.

use stills_indexer::decode::Class;
use stills_indexer::thumbs::ThumbError;
use stills_model::fault::FaultKind;

use crate::harness::{Site, TIMELINE, at, make, rendition, tone};

/// Six seconds at 10 frames a second, each frame with a tone of its own; two keyframes.
const GREY: &str = "-f lavfi -i color=black:size=160x120:rate=10:duration=6,geq=lum=16+3*N:cb=128:cr=128 \
    -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -b:v 2M -g 30 -color_range tv";

/// Flags the block of the frame at `n` tenths of a second as a keyframe, and has nothing but blocks tell keyframes.
fn flag(file: &mut [u8], n: i16) {
    // A simple block (0xa3, its length) of track 1: its time against its cluster's, then flags. The first cluster, whose
    // time is 0, holds the first three seconds; in the next one the same bytes are another frame's. The length's first byte tells how many bytes it takes, so that coded pictures do not look like blocks.
    let [high, low] = (n * 100).to_be_bytes();
    let is_block = |place: usize| {
        let length_begins = |width: usize| place.checked_sub(width).and_then(|at| file.get(at).map(|byte| (at, *byte)));
        (1..=4u32).any(|width| {
            length_begins(width as usize)
                .is_some_and(|(at, byte)| byte.leading_zeros() + 1 == width && at > 0 && file[at - 1] == 0xa3)
        })
    };
    let blocks: Vec<usize> = file
        .windows(4)
        .enumerate()
        .filter(|(place, bytes)| **bytes == [0x81, high, low, 0x00] && is_block(*place))
        .map(|(place, _)| place)
        .collect();
    assert!(!blocks.is_empty(), "the block of frame {n}");
    file[blocks[0] + 3] = 0x80;
}

async fn shown(site: &Site, ms: i64) -> Result<(i64, u8), ThumbError> {
    let located = site.engine.thumbs.locate(TIMELINE, at(ms)).await?;
    let picture = site.engine.thumbs.picture(&located, rendition(), Class::Interactive).await?;
    Ok((located.at_ms, tone(&picture.body)))
}

fn fallbacks(site: &Site, outcome: &str) -> u64 {
    site.metric(&format!("stills_render_fallbacks_total{{outcome=\"{outcome}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_flagged_wrongly_is_decoded_from_the_keyframe_before() {
    let site = Site::start("").await;
    make(&site.path("a.mkv"), GREY);
    let mut file = std::fs::read(site.path("a.mkv")).expect("media");
    flag(&mut file, 12);
    std::fs::write(site.path("a.mkv"), &file).expect("media");
    site.record(1, 0, "a.mkv").await;
    let (at_ms, tone) = shown(&site, 1190).await.expect("a picture");
    assert_eq!(at_ms, 1200, "the scan believes the flag");
    // 36 of the 219 steps from black to white.
    assert!(tone.abs_diff(42) <= 2, "{tone} is not frame 12's");
    assert_eq!((fallbacks(&site, "ok"), fallbacks(&site, "damaged")), (1, 0));
    shown(&site, 0).await.expect("a true keyframe");
    assert_eq!(fallbacks(&site, "ok"), 1, "no other needs it");
    site.engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_truly_damaged_stays_a_fault() {
    let site = Site::start("").await;
    make(&site.path("a.mp4"), "-f lavfi -i testsrc2=size=160x120:rate=10:duration=3 -c:v mjpeg -q:v 2");
    site.record(1, 0, "a.mp4").await;
    let mut file = std::fs::read(site.path("a.mp4")).expect("media");
    // The frames of the middle second; the tables stand at the end.
    let third = file.len() / 3;
    file[third..2 * third].fill(0x55);
    std::fs::write(site.path("a.mp4"), &file).expect("media");
    let fault = shown(&site, 1500).await.expect_err("nothing to show");
    assert!(matches!(&fault, ThumbError::Fault(fault) if fault.kind == FaultKind::Damaged), "{fault}");
    assert_eq!((fallbacks(&site, "ok"), fallbacks(&site, "damaged")), (0, 1));
    site.engine.stop().await;
}
