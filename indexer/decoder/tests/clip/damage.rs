//! Clips that are cut off, torn or changed: a picture or a fault that says what is wrong, never a fault of ours.

use stills_model::clip::{ClipPoint, Percent};
use stills_model::fault::FaultKind;

use crate::fixture::{Memory, make};

const WAYS: [(&str, &str); 7] = [
    ("a.mp4", "-c:v libx264 -preset ultrafast -g 5 -movflags frag_keyframe+empty_moov+default_base_moof+global_sidx"),
    ("a.ts", "-c:v libx264 -preset ultrafast -g 25"),
    ("a.vob", "-c:v mpeg2video -b:v 500k -g 25"),
    ("a.mxf", "-c:v mpeg2video -b:v 500k -g 25"),
    ("a.flv", "-c:v libx264 -preset ultrafast -g 25"),
    ("a.avi", "-c:v mpeg4 -b:v 500k -g 25"),
    ("a.mov", "-c:v prores_ks -profile:v 0 -pix_fmt yuv422p10le"),
];

/// The same bytes in every run.
fn noise(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

fn check(name: &str, bytes: Vec<u8>, point: ClipPoint, what: &str) {
    let mut media = Memory::new(bytes);
    if let Err(fault) = media.find(point) {
        assert_ne!(fault.kind, FaultKind::Internal, "{name}, {what}: {fault}");
        assert!(!fault.detail.is_empty(), "{name}, {what}");
    }
}

#[test]
fn cut_off_torn_and_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, args) in WAYS {
        let whole = std::fs::read(make(&dir, name, 3, args)).expect("the fixture");
        let points = [ClipPoint::Keyframe(Percent::whole(60)), ClipPoint::Exact(1500)];
        for (n, seed) in (1..=24).enumerate() {
            let point = points[n % 2];
            let mut random = noise(seed * 7919);
            let mut place = |len: usize| usize::try_from(random.next().unwrap_or(0) % len.max(1) as u64).unwrap_or(0);
            let cut = place(whole.len());
            check(name, whole[..cut].to_vec(), point, &format!("cut at {cut}"));
            let mut torn = whole.clone();
            let (from, len) = (place(whole.len()), place(20_000));
            torn.drain(from..(from + len).min(whole.len()));
            check(name, torn, point, &format!("without {len} bytes at {from}"));
            let mut changed = whole.clone();
            // Most of them where the tables are.
            for _ in 0..40 {
                let at = place(if n % 3 == 0 { whole.len() } else { 4096 });
                changed[at] = place(256).to_le_bytes()[0];
            }
            check(name, changed, point, &format!("changed by seed {seed}"));
        }
    }
}

#[test]
fn beginnings_alone() {
    let heads: [&[u8]; 5] = [
        &[0, 0, 1, 0xba],
        b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00",
        b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrlavih",
        &[0x06, 0x0e, 0x2b, 0x34, 0x02, 0x05, 0x01, 0x01, 0x0d, 0x01, 0x02, 0x01, 0x01, 0x02, 0x04, 0x00],
        b"FLV\x01",
    ];
    for head in heads {
        for (fill, len) in [(0u8, 0usize), (0, 100), (0xff, 100), (0x47, 5000), (0, 100_000)] {
            let bytes = [head, &vec![fill; len]].concat();
            let found = Memory::new(bytes).find(ClipPoint::Keyframe(Percent::END));
            let fault = found.err().unwrap_or_else(|| unreachable!("{head:?} and {len} of {fill} show nothing"));
            assert_ne!(fault.kind, FaultKind::Internal, "{head:?} and {len} of {fill}: {fault}");
        }
    }
}
