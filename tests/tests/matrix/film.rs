//! Films: footage with a clock in every picture, coded and packed in every way that the FFmpeg program knows and cameras
//! use. A film is a master and a chain of FFmpeg runs over it; files are made once and kept beside the other footage.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use e2e::footage::{Codec, PixelFormat, Rate, Recipe, cached, shelf};
use e2e::harness::START;

/// Between two pictures of most masters, in milliseconds.
pub(crate) const FRAME_MS: i64 = 80;

/// What films are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Master {
    /// 75 pictures of 480x288, 80 ms apart: sides that interlaced coding can halve.
    Plain,
    /// The same for a minute.
    Minute,
    /// 25 pictures of 1920x1080, 80 ms apart.
    Large,
    /// 30000/1001 pictures a second for 4 s.
    Ntsc,
}

impl Master {
    fn recipe(self) -> Recipe {
        let plain = Recipe {
            width: 480,
            height: 288,
            start_ms: START,
            duration_ms: 6_000,
            // Intra pictures only, and all the colour that there is.
            codec: Codec::Mjpeg,
            pixels: PixelFormat::Yuvj420p,
            gop: 1,
            ..Recipe::default()
        };
        match self {
            Self::Plain => plain,
            Self::Minute => Recipe { duration_ms: 60_000, ..plain },
            Self::Large => Recipe { width: 1920, height: 1080, duration_ms: 2_000, ..plain },
            Self::Ntsc => Recipe { rate: Rate { frames: 30_000, seconds: 1001 }, duration_ms: 4_000, ..plain },
        }
    }

    /// How long it is, in milliseconds.
    pub(crate) fn duration_ms(self) -> i64 {
        self.recipe().duration_ms
    }
}

/// Which of a film's pictures are keyframes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Every so many pictures, as the encoder was told.
    Every(i64),
    /// Those that FFmpeg's own demuxer flags, where the encoder chose.
    Probed,
    /// Nobody says: whole pictures come about in between.
    Gradual,
}

/// One run of FFmpeg: what stands before `-i`, what stands after it, and how the new file's name ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    before: String,
    after: String,
    extension: &'static str,
}

/// A film and how it is made.
#[derive(Debug, Clone)]
pub(crate) struct Film {
    /// What a failure is told under.
    pub(crate) name: String,
    pub(crate) master: Master,
    pub(crate) keys: Keys,
    steps: Vec<Step>,
}

impl Film {
    /// The master coded by FFmpeg's `arguments`, a keyframe every 13 pictures unless told otherwise.
    pub(crate) fn new(name: impl Into<String>, extension: &'static str, arguments: &str) -> Self {
        let step = Step { before: String::new(), after: arguments.to_owned(), extension };
        Self { name: name.into(), master: Master::Plain, keys: Keys::Every(13), steps: vec![step] }
    }

    /// Of another master.
    pub(crate) fn of(mut self, master: Master) -> Self {
        self.master = master;
        self
    }

    /// With these keyframes.
    pub(crate) fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// Another run of FFmpeg over what the last one made.
    pub(crate) fn then(mut self, extension: &'static str, before: &str, after: &str) -> Self {
        self.steps.push(Step { before: before.to_owned(), after: after.to_owned(), extension });
        self
    }

    /// The film's file, made now or found from before.
    ///
    /// # Errors
    /// What FFmpeg says.
    pub(crate) fn file(&self) -> io::Result<PathBuf> {
        let mut file = cached(&self.master.recipe())?.path;
        for step in &self.steps {
            file = step.made_of(&file)?;
        }
        Ok(file)
    }
}

impl Step {
    fn made_of(&self, input: &Path) -> io::Result<PathBuf> {
        let name = input.file_stem().unwrap_or_default().to_string_lossy();
        let key = format!("{name} {} -i {} {}", self.before, self.after, self.extension);
        kept(&key, self.extension, |to| {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let mut command = Command::new("ffmpeg");
            command.args(["-v", "error", "-nostdin", "-y"]).args(words(&self.before)).arg("-i").arg(input);
            // Reproducible: no date, no version, no random track ids.
            command.args(words(&self.after)).args(["-fflags", "+bitexact", "-flags:v", "+bitexact"]).arg(to);
            run(&mut command).map(drop)
        })
    }
}

/// The file under `key`, made by `make` at the place it is given, unless it is there from before.
pub(crate) fn kept(key: &str, extension: &str, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let digest = crc32c::crc32c(key.as_bytes());
    let second = crc32c::crc32c(format!("{key} again").as_bytes());
    let shelf = shelf()?;
    let path = shelf.join(format!("matrix-{digest:08x}{second:08x}.{extension}"));
    if path.is_file() {
        return Ok(path);
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let unfinished = shelf.join(format!("part-{}-{count}.{extension}", std::process::id()));
    let made = make(&unfinished).and_then(|()| std::fs::rename(&unfinished, &path));
    if made.is_err() {
        // There may be nothing; the first error is the one to tell.
        let _ = std::fs::remove_file(&unfinished);
    }
    made.map(|()| path)
}

/// Runs a program to its end and gives its output.
///
/// # Errors
/// What it said when it failed.
pub(crate) fn run(command: &mut Command) -> io::Result<Vec<u8>> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{:?}: {}", command.get_program(), said.trim())))
}

/// A packet of the video as FFmpeg's demuxer tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Milliseconds after the first presented picture, rounded.
    pub(crate) at_ms: i64,
    pub(crate) is_key: bool,
    /// Decoded but not shown.
    pub(crate) is_trimmed: bool,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// The packets of a file's video, in the order in which they lie.
///
/// # Errors
/// What FFmpeg says, or a packet without a time.
pub(crate) fn packets(file: &Path) -> io::Result<Vec<Packet>> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts_time,size,pos,flags"]);
    let text = run(command.args(["-of", "csv=p=0"]).arg(file))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let packet = |line: &str| -> Option<(i64, u64, u64, String)> {
        let mut fields = line.split(',');
        let us: i64 = fields.next()?.replace('.', "").parse().ok()?;
        let len = fields.next()?.parse().ok()?;
        let offset = fields.next()?.parse().unwrap_or(0);
        Some((us, len, offset, fields.next()?.to_owned()))
    };
    let packets = text.lines().filter(|line| !line.is_empty());
    let packets = packets.map(|line| packet(line).ok_or_else(|| io::Error::other(format!("a packet {line}"))));
    let packets: Vec<_> = packets.collect::<io::Result<_>>()?;
    let presented = packets.iter().filter(|(.., flags)| !flags.contains('D')).map(|(us, ..)| *us).min();
    let first = presented.ok_or_else(|| io::Error::other("no packet is presented"))?;
    let told = |(us, len, offset, flags): (i64, u64, u64, String)| Packet {
        at_ms: (us - first + 500).div_euclid(1000),
        is_key: flags.contains('K'),
        is_trimmed: flags.contains('D'),
        offset,
        len,
    };
    Ok(packets.into_iter().map(told).collect())
}
