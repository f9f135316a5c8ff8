//! What is measured of a store, and how it is shown. Changes nothing.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stills_indexer::catalog::Catalog;
use stills_model::grid::Grid;
use stills_model::time::{Span, Timestamp};

use super::Outcome;
use super::synth::{self, CAMERAS, MINUTE_MS, Noise};

/// The window of a search, and the distance of the instants that it lists.
const WINDOW_MS: i64 = 10 * MINUTE_MS;
const INTERVAL_MS: i64 = 10_000;
/// Looks of each kind.
const LOOKS: u64 = 2000;
/// What the random choice of searches is told by.
const CHOICE: u64 = 99;
/// Recordings whose entries are looked at.
const SAMPLES: u64 = 1000;

/// What a search asks the catalog for, from the start of the n-th recording on: coverage and what is pending, and where
/// URLs are shared the keyframe that answers for each instant. Its window is covered.
pub(super) fn search(catalog: &Catalog, n: u64, is_shared: bool) -> Outcome<()> {
    let (timeline, start) = (synth::timeline(n), synth::start(n));
    let window = Span { start, end: start.plus_ms(WINDOW_MS) };
    let now = window.end.plus_ms(10 * MINUTE_MS);
    let coverage = catalog.coverage(&timeline, &window)?;
    catalog.n_pending(&timeline, &window)?;
    let instants: Vec<Timestamp> = Grid::new(&window, INTERVAL_MS, &coverage).page(0, 1000).collect();
    if instants.len() < usize::try_from(WINDOW_MS / INTERVAL_MS)? {
        return Err(format!("{} instants of a window that is covered", instants.len()).into());
    }
    if is_shared {
        let mut locator = catalog.locator(timeline, window, now)?;
        for instant in instants {
            locator.locate(instant)?.map_err(|missing| format!("{missing:?}"))?;
        }
    }
    Ok(())
}

/// What authorisation asks the catalog for before NGINX looks into its cache.
pub(super) fn epoch(catalog: &Catalog, n: u64) -> Outcome<()> {
    let start = synth::start(n);
    catalog.epoch(&synth::timeline(n), &Span { start, end: start.plus_ms(WINDOW_MS) })?;
    Ok(())
}

/// Latencies of many looks at cameras and instants here and there among the first `count` recordings.
pub(super) fn looks(count: u64, look: impl Fn(u64) -> Outcome<()>) -> Outcome<Value> {
    let (mut took, mut noise) = (Vec::new(), Noise::new(CHOICE, count));
    for _ in 0..LOOKS {
        // The window ends with the last recording of its camera at the latest.
        let n = noise.next() % (count - 9 * CAMERAS);
        let began = Instant::now();
        look(n)?;
        took.push(began.elapsed());
    }
    took.sort();
    let rank = |percent: usize| took.get(took.len() * percent / 100).map_or(0, Duration::as_micros);
    Ok(json!({ "p50_us": rank(50), "p99_us": rank(99) }))
}

pub(super) fn resident() -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).ok_or("statm")?.parse()?;
    Ok(pages * 4096)
}

fn size_of(dir: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for item in std::fs::read_dir(dir)? {
        let item = item?;
        // Blocks, so that what is reserved counts and what is punched out does not.
        bytes += if item.path().is_dir() { size_of(&item.path())? } else { item.metadata()?.blocks() * 512 };
    }
    Ok(bytes)
}

/// Bytes on the disk, and of each recording.
pub(super) fn disk(dir: &Path, count: u64) -> Outcome<Value> {
    let (catalog, journal) = (size_of(&dir.join("catalog"))?, size_of(&dir.join("journal"))?);
    let each = |bytes: u64| bytes / count.max(1);
    Ok(json!({
        "bytes": catalog + journal,
        "bytes_per_recording": each(catalog + journal),
        "catalog_bytes_per_recording": each(catalog),
        "journal_bytes_per_recording": each(journal),
    }))
}

/// How long the stored forms are before anything is compressed, on average.
pub(super) fn entries() -> Outcome<Value> {
    let (mut page, mut event, mut finished) = (0, 0, 0);
    for n in 0..SAMPLES {
        let (of_event, of_finished) = synth::recording(n)?;
        page += of_finished.index.pages().iter().map(|page| page.encode().len() as u64).sum::<u64>();
        event += of_event.encode().len() as u64;
        finished += of_finished.encode().len() as u64;
    }
    Ok(json!({
        "keyframe_page_bytes": page / SAMPLES,
        "event_bytes": event / SAMPLES,
        "finished_bytes": finished / SAMPLES,
    }))
}

/// What is shown of each step: the column's head, and where the figure stands.
const COLUMNS: [(&str, &str); 14] = [
    ("recordings", "/recordings"),
    ("taken/s", "/recordings_per_second"),
    ("events/s", "/events_per_second"),
    ("search p50 us", "/looks/search/p50_us"),
    ("p99 us", "/looks/search/p99_us"),
    ("shared p50 us", "/looks/search_shared_urls/p50_us"),
    ("p99 us", "/looks/search_shared_urls/p99_us"),
    ("B/recording", "/disk/bytes_per_recording"),
    ("catalog", "/disk/catalog_bytes_per_recording"),
    ("journal", "/disk/journal_bytes_per_recording"),
    ("resident MiB", "/resident_bytes"),
    ("open ms", "/open_after_stop/first_search_ms"),
    ("killed ms", "/open_after_kill/first_search_ms"),
    ("replayed", "/open_after_kill/replayed"),
];

/// Adds memory of each recording, and how each figure compares with that of the first step.
pub(super) fn add_ratios(step: &mut Value, first: Option<&Value>) {
    let figure = |of: &Value, place: &str| of.pointer(place).and_then(Value::as_f64).unwrap_or(0.0);
    let (resident, count) = (figure(step, "/resident_bytes"), figure(step, "/recordings"));
    step["resident_bytes_per_recording"] = json!(resident / count.max(1.0));
    let Some(first) = first else { return };
    let ratios = COLUMNS.iter().filter(|(_, place)| figure(first, place) > 0.0).map(|(_, place)| {
        let ratio = figure(step, place) / figure(first, place);
        (place.trim_start_matches('/').replace('/', "."), json!((ratio * 1000.0).round() / 1000.0))
    });
    let ratios: serde_json::Map<String, Value> = ratios.collect();
    step["ratio_to_first"] = Value::Object(ratios);
}

pub(super) fn head() {
    let heads: Vec<String> = COLUMNS.iter().map(|(head, _)| format!("{head:>13}")).collect();
    eprintln!("{}", heads.join(" "));
}

/// A step's figures, and below them how many times the first step's they are.
pub(super) fn line(step: &Value) {
    let figure = |place: &str| {
        let value = step.pointer(place).and_then(Value::as_u64).unwrap_or(0);
        if place.ends_with("resident_bytes") { value >> 20 } else { value }
    };
    let figures: Vec<String> = COLUMNS.iter().map(|(_, place)| format!("{:>13}", figure(place))).collect();
    eprintln!("{}", figures.join(" "));
    if let Some(ratios) = step.get("ratio_to_first") {
        let ratio = |place: &str| ratios.get(place.trim_start_matches('/').replace('/', ".")).and_then(Value::as_f64);
        let shown = |place: &str| ratio(place).map_or_else(String::new, |ratio| format!("x{ratio:.2}"));
        let ratios: Vec<String> = COLUMNS.iter().map(|(_, place)| format!("{:>13}", shown(place))).collect();
        eprintln!("{}", ratios.join(" "));
    }
}
