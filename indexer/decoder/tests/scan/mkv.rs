//! Matroska and WebM.

use stills_decoder::scan::scan;
use stills_model::keyframe::{Codec, Packaging};
use stills_model::keyframe_index::KeyframeIndex;
use tempfile::TempDir;

use crate::fixture::{Counted, grow, index, make, source, torture};
use crate::reference::{Reference, check, fed};

const X264: &str = "-c:v libx264 -preset ultrafast -g 25 -pix_fmt yuv420p";
const LIVE: &str = "-f matroska -live 1";

#[test]
fn every_shape_agrees_with_the_reference() {
    let dir = TempDir::new().expect("a folder");
    let avc = source(5);
    let cases = [
        ("plain.mkv", format!("{avc} {X264} -bf 0"), Codec::H264),
        ("b.mkv", format!("{avc} {X264} -bf 3"), Codec::H264),
        ("open.mkv", format!("{avc} {X264} -bf 2 -x264-params open-gop=1"), Codec::H264),
        ("live.mkv", format!("{avc} {X264} -bf 2 {LIVE}"), Codec::H264),
        ("late.mkv", format!("-itsoffset 1.3 {avc} {X264}"), Codec::H264),
        ("clusters.mkv", format!("{avc} {X264} -cluster_time_limit 100"), Codec::H264),
        ("front.mkv", format!("{avc} {X264} -reserve_index_space 4096"), Codec::H264),
        (
            "hevc.mkv",
            format!("{avc} -c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25"),
            Codec::Hevc,
        ),
        ("vp8.webm", format!("{avc} -c:a libopus -c:v libvpx -deadline realtime -cpu-used 8 -g 30"), Codec::Vp8),
        ("vp9.webm", format!("{avc} -c:a libopus -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 30"), Codec::Vp9),
        ("av1.mkv", format!("{avc} -c:v libsvtav1 -preset 12 -g 25"), Codec::Av1),
        ("mpeg4.mkv", format!("{avc} -c:v mpeg4 -g 20 -bf 2"), Codec::Mpeg4),
        ("mpeg2.mkv", format!("{avc} -c:v mpeg2video -g 12"), Codec::Mpeg2),
        ("mjpeg.mkv", format!("{avc} -c:v mjpeg -pix_fmt yuvj420p"), Codec::Mjpeg),
    ];
    for (name, args, codec) in cases {
        let path = make(&dir, name, &args);
        let mut media = Counted::open(&path);
        let found = scan(&mut media, false, &[]).expect(name);
        check(&path, &found, 40);
        assert_eq!(found.configs.len(), 1, "{name}: configurations");
        let config = &found.configs[0];
        assert_eq!((config.codec, config.size), (codec, (320, 240)), "{name}");
        torture(&media.bytes, 20);
    }
}

#[test]
fn cues_spare_the_blocks() {
    let dir = TempDir::new().expect("a folder");
    let path = make(&dir, "long.mkv", &format!("{} {X264} -crf 1", source(30)));
    let mut media = Counted::open(&path);
    let found = scan(&mut media, false, &[]).expect("an index");
    check(&path, &found, 40);
    assert!(media.bytes.len() > 5_000_000 && found.keyframes.len() == 30);
    assert!(media.read < 800 * 1024, "{} of {} bytes", media.read, media.bytes.len());
    assert!(media.reads < 250, "{} reads", media.reads);
    // Without them every block is passed, and the index is the same but for the bytes between keyframes.
    let place = media.bytes.windows(4).rposition(|four| four == [0x1c, 0x53, 0xbb, 0x6b]).expect("cues");
    let without = index(&media.bytes[..place]).expect("an index");
    let shape = |index: &KeyframeIndex| {
        index.keyframes.iter().map(|keyframe| (keyframe.at_ms, keyframe.ranges.clone())).collect::<Vec<_>>()
    };
    assert_eq!((shape(&without), without.duration_ms), (shape(&found), found.duration_ms));
}

#[test]
fn growing_files_are_gone_on_with() {
    let dir = TempDir::new().expect("a folder");
    let path = make(&dir, "live.mkv", &format!("{} {X264} -bf 2 {LIVE}", source(5)));
    let bytes = std::fs::read(&path).expect("live");
    let whole = index(&bytes).expect("an index");
    let lens: Vec<usize> = (1..60).map(|part| bytes.len() * part / 60).collect();
    let grown = grow(&bytes, &lens);
    assert_eq!((grown.keyframes, grown.duration_ms), (whole.keyframes, whole.duration_ms));
    let half = &bytes[..bytes.len() / 2];
    let first = scan(&mut Counted::new(half.to_vec()), true, &[]).expect("half an index");
    let mut again = Counted::new(half.to_vec());
    assert_eq!(scan(&mut again, true, &first.resume).expect("nothing new"), first);
    assert!(again.read < 16 * 1024, "{} bytes", again.read);
    let other = make(&dir, "other.mkv", &format!("{} -c:v mpeg4 {LIVE}", source(1)));
    let other = std::fs::read(&other).expect("other");
    let expected = index(&other).expect("an index");
    for resume in [&first.resume[..], b"\x01MKV", &[0xff; 40]] {
        assert_eq!(scan(&mut Counted::new(other.clone()), false, resume).expect("an index"), expected);
    }
}

#[test]
fn gradual_refresh_takes_as_many_samples_as_it_says() {
    let dir = TempDir::new().expect("a folder");
    let args = format!("{} -c:v libx264 -preset ultrafast -g 20 -x264-params intra-refresh=1", source(4));
    let path = make(&dir, "refresh.mkv", &args);
    let bytes = std::fs::read(&path).expect("refresh");
    let found = index(&bytes).expect("an index");
    let gradual: Vec<_> = found.keyframes.iter().filter(|keyframe| keyframe.ranges.len() > 1).collect();
    assert!(gradual.len() >= 3, "{:?}", found.keyframes);
    let reference = Reference::of(&path);
    for keyframe in gradual {
        let last = fed(&bytes, &found, keyframe).last().expect("packets").len();
        let shown = reference.packets.iter().find(|packet| reference.ms(packet) == keyframe.at_ms);
        assert_eq!(shown.expect("a picture at that instant").size, last);
    }
}

#[test]
fn stretched() {
    let dir = TempDir::new().expect("a folder");
    let path = make(&dir, "wide.mkv", &format!("{} {X264} -an -vf setsar=4/3", source(1)));
    let found = index(&std::fs::read(&path).expect("wide")).expect("an index");
    assert_eq!(found.configs[0].sample_aspect, (4, 3));
}

/// An element with this id and content.
fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).expect("short") | 0x1000_0000;
    [id, &len.to_be_bytes(), content].concat()
}

/// A file by hand: more in the track entry, and the content of its only cluster.
fn by_hand(track: &[u8], cluster: &[u8]) -> Vec<u8> {
    let entry = [&element(&[0xd7], &[1])[..], &element(&[0x83], &[1]), &element(&[0x86], b"V_VP8"), track].concat();
    let tracks = element(&[0x16, 0x54, 0xae, 0x6b], &element(&[0xae], &entry));
    let cluster = element(&[0x1f, 0x43, 0xb6, 0x75], &[&element(&[0xe7], &[100])[..], cluster].concat());
    let segment = element(&[0x18, 0x53, 0x80, 0x67], &[tracks, cluster].concat());
    [element(&[0x1a, 0x45, 0xdf, 0xa3], &[]), segment].concat()
}

#[test]
fn blocks_by_hand() {
    let simple = |time: u8, flags: u8, rest: &[u8]| element(&[0xa3], &[&[0x81, 0, time, flags][..], rest].concat());
    let group = |time: u8, rest: &[u8], more: &[u8]| {
        element(&[0xa0], &[&element(&[0xa1], &[&[0x81, 0, time, 0][..], rest].concat())[..], more].concat())
    };
    let cluster = [
        simple(0, 0x80, b"key"),
        simple(10, 0, b"not"),
        element(&[0xa3], b"\x82\0\x0b\x80other track"),
        group(20, b"group", &element(&[0x9b], &[7])),
        group(30, b"refers", &element(&[0xfb], &[1])),
        simple(40, 0x80, b""),
        simple(50, 0x82, b"\x01\x03onetwo"),
    ];
    let stripped = element(
        &[0x6d, 0x80],
        &element(
            &[0x62, 0x40],
            &element(&[0x50, 0x34], &[element(&[0x42, 0x54], &[3]), element(&[0x42, 0x55], b"PRE")].concat()),
        ),
    );
    let duration = element(&[0x23, 0xe3, 0x83], &5_000_000u32.to_be_bytes());
    let bytes = by_hand(&[stripped, duration].concat(), &cluster.concat());
    let found = index(&bytes).expect("an index");
    assert_eq!(found.configs[0].packaging, Packaging::Samples { prefix: b"PRE".to_vec() });
    let shown: Vec<_> = found
        .keyframes
        .iter()
        .map(|keyframe| (keyframe.at_ms, fed(&bytes, &found, keyframe).concat(), keyframe.gop_bytes))
        .collect();
    let expected = [(0, "PREkey", 6), (20, "PREgroup", 11), (50, "PREone", 3), (55, "PREtwo", 3)];
    let expected: Vec<_> = expected.map(|(at_ms, bytes, gop)| (at_ms, bytes.as_bytes().to_vec(), gop)).into();
    assert_eq!(shown, expected);
    assert_eq!(found.duration_ms, 60);
}

#[test]
fn what_is_wrong_is_said() {
    let check = |bytes: &[u8], expected: &str| assert_eq!(index(bytes).expect_err(expected).detail, expected);
    let encoding = |content: &[u8]| element(&[0x6d, 0x80], &element(&[0x62, 0x40], content));
    let zlib = encoding(&element(&[0x50, 0x34], &[]));
    check(&by_hand(&zlib, &[]), "the video track is compressed with zlib, which is not undone here");
    let encrypted = encoding(&element(&[0x50, 0x33], &[1]));
    check(&by_hand(&encrypted, &[]), "the video track is encrypted");
    check(&by_hand(&[], &[]), "the video track has no whole picture inside the file");
    check(&element(&[0x1a, 0x45, 0xdf, 0xa3], &[]), "the file ends before its tracks are described");
    let dir = TempDir::new().expect("a folder");
    let path = make(&dir, "lossless.mkv", "-f lavfi -i testsrc2=size=64x64:duration=1 -c:v ffv1");
    check(&std::fs::read(path).expect("ffv1"), "the video codec 'FFV1' is not decoded here");
    let path = make(&dir, "sound.mkv", "-f lavfi -i sine=duration=1 -c:a aac");
    check(&std::fs::read(path).expect("sound"), "the file has no video track");
}
