//! Clips, what FFmpeg decodes of them, and a file in memory that counts.

use std::path::{Path, PathBuf};
use std::process::Command;

use stills_decoder::clip::find;
use stills_decoder::render::Renderer;
use stills_decoder::scan::Media;
use stills_model::clip::{ClipFound, ClipPoint, ClipQuery, Container, Containers};
use stills_model::fault::{Fault, FaultKind};
use stills_model::rendition::{Fit, Format, Rendition};
use tempfile::TempDir;

pub(crate) const WIDTH: u16 = 256;
pub(crate) const HEIGHT: u16 = 144;

/// From one frame to the next.
pub(crate) const FRAME_MS: i64 = 40;

pub(crate) fn run(program: &str, args: &str, path: &Path) -> Vec<u8> {
    let output = Command::new(program).args(["-v", "error"]).args(args.split_whitespace()).arg(path).output();
    let output = output.expect("FFmpeg's programs run");
    assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Some seconds of moving pictures and a tone, `args` behind them.
pub(crate) fn make(dir: &TempDir, name: &str, seconds: u32, args: &str) -> PathBuf {
    let path = dir.path().join(name);
    let pictures = format!("-f lavfi -i testsrc2=size={WIDTH}x{HEIGHT}:rate=25:duration={seconds}");
    let tone = format!("-f lavfi -i sine=frequency=440:sample_rate=44100:duration={seconds}");
    let sound = match name.rsplit('.').next() {
        Some("mxf") => "-map 1:a -ar 48000",
        // FFmpeg's muxer puts an empty picture behind the first one where sound begins late.
        Some("avi") => "-an",
        _ => "-map 1:a -ac 2",
    };
    run("ffmpeg", &format!("-y -nostdin {pictures} {tone} -map 0:v {sound} {args}"), &path);
    path
}

/// A file in memory that counts what is read of it.
pub(crate) struct Memory {
    pub(crate) bytes: Vec<u8>,
    pub(crate) read: u64,
}

impl Memory {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, read: 0 }
    }

    pub(crate) fn of(path: &Path) -> Self {
        Self::new(std::fs::read(path).expect("the fixture"))
    }

    pub(crate) fn find(&mut self, point: ClipPoint) -> Result<ClipFound, Fault> {
        let query = ClipQuery {
            len: self.bytes.len() as u64,
            point,
            containers: Container::ALL.into_iter().map(|(_, container)| container).collect::<Containers>(),
            frames_max: 600,
            renditions: vec![rendition()],
        };
        find(self, &query, &mut Renderer::new())
    }
}

pub(crate) fn rendition() -> Rendition {
    Rendition { width: WIDTH, height: HEIGHT, fit: Fit::Stretch, format: Format::Jpeg, quality: 97 }
}

impl Media for Memory {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Fault> {
        assert!(len > 0, "an empty read");
        self.read += u64::from(len);
        let from = usize::try_from(offset).expect("offset");
        let bytes = self.bytes.get(from..from + len as usize);
        bytes.map(<[u8]>::to_vec).ok_or_else(|| Fault::new(FaultKind::Internal, "a read past the end"))
    }
}

/// Luma of every frame in the order of presentation, by FFmpeg.
pub(crate) fn frames(path: &Path) -> Vec<Vec<u8>> {
    let pictures = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-vsync", "passthrough", "-pix_fmt", "gray", "-f", "rawvideo", "-"])
        .output()
        .expect("ffmpeg runs");
    let size = usize::from(WIDTH) * usize::from(HEIGHT);
    pictures.stdout.chunks(size).map(<[u8]>::to_vec).collect()
}

/// Which of the frames looks most like a picture.
pub(crate) fn which(frames: &[Vec<u8>], jpeg: &[u8]) -> usize {
    let picture = turbojpeg::decompress_to_yuv(jpeg).expect("a JPEG");
    assert_eq!((picture.width, picture.height), (usize::from(WIDTH), usize::from(HEIGHT)));
    let luma = &picture.pixels[..picture.width * picture.height];
    let distance = |frame: &[u8]| -> u64 {
        frame.iter().zip(luma).map(|(a, b)| u64::from(a.abs_diff(*b)) * u64::from(a.abs_diff(*b))).sum()
    };
    (0..frames.len()).min_by_key(|place| distance(&frames[*place])).expect("a frame")
}
