//! Lazy renders: thumbs that nobody has asked for before, one after the other over loopback HTTP, beside what the same
//! keyframes cost elsewhere.

use std::io;
use std::time::{Duration, Instant};

use e2e::harness::stills::thumb_sized;
use e2e::harness::{Camera, START, Setup, Stills, procfs};

use crate::Scale;
use crate::inputs::{self, Input};
use crate::peers::{self, per_item_ms};
use crate::report::{Report, What};

/// Measures everything about lazy thumbs, by turns.
pub(crate) async fn measure(inputs: &[Input], scale: &Scale, report: &mut Report) -> io::Result<()> {
    let mut stills = Setup::new().start().await;
    for turn in 0..=scale.turns {
        for (n, input) in inputs.iter().enumerate() {
            let camera = Camera::numbered(u32::try_from(turn * inputs.len() + n + 1).map_err(io::Error::other)?);
            let span = (START, START + input.duration_ms());
            inputs::link(&input.file, &stills.media_path(&camera, &name(input)))?;
            let url = stills.media_url(&camera, &name(input));
            stills.send(&[e2e::harness::event::available(&camera, "r", span, &url)]).await.expect(202);
            stills.until_state(&camera, "r", span, "indexed").await;
            let (cpu, server, walls) = ours(&mut stills, &camera, input, scale.keyframes).await?;
            // The first turn warms up.
            if turn == 0 {
                if let Some(of) = input.copy_of {
                    report.is_copy(input.name, of);
                }
                continue;
            }
            report.add(input.name, What::Lazy, per_item_ms(cpu, walls.len()));
            report.add(input.name, What::LazyServer, per_item_ms(server, walls.len()));
            walls.iter().for_each(|wall| report.add(input.name, What::LazyWall, wall.as_secs_f64() * 1000.0));
            if input.copy_of.is_none() {
                peers::measure(input, scale, report)?;
            }
        }
        eprintln!("lazy: turn {turn} of {}", scale.turns);
    }
    Ok(())
}

fn name(input: &Input) -> String {
    input.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// CPU time of all processes of the service over `count` renders, that of the server alone, and how long each answer took.
async fn ours(
    stills: &mut Stills,
    camera: &Camera,
    input: &Input,
    count: usize,
) -> io::Result<(Duration, Duration, Vec<Duration>)> {
    let span = (START, START + input.duration_ms());
    let origin = stills.origin().id();
    // A worker of its own for each user is forked once, not for each thumb.
    stills.get(&thumb_sized(camera, span, 0, (100, 100))).await.expect(200);
    let server = || procfs::tree(origin).first().map_or(Duration::ZERO, |process| process.cpu);
    let before = (procfs::cpu(origin), server());
    let mut walls = Vec::new();
    for at_ms in input.instants(count) {
        let target = thumb_sized(camera, span, at_ms, (320, 240));
        let began = Instant::now();
        let answer = stills.get(&target).await.expect(200);
        walls.push(began.elapsed());
        if !answer.header("cache-status").contains("miss") || answer.number("stills-frame-distance") != 0 {
            return Err(io::Error::other(format!("{} at {at_ms} ms was no render of its own", input.name)));
        }
    }
    Ok((procfs::cpu(origin).saturating_sub(before.0), server().saturating_sub(before.1), walls))
}
