//! The files that are measured: real pictures, scaled up, sharpened and with the noise of a sensor, coded as cameras code.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Between two pictures, in milliseconds.
const FRAME_MS: i64 = 40;

/// A file and where its keyframes are.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) name: &'static str,
    pub(crate) file: PathBuf,
    /// Between two keyframes, in milliseconds.
    pub(crate) distance_ms: i64,
    pub(crate) n_keyframes: usize,
    /// The one that this one is a longer copy of.
    pub(crate) copy_of: Option<&'static str>,
}

impl Input {
    /// How long it is, in milliseconds.
    pub(crate) fn duration_ms(&self) -> i64 {
        i64::try_from(self.n_keyframes).unwrap_or(0) * self.distance_ms
    }

    /// The instants of `count` keyframes, spread over the whole file, in milliseconds.
    pub(crate) fn instants(&self, count: usize) -> Vec<i64> {
        let count = count.min(self.n_keyframes);
        let keyframe = |n: usize| i64::try_from(n * self.n_keyframes / count).unwrap_or(0);
        (0..count).map(|n| keyframe(n) * self.distance_ms).collect()
    }
}

/// Two clips of real footage: 132 and 250 pictures.
const CLIPS: [&str; 2] = ["bigbuckbunny.mp4", "bikes.mp4"];

const X264: &str = "-c:v libx264 -preset veryfast -profile:v high -bf 0 -sc_threshold 0 -threads 0";

/// What [`camera`] makes.
const CAMERA: [&str; 2] = ["m-base.mp4", "m.mp4"];

struct Order {
    name: &'static str,
    file: &'static str,
    /// Size of the pictures, or the file that is copied.
    from: From,
    /// How many times the pictures are repeated without coding them again.
    times: usize,
    packing: &'static str,
}

enum From {
    Coded { size: &'static str, coding: &'static str, gop: usize, n_frames: usize },
    CopyOf(&'static str),
}

fn orders() -> Vec<Order> {
    let copy = |name, file, of, times, packing| Order { name, file, from: From::CopyOf(of), times, packing };
    let coded = |name, file, size, coding, gop, n_frames| {
        let from = From::Coded { size, coding, gop, n_frames };
        Order { name, file, from, times: 1, packing: "-movflags +faststart" }
    };
    vec![
        coded("1080p H.264, base", "a-base.mp4", "1920:1080", "-crf 25", 12, 372),
        copy("1080p H.264 in MP4", "a.mp4", "a-base.mp4", 4, "-movflags +faststart"),
        copy("1080p H.264 in fMP4", "b.mp4", "a-base.mp4", 4, "-movflags +frag_keyframe+empty_moov+default_base_moof"),
        copy("1080p H.264 in MPEG-TS", "c.ts", "a-base.mp4", 4, "-f mpegts"),
        copy("1080p H.264 in Matroska", "d.mkv", "a-base.mp4", 4, "-f matroska"),
        copy("1080p H.264 in MP4, an hour", "g.mp4", "a-base.mp4", 240, "-movflags +faststart"),
        coded("1080p H.264, long GOP, base", "m-base.mp4", "1920:1080", "-crf 25", 62, 372),
        copy("1080p H.264, a keyframe in 2.5 s", "m.mp4", "m-base.mp4", 4, "-movflags +faststart"),
        coded("720p H.264, base", "f-base.mp4", "1280:720", "-crf 24", 12, 372),
        copy("720p H.264 in MP4", "f.mp4", "f-base.mp4", 4, "-movflags +faststart"),
        coded("2160p HEVC, base", "e-base.mp4", "3840:2160", "hevc", 4, 120),
        copy("2160p HEVC in MP4", "e.mp4", "e-base.mp4", 2, "-tag:v hvc1 -movflags +faststart"),
    ]
}

/// Makes the files that are not there yet. `clips` are looked for in `STILLS_BENCH_CLIPS`.
///
/// # Errors
/// What FFmpeg says, or clips that are not there.
pub(crate) fn all(place: &Path) -> io::Result<Vec<Input>> {
    some(place, |file| !CAMERA.contains(&file))
}

/// A minute of 1080p H.264 in MP4 with a keyframe in 2.5 s, as cameras record.
///
/// # Errors
/// As [`all`].
pub(crate) fn camera(place: &Path) -> io::Result<Input> {
    let found = some(place, |file| CAMERA.contains(&file))?;
    found.into_iter().next().ok_or_else(|| io::Error::other("no such file is made"))
}

/// Puts a file elsewhere, without copying its bytes where that can be.
pub(crate) fn link(file: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(file, to).or_else(|_| std::fs::copy(file, to).map(drop))
}

fn some(place: &Path, is_wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Input>> {
    let mut found: Vec<(&'static str, Input)> = Vec::new();
    for order in orders().into_iter().filter(|order| is_wanted(order.file)) {
        let file = place.join(order.file);
        let (distance, n_keyframes, copy_of) = match &order.from {
            From::Coded { gop, n_frames, .. } => (*gop, n_frames / gop, None),
            From::CopyOf(of) => {
                let (_, base) = found.iter().find(|(name, _)| name == of).ok_or_else(|| io::Error::other("no base"))?;
                let distance = usize::try_from(base.distance_ms / FRAME_MS).unwrap_or(1);
                (distance, base.n_keyframes * order.times, (order.times > 100).then_some("1080p H.264 in MP4"))
            }
        };
        if !file.is_file() {
            eprintln!("making {}", file.display());
            let unfinished = place.join(format!("part-{}", order.file));
            ffmpeg(&arguments(&order, place)?, &unfinished)?;
            std::fs::rename(&unfinished, &file)?;
        }
        let distance_ms = i64::try_from(distance).unwrap_or(0) * FRAME_MS;
        found.push((order.file, Input { name: order.name, file, distance_ms, n_keyframes, copy_of }));
    }
    Ok(found.into_iter().filter(|(file, _)| !file.contains("-base")).map(|(_, input)| input).collect())
}

fn arguments(order: &Order, place: &Path) -> io::Result<Vec<String>> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut line = Vec::new();
    match &order.from {
        From::CopyOf(of) => {
            line.extend(words(&format!("-stream_loop {} -i", order.times - 1)));
            line.push(place.join(of).display().to_string());
            line.extend(words("-c copy -an"));
        }
        From::Coded { size, coding, gop, n_frames } => {
            let clips =
                std::env::var("STILLS_BENCH_CLIPS").map_err(|_| io::Error::other("STILLS_BENCH_CLIPS is not set"))?;
            for clip in CLIPS {
                line.extend(["-i".to_owned(), Path::new(&clips).join(clip).display().to_string()]);
            }
            let one = |n: usize| {
                format!("[{n}:v]fps=25,scale={size}:flags=lanczos,setsar=1,unsharp,noise=alls=8:allf=t[v{n}]")
            };
            line.push("-filter_complex".to_owned());
            line.push(format!("{};{};[v0][v1]concat=n=2:v=1[v]", one(0), one(1)));
            line.extend(words(&format!("-map [v] -an -frames:v {n_frames} -pix_fmt yuv420p -g {gop}")));
            line.extend(words(&match *coding {
                "hevc" => format!(
                    "-c:v libx265 -preset ultrafast -tag:v hvc1 -crf 23 -x265-params \
                     log-level=error:keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:sao=1:wpp=0"
                ),
                quality => format!("{X264} {quality} -keyint_min {gop}"),
            }));
        }
    }
    line.extend(words(order.packing));
    Ok(line)
}

fn ffmpeg(arguments: &[String], to: &Path) -> io::Result<()> {
    let mut command = Command::new("ffmpeg");
    let output = command.args(["-v", "error", "-nostdin", "-y"]).args(arguments).arg(to).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ffmpeg: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
