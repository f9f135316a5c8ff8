//! NGINX with the project's own configuration, in a directory and on a port of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::program::Program;
use super::wait;

/// Ports below those that the kernel gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Ports tried before a start is given up.
const TRIES_MAX: u16 = 20;

/// A running NGINX.
#[derive(Debug)]
pub struct Nginx {
    program: Program,
    address: SocketAddr,
    run_dir: PathBuf,
}

impl Nginx {
    /// Starts it in `run_dir`, which is made, in front of `origin`.
    ///
    /// # Panics
    /// When it does not serve on any of the ports tried.
    pub async fn start(run_dir: &Path, origin: SocketAddr) -> Self {
        prepare(run_dir);
        for _ in 0..TRIES_MAX {
            let port = port();
            // Somebody else's port would look like a start.
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
                continue;
            }
            write_site(run_dir, port, origin);
            let mut program = run(run_dir);
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let is_serving = wait::some("NGINX", async || match TcpStream::connect(address) {
                _ if !program.is_running() => Some(false),
                connected => connected.is_ok().then_some(true),
            });
            if is_serving.await {
                return Self { program, address, run_dir: run_dir.to_owned() };
            }
            let said = program.lines().join("\n");
            assert!(said.contains("bind()"), "NGINX does not start:\n{said}");
        }
        panic!("NGINX got none of {TRIES_MAX} ports");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its first process, whose children do the work.
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// The directory that it writes into.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Everything that it wrote on its standard error.
    pub fn lines(&self) -> Vec<String> {
        self.program.lines()
    }

    /// Every file below a folder of its run directory, with its bytes.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn files(&self, folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.run_dir.join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder of NGINX") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(bytes) = std::fs::read(&path) {
                    // NGINX removes files when it likes; one that is gone holds nothing.
                    found.push((path, bytes));
                }
            }
        }
        found
    }
}

/// A place in the range that differs from process to process and from call to call, with a stride that meets all of it.
fn port() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let n = CALLS.fetch_add(1, Ordering::Relaxed);
    let len = u32::from(PORTS.end - PORTS.start);
    let at = (std::process::id().wrapping_mul(37) + n.wrapping_mul(1_009)) % len;
    PORTS.start + u16::try_from(at).unwrap_or_default()
}

fn prepare(run_dir: &Path) {
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nginx");
    let configuration = configuration.canonicalize().expect("the folder nginx of the repository");
    std::fs::create_dir_all(run_dir).expect("a run directory");
    let link = |from: &Path, name: &str| {
        let to = run_dir.join(name);
        if !to.exists() {
            std::os::unix::fs::symlink(from, to).expect("a link");
        }
    };
    link(&configuration, "stills");
    link(&configuration.join("nginx.conf"), "nginx.conf");
    // As root, NGINX would give its workers to a user who cannot reach the test's directory.
    let main = if rustix::process::getuid().is_root() { "user root;\n" } else { "" };
    std::fs::write(run_dir.join("main.conf"), main).expect("a file");
}

fn write_site(run_dir: &Path, port: u16, origin: SocketAddr) {
    let site = format!(
        "include stills/http.conf;\ninclude stills/paths.conf;\n\
         upstream stills_origin {{ include stills/upstream.conf; server {origin}; }}\n\
         server {{ listen 127.0.0.1:{port}; set $stills_digest_key \"{:064x}\"; include stills/server.conf; }}\n",
        u128::from(std::process::id()) << 64 | 0x5711_1150
    );
    std::fs::write(run_dir.join("site.conf"), site).expect("a file");
}

fn run(run_dir: &Path) -> Program {
    let mut command = Command::new("nginx");
    command.arg("-p").arg(run_dir).args(["-c", "nginx.conf", "-g", "daemon off;"]);
    Program::start("nginx", &mut command)
}
