//! Recordings, what FFmpeg decodes of them, and the questions that the tests ask.

use std::path::{Path, PathBuf};
use std::process::Command;

use stills_decoder::exact::{Found, exact};
use stills_decoder::render::Renderer;
use stills_decoder::scan::{Media, scan};
use stills_model::exact::ExactQuery;
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::{ByteRange, Keyframe, ticks_to_ms};
use stills_model::keyframe_index::KeyframeIndex;
use stills_model::rendition::{Fit, Format, Rendition};
use stills_model::wire::READ_LEN_MAX;
use tempfile::TempDir;

pub(crate) const WIDTH: u16 = 160;
pub(crate) const HEIGHT: u16 = 120;

/// Decibels between a frame and our picture of it, which is a JPEG: others than its own reach some 20.
const PSNR_MIN: f64 = 30.0;

/// Frames that decoders hold back beyond the one that decides.
const HELD_BACK_MAX: usize = 20;

fn run(program: &str, args: &str, path: &Path) -> Vec<u8> {
    let output = Command::new(program).args(["-v", "error"]).args(args.split_whitespace()).arg(path).output();
    let output = output.expect("FFmpeg's programs run");
    assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Four seconds of moving pictures, `args` behind them.
pub(crate) fn make(dir: &TempDir, name: &str, args: &str) -> PathBuf {
    make_from(dir, name, &format!("-f lavfi -i testsrc2=size={WIDTH}x{HEIGHT}:rate=25:duration=4 {args}"))
}

/// A file of whatever `args` say.
pub(crate) fn make_from(dir: &TempDir, name: &str, args: &str) -> PathBuf {
    let path = dir.path().join(name);
    run("ffmpeg", &format!("-y -nostdin {args}"), &path);
    path
}

/// A file in memory that counts what is read of it.
pub(crate) struct Memory {
    bytes: Vec<u8>,
    pub(crate) read: u64,
}

impl Memory {
    /// Overwrites a part.
    pub(crate) fn wipe(&mut self, range: ByteRange) {
        let from = usize::try_from(range.offset).expect("offset");
        self.bytes[from..from + range.len as usize].fill(0x55);
    }
}

impl Media for Memory {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Fault> {
        assert!(len > 0 && len <= READ_LEN_MAX, "a read of {len} bytes");
        self.read += u64::from(len);
        let from = usize::try_from(offset).expect("offset");
        let bytes = self.bytes.get(from..from + len as usize);
        bytes.map(<[u8]>::to_vec).ok_or_else(|| Fault::new(FaultKind::Internal, "a read past the end"))
    }
}

/// A recording, its keyframe index, and what FFmpeg decodes of it.
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) media: Memory,
    pub(crate) index: KeyframeIndex,
    /// Instant and luma of each presented frame.
    frames: Vec<(i64, Vec<u8>)>,
}

impl Recording {
    pub(crate) fn open(path: &Path) -> Self {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let mut media = Memory { bytes: std::fs::read(path).expect("the fixture"), read: 0 };
        let index = scan(&mut media, false, &[]).expect("an index");
        media.read = 0;
        Self { name, media, index, frames: frames(path) }
    }

    pub(crate) fn instants(&self) -> Vec<i64> {
        self.frames.iter().map(|(at_ms, _)| *at_ms).collect()
    }

    /// The query that the service would make: decoding starts at the keyframe at or before the earliest instant.
    pub(crate) fn query(&self, instants_ms: &[i64]) -> ExactQuery {
        let first_ms = *instants_ms.iter().min().expect("an instant");
        let keyframe = self.keyframe(first_ms);
        ExactQuery {
            len: self.media.len(),
            growing: false,
            from_ms: keyframe.at_ms,
            ranges: keyframe.ranges.clone(),
            config: self.index.configs[usize::from(keyframe.config)].clone(),
            instants_ms: instants_ms.to_vec(),
            frames_max: 600,
            renditions: vec![Rendition {
                width: WIDTH,
                height: HEIGHT,
                fit: Fit::Stretch,
                format: Format::Jpeg,
                quality: 97,
            }],
        }
    }

    fn keyframe(&self, instant_ms: i64) -> &Keyframe {
        let keyframes = &self.index.keyframes;
        keyframes.iter().rev().find(|keyframe| keyframe.at_ms <= instant_ms).unwrap_or(&keyframes[0])
    }

    pub(crate) fn ask(&mut self, query: &ExactQuery) -> Result<Found, Fault> {
        exact(&mut self.media, query, &mut Renderer::new())
    }

    /// The nearest frame, of two equally near the later.
    pub(crate) fn nearest(&self, instant_ms: i64) -> usize {
        let nearer = |place: &usize| (self.frames[*place].0.abs_diff(instant_ms), usize::MAX - place);
        (0..self.frames.len()).min_by_key(nearer).expect("a frame")
    }

    /// Of the frames around `expected` the one that looks most like the picture, and how much.
    fn shown(&self, jpeg: &[u8], expected: usize) -> (usize, f64) {
        let picture = turbojpeg::decompress_to_yuv(jpeg).expect("a JPEG");
        let size = (picture.width, picture.height);
        assert_eq!(size, (usize::from(WIDTH), usize::from(HEIGHT)), "rows without gaps");
        let luma = &picture.pixels[..size.0 * size.1];
        let around = self.frames.iter().enumerate().skip(expected.saturating_sub(3)).take(7);
        let psnrs = around.map(|(place, (_, expected))| (place, psnr(expected, luma)));
        psnrs.max_by(|(_, a), (_, b)| a.total_cmp(b)).expect("a frame")
    }

    /// Asks for `instants_ms` in one decode, and checks each answer and what it cost.
    pub(crate) fn check(&mut self, instants_ms: &[i64]) {
        let query = self.query(instants_ms);
        let found = self.ask(&query).expect("answers");
        assert_eq!(found.answers.len(), instants_ms.len());
        for (instant_ms, answer) in instants_ms.iter().zip(&found.answers) {
            let what = format!("{} at {instant_ms} ms from {} ms", self.name, query.from_ms);
            let frame = answer.as_ref().unwrap_or_else(|fault| unreachable!("{what}: {fault}"));
            let expected = self.nearest(*instant_ms);
            assert_eq!(frame.at_ms, self.frames[expected].0, "{what}");
            let (shown, psnr) = self.shown(&frame.pictures[0], expected);
            assert_eq!(shown, expected, "{what}: another frame is shown, {psnr} dB");
            assert!(psnr >= PSNR_MIN, "{what}: {psnr} dB");
        }
        let last = instants_ms.iter().map(|instant_ms| self.nearest(*instant_ms)).max().expect("an instant");
        let first = self.nearest(query.from_ms.min(*instants_ms.iter().min().expect("an instant")));
        let decoded = found.decoded as usize;
        let most = last + 2 - first.min(last) + HELD_BACK_MAX;
        assert!(decoded <= most, "{}: {decoded} frames decoded for frames {first} to {last}", self.name);
    }

    /// Asks for each keyframe's stretch of the recording in one decode: frames, the middle between two, and instants
    /// beside them; and for what lies before the first frame and behind the last.
    pub(crate) fn check_all(&mut self) {
        let instants = self.instants();
        let between = instants.windows(2).flat_map(|pair| {
            let middle = i64::midpoint(pair[0], pair[1]);
            [pair[0], pair[0] + 1, middle, middle + 1, pair[1] - 1]
        });
        let end = *instants.last().expect("a frame");
        let mut all: Vec<i64> =
            between.step_by(7).chain([-5000, -1, 0, end - 1, end, end + 1, end + 3_600_000]).collect();
        // In no order.
        all.sort_by_key(|instant_ms| (instant_ms * 7919).rem_euclid(1009));
        let mut starts: Vec<i64> = all.iter().map(|instant_ms| self.keyframe(*instant_ms).at_ms).collect();
        starts.sort_unstable();
        starts.dedup();
        for start in starts {
            let own: Vec<i64> =
                all.iter().copied().filter(|instant_ms| self.keyframe(*instant_ms).at_ms == start).collect();
            own.chunks(40).for_each(|instants| self.check(instants));
        }
    }
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / squares.max(1.0)).log10()
}

/// Instants by ffprobe, full-range luma by ffmpeg, both of every frame that is presented.
fn frames(path: &Path) -> Vec<(i64, Vec<u8>)> {
    let show = |entries: &str| {
        let text = run("ffprobe", &format!("-select_streams v:0 -of csv=p=0 -show_entries {entries}"), path);
        String::from_utf8(text).expect("text")
    };
    let base = show("stream=time_base");
    // It stands once in its program and once outside.
    let base = base.lines().find_map(|line| line.trim_end_matches(',').strip_prefix("1/")).expect("a time base");
    let timescale: u32 = base.parse().expect("a number");
    let packets = show("packet=pts,flags");
    let presented = packets.lines().filter(|line| !line.contains('D'));
    let ticks = |line: &str| line.split(',').next().and_then(|field| field.parse::<i64>().ok());
    let origin = presented.filter_map(ticks).min().expect("a packet");
    let times = show("frame=pts");
    let times: Vec<i64> = times.lines().filter_map(ticks).map(|pts| ticks_to_ms(pts - origin, timescale)).collect();
    let pictures = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-fps_mode", "passthrough", "-pix_fmt", "gray", "-f", "rawvideo", "-"])
        .output()
        .expect("ffmpeg runs");
    let size = usize::from(WIDTH) * usize::from(HEIGHT);
    assert_eq!(pictures.stdout.len(), times.len() * size, "{}: as many pictures as times", path.display());
    times.into_iter().zip(pictures.stdout.chunks(size).map(<[u8]>::to_vec)).collect()
}
