//! MPEG-TS.

use std::process::Command;

use stills_decoder::scan::{scan, scanned};
use stills_model::fault::FaultKind;
use stills_model::keyframe::{Codec, Packaging};
use tempfile::TempDir;

use crate::fixture::{Counted, grow, index, make, source, torture};
use crate::reference::{Reference, check, fed};

const X264: &str = "-c:v libx264 -preset ultrafast -g 25 -pix_fmt yuv420p";
const TS: &str = "-f mpegts";

#[test]
fn every_shape_agrees_with_the_reference() {
    let dir = TempDir::new().expect("a folder");
    let avc = source(3);
    let cases = [
        ("plain.ts", format!("{avc} {X264} -bf 0 {TS}"), Codec::H264),
        ("b.ts", format!("{avc} {X264} -bf 3 {TS}"), Codec::H264),
        ("open.ts", format!("{avc} {X264} -bf 2 -x264-params open-gop=1 {TS}"), Codec::H264),
        ("interlaced.ts", format!("{avc} {X264} -flags +ildct+ilme {TS}"), Codec::H264),
        ("once.ts", format!("{avc} {X264} {TS} -pat_period 1000 -sdt_period 1000"), Codec::H264),
        ("pid.ts", format!("{avc} {X264} {TS} -mpegts_start_pid 0x1f0 -mpegts_pmt_start_pid 0x30"), Codec::H264),
        ("wrap.ts", format!("{avc} {X264} -bf 2 {TS} -output_ts_offset 95441"), Codec::H264),
        ("blu.m2ts", format!("{avc} {X264} {TS} -mpegts_m2ts_mode 1"), Codec::H264),
        (
            "hevc.ts",
            format!("{avc} -c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:bframes=3 {TS}"),
            Codec::Hevc,
        ),
        ("mpeg2.ts", format!("{avc} -c:v mpeg2video -g 12 -bf 2 {TS}"), Codec::Mpeg2),
        ("mpeg4.ts", format!("{avc} -c:v mpeg4 -g 20 -bf 2 {TS}"), Codec::Mpeg4),
    ];
    for (name, args, codec) in cases {
        let path = make(&dir, name, &args);
        let mut media = Counted::open(&path);
        let found = scan(&mut media, false, &[]).expect(name);
        check(&path, &found, 40);
        assert_eq!(found.configs.len(), 1, "{name}: configurations");
        assert_eq!(found.configs[0].codec, codec, "{name}");
        assert!(!found.configs[0].extradata.is_empty(), "{name}: parameter sets");
        let size = if matches!(codec, Codec::H264 | Codec::Hevc) { (320, 240) } else { (0, 0) };
        let field_pairs = if name == "interlaced.ts" { 16 } else { 0 };
        assert_eq!(found.configs[0].size, (size.0, size.1 + field_pairs), "{name}: coded size");
        assert!(media.read < media.bytes.len() as u64 + 64 * 1024, "{name}: {} bytes read", media.read);
        torture(&media.bytes, 16);
    }
}

/// The pictures that FFmpeg makes of an H.264 stream, as check sums of their planes.
fn shown(dir: &TempDir, stream: &[u8]) -> Vec<String> {
    let path = dir.path().join("stream.h264");
    std::fs::write(&path, stream).expect("a file");
    let args = ["-v", "error", "-f", "h264", "-i"];
    let output = Command::new("ffmpeg").args(args).arg(&path).args(["-vsync", "0", "-f", "framemd5", "-"]).output();
    let text = String::from_utf8(output.expect("ffmpeg runs").stdout).expect("text");
    let sums = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit(',').next());
    sums.map(|sum| sum.trim().to_owned()).collect()
}

#[test]
fn each_keyframe_stands_alone() {
    let dir = TempDir::new().expect("a folder");
    let first = x264(&dir, "first.ts", 1, "-an");
    let rest = x264(&dir, "rest.ts", 2, "-an -bsf:v filter_units=remove_types=7-8 -output_ts_offset 1");
    let bytes = [first, rest].concat();
    let found = index(&bytes).expect("an index");
    let path = dir.path().join("whole.ts");
    std::fs::write(&path, &bytes).expect("a file");
    let whole = make(&dir, "whole.h264", &format!("-i {} -c copy", path.display()));
    let all = shown(&dir, &std::fs::read(whole).expect("whole"));
    assert_eq!((found.keyframes.len(), all.len()), (3, 75));
    for keyframe in &found.keyframes {
        let config = &found.configs[usize::from(keyframe.config)];
        let alone = [config.extradata.clone(), fed(&bytes, &found, keyframe).concat()].concat();
        let number = usize::try_from(keyframe.at_ms / 40).expect("a number");
        assert_eq!(shown(&dir, &alone), [all[number].clone()], "at {} ms", keyframe.at_ms);
    }
}

fn x264(dir: &TempDir, name: &str, seconds: u32, more: &str) -> Vec<u8> {
    let path = make(dir, name, &format!("{} {X264} -bf 0 {more} {TS}", source(seconds)));
    std::fs::read(path).expect("the fixture is there")
}

#[test]
fn packets_with_error_correction_behind_them() {
    let dir = TempDir::new().expect("a folder");
    let plain = x264(&dir, "plain.ts", 2, "");
    let wide: Vec<u8> = plain.chunks(188).flat_map(|packet| [packet, &[0x47; 16]].concat()).collect();
    let (plain_index, wide_index) = (index(&plain).expect("plain"), index(&wide).expect("wide"));
    assert_eq!(wide_index.configs[0].packaging, Packaging::Ts { pid: 0x100, packet_len: 204 });
    assert_eq!(wide_index.keyframes.len(), 2);
    for (a, b) in plain_index.keyframes.iter().zip(&wide_index.keyframes) {
        assert_eq!((a.at_ms, a.gop_bytes), (b.at_ms, b.gop_bytes));
        assert_eq!(fed(&plain, &plain_index, a), fed(&wide, &wide_index, b));
    }
}

#[test]
fn parameter_sets_that_came_once_stay_in_force() {
    let dir = TempDir::new().expect("a folder");
    let first = x264(&dir, "first.ts", 1, "-an");
    let rest = x264(&dir, "rest.ts", 3, "-an -bsf:v filter_units=remove_types=7-8 -output_ts_offset 1");
    let bytes = [first, rest.clone()].concat();
    let found = index(&bytes).expect("an index");
    assert_eq!(found.keyframes.iter().map(|keyframe| keyframe.at_ms).collect::<Vec<_>>(), [0, 1000, 2000, 3000]);
    assert_eq!(found.configs.len(), 1);
    let extradata = &found.configs[0].extradata;
    assert!(extradata.starts_with(&[0, 0, 0, 1, 0x67]) && extradata.windows(5).any(|five| five == [0, 0, 0, 1, 0x68]));
    // Without any, nothing can be shown.
    let none = index(&rest).expect("an index");
    assert!(none.keyframes.is_empty() && none.duration_ms == 3000, "{none:?}");
}

#[test]
fn tables_that_come_late_name_what_has_passed() {
    let dir = TempDir::new().expect("a folder");
    let bytes = x264(&dir, "plain.ts", 2, "-f mpegts -pat_period 1000");
    // The first tables are moved to the end.
    let is_table = |packet: &&[u8]| matches!((packet[1] & 0x1f, packet[2]), (0 | 0x10, 0));
    let (tables, others): (Vec<&[u8]>, Vec<&[u8]>) = bytes.chunks(188).partition(is_table);
    assert!(tables.len() >= 2);
    let late = [others.concat(), tables.concat()].concat();
    let (early, late) = (index(&bytes).expect("early"), index(&late).expect("late"));
    let instants = |index: &stills_model::keyframe_index::KeyframeIndex| {
        index.keyframes.iter().map(|keyframe| keyframe.at_ms).collect::<Vec<_>>()
    };
    assert_eq!(instants(&late), instants(&early));
    let fault = index(&others.concat()).expect_err("no tables");
    assert_eq!(fault.detail, "the transport stream has no program table that names a video");
}

#[test]
fn clocks_that_start_again_go_on() {
    let dir = TempDir::new().expect("a folder");
    let first = x264(&dir, "first.ts", 2, "-output_ts_offset 5000");
    let second = x264(&dir, "second.ts", 2, "");
    let third = x264(&dir, "third.ts", 2, "-output_ts_offset 90000");
    let places = [first.len(), first.len() + second.len()].map(|place| place as u64);
    let bytes = [first, second, third].concat();
    let found = index(&bytes).expect("an index");
    let instants: Vec<i64> = found.keyframes.iter().map(|keyframe| keyframe.at_ms).collect();
    assert_eq!(instants, [0, 1000, 2000, 3000, 4000, 5000]);
    assert_eq!(found.duration_ms, 6000);
    // Each leap is told: where, and by how much.
    let leaps = scanned(&mut Counted::new(bytes.clone()), false, &[]).expect("an index").leaps;
    let [back, ahead] = leaps.first[..] else { panic!("{leaps:?}") };
    assert_eq!(leaps.count, 2);
    // From 5002 s to nought, and from 2 s to 90000 s: by the shorter way round a clock of 95443.7 s that is back, too.
    let is_near = |leap: i64, expected: i64| (leap - expected).abs() < 100;
    assert!(is_near(back.by_ms, -5_002_000) && is_near(ahead.by_ms, 90_000_000 - 95_443_718 - 2_000), "{leaps:?}");
    for (leap, place) in leaps.first.iter().zip(places) {
        assert!((place..place + 188 * 20).contains(&leap.offset), "{leap:?} behind {place}");
    }
    // A growing file tells each once.
    let half = usize::try_from(places[1]).expect("small");
    let early = scanned(&mut Counted::new(bytes[..half].to_vec()), true, &[]).expect("an index");
    let late = scanned(&mut Counted::new(bytes), false, &early.index.resume).expect("an index");
    assert_eq!((&early.leaps.first[..], &late.leaps.first[..]), (&[back][..], &[ahead][..]));
}

#[test]
fn another_size_is_another_configuration() {
    let dir = TempDir::new().expect("a folder");
    let first = x264(&dir, "first.ts", 1, "");
    let second = x264(&dir, "second.ts", 1, "-s 160x120 -output_ts_offset 1");
    let found = index(&[first.clone(), second, first].concat()).expect("an index");
    assert_eq!(found.keyframes.iter().map(|keyframe| keyframe.config).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn lost_bytes_cost_what_they_hit_and_no_more() {
    let dir = TempDir::new().expect("a folder");
    let mut bytes = x264(&dir, "plain.ts", 4, "");
    let whole = index(&bytes).expect("an index");
    let place = usize::try_from(whole.keyframes[1].ranges[0].offset).expect("offset") + 188 * 3;
    bytes.drain(place..place + 100);
    let found = index(&bytes).expect("an index");
    assert_eq!(found.keyframes.len(), 4);
    for keyframe in &found.keyframes {
        assert_eq!(fed(&bytes, &found, keyframe).len(), 1, "at {} ms", keyframe.at_ms);
    }
}

#[test]
fn growing_files_are_gone_on_with() {
    let dir = TempDir::new().expect("a folder");
    for (name, more) in [("b.ts", "-bf 2"), ("refresh.ts", "-x264-params intra-refresh=1")] {
        let bytes = x264(&dir, name, 4, more);
        let whole = index(&bytes).expect("an index");
        let lens: Vec<usize> = (1..60).map(|part| bytes.len() * part / 60).collect();
        assert_eq!(grow(&bytes, &lens), whole, "{name}");
    }
    let bytes = x264(&dir, "plain.ts", 4, "");
    let half = &bytes[..bytes.len() / 2];
    let first = scan(&mut Counted::new(half.to_vec()), true, &[]).expect("half an index");
    let mut again = Counted::new(bytes.clone());
    scan(&mut again, true, &first.resume).expect("the rest");
    assert!(again.read < bytes.len() as u64 * 2 / 3 + 32 * 1024, "{} of {} bytes", again.read, bytes.len());
    // A resume of another file, or of a longer one, is as good as none.
    let other = x264(&dir, "other.ts", 1, "-s 160x120");
    let expected = index(&other).expect("an index");
    for resume in [&first.resume[..], b"\x01TS", &[0xff; 40]] {
        assert_eq!(scan(&mut Counted::new(other.clone()), false, resume).expect("an index"), expected);
    }
}

#[test]
fn gradual_refresh_takes_as_many_pictures_as_it_says() {
    let dir = TempDir::new().expect("a folder");
    let bytes = x264(&dir, "refresh.ts", 4, "-g 20 -x264-params intra-refresh=1");
    let found = index(&bytes).expect("an index");
    let gradual: Vec<_> = found.keyframes.iter().filter(|keyframe| keyframe.ranges.len() > 1).collect();
    assert!(gradual.len() >= 3, "{:?}", found.keyframes);
    let reference = Reference::of(&dir.path().join("refresh.ts"));
    for keyframe in gradual {
        let fed = fed(&bytes, &found, keyframe);
        assert_eq!(fed.len(), keyframe.ranges.len());
        let last = fed.last().expect("packets").len();
        let shown = reference.packets.iter().find(|packet| reference.ms(packet) == keyframe.at_ms);
        assert_eq!(shown.expect("a picture at that instant").size, last);
    }
}

/// A transport stream of MPEG-2 Video made by hand: the time of each PES packet, and what is in it.
fn by_hand(units: &[(Option<u16>, Vec<u8>)]) -> Vec<u8> {
    let packet = |pid: u16, payload: &[u8]| {
        let fill = 183 - payload.len();
        let [high, low] = (pid | 0x4000).to_be_bytes();
        let head = vec![0x47, high, low, 0x30, u8::try_from(fill).expect("fits")];
        [head, vec![0; fill], payload.to_vec()].concat()
    };
    let pat = [0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe0, 0x20, 0, 0, 0, 0];
    let pmt = [0, 2, 0xb0, 18, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0, 2, 0xe1, 0, 0xf0, 0, 0, 0, 0, 0];
    let mut bytes = [packet(0, &pat), packet(0x20, &pmt)].concat();
    for (time, unit) in units {
        let pes = match time {
            None => vec![0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0],
            Some(time) => {
                let [_, _, high, low] = (u32::from(*time) << 1 | 1).to_be_bytes();
                vec![0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, high, low]
            }
        };
        bytes.extend(packet(0x100, &[&pes[..], unit].concat()));
    }
    bytes
}

const SEQUENCE: [u8; 13] = [0, 0, 1, 0xb3, 1, 2, 3, 0, 0, 1, 0xb5, 0x14, 8];
const SLICE: [u8; 5] = [0, 0, 1, 1, 9];

/// The head of a picture: its number, coding type and structure.
fn picture(number: u8, coding: u8, structure: u8) -> Vec<u8> {
    vec![0, 0, 1, 0, number >> 2, number << 6 | coding << 3, 0, 0, 0, 1, 0xb5, 0x8f, 0xff, structure]
}

/// Field pictures, half a frame apart.
fn fields(pictures: &[(u8, u8)]) -> Vec<u8> {
    let unit = |(n, (coding, structure)): (u16, &(u8, u8))| {
        let number = u8::try_from(n / 2).expect("few");
        (Some(n * 1800), [&SEQUENCE[..], &picture(number, *coding, *structure), &SLICE].concat())
    };
    by_hand(&(0..).zip(pictures).map(unit).collect::<Vec<_>>())
}

#[test]
fn pictures_may_be_spread_over_pes_packets() {
    let frame = |number, coding| picture(number, coding, 3);
    let units = [
        (Some(0), SEQUENCE.to_vec()),
        (Some(0), [&frame(0, 1)[..], &SLICE].concat()),
        (None, SLICE.to_vec()),
        (Some(3600), [&frame(1, 2)[..], &SLICE].concat()),
        (None, [&frame(2, 2)[..], &SLICE].concat()),
        (Some(10800), [&frame(3, 1)[..], &SLICE].concat()),
        (Some(10800), SLICE.to_vec()),
    ];
    let bytes = by_hand(&units);
    let found = index(&bytes).expect("an index");
    let shown: Vec<_> = found.keyframes.iter().map(|k| (k.at_ms, fed(&bytes, &found, k))).collect();
    let first = [&SEQUENCE[..], &frame(0, 1), &SLICE, &SLICE].concat();
    let second = [&frame(3, 1)[..], &SLICE, &SLICE].concat();
    assert_eq!(shown, [(0, vec![first]), (120, vec![second])]);
    assert_eq!((found.configs.len(), found.duration_ms), (1, 160));
}

#[test]
fn field_pairs_are_fed_together() {
    const INTRA: u8 = 1;
    const PREDICTED: u8 = 2;
    let pairs = [(INTRA, 1), (PREDICTED, 2), (PREDICTED, 1), (PREDICTED, 2), (INTRA, 2), (INTRA, 1), (INTRA, 3)];
    let bytes = fields(&pairs);
    let found = index(&bytes).expect("an index");
    let shape: Vec<_> = found.keyframes.iter().map(|keyframe| (keyframe.at_ms, keyframe.ranges.len())).collect();
    assert_eq!(shape, [(0, 2), (80, 2), (120, 1)]);
    assert_eq!(fed(&bytes, &found, &found.keyframes[0]).len(), 2);
    let lens: Vec<usize> = (1..12).map(|packets| packets * 188).filter(|len| *len < bytes.len()).collect();
    assert_eq!(grow(&bytes, &lens), found);
}

#[test]
fn what_is_wrong_is_said() {
    let short = scan(&mut Counted::new(vec![0x47; 100]), true, &[]).expect_err("too short");
    assert_eq!(short.detail, "the growing file is too short yet to tell what it is");
    let dir = TempDir::new().expect("a folder");
    let path = make(&dir, "sound.ts", &format!("-f lavfi -i sine=duration=1 -c:a aac {TS}"));
    let fault = index(&std::fs::read(path).expect("sound")).expect_err("no video");
    assert_eq!(fault.detail, "the transport stream has no program table that names a video");
    let args = format!("-f lavfi -i testsrc2=size=64x64:duration=0.2 -c:v vc2 -strict -1 {TS}");
    let path = make(&dir, "dirac.ts", &args);
    let fault = index(&std::fs::read(path).expect("dirac")).expect_err("Dirac");
    assert_eq!(fault.kind, FaultKind::Unsupported);
    assert_eq!(fault.detail, "the video codec 'Dirac' is not decoded here");
    let mut scrambled = x264(&dir, "plain.ts", 1, "");
    for packet in scrambled.chunks_mut(188).filter(|packet| packet[1] & 0x1f == 1 && packet[2] == 0) {
        packet[3] |= 0x80;
    }
    assert_eq!(index(&scrambled).expect_err("scrambled").detail, "the video is scrambled");
}
