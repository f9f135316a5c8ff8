//! `scale DIR [RECORDINGS]`: what the catalog costs when there are many recordings: how fast they are taken, how long
//! look-ups take, how much disk and memory they need, how long it takes to open. Started by `scripts/bench scale`.
//!
//! Recordings of a minute with a keyframe every two seconds, a hundred cameras side by side, day after day. Prints one
//! JSON object. The stores are opened in processes of their own (`scale open DIR`), as after a start.

#![expect(clippy::print_stdout, reason = "its answer")]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stills_indexer::catalog::{Catalog, Finished};
use stills_model::event::{Available, Event, EventKind, EventOrder};
use stills_model::id::{DeviceId, Timeline, UserId};
use stills_model::keyframe::{ByteRange, Codec, DecoderConfig, Keyframe, Orientation, Packaging};
use stills_model::keyframe_index::KeyframeIndex;
use stills_model::time::{DAY_MS, Span, Timestamp};

type Outcome<T> = Result<T, Box<dyn Error>>;

const CAMERAS: u64 = 100;
const MINUTE_MS: i64 = 60_000;
/// Midnight of 2025-09-08.
const START_MS: i64 = 20_339 * DAY_MS;
const SEAM_MS: i64 = 1000;
/// Look-ups of each kind.
const LOOKS: u64 = 2000;
/// How long recordings are taken before the kill.
const FILLED_FOR: Duration = Duration::from_secs(2);

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = match words[..] {
        ["open", dir] => open(Path::new(dir))?,
        ["fill", dir, from] => fill(Path::new(dir), from.parse()?)?,
        [dir] => measure(Path::new(dir), 100_000)?,
        [dir, count] => measure(Path::new(dir), count.parse()?)?,
        _ => return Err("usage: scale DIR [RECORDINGS]".into()),
    };
    println!("{report}");
    Ok(())
}

fn catalog(dir: &Path) -> Outcome<Catalog> {
    Ok(Catalog::open(dir, SEAM_MS, "scale")?.0)
}

fn timeline(n: u64) -> Timeline {
    let camera = u8::try_from(n % CAMERAS).unwrap_or(0);
    Timeline { user: UserId::from_bytes([1; 12]), device: DeviceId::from_bytes([camera; 12]) }
}

/// The start of the n-th recording: all cameras record at the same time.
fn start(n: u64) -> Timestamp {
    Timestamp::from_ms(START_MS + i64::try_from(n / CAMERAS).unwrap_or(0) * MINUTE_MS)
}

fn index() -> KeyframeIndex {
    let config = DecoderConfig {
        codec: Codec::H264,
        packaging: Packaging::Samples { prefix: vec![] },
        extradata: vec![1; 40],
        size: (1920, 1080),
        sample_aspect: (1, 1),
        orientation: Orientation::default(),
    };
    let keyframe = |n: u32| Keyframe {
        at_ms: i64::from(n) * 2000,
        config: 0,
        ranges: vec![ByteRange { offset: u64::from(n) * 800_000 + 48, len: 90_000 + n * 37 % 5000 }],
        gop_bytes: 800_000,
    };
    KeyframeIndex {
        configs: vec![config],
        keyframes: (0..30).map(keyframe).collect(),
        duration_ms: MINUTE_MS,
        resume: vec![],
    }
}

/// Announces and indexes the n-th recording, as the pipeline does behind the journal.
fn take(catalog: &Catalog, n: u64, index: &KeyframeIndex) -> Outcome<()> {
    let (timeline, start, recording) = (timeline(n), start(n), format!("r-{n}").parse().map_err(|_| "an id")?);
    let order = EventOrder { time_ns: start.as_ms() * 1_000_000, source: "/scale".into(), id: n.to_string().into() };
    let now = start.plus_ms(2 * MINUTE_MS);
    let available = Available {
        device: timeline.device,
        recording,
        start,
        end: Some(start.plus_ms(MINUTE_MS)),
        media_url: format!("file:///srv/recordings/{}/{}/{}.mp4", timeline.user, timeline.device, start).into(),
        growing: false,
        expires_at: None,
        size: None,
        etag: None,
        credentials_key: None,
    };
    let recording = available.recording.clone();
    let kind = EventKind::Available(Box::new(available));
    catalog.apply(&Event { order: order.clone(), user: timeline.user, kind }, now)?;
    let finished = Finished {
        timeline,
        recording: recording.clone(),
        start,
        order,
        media_len: 24_000_000,
        head: [0; 16],
        is_complete: true,
        index: index.clone(),
    };
    catalog.finish(&finished, now)?;
    let media = catalog.row(&timeline, &recording)?.and_then(|row| row.indexed).map(|indexed| indexed.media);
    Ok(catalog.note_prerendered(&timeline, &recording, media.ok_or("not indexed")?, now)?)
}

fn measure(dir: &Path, count: u64) -> Outcome<Value> {
    let (catalog_dir, began) = (dir.join("catalog"), Instant::now());
    let filling = catalog(&catalog_dir)?;
    let index = index();
    (0..count).try_for_each(|n| take(&filling, n, &index))?;
    let took = began.elapsed();
    // Identities of events are forgotten after a day; what stays is what counts.
    let mut seen = Some(Vec::new());
    while let Some(after) = seen {
        seen = filling.forget_seen(&after, Timestamp::from_ms(i64::MAX))?;
    }
    filling.set_checkpoint(b"")?;
    let mut report = json!({
        "recordings": count,
        "recordings_per_second": per_second(count, took),
        "coverage_of_a_day": looks(count, |timeline, window, _| {
            filling.coverage(&timeline, &window)?;
            Ok(())
        })?,
        "locate_one": looks(count, |timeline, _, at| {
            filling.locate(timeline, at, at)?.map_err(|missing| format!("{missing:?}"))?;
            Ok(())
        })?,
        "locate_1000_of_a_day": looks(count.min(50), |timeline, window, at| {
            let mut locator = filling.locator(timeline, window, at)?;
            let step_ms = window.len_ms() / 1000;
            (0..1000).try_for_each(|n| locator.locate(window.start.plus_ms(n * step_ms)).map(drop))?;
            Ok(())
        })?,
        "resident_bytes": resident()?,
    });
    drop(filling);
    let bytes = size_of(&catalog_dir)?;
    report["disk_bytes"] = json!(bytes);
    report["disk_bytes_per_recording"] = json!(bytes / count.max(1));
    report["open_after_stop"] = child(&["open"], &catalog_dir, &[])?;
    fill_and_kill(&catalog_dir, count)?;
    report["open_after_kill"] = child(&["open"], &catalog_dir, &[])?;
    Ok(report)
}

/// Latencies of many calls for cameras and instants here and there, in microseconds.
fn looks(count: u64, look: impl Fn(Timeline, Span, Timestamp) -> Outcome<()>) -> Outcome<Value> {
    let mut took = Vec::new();
    for n in 0..LOOKS.min(count.max(1) * 20) {
        // Scattered, and the same in every run.
        let which = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % count.max(1);
        let (timeline, at) = (timeline(which), start(which).plus_ms(31_000));
        let began = Instant::now();
        look(timeline, at.day().span(), at)?;
        took.push(began.elapsed());
    }
    took.sort();
    let rank = |percent: usize| took.get(took.len() * percent / 100).map_or(0, Duration::as_micros);
    Ok(json!({ "p50_us": rank(50), "p99_us": rank(99) }))
}

fn per_second(count: u64, took: Duration) -> u128 {
    u128::from(count) * 1000 / took.as_millis().max(1)
}

fn resident() -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).ok_or("statm")?.parse()?;
    Ok(pages * 4096)
}

fn size_of(dir: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for item in std::fs::read_dir(dir)? {
        let metadata = item?;
        bytes += if metadata.path().is_dir() { size_of(&metadata.path())? } else { metadata.metadata()?.len() };
    }
    Ok(bytes)
}

/// This program once more; what it prints.
fn child(before: &[&str], dir: &Path, after: &[&str]) -> Outcome<Value> {
    let output = Command::new(std::env::current_exe()?).args(before).arg(dir).args(after).output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn open(dir: &Path) -> Outcome<Value> {
    let began = Instant::now();
    let opened = catalog(dir)?;
    let opened_ms = began.elapsed().as_millis();
    opened.locate(timeline(7), start(7), start(7))?.map_err(|missing| format!("{missing:?}"))?;
    let ms = (opened_ms, began.elapsed().as_millis());
    Ok(json!({ "open_ms": ms.0, "first_look_ms": ms.1, "resident_bytes": resident()? }))
}

fn fill(dir: &Path, from: u64) -> Outcome<Value> {
    let (filling, index) = (catalog(dir)?, index());
    println!("begun");
    (from..).try_for_each(|n| take(&filling, n, &index))?;
    Ok(Value::Null)
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
