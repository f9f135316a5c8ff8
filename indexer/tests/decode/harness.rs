//! Pools, footage and a grip on processes for the decoder tests.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use stills_indexer::decode::{DecodePool, Ranges, ScanRequest};
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::UserId;
use stills_model::keyframe::{Codec, DecoderConfig, Orientation, Packaging};
use tokio::sync::Notify;

pub(crate) use stills_indexer::decode::DecodeConfig as Config;

/// What a test waits for at most; far beyond what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// The decoder program that the workspace's build made.
pub(crate) fn program() -> PathBuf {
    let tests = std::env::current_exe().expect("this test's path");
    let program = tests.parent().and_then(|deps| deps.parent()).expect("target directory").join("stills-decoder");
    assert!(program.exists(), "{} is missing: build the workspace first", program.display());
    program
}

pub(crate) fn config(running_max: usize, queued_max: usize, deadline: Duration) -> Config {
    Config {
        program: program(),
        running_max,
        queued_max,
        deadline,
        scan_deadline: Duration::from_secs(30),
        exact_deadline: Duration::from_secs(30),
        exact_frames_max: 600,
        memory_max_bytes: 1 << 30,
    }
}

pub(crate) async fn pool_with(running_max: usize, queued_max: usize, deadline: Duration) -> Arc<DecodePool> {
    DecodePool::start(config(running_max, queued_max, deadline)).await.expect("a pool")
}

pub(crate) async fn pool(running_max: usize) -> Arc<DecodePool> {
    pool_with(running_max, 16, Duration::from_secs(30)).await
}

pub(crate) fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 12])
}

/// Process id of the pool's program.
pub(crate) fn parent(pool: &DecodePool) -> u32 {
    u32::try_from(pool.counters().parent_pid.load(Ordering::Relaxed)).expect("a pid")
}

/// Process ids of the pool's living workers, sorted.
pub(crate) fn workers(pool: &DecodePool) -> Vec<u32> {
    let parent = parent(pool);
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            // "pid (name) state ppid …"; the name has no parenthesis.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            fields.next() != Some("Z") && fields.next().and_then(|ppid| ppid.parse().ok()) == Some(parent)
        })
        .collect();
    pids.sort_unstable();
    pids
}

/// Waits for a condition that no descriptor tells.
pub(crate) fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// A process by its pidfd, so that no signal meets another one with the same number.
pub(crate) struct Process(OwnedFd);

impl Process {
    pub(crate) fn open(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
        Self(pidfd_open(pid, PidfdFlags::empty()).expect("a living process"))
    }

    fn send(&self, signal: Signal) {
        pidfd_send_signal(&self.0, signal).expect("signal");
    }

    pub(crate) fn stop(&self) {
        self.send(Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.send(Signal::CONT);
    }

    pub(crate) fn kill(&self) {
        self.send(Signal::KILL);
    }

    pub(crate) fn ask_to_end(&self) {
        self.send(Signal::TERM);
        self.send(Signal::INT);
    }

    pub(crate) fn wait_for_end(&self) {
        let patience = Timespec::try_from(PATIENCE).expect("seconds");
        let ended = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&patience)).expect("poll");
        assert_eq!(ended, 1, "the process lives on");
    }
}

/// One keyframe, as the service would have read it.
pub(crate) struct Footage {
    pub(crate) config: DecoderConfig,
    pub(crate) pieces: Vec<Bytes>,
}

impl Footage {
    pub(crate) fn mjpeg() -> Self {
        Self::new(Codec::Mjpeg, &["-c:v", "mjpeg", "-f", "image2pipe"])
    }

    /// Annex B with its parameter sets in front.
    pub(crate) fn h264() -> Self {
        Self::new(Codec::H264, &["-c:v", "libx264", "-pix_fmt", "yuv420p", "-f", "h264"])
    }

    fn new(codec: Codec, options: &[&str]) -> Self {
        let source = ["-v", "error", "-f", "lavfi", "-i", "testsrc=size=640x480:rate=1", "-frames:v", "1"];
        let made = Command::new("ffmpeg").args(source).args(options).arg("-").output().expect("ffmpeg");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let config = DecoderConfig {
            codec,
            packaging: Packaging::Samples { prefix: vec![] },
            extradata: vec![],
            size: (640, 480),
            sample_aspect: (0, 0),
            orientation: Orientation::default(),
        };
        Self { config, pieces: vec![Bytes::from(made.stdout)] }
    }
}

/// Ten seconds of H.264 in an MP4 with a keyframe every second.
pub(crate) fn recording() -> Bytes {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recording.mp4");
    let source = ["-v", "error", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=10", "-t", "10"];
    let options = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "10"];
    let made = Command::new("ffmpeg").args(source).args(options).arg(&file).output().expect("ffmpeg");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Bytes::from(std::fs::read(&file).expect("the file"))
}

/// A file in memory that counts its reads.
pub(crate) struct Counted {
    pub(crate) file: Bytes,
    pub(crate) reads: AtomicU64,
}

impl Counted {
    pub(crate) fn new(file: Bytes) -> Self {
        Self { file, reads: AtomicU64::new(0) }
    }

    pub(crate) fn request(&self) -> ScanRequest<'static> {
        ScanRequest { len: self.file.len() as u64, growing: false, resume: &[] }
    }
}

impl Ranges for Counted {
    async fn read(&self, offset: u64, len: u32) -> Result<Bytes, Fault> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let start = usize::try_from(offset).expect("small");
        Ok(self.file.slice(start..start + len as usize))
    }
}

/// A place that never answers; tells when it is asked.
#[derive(Default)]
pub(crate) struct Never(pub(crate) Notify);

impl Ranges for Never {
    async fn read(&self, _offset: u64, _len: u32) -> Result<Bytes, Fault> {
        self.0.notify_one();
        std::future::pending().await
    }
}

/// A place where nothing is any more.
pub(crate) struct Gone;

impl Ranges for Gone {
    async fn read(&self, _offset: u64, _len: u32) -> Result<Bytes, Fault> {
        Err(Fault::new(FaultKind::Gone, "the media is no longer there"))
    }
}
