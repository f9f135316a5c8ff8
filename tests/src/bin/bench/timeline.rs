//! What opening a timeline costs: a day of one camera, all of its pictures over six connections through a cold NGINX; and what
//! many clients with windows of their own share, for each way of wording and snapping URLs.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::footage::{Recipe, cached};
use e2e::harness::dice::Dice;
use e2e::harness::nginx::Nginx;
use e2e::harness::stills::Search;
use e2e::harness::{Camera, Setup, Stills, procfs};

use crate::client::{Client, Got};
use crate::inputs;
use crate::sheet::{Goal, Sheet};

/// Midnight UTC, 2025-09-08.
const DAY: i64 = 1_757_289_600_000;
const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// As browsers open to one host.
const CONNECTIONS: usize = 6;

/// Longer than any machine takes to make a day ready.
const READY_MAX: Duration = Duration::from_secs(1800);

/// People do not open their timelines all in one moment.
const BEGIN_WITHIN_MS: i64 = 30_000;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Clients with sliding windows.
    pub(crate) clients: usize,
    /// How often each opens its day.
    pub(crate) openings: usize,
    /// Pictures of a day in those windows.
    pub(crate) pictures: i64,
    /// Between two prerendered pictures, in seconds.
    pub(crate) anchors_s: i64,
}

impl Scale {
    pub(crate) const FULL: Self = Self { clients: 200, openings: 6, pictures: 180, anchors_s: 10 };
    pub(crate) const QUICK: Self = Self { clients: 40, openings: 6, pictures: 180, anchors_s: 30 };
}

/// Measures both, and publishes each as soon as it is measured. `only` leaves out the other one: "day" or "windows".
pub(crate) async fn run(place: &Path, scale: Scale, only: Option<&str>) -> io::Result<()> {
    if only.is_none_or(|part| part == "day") {
        let mut sheet = Sheet::default();
        one_day(place, scale, &mut sheet).await?;
        sheet.publish(place, "timeline-day")?;
    }
    if only.is_none_or(|part| part == "windows") {
        let mut sheet = Sheet::default();
        sliding(scale, &mut sheet).await?;
        sheet.publish(place, "timeline-windows")?;
    }
    Ok(())
}

/// A server with recordings of a minute each from [`DAY`] on, all prerendered.
async fn start(file: &Path, camera: &Camera, hours: i64, anchors_s: i64) -> io::Result<Stills> {
    let setup = Setup::new().nginx().set("prerender.interval", &format!("\"{anchors_s}s\""));
    let mut stills = setup.set("auth.cache_ttl", "\"10s\"").start().await;
    for hour in 0..hours {
        let mut events = Vec::new();
        for minute in 0..60 {
            let start = DAY + hour * HOUR_MS + minute * MINUTE_MS;
            let id = format!("r{start}");
            inputs::link(file, &stills.media_path(camera, &id))?;
            let url = stills.media_url(camera, &id);
            events.push(e2e::harness::event::available(camera, &id, (start, start + MINUTE_MS), &url));
        }
        stills.send(&events).await.expect(202);
    }
    let began = Instant::now();
    let mut looks = tokio::time::interval(Duration::from_millis(500));
    let anchors = (hours * 3600 / anchors_s) as f64;
    while stills.renders().await < anchors - 1.0 || stills.metrics().await.sum("stills_pipeline_backlog", &[]) > 0.0 {
        looks.tick().await;
        if began.elapsed() > READY_MAX {
            return Err(io::Error::other("the day does not become ready"));
        }
    }
    let (cpu, thumbs) = (procfs::cpu(stills.origin().id()).as_secs_f64(), stills.renders().await);
    eprintln!("timeline: {hours} h are ready, {thumbs} thumbs, {cpu:.1} CPU s");
    Ok(stills)
}

/// The pictures of one day, each case through an NGINX that has nothing.
async fn one_day(place: &Path, scale: Scale, sheet: &mut Sheet) -> io::Result<()> {
    let (camera, minute) = (Camera::first(), inputs::camera(place)?);
    let mut stills = start(&minute.file, &camera, 25, scale.anchors_s).await?;
    // A size that nobody prerenders; each case one of its own, so that none finds what another had made.
    let mut sizes = (0..4).map(|n| format!("{}x240", 316 - 4 * n));
    for pictures in [180, 1440] {
        for shift_ms in [0, 7_321 + pictures * 10] {
            let start = DAY + shift_ms;
            let search = Search::new(&camera, (start, start + DAY_MS - MINUTE_MS), DAY_MS / pictures);
            let aligned = if shift_ms == 0 { "aligned" } else { "unaligned" };
            open(&mut stills, &search, &format!("{pictures} pictures, {aligned}, prerendered"), sheet).await?;
            let other = Search { resolution: sizes.next().unwrap_or_default(), ..search };
            open(&mut stills, &other, &format!("{pictures} pictures, {aligned}, not prerendered"), sheet).await?;
        }
    }
    Ok(())
}

async fn open(stills: &mut Stills, search: &Search, name: &str, sheet: &mut Sheet) -> io::Result<()> {
    let run_dir = tempfile::tempdir()?;
    let nginx = Nginx::start(run_dir.path(), stills.origin_address()).await;
    let origin = stills.origin().id();
    let cpu = || procfs::cpu(origin) + procfs::cpu(nginx.id());
    let (renders, cpu_before, began) = (stills.renders().await, cpu(), Instant::now());
    let mut first = Client::connect(nginx.address(), stills.owner()).await?;
    let targets = first.list(&search.target()).await?;
    let mut connections = Vec::new();
    for n in 0..CONNECTIONS {
        let mine: Vec<String> = targets.iter().skip(n).step_by(CONNECTIONS).cloned().collect();
        let mut client = Client::connect(nginx.address(), stills.owner()).await?;
        connections.push(tokio::spawn(async move {
            let mut got = Got::default();
            for target in &mine {
                got += client.get(target).await?;
            }
            Ok::<_, io::Error>(got)
        }));
    }
    let mut got = Got::default();
    for connection in connections {
        got += connection.await.map_err(io::Error::other)??;
    }
    sheet.add(name, "s to the last picture", began.elapsed().as_secs_f64());
    sheet.add(name, "CPU s", cpu().saturating_sub(cpu_before).as_secs_f64());
    sheet.add(name, "MB", got.bytes / 1e6);
    sheet.add(name, "pictures", got.answers);
    sheet.add(name, "rendered while waited for", got.renders);
    sheet.add(name, "rendered in all", stills.renders().await - renders);
    Ok(())
}

/// Clients that look at the last 24 hours again and again, each at moments of its own.
async fn sliding(scale: Scale, sheet: &mut Sheet) -> io::Result<()> {
    // Small footage: what is counted here is who shares what, not what a render costs.
    let footage = cached(&Recipe { width: 320, height: 240, ..Recipe::default() })?;
    let camera = Camera::first();
    for urls in ["request", "shared"] {
        for snap in ["off", "anchors"] {
            // Each way begins with nothing but what is prerendered.
            let mut stills = start(&footage.path, &camera, 27, scale.anchors_s).await?;
            let name = format!("sliding windows, urls={urls}, snap={snap}");
            let (renders, began) = (stills.renders().await, Instant::now());
            let (origin, nginx) = (stills.origin().id(), stills.nginx().id());
            let cpu = || procfs::cpu(origin).as_secs_f64() + procfs::cpu(nginx).as_secs_f64();
            let cpu_before = cpu();
            let mut clients = Vec::new();
            for n in 0..scale.clients {
                let (address, owner) = (stills.address(), stills.owner().to_owned());
                let (camera, extra) = (camera.clone(), format!("urls={urls}&snap={snap}"));
                clients.push(tokio::spawn(async move {
                    let mut dice = Dice::new(n as u64);
                    let pause_ms = u64::try_from(dice.roll(0, BEGIN_WITHIN_MS)).unwrap_or(0);
                    let begin = tokio::time::Instant::now() + Duration::from_millis(pause_ms);
                    tokio::time::interval_at(begin, Duration::from_secs(1)).tick().await;
                    let mut client = Client::connect(address, &owner).await?;
                    let (mut got, mut asked) = (Got::default(), HashSet::new());
                    let mut start = DAY + MINUTE_MS + dice.roll(0, 2 * HOUR_MS);
                    for _ in 0..scale.openings {
                        let window = (start, start + DAY_MS);
                        let search = Search::new(&camera, window, DAY_MS / scale.pictures).with(&extra);
                        for target in client.list(&search.target()).await? {
                            got += client.get(&target).await?;
                            asked.insert(target);
                        }
                        start += dice.roll(0, 10 * MINUTE_MS);
                    }
                    Ok::<_, io::Error>((got, asked))
                }));
            }
            let (mut got, mut asked) = (Got::default(), HashSet::new());
            for client in clients {
                let (of_one, asked_by_one) = client.await.map_err(io::Error::other)??;
                got += of_one;
                asked.extend(asked_by_one);
            }
            sheet.add(&name, "answers", got.answers);
            sheet.add(&name, "URLs asked for", asked.len() as f64);
            sheet.add(&name, "CPU ms an answer", (cpu() - cpu_before) * 1000.0 / got.answers);
            sheet.add(&name, "answers/s", got.answers / began.elapsed().as_secs_f64());
            sheet.add(&name, "rendered in all", stills.renders().await - renders);
            let hits = Some(Goal::AtLeast(0.9)).filter(|_| urls == "shared");
            sheet.judge(&format!("{name}: NGINX hits"), got.nginx_hits / got.answers, hits);
            let lazy = Some(Goal::AtMost(0.01)).filter(|_| snap == "anchors");
            sheet.judge(&format!("{name}: rendered while waited for"), got.renders / got.answers, lazy);
            eprintln!("timeline: {name}");
        }
    }
    Ok(())
}
