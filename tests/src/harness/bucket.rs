//! SeaweedFS as an S3 store, with one key that may read everything in it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::wait;

/// The access key that the store knows; [`SECRET`] goes with it.
pub const KEY: &str = "stills";

/// The secret of [`KEY`].
pub const SECRET: &str = "bucket-secret-0123456789";

/// A running store; it ends when this is dropped.
#[derive(Debug)]
pub struct Bucket {
    child: Child,
    filer: String,
    endpoint: String,
    _dir: tempfile::TempDir,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, on PATH or where `scripts/setup` put it.
fn weed() -> PathBuf {
    let setup = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/setup");
    let printed = Command::new(setup).arg("--print-path").output().expect("scripts/setup");
    let path = std::env::var("PATH").unwrap_or_default() + ":" + String::from_utf8_lossy(&printed.stdout).trim();
    let found = std::env::split_paths(&path).map(|dir| dir.join("weed")).find(|program| program.exists());
    found.expect("weed is missing: run scripts/setup")
}

impl Bucket {
    /// Starts the store and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let identities = dir.path().join("identities.json");
        let identity = format!(
            r#"{{"identities":[{{"name":"stills","credentials":[{{"accessKey":"{KEY}","secretKey":"{SECRET}"}}],
                "actions":["Admin","Read","List"]}}]}}"#
        );
        std::fs::write(&identities, identity).expect("a file");
        // Bound together, so that no two are the same.
        let bound: Vec<_> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let ports: Vec<u16> = bound.iter().map(|socket| socket.local_addr().expect("an address").port()).collect();
        drop(bound);
        let names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc"];
        let more = ["filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc"];
        let named = names.iter().chain(&more).zip(&ports).map(|(name, port)| format!("-{name}={port}"));
        let child = Command::new(weed())
            .current_dir(dir.path())
            .args(["-logtostderr=true", "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"])
            .args(named)
            .arg(format!("-dir={}", dir.path().display()))
            .arg(format!("-s3.config={}", identities.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).expect("a log"))
            .spawn()
            .expect("weed");
        let (filer, endpoint) = (format!("http://127.0.0.1:{}", ports[4]), format!("http://127.0.0.1:{}", ports[6]));
        let bucket = Self { child, filer, endpoint, _dir: dir };
        bucket.put("footage/ready", b"ready").await;
        wait::until("S3 answers", async || reqwest::get(&bucket.endpoint).await.is_ok()).await;
        bucket
    }

    /// Where S3 is spoken.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Puts an object, `bucket/key`, past the S3 door; waits for the store to take it.
    ///
    /// # Panics
    /// When it does not.
    pub async fn put(&self, path: &str, body: &[u8]) {
        let client = super::http::client();
        let url = format!("{}/buckets/{path}", self.filer);
        wait::until("the store takes an object", async || {
            let sent = client.put(&url).body(body.to_vec()).send().await;
            sent.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// Removes an object.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn remove(&self, path: &str) {
        let url = format!("{}/buckets/{path}", self.filer);
        let removed = super::http::client().delete(url).send().await.expect("an answer");
        assert!(removed.status().is_success(), "{removed:?}");
    }
}
