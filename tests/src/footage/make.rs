//! Turns recipes into files: paints the frames and pipes them to the FFmpeg program. A file appears whole or not at all.
//!
//! Files of fixed recipes are kept under `footage/` in the build's own directory, named by a digest of the recipe and of
//! the code that paints, so that test processes and later runs find them made.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::paint::Painter;
use super::recipe::{Codec, Container, Recipe};
use super::rule::Recorded;

/// A change of what is painted or how it is coded must not find the old files.
const CODE: [&str; 5] = [
    include_str!("clock.rs"),
    include_str!("glyphs.rs"),
    include_str!("paint.rs"),
    include_str!("recipe.rs"),
    include_str!("make.rs"),
];

/// Files begun by this process.
static UNFINISHED: AtomicU64 = AtomicU64::new(0);

/// A file and what it shows.
#[derive(Debug, Clone)]
pub struct Footage {
    /// What it was made from.
    pub recipe: Recipe,
    /// Where it lies.
    pub path: PathBuf,
}

impl Footage {
    /// The recording that it is when announced under `id` with the recipe's start and end.
    pub fn recorded(&self, id: &str) -> Recorded {
        Recorded {
            id: id.to_owned(),
            start_ms: self.recipe.start_ms,
            end_ms: self.recipe.end_ms(),
            keyframes_ms: self.recipe.keyframes_ms(),
        }
    }
}

/// Makes the file of `recipe` at `path`, whose directory exists.
///
/// # Errors
/// A recipe that cannot be made, no `ffmpeg` program, or what it says.
pub fn make(recipe: &Recipe, path: &Path) -> io::Result<Footage> {
    recipe.check().map_err(|fault| io::Error::new(io::ErrorKind::InvalidInput, fault))?;
    // A name of its own, where others make the same file at the same time.
    let n = UNFINISHED.fetch_add(1, Ordering::Relaxed);
    let unfinished = path.with_extension(format!("{}-{n}.part", std::process::id()));
    let made = encode(recipe, &unfinished).and_then(|()| std::fs::rename(&unfinished, path));
    if let Err(error) = made {
        // What is left of it may be nothing at all; the first error is the one to tell.
        let _ = std::fs::remove_file(&unfinished);
        return Err(io::Error::new(error.kind(), format!("footage {}: {error}", path.display())));
    }
    Ok(Footage { recipe: recipe.clone(), path: path.to_owned() })
}

/// Makes many files, as many at once as there are processors; the answers are in the order of the orders.
///
/// # Errors
/// The first that fails, as [`make`] tells it.
pub fn make_all(orders: &[(Recipe, PathBuf)]) -> io::Result<Vec<Footage>> {
    in_parallel(orders, |(recipe, path)| make(recipe, path))
}

/// The file of `recipe`, made now or found from before. For recipes with a fixed start: nothing clears the place but
/// `cargo clean`.
///
/// # Errors
/// As [`make`].
pub fn cached(recipe: &Recipe) -> io::Result<Footage> {
    let directory = shelf()?;
    let name = format!("{}.{}", digest(recipe), recipe.container.extension());
    let path = directory.join(name);
    if path.is_file() {
        return Ok(Footage { recipe: recipe.clone(), path });
    }
    make(recipe, &path)
}

/// Many files as [`cached`], made in parallel.
///
/// # Errors
/// The first that fails, as [`make`] tells it.
pub fn cached_all(recipes: &[Recipe]) -> io::Result<Vec<Footage>> {
    in_parallel(recipes, cached)
}

fn in_parallel<T: Sync>(orders: &[T], one: impl Fn(&T) -> io::Result<Footage> + Sync) -> io::Result<Vec<Footage>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let todo = Mutex::new(orders.iter().enumerate());
    let mut done: Vec<Option<io::Result<Footage>>> = Vec::new();
    done.resize_with(orders.len(), || None);
    let done = Mutex::new(done);
    let next = || todo.lock().ok().and_then(|mut todo| todo.next());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((at, order)) = next() {
                    let made = one(order);
                    if let Ok(mut done) = done.lock() {
                        done[at] = Some(made);
                    }
                }
            });
        }
    });
    let done = done.into_inner().map_err(|_| io::Error::other("a thread that made footage panicked"))?;
    done.into_iter().map(|made| made.unwrap_or_else(|| Err(io::Error::other("footage was not made")))).collect()
}

/// Where made files are kept: `footage/` in Cargo's build directory, which is the one above this program that carries
/// Cargo's tag.
///
/// # Errors
/// When it cannot be made.
pub fn shelf() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let build = program.ancestors().find(|directory| directory.join("CACHEDIR.TAG").is_file());
    let shelf = build.map_or_else(std::env::temp_dir, Path::to_owned).join("footage");
    std::fs::create_dir_all(&shelf)?;
    Ok(shelf)
}

fn digest(recipe: &Recipe) -> String {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    digest.update(format!("{recipe:?}").as_bytes());
    CODE.iter().for_each(|code| digest.update(code.as_bytes()));
    digest.finish().as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encode(recipe: &Recipe, path: &Path) -> io::Result<()> {
    let mut ffmpeg = Command::new("ffmpeg")
        .args(arguments(recipe))
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("the ffmpeg program does not start: {error}")))?;
    let mut stdin = ffmpeg.stdin.take().ok_or_else(|| io::Error::other("ffmpeg has no standard input"))?;
    // Frames go in while messages come out: a full pipe on one side must not stop the other.
    let (fed, output) = std::thread::scope(|scope| {
        let feeder = scope.spawn(move || {
            let mut painter = Painter::new(recipe);
            (0..recipe.n_frames()).try_for_each(|n| stdin.write_all(painter.paint(n)))
        });
        let output = ffmpeg.wait_with_output();
        (feeder.join(), output)
    });
    let output = output?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("ffmpeg: {}: {}", output.status, said.trim())));
    }
    fed.unwrap_or_else(|_| Err(io::Error::other("painting panicked")))
}

fn arguments(recipe: &Recipe) -> Vec<String> {
    let Recipe { width, height, rate, gop, b_frames, .. } = recipe;
    let rate = format!("{}/{}", rate.frames, rate.seconds);
    let mut line = format!(
        "-nostdin -hide_banner -nostats -loglevel error -y \
         -f rawvideo -pix_fmt yuv420p -s {width}x{height} -framerate {rate} -i pipe:0"
    );
    if recipe.has_audio {
        line += " -f lavfi -i sine=frequency=440:sample_rate=16000 -c:a aac -b:a 32k -shortest -map 0:v -map 1:a";
    }
    // A keyframe exactly every `gop` frames: no encoder may add one where the scene changes.
    line += &format!(" -pix_fmt {} -g {gop} ", recipe.pixels.ffmpeg_name());
    line += &match recipe.codec {
        Codec::H264 => format!(
            "-c:v libx264 -preset ultrafast -keyint_min {gop} -bf {b_frames} -x264-params scenecut=0:open-gop=0"
        ),
        Codec::Hevc => format!(
            "-c:v libx265 -preset ultrafast -x265-params \
             log-level=error:keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:bframes={b_frames}"
        ),
        Codec::Av1 => format!(
            "-c:v libaom-av1 -usage realtime -cpu-used 8 -row-mt 1 -crf 35 -b:v 0 -keyint_min {gop} -lag-in-frames 0"
        ),
        Codec::Vp9 => format!(
            "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -row-mt 1 -crf 35 -b:v 0 -keyint_min {gop} -lag-in-frames 0"
        ),
        Codec::Vp8 => {
            format!("-c:v libvpx -deadline realtime -cpu-used 8 -crf 20 -b:v 4M -keyint_min {gop} -lag-in-frames 0")
        }
        // These two count keyframes in coded order where there are B-frames, so each one is asked for.
        Codec::Mpeg4 | Codec::Mpeg2 => format!(
            "-c:v {} -q:v 4 -bf {b_frames} -sc_threshold 1000000000 -force_key_frames expr:eq(mod(n,{gop}),0)",
            if recipe.codec == Codec::Mpeg4 { "mpeg4" } else { "mpeg2video" }
        ),
        Codec::Mjpeg => "-c:v mjpeg -q:v 4".to_owned(),
    };
    let is_mp4 = matches!(recipe.container, Container::Mp4 | Container::Mp4MoovAtEnd | Container::FragmentedMp4);
    if recipe.codec == Codec::Hevc && is_mp4 {
        line += " -tag:v hvc1";
    }
    line += match recipe.container {
        Container::Mp4 => " -f mp4 -movflags +faststart",
        Container::Mp4MoovAtEnd => " -f mp4",
        Container::FragmentedMp4 => " -f mp4 -movflags +frag_keyframe+empty_moov+default_base_moof",
        Container::MpegTs => " -f mpegts",
        Container::Mkv => " -f matroska",
    };
    line.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{PixelFormat, Rate, read_clock};
    use super::*;

    fn run(program: &str, args: &[&str]) -> Vec<u8> {
        let output = Command::new(program).args(["-v", "error"]).args(args).output().expect(program);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn path(footage: &Footage) -> &str {
        footage.path.to_str().expect("a path")
    }

    /// Where FFmpeg finds keyframes: presentation time in milliseconds after the first picture's.
    fn keyframe_times(footage: &Footage) -> Vec<i64> {
        let entries = ["-select_streams", "v:0", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0"];
        let packets = run("ffprobe", &[&entries[..], &[path(footage)]].concat());
        let packets = String::from_utf8(packets).expect("text");
        let packets: Vec<(i64, bool)> = packets
            .lines()
            .filter_map(|line| line.split_once(','))
            .map(|(time, flags)| {
                let us: i64 = time.replace('.', "").parse().expect("a time with six decimals");
                (us, flags.starts_with('K'))
            })
            .collect();
        let first = packets.iter().map(|(us, _)| *us).min().expect("a packet");
        packets.iter().filter(|(_, is_key)| *is_key).map(|(us, _)| (us - first + 500) / 1000).collect()
    }

    /// The clocks in JPEGs of `width` by `height` of the keyframes, scaled by `scaler`.
    fn keyframe_clocks(footage: &Footage, (width, height): (u32, u32), scaler: &str) -> Vec<Option<i64>> {
        // Not every decoder heeds `skip_frame`, hence the filter too.
        let filter = format!("select=key,scale={width}:{height}:flags={scaler}");
        let input = ["-skip_frame", "nokey", "-i", path(footage), "-vsync", "passthrough", "-vf", &filter];
        let pictures = run("ffmpeg", &[&input[..], &["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]].concat());
        pictures.chunks_exact((width * height * 3) as usize).map(|rgb| clock_of(rgb, width, height)).collect()
    }

    fn clock_of(rgb: &[u8], width: u32, height: u32) -> Option<i64> {
        let mut jpeg = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 80)
            .encode(rgb, width, height, image::ExtendedColorType::Rgb8)
            .expect("a JPEG");
        super::super::look(&jpeg).expect("a picture").clock_ms
    }

    fn check(recipe: &Recipe) {
        let footage = cached(recipe).expect("footage");
        let wanted = recipe.keyframes_ms();
        let found: Vec<i64> = keyframe_times(&footage).iter().map(|ms| recipe.start_ms + ms).collect();
        assert_eq!(found, wanted, "{recipe:?}: where the keyframes are");
        let wanted: Vec<Option<i64>> = wanted.into_iter().map(Some).collect();
        for (size, scaler) in [((320, 240), "bicubic"), ((160, 300), "neighbor")] {
            let shown = keyframe_clocks(&footage, size, scaler);
            assert_eq!(shown, wanted, "{recipe:?} as {size:?} by {scaler}: what the keyframes show");
        }
    }

    fn short(codec: Codec, container: Container) -> Recipe {
        Recipe { codec, container, width: 480, height: 270, duration_ms: 5_000, ..Recipe::default() }
    }

    #[test]
    fn every_container_shows_its_instants() {
        for container in
            [Container::Mp4, Container::Mp4MoovAtEnd, Container::FragmentedMp4, Container::MpegTs, Container::Mkv]
        {
            check(&short(Codec::H264, container));
            check(&Recipe { b_frames: 2, has_audio: true, ..short(Codec::H264, container) });
        }
    }

    #[test]
    fn every_camera_codec_shows_its_instants() {
        check(&short(Codec::Hevc, Container::Mp4));
        check(&Recipe { b_frames: 3, ..short(Codec::Hevc, Container::MpegTs) });
        check(&short(Codec::Hevc, Container::FragmentedMp4));
        check(&Recipe { b_frames: 1, ..short(Codec::Mpeg4, Container::Mp4) });
        check(&Recipe { gop: 1, pixels: PixelFormat::Yuvj420p, ..short(Codec::Mjpeg, Container::Mp4) });
        let rate = Rate { frames: 30_000, seconds: 1001 };
        check(&Recipe { rate, gop: 60, b_frames: 2, ..short(Codec::Mpeg2, Container::MpegTs) });
        check(&Recipe { rate, gop: 60, b_frames: 2, ..short(Codec::H264, Container::Mp4) });
    }

    #[test]
    fn every_web_codec_shows_its_instants() {
        check(&short(Codec::Av1, Container::Mp4));
        check(&short(Codec::Av1, Container::Mkv));
        check(&short(Codec::Vp8, Container::Mkv));
        check(&short(Codec::Vp9, Container::Mp4));
        check(&short(Codec::Vp9, Container::Mkv));
    }

    #[test]
    fn every_pixel_format_shows_its_instants() {
        for pixels in [PixelFormat::Yuvj420p, PixelFormat::Yuv422p, PixelFormat::Yuv444p, PixelFormat::Yuv420p10] {
            check(&Recipe { pixels, ..short(Codec::H264, Container::Mp4) });
        }
    }

    #[test]
    fn many_are_made_in_order_and_a_bad_one_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let rate = Rate { frames: 2, seconds: 1 };
        let orders: Vec<(Recipe, PathBuf)> = (0..5)
            .map(|n| {
                let start_ms = 1_757_371_980_000 + n * 60_000;
                let recipe = Recipe { start_ms, rate, gop: 4, ..Recipe::default() };
                (recipe, directory.path().join(format!("{start_ms}.mp4")))
            })
            .collect();
        let made = make_all(&orders).expect("footage");
        assert!(made.iter().zip(&orders).all(|(made, (recipe, _))| made.recipe == *recipe));
        for footage in &made {
            assert_eq!(keyframe_times(footage).len(), 30);
        }
        let left = std::fs::read_dir(directory.path()).expect("a directory").count();
        assert_eq!(left, 5, "nothing unfinished is left");

        let nowhere = directory.path().join("absent/a.mp4");
        let refused = make(&orders[0].0, &nowhere).expect_err("no such directory");
        assert!(refused.to_string().contains("absent/a.mp4"), "{refused}");
        let odd = Recipe { width: 639, ..Recipe::default() };
        assert!(make(&odd, &directory.path().join("odd.mp4")).is_err());
        // VP8 has no place in a transport stream.
        let stray = Recipe { duration_ms: 1000, ..short(Codec::Vp8, Container::Mp4) };
        let refused = make(&stray, &directory.path().join("stray.mp4")).expect_err("refused by ffmpeg");
        assert!(refused.to_string().contains("ffmpeg"), "{refused}");
        let left = std::fs::read_dir(directory.path()).expect("a directory").count();
        assert_eq!(left, 5, "nothing unfinished is left");
    }

    #[test]
    fn a_recipe_is_made_once() {
        let recipe = Recipe { duration_ms: 2000, label: "once".into(), ..Recipe::default() };
        let first = cached(&recipe).expect("footage");
        let made_at = std::fs::metadata(&first.path).expect("a file").modified().expect("a time");
        let again = cached(&recipe).expect("footage");
        assert_eq!(again.path, first.path);
        assert_eq!(std::fs::metadata(&again.path).expect("a file").modified().expect("a time"), made_at);
        let other = Recipe { label: "twice".into(), ..recipe };
        let others = cached_all(&vec![other; 4]).expect("footage, asked for by several at once");
        assert!(others.iter().all(|one| one.path == others[0].path && one.path != first.path));
        assert_eq!(keyframe_times(&others[0]).len(), 1);
    }

    #[test]
    fn a_damaged_picture_says_nothing() {
        let footage = cached(&short(Codec::H264, Container::Mp4)).expect("footage");
        let picture = ["-frames:v", "1", "-vf", "scale=320:240", "-f", "image2pipe", "-c:v", "png", "-"];
        let shown = run("ffmpeg", &[&["-i", path(&footage)][..], &picture].concat());
        let mut luma = image::load_from_memory(&shown).expect("a picture").into_luma8();
        assert_eq!(read_clock(&luma), Some(footage.recipe.start_ms));
        // A smear as of a lost slice: rows of the clock from elsewhere.
        let (from, to) = (320 * 60..320 * 70, 320 * 30);
        luma.as_mut().copy_within(from, to);
        assert_eq!(read_clock(&luma), None);
    }
}
