//! The decoder program as the service sees it: started, asked for workers, started again when it died.
//!
//! One task owns the program and its control socket, so that no cancelled request can leave half an exchange on
//! it. A [`Worker`] is a socket and a pidfd; dropping it kills it, and that is the only way a worker is let go.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv,
    recvmsg, sendmsg,
};
use rustix::process::{Signal, pidfd_send_signal};
use stills_model::fault::{Fault, FaultKind};
use stills_model::wire::{Fork, Forked};
use tokio::io::{AsyncRead, AsyncReadExt, Interest};
use tokio::net::{UnixStream, unix::pipe};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Counters, DecodeConfig, count};

/// Start of the program, opening of its decoders and one fork, on a machine that is busy with something else.
const FORK_TIME_MAX: Duration = Duration::from_secs(10);

/// A program that lived this long is not in a crash loop.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// Room for a large keyframe on a worker's socket.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// The longest pause between two starts.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Lines of the decoders' standard error that are logged in [`LOG_PERIOD`]; hostile media can cause any number.
const LOG_LINES_MAX: u32 = 50;
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Bytes of one logged line.
const LOG_LINE_LEN_MAX: usize = 400;

/// The pool cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A limit makes no sense.
    #[error("{0}")]
    Limit(&'static str),
    /// The decoder program does not start or does not answer.
    #[error("the decoder program {program} does not serve: {detail}", program = .program.display())]
    Program {
        /// Where it was looked for.
        program: PathBuf,
        /// What went wrong.
        detail: String,
    },
}

/// One decoder worker. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) stream: UnixStream,
    pidfd: OwnedFd,
    /// Requests answered so far.
    pub(super) served: u32,
}

impl Worker {
    /// Neither dead nor talking unasked.
    pub(super) fn is_quiet(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(&self.stream, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It fails only when the worker has ended already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

type Ask = oneshot::Sender<Result<Worker, Fault>>;

/// The decoder program: gives workers.
#[derive(Debug)]
pub(super) struct Program {
    asks: mpsc::Sender<Ask>,
}

impl Program {
    /// Starts the task that owns the program; it ends when this is dropped, and the program with it.
    pub(super) fn new(config: &DecodeConfig, counters: Arc<Counters>) -> Self {
        // As many asks as slots; whoever waits longer waits at the channel.
        let (asks, receiver) = mpsc::channel(config.running_max);
        let keeper = Keeper {
            program: config.program.clone(),
            memory_max_bytes: config.memory_max_bytes,
            counters,
            parent: None,
            failures: 0,
            start_after: Instant::now(),
        };
        tokio::spawn(keeper.keep(receiver));
        Self { asks }
    }

    /// A fresh worker.
    ///
    /// # Errors
    /// [`FaultKind::Internal`] when the program does not start or cannot fork.
    pub(super) async fn fork(&self) -> Result<Worker, Fault> {
        let (ask, answer) = oneshot::channel();
        let gone = || Fault::new(FaultKind::Internal, "the decoders are shutting down");
        self.asks.send(ask).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Owns the program, starts it again when it died, with pauses that grow while it keeps dying.
struct Keeper {
    program: PathBuf,
    memory_max_bytes: u64,
    counters: Arc<Counters>,
    parent: Option<Parent>,
    /// Deaths in a row that came soon after the start.
    failures: u32,
    start_after: Instant,
}

impl Keeper {
    async fn keep(mut self, mut asks: mpsc::Receiver<Ask>) {
        loop {
            tokio::select! {
                ask = asks.recv() => match ask {
                    None => break,
                    Some(ask) if ask.is_closed() => {}
                    Some(ask) => {
                        // When the caller has gone meanwhile, the worker is dropped here and so killed.
                        let _ = ask.send(self.fork().await);
                    }
                },
                () = end_of(self.parent.as_ref()) => {
                    tracing::warn!("the decoder program ended; it is started again when it is needed");
                    self.retire().await;
                }
            }
        }
        self.retire().await;
    }

    async fn fork(&mut self) -> Result<Worker, Fault> {
        // Once more when a running program turns out to be dead.
        for _ in 0..2 {
            let parent = match &mut self.parent {
                Some(parent) => parent,
                None => {
                    let parent = self.start().await?;
                    self.parent.insert(parent)
                }
            };
            match timeout(FORK_TIME_MAX, parent.fork(self.memory_max_bytes)).await {
                Ok(Ok(Some(worker))) => {
                    count(&self.counters.forks);
                    return Ok(worker);
                }
                Ok(Ok(None)) => return Err(Fault::new(FaultKind::Internal, "no decoder worker could be forked")),
                Ok(Err(error)) => tracing::warn!(%error, "the decoder program does not answer"),
                Err(_) => tracing::warn!("the decoder program took too long to fork a worker"),
            }
            self.retire().await;
        }
        Err(Fault::new(FaultKind::Internal, "the decoder program does not run"))
    }

    async fn start(&mut self) -> Result<Parent, Fault> {
        sleep_until(self.start_after).await;
        match Parent::start(&self.program) {
            Ok(parent) => {
                count(&self.counters.starts);
                self.counters.parent_pid.store(parent.child.id().into(), Ordering::Relaxed);
                Ok(parent)
            }
            Err(error) => {
                self.failed();
                tracing::error!(%error, "the decoder program does not start");
                Err(Fault::new(FaultKind::Internal, format!("the decoder program does not start: {error}")))
            }
        }
    }

    /// The next start waits: not at all after the first failure, then 0.1 s and twice as long each time.
    fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let pause = match self.failures {
            0 | 1 => Duration::ZERO,
            n => Duration::from_millis(50).saturating_mul(1 << (n - 1).min(16)).min(PAUSE_MAX),
        };
        self.start_after = Instant::now() + pause;
    }

    /// Ends the program, if it has not ended itself, and takes its status.
    async fn retire(&mut self) {
        let Some(mut parent) = self.parent.take() else { return };
        self.counters.parent_pid.store(0, Ordering::Relaxed);
        if parent.started.elapsed() >= HEALTHY_AFTER {
            self.failures = 0;
        }
        self.failed();
        let _ = parent.child.kill();
        // After a kill this waits for the kernel alone, but it is a wait.
        let status = tokio::task::spawn_blocking(move || parent.child.wait()).await;
        tracing::debug!(?status, "the decoder program has ended");
    }
}

/// Waits until a running program closes the control socket (or talks unasked, which it never does).
async fn end_of(parent: Option<&Parent>) {
    match parent {
        // Looking without taking also tells tokio that the last answer was read.
        Some(parent) => {
            let look = || Ok(recv(&parent.control, &mut [0; 1][..], RecvFlags::PEEK)?);
            drop(parent.control.async_io(Interest::READABLE, look).await);
        }
        None => std::future::pending().await,
    }
}

/// The running program.
struct Parent {
    child: Child,
    control: UnixStream,
    started: Instant,
}

impl Parent {
    fn start(program: &Path) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut child = Command::new(program)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Secrets may stand in the environment; nothing in it is for a decoder.
            .env_clear()
            // An interrupt from a terminal is for the service, which lets requests finish first.
            .process_group(0)
            .spawn()?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log_lines(pipe::Receiver::from_owned_fd(stderr.into())?));
        }
        Ok(Self { child, control: UnixStream::from_std(ours)?, started: Instant::now() })
    }

    /// Has one worker forked; None when the program could not fork.
    async fn fork(&self, memory_max_bytes: u64) -> io::Result<Option<Worker>> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        // As large as the kernel lets it be, so that a keyframe is handed over in one turn; a smaller one only costs more.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&ours, SEND_BUFFER_BYTES);
        let command = Fork { memory_max_bytes }.encode();
        let send = || {
            let fds = [theirs.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(SendAncillaryMessage::ScmRights(&fds));
            Ok(sendmsg(&self.control, &[IoSlice::new(&command)], &mut ancillary, SendFlags::NOSIGNAL)?)
        };
        self.control.async_io(Interest::WRITABLE, send).await?;
        let (forked, pidfd) = self.control.async_io(Interest::READABLE, || receive_forked(&self.control)).await?;
        match (forked.pid, pidfd) {
            (None, _) => Ok(None),
            (Some(_), Some(pidfd)) => Ok(Some(Worker { stream: UnixStream::from_std(ours)?, pidfd, served: 0 })),
            (Some(_), None) => Err(io::Error::other("a worker without its pidfd")),
        }
    }
}

fn receive_forked(control: &UnixStream) -> io::Result<(Forked, Option<OwnedFd>)> {
    let mut message = [0; Forked::LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(control, &mut [IoSliceMut::new(&mut message)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::Error::other("it has ended"));
    }
    let pidfd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let forked = Forked::decode(message.get(..received.bytes).unwrap_or_default()).map_err(io::Error::other)?;
    Ok((forked, pidfd))
}

/// Moves the decoders' standard error to the log, line by line, cut and rationed, until all of them have ended.
async fn log_lines(mut pipe: impl AsyncRead + Unpin) {
    let mut chunk = [0; 4096];
    let mut line = Vec::new();
    let mut ration = Ration { left: LOG_LINES_MAX, dropped: 0, since: Instant::now() };
    while let Ok(len @ 1..) = pipe.read(&mut chunk).await {
        for &byte in chunk.iter().take(len) {
            if byte != b'\n' {
                if line.len() < LOG_LINE_LEN_MAX {
                    line.push(byte);
                }
                continue;
            }
            if ration.allows() {
                let text = line.escape_ascii();
                // The program's own words are rare and matter; FFmpeg's are about the media.
                if line.starts_with(b"stills-decoder:") {
                    tracing::warn!("{text}");
                } else {
                    tracing::debug!("decoder: {text}");
                }
            }
            line.clear();
        }
    }
}

struct Ration {
    left: u32,
    dropped: u64,
    since: Instant,
}

impl Ration {
    fn allows(&mut self) -> bool {
        if self.since.elapsed() >= LOG_PERIOD {
            if self.dropped > 0 {
                tracing::warn!(lines = self.dropped, "the decoders said more than is logged");
            }
            *self = Self { left: LOG_LINES_MAX, dropped: 0, since: Instant::now() };
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        self.dropped += u64::from(!allowed);
        allowed
    }
}
