//! Prerendering: all keyframes of whole recordings, from the event to the last stored thumb, beside the `ffmpeg` program
//! writing the same pictures.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::harness::{Camera, START, Setup, procfs};

use crate::Scale;
use crate::inputs::{self, Input};
use crate::peers::{children_cpu, run};
use crate::report::{Report, What};

/// Between two looks at whether everything is done: a fiftieth of what the shortest takes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Longer than any machine takes.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Measures prerendering of every file but the long one, by turns.
pub(crate) async fn measure(inputs: &[Input], scale: &Scale, report: &mut Report) -> io::Result<()> {
    for turn in 0..scale.turns {
        for input in inputs.iter().filter(|input| input.copy_of.is_none()) {
            let began = Instant::now();
            let cpu = children_cpu(|| ffmpeg(input))?;
            report.add(input.name, What::PrerenderFfmpeg, per_second(input.n_keyframes, cpu));
            report.add(input.name, What::PrerenderWallFfmpeg, per_second(input.n_keyframes, began.elapsed()));
            let count = input.n_keyframes * scale.recordings;
            let (cpu, wall) = ours(input, scale.recordings, 1).await?;
            report.add(input.name, What::Prerender, per_second(count, cpu));
            report.add(input.name, What::PrerenderWall, per_second(count, wall));
            let (_, wall) = ours(input, scale.recordings, 2).await?;
            report.add(input.name, What::PrerenderWallTwo, per_second(count, wall));
        }
        eprintln!("prerender: turn {} of {}", turn + 1, scale.turns);
    }
    Ok(())
}

fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn ffmpeg(input: &Input) -> io::Result<()> {
    let to = tempfile::tempdir()?;
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-skip_frame", "nokey", "-threads", "1", "-i"]).arg(&input.file);
    command.args(["-vsync", "passthrough", "-an", "-s", "320x240", "-q:v", "4"]).arg(to.path().join("%05d.jpg"));
    run(&mut command)?;
    let n_pictures = std::fs::read_dir(to.path())?.count();
    if n_pictures == input.n_keyframes {
        return Ok(());
    }
    Err(io::Error::other(format!("ffmpeg wrote {n_pictures} pictures of {} keyframes", input.n_keyframes)))
}

/// CPU time of all processes, and time by the clock, from the event until everything is rendered and stored.
async fn ours(input: &Input, recordings: usize, decoders: usize) -> io::Result<(Duration, Duration)> {
    let setup = Setup::new().set("prerender.interval", "\"every-keyframe\"");
    let mut stills = setup.set("decoders.running_max", &decoders.to_string()).start().await;
    let origin = stills.origin().id();
    let span = (START, START + input.duration_ms());
    let mut events = Vec::new();
    for n in 1..=recordings {
        let camera = Camera::numbered(u32::try_from(n).map_err(io::Error::other)?);
        inputs::link(&input.file, &stills.media_path(&camera, "r"))?;
        events.push(e2e::harness::event::available(&camera, "r", span, &stills.media_url(&camera, "r")));
    }
    let (cpu, began) = (procfs::cpu(origin), Instant::now());
    stills.send(&events).await.expect(202);
    let count = (input.n_keyframes * recordings) as f64;
    // A look costs the server something too, so there are few of them.
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let metrics = stills.metrics().await;
        if metrics.sum("stills_renders_total", &[]) >= count && metrics.sum("stills_pipeline_backlog", &[]) == 0.0 {
            break;
        }
        if began.elapsed() > TIME_MAX {
            return Err(io::Error::other(format!("{} is not rendered after {TIME_MAX:?}", input.name)));
        }
    }
    Ok((procfs::cpu(origin).saturating_sub(cpu), began.elapsed()))
}
