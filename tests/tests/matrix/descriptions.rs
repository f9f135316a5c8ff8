//! Parameters that change within a file: another sample description in MP4, other parameter sets in a transport stream.
//! FFmpeg's muxer writes one description, so a second one is put in by hand.

use std::io;
use std::path::{Path, PathBuf};

use e2e::harness::{Camera, Setup};

use crate::coding::{FRAGMENTED, H264, TS};
use crate::film::{FRAME_MS, Film, kept};
use crate::judge::{Subject, judge};
use crate::picture::Shown;

/// When the second part begins: 39 pictures of the first.
const SECOND_MS: i64 = 39 * FRAME_MS;

/// Ticks of the muxer's clock in 10 ms, for 12.5 pictures a second.
const TICKS_PER_10_MS: u64 = 128;

/// The pictures before and after [`SECOND_MS`], the latter smaller and of another profile.
fn parts(packing: crate::coding::Packing) -> [Film; 2] {
    let first = format!("-frames:v 39 {H264}");
    let second = format!(
        "-vf select=gte(n\\,39),setpts=PTS-STARTPTS,scale=352:288 {H264} -profile:v baseline -output_ts_offset {}",
        SECOND_MS as f64 / 1000.0
    );
    // No delay beside the offset that is asked for.
    let at_once = "-muxdelay 0 -muxpreload 0";
    [
        packing.film("the first part", &format!("{first} {at_once}")),
        packing.film("the second part", &format!("{second} {at_once}")),
    ]
}

fn subject(name: &str, file: PathBuf, parts: &[PathBuf; 2]) -> io::Result<Subject> {
    // 39 and 36 pictures, a keyframe every 13 in each.
    let keys_ms: Vec<i64> = (0..75).step_by(13).map(|n| n * FRAME_MS).collect();
    // Where the size changes FFmpeg's program goes on with a coarser conversion of colours, so each part on its own.
    let [first, second] = parts;
    let shown = Shown::of(first, |_| true)?.and(Shown::of(second, |_| true)?);
    Ok(Subject { name: name.to_owned(), file, duration_ms: 6_000, keys_ms: Some(keys_ms), shown })
}

#[tokio::test]
async fn parameters_that_change() {
    let stills = Setup::new().start().await;
    let streams = parts(TS).map(|film| film.file().expect("a part"));
    let joined = kept("two parts in one stream", "ts", |to| join(&streams, to)).expect("a file");
    let subject_of = |name, file, parts| subject(name, file, parts).expect("a subject");
    let subject = subject_of("changing parameters in MPEG-TS", joined, &streams);
    assert_eq!(judge(&stills, &Camera::numbered(1), &subject).await, Ok(()), "in MPEG-TS");

    let files = parts(FRAGMENTED).map(|film| film.file().expect("a part"));
    let joined = kept("two descriptions in one file, the second later", "mp4", |to| {
        let [first, second] = &files;
        let (first, second) = (std::fs::read(first)?, std::fs::read(second)?);
        let whole = with_second_description(&first, &second);
        std::fs::write(to, whole.ok_or_else(|| io::Error::other("a part is not as the muxer writes it"))?)
    });
    let subject = subject_of("two descriptions in MP4", joined.expect("a file"), &files);
    assert_eq!(judge(&stills, &Camera::numbered(2), &subject).await, Ok(()), "in MP4");
}

fn join([first, second]: &[PathBuf; 2], to: &Path) -> io::Result<()> {
    std::fs::write(to, [std::fs::read(first)?, std::fs::read(second)?].concat())
}

/// The boxes that lie in `bytes` one after the other: kind, and the whole box.
fn boxes(mut bytes: &[u8]) -> Option<Vec<([u8; 4], &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let len = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        let (whole, rest) = bytes.split_at_checked(len).filter(|_| len >= 8)?;
        found.push((*whole[4..].first_chunk()?, whole));
        bytes = rest;
    }
    Some(found)
}

fn boxed(kind: &[u8; 4], content: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(content.len() + 8).ok()?;
    Some([&len.to_be_bytes()[..], kind, content].concat())
}

/// The box with the content of its descendant at `path` changed, and all sizes on the way.
fn changed(whole: &[u8], path: &[&[u8; 4]], change: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let kind: [u8; 4] = *whole.get(4..)?.first_chunk()?;
    let content = whole.get(8..)?;
    let Some((next, rest)) = path.split_first() else { return boxed(&kind, &change(content)?) };
    let mut new = Vec::new();
    for (child, bytes) in boxes(content)? {
        new.extend(if child == **next { changed(bytes, rest, change)? } else { bytes.to_vec() });
    }
    boxed(&kind, &new)
}

/// The first file with the second's description beside its own, and the second's fragments pointing at it.
fn with_second_description(first: &[u8], second: &[u8]) -> Option<Vec<u8>> {
    const STSD: [&[u8; 4]; 5] = [b"trak", b"mdia", b"minf", b"stbl", b"stsd"];
    let description = std::cell::RefCell::new(Vec::new());
    let second_boxes = boxes(second)?;
    let moov = second_boxes.iter().find(|(kind, _)| kind == b"moov")?.1;
    changed(moov, &STSD, &|content| {
        *description.borrow_mut() = content.get(8..)?.to_vec();
        Some(content.to_vec())
    })?;
    let with_both = |content: &[u8]| {
        let entries = [&content[..4], &2u32.to_be_bytes(), content.get(8..)?, &description.borrow()];
        Some(entries.concat())
    };
    let mut whole = Vec::new();
    for (kind, bytes) in boxes(first)? {
        match &kind {
            b"moov" => whole.extend(changed(bytes, &STSD, &with_both)?),
            b"mfra" => {}
            _ => whole.extend(bytes),
        }
    }
    for (kind, bytes) in second_boxes {
        match &kind {
            b"moof" => whole.extend(pointing_at_second(bytes)?),
            b"mdat" => whole.extend(bytes),
            _ => {}
        }
    }
    Some(whole)
}

/// The fragment with a `sample_description_index` of 2, which makes it longer by four bytes, and later by
/// [`SECOND_MS`]: the muxer counts from nought whatever it is told.
fn pointing_at_second(moof: &[u8]) -> Option<Vec<u8>> {
    let pointed = changed(moof, &[b"traf", b"tfhd"], &|content| {
        let flags = u32::from_be_bytes(*content.first_chunk()?);
        // Nothing may stand between the track and the description but a base offset, which is not there.
        let is_plain = flags & 0x3 == 0;
        is_plain.then(|| [&(flags | 2).to_be_bytes()[..], &content[4..8], &2u32.to_be_bytes(), &content[8..]].concat())
    })?;
    let later = changed(&pointed, &[b"traf", b"tfdt"], &|content| {
        let ticks = u64::from_be_bytes(*content.get(4..)?.first_chunk()?);
        Some([&content[..4], &(ticks + SECOND_MS.unsigned_abs() * TICKS_PER_10_MS / 10).to_be_bytes()].concat())
    })?;
    changed(&later, &[b"traf", b"trun"], &|content| {
        let offset = u32::from_be_bytes(*content.get(8..)?.first_chunk()?);
        Some([&content[..8], &(offset + 4).to_be_bytes(), &content[12..]].concat())
    })
}
