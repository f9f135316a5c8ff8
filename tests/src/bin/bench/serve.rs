//! What serving costs: the same pictures from NGINX's own files, its bare cache, our whole NGINX configuration, and the origin
//! from memory and from its volumes; a search page beside a body of its size. One saturated core, rounds by turns.
//!
//! The figure to go by is answers per CPU second of the server: a busy machine takes from the clock, not from that.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use e2e::harness::program::Program;
use e2e::harness::stills::thumb_sized;
use e2e::harness::{Camera, START, Search, Setup, Stills, procfs, signed, wait};

use crate::inputs;
use crate::sheet::{Goal, Sheet};
use crate::wrk::{self, Load};

/// Recordings of a minute each.
const MINUTES: i64 = 60;

/// Pictures that are asked for in turn.
const PICTURES: i64 = 200;

/// Of that size they are 10 KB.
const SIZE: (u32, u32) = (248, 186);

/// Entries of the search page, the most there are.
const ENTRIES: i64 = 1000;

/// Digits of an `ETag` in a URL.
const VERSION_LEN: usize = 12;

const CONNECTIONS: usize = 32;

/// How often and for how long everything is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    pub(crate) seconds: u64,
}

impl Rounds {
    pub(crate) const FULL: Self = Self { count: 7, seconds: 4 };
    pub(crate) const QUICK: Self = Self { count: 3, seconds: 2 };
}

const STATIC: &str = "NGINX, files";
const CACHE: &str = "NGINX, bare cache";
const OURS: &str = "our NGINX configuration";
const VERSIONED: &str = "our NGINX configuration, URLs with a version";
const SIGNED: &str = "our NGINX configuration, signed URLs";
const HOT: &str = "origin, memory";
const VOLUMES: &str = "origin, volumes";
const PREBUILT: &str = "NGINX, a file of a page's size";
const PAGE: &str = "origin, search page";
const SHARED: &str = "origin, search page, shared URLs";
const UNIT: &str = "answers per CPU s";
const UNIT_WALL: &str = "answers/s";

/// One thing that is measured.
struct Case<'a> {
    name: &'static str,
    address: SocketAddr,
    /// The server's first process.
    server: u32,
    targets: &'a [String],
}

/// Measures everything and publishes it. `only` leaves out the cases whose name does not hold it.
pub(crate) async fn run(place: &Path, rounds: Rounds, only: Option<&str>) -> io::Result<()> {
    let minute = inputs::camera(place)?;
    let camera = Camera::first();
    let mut hot = start("256MiB", true, &camera, &minute.file).await?;
    let mut cold = start("0B", false, &camera, &minute.file).await?;
    let window = (START, START + MINUTES * 60_000);
    let targets: Vec<String> =
        (0..PICTURES).map(|n| thumb_sized(&camera, window, n * MINUTES * 60_000 / PICTURES, SIZE)).collect();
    let mut versioned = Vec::new();
    for target in &targets {
        let answer = hot.get(target).await.expect(200);
        let tag = answer.header("etag").trim_matches('"');
        versioned.push(format!("{target}?v={}", tag.get(..VERSION_LEN).unwrap_or(tag)));
    }
    let query = signed::Window::new(&camera.user, &camera.device, window.0, window.1).query();
    let signed: Vec<String> = targets.iter().map(|target| format!("{target}?{query}")).collect();
    let search = Search::new(&camera, window, MINUTES * 60_000 / ENTRIES);
    let (page, shared) = ([search.target()], [search.with("urls=shared").target()]);
    let files = tempfile::tempdir()?;
    let bytes = lay_out(&hot, files.path(), &targets, &page[0]).await?;
    for target in &targets {
        cold.get(target).await.expect(200);
    }
    let peers = Peers::start(files.path()).await?;
    let prebuilt = ["/page.json".to_owned()];

    let (nginx, nginx_id) = (hot.nginx().address(), hot.nginx().id());
    let (hot_at, hot_id) = (hot.origin_address(), hot.origin().id());
    let (cold_at, cold_id) = (cold.origin_address(), cold.origin().id());
    let case = |name, address, server, targets| Case { name, address, server, targets };
    let cases = [
        case(STATIC, peers.files, peers.program.id(), &targets[..]),
        case(CACHE, peers.cache, peers.program.id(), &targets),
        case(OURS, nginx, nginx_id, &targets),
        case(VERSIONED, nginx, nginx_id, &versioned),
        case(SIGNED, nginx, nginx_id, &signed),
        case(HOT, hot_at, hot_id, &targets),
        case(VOLUMES, cold_at, cold_id, &targets),
        case(PREBUILT, peers.files, peers.program.id(), &prebuilt),
        case(PAGE, hot_at, hot_id, &page),
        case(SHARED, hot_at, hot_id, &shared),
    ];
    let mut sheet = Sheet::default();
    sheet.add("a picture", "bytes", bytes);
    let renders = hot.renders().await + cold.renders().await;
    for round in 0..=rounds.count {
        for case in cases.iter().filter(|case| only.is_none_or(|only| case.name.contains(only))) {
            let stills = if case.address == cold_at { &cold } else { &hot };
            // The first round warms up.
            let seconds = if round == 0 { 1 } else { rounds.seconds };
            let asked = asked(&hot).await;
            let load = Load {
                address: case.address,
                token: (case.name != SIGNED).then_some(stills.owner()),
                script: wrk::gets(case.targets),
                connections: CONNECTIONS,
                seconds,
            };
            let before = procfs::cpu(case.server);
            let counted = wrk::run(&load)?;
            let cpu = procfs::cpu(case.server).saturating_sub(before).as_secs_f64();
            if round == 0 {
                continue;
            }
            sheet.add(case.name, UNIT, counted.requests / cpu);
            sheet.add(case.name, UNIT_WALL, counted.requests / counted.seconds);
            sheet.add(case.name, "ms, 99 %", counted.p99_ms);
            if [OURS, VERSIONED, SIGNED].contains(&case.name) {
                sheet.add(
                    case.name,
                    "requests to the origin per answer",
                    (self::asked(&hot).await - asked) / counted.requests,
                );
            }
        }
        eprintln!("serve: round {round} of {}", rounds.count);
    }
    if hot.renders().await + cold.renders().await > renders {
        return Err(io::Error::other("pictures were rendered while they should have been there"));
    }
    for (of, to, goal) in [
        (CACHE, STATIC, None),
        (OURS, CACHE, Some(Goal::AtLeast(0.6))),
        (VERSIONED, CACHE, Some(Goal::AtLeast(0.6))),
        (SIGNED, CACHE, Some(Goal::AtLeast(0.6))),
        (HOT, STATIC, Some(Goal::AtLeast(1.0))),
        (VOLUMES, STATIC, Some(Goal::AtLeast(0.8))),
        (PAGE, PREBUILT, Some(Goal::AtLeast(0.5))),
        (SHARED, PREBUILT, None),
    ] {
        sheet.ratio((of, to), UNIT, goal);
        sheet.ratio((of, to), UNIT_WALL, None);
    }
    sheet.publish(place, "serve")
}

/// What NGINX asked the origin so far.
async fn asked(stills: &Stills) -> f64 {
    let metrics = stills.metrics().await;
    ["thumb", "auth"].iter().map(|route| metrics.sum("stills_http_requests_total", &[("route", route)])).sum()
}

/// A server with an hour of recordings of a minute each.
async fn start(hot_bytes: &str, has_nginx: bool, camera: &Camera, file: &Path) -> io::Result<Stills> {
    let setup = Setup::new().set("cache.hot_bytes", &format!("\"{hot_bytes}\"")).set("auth.cache_ttl", "\"10s\"");
    // What a search lists would be rendered behind it.
    let setup = setup.set("prerender.policy", "\"none\"");
    let setup = if has_nginx { setup.nginx() } else { setup };
    let stills = setup.start().await;
    let mut events = Vec::new();
    for n in 0..MINUTES {
        let (id, span) = (format!("r{n}"), (START + n * 60_000, START + (n + 1) * 60_000));
        inputs::link(file, &stills.media_path(camera, &id))?;
        events.push(e2e::harness::event::available(camera, &id, span, &stills.media_url(camera, &id)));
    }
    stills.send(&events).await.expect(202);
    for n in 0..MINUTES {
        let span = (START + n * 60_000, START + (n + 1) * 60_000);
        stills.until_state(camera, &format!("r{n}"), span, "indexed").await;
    }
    Ok(stills)
}

/// Writes the pictures as files under their own paths, and a search page; gives the pictures' mean length in bytes.
async fn lay_out(stills: &Stills, files: &Path, targets: &[String], page: &str) -> io::Result<f64> {
    let mut bytes = 0;
    for target in targets {
        let body = stills.get(target).await.expect(200).body;
        let file = files.join(target.trim_start_matches('/'));
        std::fs::create_dir_all(file.parent().unwrap_or(files))?;
        std::fs::write(&file, &body)?;
        bytes += body.len();
    }
    std::fs::write(files.join("page.json"), stills.get(page).await.expect(200).body)?;
    Ok(bytes as f64 / targets.len() as f64)
}

/// NGINX without anything of ours: files, and a cache in front of them.
struct Peers {
    files: SocketAddr,
    cache: SocketAddr,
    program: Program,
    _run_dir: tempfile::TempDir,
}

impl Peers {
    async fn start(files: &Path) -> io::Result<Self> {
        let run_dir = tempfile::tempdir()?;
        let [files_at, cache_at] = [free_address()?, free_address()?];
        let user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" };
        let root = files.display();
        let configuration = format!(
            "{user}worker_processes auto;\npid nginx.pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
             client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;\n\
             default_type image/jpeg; sendfile on; tcp_nopush on; access_log off; keepalive_requests 10000;\n\
             proxy_cache_path cache levels=1:2 keys_zone=bare:8m use_temp_path=off;\n\
             upstream files {{ server {files_at}; keepalive 8; }}\n\
             server {{ listen {files_at}; root {root}; }}\n\
             server {{ listen {cache_at}; location / {{ proxy_pass http://files; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_cache bare; proxy_cache_valid 200 1d; }} }}\n\
             }}\n"
        );
        std::fs::write(run_dir.path().join("nginx.conf"), configuration)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(run_dir.path()).args(["-c", "nginx.conf", "-g", "daemon off;"]);
        let program = Program::start("nginx", &mut command);
        wait::until("NGINX serves", async || TcpStream::connect(cache_at).is_ok()).await;
        Ok(Self { files: files_at, cache: cache_at, program, _run_dir: run_dir })
    }
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
