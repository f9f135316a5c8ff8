//! The demo: footage is made, recorded, announced, indexed, pre-rendered, listed and fetched through a real NGINX, and
//! every picture is checked against the frame rule. `scripts/demo` builds what it starts.
//!
//! `--once` ends by itself, with an exit code other than 0 if anything was wrong; without it everything stays up
//! until Ctrl-C, for a look around with the token it prints.

#![expect(clippy::print_stdout, clippy::panic, reason = "a program for people, which ends where it cannot go on")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use e2e::footage::{self, Codec, Container, Rate, Recipe, Recorded, rule};
use e2e::harness::{Answer, Camera, Search, Setup, Stills, USER, event, stills, token, wait};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

const MINUTE_MS: i64 = 60_000;

/// Recordings this close are one coverage: the server's default.
const SEAM_MAX_MS: i64 = 1000;

/// Between two listed pictures; the prerender interval, so that aligned windows find all of theirs.
const INTERVAL_MS: i64 = 10_000;

/// One camera of the demo.
struct Scene {
    name: &'static str,
    codec: Codec,
    container: Container,
    /// Minutes after the start of the window at which a one-minute recording begins, in milliseconds.
    starts_ms: Vec<i64>,
}

fn scenes() -> Vec<Scene> {
    let minutes = |of: &[i64]| of.iter().map(|n| n * MINUTE_MS).collect::<Vec<i64>>();
    let whole: Vec<i64> = (0..8).collect();
    // The recorder needs 300 ms from one file to the next.
    let seams = (0..8).map(|n| n * (MINUTE_MS + 300)).collect();
    vec![
        Scene { name: "front-door", codec: Codec::H264, container: Container::Mp4, starts_ms: seams },
        Scene { name: "garage", codec: Codec::Hevc, container: Container::Mp4, starts_ms: minutes(&[0, 1, 2, 6, 7]) },
        Scene { name: "yard", codec: Codec::H264, container: Container::FragmentedMp4, starts_ms: minutes(&whole) },
        Scene { name: "gate", codec: Codec::H264, container: Container::MpegTs, starts_ms: minutes(&whole) },
    ]
}

/// A camera and what it has recorded.
struct Recording {
    scene: Scene,
    camera: Camera,
    recorded: Vec<Recorded>,
}

/// One entry of a listing.
struct Listed {
    /// The URL's path and query.
    target: String,
    /// The offset in the window.
    offset_ms: i64,
}

/// What came back for one camera.
#[derive(Default)]
struct Outcome {
    listed: usize,
    fetched: usize,
    right: usize,
    hits: usize,
    stored: usize,
    cold: Vec<Duration>,
    cached: Vec<Duration>,
    faults: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_once = match arguments.iter().map(String::as_str).collect::<Vec<&str>>()[..] {
        [] => false,
        ["--once"] => true,
        _ => {
            eprintln!("unknown arguments: {} (allowed: --once)", arguments.join(" "));
            return ExitCode::from(2);
        }
    };
    // However it ends, what was started is dropped, and with that stopped and removed.
    tokio::select! {
        exit = demonstrate(is_once) => exit,
        () = asked_to_stop() => {
            println!("stopping");
            if is_once { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}

/// Waits for Ctrl-C or `SIGTERM`.
async fn asked_to_stop() {
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

async fn demonstrate(is_once: bool) -> ExitCode {
    let stills = start().await;
    // Twenty minutes ago, on the grid of the prerender interval.
    let start = (token::now_ms() - 20 * MINUTE_MS) / INTERVAL_MS * INTERVAL_MS;
    let window = (start, start + 9 * MINUTE_MS);

    let began = Instant::now();
    let recordings = record(&stills, start);
    let n_files: usize = recordings.iter().map(|recording| recording.recorded.len()).sum();
    println!(
        "made {n_files} one-minute files of {} cameras, a clock in every frame, in {:.1} s",
        recordings.len(),
        began.elapsed().as_secs_f64()
    );
    let began = Instant::now();
    announce(&stills, &recordings).await;
    wait::until("all recordings indexed and pre-rendered", async || is_idle(&stills, &recordings, window).await).await;
    println!("announced, indexed and pre-rendered in {:.1} s\n", began.elapsed().as_secs_f64());

    let mut faults = Vec::new();
    println!(
        "{:<12} {:<22} {:>6} {:>8} {:>6} {:>7} {:>10} {:>16} {:>16}",
        "camera", "media", "listed", "fetched", "right", "stored", "NGINX hits", "cold p50/p95 ms", "again p50/p95 ms"
    );
    for recording in &recordings {
        let outcome = look(&stills, recording, window).await;
        print_row(&recording.scene, &outcome);
        faults.extend(outcome.faults.into_iter().map(|fault| format!("{}: {fault}", recording.scene.name)));
    }
    println!(
        "\nright: shows exactly the keyframe that the rule gives, read from the clock in the picture. stored: answered\n\
         without a render. NGINX hits: the second time, without the origin."
    );
    if !faults.is_empty() {
        faults.iter().for_each(|fault| println!("FAULT {fault}"));
        return ExitCode::FAILURE;
    }
    print_next_steps(&stills, &recordings, window);
    if !is_once {
        println!("\nCtrl-C stops everything.");
        std::future::pending::<()>().await;
    }
    ExitCode::SUCCESS
}

/// Starts the server and NGINX, and once more under the address that NGINX got, so that listed URLs open as they are.
async fn start() -> Stills {
    let setup = Setup::new().nginx().set("prerender.interval", "\"10s\"").set("auth.cache_ttl", "\"10s\"");
    let mut stills = setup.start().await;
    let public_host = format!("\"{}\"", public_host(&stills));
    stills.home_mut().set("public.host", &public_host);
    stills.origin().stop().await;
    stills.start_again().await;
    stills
}

fn public_host(stills: &Stills) -> String {
    format!("http://{}", stills.address())
}

/// Makes every camera's files where its media must lie.
fn record(stills: &Stills, start: i64) -> Vec<Recording> {
    let mut orders = Vec::new();
    let mut recordings = Vec::new();
    for (n, scene) in (1u32..).zip(scenes()) {
        let camera = Camera::numbered(n);
        let mut recorded = Vec::new();
        for start_ms in &scene.starts_ms {
            let recipe = Recipe {
                label: scene.name.to_owned(),
                rate: Rate { frames: 2, seconds: 1 },
                gop: 4,
                start_ms: start + start_ms,
                codec: scene.codec,
                container: scene.container,
                has_audio: true,
                ..Recipe::default()
            };
            let id = format!("{}", start + start_ms);
            recorded.push(Recorded {
                id: id.clone(),
                start_ms: recipe.start_ms,
                end_ms: recipe.end_ms(),
                keyframes_ms: recipe.keyframes_ms(),
            });
            let name = format!("{id}.{}", scene.container.extension());
            orders.push((recipe, stills.media_path(&camera, &name)));
        }
        recordings.push(Recording { scene, camera, recorded });
    }
    footage::make_all(&orders).expect("footage");
    recordings
}

async fn announce(stills: &Stills, recordings: &[Recording]) {
    for Recording { scene, camera, recorded } in recordings {
        let events: Vec<_> = recorded
            .iter()
            .map(|one| {
                let url = stills.media_url(camera, &format!("{}.{}", one.id, scene.container.extension()));
                event::available(camera, &one.id, (one.start_ms, one.end_ms), &url)
            })
            .collect();
        stills.send(&events).await.expect(202);
    }
}

/// Whether every recording is indexed and nothing is left to do.
async fn is_idle(stills: &Stills, recordings: &[Recording], window: (i64, i64)) -> bool {
    for recording in recordings {
        let all = stills.recordings(&recording.camera, window).await;
        let states = all["recordings"].as_array().cloned().unwrap_or_default();
        if let Some(failed) = states.iter().find(|one| one["state"] == "failed") {
            panic!("{failed}");
        }
        if states.len() != recording.recorded.len() || states.iter().any(|one| one["state"] != "indexed") {
            return false;
        }
    }
    stills.metrics().await.sum("stills_pipeline_backlog", &[]) == 0.0
}

/// Lists a camera's window and fetches every picture twice through NGINX.
async fn look(stills: &Stills, recording: &Recording, window: (i64, i64)) -> Outcome {
    let listed = list(stills, &Search::new(&recording.camera, window, INTERVAL_MS)).await;
    let mut outcome = Outcome { listed: listed.len(), ..Outcome::default() };
    let interval = usize::try_from(INTERVAL_MS).unwrap_or(1);
    let expected = rule::listed(&recording.recorded, SEAM_MAX_MS, window, interval);
    let offsets: Vec<i64> = listed.iter().map(|entry| entry.offset_ms).collect();
    if offsets != expected {
        outcome.faults.push(format!("search listed {offsets:?} instead of {expected:?}"));
    }
    let mut pictures = Vec::new();
    for entry in &listed {
        let began = Instant::now();
        let answer = stills.get(&entry.target).await;
        outcome.cold.push(began.elapsed());
        outcome.fetched += usize::from(answer.status == 200);
        match check(recording, window, entry, &answer) {
            Ok(()) => outcome.right += 1,
            Err(fault) => outcome.faults.push(fault),
        }
        outcome.stored += usize::from(answer.header("cache-status").starts_with("stills; hit"));
        pictures.push(answer.body);
    }
    for (entry, picture) in listed.iter().zip(&pictures) {
        let began = Instant::now();
        let answer = stills.get(&entry.target).await;
        outcome.cached.push(began.elapsed());
        outcome.hits += usize::from(answer.status == 200 && answer.header("cache-status").starts_with("nginx; hit"));
        if answer.body != *picture {
            outcome.faults.push(format!("{}: another picture the second time", entry.target));
        }
    }
    if outcome.stored != outcome.listed {
        outcome.faults.push(format!("{} of {} were rendered", outcome.listed - outcome.stored, outcome.listed));
    }
    if outcome.hits != outcome.listed {
        outcome.faults.push(format!("NGINX asked the origin again for {}", outcome.listed - outcome.hits));
    }
    outcome
}

/// The entries of a search, whose URLs must begin with the public address.
async fn list(stills: &Stills, search: &Search) -> Vec<Listed> {
    let entries = stills.get(&search.target()).await.expect(200).json();
    let public_host = public_host(stills);
    let entry = |entry: &Value| {
        let target = entry["url"].as_str()?.strip_prefix(&public_host)?.to_owned();
        Some(Listed { target, offset_ms: entry["timestamp"].as_i64()? })
    };
    let entries = entries.as_array().expect("a list");
    entries.iter().map(|one| entry(one).unwrap_or_else(|| panic!("a malformed entry: {one}"))).collect()
}

/// Whether the answer is a JPEG of the asked size that shows the keyframe which the rule gives.
fn check(recording: &Recording, window: (i64, i64), entry: &Listed, answer: &Answer) -> Result<(), String> {
    let asked_ms = window.0 + entry.offset_ms;
    if answer.status != 200 {
        return Err(format!("{}: status {}: {}", entry.target, answer.status, answer.text()));
    }
    let seen = footage::look(&answer.body).map_err(|error| format!("{}: no JPEG: {error}", entry.target))?;
    let shown = rule::shown(&recording.recorded, SEAM_MAX_MS, asked_ms).map(|shown| shown.keyframe_ms);
    match seen.clock_ms {
        _ if (seen.width, seen.height) != (320, 240) => {
            Err(format!("{}: {}x{} pixels", entry.target, seen.width, seen.height))
        }
        clock_ms if clock_ms == shown => Ok(()),
        clock_ms => Err(format!("{}: shows {clock_ms:?} instead of {shown:?}", entry.target)),
    }
}

fn print_row(scene: &Scene, outcome: &Outcome) {
    let Outcome { listed, fetched, right, stored, hits, .. } = outcome;
    let media = format!("{}, {}", scene.codec.name(), scene.container.name());
    let stored = format!("{} %", stored * 100 / listed.max(&1));
    println!(
        "{:<12} {media:<22} {listed:>6} {fetched:>8} {right:>6} {stored:>7} {hits:>10} {:>16} {:>16}",
        scene.name,
        percentiles(&outcome.cold),
        percentiles(&outcome.cached),
    );
}

/// Median and 95th percentile.
fn percentiles(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |share: usize| sorted.get(sorted.len() * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    format!("{:.1} / {:.1}", at(50), at(95))
}

/// A token as the server signs it, and calls to try with it.
fn print_next_steps(stills: &Stills, recordings: &[Recording], window: (i64, i64)) {
    let Some(first) = recordings.first() else { return };
    let arguments = ["token", "--user-id", USER, "--scope", token::SCOPES, "--ttl", "1h"];
    let signed = stills.home().command("stills-origin", &arguments).output().expect("stills-origin token");
    assert!(signed.status.success(), "stills-origin token: {}", String::from_utf8_lossy(&signed.stderr));
    let host = public_host(stills);
    println!("\nTOKEN={}", String::from_utf8_lossy(&signed.stdout).trim());
    let search = Search::new(&first.camera, window, INTERVAL_MS).target();
    println!("curl -s -H \"Authorization: Bearer $TOKEN\" '{host}{search}'");
    let thumb = stills::thumb(&first.camera, window, 0);
    println!("curl -s -H \"Authorization: Bearer $TOKEN\" -o thumb.jpg '{host}{thumb}'");
    let latest = format!("/images/v1/image/Device/{}.{}/Latest", first.camera.user, first.camera.device);
    let latest = format!("{latest}?width=480&aspect=16x9&imageFormat=webp");
    println!("curl -s -H \"Authorization: Bearer $TOKEN\" -o latest.webp '{host}{latest}'");
    println!("curl -s {host}/openapi.json");
}
