//! An HTTP server for media, which counts requests and bytes and misbehaves as it is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use std::os::unix::fs::FileExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The most that is put on the wire at once.
const CHUNK_LEN: usize = 64 * 1024;

/// One request, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Path and query.
    pub target: String,
    /// First and last byte asked for.
    pub range: Option<(u64, u64)>,
    /// The version asked for.
    pub if_match: Option<String>,
    /// The credential that came along.
    pub authorization: Option<String>,
}

/// What lies at a path.
#[derive(Debug, Clone)]
pub struct Object {
    /// Where its bytes are.
    pub path: PathBuf,
    /// Its entity tag, in quotes; none: the server says nothing of versions.
    pub etag: Option<String>,
}

impl Object {
    /// A file that is said to be of a version.
    pub fn new(path: impl Into<PathBuf>, etag: &str) -> Self {
        Self { path: path.into(), etag: Some(format!("\"{etag}\"")) }
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// As a good server does.
    Good(Object),
    /// The whole object, whatever range was asked for.
    NoRanges(Object),
    /// Half of what it announces, then the connection is closed.
    CutOff(Object),
    /// It says that the object is longer by this many bytes than it is.
    LongerBy(Object, u64),
    /// Other bytes than those asked for.
    Shifted(Object),
    /// The head, and then nothing.
    Stalled(Object),
    /// A bare status.
    Status(u16),
    /// Another place.
    Redirect(String),
}

#[derive(Debug, Default)]
struct Log {
    asked: Vec<Asked>,
    bytes: u64,
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct MediaServer {
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

type Behaviour = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

impl Drop for MediaServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MediaServer {
    /// Serves on a free port of this machine. `behaviour` gets each request and its number, from 0.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(behaviour: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (log, behaviour): (Arc<Mutex<Log>>, Arc<Behaviour>) = (Arc::default(), Arc::new(behaviour));
        let task = tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&behaviour)));
                }
            }
        });
        Self { address, log, task }
    }

    /// Serves one object at every path.
    ///
    /// # Panics
    /// As [`MediaServer::start`].
    pub async fn of(object: Object) -> Self {
        Self::start(move |_, _| Reply::Good(object.clone())).await
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far.
    ///
    /// # Panics
    /// When a request before has panicked.
    pub fn asked(&self) -> Vec<Asked> {
        self.log.lock().expect("a log").asked.clone()
    }

    /// Forgets the requests so far and gives how many they were and how many bytes of bodies they took.
    ///
    /// # Panics
    /// When a request before has panicked.
    pub fn take(&self) -> (usize, u64) {
        let log = std::mem::take(&mut *self.log.lock().expect("a log"));
        (log.asked.len(), log.bytes)
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Log>>, behaviour: Arc<Behaviour>) {
    while let Some(asked) = read_head(&mut stream).await {
        let number = {
            let mut log = log.lock().expect("a log");
            log.asked.push(asked.clone());
            log.asked.len() - 1
        };
        // A client that goes away in the middle is as it may be.
        if answer(&mut stream, &asked, behaviour(&asked, number), &log).await.is_none() {
            return;
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let header = |name: &str| {
        let mut named = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        named.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let range = header("range").and_then(|range| {
        let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()?))
    });
    let target = head.lines().next()?.split(' ').nth(1)?.to_owned();
    Some(Asked { target, range, if_match: header("if-match"), authorization: header("authorization") })
}

/// Nothing when the connection is done with.
async fn answer(stream: &mut TcpStream, asked: &Asked, reply: Reply, log: &Mutex<Log>) -> Option<()> {
    let bare = |status: u16, more: &str| format!("HTTP/1.1 {status} x\r\n{more}Content-Length: 0\r\n\r\n");
    let (object, longer, shift) = match &reply {
        Reply::Status(status) => return stream.write_all(bare(*status, "").as_bytes()).await.ok(),
        Reply::Redirect(to) => {
            let line = format!("Location: {to}\r\n");
            return stream.write_all(bare(302, &line).as_bytes()).await.ok();
        }
        Reply::LongerBy(object, longer) => (object, *longer, 0),
        Reply::Shifted(object) => (object, 0, 1),
        Reply::Good(object) | Reply::NoRanges(object) | Reply::CutOff(object) | Reply::Stalled(object) => {
            (object, 0, 0)
        }
    };
    let has_changed = asked.if_match.as_ref().is_some_and(|wanted| Some(wanted) != object.etag.as_ref());
    if has_changed {
        return stream.write_all(bare(412, "").as_bytes()).await.ok();
    }
    let file = std::fs::File::open(&object.path).ok()?;
    let total = file.metadata().ok()?.len();
    let tag = object.etag.as_ref().map(|etag| format!("ETag: {etag}\r\n")).unwrap_or_default();
    let range = asked.range.filter(|_| !matches!(reply, Reply::NoRanges(_)));
    let (from, end, status) = match range {
        None => (0, total, format!("200 OK\r\n{tag}")),
        Some((from, to)) => {
            let end = to.saturating_add(1).min(total);
            if from >= end {
                let line = format!("Content-Range: bytes */{total}\r\n");
                return stream.write_all(bare(416, &line).as_bytes()).await.ok();
            }
            let said = format!("Content-Range: bytes {}-{}/{}", from + shift, end - 1 + shift, total + longer + shift);
            (from, end, format!("206 Partial\r\n{tag}{said}\r\n"))
        }
    };
    let head = format!("HTTP/1.1 {status}Accept-Ranges: bytes\r\nContent-Length: {}\r\n\r\n", end - from);
    stream.write_all(head.as_bytes()).await.ok()?;
    if matches!(reply, Reply::Stalled(_)) {
        return std::future::pending().await;
    }
    let is_cut = matches!(reply, Reply::CutOff(_));
    let last = if is_cut { from + (end - from) / 2 } else { end };
    let mut chunk = vec![0; CHUNK_LEN];
    let mut at = from;
    while at < last {
        let len = usize::try_from(last - at).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
        file.read_exact_at(&mut chunk[..len], at).ok()?;
        stream.write_all(&chunk[..len]).await.ok()?;
        log.lock().expect("a log").bytes += len as u64;
        at += len as u64;
    }
    (!is_cut).then_some(())
}
