//! How much of a long clip is read for one picture.

use stills_model::clip::{ClipFound, ClipPoint, Percent};

use crate::fixture::{Memory, make};

/// Bytes that may be read of a clip that lists no keyframes: its two ends, a look for each halving, a walk of some
/// pictures, whatever its length.
const SEARCH_MAX: u64 = 4 * 1024 * 1024;

/// Three minutes at a steady rate.
fn long(name: &str, args: &str) -> Memory {
    let dir = tempfile::tempdir().expect("a directory");
    let path = make(&dir, name, 180, args);
    Memory::of(&path)
}

fn check(mut media: Memory, name: &str) {
    // Tables name the places.
    let most = if name.starts_with("fragments") { 512 * 1024 } else { SEARCH_MAX };
    let len = media.bytes.len() as u64;
    assert!(len > 6 * SEARCH_MAX, "{name}: {len} bytes are not long");
    for (percent, from_ms, to_ms) in [(0, 0, 0), (10, 16_900, 18_040), (50, 88_900, 90_040), (100, 178_800, 180_000)] {
        media.read = 0;
        let found = media.find(ClipPoint::Keyframe(Percent::whole(percent))).expect("a picture");
        let ClipFound::Shown(shown) = found else { unreachable!("{name} lists nothing") };
        assert!((from_ms..=to_ms).contains(&shown.at_ms), "{name} at {percent} %: {} ms", shown.at_ms);
        assert!(media.read <= most, "{name} at {percent} %: {} bytes of {len}", media.read);
    }
}

#[test]
fn a_long_transport_stream() {
    let args = "-c:v libx264 -preset ultrafast -b:v 1500k -minrate 1500k -maxrate 1500k -bufsize 1500k -g 25 \
                -x264-params scenecut=0:nal-hrd=cbr:force-cfr=1";
    check(long("a.ts", args), "MPEG-TS");
}

#[test]
fn a_long_program_stream() {
    check(
        long("a.vob", "-c:v mpeg2video -b:v 1500k -minrate 1500k -maxrate 1500k -bufsize 1500k -g 25"),
        "program stream",
    );
}

#[test]
fn a_long_file_of_fragments() {
    let args = "-c:v libx264 -preset ultrafast -b:v 1500k -minrate 1500k -maxrate 1500k -bufsize 1500k -g 25 \
                -x264-params scenecut=0:nal-hrd=cbr:force-cfr=1 -movflags";
    check(long("a.mp4", &format!("{args} frag_keyframe+empty_moov")), "fragments and mfra");
    check(
        long("b.mp4", &format!("{args} frag_keyframe+empty_moov+default_base_moof+global_sidx+skip_trailer")),
        "fragments and sidx",
    );
}

#[test]
fn a_long_flv() {
    let args = "-c:v libx264 -preset ultrafast -b:v 1500k -minrate 1500k -maxrate 1500k -bufsize 1500k -g 25 \
                -x264-params scenecut=0:nal-hrd=cbr:force-cfr=1 -flvflags no_duration_filesize";
    check(long("a.flv", args), "FLV");
}
