//! A small HTTP client: one connection, one request after the other, and what the answers say of where they came from.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    token: String,
    /// The last body.
    pub(crate) body: Vec<u8>,
}

/// Sums over answers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Got {
    pub(crate) answers: f64,
    /// Of bodies.
    pub(crate) bytes: f64,
    /// That NGINX had.
    pub(crate) nginx_hits: f64,
    /// That were rendered while the client waited.
    pub(crate) renders: f64,
}

impl std::ops::AddAssign for Got {
    fn add_assign(&mut self, other: Self) {
        self.answers += other.answers;
        self.bytes += other.bytes;
        self.nginx_hits += other.nginx_hits;
        self.renders += other.renders;
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, token: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream), token: token.to_owned(), body: Vec::new() })
    }

    /// # Errors
    /// A connection that failed, or an answer other than 200.
    pub(crate) async fn get(&mut self, target: &str) -> io::Result<Got> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", self.token);
        self.stream.write_all(request.as_bytes()).await?;
        let (mut line, mut first, mut len, mut is_hit, mut is_rendered) = (String::new(), true, 0, false, false);
        loop {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if std::mem::take(&mut first) {
                if !line.starts_with("HTTP/1.1 200") {
                    return Err(io::Error::other(format!("{target}: {}", line.trim())));
                }
                continue;
            }
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                len = value.trim().parse().map_err(io::Error::other)?;
            } else if name.eq_ignore_ascii_case("cache-status") {
                is_hit = value.contains("nginx; hit");
                is_rendered = !is_hit && value.contains("stills; fwd=miss");
            }
        }
        self.body.resize(len, 0);
        self.stream.read_exact(&mut self.body).await?;
        let of = |is: bool| f64::from(u8::from(is));
        Ok(Got { answers: 1.0, bytes: len as f64, nginx_hits: of(is_hit), renders: of(is_rendered) })
    }

    /// The targets that a search lists, in its order.
    ///
    /// # Errors
    /// As [`Client::get`]; a page that is no list of URLs.
    pub(crate) async fn list(&mut self, target: &str) -> io::Result<Vec<String>> {
        let mut all = Vec::new();
        for page in 1.. {
            self.get(&format!("{target}&page={page}")).await?;
            let listed: serde_json::Value = serde_json::from_slice(&self.body)?;
            let entries = listed.as_array().map(Vec::as_slice).unwrap_or_default();
            let target = |entry: &serde_json::Value| {
                Some(entry["url"].as_str()?.strip_prefix(e2e::harness::PUBLIC_HOST)?.to_owned())
            };
            all.extend(entries.iter().filter_map(target));
            if entries.len() < 1000 {
                break;
            }
        }
        Ok(all)
    }
}
