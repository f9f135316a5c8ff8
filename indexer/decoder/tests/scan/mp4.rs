//! MP4 and MOV.

use stills_decoder::scan::scan;
use stills_model::keyframe::{Codec, Orientation};
use tempfile::TempDir;

use crate::fixture::{Counted, grow, index, make, source, torture};
use crate::reference::check;

const X264: &str = "-c:v libx264 -preset ultrafast -g 25 -pix_fmt yuv420p";
const FRAGMENTED: &str = "-movflags +frag_keyframe+empty_moov+default_base_moof";

#[test]
fn every_shape_agrees_with_the_reference() {
    let dir = TempDir::new().expect("a folder");
    let avc = source(5);
    let cases = [
        ("plain.mp4", format!("{avc} {X264}"), Codec::H264),
        ("front.mp4", format!("{avc} {X264} -bf 3 -movflags +faststart"), Codec::H264),
        ("b.mov", format!("{avc} {X264} -bf 2 -sc_threshold 0"), Codec::H264),
        ("open.mp4", format!("{avc} {X264} -bf 2 -x264-params open-gop=1"), Codec::H264),
        ("noedit.mp4", format!("{avc} {X264} -bf 2 -use_editlist 0"), Codec::H264),
        ("negative.mp4", format!("{avc} {X264} -bf 2 -movflags +negative_cts_offsets"), Codec::H264),
        ("late.mp4", format!("-itsoffset 1.3 {avc} {X264}"), Codec::H264),
        ("frag.mp4", format!("{avc} {X264} -bf 2 {FRAGMENTED}"), Codec::H264),
        ("frag_base.mp4", format!("{avc} {X264} -bf 2 -movflags +frag_keyframe+empty_moov"), Codec::H264),
        ("frag_short.mp4", format!("{avc} {X264} {FRAGMENTED} -frag_duration 200000"), Codec::H264),
        ("frag_full.mp4", format!("{avc} {X264} -movflags +frag_keyframe"), Codec::H264),
        ("frag_sidx.mp4", format!("{avc} {X264} -bf 2 -movflags +frag_keyframe+dash+delay_moov"), Codec::H264),
        ("intra.mp4", format!("{avc} {X264} -g 1"), Codec::H264),
        (
            "hevc.mp4",
            format!("{avc} -c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:bframes=3"),
            Codec::Hevc,
        ),
        ("vp9.mp4", format!("{avc} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 30"), Codec::Vp9),
        ("av1.mp4", format!("{avc} -c:v libsvtav1 -preset 12 -g 50"), Codec::Av1),
        ("mpeg4.mp4", format!("{avc} -c:v mpeg4 -g 20 -bf 2"), Codec::Mpeg4),
        ("mpeg2.mp4", format!("{avc} -c:v mpeg2video -g 12"), Codec::Mpeg2),
        ("mjpeg.mov", format!("{avc} -c:v mjpeg -pix_fmt yuvj420p"), Codec::Mjpeg),
        ("vfr.mp4", format!("{avc} {X264} -vf setpts=PTS+0.013*mod(N\\,7)/TB -vsync vfr"), Codec::H264),
    ];
    for (name, args, codec) in cases {
        let path = make(&dir, name, &args);
        let mut media = Counted::open(&path);
        let found = scan(&mut media, false, &[]).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        check(&path, &found, 0);
        assert_eq!(found.configs.len(), 1, "{name}: configurations");
        let config = &found.configs[0];
        assert_eq!((config.codec, config.size), (codec, (320, 240)), "{name}");
        assert_eq!(config.orientation, Orientation::default(), "{name}");
        assert!(media.read < 128 * 1024, "{name}: {} bytes in {} reads", media.read, media.reads);
        torture(&media.bytes);
    }
}

#[test]
fn a_whole_movie_costs_its_tables_and_little_more() {
    let dir = TempDir::new().expect("a folder");
    let path = make(&dir, "long.mp4", &format!("{} {X264} -crf 1", source(10)));
    let mut media = Counted::open(&path);
    assert!(media.bytes.len() > 2_000_000, "{} bytes", media.bytes.len());
    scan(&mut media, false, &[]).expect("an index");
    let place = media.bytes.windows(4).rposition(|four| four == b"moov").expect("moov");
    let tables = (media.bytes.len() - place) as u64;
    assert!(media.read < tables + 3 * 4096 + 16, "{} bytes read, tables of {tables}", media.read);
    assert!(media.reads <= 5, "{} reads", media.reads);
}

#[test]
fn a_cut_of_a_movie_starts_at_its_edit() {
    let dir = TempDir::new().expect("a folder");
    let long = make(&dir, "long.mp4", &format!("{} {X264} -bf 2", source(6)));
    let from = long.to_str().expect("text").to_owned();
    let path = make(&dir, "cut.mp4", &format!("-ss 1.52 -i {from} -c copy"));
    let found = index(&std::fs::read(&path).expect("cut")).expect("an index");
    // Keyframes stand at 1 s, which the edit trims away, and every second after.
    assert_eq!(found.keyframes.first().expect("a keyframe").at_ms, 480);
    check(&path, &found, 40);
}

#[test]
fn turned_and_stretched() {
    let dir = TempDir::new().expect("a folder");
    let plain = make(&dir, "plain.mp4", &format!("{} {X264} -an", source(1)));
    let from = plain.to_str().expect("text").to_owned();
    // FFmpeg counts the turns of its metadata counterclockwise.
    for (turn, quarter_turns) in [("270", 1), ("180", 2), ("90", 3)] {
        let path = make(&dir, "turned.mp4", &format!("-i {from} -c copy -metadata:s:v rotate={turn}"));
        let found = index(&std::fs::read(&path).expect("turned")).expect("an index");
        let orientation = Orientation { quarter_turns, mirrored: false };
        assert_eq!(found.configs[0].orientation, orientation, "rotate={turn}");
    }
    let path = make(&dir, "wide.mp4", &format!("{} {X264} -an -vf setsar=4/3", source(1)));
    let found = index(&std::fs::read(&path).expect("wide")).expect("an index");
    assert_eq!(found.configs[0].sample_aspect, (4, 3));
}

#[test]
fn growing_files_are_gone_on_with() {
    let dir = TempDir::new().expect("a folder");
    let path = make(&dir, "frag.mp4", &format!("{} {X264} -bf 2 {FRAGMENTED}", source(5)));
    let bytes = std::fs::read(&path).expect("frag");
    let whole = index(&bytes).expect("an index");
    let lens: Vec<usize> = (1..40).map(|part| bytes.len() * part / 40).collect();
    let grown = grow(&bytes, &lens);
    assert_eq!(grown, whole);
    // Going on reads neither what is known nor more than the headers of what is new.
    let half = &bytes[..bytes.len() / 2];
    let first = scan(&mut Counted::new(half.to_vec()), true, &[]).expect("half an index");
    assert!(!first.keyframes.is_empty() && first.keyframes.len() < whole.keyframes.len());
    let mut again = Counted::new(half.to_vec());
    assert_eq!(scan(&mut again, true, &first.resume).expect("nothing new"), first);
    assert!(again.read < 16 * 1024, "{} bytes", again.read);
    // What is no resume, or one of another file, is as good as none.
    let other = make(&dir, "other.mp4", &format!("{} {X264} {FRAGMENTED} -an", source(2)));
    let other = std::fs::read(other).expect("other");
    let expected = index(&other).expect("an index");
    for resume in [&first.resume[..], b"\x01MP4", &[0xff; 40], &first.resume[..first.resume.len() - 1]] {
        assert_eq!(scan(&mut Counted::new(other.clone()), false, resume).expect("an index"), expected);
    }
}

#[test]
fn flags_that_lie_are_found_out() {
    let dir = TempDir::new().expect("a folder");
    let path = make(&dir, "true.mp4", &format!("{} {X264} -bf 0", source(4)));
    let bytes = std::fs::read(&path).expect("true");
    let honest = index(&bytes).expect("an index");
    assert_eq!(honest.keyframes.len(), 4);
    // Without its table of sync samples every sample counts as one.
    let mut all = bytes.clone();
    let place = all.windows(4).rposition(|four| four == b"stss").expect("stss");
    all[place..place + 4].copy_from_slice(b"free");
    assert_eq!(index(&all).expect("an index").keyframes, honest.keyframes);
    // And with an empty one, none.
    let mut none = bytes;
    none[place + 8..place + 12].copy_from_slice(&[0; 4]);
    assert_eq!(index(&none).expect("an index").keyframes, honest.keyframes);
}

#[test]
fn gradual_refresh_takes_as_many_samples_as_it_says() {
    let dir = TempDir::new().expect("a folder");
    let args = format!("{} -c:v libx264 -preset ultrafast -g 20 -x264-params intra-refresh=1", source(4));
    let path = make(&dir, "refresh.mp4", &args);
    let found = index(&std::fs::read(&path).expect("refresh")).expect("an index");
    let gradual: Vec<_> = found.keyframes.iter().filter(|keyframe| keyframe.ranges.len() > 1).collect();
    assert!(gradual.len() >= 3, "{:?}", found.keyframes);
    for keyframe in gradual {
        // The picture that gets whole is the last one fed; 25 pictures a second.
        assert_eq!(keyframe.at_ms % 40, 0);
        assert!(keyframe.ranges.windows(2).all(|pair| pair[0].end() <= pair[1].offset));
    }
}

#[test]
fn what_is_wrong_is_said() {
    let dir = TempDir::new().expect("a folder");
    let check = |bytes: &[u8], expected: &str| {
        assert_eq!(index(bytes).expect_err(expected).detail, expected);
    };
    check(&[], "the file is empty");
    check(b"#EXTM3U\n#EXT-X-VERSION:3\n", "the file is a playlist, not MP4, MPEG-TS or Matroska");
    check(b"RIFF....AVI ", "the file is not MP4, MPEG-TS or Matroska");
    let path = make(&dir, "plain.mp4", &format!("{} {X264}", source(1)));
    let bytes = std::fs::read(&path).expect("plain");
    let moov = bytes.windows(4).rposition(|four| four == b"moov").expect("moov") - 4;
    check(&bytes[..moov], "the file has no moov box: it was cut off or never finished");
    check(&bytes[..moov + 200], "the moov box is cut off: the file ends inside it");
    let path = make(&dir, "prores.mov", "-f lavfi -i testsrc2=size=64x64:duration=1 -c:v prores");
    check(&std::fs::read(path).expect("prores"), "the video codec 'apcn' is not decoded here");
    let path = make(&dir, "sound.mp4", "-f lavfi -i sine=duration=1 -c:a aac");
    check(&std::fs::read(path).expect("sound"), "the moov box has no video track");
    // Samples past the end are left out, the others stay.
    let path = make(&dir, "front.mp4", &format!("{} {X264} -movflags +faststart", source(4)));
    let bytes = std::fs::read(&path).expect("front");
    let part = index(&bytes[..bytes.len() / 2]).expect("half an index");
    assert!((1..4).contains(&part.keyframes.len()) && part.duration_ms < 3000, "{part:?}");
}
