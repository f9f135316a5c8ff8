//! A receiver of webhooks: keeps what it gets, answers as it is told, and can go away and come back at its address.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Method and target.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Received {
    /// A header's value; empty where it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

#[derive(Debug, Default)]
struct Desk {
    received: Vec<Received>,
    /// Status line and headers of each answer.
    answer: String,
}

/// A receiver; it ends when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
    task: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts one that says 204.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let desk = Arc::new(Mutex::new(Desk { answer: "204 No Content\r\n".to_owned(), ..Desk::default() }));
        let task = Some(tokio::spawn(serve(listener, Arc::clone(&desk))));
        Self { address, desk, task }
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on it answers with this: a status, and lines of headers.
    ///
    /// # Panics
    /// When a test panicked with its desk.
    pub fn answer(&self, status: &str, headers: &[&str]) {
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        self.desk.lock().expect("the desk").answer = format!("{status}\r\n{lines}");
    }

    /// Goes away: connections are refused.
    pub async fn close(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Comes back at the same address.
    ///
    /// # Panics
    /// When somebody took it.
    pub fn open(&mut self) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(self.address).expect("the same port");
        let listener = socket.listen(64).expect("a listener");
        self.task = Some(tokio::spawn(serve(listener, Arc::clone(&self.desk))));
    }

    /// What came so far.
    ///
    /// # Panics
    /// When a test panicked with its desk.
    pub fn received(&self) -> Vec<Received> {
        self.desk.lock().expect("the desk").received.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

async fn serve(listener: TcpListener, desk: Arc<Mutex<Desk>>) {
    while let Ok((stream, _)) = listener.accept().await {
        // One at a time; who hangs up early was not received.
        let _ = receive(stream, &desk).await;
    }
}

async fn receive(mut stream: TcpStream, desk: &Mutex<Desk>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 65_536 {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let len = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, len)| len.parse().ok());
    let mut body = vec![0; len.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let answer = {
        let mut desk = desk.lock().map_err(|_| std::io::Error::other("a test panicked"))?;
        desk.received.push(Received { line, headers, body });
        format!("HTTP/1.1 {}Content-Length: 0\r\nConnection: close\r\n\r\n", desk.answer)
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
