//! Decoding in other processes: the pool of decoder workers and the conversation with them.
//!
//! The path of a request:
//! 1. it takes a slot, or waits for one in a bounded queue, or is refused at once ([`queue`]);
//! 2. it gets the idle worker that last served the same user, else a fresh one, never another user's ([`pool`]);
//! 3. a fresh one is forked by the warm `stills-decoder` parent, which is started again when it dies ([`process`]);
//! 4. request and reply cross the worker's socket; every reply is bounded and checked ([`exchange`]);
//! 5. past the deadline, on a crash or a broken rule, and when the caller has gone, the worker is killed: all that
//!    is an error value for one request.
//!
//! Nothing here links FFmpeg, and nothing that a worker says is believed.

mod exchange;
mod pool;
mod process;
mod queue;

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use stills_model::fault::Fault;
use stills_model::wire::Luma;

pub use pool::DecodePool;
pub use process::StartError;

/// How decoders run.
#[derive(Debug, Clone)]
pub struct DecodeConfig {
    /// The `stills-decoder` program.
    pub program: PathBuf,
    /// Requests that run at once, each in a worker of its own; at least 1.
    pub running_max: usize,
    /// Interactive requests that may wait for a slot, and as many batch requests beside them.
    pub queued_max: usize,
    /// How long a render may run; also how long an interactive request may wait for its slot.
    pub deadline: Duration,
    /// How long a scan may run, reading included.
    pub scan_deadline: Duration,
    /// How long a search for exact frames may run, reading included.
    pub exact_deadline: Duration,
    /// The most frames that one search for exact frames decodes; at least 1.
    pub exact_frames_max: u32,
    /// Address space of one worker, in bytes.
    pub memory_max_bytes: u64,
}

/// Who waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A person: goes before everything else.
    Interactive,
    /// A pipeline: takes what is left.
    Batch,
}

impl Class {
    /// The word in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

/// Ranged reads of one media file: what a scan or a search for exact frames asks for is read here, by the service.
pub trait Ranges: Send + Sync {
    /// Exactly `len` bytes from `offset` on; the range lies inside the length that the scan was given.
    fn read(&self, offset: u64, len: u32) -> impl Future<Output = Result<Bytes, Fault>> + Send;
}

/// What to scan, beside the bytes.
#[derive(Debug, Clone, Copy)]
pub struct ScanRequest<'a> {
    /// Bytes in the file now.
    pub len: u64,
    /// More will come: what is incomplete at the end is left for later.
    pub growing: bool,
    /// The last scan's resume state, or empty.
    pub resume: &'a [u8],
}

/// A keyframe's pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// In the order of the renditions asked for.
    pub pictures: Vec<Bytes>,
    /// How bright and how varied the first one is.
    pub luma: Luma,
}

/// An image file's pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pictured {
    /// Width and height of the image in pixels, upright.
    pub size: (u32, u32),
    /// In the order of the renditions asked for.
    pub pictures: Vec<Bytes>,
}

/// The frame nearest to an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When it is presented, in milliseconds after the recording's start.
    pub at_ms: i64,
    /// In the order of the renditions asked for.
    pub pictures: Vec<Bytes>,
}

/// What the pool did so far and does now, for the metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Renders asked for.
    pub renders: AtomicU64,
    /// Searches for exact frames asked for.
    pub exacts: AtomicU64,
    /// Image files asked for.
    pub images: AtomicU64,
    /// Scans asked for.
    pub scans: AtomicU64,
    /// Searches in clips asked for.
    pub clips: AtomicU64,
    /// Workers that died or broke the protocol during a request.
    pub crashes: AtomicU64,
    /// Workers killed past a deadline.
    pub deadline_kills: AtomicU64,
    /// Requests refused because the queue was full or the wait too long.
    pub refusals: AtomicU64,
    /// Workers forked.
    pub forks: AtomicU64,
    /// Starts of the decoder program; more than one means that it died.
    pub starts: AtomicU64,
    /// Requests running now.
    pub running: AtomicU64,
    /// Requests waiting for a slot now.
    pub queued: AtomicU64,
    /// Process id of the decoder program, 0 while it does not run.
    pub parent_pid: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
