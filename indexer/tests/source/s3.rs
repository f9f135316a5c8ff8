//! Object stores: SeaweedFS for S3; for GCS and Azure, what they would be asked.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use stills_indexer::source::{Source, Wanted};
use stills_model::fault::FaultKind;

use crate::server::{Asked, Reply, Server};
use crate::sources::{Setup, USER, content, credentials, range, wanted};

/// What a test waits for at most; the store answers after some four seconds.
const PATIENCE: Duration = Duration::from_secs(90);

/// The program, on PATH or where `scripts/setup` put it.
fn weed() -> PathBuf {
    let setup = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/setup");
    let printed = Command::new(setup).arg("--print-path").output().expect("scripts/setup");
    let path = std::env::var("PATH").unwrap_or_default() + ":" + String::from_utf8_lossy(&printed.stdout).trim();
    let found = std::env::split_paths(&path).map(|dir| dir.join("weed")).find(|program| program.exists());
    found.expect("weed is missing: run scripts/setup")
}

/// A running store; it ends when this is dropped.
struct Weed {
    child: Child,
    filer: String,
    endpoint: String,
    _dir: tempfile::TempDir,
}

impl Drop for Weed {
    fn drop(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Weed {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let identities = dir.path().join("identities.json");
        let identity = r#"{"identities":[{"name":"stills","credentials":[{"accessKey":"stills","secretKey":"very-secret"}],
                          "actions":["Admin","Read","List"]}]}"#;
        std::fs::write(&identities, identity).expect("file");
        // Bound together, so that no two are the same.
        let bound: Vec<_> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").expect("bind")).collect();
        let ports: Vec<u16> = bound.iter().map(|socket| socket.local_addr().expect("address").port()).collect();
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
            .stderr(std::fs::File::create(dir.path().join("log")).expect("log"))
            .spawn()
            .expect("weed");
        let (filer, endpoint) = (format!("http://127.0.0.1:{}", ports[4]), format!("http://127.0.0.1:{}", ports[6]));
        let weed = Self { child, filer, endpoint, _dir: dir };
        weed.put("footage/ready", b"ready").await;
        weed.wait_for_s3().await;
        weed
    }

    /// Puts an object, past the S3 door; waits for the store to take it.
    async fn put(&self, path: &str, body: &[u8]) {
        let (client, began) = (reqwest::Client::new(), Instant::now());
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            let sent = client.put(format!("{}/buckets/{path}", self.filer)).body(body.to_vec()).send().await;
            match sent {
                Ok(answer) if answer.status().is_success() => return,
                other => assert!(began.elapsed() < PATIENCE, "{other:?}"),
            }
            ticks.tick().await;
        }
    }

    async fn wait_for_s3(&self) {
        let (began, mut ticks) = (Instant::now(), tokio::time::interval(Duration::from_millis(100)));
        while let Err(error) = reqwest::get(&self.endpoint).await {
            assert!(began.elapsed() < PATIENCE, "{error}");
            ticks.tick().await;
        }
    }

    fn credentials(&self) -> String {
        format!(
            "[credentials.keyed]\nkind = \"s3\"\nurl_prefix = \"s3://footage/\"\nendpoint = \"{}\"\n\
             access_key_id = \"stills\"\n",
            self.endpoint
        )
    }
}

async fn kind_of(source: &Source, wanted: Wanted<'_>) -> Option<FaultKind> {
    match source.open(wanted).await {
        Ok(_) => None,
        Err(fault) => {
            assert!(!fault.detail.contains("127.0.0.1") && !fault.detail.contains("secret"), "{fault}");
            Some(fault.kind)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_store_is_read() {
    let weed = Weed::start().await;
    let (dir, body) = (tempfile::tempdir().expect("dir"), content(3_000_000));
    let key = format!("footage/{USER}/cam 1/größe+1.mp4");
    weed.put(&key.replace(' ', "%20"), &body).await;
    let url = format!("s3://{}", key.replace(' ', "%20"));
    let toml = weed.credentials();
    let setup = || Setup { credentials: &toml, ..Setup::default() };
    let source = setup().source(&dir);

    // By ranges.
    let media = source.open(wanted(&url)).await.expect("open");
    assert_eq!((media.len(), media.is_whole()), (3_000_000, false));
    let pieces = media.read_ranges(&[range(2_999_000, 1000), range(0, 10), range(1_000_000, 500_000)]).await;
    let pieces = pieces.expect("pieces");
    assert_eq!(pieces[0], body[2_999_000..]);
    assert_eq!(pieces[1], body[..10]);
    assert_eq!(pieces[2], body[1_000_000..1_500_000]);
    let past = media.read(range(2_999_999, 2)).await.expect_err("past the end");
    assert_eq!(past.kind, FaultKind::Changed);

    // Whole.
    let other_dir = tempfile::tempdir().expect("dir");
    let whole = Setup { is_whole: true, ..setup() }.source(&other_dir).open(wanted(&url)).await.expect("open");
    assert!(whole.is_whole());
    assert_eq!(whole.read(range(0, 3_000_000)).await.expect("read"), body[..]);

    // Replaced while it is open.
    weed.put(&key.replace(' ', "%20"), &content(3_000_001)[1..]).await;
    let changed = media.read(range(1_000_000, 10)).await.expect_err("changed");
    assert_eq!(changed.kind, FaultKind::Changed, "{changed}");
    media.read(range(0, 10)).await.expect("the head was read before");

    // What is not there, and what may not be read.
    let at = |key: &str| format!("s3://footage/{key}");
    assert_eq!(kind_of(&source, wanted(&at("none.mp4"))).await, Some(FaultKind::Gone));
    assert_eq!(kind_of(&source, wanted(&at("ready?versionId=1"))).await, Some(FaultKind::Forbidden));
    assert_eq!(kind_of(&source, wanted("s3://footage-other/1.mp4")).await, Some(FaultKind::Forbidden));
    assert_eq!(kind_of(&source, wanted(&at("ready"))).await, None);
    let named = Wanted { credentials_key: Some("keyed"), ..wanted(&url) };
    assert_eq!(kind_of(&source, named).await, None);
    let unknown = Wanted { credentials_key: Some("unknown"), ..wanted(&url) };
    assert_eq!(kind_of(&source, unknown).await, Some(FaultKind::Forbidden));
    let wrong = toml.replace("access_key_id = \"stills\"", "access_key_id = \"nobody\"");
    source.set_credentials(credentials(&wrong).expect("credentials"));
    assert_eq!(kind_of(&source, wanted(&url)).await, Some(FaultKind::Unreadable));
    let elsewhere = toml.replace("s3://footage/", "s3://elsewhere/");
    source.set_credentials(credentials(&elsewhere).expect("credentials"));
    assert_eq!(kind_of(&source, wanted("s3://elsewhere/1.mp4")).await, Some(FaultKind::Unreadable), "no such bucket");

    // The endpoint is the operator's, and still guarded.
    let (unallowed, third) = (Setup { allow_networks: &[], ..setup() }, tempfile::tempdir().expect("dir"));
    assert_eq!(kind_of(&unallowed.source(&third), wanted(&url)).await, Some(FaultKind::Forbidden));
}

#[tokio::test]
async fn gcs_and_azure_are_asked_in_their_own_ways() {
    let (dir, body) = (tempfile::tempdir().expect("dir"), content(200_000));
    let served = body.clone();
    let server = Server::start("127.0.0.1", move |asked: &Asked, _| Reply::object(asked, &served, "\"a\"")).await;
    let endpoint = server.url("");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "dmVyeS1zZWNyZXQ=\n").expect("file");
    let toml = format!(
        "[credentials.a]\nkind = \"gs\"\nurl_prefix = \"gs://footage/\"\nendpoint = \"{endpoint}\"\n\
         [credentials.b]\nkind = \"az\"\nurl_prefix = \"az://footage/\"\nendpoint = \"{endpoint}\"\n\
         access_key_id = \"account\"\nsecret_file = {secret:?}\n\
         [credentials.c]\nkind = \"az\"\nurl_prefix = \"az://open/\"\nendpoint = \"{endpoint}\"\n"
    );
    let source = Setup { credentials: &toml, ..Setup::default() }.source(&dir);
    for url in ["gs://footage/cam%201/1.mp4", "az://footage/cam%201/1.mp4", "az://open/1.mp4"] {
        let media = source.open(wanted(url)).await.expect(url);
        assert_eq!(media.len(), 200_000, "{url}");
        assert_eq!(media.read(range(150_000, 100)).await.expect("read"), body[150_000..150_100], "{url}");
    }
    let asked = server.asked();
    let paths: Vec<_> = asked.iter().map(|asked| asked.path.as_str()).collect();
    // GCS takes an object's name as one segment.
    let expected = ["/footage/cam%201%2F1%2Emp4", "/footage/cam%201%2F1%2Emp4", "/footage/cam%201/1.mp4"];
    assert_eq!([paths[0], paths[1], paths[2]], expected);
    assert_eq!(paths[4], "/open/1.mp4");
    assert!(asked[..2].iter().all(|asked| asked.authorization.is_none()), "{asked:?}");
    assert!(asked[2].authorization.as_ref().is_some_and(|value| value.starts_with("SharedKey account:")), "{asked:?}");
    assert!(asked[4..].iter().all(|asked| asked.authorization.is_none()), "{asked:?}");
}

/// A cloud's metadata, where the machine learns who it is.
fn metadata(asked: &Asked, _: usize) -> Reply {
    let body = match (asked.method.as_str(), asked.path.as_str()) {
        ("PUT", "/latest/api/token") => "a-token",
        ("GET", "/latest/meta-data/iam/security-credentials/") => "recorder",
        ("GET", "/latest/meta-data/iam/security-credentials/recorder") => {
            r#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ROLE","SecretAccessKey":"role-secret",
                "Token":"session","Expiration":"2099-01-01T00:00:00Z","LastUpdated":"2025-01-01T00:00:00Z"}"#
        }
        _ => return Reply::status(404),
    };
    Reply { body: body.into(), ..Reply::status(200) }
}

/// The metadata's address comes from the environment, so the test runs itself with it. It is one that no media URL
/// may reach.
#[tokio::test(flavor = "multi_thread")]
async fn the_machines_own_identity_is_asked_past_the_guard() {
    const ENDPOINT: &str = "STILLS_TEST_ENDPOINT";
    let setup = |toml| Setup { credentials: toml, allow_networks: &["127.77.0.0/16"], ..Setup::default() };
    if let Ok(endpoint) = std::env::var(ENDPOINT) {
        let dir = tempfile::tempdir().expect("dir");
        let prefix = "kind = \"s3\"\nurl_prefix = \"s3://footage/\"\nauth = \"instance\"";
        let toml = format!("[credentials.own]\n{prefix}\nendpoint = \"{endpoint}\"\n");
        let media = setup(&toml).source(&dir).open(wanted("s3://footage/1.mp4")).await.expect("open");
        assert_eq!(media.read(range(100_000, 10)).await.expect("read"), content(200_000)[100_000..100_010]);
        return;
    }
    let body = content(200_000);
    let store = Server::start("127.77.0.1", move |asked: &Asked, _| Reply::object(asked, &body, "\"a\"")).await;
    let metadata = Server::start("127.0.0.1", metadata).await;
    let mut again = Command::new(std::env::current_exe().expect("this test"));
    again.args(["--exact", "s3::the_machines_own_identity_is_asked_past_the_guard"]);
    again.env(ENDPOINT, store.url("")).env("AWS_METADATA_ENDPOINT", metadata.url(""));
    let ran = tokio::task::spawn_blocking(move || again.output()).await.expect("join").expect("run");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    assert_eq!(metadata.asked().len(), 3, "{:?}", metadata.asked());
    let asked = store.asked();
    assert_eq!(asked.len(), 2);
    let signed = |asked: &Asked| asked.authorization.as_ref().is_some_and(|value| value.contains("Credential=ROLE/"));
    assert!(asked.iter().all(signed), "{asked:?}");
    let dir = tempfile::tempdir().expect("dir");
    let there = metadata.url("/latest/meta-data/");
    assert_eq!(kind_of(&setup("").source(&dir), wanted(&there)).await, Some(FaultKind::Forbidden));
}

#[test]
fn credentials_that_cannot_be_used_are_named() {
    for (toml, named) in [
        ("[credentials.a]\nkind = \"http\"\nurl_prefix = \"http://x/\"\nauth = \"instance\"\n", "credentials.a"),
        ("[credentials.a]\nkind = \"az\"\n", "az needs access_key_id"),
        ("[credentials.keyed]\nkind = \"http\"\n", "url_prefix"),
        ("[credentials.keyed]\nkind = \"gs\"\n", "credentials.keyed"),
        ("[credentials.keyed]\nkind = \"az\"\naccess_key_id = \"account\"\n", "credentials.keyed"),
    ] {
        let faults = credentials(toml).map(|_| ()).expect_err(toml).join("; ");
        assert!(faults.contains(named) && !faults.contains("very-secret"), "{toml}: {faults}");
    }
}
