//! What cameras cost: many of them, recordings of a minute all cut at the same second. CPU of all processes, how soon a minute
//! is listed and prerendered, disk, requests to an object store, and money by a price file.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use e2e::harness::event::available;
use e2e::harness::media_server::{MediaServer, Object};
use e2e::harness::{Camera, START, Setup, Stills, procfs};
use serde_json::Value;

use crate::inputs;
use crate::sheet::{Goal, Sheet, percentile};

const MINUTE_MS: i64 = 60_000;
const MINUTES_A_DAY: f64 = 1440.0;
const DAYS_A_MONTH: f64 = 365.25 / 12.0;

/// Anchors of a minute at the usual interval.
const THUMBS: usize = 6;

/// Between two looks at how far it is: short against what is waited for, long against what a look costs.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A burst that takes longer than its minute runs into the next one; this ends the benchmark.
const BURST_MAX: Duration = Duration::from_secs(600);

/// How much is simulated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) cameras: usize,
    pub(crate) minutes: usize,
}

/// Measures and publishes it. `prices` is a file as `tests/prices.json`.
pub(crate) async fn run(place: &Path, scale: Scale, prices: &Path) -> io::Result<()> {
    let prices: Value = serde_json::from_slice(&std::fs::read(prices)?)?;
    let file = inputs::camera(place)?.file;
    let mut sheet = Sheet::default();
    let used = bursts(&file, scale, &mut sheet).await?;
    let requests = object_store(&file, &mut sheet).await?;
    let month = DAYS_A_MONTH * MINUTES_A_DAY;
    let price = |name: &str| {
        let found = prices[name].as_f64();
        found.ok_or_else(|| io::Error::other(format!("the price file lacks the number {name}")))
    };
    let cpu = used.cpu_s * month / 3600.0 * price("core_hour")?;
    let kept_days = price("thumbs_kept_days")?;
    let disk = used.thumb_bytes * MINUTES_A_DAY * kept_days / 1e9 * price("disk_gb_month")?;
    let reads = requests * month / 1e4 * price("get_10000")?;
    for (name, cost) in [("CPU", cpu), ("disk", disk), ("object store requests", reads), ("all", cpu + disk + reads)] {
        sheet.judge(&format!("cost of a camera a month, {name}, in the price file's currency"), cost, None);
    }
    sheet.publish(place, "camera")
}

/// What a camera-minute takes.
struct Used {
    cpu_s: f64,
    thumb_bytes: f64,
}

/// Bursts at the same second of each minute.
async fn bursts(file: &Path, scale: Scale, sheet: &mut Sheet) -> io::Result<Used> {
    let setup = Setup::new().set("prerender.interval", "\"10s\"");
    let mut stills = setup.start().await;
    let origin = stills.origin().id();
    let cameras: Vec<Camera> =
        (1..=scale.cameras).map(|n| Camera::numbered(u32::try_from(n).unwrap_or(u32::MAX))).collect();
    let (mut listed, mut ready) = (Vec::new(), Vec::new());
    let cpu_before = procfs::cpu(origin);
    let mut cuts = tokio::time::interval(Duration::from_secs(60));
    // The minute that has just ended: what follows on footage of long ago is not the same as what follows on live footage.
    let first = now_ms()?.div_euclid(MINUTE_MS) * MINUTE_MS - MINUTE_MS;
    for minute in 0..scale.minutes {
        cuts.tick().await;
        let start = first + i64::try_from(minute).unwrap_or(0) * MINUTE_MS;
        burst(&stills, file, &cameras, start, (&mut listed, &mut ready)).await?;
        eprintln!("camera: minute {} of {}", minute + 1, scale.minutes);
    }
    let n = (scale.cameras * scale.minutes) as f64;
    let cpu_s = procfs::cpu(origin).saturating_sub(cpu_before).as_secs_f64() / n;
    let metrics = stills.metrics().await;
    let thumb_bytes = metrics.sum("stills_cache_bytes", &[]) / n;
    let journal_bytes = metrics.sum("stills_journal_bytes", &[]) / n;
    let data_bytes = folder_bytes(&stills.home().data())? as f64 / n;
    for (name, bytes) in
        [("thumbs", thumb_bytes), ("journal", journal_bytes), ("data folder, preallocated files included", data_bytes)]
    {
        sheet.add(name, "MB a camera-day", bytes * MINUTES_A_DAY / 1e6);
    }
    let renders = metrics.sum("stills_renders_total", &[("outcome", "ok")]);
    sheet.add("renders", "a camera-minute", renders / n);
    let syncs = metrics.sum("stills_journal_syncs_total", &[]);
    sheet.add("fdatasync of events", "a camera-day", syncs / n * MINUTES_A_DAY);
    let cores = std::thread::available_parallelism()?.get();
    sheet.judge("cores", cores as f64, None);
    sheet.judge("CPU s a camera-minute", cpu_s, Some(Goal::AtMost(0.18)));
    sheet.judge("s from event to listed, 50 %", percentile(&listed, 0.5), None);
    sheet.judge("s from event to listed, 99 %", percentile(&listed, 0.99), Some(Goal::AtMost(3.0)));
    sheet.judge("s from event to prerendered, 50 %", percentile(&ready, 0.5), None);
    sheet.judge("s from event to prerendered, 99 %", percentile(&ready, 0.99), Some(Goal::AtMost(45.0)));
    sheet.judge("cores that one minute's burst keeps busy for it", cpu_s * scale.cameras as f64 / 60.0, None);
    let goal = Some(Goal::AtMost(100.0));
    sheet.judge("MB of thumbs a camera-day", thumb_bytes * MINUTES_A_DAY / 1e6, goal);
    Ok(Used { cpu_s, thumb_bytes })
}

fn now_ms() -> io::Result<i64> {
    let since = SystemTime::UNIX_EPOCH.elapsed().map_err(io::Error::other)?;
    i64::try_from(since.as_millis()).map_err(io::Error::other)
}

/// One minute: all events at once; notes in seconds when each recording was listed and had its thumbs. All were announced in
/// the same moment, so how many are done by when tells how long each took.
async fn burst(
    stills: &Stills,
    file: &Path,
    cameras: &[Camera],
    start: i64,
    (listed, ready): (&mut Vec<f64>, &mut Vec<f64>),
) -> io::Result<()> {
    let (id, span) = (format!("r{start}"), (start, start + MINUTE_MS));
    let mut events = Vec::new();
    for camera in cameras {
        inputs::link(file, &stills.media_path(camera, &id))?;
        events.push(available(camera, &id, span, &stills.media_url(camera, &id)));
    }
    let done = async || {
        let metrics = stills.metrics().await;
        let of = |name: &str| metrics.sum(name, &[("outcome", "ok")]);
        (of("stills_scans_total"), of("stills_renders_total"))
    };
    let before = done().await;
    let (n, n_thumbs) = (cameras.len() as f64, (cameras.len() * THUMBS) as f64);
    let began = Instant::now();
    for some in events.chunks(100) {
        stills.send(some).await.expect(202);
    }
    let (mut n_listed, mut n_ready) = (0.0, 0.0);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    while n_listed < n || n_ready < n_thumbs {
        looks.tick().await;
        let now = done().await;
        let took = began.elapsed();
        while n_listed < (now.0 - before.0).min(n) {
            n_listed += 1.0;
            listed.push(took.as_secs_f64());
        }
        while n_ready < (now.1 - before.1).min(n_thumbs) {
            n_ready += 1.0;
            ready.push(took.as_secs_f64());
        }
        if took > BURST_MAX {
            return Err(io::Error::other(format!("{n_listed} of {n} listed, {n_ready} of {n_thumbs} thumbs")));
        }
    }
    // A finished scan is one that can be listed: said by the recordings themselves, once all are through.
    for camera in [cameras.first(), cameras.last()].into_iter().flatten() {
        stills.until_state(camera, &id, span, "indexed").await;
    }
    Ok(())
}

/// Requests for a camera-minute's media over HTTP, read by ranges and whole; gives the lesser.
async fn object_store(file: &Path, sheet: &mut Sheet) -> io::Result<f64> {
    const MINUTES: i64 = 10;
    let mut least = f64::INFINITY;
    for read in ["ranges", "whole"] {
        let server = MediaServer::of(Object::new(file, "\"one\"")).await;
        let setup = Setup::new().set("prerender.interval", "\"10s\"").set("media.read", &format!("\"{read}\""));
        let setup = setup.set("media.allow_networks", "[\"127.0.0.0/8\"]");
        let setup = setup.set("media.allow_urls", "[\"^http://127\\\\.0\\\\.0\\\\.1:[0-9]+/{user_id}/\"]");
        let stills = setup.start().await;
        let camera = Camera::first();
        for minute in 0..MINUTES {
            let (id, start) = (format!("r{minute}"), START + minute * MINUTE_MS);
            let url = server.url(&format!("/{}/{id}.mp4", camera.user));
            let event = available(&camera, &id, (start, start + MINUTE_MS), &url);
            stills.send(&[event]).await.expect(202);
        }
        let began = Instant::now();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while stills.renders().await < (MINUTES * 6) as f64 {
            looks.tick().await;
            if began.elapsed() > BURST_MAX {
                return Err(io::Error::other("media over HTTP is not rendered"));
            }
        }
        let (requests, bytes) = server.take();
        let a_minute = requests as f64 / MINUTES as f64;
        sheet.add(
            &format!("requests to an object store, media.read = {read}"),
            "a camera-day",
            a_minute * MINUTES_A_DAY,
        );
        let megabytes = bytes as f64 / MINUTES as f64 * MINUTES_A_DAY / 1e6;
        sheet.add(&format!("bytes from an object store, media.read = {read}"), "MB a camera-day", megabytes);
        least = least.min(a_minute);
    }
    Ok(least)
}

fn folder_bytes(folder: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { folder_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
