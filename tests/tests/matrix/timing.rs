//! Oddities of time: reordered pictures, uneven distances, starts that are not nought, edit lists, clocks that wrap.

use crate::coding::{
    B_FRAMES, FRAGMENTED, FRAGMENTED_INDEXED, H264, HEVC, M2TS, MKV, MKV_LIVE, MP4, MP4_AT_END, MPEG2, MPEG4, TS,
};
use crate::film::{Film, Keys, Master};
use crate::judge;

/// x265 takes one list of parameters.
const HEVC_B_FRAMES: &str = "-c:v libx265 -preset ultrafast -crf 18 -pix_fmt yuv420p -color_range tv -x265-params \
                             log-level=error:keyint=13:min-keyint=13:scenecut=0:open-gop=0:bframes=3:b-adapt=0";
const HEVC_OPEN: &str = "-c:v libx265 -preset ultrafast -crf 18 -pix_fmt yuv420p -color_range tv -x265-params \
                         log-level=error:keyint=13:min-keyint=13:scenecut=0:open-gop=1:bframes=3:b-adapt=0";
const H264_OPEN: &str = "-bf 3 -b_strategy 0 -x264-params open-gop=1";

#[tokio::test]
async fn reordered_pictures() {
    let h264 = format!("{H264} {B_FRAMES}");
    let packings = [MP4, MP4_AT_END, FRAGMENTED, FRAGMENTED_INDEXED, TS, M2TS, MKV, MKV_LIVE];
    let mut films: Vec<Film> = packings.map(|packing| packing.film("H.264 with B-frames", &h264)).into();
    films.push(MP4.film("HEVC with B-frames", &format!("{HEVC_B_FRAMES} -tag:v hvc1")));
    films.extend([TS, MKV].map(|packing| packing.film("HEVC with B-frames", HEVC_B_FRAMES)));
    // These count in coded order.
    let forced = "-bf 2 -force_key_frames expr:eq(mod(n,13),0)";
    films.push(MP4.film("MPEG-4 with B-frames", &format!("{MPEG4} {forced}")).keys(Keys::Probed));
    films.push(TS.film("MPEG-2 with B-frames", &format!("{MPEG2} {forced}")).keys(Keys::Probed));
    judge::all(films).await;
}

#[tokio::test]
async fn open_groups() {
    let h264 = format!("{H264} {H264_OPEN}");
    let open = |packing: crate::coding::Packing, name, coding: &str| packing.film(name, coding).keys(Keys::Probed);
    let mut films: Vec<Film> =
        [MP4, FRAGMENTED, TS, MKV].map(|packing| open(packing, "H.264 with open groups", &h264)).into();
    films.extend([TS, MKV].map(|packing| open(packing, "HEVC with open groups", HEVC_OPEN)));
    films.push(open(MP4, "HEVC with open groups", &format!("{HEVC_OPEN} -tag:v hvc1")));
    judge::all(films).await;
}

#[tokio::test]
async fn uneven_distances() {
    // One picture of seven is left out, and nearly a second in the middle.
    let uneven = format!("-vf select=not(eq(mod(n\\,7)\\,3))*not(between(n\\,31\\,41)) -vsync vfr {H264} {B_FRAMES}");
    let packings = [MP4, FRAGMENTED, TS, MKV, MKV_LIVE];
    let mut films: Vec<Film> =
        packings.map(|packing| packing.film("uneven distances", &uneven).keys(Keys::Probed)).into();
    let ntsc = format!("{H264} {B_FRAMES} -g 30 -keyint_min 30");
    let packings = [MP4, FRAGMENTED, TS, MKV];
    films
        .extend(packings.map(|packing| packing.film("30000/1001 a second", &ntsc).of(Master::Ntsc).keys(Keys::Probed)));
    judge::all(films).await;
}

#[tokio::test]
async fn starts_that_are_not_nought() {
    let coded = format!("{H264} {B_FRAMES}");
    let mut films = Vec::new();
    for (packing, offset) in [(MP4, 3), (FRAGMENTED, 7000), (TS, 1000), (MKV, 5), (MKV_LIVE, 86_400)] {
        films.push(packing.film("a late start", &format!("{coded} -output_ts_offset {offset}")));
    }
    // What lies before nought is trimmed by an edit list.
    for packing in [MP4, MP4_AT_END] {
        let early = format!("{H264} -output_ts_offset -1.5 -avoid_negative_ts disabled");
        films.push(packing.film("an early start", &early).keys(Keys::Probed));
    }
    judge::all(films).await;
}

#[tokio::test]
async fn edit_lists() {
    let mut films = Vec::new();
    for (name, coding) in [("H.264", H264.to_owned()), ("H.264 with B-frames", format!("{H264} {B_FRAMES}"))] {
        // Cut without coding: the file begins with a keyframe that is not presented.
        let cut = MP4.film(&format!("{name}, cut,"), &coding).then("mp4", "-ss 1.6", "-c copy -f mp4");
        films.push(cut.keys(Keys::Probed));
        // Sound that begins earlier delays the picture by an empty edit.
        let delayed =
            format!("-itsoffset -0.5 -f lavfi -i sine=duration=5:sample_rate=16000 -c:a aac -b:a 32k {coding}");
        films.push(MP4.film(&format!("{name} with early sound"), &delayed));
    }
    let tag = "-c copy -tag:v hvc1 -f mp4";
    let cut = MP4.film("HEVC, cut,", &format!("{HEVC} -tag:v hvc1")).then("mp4", "-ss 2.4", tag);
    films.push(cut.keys(Keys::Probed));
    judge::all(films).await;
}

#[tokio::test]
async fn clocks_that_wrap() {
    // 2^33 ticks of 90 kHz are 95,443.718 s.
    let wrapping = |coding: &str| format!("{coding} -output_ts_offset 95440 -muxdelay 0 -muxpreload 0");
    let films = vec![
        TS.film("a clock that wraps", &wrapping(H264)),
        TS.film("a clock that wraps, B-frames,", &wrapping(&format!("{H264} {B_FRAMES}"))),
        TS.film("a clock that wraps, HEVC,", &wrapping(HEVC_B_FRAMES)),
        M2TS.film("a clock that wraps", &wrapping(&format!("{H264} {B_FRAMES}"))),
    ];
    judge::all(films).await;
}

#[tokio::test]
async fn sound_in_between() {
    let sound = "-f lavfi -i sine=frequency=440:sample_rate=16000 -shortest -map 0:v -map 1:a -c:a aac -b:a 64k";
    let films = [MP4, MP4_AT_END, FRAGMENTED, FRAGMENTED_INDEXED, TS, M2TS, MKV, MKV_LIVE]
        .map(|packing| packing.film("sound in between", &format!("{sound} {H264} {B_FRAMES}")));
    judge::all(films.into()).await;
}

#[tokio::test]
async fn every_picture_a_keyframe() {
    let every = |coding: &str| format!("{coding} -g 1 -keyint_min 1");
    let hevc = "-c:v libx265 -preset ultrafast -crf 18 -pix_fmt yuv420p -color_range tv -tag:v hvc1 -x265-params \
                log-level=error:keyint=1";
    // Without a table of sync samples, all are.
    let films = vec![
        MP4.film("H.264 intra", &every(H264)).keys(Keys::Every(1)),
        TS.film("H.264 intra", &every(H264)).keys(Keys::Every(1)),
        MKV.film("H.264 intra", &every(H264)).keys(Keys::Every(1)),
        MP4.film("HEVC intra", hevc).keys(Keys::Every(1)),
        MP4.film("MPEG-4 intra", &every(MPEG4)).keys(Keys::Every(1)),
        FRAGMENTED.film("H.264 intra", &every(H264)).keys(Keys::Every(1)),
    ];
    judge::all(films).await;
}

#[tokio::test]
async fn gradual_refresh() {
    let refreshed = format!("{H264} -x264-params intra-refresh=1");
    let films =
        [MP4, FRAGMENTED, TS, MKV].map(|packing| packing.film("gradual refresh", &refreshed).keys(Keys::Gradual));
    judge::all(films.into()).await;
}
