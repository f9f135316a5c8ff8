//! `bench render [--quick]`: what a thumb costs, beside what libavcodec and other tools take for the same keyframes.
//! `bench lazy`: lazy thumbs beside libavcodec alone, in many short turns, for whoever works on them.
//! `bench serve`: what serving costs, beside NGINX.
//! `bench soak [RENDERS]`: that memory stays level. Started by `scripts/bench`, which sees to the tools.
//!
//! Everything of one table is measured in one run on the same files, by turns, so that a busy machine hits all alike.

#![expect(clippy::print_stdout, reason = "it prints tables")]

mod camera;
mod client;
mod events;
mod inputs;
mod lazy;
mod peers;
mod prerender;
mod report;
mod serve;
mod sheet;
mod soak;
mod timeline;
mod wrk;

use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if words.first() == Some(&"serve") {
        wrk::keep_to_server_core()?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    match words[..] {
        ["render"] => runtime.block_on(render(&Scale::FULL)),
        ["render", "--quick"] => runtime.block_on(render(&Scale::QUICK)),
        ["lazy"] => runtime.block_on(lazy_alone()),
        ["serve"] => runtime.block_on(serve::run(&place()?, serve::Rounds::FULL, None)),
        ["serve", "--quick"] => runtime.block_on(serve::run(&place()?, serve::Rounds::QUICK, None)),
        ["serve", "--only", part] => runtime.block_on(serve::run(&place()?, serve::Rounds::QUICK, Some(part))),
        ["events"] => runtime.block_on(events::run(&place()?)),
        ["timeline"] => runtime.block_on(timeline::run(&place()?, timeline::Scale::FULL, None)),
        ["timeline", "--quick"] => runtime.block_on(timeline::run(&place()?, timeline::Scale::QUICK, None)),
        ["timeline", part @ ("day" | "windows")] => {
            runtime.block_on(timeline::run(&place()?, timeline::Scale::FULL, Some(part)))
        }
        ["camera"] => runtime.block_on(cameras("300", "15")),
        ["camera", cameras_wanted, minutes] => runtime.block_on(cameras(cameras_wanted, minutes)),
        ["soak"] => runtime.block_on(soak::run(100_000)),
        ["soak", count] => runtime.block_on(soak::run(count.parse().map_err(io::Error::other)?)),
        _ => Err(io::Error::other(
            "usage: bench render [--quick] | lazy | serve [--quick | --only NAME] | events | \
             timeline [--quick | day | windows] | camera [CAMERAS MINUTES] | soak [RENDERS]",
        )),
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Turns in which everything is measured once.
    turns: usize,
    /// Keyframes of each file in a turn.
    keyframes: usize,
    /// Runs of each one-shot program in a turn.
    one_shots: usize,
    /// Recordings of each file that are prerendered in a turn.
    recordings: usize,
    /// Whether other tools are measured too.
    has_peers: bool,
}

impl Scale {
    const FULL: Self = Self { turns: 5, keyframes: 100, one_shots: 6, recordings: 4, has_peers: true };
    const QUICK: Self = Self { turns: 3, keyframes: 60, one_shots: 3, recordings: 2, has_peers: true };
    const LAZY: Self = Self { turns: 4, keyframes: 30, one_shots: 0, recordings: 0, has_peers: false };
}

async fn render(scale: &Scale) -> io::Result<()> {
    let place = place()?;
    let inputs = inputs::all(&place)?;
    let mut report = report::Report::default();
    lazy::measure(&inputs, scale, &mut report).await?;
    prerender::measure(&inputs, scale, &mut report).await?;
    println!("{}", report.table());
    let file = place.join("render.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&report.json())?)?;
    println!("written to {}", file.display());
    Ok(())
}

async fn lazy_alone() -> io::Result<()> {
    let mut inputs = inputs::all(&place()?)?;
    inputs.retain(|input| input.copy_of.is_none());
    let mut report = report::Report::default();
    lazy::measure(&inputs, &Scale::LAZY, &mut report).await?;
    println!("{}", report.table());
    Ok(())
}

async fn cameras(cameras: &str, minutes: &str) -> io::Result<()> {
    let number = |text: &str| text.parse::<usize>().map_err(io::Error::other);
    let scale = camera::Scale { cameras: number(cameras)?, minutes: number(minutes)? };
    let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/prices.json");
    let prices = std::env::var_os("STILLS_BENCH_PRICES").unwrap_or_else(|| usual.into());
    camera::run(&place()?, scale, std::path::Path::new(&prices)).await
}

/// `bench/` in Cargo's build directory.
fn place() -> io::Result<PathBuf> {
    let place = e2e::footage::shelf()?.with_file_name("bench");
    std::fs::create_dir_all(&place)?;
    Ok(place)
}
