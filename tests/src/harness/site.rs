//! A site that shows one text at every path, for keys that a server fetches.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running site; it ends when it is dropped.
#[derive(Debug)]
pub struct Site {
    address: SocketAddr,
    shown: Arc<Mutex<String>>,
    n_visits: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Site {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start(text: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (shown, n_visits) = (Arc::new(Mutex::new(text.to_owned())), Arc::new(AtomicU64::new(0)));
        let (text, visits) = (Arc::clone(&shown), Arc::clone(&n_visits));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                visits.fetch_add(1, Ordering::Relaxed);
                let text = text.lock().map(|text| text.clone()).unwrap_or_default();
                // A visitor who goes away early has seen enough.
                let _ = show(stream, &text).await;
            }
        });
        Self { address, shown, n_visits, task }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Shows another text from now on.
    pub fn show(&self, text: &str) {
        if let Ok(mut shown) = self.shown.lock() {
            text.clone_into(&mut shown);
        }
    }

    /// How often it was visited.
    pub fn n_visits(&self) -> u64 {
        self.n_visits.load(Ordering::Relaxed)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn show(mut stream: TcpStream, text: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16_384 {
        head.push(stream.read_u8().await?);
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes()).await
}
