//! `scale DIR [RECORDINGS]`: what metadata costs when there are many recordings: how fast they are taken, how long searches
//! take, how much disk and memory they need, how long a start takes. Started by `scripts/bench scale`.
//!
//! 1. recordings of a minute with a keyframe every two seconds, a thousand cameras side by side (`synth`), are taken as a
//!    server takes them: journal, catalog, and from time to time upkeep (`store`);
//! 2. at ten thousand, ten times as many, and so on up to the number told, it is measured (`measure`); the store grows on;
//!    (`scale look DIR RECORDINGS` does it once more in a store that is there);
//! 3. a start is measured in a process of its own (`scale open DIR`), after a clean stop and after a `kill -9` of another
//!    one (`scale fill DIR FROM`), which was taking recordings.
//!
//! Prints one JSON object, and a table on the standard error. Reads no media and answers no HTTP.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its answer")]

mod measure;
mod store;
mod synth;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use store::Store;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The first size that is measured: ten minutes of each camera, the window of a search.
const FIRST: u64 = 10_000;
const DEFAULT: u64 = 1_000_000;
/// How long recordings are taken before the kill.
const FILLED_FOR: Duration = Duration::from_secs(2);

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["open", dir] => println!("{}", open(Path::new(dir))?),
        ["fill", dir, from] => fill(Path::new(dir), from.parse()?)?,
        ["look", dir, count] => println!("{}", looks(&Store::open(Path::new(dir))?, count.parse()?)?),
        [dir] => println!("{}", grow(Path::new(dir), DEFAULT)?),
        [dir, count] => println!("{}", grow(Path::new(dir), count.parse()?)?),
        _ => return Err("usage: scale DIR [RECORDINGS]".into()),
    }
    Ok(())
}

/// The sizes that are measured.
fn sizes(count: u64) -> Outcome<Vec<u64>> {
    if count < FIRST {
        return Err(format!("{count} recordings; at least {FIRST} are allowed").into());
    }
    let tens = std::iter::successors(Some(FIRST), |size| size.checked_mul(10));
    Ok(tens.take_while(|size| *size < count).chain([count]).collect())
}

fn grow(dir: &Path, count: u64) -> Outcome<Value> {
    let mut steps: Vec<Value> = Vec::new();
    let mut taken = 0;
    measure::head();
    for size in sizes(count)? {
        let mut store = Store::open(dir)?;
        let began = (Instant::now(), store.taking);
        let n_new = size.saturating_sub(taken);
        store.take(taken, size)?;
        let took = began.0.elapsed();
        let taking = store.taking.since(&began.1);
        store.settle(size)?;
        let mut step = json!({
            "recordings": size,
            "recordings_per_second": per_second(n_new, took),
            "events_per_second": per_second(n_new, taking.events),
            "results_per_second": per_second(n_new, taking.results),
            "looks": looks(&store, size)?,
            "resident_bytes": measure::resident()?,
        });
        store.checkpoint()?;
        drop(store);
        step["disk"] = measure::disk(dir, size)?;
        step["open_after_stop"] = child("open", dir)?;
        fill_and_kill(dir, size)?;
        step["open_after_kill"] = child("open", dir)?;
        taken = Store::open(dir)?.first_missing(size)?;
        measure::add_ratios(&mut step, steps.first());
        measure::line(&step);
        steps.push(step);
    }
    Ok(json!({ "cameras": synth::CAMERAS, "entries": measure::entries()?, "steps": steps }))
}

/// How long searches and authorisations wait for the catalog.
fn looks(store: &Store, count: u64) -> Outcome<Value> {
    Ok(json!({
        "search": measure::looks(count, |n| measure::search(&store.catalog, n, false))?,
        "search_shared_urls": measure::looks(count, |n| measure::search(&store.catalog, n, true))?,
        "epoch": measure::looks(count, |n| measure::epoch(&store.catalog, n))?,
    }))
}

fn per_second(count: u64, took: Duration) -> u128 {
    u128::from(count) * 1_000_000 / took.as_micros().max(1)
}

/// This program once more; what it prints.
fn child(what: &str, dir: &Path) -> Outcome<Value> {
    let output = Command::new(std::env::current_exe()?).arg(what).arg(dir).stderr(Stdio::inherit()).output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A start: both stores are opened, and what the catalog has not seen of the journal is applied.
fn open(dir: &Path) -> Outcome<Value> {
    let began = Instant::now();
    let mut store = Store::open(dir)?;
    let opened_ms = began.elapsed().as_millis();
    let n_replayed = store.replay()?;
    let replayed_ms = began.elapsed().as_millis();
    measure::search(&store.catalog, 7, true)?;
    let first_search_ms = began.elapsed().as_millis();
    Ok(json!({
        "open_ms": opened_ms,
        "replayed": n_replayed,
        "replayed_ms": replayed_ms,
        "first_search_ms": first_search_ms,
        "resident_bytes": measure::resident()?,
    }))
}

fn fill(dir: &Path, from: u64) -> Outcome<()> {
    let mut store = Store::open(dir)?;
    println!("begun");
    store.take(from, u64::MAX)
}

/// Has another process take more recordings, and kills it while it does.
fn fill_and_kill(dir: &Path, from: u64) -> Outcome<()> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut filling = command.arg("fill").arg(dir).arg(from.to_string()).stdout(Stdio::piped()).spawn()?;
    let mut said = BufReader::new(filling.stdout.take().ok_or("no output")?);
    said.read_line(&mut String::new())?;
    std::thread::sleep(FILLED_FOR);
    filling.kill()?;
    filling.wait()?;
    Ok(())
}
