//! Load by `wrk`, on a core of its own: many connections that ask for one of a list of targets after the other.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// The cores: what is measured has the first to itself, whoever asks has the second.
pub(crate) const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;

/// What is asked, by how many, for how long.
#[derive(Debug, Clone)]
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    /// Sent with each request; none where the targets are signed.
    pub(crate) token: Option<&'a str>,
    /// Lua that leaves a function `request`, called for each request.
    pub(crate) script: String,
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
}

/// What came back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    pub(crate) p99_ms: f64,
}

/// Keeps this process, and all that it starts from now on, on one core. To be called before there are threads.
///
/// # Errors
/// Where there is no second core for whoever asks.
pub(crate) fn keep_to_server_core() -> io::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    if cores <= CLIENT_CORE {
        return Err(io::Error::other("two cores are needed: one for the server, one for the client"));
    }
    let mut set = rustix::thread::CpuSet::new();
    set.set(SERVER_CORE);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// A script that asks for these targets in turn.
pub(crate) fn gets(targets: &[String]) -> String {
    let mut script = String::from("local targets = {\n");
    for target in targets {
        let _ = writeln!(script, "  \"{target}\",");
    }
    script.push_str(
        "}\nlocal ready, at = {}, 0\n\
         init = function() for n, target in ipairs(targets) do ready[n] = wrk.format('GET', target) end end\n\
         request = function() at = at % #ready + 1; return ready[at] end\n",
    );
    script
}

/// Runs it to its end.
///
/// # Errors
/// Where an answer was no success, or a connection failed.
pub(crate) fn run(load: &Load<'_>) -> io::Result<Counted> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("load.lua");
    let done = "done = function(summary, latency)\n\
                local e = summary.errors\n\
                local bad = e.connect + e.read + e.write + e.status + e.timeout\n\
                print(string.format('counted %d %d %d %d %d', summary.requests, summary.duration, bad, \
                latency:percentile(50), latency:percentile(99)))\nend\n";
    let token = load.token.map(|token| format!("wrk.headers['Authorization'] = 'Bearer {token}'\n"));
    let token = token.unwrap_or_default();
    std::fs::write(&file, [&token, &load.script, done].concat())?;
    let mut command = Command::new("taskset");
    command.args(["-c", &CLIENT_CORE.to_string(), "wrk", "-t1", "--timeout", "30s"]);
    command.arg(format!("-c{}", load.connections)).arg(format!("-d{}s", load.seconds)).arg("-s").arg(&file);
    let output = command.arg(format!("http://{}/", load.address)).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("counted "));
    let numbers: Vec<f64> = line.unwrap_or_default().split(' ').filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [requests, us, 0.0, _, p99_us] if requests > 0.0 => {
            Ok(Counted { requests, seconds: us / 1e6, p99_ms: p99_us / 1e3 })
        }
        _ => Err(io::Error::other(format!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)))),
    }
}
