//! Oddities of pictures: fields, turns, shapes of samples, ranges, depths, sizes.

use crate::coding::{AV1, FRAGMENTED, H264, HEVC, HEVC_10, MJPEG, MKV, MKV_LIVE, MP4, MPEG2, TS, VP8, VP9, WEBM};
use crate::film::{Film, Keys, Master};
use crate::judge;

#[tokio::test]
async fn fields() {
    let coded = format!("{H264} -flags +ildct+ilme -x264-params tff=1");
    let mut films: Vec<Film> = [MP4, TS, MKV].map(|packing| packing.film("interlaced H.264", &coded)).into();
    let mpeg2 = format!("{MPEG2} -flags +ildct+ilme -top 1");
    films.push(TS.film("interlaced MPEG-2", &mpeg2));
    films.push(MKV.film("interlaced MPEG-2", &mpeg2));
    judge::all(films).await;
}

#[tokio::test]
async fn turns() {
    // Turned before it is coded, so that the container's turn sets it upright and its clock can be read.
    let films = [(90, "transpose=1"), (180, "hflip,vflip"), (270, "transpose=2")].map(|(degrees, filter)| {
        let film = MP4.film(&format!("turned by {degrees},"), &format!("-vf {filter} {H264}"));
        film.then("mp4", "", &format!("-c copy -metadata:s:v:0 rotate={degrees} -f mp4"))
    });
    judge::all(films.into()).await;
}

#[tokio::test]
async fn shapes_of_samples() {
    let mut films: Vec<Film> = [MP4, FRAGMENTED, TS, MKV, MKV_LIVE]
        .map(|packing| packing.film("wide samples", &format!("-vf setsar=64/45 {H264}")))
        .into();
    films.push(WEBM.film("narrow samples", &format!("-vf setsar=8/9 {VP9}")));
    judge::all(films).await;
}

#[tokio::test]
async fn ranges_and_matrices() {
    let full = H264.replace("yuv420p", "yuvj420p").replace("-color_range tv", "-color_range pc");
    let mut films: Vec<Film> = [MP4, TS, MKV].map(|packing| packing.film("full range", &full)).into();
    let hevc = HEVC.replace("yuv420p", "yuvj420p").replace("-color_range tv", "-color_range pc");
    films.push(MP4.film("full range HEVC", &format!("{hevc} -tag:v hvc1")));
    // The numbers stay, what they mean is another colour.
    let tags = "-vf setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709";
    films.push(MP4.film("BT.709", &format!("{tags} {H264}")));
    films.push(TS.film("BT.709, HEVC,", &format!("{tags} {HEVC}")));
    films.push(MKV.film("BT.709, VP9,", &format!("{tags} {VP9}")));
    let tags = "-vf setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc=bt709";
    films.push(MP4.film("BT.2020", &format!("{tags} {HEVC_10} -tag:v hvc1")));
    judge::all(films).await;
}

#[tokio::test]
async fn layouts_and_depths() {
    let h264 = |pixels: &str| H264.replace("yuv420p", pixels);
    let hevc = |pixels: &str| format!("{} -tag:v hvc1", HEVC.replace("yuv420p", pixels));
    let mut films: Vec<Film> = ["yuv422p", "yuv444p", "gray", "yuv420p10le", "yuv422p10le", "yuv444p10le"]
        .map(|pixels| MP4.film(&format!("H.264 of {pixels}"), &h264(pixels)))
        .into();
    films.extend(
        ["yuv422p", "yuv444p", "gray", "yuv422p10le", "yuv420p12le"]
            .map(|pixels| MP4.film(&format!("HEVC of {pixels}"), &hevc(pixels))),
    );
    films.push(TS.film("H.264 of yuv422p", &h264("yuv422p")));
    films.push(MKV.film("H.264 of yuv444p", &h264("yuv444p")));
    films.push(MKV.film("H.264 of RGB", &h264("rgb24").replace("libx264", "libx264rgb")));
    films.push(MKV.film("VP9 of yuv444p", &VP9.replace("yuv420p", "yuv444p -profile:v 1")));
    films.push(MKV.film("VP9 of 10 bits", &VP9.replace("yuv420p", "yuv420p10le -profile:v 2")));
    films.push(MKV.film("AV1 of 10 bits", &AV1.replace("yuv420p", "yuv420p10le")));
    films.push(MKV.film("MJPEG of yuvj422p", &MJPEG.replace("yuvj420p", "yuvj422p")).keys(Keys::Every(1)));
    films.push(MKV.film("MJPEG of yuvj444p", &MJPEG.replace("yuvj420p", "yuvj444p")).keys(Keys::Every(1)));
    judge::all(films).await;
}

#[tokio::test]
async fn sizes() {
    let scaled = |size: &str, coding: &str| format!("-vf scale={size} {coding}");
    let odd = |coding: &str| scaled("477:271", coding);
    let mut films = vec![
        WEBM.film("VP9 of an odd size", &odd(VP9)),
        WEBM.film("VP8 of an odd size", &odd(VP8)),
        MP4.film("AV1 of an odd size", &odd(AV1)),
        MKV.film("MJPEG of an odd size", &odd(MJPEG)).keys(Keys::Every(1)),
        MP4.film("H.264 of an odd size", &odd(&H264.replace("yuv420p", "yuv444p"))),
        MP4.film("H.264 that is cropped", &scaled("474:266", H264)),
        TS.film("H.264 that is cropped", &scaled("474:266", H264)),
        TS.film("HEVC that is cropped", &scaled("474:266", HEVC)),
        MP4.film("smaller than the thumb", &scaled("192:144", H264)),
        MP4.film("upright", &scaled("288:480", H264)),
        MP4.film("several slices", &format!("{H264} -slices 4")),
        TS.film("delimited units", &format!("{H264} -bsf:v h264_metadata=aud=insert")),
    ];
    // Much larger than the thumb: the loop filter is left out.
    for packing in [MP4, TS] {
        films.push(packing.film("1920x1080", H264).of(Master::Large));
    }
    films.push(MP4.film("1920x1080 HEVC", &format!("{HEVC} -tag:v hvc1")).of(Master::Large));
    judge::all(films).await;
}
