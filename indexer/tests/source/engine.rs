//! What a recording costs its server, from its event to its pictures.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use stills_indexer::clock::Clock;
use stills_indexer::config::{Config, Program};
use stills_indexer::decode::Class;
use stills_indexer::run::Engine;
use stills_indexer::thumbs::Origin;
use stills_model::event::{Available, Event, EventKind, EventOrder};
use stills_model::id::{DeviceId, Timeline};
use stills_model::rendition::Rendition;
use stills_model::time::Timestamp;

use crate::server::{Asked, Reply, Server};
use crate::sources::USER;

/// Each recording's length, in seconds; it has a keyframe each second.
const SECONDS: i64 = 10;

/// When the first recording begins: on the prerender grid, in ms.
const START_MS: i64 = 1_757_371_980_000;

const RECORDINGS: i64 = 6;

const DEVICE: DeviceId = DeviceId::from_bytes([7; 12]);

/// What a test waits for at most; far beyond what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The decoder program that the workspace's build made.
fn decoder() -> PathBuf {
    let tests = std::env::current_exe().expect("this test's path");
    let program = tests.parent().and_then(|deps| deps.parent()).expect("target directory").join("stills-decoder");
    assert!(program.exists(), "{} is missing: build the workspace first", program.display());
    program
}

fn recording(dir: &Path) -> Vec<u8> {
    let file = dir.join("recording.mp4");
    let source = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25", "-t", "10"];
    let options = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-b:v", "4M"];
    let made = Command::new("ffmpeg").args(source).args(options).arg(&file).output().expect("ffmpeg");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(&file).expect("the file")
}

async fn engine(dir: &Path, server: &Server, read: &str) -> Engine {
    let path = dir.join("stills.toml");
    let (decoder, data) = (decoder(), dir.join("data"));
    let toml = format!(
        "[data]\ndir = {data:?}\n[decoders]\nprogram = {decoder:?}\nrunning_max = 2\n[prerender]\ninterval = \"1s\"\n\
         [media]\nread = \"{read}\"\nallow_urls = [\"^http://{}/{{user_id}}/\"]\nallow_networks = [\"127.0.0.0/8\"]\n",
        server.address
    );
    std::fs::write(&path, toml).expect("file");
    let config = Config::load(Program::Indexer, Some(&path), []).expect("configuration");
    Engine::start(&config, Clock::system(), "test").await.expect("engine")
}

fn event(server: &Server, n: i64) -> Event {
    let start = Timestamp::from_ms(START_MS + n * SECONDS * 1000);
    let available = Available {
        device: DEVICE,
        recording: format!("r-{n}").parse().expect("id"),
        start,
        end: Some(start.plus_ms(SECONDS * 1000)),
        media_url: server.url(&format!("/{USER}/{n}.mp4")).into(),
        growing: false,
        expires_at: None,
        size: None,
        etag: None,
        credentials_key: None,
    };
    let order = EventOrder { time_ns: 1_757_372_000_000_000_000 + n, source: "/test".into(), id: n.to_string().into() };
    Event { order, user: USER, kind: EventKind::Available(Box::new(available)) }
}

/// Bytes of all keyframes, as FFmpeg counts them.
fn keyframe_bytes(body: &[u8]) -> usize {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("recording.mp4");
    std::fs::write(&file, body).expect("file");
    let options = ["-v", "error", "-select_streams", "v:0", "-show_entries", "packet=size,flags", "-of", "csv=p=0"];
    let probed = Command::new("ffprobe").args(options).arg(&file).output().expect("ffprobe");
    let lines = String::from_utf8(probed.stdout).expect("text");
    let packets = lines.lines().filter_map(|line| line.split_once(','));
    packets.filter(|(_, flags)| flags.starts_with('K')).map(|(size, _)| size.parse::<usize>().expect("size")).sum()
}

/// Takes the events and waits until nothing is left to do; gives the server and the recording's bytes.
async fn index(read: &str) -> (Server, Vec<u8>) {
    let dir = tempfile::tempdir().expect("dir");
    let body = recording(dir.path());
    let served = body.clone();
    let server = Server::start("127.0.0.1", move |asked: &Asked, _| Reply::object(asked, &served, "\"a\"")).await;
    let engine = engine(dir.path(), &server, read).await;
    let events = (0..RECORDINGS).map(|n| event(&server, n)).collect();
    engine.pipeline.submit(events).await.expect("accepted");
    let (began, mut ticks) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
    while engine.pipeline.backlog() > 0 {
        assert!(began.elapsed() < PATIENCE, "{} left", engine.pipeline.backlog());
        ticks.tick().await;
    }
    // Every anchor is there, and showing it costs the server nothing more.
    let before = server.asked().len();
    let (timeline, rendition) = (Timeline { user: USER, device: DEVICE }, Rendition::thumb(320, 240).expect("size"));
    for second in 0..RECORDINGS * SECONDS {
        let instant = Timestamp::from_ms(START_MS + second * 1000);
        let located = engine.thumbs.locate(timeline, instant).await.expect("located");
        let picture = engine.thumbs.picture(&located, rendition, Class::Interactive).await.expect("a picture");
        assert_ne!(picture.origin, Origin::Rendered, "second {second}");
        assert!(picture.body.starts_with(&[0xff, 0xd8, 0xff]));
    }
    assert_eq!(server.asked().len(), before);
    engine.stop().await;
    (server, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_is_one_request_for_each_recording() {
    let (server, body) = index("whole").await;
    let mut asked: Vec<_> = server.asked().into_iter().map(|asked| (asked.path, asked.range)).collect();
    asked.sort_unstable();
    let expected: Vec<_> = (0..RECORDINGS).map(|n| (format!("/{USER}/{n}.mp4"), None)).collect();
    assert_eq!(asked, expected);
    assert_eq!(server.body_bytes(), body.len() * asked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_head_tables_and_keyframes() {
    let (server, body) = index("ranges").await;
    let recordings = usize::try_from(RECORDINGS).expect("small");
    let (each, bytes) = (server.asked().len() / recordings, server.body_bytes() / recordings);
    let keyframes = usize::try_from(SECONDS).expect("small");
    // Beside the keyframes: the head, the tables at the end, the parameter sets.
    assert!(each <= keyframes + 3, "{each} requests for each recording");
    let beside = bytes.checked_sub(keyframe_bytes(&body)).expect("each keyframe is read");
    assert!(beside <= 2 * 64 * 1024, "{beside} bytes beside the keyframes, of {}", body.len());
}
