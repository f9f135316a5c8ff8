//! Bytes over TCP, for requests that no client would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wait::DEADLINE;

/// What came back.
#[derive(Debug, Clone)]
pub struct RawAnswer {
    /// The status code of the first answer; nought where there is none.
    pub status: u16,
    /// Everything, as text.
    pub text: String,
}

impl RawAnswer {
    /// A header's value in the first answer, spaces trimmed; empty where it is absent.
    pub fn header(&self, name: &str) -> &str {
        let head = self.text.split("\r\n\r\n").next().unwrap_or_default();
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        values.next().unwrap_or_default()
    }

    /// How many answers there are: lines that begin as a status line does.
    pub fn n_answers(&self) -> usize {
        self.text.matches("HTTP/1.1 ").count()
    }
}

/// Sends `request` and reads until the other side closes. The request should ask for that, or be wrong enough.
///
/// # Panics
/// Without a connection, and when the other side does not close within [`DEADLINE`].
pub async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> RawAnswer {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // The other side may answer and close before it has read everything: what it said still counts.
    let _ = stream.write_all(request.as_ref()).await;
    let mut bytes = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "the connection stays open after {:?}", String::from_utf8_lossy(&bytes));
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    RawAnswer { status, text }
}
