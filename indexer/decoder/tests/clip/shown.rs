//! Which frame is shown, at any point of any container that lists no keyframes.

use std::path::Path;

use stills_model::clip::{ClipFound, ClipPoint, ClipShown, KeyframeBytes, Percent};

use crate::fixture::{FRAME_MS, Memory, frames, make, which};

const MPEG2: &str = "-c:v mpeg2video -qscale:v 2 -g 25 -bf 2 -sc_threshold 1000000000";
const X264: &str = "-c:v libx264 -preset veryfast -qp 16 -pix_fmt yuv420p -g 25 -bf 2 -x264-params scenecut=0";

fn found(media: &mut Memory, point: ClipPoint) -> ClipShown {
    match media.find(point) {
        Ok(ClipFound::Shown(shown)) => shown,
        other => unreachable!("{point:?}: {other:?}"),
    }
}

/// Exact frames at, before and between instants, and past the end.
fn check_exact(path: &Path) {
    let (mut media, frames) = (Memory::of(path), frames(path));
    let last = frames.len() - 1;
    let end = i64::try_from(last).expect("few") * FRAME_MS;
    for at_ms in [0, 1, 19, 21, 400, 990, 1000, 1010, 1999, 2021, 2540, end - 21, end, end + 1, 3_600_000] {
        let shown = found(&mut media, ClipPoint::Exact(at_ms));
        let wanted = usize::try_from((at_ms + FRAME_MS / 2) / FRAME_MS).expect("small").min(last);
        let seen = which(&frames, &shown.pictures[0]);
        assert_eq!(seen, wanted, "{} at {at_ms} ms, said to be {}", path.display(), shown.at_ms);
        let told = i64::try_from(wanted).expect("few") * FRAME_MS;
        assert!(shown.at_ms.abs_diff(told) <= 1, "{} at {at_ms} ms: {} ms", path.display(), shown.at_ms);
    }
}

/// Keyframes all along: what is shown is what is told, it is at or before the point, and the next one is behind it.
fn check_keyframes(path: &Path) {
    let (mut media, frames) = (Memory::of(path), frames(path));
    let mut before = None;
    for percent in (0..=100).step_by(4) {
        let shown = found(&mut media, ClipPoint::Keyframe(Percent::whole(percent)));
        let seen = i64::try_from(which(&frames, &shown.pictures[0])).expect("few") * FRAME_MS;
        let what = format!("{} at {percent} %", path.display());
        assert!(shown.at_ms.abs_diff(seen) <= 1, "{what}: {} ms, shows {seen}", shown.at_ms);
        let point = i64::from(percent) * 40;
        assert!(shown.at_ms <= point.max(1) + FRAME_MS && point - shown.at_ms <= 1000 + 2 * FRAME_MS, "{what}: {seen}");
        assert!(before.is_none_or(|before| before <= shown.at_ms), "{what}: {seen}");
        before = Some(shown.at_ms);
        assert!(match &shown.keyframe {
            KeyframeBytes::Ranges(ranges) => !ranges.is_empty(),
            KeyframeBytes::Packets(packets) => !packets.is_empty(),
        });
    }
}

fn check(name: &str, args: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = make(&dir, name, 4, args);
    check_exact(&path);
    check_keyframes(&path);
}

#[test]
fn transport_streams() {
    check("h264.ts", X264);
    check("mpeg2.ts", MPEG2);
}

#[test]
fn fragments_with_a_table_of_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let x264 = "-c:v libx264 -preset veryfast -qp 16 -pix_fmt yuv420p -g 10 -bf 2 -x264-params scenecut=0";
    for (name, flags) in [
        ("mfra.mp4", "frag_keyframe+empty_moov"),
        ("base.mp4", "frag_keyframe+empty_moov+default_base_moof"),
        ("sidx.mp4", "frag_keyframe+empty_moov+default_base_moof+global_sidx+skip_trailer"),
        ("edits.mp4", "frag_keyframe+delay_moov"),
    ] {
        check_keyframes(&make(&dir, name, 4, &format!("{x264} -movflags {flags}")));
    }
}

#[test]
fn program_streams() {
    check("mpeg2.vob", MPEG2);
    check("mpeg1.mpg", "-c:v mpeg1video -qscale:v 2 -g 25 -bf 2 -sc_threshold 1000000000");
}

#[test]
fn material_exchange() {
    check("mpeg2.mxf", MPEG2);
    check("dnxhr.mxf", "-c:v dnxhd -profile:v dnxhr_lb -pix_fmt yuv422p");
}

#[test]
fn flash() {
    check("h264.flv", X264);
}

#[test]
fn interleaved() {
    check(
        "h264.avi",
        "-c:v libx264 -preset veryfast -tune zerolatency -qp 16 -pix_fmt yuv420p -g 25 -x264-params scenecut=0",
    );
    check("mjpeg.avi", "-c:v mjpeg -qscale:v 2 -pix_fmt yuvj420p");
}
