//! The protocols of the decoder program: with the warm parent, and with each worker.
//!
//! On the control socket the service sends a [`Fork`] with one end of a fresh socketpair, and the parent answers
//! with a [`Forked`] and the worker's pidfd: messages of fixed length, each in one system call, one exchange at a time.
//!
//! On a worker's socket (a stream) both ends send [`PROTOCOL`], the worker once nothing stands between it and
//! hostile bytes but its sandbox. Then there are messages, each behind its length (`u32`, little-endian, at most
//! [`MESSAGE_LEN_MAX`]), one exchange at a time:
//!
//! 1. the service sends a [`Request`];
//! 2. while a scan or a search in a clip or for exact frames runs, the worker asks for bytes ([`Reply::Read`]) and the service answers with
//!    [`Request::Bytes`] or [`Request::ReadFailed`];
//! 3. the worker ends the exchange with [`Reply::Scanned`], [`Reply::Rendered`], [`Reply::Exact`], [`Reply::Pictured`],
//!    [`Reply::Clip`] or [`Reply::Failed`].
//!
//! The worker reads media that strangers made: the service treats every reply as hostile and bounds it. Both
//! ends come from one build, so the form has no version of its own; [`PROTOCOL`] opens each connection.

use crate::clip::{ClipFound, ClipQuery};
use crate::codec::{Malformed, Reader, Writer};
use crate::exact::{ExactFrame, ExactQuery, read_answers, write_answers};
use crate::fault::Fault;
use crate::keyframe::DecoderConfig;
use crate::keyframe_index::KeyframeIndex;
use crate::leap::{Leaps, Scanned};
use crate::rendition::Rendition;

/// What both ends send first; another build is refused by it.
pub const PROTOCOL: &[u8; 8] = b"stills04";

/// The largest message: a whole keyframe of 8K intra video with room to spare.
pub const MESSAGE_LEN_MAX: usize = 64 * 1024 * 1024;

/// The most bytes that a scan may ask for in one read.
pub const READ_LEN_MAX: u32 = 4 * 1024 * 1024;

/// The largest [`Reply::Scanned`]: over a million keyframes, and as many again in the resume state.
pub const SCANNED_LEN_MAX: usize = 32 * 1024 * 1024;

/// The most pictures that one request may ask for.
pub const PICTURES_MAX: usize = 64;

/// Service to worker. A keyframe's bytes are borrowed from the message: they are what is large in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// Find the keyframes of a media file of `len` bytes.
    Scan {
        /// CPU milliseconds after which the kernel ends the worker.
        cpu_ms: u32,
        /// Bytes in the file now.
        len: u64,
        /// More will come: what is incomplete at the end is left for later, not an error.
        growing: bool,
        /// [`KeyframeIndex::resume`] of the last scan of this file, or empty.
        resume: Vec<u8>,
    },
    /// The bytes that [`Reply::Read`] asked for.
    Bytes(Vec<u8>),
    /// The bytes cannot be had; the worker ends the scan with this fault.
    ReadFailed(Fault),
    /// Show one keyframe in one or more renditions.
    Render {
        /// CPU milliseconds after which the kernel ends the worker.
        cpu_ms: u32,
        /// What the decoder needs beside the bytes.
        config: DecoderConfig,
        /// The bytes of the keyframe's ranges, in order.
        pieces: Vec<&'a [u8]>,
        /// What to make of the picture.
        renditions: Vec<Rendition>,
    },
    /// Show the frames nearest to instants between keyframes.
    Exact {
        /// CPU milliseconds after which the kernel ends the worker.
        cpu_ms: u32,
        /// Which frames, and where decoding starts.
        query: ExactQuery,
    },
    /// Show an image file (JPEG, PNG or WebP) in any number of renditions; none: only look whether it can be shown.
    Picture {
        /// CPU milliseconds after which the kernel ends the worker.
        cpu_ms: u32,
        /// The most pixels that it may have; looked at before it is decoded.
        pixels_max: u64,
        /// What to make of the picture.
        renditions: Vec<Rendition>,
        /// The whole file.
        file: Vec<u8>,
    },
    /// Find a picture of a clip, or the list of its keyframes.
    Clip {
        /// CPU milliseconds after which the kernel ends the worker.
        cpu_ms: u32,
        /// Which picture.
        query: ClipQuery,
    },
}

/// Worker to service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Send `len` bytes (at most [`READ_LEN_MAX`]) from `offset` on.
    Read {
        /// From the start of the file.
        offset: u64,
        /// How many; never past the file's end.
        len: u32,
    },
    /// The scan is done.
    Scanned(Scanned),
    /// A keyframe's pictures.
    Rendered {
        /// In the order of the renditions asked for.
        pictures: Vec<Vec<u8>>,
        /// How bright and how varied the first one is.
        luma: Luma,
    },
    /// The frame nearest to each instant asked for, in their order; the same frame may answer several.
    Exact(Vec<Result<ExactFrame, Fault>>),
    /// An image file's pictures.
    Pictured {
        /// Width and height of the image in pixels, set upright.
        size: (u32, u32),
        /// In the order of the renditions asked for.
        pictures: Vec<Vec<u8>>,
    },
    /// What was found in a clip.
    Clip(ClipFound),
    /// It cannot be done.
    Failed(Fault),
}

/// Brightness of a picture: what tells black and flat grey from footage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Luma {
    /// Mean of full-range luma, 0 (black) to 255.
    pub mean: u8,
    /// Standard deviation of it, 0 (flat) to 128.
    pub deviation: u8,
}

impl<'a> Request<'a> {
    /// The body of a [`Request::Bytes`] is this and then the bytes, so that nobody needs to copy those.
    pub const BYTES_HEAD: [u8; 1] = [1];

    /// The message's body.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Scan { cpu_ms, len, growing, resume } => {
                w.byte(0).unsigned((*cpu_ms).into()).unsigned(*len).byte(u8::from(*growing)).bytes(resume);
            }
            Self::Bytes(bytes) => {
                w.raw(&Self::BYTES_HEAD).raw(bytes);
            }
            Self::ReadFailed(fault) => {
                w.byte(2);
                fault.write(&mut w);
            }
            Self::Render { cpu_ms, config, pieces, renditions } => {
                let mut body = Self::encode_render_head(*cpu_ms, config, pieces, renditions);
                pieces.iter().for_each(|piece| body.extend_from_slice(piece));
                return body;
            }
            Self::Exact { cpu_ms, query } => query.write(w.byte(4).unsigned((*cpu_ms).into())),
            Self::Picture { cpu_ms, pixels_max, renditions, file } => {
                w.raw(&Self::picture_head(*cpu_ms, *pixels_max, renditions)).raw(file);
            }
            Self::Clip { cpu_ms, query } => query.write(w.byte(6).unsigned((*cpu_ms).into())),
        }
        w.finish()
    }

    /// The body of a [`Request::Picture`] is this and then the file, so that nobody needs to copy that.
    pub fn picture_head(cpu_ms: u32, pixels_max: u64, renditions: &[Rendition]) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(5).unsigned(cpu_ms.into()).unsigned(pixels_max).unsigned(renditions.len() as u64);
        renditions.iter().for_each(|rendition| rendition.write(&mut w));
        w.finish()
    }

    /// The body of a [`Request::Render`] is this and then the pieces, one behind the other, so that nobody needs to
    /// copy those.
    pub fn encode_render_head(
        cpu_ms: u32,
        config: &DecoderConfig,
        pieces: &[impl AsRef<[u8]>],
        renditions: &[Rendition],
    ) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(3).unsigned(cpu_ms.into()).bytes(&config.encode()).unsigned(renditions.len() as u64);
        renditions.iter().for_each(|rendition| rendition.write(&mut w));
        w.unsigned(pieces.len() as u64);
        for piece in pieces {
            w.unsigned(piece.as_ref().len() as u64);
        }
        w.finish()
    }

    /// Reads a message's body.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let request = match r.byte()? {
            0 => Self::Scan {
                cpu_ms: r.unsigned_32()?,
                len: r.unsigned()?,
                growing: r.flag()?,
                resume: r.bytes()?.to_vec(),
            },
            1 => Self::Bytes(r.rest().to_vec()),
            2 => Self::ReadFailed(Fault::read(&mut r)?),
            3 => {
                let cpu_ms = r.unsigned_32()?;
                let config = DecoderConfig::decode(r.bytes()?)?;
                let renditions = (0..r.unsigned()?).map(|_| Rendition::read(&mut r)).collect::<Result<_, _>>()?;
                let lens = (0..r.unsigned()?).map(|_| r.unsigned_32()).collect::<Result<Vec<_>, _>>()?;
                let pieces = lens.into_iter().map(|len| r.raw(len as usize)).collect::<Result<_, _>>()?;
                Self::Render { cpu_ms, config, pieces, renditions }
            }
            4 => Self::Exact { cpu_ms: r.unsigned_32()?, query: ExactQuery::read(&mut r)? },
            5 => {
                let (cpu_ms, pixels_max) = (r.unsigned_32()?, r.unsigned()?);
                let renditions = (0..r.unsigned()?).map(|_| Rendition::read(&mut r)).collect::<Result<_, _>>()?;
                Self::Picture { cpu_ms, pixels_max, renditions, file: r.rest().to_vec() }
            }
            6 => Self::Clip { cpu_ms: r.unsigned_32()?, query: ClipQuery::read(&mut r)? },
            _ => return Err(Malformed("request")),
        };
        r.end()?;
        Ok(request)
    }
}

impl Reply {
    /// The message's body.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Read { offset, len } => {
                w.byte(0).unsigned(*offset).unsigned((*len).into());
            }
            Self::Scanned(Scanned { index, leaps }) => {
                leaps.write(w.byte(1));
                w.raw(&index.encode());
            }
            Self::Rendered { pictures, luma } => {
                write_pictures(w.byte(2).byte(luma.mean).byte(luma.deviation), pictures);
            }
            Self::Failed(fault) => {
                w.byte(3);
                fault.write(&mut w);
            }
            Self::Exact(answers) => write_answers(answers, w.byte(4)),
            Self::Pictured { size, pictures } => {
                write_pictures(w.byte(5).unsigned(size.0.into()).unsigned(size.1.into()), pictures);
            }
            Self::Clip(found) => found.write(w.byte(6)),
        }
        w.finish()
    }

    /// Reads a message's body.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let reply = match r.byte()? {
            0 => Self::Read { offset: r.unsigned()?, len: r.unsigned_32()? },
            1 => {
                let leaps = Leaps::read(&mut r)?;
                Self::Scanned(Scanned { index: KeyframeIndex::decode(r.rest())?, leaps })
            }
            2 => {
                let luma = Luma { mean: r.byte()?, deviation: r.byte()? };
                Self::Rendered { pictures: read_pictures(&mut r)?, luma }
            }
            3 => Self::Failed(Fault::read(&mut r)?),
            4 => Self::Exact(read_answers(&mut r)?),
            5 => Self::Pictured { size: (r.unsigned_32()?, r.unsigned_32()?), pictures: read_pictures(&mut r)? },
            6 => Self::Clip(ClipFound::read(&mut r)?),
            _ => return Err(Malformed("reply")),
        };
        r.end()?;
        Ok(reply)
    }
}

fn write_pictures(w: &mut Writer, pictures: &[Vec<u8>]) {
    w.unsigned(pictures.len() as u64);
    for picture in pictures {
        w.bytes(picture);
    }
}

fn read_pictures(r: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, Malformed> {
    let count = r.unsigned()?;
    if count > PICTURES_MAX as u64 {
        return Err(Malformed("count of pictures"));
    }
    (0..count).map(|_| Ok(r.bytes()?.to_vec())).collect()
}

/// Service to warm parent: start a worker that serves the socket which rides along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// Address space that the worker may use, in bytes.
    pub memory_max_bytes: u64,
}

impl Fork {
    /// Bytes of the message.
    pub const LEN: usize = 16;

    /// The message.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut message = [0; Self::LEN];
        message[..8].copy_from_slice(PROTOCOL);
        message[8..].copy_from_slice(&self.memory_max_bytes.to_le_bytes());
        message
    }

    /// Reads the message; refuses another build's.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let rest = bytes.strip_prefix(PROTOCOL).ok_or(Malformed("protocol of the control socket"))?;
        let memory_max_bytes = rest.try_into().map(u64::from_le_bytes).map_err(|_| Malformed("fork"))?;
        Ok(Self { memory_max_bytes })
    }
}

/// Warm parent to service: the worker runs, its pidfd rides along; or there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forked {
    /// The worker's process id; None when it could not be started, and then no descriptor rides along.
    pub pid: Option<u32>,
}

impl Forked {
    /// Bytes of the message.
    pub const LEN: usize = 12;

    /// The message.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut message = [0; Self::LEN];
        message[..8].copy_from_slice(PROTOCOL);
        message[8..].copy_from_slice(&self.pid.unwrap_or(0).to_le_bytes());
        message
    }

    /// Reads the message; refuses another build's.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let rest = bytes.strip_prefix(PROTOCOL).ok_or(Malformed("protocol of the control socket"))?;
        let pid = rest.try_into().map(u32::from_le_bytes).map_err(|_| Malformed("forked"))?;
        Ok(Self { pid: (pid != 0).then_some(pid) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;
    use crate::keyframe::{Codec, Orientation, Packaging};

    #[test]
    fn messages_survive_the_socket() {
        let fault = Fault::new(FaultKind::Damaged, "the file has no moov box");
        let config = DecoderConfig {
            codec: Codec::H264,
            packaging: Packaging::Samples { prefix: vec![] },
            extradata: vec![1],
            size: (16, 16),
            sample_aspect: (1, 1),
            orientation: Orientation::default(),
        };
        let renditions = vec![Rendition::thumb(320, 240).expect("size")];
        let query = ExactQuery {
            len: 9,
            growing: false,
            from_ms: 0,
            ranges: vec![],
            config: config.clone(),
            instants_ms: vec![1],
            frames_max: 2,
            renditions: renditions.clone(),
        };
        let picture_renditions = renditions.clone();
        for request in [
            Request::Scan { cpu_ms: 30_000, len: 7, growing: true, resume: vec![1, 2] },
            Request::Bytes(vec![1, 2, 3]),
            Request::ReadFailed(fault.clone()),
            Request::Render { cpu_ms: 5_000, config, pieces: vec![&[1], &[]], renditions },
            Request::Exact { cpu_ms: 30_000, query },
            Request::Picture { cpu_ms: 5_000, pixels_max: 1 << 40, renditions: picture_renditions, file: vec![9; 3] },
        ] {
            assert_eq!(Request::decode(&request.encode()), Ok(request.clone()));
        }
        for reply in [
            Reply::Read { offset: 1 << 40, len: 9 },
            Reply::Scanned(Scanned::default()),
            Reply::Rendered { pictures: vec![vec![0xff, 0xd8]], luma: Luma { mean: 200, deviation: 3 } },
            Reply::Exact(vec![Err(fault.clone()), Ok(ExactFrame { at_ms: 40, pictures: vec![vec![1]] })]),
            Reply::Pictured { size: (4000, 3000), pictures: vec![vec![1], vec![]] },
            Reply::Failed(fault),
        ] {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
        assert!(Reply::decode(&[9]).is_err());
    }

    #[test]
    fn control_messages_survive_and_other_builds_are_refused() {
        let fork = Fork { memory_max_bytes: 1 << 30 };
        assert_eq!(Fork::decode(&fork.encode()), Ok(fork));
        for forked in [Forked { pid: Some(4711) }, Forked { pid: None }] {
            assert_eq!(Forked::decode(&forked.encode()), Ok(forked));
        }
        let mut other = fork.encode();
        other[7] ^= 1;
        assert!(Fork::decode(&other).is_err());
        assert!(Fork::decode(&fork.encode()[..15]).is_err());
        assert!(Forked::decode(&[]).is_err());
    }
}
