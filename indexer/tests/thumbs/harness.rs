//! An engine with recordings in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use stills_indexer::clock::Clock;
use stills_indexer::config::{Config, Program};
use stills_indexer::run::Engine;
use stills_model::event::{Available, Event, EventKind, EventOrder};
use stills_model::id::{DeviceId, RecordingId, Timeline, UserId};
use stills_model::rendition::Rendition;
use stills_model::time::Timestamp;
use tempfile::TempDir;

/// When the first recording begins, in ms.
pub(crate) const START_MS: i64 = 1_757_371_980_000;

/// What a test waits for at most; far beyond what a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const TIMELINE: Timeline =
    Timeline { user: UserId::from_bytes([0xab; 12]), device: DeviceId::from_bytes([7; 12]) };

pub(crate) fn rendition() -> Rendition {
    Rendition::thumb(160, 120).expect("size")
}

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(START_MS + ms)
}

pub(crate) fn id(n: i64) -> RecordingId {
    format!("r-{n}").parse().expect("id")
}

/// An engine and where its media lies.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    clock: Clock,
    dir: TempDir,
}

impl Site {
    /// With `decoders` in its section of the configuration; nothing is prerendered.
    pub(crate) async fn start(decoders: &str) -> Self {
        Self::start_at(Clock::system(), decoders, "interval = \"off\"").await
    }

    /// At some time, with `decoders` and `prerender` in these sections of the configuration.
    pub(crate) async fn start_at(clock: Clock, decoders: &str, prerender: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let (path, data, media) = (dir.path().join("stills.toml"), dir.path().join("data"), dir.path().join("media"));
        std::fs::create_dir_all(media.join(TIMELINE.user.to_string())).expect("dirs");
        let program = decoder();
        let toml = format!(
            "[data]\ndir = {data:?}\n[decoders]\nprogram = {program:?}\n{decoders}\n[prerender]\n{prerender}\n\
             [media]\nroots = [\"{}/{{user_id}}\"]\n",
            media.display()
        );
        std::fs::write(&path, toml).expect("file");
        let config = Config::load(Program::Indexer, Some(&path), []).expect("configuration");
        let engine = Engine::start(&config, clock.clone(), "test").await.expect("engine");
        Self { engine, clock, dir }
    }

    /// Stops it, does something to its data directory, and starts it again.
    pub(crate) async fn stopped(self, change: impl FnOnce(&Path)) -> Self {
        let Self { engine, clock, dir } = self;
        engine.stop().await;
        change(&dir.path().join("data"));
        let config = Config::load(Program::Indexer, Some(&dir.path().join("stills.toml")), []).expect("configuration");
        let engine = Engine::start(&config, clock.clone(), "test").await.expect("engine");
        Self { engine, clock, dir }
    }

    /// Where a recording's media lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("media").join(TIMELINE.user.to_string()).join(name)
    }

    /// Announces the media `name` as recording `n`, which begins `start_ms` after the first, and waits until it is
    /// indexed.
    pub(crate) async fn record(&self, n: i64, start_ms: i64, name: &str) {
        let available = Available {
            device: TIMELINE.device,
            recording: id(n),
            start: at(start_ms),
            end: None,
            media_url: format!("file://{}", self.path(name).display()).into(),
            growing: false,
            expires_at: None,
            size: None,
            etag: None,
            credentials_key: None,
        };
        let order = EventOrder { time_ns: n, source: "/test".into(), id: n.to_string().into() };
        let event = Event { order, user: TIMELINE.user, kind: EventKind::Available(Box::new(available)) };
        self.engine.pipeline.submit(vec![event]).await.expect("accepted");
        let (began, mut ticks) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
        while self.engine.pipeline.backlog() > 0 {
            assert!(began.elapsed() < PATIENCE, "{} left", self.engine.pipeline.backlog());
            ticks.tick().await;
        }
    }

    /// The value of a series; 0 where there is none.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.engine.metrics.encode();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or(0)
    }
}

/// The decoder program that the workspace's build made.
fn decoder() -> PathBuf {
    let tests = std::env::current_exe().expect("this test's path");
    let program = tests.parent().and_then(|deps| deps.parent()).expect("target directory").join("stills-decoder");
    assert!(program.exists(), "{} is missing: build the workspace first", program.display());
    program
}

/// Makes media by `ffmpeg`; `args` are split at spaces.
pub(crate) fn make(path: &Path, args: &str) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]).args(args.split_whitespace()).arg(path);
    let made = command.output().expect("ffmpeg");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The one tone of a picture of a flat colour.
pub(crate) fn tone(jpeg: &[u8]) -> u8 {
    let picture = image::load_from_memory(jpeg).expect("a JPEG").to_luma8();
    let sum: u64 = picture.pixels().map(|pixel| u64::from(pixel.0[0])).sum();
    u8::try_from(sum / u64::from(picture.width() * picture.height())).expect("a byte")
}
