//! Everything that decides the bytes of a file, and the instants that follow from it.

use super::clock::CLOCK_END_MS;

/// How the pictures are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the codecs' own names")]
pub enum Codec {
    H264,
    Hevc,
    Av1,
    Vp8,
    Vp9,
    Mpeg4,
    Mjpeg,
    Mpeg2,
}

impl Codec {
    /// The name that people know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::Hevc => "HEVC",
            Self::Av1 => "AV1",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Mpeg4 => "MPEG-4",
            Self::Mjpeg => "MJPEG",
            Self::Mpeg2 => "MPEG-2",
        }
    }
}

/// What the pictures are packed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// The tables in front of the pictures.
    Mp4,
    /// The tables behind the pictures.
    Mp4MoovAtEnd,
    /// A fragment per keyframe.
    FragmentedMp4,
    /// MPEG transport stream.
    MpegTs,
    /// Matroska.
    Mkv,
}

impl Container {
    /// The name that people know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mp4 => "MP4",
            Self::Mp4MoovAtEnd => "MP4, moov at end",
            Self::FragmentedMp4 => "fragmented MP4",
            Self::MpegTs => "MPEG-TS",
            Self::Mkv => "Matroska",
        }
    }

    /// The usual ending of file names.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Mp4 | Self::Mp4MoovAtEnd | Self::FragmentedMp4 => "mp4",
            Self::MpegTs => "ts",
            Self::Mkv => "mkv",
        }
    }
}

/// How a picture's samples are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// 4:2:0, 8 bits, limited range.
    Yuv420p,
    /// 4:2:0, 8 bits, full range.
    Yuvj420p,
    /// 4:2:2, 8 bits, limited range.
    Yuv422p,
    /// 4:4:4, 8 bits, limited range.
    Yuv444p,
    /// 4:2:0, 10 bits, limited range.
    Yuv420p10,
}

impl PixelFormat {
    /// What FFmpeg calls it.
    pub(super) const fn ffmpeg_name(self) -> &'static str {
        match self {
            Self::Yuv420p => "yuv420p",
            Self::Yuvj420p => "yuvj420p",
            Self::Yuv422p => "yuv422p",
            Self::Yuv444p => "yuv444p",
            Self::Yuv420p10 => "yuv420p10le",
        }
    }
}

/// Frames in a number of seconds: 12.5 a second are 25 in 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many frames.
    pub frames: u32,
    /// In how many seconds.
    pub seconds: u32,
}

/// Everything about one file of footage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// Written into every picture; digits, letters, `-`, `.` and `:` are shown.
    pub label: String,
    /// Pixels across, even.
    pub width: u32,
    /// Pixels down, even.
    pub height: u32,
    /// Frames per second.
    pub rate: Rate,
    /// How long it is; the last frame ends here.
    pub duration_ms: i64,
    /// Wall clock of the frame that is presented first.
    pub start_ms: i64,
    /// How pictures are coded.
    pub codec: Codec,
    /// Frames from one keyframe to the next.
    pub gop: u32,
    /// B-frames between two others; only where the codec has them.
    pub b_frames: u32,
    /// What it is packed in.
    pub container: Container,
    /// How samples are stored.
    pub pixels: PixelFormat,
    /// Whether a sound track is interleaved.
    pub has_audio: bool,
}

impl Default for Recipe {
    /// A minute of H.264 in MP4, 640x360 at 12.5 frames a second, a keyframe every 2 s, no B-frames, no sound.
    fn default() -> Self {
        Self {
            label: "camera".to_owned(),
            width: 640,
            height: 360,
            rate: Rate { frames: 25, seconds: 2 },
            duration_ms: 60_000,
            start_ms: 1_757_371_980_000,
            codec: Codec::H264,
            gop: 25,
            b_frames: 0,
            container: Container::Mp4,
            pixels: PixelFormat::Yuv420p,
            has_audio: false,
        }
    }
}

impl Recipe {
    /// Says what is wrong with it, if anything.
    ///
    /// # Errors
    /// An odd or too small or large size, nothing to show, or instants that the clock cannot hold.
    pub fn check(&self) -> Result<(), String> {
        let is_size = |len: u32, least: u32| (least..=4096).contains(&len) && len.is_multiple_of(2);
        if !is_size(self.width, 160) || !is_size(self.height, 120) {
            return Err(format!("size {}x{}: even, from 160x120 to 4096x4096", self.width, self.height));
        }
        if self.rate.frames == 0 || self.rate.seconds == 0 || self.gop == 0 || self.n_frames() < 1 {
            return Err(format!("rate {:?}, gop {}, {} ms: no frames", self.rate, self.gop, self.duration_ms));
        }
        if self.start_ms < 0 || self.end_ms() >= CLOCK_END_MS {
            return Err(format!("from {} to {} ms: outside the clock", self.start_ms, self.end_ms()));
        }
        Ok(())
    }

    /// How many frames there are.
    pub fn n_frames(&self) -> i64 {
        self.duration_ms * i64::from(self.rate.frames) / (1000 * i64::from(self.rate.seconds.max(1)))
    }

    /// Wall clock of frame `n`, rounded to the nearest millisecond.
    pub fn instant_ms(&self, n: i64) -> i64 {
        let (frames, seconds) = (i64::from(self.rate.frames.max(1)), i64::from(self.rate.seconds));
        self.start_ms + (2 * n * 1000 * seconds + frames) / (2 * frames)
    }

    /// Wall clock of the end.
    pub fn end_ms(&self) -> i64 {
        self.start_ms + self.duration_ms
    }

    /// Wall clock of every keyframe, in order.
    pub fn keyframes_ms(&self) -> Vec<i64> {
        (0..self.n_frames()).step_by(self.gop.max(1) as usize).map(|n| self.instant_ms(n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_follow_from_the_rate() {
        let check = |rate: Rate, gop: u32, expected: &[i64]| {
            let recipe = Recipe { rate, gop, start_ms: 1000, duration_ms: 5000, ..Recipe::default() };
            assert_eq!(recipe.keyframes_ms(), expected);
        };
        check(Rate { frames: 25, seconds: 2 }, 25, &[1000, 3000, 5000]);
        check(Rate { frames: 2, seconds: 1 }, 3, &[1000, 2500, 4000, 5500]);
        check(Rate { frames: 30_000, seconds: 1001 }, 50, &[1000, 2668, 4337]);
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        let check = |recipe: Recipe, part: &str| {
            let refused = recipe.check().expect_err("refused");
            assert!(refused.contains(part), "{refused}");
        };
        assert_eq!(Recipe::default().check(), Ok(()));
        check(Recipe { width: 641, ..Recipe::default() }, "641x360");
        check(Recipe { height: 100, ..Recipe::default() }, "640x100");
        check(Recipe { gop: 0, ..Recipe::default() }, "no frames");
        check(Recipe { duration_ms: 10, ..Recipe::default() }, "no frames");
        check(Recipe { start_ms: CLOCK_END_MS, ..Recipe::default() }, "outside the clock");
    }
}
