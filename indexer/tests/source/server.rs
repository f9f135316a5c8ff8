//! An HTTP server that counts, and misbehaves as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One request, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) range: Option<(u64, u64)>,
    pub(crate) if_match: Option<String>,
    pub(crate) authorization: Option<String>,
}

/// What is sent back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What `Content-Length` says, if not the truth.
    pub(crate) said_len: Option<usize>,
    pub(crate) ending: Ending,
}

/// How a reply's body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Whole; the connection stays open.
    Whole,
    /// Whole; the connection is closed.
    Close,
    /// This many bytes, then the connection is closed.
    CutAt(usize),
    /// This many bytes, then silence.
    StallAt(usize),
    /// In parts of this size, this long apart.
    Drip(usize, Duration),
    /// Not even a head.
    Silence,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: vec![], body: vec![], said_len: None, ending: Ending::Whole }
    }

    pub(crate) fn redirect(to: impl Into<String>) -> Self {
        Self { headers: vec![("Location".to_owned(), to.into())], ..Self::status(302) }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What a good server says: the range that was asked for, of the version that was asked for.
    pub(crate) fn object(asked: &Asked, body: &[u8], etag: &str) -> Self {
        if asked.if_match.as_ref().is_some_and(|wanted| wanted != etag) {
            return Self::status(412);
        }
        let good = |status| {
            let reply = Self { body: body.to_vec(), ..Self::status(status) };
            reply.with("ETag", etag).with("Last-Modified", "Fri, 05 Sep 2025 00:00:00 GMT")
        };
        let Some((from, to)) = asked.range else { return good(200) };
        let (total, from) = (body.len(), usize::try_from(from).expect("small"));
        let end = usize::try_from(to).expect("small").saturating_add(1).min(total);
        if from >= end {
            return Self::status(416).with("Content-Range", &format!("bytes */{total}"));
        }
        let range = format!("bytes {from}-{}/{total}", end - 1);
        Self { body: body[from..end].to_vec(), ..good(206) }.with("Content-Range", &range)
    }
}

type Behaviour = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

/// A running server; it ends when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    asked: Vec<Asked>,
    connections: usize,
    body_bytes: usize,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Serves on a free port of `ip`. `behaviour` gets each request and its number, from 0.
    pub(crate) async fn start(ip: &str, behaviour: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.expect("bind");
        let address = listener.local_addr().expect("address");
        let (log, behaviour): (Arc<Mutex<Log>>, Arc<Behaviour>) = (Arc::default(), Arc::new(behaviour));
        let task = tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.expect("accept");
                    log.lock().expect("lock").connections += 1;
                    tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&behaviour)));
                }
            }
        });
        Self { address, log, task }
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.log.lock().expect("lock").asked.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.lock().expect("lock").connections
    }

    /// Bytes of bodies sent.
    pub(crate) fn body_bytes(&self) -> usize {
        self.log.lock().expect("lock").body_bytes
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Log>>, behaviour: Arc<Behaviour>) {
    while let Some(asked) = read_head(&mut stream).await {
        let number = {
            let mut log = log.lock().expect("lock");
            log.asked.push(asked.clone());
            log.asked.len() - 1
        };
        let reply = behaviour(&asked, number);
        log.lock().expect("lock").body_bytes += reply.body.len();
        // A client that goes away in the middle is as it may be.
        if send(&mut stream, reply).await.is_none() {
            return;
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("ASCII");
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let header = |name: &str| {
        let mut named = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        named.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let range = header("range").map(|range| {
        let (from, to) = range.strip_prefix("bytes=").expect("bytes").split_once('-').expect("range").to_owned();
        (from.parse().expect("from"), to.parse().expect("to"))
    });
    Some(Asked {
        method: first.next()?,
        path: first.next()?,
        host: header("host").unwrap_or_default(),
        range,
        if_match: header("if-match"),
        authorization: header("authorization"),
    })
}

/// Nothing when the connection is done with.
async fn send(stream: &mut TcpStream, reply: Reply) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} x\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", reply.said_len.unwrap_or(reply.body.len()));
    if reply.ending == Ending::Silence {
        return std::future::pending().await;
    }
    stream.write_all(head.as_bytes()).await.ok()?;
    let body = &reply.body;
    match reply.ending {
        Ending::Whole => stream.write_all(body).await.ok(),
        Ending::Close => {
            stream.write_all(body).await.ok()?;
            None
        }
        Ending::CutAt(len) => {
            stream.write_all(&body[..len]).await.ok()?;
            None
        }
        Ending::StallAt(len) => {
            stream.write_all(&body[..len]).await.ok()?;
            std::future::pending().await
        }
        Ending::Drip(len, pause) => {
            let mut ticks = tokio::time::interval(pause);
            for part in body.chunks(len) {
                ticks.tick().await;
                stream.write_all(part).await.ok()?;
            }
            Some(())
        }
        Ending::Silence => unreachable!("sent nothing"),
    }
}
