//! The warm parent: has FFmpeg loaded, sees no media, forks a worker for every socket it is handed, and reaps.
//!
//! It stays single-threaded, so that a forked worker finds no lock held by a thread that it does not have. It
//! never reads from a worker and never blocks on anything but the control socket and its children's ends.
//!
//! 1. Load and open every decoder once; descriptors other than the standard three are closed.
//! 2. Wait for a command on the control socket (standard input) or for the end of a child.
//! 3. A command: fork, answer with the pid and the pidfd.
//! 4. An ended child: take its status; an end that nobody asked for goes to standard error.
//! 5. The control socket closed, so the service is gone: return. The kernel kills the workers.
#![expect(unsafe_code, reason = "fork, close_range, mallopt and signal dispositions have no safe form")]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ffmpeg_next as ffmpeg;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, waitid};
use rustix::stdio::stdin;
use stills_model::wire::{Fork, Forked};

use crate::serve;

/// Workers alive at once, whatever the service asks for; it asks for a few per processor.
const CHILDREN_MAX: usize = 256;

struct Child {
    pid: u32,
    pidfd: OwnedFd,
}

/// Forks workers until the service closes the control socket on standard input.
///
/// # Errors
/// When standard input is not a control socket of this build's service, or this process is not fit to fork.
pub fn run() -> io::Result<()> {
    close_from(3);
    outlive_polite_signals();
    // A worker is a better victim than the service when memory runs out. It may be forbidden; then it stays as it is.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    keep_memory();
    warm_up();
    check_single_threaded()?;
    // No worker may look into this process or another worker, though all have one user id.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let mut children: Vec<Child> = Vec::new();
    loop {
        let called = wait(&mut children)?;
        if called {
            let Some((fork, socket)) = receive_fork(stdin())? else {
                return Ok(());
            };
            let started = if children.len() < CHILDREN_MAX { start_worker(fork, socket) } else { Err(Errno::MFILE) };
            match started {
                Ok(child) => {
                    send_forked(stdin(), Forked { pid: Some(child.pid) }, Some(child.pidfd.as_fd()))?;
                    children.push(child);
                }
                Err(error) => {
                    eprintln!("stills-decoder: no worker could be forked: {error}");
                    send_forked(stdin(), Forked { pid: None }, None)?;
                }
            }
        }
    }
}

/// Pictures come and go in blocks of hundreds of kilobytes. Given back to the kernel and asked for again each time, their
/// pages cost a twentieth of a render; a worker keeps them for its short life instead, within its memory limit.
pub fn keep_memory() {
    // The C library takes no higher threshold.
    const MAPPED_FROM_BYTES: i32 = 32 << 20;
    const TRIMMED_FROM_BYTES: i32 = 256 << 20;
    // SAFETY: sets two numbers of the C library's allocator before any other thread could be.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIMMED_FROM_BYTES);
    }
}

/// Opens each decoder once, so that its code is paged in and its static tables are filled before the first fork.
fn warm_up() {
    use ffmpeg::codec::{Id, context::Context, decoder, threading};
    ffmpeg::util::log::set_level(ffmpeg::util::log::Level::Fatal);
    for id in
        [Id::H264, Id::HEVC, Id::AV1, Id::VP8, Id::VP9, Id::MPEG4, Id::MJPEG, Id::MPEG2VIDEO, Id::PRORES, Id::DNXHD]
    {
        let Some(codec) = decoder::find(id) else { continue };
        let mut context = Context::new_with_codec(codec);
        // One thread: the default starts as many as there are processors.
        context.set_threading(threading::Config::count(1));
        let _ = context.decoder().open();
    }
    // The first look at a clock asks the kernel where its fast path is; the answer is inherited.
    let _ = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
}

fn check_single_threaded() -> io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads == 1 {
        return Ok(());
    }
    Err(io::Error::other(format!("{threads} threads run before the first fork; one is allowed")))
}

/// Waits for a command or the end of children; reaps those. True when a command, or the service's end, is there.
fn wait(children: &mut Vec<Child>) -> io::Result<bool> {
    let control = stdin();
    let ends: Vec<bool> = {
        let mut fds = vec![PollFd::new(&control, PollFlags::IN)];
        fds.extend(children.iter().map(|child| PollFd::new(&child.pidfd, PollFlags::IN)));
        match poll(&mut fds, None) {
            Err(Errno::INTR) => return Ok(false),
            result => result?,
        };
        fds.iter().map(|fd| !fd.revents().is_empty()).collect()
    };
    let mut ended = ends.iter().skip(1);
    children.retain(|child| !(ended.next() == Some(&true) && reap(child)));
    Ok(ends.first() == Some(&true))
}

/// Takes the status of an ended child; false when it has not ended.
fn reap(child: &Child) -> bool {
    let status = match waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(None) | Err(Errno::INTR) => return false,
        Ok(Some(status)) => status,
        Err(_) => return true,
    };
    match (status.terminating_signal(), status.exit_status()) {
        // The service kills whom it no longer needs, and a worker leaves when its socket closes.
        (Some(signal), _) if signal == Signal::KILL.as_raw() => {}
        (None, Some(0)) => {}
        (Some(signal), _) => eprintln!("stills-decoder: worker {} ended by signal {signal}", child.pid),
        (None, status) => eprintln!("stills-decoder: worker {} ended with status {status:?}", child.pid),
    }
    true
}

/// The next command and the socket for its worker; None when the service is gone.
fn receive_fork(control: BorrowedFd<'_>) -> io::Result<Option<(Fork, OwnedFd)>> {
    let mut message = [0; Fork::LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let len = loop {
        match recvmsg(control, &mut [IoSliceMut::new(&mut message)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            received => break received?.bytes,
        }
    };
    if len == 0 {
        return Ok(None);
    }
    let socket = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let fork = Fork::decode(message.get(..len).unwrap_or_default()).map_err(io::Error::other)?;
    let socket = socket.ok_or_else(|| io::Error::other("a fork command without a socket"))?;
    Ok(Some((fork, socket)))
}

fn send_forked(control: BorrowedFd<'_>, forked: Forked, pidfd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if let Some(pidfd) = &pidfd {
        ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(pidfd)));
    }
    match sendmsg(control, &[IoSlice::new(&forked.encode())], &mut ancillary, SendFlags::NOSIGNAL) {
        // The service has gone meanwhile; the next read finds the end.
        Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn start_worker(fork: Fork, socket: OwnedFd) -> Result<Child, Errno> {
    let parent = rustix::process::getpid();
    // SAFETY: this process has a single thread (checked at the start, and nothing here starts one), so that the
    // child may go on in ordinary code. The child never returns from this block.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = std::panic::catch_unwind(|| live(fork, socket, parent)).unwrap_or(101);
        std::process::exit(code);
    }
    drop(socket);
    let pid = Pid::from_raw(pid).ok_or(Errno::AGAIN)?;
    // The child cannot be reaped by anyone else before this, so the pid is still its own.
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Child { pid: pid.as_raw_nonzero().get().unsigned_abs(), pidfd }),
        Err(error) => {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
            Err(error)
        }
    }
}

/// The whole life of a worker; its exit code.
fn live(fork: Fork, socket: OwnedFd, parent: Pid) -> i32 {
    let locked = take_over_stdin(socket).and_then(|()| serve::before_media(&fork, parent));
    match locked.and_then(|()| serve::serve(serve::Socket, serve::limit_cpu)) {
        Ok(()) => 0,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof || error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            eprintln!("stills-decoder: worker: {error}");
            1
        }
    }
}

/// Puts the worker's socket in the control socket's place and closes everything above standard error.
fn take_over_stdin(socket: OwnedFd) -> io::Result<()> {
    rustix::stdio::dup2_stdin(&socket)?;
    drop(socket);
    close_from(3);
    Ok(())
}

/// Closes every descriptor from `first` on.
fn close_from(first: u32) {
    // SAFETY: at the start of the program nothing is open there that anything here owns; in a worker the owners
    // are the parent's variables, which are never used or dropped again, as a worker ends by exiting.
    unsafe {
        libc::close_range(first, u32::MAX, 0);
    }
}

/// A service that is asked to end finishes what is in flight; it closes the control socket when it is done.
/// Until then a signal to the whole group or control group must not take the decoders away.
fn outlive_polite_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: ignoring a signal installs no code.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}
