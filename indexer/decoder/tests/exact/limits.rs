//! What an exact frame may cost, and what is said where there is none.

use crate::fixture::{Recording, make};
use stills_model::exact::ExactQuery;
use stills_model::fault::FaultKind;
use stills_model::keyframe::ByteRange;

const LONG: &str = "-c:v libx264 -preset veryfast -qp 16 -pix_fmt yuv420p -g 250 -bf 2";

fn recording(name: &str, args: &str) -> Recording {
    let dir = tempfile::tempdir().expect("a directory");
    Recording::open(&make(&dir, name, args))
}

#[test]
fn frames_are_bounded_and_what_is_within_is_answered() {
    for name in ["a.mp4", "b.ts", "c.mkv"] {
        let mut recording = recording(name, LONG);
        let query = recording.query(&[3000, 400, 1_000_000]);
        let found = recording.ask(&ExactQuery { frames_max: 40, ..query.clone() }).expect("answers");
        let kinds = |answers: &[Result<_, stills_model::fault::Fault>]| {
            answers.iter().map(|answer| answer.as_ref().err().map(|fault| fault.kind)).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&found.answers), [Some(FaultKind::TooLarge), None, Some(FaultKind::TooLarge)]);
        assert_eq!(found.decoded, 40);
        let fault = found.answers[0].as_ref().expect_err("far away");
        assert!(fault.detail.contains("40 frames (decoders.exact_frames_max)"), "{fault}");
        let found = recording.ask(&query).expect("answers");
        assert_eq!(kinds(&found.answers), [None, None, None]);
        assert_eq!(found.decoded, 100, "one decode for all");
    }
}

#[test]
fn only_what_is_needed_is_read_of_media_without_tables() {
    let mut recording = recording("a.ts", "-c:v mpeg2video -b:v 20M -minrate 20M -maxrate 20M -bufsize 4M -g 10 -bf 0");
    let (len, start) = (recording.index.keyframes.len(), recording.index.keyframes[5].at_ms);
    assert!(len >= 9, "{len} keyframes");
    recording.check(&[start + 40]);
    let (read, all) = (recording.media.read, stills_decoder::scan::Media::len(&recording.media));
    assert!(read < all, "{read} of {all} bytes read for a tenth of it");
}

#[test]
fn a_keyframe_that_is_not_there_any_more_is_named() {
    for name in ["a.mp4", "c.mkv"] {
        let mut recording = recording(name, LONG);
        let query = recording.query(&[1000]);
        let ranges = vec![ByteRange { offset: query.ranges[0].offset + 1, len: 9 }];
        let fault = recording.ask(&ExactQuery { ranges, ..query.clone() }).expect_err("moved");
        assert_eq!(fault.kind, FaultKind::Changed, "{fault}");
        let fault = recording.ask(&ExactQuery { ranges: vec![], ..query }).expect_err("nowhere");
        assert_eq!(fault.kind, FaultKind::Changed, "{fault}");
    }
}

#[test]
fn frames_that_cannot_be_decoded_leave_the_nearest_good_one() {
    for name in ["a.mp4", "c.mkv"] {
        let mut recording = recording(name, "-c:v mjpeg -q:v 2");
        let keyframe = recording.index.keyframes[10].clone();
        recording.media.wipe(keyframe.ranges[0]);
        let from = &recording.index.keyframes[8];
        let query = ExactQuery { from_ms: from.at_ms, ranges: from.ranges.clone(), ..recording.query(&[400, 410]) };
        let found = recording.ask(&query).expect("answers");
        let instants: Vec<i64> = found.answers.iter().map(|answer| answer.as_ref().expect("a frame").at_ms).collect();
        assert_eq!(instants, [440, 440], "{name}: not the one at 400");
    }
}

#[test]
fn nothing_to_decode_is_damage() {
    let mut recording = recording("a.mp4", "-c:v mjpeg -q:v 2 -frames:v 1");
    let query = recording.query(&[0, 100]);
    recording.media.wipe(query.ranges[0]);
    let found = recording.ask(&query).expect("answers");
    assert_eq!(found.decoded, 0);
    assert!(found.answers.iter().all(|answer| answer.as_ref().is_err_and(|fault| fault.kind == FaultKind::Damaged)));
}
