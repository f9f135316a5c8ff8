//! Every container with every codec that it takes.

use crate::coding::{
    AV1, FRAGMENTED, FRAGMENTED_INDEXED, H264, HEVC, HEVC_10, M2TS, MJPEG, MKV, MKV_LIVE, MP4, MP4_AT_END, MPEG2,
    MPEG4, Packing, TS, VP8, VP9, WEBM,
};
use crate::film::{Film, Keys};
use crate::judge;

/// Coded once into Matroska, which takes everything, and packed again without coding.
fn coded(name: &str, arguments: &str, packing: Packing) -> Film {
    let keys = if arguments == MJPEG { Keys::Every(1) } else { Keys::Every(13) };
    let Packing { name: packed, extension, arguments: packing } = packing;
    let copy = match (name, extension) {
        // Matroska keeps the parameters apart; a transport stream repeats them.
        ("MPEG-4", "ts" | "m2ts") => "-c copy -bsf:v dump_extra=freq=k",
        ("HEVC" | "HEVC of 10 bits", "mp4") => "-c copy -tag:v hvc1",
        _ => "-c copy",
    };
    let film = Film::new(format!("{name} in {packed}"), "mkv", &format!("{arguments} -f matroska"));
    film.then(extension, "", &format!("{copy} {packing}")).keys(keys)
}

fn grid(codecs: &[(&str, &str)], packings: &[Packing]) -> Vec<Film> {
    let films = packings.iter().flat_map(|packing| codecs.iter().map(|(name, coding)| coded(name, coding, *packing)));
    films.collect()
}

#[tokio::test]
async fn mp4() {
    let codecs = [
        ("H.264", H264),
        ("HEVC", HEVC),
        ("HEVC of 10 bits", HEVC_10),
        ("AV1", AV1),
        ("VP9", VP9),
        ("MPEG-4", MPEG4),
        ("MJPEG", MJPEG),
    ];
    judge::all(grid(&codecs, &[MP4, MP4_AT_END, FRAGMENTED, FRAGMENTED_INDEXED])).await;
}

#[tokio::test]
async fn transport_streams() {
    let codecs = [("H.264", H264), ("HEVC", HEVC), ("HEVC of 10 bits", HEVC_10)];
    let mut films = grid(&codecs, &[TS, M2TS]);
    // The 192-byte form has no stream type for MPEG-4.
    films.push(coded("MPEG-4", MPEG4, TS));
    films.push(TS.film("MPEG-2", MPEG2));
    judge::all(films).await;
}

#[tokio::test]
async fn matroska_and_webm() {
    let codecs = [
        ("H.264", H264),
        ("HEVC", HEVC),
        ("HEVC of 10 bits", HEVC_10),
        ("AV1", AV1),
        ("VP9", VP9),
        ("VP8", VP8),
        ("MPEG-4", MPEG4),
        ("MJPEG", MJPEG),
    ];
    let mut films = grid(&codecs, &[MKV, MKV_LIVE]);
    films.extend(grid(&[("AV1", AV1), ("VP9", VP9), ("VP8", VP8)], &[WEBM]));
    judge::all(films).await;
}
