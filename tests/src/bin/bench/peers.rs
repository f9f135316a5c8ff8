//! What others take for the same keyframes: libavcodec alone, the `ffmpeg` program, `ffmpegthumbnailer`, PyAV.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::harness::procfs;
use e2e::harness::setup::program;

use crate::Scale;
use crate::inputs::Input;
use crate::report::{Report, What};

/// One turn of all of them.
pub(crate) fn measure(input: &Input, scale: &Scale, report: &mut Report) -> io::Result<()> {
    for (mode, what) in [("decode", What::Floor), ("render", What::Renderer)] {
        report.add(input.name, what, floor(mode, &input.file)?);
    }
    if !scale.has_peers {
        return Ok(());
    }
    let instants = input.instants(scale.one_shots);
    let ffmpeg = children_cpu(|| instants.iter().try_for_each(|at_ms| run(&mut ffmpeg(&input.file, *at_ms))))?;
    report.add(input.name, What::Ffmpeg, per_item_ms(ffmpeg, instants.len()));
    let shot = |at_ms: &i64| run(&mut thumbnailer(&input.file, *at_ms));
    let thumbnailer = children_cpu(|| instants.iter().try_for_each(shot))?;
    report.add(input.name, What::Thumbnailer, per_item_ms(thumbnailer, instants.len()));
    for (mode, what) in [("open", What::PyavOpen), ("kept", What::PyavKept)] {
        report.add(input.name, what, pyav(mode, input, scale.one_shots * 5)?);
    }
    Ok(())
}

/// Milliseconds for each of `count`.
pub(crate) fn per_item_ms(whole: Duration, count: usize) -> f64 {
    whole.as_secs_f64() * 1000.0 / count.max(1) as f64
}

/// CPU time of the children that end while `attempt` runs.
pub(crate) fn children_cpu(attempt: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
    let before = procfs::reaped_cpu();
    attempt()?;
    Ok(procfs::reaped_cpu().saturating_sub(before))
}

/// Runs a program whose output is thrown away.
pub(crate) fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// CPU milliseconds a keyframe of the measuring program, in its second pass.
fn floor(mode: &str, file: &Path) -> io::Result<f64> {
    let output = Command::new(program("examples/floor")).args([mode]).arg(file).arg("2").output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let us: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let second = &us[us.len() / 2..];
    Ok(second.iter().sum::<f64>() / second.len().max(1) as f64 / 1000.0)
}

fn ffmpeg(file: &Path, at_ms: i64) -> Command {
    let mut command = Command::new("ffmpeg");
    let at = format!("{}ms", at_ms + 1);
    command.args(["-v", "error", "-nostdin", "-threads", "1", "-noaccurate_seek", "-ss", &at, "-i"]).arg(file);
    // Passed through, or its frame sync would decode on to the instant.
    let to = "-vsync passthrough -frames:v 1 -an -s 320x240 -q:v 4 -f image2pipe -c:v mjpeg -";
    command.args(to.split(' '));
    command
}

fn thumbnailer(file: &Path, at_ms: i64) -> Command {
    let mut command = Command::new("ffmpegthumbnailer");
    let seconds = at_ms / 1000;
    let at = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    command.arg("-i").arg(file).args(["-t", &at, "-s", "320", "-c", "jpeg", "-o", "-"]);
    command
}

/// Seeks to an instant, decodes one keyframe on one thread, scales it and makes a JPEG.
const PYAV: &str = r"
import av, io, sys, time
mode, file, instants = sys.argv[1], sys.argv[2], [int(ms) for ms in sys.argv[3:]]
def opened():
    container = av.open(file)
    stream = container.streams.video[0]
    stream.thread_count = 1
    stream.codec_context.skip_frame = 'NONKEY'
    return container, stream
def thumb(container, stream, at_ms):
    start = stream.start_time or 0
    container.seek(start + int(at_ms / 1000 / stream.time_base), stream=stream)
    frame = next(container.decode(stream))
    frame.reformat(320, 240).to_image().save(io.BytesIO(), 'JPEG', quality=80)
kept = opened()
thumb(*kept, instants[0])
began = time.process_time()
for at_ms in instants:
    if mode == 'open':
        container, stream = opened()
        thumb(container, stream, at_ms)
        container.close()
    else:
        thumb(*kept, at_ms)
print((time.process_time() - began) * 1000 / len(instants))
";

fn pyav(mode: &str, input: &Input, count: usize) -> io::Result<f64> {
    let python =
        std::env::var("STILLS_BENCH_PYTHON").map_err(|_| io::Error::other("STILLS_BENCH_PYTHON is not set"))?;
    // The last seek into a transport stream finds no keyframe behind it.
    let mut instants = input.instants(count);
    instants.truncate(count - 2);
    let instants = instants.iter().map(i64::to_string);
    let output = Command::new(python).args(["-c", PYAV, mode]).arg(&input.file).args(instants).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    text.trim().parse().map_err(|_| io::Error::other(format!("PyAV: {}", said.trim())))
}
