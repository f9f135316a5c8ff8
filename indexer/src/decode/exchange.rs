//! The service's half of the conversation with one worker. It trusts nothing that it reads.
//!
//! A worker has parsed bytes that strangers made, so it may be theirs by now: lengths are bounded before
//! anything is allocated, reads stay inside the file and inside a budget, results are checked against what was
//! asked, and only a few kinds of fault are a worker's to name.

use std::io::IoSlice;

use bytes::Bytes;
use stills_model::clip::{ClipFound, ClipQuery, ClipShown, KeyframeBytes};
use stills_model::exact::{ExactFrame, ExactQuery};
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::DecoderConfig;
use stills_model::keyframe_index::KeyframeIndex;
use stills_model::leap::Scanned;
use stills_model::rendition::{Format, Rendition};
use stills_model::time::TIMESTAMP_MAX_MS;
use stills_model::wire::{MESSAGE_LEN_MAX, PICTURES_MAX, PROTOCOL, READ_LEN_MAX, Reply, Request, SCANNED_LEN_MAX};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Frame, Pictured, Ranges, Rendered, ScanRequest};

/// Reads of one scan or search for frames: a day of one-second fragments takes 86,400.
const READS_MAX: u32 = 1 << 18;

/// Bytes that either may read beside four times the file: read-ahead in small files.
const READ_SLACK_BYTES: u64 = 64 * 1024 * 1024;

/// What a picture may take beside four bytes for each of its pixels.
const PICTURE_SLACK_BYTES: usize = 64 * 1024;

/// The longest sentence that a worker may say, in characters.
const DETAIL_LEN_MAX: usize = 300;

/// How an exchange ended when it gave no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) fault: Fault,
    /// The worker kept to the protocol and waits for the next request; else it has to go.
    pub(super) worker_lives: bool,
}

impl Ended {
    fn died() -> Self {
        Self { fault: Fault::new(FaultKind::Crashed, "the decoder died on it"), worker_lives: false }
    }

    fn broken(rule: &str) -> Self {
        let detail = format!("the decoder broke its protocol: {rule}");
        Self { fault: Fault::new(FaultKind::Crashed, detail), worker_lives: false }
    }

    fn over(limit: String) -> Self {
        Self { fault: Fault::new(FaultKind::TooLarge, limit), worker_lives: false }
    }

    fn lives(fault: Fault) -> Self {
        Self { fault, worker_lives: true }
    }

    /// A fault that the worker named. It saw bytes alone: where they came from is not its to judge.
    fn told(fault: &Fault) -> Self {
        let lives = match fault.kind {
            FaultKind::Unsupported | FaultKind::Damaged | FaultKind::TooLarge | FaultKind::Changed => true,
            FaultKind::Internal => false,
            _ => return Self::broken("a fault that is not a decoder's"),
        };
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let detail = fault.detail.chars().take(DETAIL_LEN_MAX).map(plain).collect::<String>();
        Self { fault: Fault::new(fault.kind, detail), worker_lives: lives }
    }
}

/// Exchanges the protocol's name with a fresh worker, which says it when its limits are in place.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<(), Ended> {
    let mut theirs = [0; PROTOCOL.len()];
    stream.read_exact(&mut theirs).await.map_err(|_| Ended::died())?;
    if theirs != *PROTOCOL {
        return Err(Ended::broken("it is of another build"));
    }
    stream.write_all(PROTOCOL).await.map_err(|_| Ended::died())
}

/// Has one keyframe shown in all of `renditions`.
pub(super) async fn render<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    cpu_ms: u32,
    config: &DecoderConfig,
    pieces: &[Bytes],
    renditions: &[Rendition],
) -> Result<Rendered, Ended> {
    let head = Request::encode_render_head(cpu_ms, config, pieces, renditions);
    let len = pieces.iter().fold(head.len(), |len, piece| len.saturating_add(piece.len()));
    if len > MESSAGE_LEN_MAX || renditions.len() > PICTURES_MAX {
        let count = renditions.len();
        let detail = format!(
            "a keyframe of {len} bytes in {count} renditions; {MESSAGE_LEN_MAX} and {PICTURES_MAX} are allowed"
        );
        return Err(Ended::lives(Fault::new(FaultKind::TooLarge, detail)));
    }
    let pieces: Vec<&[u8]> = pieces.iter().map(AsRef::as_ref).collect();
    send(stream, &head, &pieces).await?;
    let len_max = renditions.iter().fold(PICTURE_SLACK_BYTES, |sum, rendition| sum.saturating_add(len_max(rendition)));
    match receive(stream, len_max.min(MESSAGE_LEN_MAX)).await? {
        Reply::Rendered { pictures, luma } => Ok(Rendered { pictures: check_pictures(pictures, renditions)?, luma }),
        Reply::Failed(fault) => Err(Ended::told(&fault)),
        _ => Err(Ended::broken("no answer to a render")),
    }
}

/// Has an image file shown in all of `renditions`.
pub(super) async fn picture<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    cpu_ms: u32,
    pixels_max: u64,
    file: &[u8],
    renditions: &[Rendition],
) -> Result<Pictured, Ended> {
    let head = Request::picture_head(cpu_ms, pixels_max, renditions);
    if head.len().saturating_add(file.len()) > MESSAGE_LEN_MAX || renditions.len() > PICTURES_MAX {
        let (len, count) = (file.len(), renditions.len());
        let detail =
            format!("an image of {len} bytes in {count} renditions; {MESSAGE_LEN_MAX} and {PICTURES_MAX} are allowed");
        return Err(Ended::lives(Fault::new(FaultKind::TooLarge, detail)));
    }
    send(stream, &head, &[file]).await?;
    let reply_len_max = renditions.iter().fold(PICTURE_SLACK_BYTES, |sum, one| sum.saturating_add(len_max(one)));
    match receive(stream, reply_len_max.min(MESSAGE_LEN_MAX)).await? {
        Reply::Pictured { size, pictures } => {
            let pixels = u64::from(size.0) * u64::from(size.1);
            if pixels == 0 || pixels > pixels_max {
                return Err(Ended::broken("an image of a size that was not allowed"));
            }
            Ok(Pictured { size, pictures: check_pictures(pictures, renditions)? })
        }
        Reply::Failed(fault) => Err(Ended::told(&fault)),
        _ => Err(Ended::broken("no answer to an image")),
    }
}

/// The most bytes that a picture of this rendition may take.
fn len_max(rendition: &Rendition) -> usize {
    match usize::from(rendition.width) * usize::from(rendition.height) {
        0 => MESSAGE_LEN_MAX,
        pixels => pixels * 4 + PICTURE_SLACK_BYTES,
    }
}

fn check_pictures(pictures: Vec<Vec<u8>>, renditions: &[Rendition]) -> Result<Vec<Bytes>, Ended> {
    are_of_their_formats(&pictures, renditions)?;
    Ok(pictures.into_iter().map(Bytes::from).collect())
}

fn are_of_their_formats(pictures: &[Vec<u8>], renditions: &[Rendition]) -> Result<(), Ended> {
    if pictures.len() != renditions.len() {
        return Err(Ended::broken("another count of pictures than asked for"));
    }
    let is_of_its_format = |(picture, rendition): (&Vec<u8>, &Rendition)| match rendition.format {
        Format::Jpeg => picture.starts_with(&[0xff, 0xd8, 0xff]) && picture.ends_with(&[0xff, 0xd9]),
        Format::Png => picture.starts_with(b"\x89PNG\r\n\x1a\n"),
        Format::WebP => picture.starts_with(b"RIFF") && picture.get(8..12) == Some(b"WEBP"),
    };
    if !pictures.iter().zip(renditions).all(is_of_its_format) {
        return Err(Ended::broken("a picture that is not of its format"));
    }
    Ok(())
}

/// Has the keyframes of `media` found, and answers the worker's reads meanwhile.
pub(super) async fn scan<S: AsyncRead + AsyncWrite + Unpin, R: Ranges>(
    stream: &mut S,
    cpu_ms: u32,
    request: ScanRequest<'_>,
    media: &R,
) -> Result<Scanned, Ended> {
    let ScanRequest { len, growing, resume } = request;
    send(stream, &Request::Scan { cpu_ms, len, growing, resume: resume.to_vec() }.encode(), &[]).await?;
    match answer_reads(stream, media, len, Budget::of(len), SCANNED_LEN_MAX).await? {
        Reply::Scanned(Scanned { index, leaps }) => Ok(Scanned { index: check_index(index, len)?, leaps }),
        Reply::Failed(fault) => Err(Ended::told(&fault)),
        _ => Err(Ended::broken("no answer to a scan")),
    }
}

/// Has the frames nearest to the query's instants shown, and answers the worker's reads meanwhile.
pub(super) async fn exact<S: AsyncRead + AsyncWrite + Unpin, R: Ranges>(
    stream: &mut S,
    cpu_ms: u32,
    query: ExactQuery,
    media: &R,
) -> Result<Vec<Result<Frame, Fault>>, Ended> {
    let (len, count, renditions) = (query.len, query.instants_ms.len(), query.renditions.clone());
    if count.saturating_mul(renditions.len().max(1)) > PICTURES_MAX {
        let detail =
            format!("{count} instants in {} renditions; {PICTURES_MAX} pictures are allowed", renditions.len());
        return Err(Ended::lives(Fault::new(FaultKind::TooLarge, detail)));
    }
    send(stream, &Request::Exact { cpu_ms, query }.encode(), &[]).await?;
    let each = renditions.iter().fold(PICTURE_SLACK_BYTES, |sum, rendition| sum.saturating_add(len_max(rendition)));
    let reply_len_max = each.saturating_mul(count.max(1)).min(MESSAGE_LEN_MAX);
    match answer_reads(stream, media, len, Budget::of(len), reply_len_max).await? {
        Reply::Exact(answers) if answers.len() == count => {
            answers.into_iter().map(|answer| check_answer(answer, &renditions)).collect()
        }
        Reply::Exact(_) => Err(Ended::broken("another count of frames than asked for")),
        Reply::Failed(fault) => Err(Ended::told(&fault)),
        _ => Err(Ended::broken("no answer to a search for frames")),
    }
}

/// Has a picture of a clip, or the list of its keyframes, found, and answers the worker's reads meanwhile.
pub(super) async fn clip<S: AsyncRead + AsyncWrite + Unpin, R: Ranges>(
    stream: &mut S,
    cpu_ms: u32,
    query: ClipQuery,
    media: &R,
) -> Result<ClipFound, Ended> {
    let (len, renditions) = (query.len, query.renditions.clone());
    send(stream, &Request::Clip { cpu_ms, query }.encode(), &[]).await?;
    match answer_reads(stream, media, len, Budget::of(len), MESSAGE_LEN_MAX).await? {
        Reply::Clip(ClipFound::Listed(index)) => check_index(index, len).map(ClipFound::Listed),
        Reply::Clip(ClipFound::Shown(shown)) => check_shown(shown, len, &renditions).map(ClipFound::Shown),
        Reply::Failed(fault) => Err(Ended::told(&fault)),
        _ => Err(Ended::broken("no answer to a search in a clip")),
    }
}

/// A picture of a clip, its keyframe inside the file.
fn check_shown(shown: ClipShown, len: u64, renditions: &[Rendition]) -> Result<ClipShown, Ended> {
    if let KeyframeBytes::Ranges(ranges) = &shown.keyframe
        && ranges.iter().any(|range| range.end() > len)
    {
        return Err(Ended::broken("a keyframe outside the file"));
    }
    if shown.at_ms.unsigned_abs() > TIMESTAMP_MAX_MS.unsigned_abs() {
        return Err(Ended::broken("a frame at an instant that cannot be"));
    }
    are_of_their_formats(&shown.pictures, renditions)?;
    Ok(shown)
}

/// A frame in all renditions asked for, or a fault that is a worker's to name.
fn check_answer(answer: Result<ExactFrame, Fault>, renditions: &[Rendition]) -> Result<Result<Frame, Fault>, Ended> {
    match answer {
        Ok(ExactFrame { at_ms, pictures }) => {
            if at_ms.unsigned_abs() > TIMESTAMP_MAX_MS.unsigned_abs() {
                return Err(Ended::broken("a frame at an instant that cannot be"));
            }
            Ok(Ok(Frame { at_ms, pictures: check_pictures(pictures, renditions)? }))
        }
        Err(fault) => match Ended::told(&fault) {
            Ended { fault, worker_lives: true } => Ok(Err(fault)),
            ended => Err(ended),
        },
    }
}

/// Serves reads until the worker has another thing to say.
async fn answer_reads<S: AsyncRead + AsyncWrite + Unpin, R: Ranges>(
    stream: &mut S,
    media: &R,
    len: u64,
    mut budget: Budget,
    reply_len_max: usize,
) -> Result<Reply, Ended> {
    // What the source said counts, whatever the worker makes of it.
    let mut refused: Option<Fault> = None;
    loop {
        match (receive(stream, reply_len_max).await?, refused.take()) {
            (Reply::Read { .. }, Some(_)) => return Err(Ended::broken("a read after one that failed")),
            (Reply::Read { offset, len: wanted }, None) => {
                let inside = offset.checked_add(wanted.into()).is_some_and(|end| end <= len);
                if wanted == 0 || wanted > READ_LEN_MAX || !inside {
                    return Err(Ended::broken("a read outside the file or over its limit"));
                }
                budget.spend(wanted)?;
                let bytes = tokio::select! {
                    biased;
                    bytes = read(media, offset, wanted) => bytes,
                    // While it waits for bytes a worker is silent; a dead one need not be waited for.
                    spoken = stream.read_u8() => {
                        return Err(if spoken.is_ok() { Ended::broken("it spoke out of turn") } else { Ended::died() });
                    }
                };
                match bytes {
                    Ok(bytes) => send(stream, &Request::BYTES_HEAD, &[&bytes]).await?,
                    Err(fault) => {
                        send(stream, &Request::ReadFailed(fault.clone()).encode(), &[]).await?;
                        refused = Some(fault);
                    }
                }
            }
            (_, Some(fault)) => return Err(Ended::lives(fault)),
            (reply, None) => return Ok(reply),
        }
    }
}

async fn read<R: Ranges>(media: &R, offset: u64, wanted: u32) -> Result<Bytes, Fault> {
    let bytes = media.read(offset, wanted).await?;
    if bytes.len() == wanted as usize {
        return Ok(bytes);
    }
    let detail = format!("the media's place gave {} bytes where {wanted} were asked for", bytes.len());
    Err(Fault::new(FaultKind::Unreadable, detail))
}

/// Keyframes lie inside the file. (Their order and their configurations were checked in decoding.)
fn check_index(index: KeyframeIndex, len: u64) -> Result<KeyframeIndex, Ended> {
    let inside = index.keyframes.iter().flat_map(|keyframe| &keyframe.ranges).all(|range| range.end() <= len);
    if inside { Ok(index) } else { Err(Ended::broken("a keyframe outside the file")) }
}

/// What a scan may still read.
struct Budget {
    bytes: u64,
    reads: u32,
}

impl Budget {
    fn of(len: u64) -> Self {
        Self { bytes: len.saturating_mul(4).saturating_add(READ_SLACK_BYTES), reads: READS_MAX }
    }

    fn spend(&mut self, len: u32) -> Result<(), Ended> {
        let bytes = self.bytes.checked_sub(len.into());
        let bytes =
            bytes.ok_or_else(|| Ended::over("the decoder read the file more than four times over".to_owned()))?;
        let reads = self.reads.checked_sub(1);
        let reads = reads.ok_or_else(|| Ended::over(format!("the decoder took more than {READS_MAX} reads")))?;
        *self = Self { bytes, reads };
        Ok(())
    }
}

/// Writes one message, whose body is `head` and then `tail`, in as few system calls as the socket takes it.
async fn send<S: AsyncWrite + Unpin>(stream: &mut S, head: &[u8], tail: &[&[u8]]) -> Result<(), Ended> {
    let len = tail.iter().fold(head.len(), |len, part| len.saturating_add(part.len()));
    let len = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    let parts = [&len, head].into_iter().chain(tail.iter().copied());
    let mut parts: Vec<IoSlice<'_>> = parts.filter(|part| !part.is_empty()).map(IoSlice::new).collect();
    let mut left = &mut parts[..];
    while !left.is_empty() {
        match stream.write_vectored(left).await {
            Ok(0) | Err(_) => return Err(Ended::died()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
        }
    }
    Ok(())
}

/// Reads one message of at most `len_max` bytes; memory grows with what comes, not with what is announced.
async fn receive<S: AsyncRead + Unpin>(stream: &mut S, len_max: usize) -> Result<Reply, Ended> {
    let len = stream.read_u32_le().await.map_err(|_| Ended::died())?;
    if len as usize > len_max {
        return Err(Ended::broken("a message over its limit"));
    }
    let mut body = Vec::with_capacity((len as usize).min(64 * 1024));
    let got = stream.take(len.into()).read_to_end(&mut body).await.map_err(|_| Ended::died())?;
    if got < len as usize {
        return Err(Ended::died());
    }
    Reply::decode(&body).map_err(|_| Ended::broken("a malformed message"))
}

#[cfg(test)]
mod tests;
