//! How films are coded: the arguments of FFmpeg for each codec, a keyframe every 13 pictures, no B-frames.

use crate::film::Film;

/// H.264 with all that it has but B-frames.
pub(crate) const H264: &str = "-c:v libx264 -preset veryfast -crf 18 -pix_fmt yuv420p -g 13 -keyint_min 13 \
                               -sc_threshold 0 -bf 0 -color_range tv";
pub(crate) const HEVC: &str = "-c:v libx265 -preset ultrafast -crf 18 -pix_fmt yuv420p -color_range tv -x265-params \
                               log-level=error:keyint=13:min-keyint=13:scenecut=0:open-gop=0:bframes=0";
pub(crate) const HEVC_10: &str = "-c:v libx265 -preset ultrafast -crf 18 -pix_fmt yuv420p10le -color_range tv \
                                  -x265-params \
                                  log-level=error:keyint=13:min-keyint=13:scenecut=0:open-gop=0:bframes=0";
pub(crate) const AV1: &str = "-c:v libaom-av1 -usage realtime -cpu-used 8 -crf 20 -b:v 0 -pix_fmt yuv420p \
                              -color_range tv -g 13 -keyint_min 13 -lag-in-frames 0";
pub(crate) const VP9: &str = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -crf 20 -b:v 0 -pix_fmt yuv420p \
                              -color_range tv -g 13 -keyint_min 13 -lag-in-frames 0";
pub(crate) const VP8: &str = "-c:v libvpx -deadline realtime -cpu-used 8 -crf 10 -b:v 4M -pix_fmt yuv420p \
                              -color_range tv -g 13 -keyint_min 13 -lag-in-frames 0";
pub(crate) const MPEG4: &str = "-c:v mpeg4 -q:v 2 -pix_fmt yuv420p -color_range tv -g 13 -bf 0 \
                                -sc_threshold 1000000000";
pub(crate) const MPEG2: &str = "-c:v mpeg2video -q:v 2 -pix_fmt yuv420p -color_range tv -g 13 -bf 0 -r 25/1 \
                                -sc_threshold 1000000000";
pub(crate) const MJPEG: &str = "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p";

/// B-frames, as many as are allowed and used as references too.
pub(crate) const B_FRAMES: &str = "-bf 3 -b_strategy 0 -x264-params b-pyramid=normal";

/// How a file is packed: a name, how the file's name ends, and FFmpeg's arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing {
    pub(crate) name: &'static str,
    pub(crate) extension: &'static str,
    pub(crate) arguments: &'static str,
}

const fn packing(name: &'static str, extension: &'static str, arguments: &'static str) -> Packing {
    Packing { name, extension, arguments }
}

pub(crate) const MP4: Packing = packing("MP4", "mp4", "-f mp4 -movflags +faststart");
pub(crate) const MP4_AT_END: Packing = packing("MP4 with its tables at the end", "mp4", "-f mp4");
pub(crate) const FRAGMENTED: Packing =
    packing("fragmented MP4", "mp4", "-f mp4 -movflags +frag_keyframe+empty_moov+default_base_moof");
pub(crate) const FRAGMENTED_INDEXED: Packing =
    packing("fragmented MP4 with sidx", "mp4", "-f mp4 -movflags +dash+frag_keyframe+empty_moov+default_base_moof");
pub(crate) const TS: Packing = packing("MPEG-TS", "ts", "-f mpegts");
pub(crate) const M2TS: Packing = packing("MPEG-TS of 192 bytes", "m2ts", "-f mpegts -mpegts_m2ts_mode 1");
pub(crate) const MKV: Packing = packing("Matroska", "mkv", "-f matroska");
pub(crate) const MKV_LIVE: Packing = packing("Matroska without cues", "mkv", "-f matroska -live 1");
pub(crate) const WEBM: Packing = packing("WebM", "webm", "-f webm");

impl Packing {
    /// A film of this packing, coded by `arguments`.
    pub(crate) fn film(self, name: &str, arguments: &str) -> Film {
        let Packing { name: packed, extension, arguments: packing } = self;
        Film::new(format!("{name} in {packed}"), extension, &format!("{arguments} {packing}"))
    }
}
