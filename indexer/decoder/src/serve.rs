//! A worker's life after the fork: locks itself in, then answers requests on its socket, one at a time.
//!
//! It never opens a file, a socket or a process. A panic on one request is that request's failure; the worker
//! ends after it, as nobody knows what state FFmpeg is in.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use stills_model::clip::ClipFound;
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::DecoderConfig;
use stills_model::rendition::Rendition;
use stills_model::wire::{Fork, MESSAGE_LEN_MAX, PROTOCOL, Reply, Request, SCANNED_LEN_MAX};

use crate::remote::RemoteMedia;
use crate::render::{Renderer, Shown};
use crate::{clip, exact, image_file, packets, scan};

/// Memory that is kept from one message to the next: more than a keyframe of most cameras.
const MESSAGE_KEPT_LEN: usize = 4 << 20;

/// Descriptors that a worker may have: the standard three and room for none that anyone needs.
const FILES_MAX: u64 = 4;

/// All that stands between hostile bytes and the machine. Runs once in every worker, before the first request is
/// read; **the sandbox belongs at its end**, when everything that it would forbid is done.
///
/// # Errors
/// When one of the limits cannot be set: then the worker must not serve.
pub fn before_media(fork: &Fork, parent: Pid) -> io::Result<()> {
    // The worker goes with its parent; if the parent went before this line, it goes now.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(parent) {
        return Err(io::Error::other("the parent has gone"));
    }
    rustix::thread::set_no_new_privs(true)?;
    lower(Resource::Core, 0)?;
    lower(Resource::Nofile, FILES_MAX)?;
    // Not FSIZE 0: it kills a process whose standard error was sent to a file.
    lower(Resource::As, fork.memory_max_bytes)?;
    Ok(())
}

/// Sets both limits, never above what is allowed already.
fn lower(resource: Resource, value: u64) -> io::Result<()> {
    let value = getrlimit(resource).maximum.map_or(value, |maximum| maximum.min(value));
    Ok(setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?)
}

/// Gives the next request `cpu_ms` of CPU time beyond what was used so far, rounded up to whole seconds; then the
/// kernel ends the worker. The service's deadline comes first unless the service is stuck.
///
/// # Errors
/// When the limit cannot be set.
pub fn limit_cpu(cpu_ms: u32) -> io::Result<()> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
    let wanted = used + u64::from(cpu_ms.div_ceil(1000)) + 1;
    let maximum = getrlimit(Resource::Cpu).maximum;
    let current = Some(maximum.map_or(wanted, |maximum| maximum.min(wanted)));
    Ok(setrlimit(Resource::Cpu, Rlimit { current, maximum })?)
}

/// The worker's socket, which [`before_media`]'s caller has put in place of standard input.
#[derive(Debug)]
pub struct Socket;

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(rustix::stdio::stdin(), buf)?)
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdin(), buf)?)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(rustix::stdio::stdin(), bufs)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Answers requests until the service closes the socket. `limit_cpu` is called before each with its CPU time.
///
/// # Errors
/// When the socket fails or the service does not keep to the protocol.
pub fn serve<S: Read + Write>(mut socket: S, limit_cpu: impl Fn(u32) -> io::Result<()>) -> io::Result<()> {
    socket.write_all(PROTOCOL)?;
    let mut theirs = [0; PROTOCOL.len()];
    socket.read_exact(&mut theirs)?;
    if theirs != *PROTOCOL {
        return Err(io::Error::other("the service is of another build"));
    }
    // It serves one user, whose cameras' next keyframes are likely to need the decoder that is open already.
    let mut renderer = Renderer::new();
    let mut message = Vec::new();
    loop {
        receive_into(&mut socket, &mut message)?;
        let request = Request::decode(&message).map_err(io::Error::other)?;
        let reply = match request {
            Request::Scan { cpu_ms, len, growing, resume } => {
                limit_cpu(cpu_ms)?;
                let mut media = RemoteMedia::new(&mut socket, len);
                attempt(|| scan::scanned(&mut media, growing, &resume).map(Reply::Scanned))
            }
            Request::Render { cpu_ms, config, pieces, renditions } => {
                limit_cpu(cpu_ms)?;
                attempt(|| {
                    let Shown { pictures, luma } = show(&mut renderer, &config, &pieces, &renditions)?;
                    Ok(Reply::Rendered { pictures, luma })
                })
            }
            Request::Exact { cpu_ms, query } => {
                limit_cpu(cpu_ms)?;
                let mut media = RemoteMedia::new(&mut socket, query.len);
                attempt(|| exact::exact(&mut media, &query, &mut renderer).map(|found| Reply::Exact(found.answers)))
            }
            Request::Clip { cpu_ms, query } => {
                limit_cpu(cpu_ms)?;
                let mut media = RemoteMedia::careful(&mut socket, query.len);
                attempt(|| clip::find(&mut media, &query, &mut renderer).map(Reply::Clip))
            }
            Request::Picture { cpu_ms, pixels_max, renditions, file } => {
                limit_cpu(cpu_ms)?;
                attempt(|| {
                    let shown = image_file::show(&mut renderer, &file, pixels_max, &renditions)?;
                    Ok(Reply::Pictured { size: shown.size, pictures: shown.pictures })
                })
            }
            Request::Bytes(_) | Request::ReadFailed(_) => {
                return Err(io::Error::other("bytes that nobody asked for"));
            }
        };
        let last = matches!(&reply, Reply::Failed(fault) if fault.kind == FaultKind::Internal);
        let is_index = matches!(reply, Reply::Scanned(_) | Reply::Clip(ClipFound::Listed(_)));
        let len_max = if is_index { SCANNED_LEN_MAX } else { MESSAGE_LEN_MAX };
        let mut body = reply.encode();
        if body.len() > len_max {
            let detail = format!("the result takes {} bytes; {len_max} are allowed", body.len());
            body = Reply::Failed(Fault::new(FaultKind::TooLarge, detail)).encode();
        }
        send(&mut socket, &body)?;
        if last {
            return Ok(());
        }
    }
}

fn show(
    renderer: &mut Renderer,
    config: &DecoderConfig,
    pieces: &[&[u8]],
    renditions: &[Rendition],
) -> Result<Shown, Fault> {
    let packets = packets::packets(&config.packaging, pieces)?;
    renderer.render(config, &packets, renditions)
}

/// Runs one request; a panic becomes a fault of ours (its message is on standard error).
fn attempt(run: impl FnOnce() -> Result<Reply, Fault>) -> Reply {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(reply)) => reply,
        Ok(Err(fault)) => Reply::Failed(fault),
        Err(_) => Reply::Failed(Fault::new(FaultKind::Internal, "the decoder panicked")),
    }
}

/// Writes one message: its length, then its body, in one system call where the socket takes it.
pub(crate) fn send(socket: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes();
    let written = socket.write_vectored(&[io::IoSlice::new(&len), io::IoSlice::new(body)])?;
    socket.write_all(len.get(written..).unwrap_or_default())?;
    socket.write_all(body.get(written.saturating_sub(len.len())..).unwrap_or_default())
}

/// Reads one message.
pub(crate) fn receive(socket: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    receive_into(socket, &mut body)?;
    Ok(body)
}

/// Reads one message in the place of the last one, whose memory need not be cleared again.
fn receive_into(socket: &mut impl Read, body: &mut Vec<u8>) -> io::Result<()> {
    let mut len = [0; 4];
    socket.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len);
    if len as usize > MESSAGE_LEN_MAX {
        return Err(io::Error::other(format!("a message of {len} bytes; {MESSAGE_LEN_MAX} are allowed")));
    }
    // The service is trusted, so the whole buffer is made at once and filled with few system calls.
    body.resize(len as usize, 0);
    body.shrink_to(MESSAGE_KEPT_LEN);
    socket.read_exact(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use stills_model::keyframe::{Codec, Orientation, Packaging};

    /// A worker on the other end of a socketpair, in a thread of this process and thus without its limits.
    fn worker() -> (UnixStream, std::thread::JoinHandle<io::Result<()>>) {
        let (mut ours, theirs) = UnixStream::pair().expect("socketpair");
        let thread = std::thread::spawn(move || serve(theirs, |_| Ok(())));
        let mut greeting = [0; 8];
        ours.read_exact(&mut greeting).expect("greeting");
        assert_eq!(&greeting, PROTOCOL);
        ours.write_all(PROTOCOL).expect("greeting");
        (ours, thread)
    }

    fn ask(socket: &mut UnixStream, request: &Request<'_>) -> Reply {
        send(socket, &request.encode()).expect("request");
        Reply::decode(&receive(socket).expect("reply")).expect("well-formed")
    }

    #[test]
    fn hopeless_requests_fail_as_values() {
        let config = DecoderConfig {
            codec: Codec::H264,
            packaging: Packaging::Samples { prefix: vec![] },
            extradata: vec![],
            size: (16, 16),
            sample_aspect: (0, 0),
            orientation: Orientation::default(),
        };
        let renditions = vec![Rendition::thumb(32, 24).expect("size")];
        for request in [
            Request::Render { cpu_ms: 1000, config: config.clone(), pieces: vec![&[7; 300]], renditions },
            Request::Render { cpu_ms: 1000, config, pieces: vec![], renditions: vec![] },
            Request::Scan { cpu_ms: 1000, len: 0, growing: false, resume: vec![] },
            Request::Picture {
                cpu_ms: 1000,
                pixels_max: 1 << 20,
                renditions: vec![],
                file: b"\x89PNG\r\n\x1a\n".to_vec(),
            },
        ] {
            let (mut socket, _) = worker();
            let reply = ask(&mut socket, &request);
            assert!(matches!(&reply, Reply::Failed(fault) if !fault.detail.is_empty()), "{request:?}: {reply:?}");
        }
    }

    #[test]
    fn a_worker_ends_on_what_is_not_the_protocol() {
        let check = |bytes: &[u8], expected: &str| {
            let (mut socket, thread) = worker();
            socket.write_all(bytes).expect("write");
            drop(socket);
            let error = thread.join().expect("no panic").expect_err("an end");
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(&[1, 0, 0, 0, 99], "request");
        check(&[2, 0, 0, 0, 1, 0], "nobody asked");
        check(&[255, 255, 255, 255], "are allowed");
        check(&[9, 0, 0, 0, 1], "fill whole buffer");
        check(&[], "fill whole buffer");
    }

    #[test]
    fn panics_are_faults_of_ours() {
        let reply = attempt(|| panic!("as media made it"));
        assert!(matches!(reply, Reply::Failed(fault) if fault.kind == FaultKind::Internal));
    }
}
