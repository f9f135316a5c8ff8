//! Every container, every codec, every kind of order and time.

use std::path::Path;

use crate::fixture::{Recording, make, make_from};
use tempfile::TempDir;

const X264: &str = "-c:v libx264 -preset veryfast -qp 16 -pix_fmt yuv420p";
const CLOSED: &str = "-g 25 -bf 3 -x264-params scenecut=0:b-adapt=0:open-gop=0";
const OPEN: &str = "-g 25 -bf 3 -x264-params scenecut=0:b-adapt=0:open-gop=1";
const X265: &str = "-c:v libx265 -preset ultrafast -pix_fmt yuv420p \
    -x265-params log-level=none:qp=16:keyint=25:min-keyint=25:scenecut=0:bframes=3:b-adapt=0:open-gop=1";

fn check(path: &Path) {
    Recording::open(path).check_all();
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// H.264 with `gops` in every container.
fn check_h264(gops: &str) {
    let dir = dir();
    for (name, more) in [
        ("a.mp4", ""),
        ("b.mp4", "-movflags frag_keyframe+empty_moov"),
        ("c.mp4", "-movflags +faststart -video_track_timescale 12800"),
        ("d.mov", ""),
        ("e.ts", ""),
        ("f.mkv", ""),
    ] {
        check(&make(&dir, name, &format!("{X264} {gops} {more}")));
    }
}

#[test]
fn h264_with_closed_gops_in_every_container() {
    check_h264(CLOSED);
}

#[test]
fn h264_with_open_gops_in_every_container() {
    check_h264(OPEN);
}

#[test]
fn hevc_with_open_gops_in_every_container() {
    let dir = dir();
    for (name, more) in
        [("a.mp4", ""), ("b.mp4", "-movflags frag_keyframe+empty_moov -tag:v hvc1"), ("c.ts", ""), ("d.mkv", "")]
    {
        check(&make(&dir, name, &format!("{X265} {more}")));
    }
}

#[test]
fn other_codecs() {
    let dir = dir();
    check(&make(&dir, "mpeg4.mp4", "-c:v mpeg4 -q:v 2 -bf 2 -g 25"));
    check(&make(&dir, "mpeg2.ts", "-c:v mpeg2video -q:v 2 -bf 2 -g 25"));
    check(&make(&dir, "mjpeg.mkv", "-c:v mjpeg -q:v 2"));
    check(&make(&dir, "vp8.mkv", "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 4M -g 25"));
    check(&make(&dir, "vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 4M -g 25"));
    check(&make(&dir, "av1.mp4", "-c:v libaom-av1 -cpu-used 8 -usage realtime -b:v 4M -g 25"));
}

#[test]
fn frames_at_uneven_distances() {
    let dir = dir();
    let uneven = "-vf select='mod(n\\,7)*mod(n\\,5)',setpts=PTS+mod(N\\,3)*0.011/TB -fps_mode vfr";
    for name in ["a.mp4", "b.ts", "c.mkv"] {
        check(&make(&dir, name, &format!("{uneven} {X264} {OPEN} -enc_time_base 1/1000")));
    }
    // A pause of five seconds.
    let pause = "-vf setpts='if(gt(N\\,40)\\,PTS+5/TB\\,PTS)' -fps_mode vfr";
    check(&make(&dir, "pause.mp4", &format!("{pause} {X264} {OPEN}")));
    check(&make(&dir, "pause.ts", &format!("{pause} {X264} {OPEN}")));
}

#[test]
fn times_that_do_not_start_at_zero() {
    let dir = dir();
    check(&make(&dir, "a.ts", &format!("{X264} {OPEN} -output_ts_offset 12345.678")));
    check(&make(&dir, "b.mkv", &format!("{X264} {OPEN} -output_ts_offset 77.7")));
    check(&make(&dir, "c.mp4", &format!("{X264} {OPEN} -output_ts_offset 7.5")));
    // The clock of MPEG-TS starts again after 26.5 hours; this one does so in the middle.
    check(&make(&dir, "wrap.ts", &format!("{X264} {OPEN} -output_ts_offset 95440.5")));
}

#[test]
fn edit_lists_hide_what_they_trim() {
    let dir = dir();
    let whole = make(&dir, "whole.mp4", &format!("{X264} {OPEN}"));
    let closed = make(&dir, "closed.mp4", &format!("{X264} {CLOSED}"));
    for (name, file) in [("open.mp4", whole), ("cut.mp4", closed)] {
        // From the middle of the second stretch on: its keyframe is there and not presented.
        let cut = make_from(&dir, name, &format!("-ss 1.3 -i {} -c copy", file.display()));
        let recording = Recording::open(&cut);
        assert!(recording.instants()[0] < recording.index.keyframes[0].at_ms, "the first keyframe is trimmed");
        check(&cut);
    }
}

#[test]
fn one_frame() {
    let dir = dir();
    for name in ["a.mp4", "b.ts", "c.mkv"] {
        check(&make(&dir, name, &format!("{X264} -frames:v 1")));
    }
}

#[test]
fn gradual_refresh_without_any_keyframe() {
    let dir = dir();
    let refresh = "-x264-params intra-refresh=1:keyint=25:bframes=0:scenecut=0";
    for name in ["a.mp4", "b.ts", "c.mkv"] {
        check(&make(&dir, name, &format!("{X264} {refresh}")));
    }
}

#[test]
fn fields() {
    let dir = dir();
    let interlaced = "-vf tinterlace=interleave_top,fieldorder=tff -flags +ilme+ildct";
    for name in ["a.mp4", "b.ts"] {
        check(&make(&dir, name, &format!("{interlaced} {X264} -g 12 -bf 2 -x264-params tff=1:open-gop=1")));
    }
}
