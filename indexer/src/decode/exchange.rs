//! The service's half of the conversation with one worker. It trusts nothing that it reads.
//!
//! A worker has parsed bytes that strangers made, so it may be theirs by now: lengths are bounded before
//! anything is allocated, reads stay inside the file and inside a budget, results are checked against what was
//! asked, and only a few kinds of fault are a worker's to name.

use bytes::{Buf, Bytes};
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::DecoderConfig;
use stills_model::keyframe_index::KeyframeIndex;
use stills_model::rendition::{Format, Rendition};
use stills_model::wire::{MESSAGE_LEN_MAX, PICTURES_MAX, PROTOCOL, READ_LEN_MAX, Reply, Request, SCANNED_LEN_MAX};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Ranges, ScanRequest};

/// Reads of one scan: a day of one-second fragments takes 86,400.
const READS_MAX: u32 = 1 << 18;

/// Bytes that a scan may read beside four times the file: read-ahead in small files.
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
) -> Result<Vec<Bytes>, Ended> {
    let request = Request::encode_render(cpu_ms, config, pieces, renditions);
    if request.len() > MESSAGE_LEN_MAX || renditions.len() > PICTURES_MAX {
        let (len, count) = (request.len(), renditions.len());
        let detail = format!(
            "a keyframe of {len} bytes in {count} renditions; {MESSAGE_LEN_MAX} and {PICTURES_MAX} are allowed"
        );
        return Err(Ended::lives(Fault::new(FaultKind::TooLarge, detail)));
    }
    send(stream, &request, &[]).await?;
    let len_max = renditions.iter().fold(PICTURE_SLACK_BYTES, |sum, rendition| sum.saturating_add(len_max(rendition)));
    match receive(stream, len_max.min(MESSAGE_LEN_MAX)).await? {
        Reply::Rendered { pictures, .. } => check_pictures(pictures, renditions),
        Reply::Failed(fault) => Err(Ended::told(&fault)),
        Reply::Read { .. } | Reply::Scanned(_) | Reply::Exact(_) => Err(Ended::broken("no answer to a render")),
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
    if pictures.len() != renditions.len() {
        return Err(Ended::broken("another count of pictures than asked for"));
    }
    let is_of_its_format = |(picture, rendition): (&Vec<u8>, &Rendition)| match rendition.format {
        Format::Jpeg => picture.starts_with(&[0xff, 0xd8, 0xff]) && picture.ends_with(&[0xff, 0xd9]),
        Format::Png => picture.starts_with(b"\x89PNG\r\n\x1a\n"),
    };
    if !pictures.iter().zip(renditions).all(is_of_its_format) {
        return Err(Ended::broken("a picture that is not of its format"));
    }
    Ok(pictures.into_iter().map(Bytes::from).collect())
}

/// Has the keyframes of `media` found, and answers the worker's reads meanwhile.
pub(super) async fn scan<S: AsyncRead + AsyncWrite + Unpin, R: Ranges>(
    stream: &mut S,
    cpu_ms: u32,
    request: ScanRequest<'_>,
    media: &R,
) -> Result<KeyframeIndex, Ended> {
    let ScanRequest { len, growing, resume } = request;
    send(stream, &Request::Scan { cpu_ms, len, growing, resume: resume.to_vec() }.encode(), &[]).await?;
    answer_reads(stream, media, len, Budget::of(len)).await
}

/// Serves reads until the scan's result is there.
async fn answer_reads<S: AsyncRead + AsyncWrite + Unpin, R: Ranges>(
    stream: &mut S,
    media: &R,
    len: u64,
    mut budget: Budget,
) -> Result<KeyframeIndex, Ended> {
    // What the source said counts, whatever the worker makes of it.
    let mut refused: Option<Fault> = None;
    loop {
        match (receive(stream, SCANNED_LEN_MAX).await?, refused.take()) {
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
                    Ok(bytes) => send(stream, &Request::BYTES_HEAD, &bytes).await?,
                    Err(fault) => {
                        send(stream, &Request::ReadFailed(fault.clone()).encode(), &[]).await?;
                        refused = Some(fault);
                    }
                }
            }
            (Reply::Scanned(_) | Reply::Failed(_), Some(fault)) => return Err(Ended::lives(fault)),
            (Reply::Scanned(index), None) => return check_index(index, len),
            (Reply::Failed(fault), None) => return Err(Ended::told(&fault)),
            (Reply::Rendered { .. } | Reply::Exact(_), _) => return Err(Ended::broken("no answer to a scan")),
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
        let bytes = bytes.ok_or_else(|| Ended::over("the scan read the file more than four times over".to_owned()))?;
        let reads = self.reads.checked_sub(1);
        let reads = reads.ok_or_else(|| Ended::over(format!("the scan took more than {READS_MAX} reads")))?;
        *self = Self { bytes, reads };
        Ok(())
    }
}

/// Writes one message whose body is in two parts.
async fn send<S: AsyncWrite + Unpin>(stream: &mut S, head: &[u8], tail: &[u8]) -> Result<(), Ended> {
    let len = u32::try_from(head.len() + tail.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut message = Buf::chain(len.as_slice(), head).chain(tail);
    stream.write_all_buf(&mut message).await.map_err(|_| Ended::died())
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
mod tests {
    use super::*;
    use stills_model::keyframe::{ByteRange, Codec, Keyframe, Orientation, Packaging};

    const FILE: &[u8] = b"sixteen bytes...";

    /// Serves [`FILE`]; what lies from byte 12 on cannot be read, byte 11 is read short.
    struct Patchy;

    impl Ranges for Patchy {
        async fn read(&self, offset: u64, len: u32) -> Result<Bytes, Fault> {
            let start = usize::try_from(offset).expect("small");
            match start {
                12.. => Err(Fault::new(FaultKind::Gone, "no longer there")),
                11 => Ok(Bytes::new()),
                _ => Ok(Bytes::from_static(&FILE[start..start + len as usize])),
            }
        }
    }

    fn config() -> DecoderConfig {
        DecoderConfig {
            codec: Codec::H264,
            packaging: Packaging::Samples { prefix: vec![] },
            extradata: vec![],
            size: (16, 16),
            sample_aspect: (0, 0),
            orientation: Orientation::default(),
        }
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).expect("small").to_le_bytes(), body].concat()
    }

    /// A worker that says `replies` whatever it is asked, then closes.
    async fn scan_with(replies: Vec<u8>) -> Result<KeyframeIndex, Ended> {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(&replies).await.expect("fits");
        theirs.shutdown().await.expect("shutdown");
        let request = ScanRequest { len: FILE.len() as u64, growing: false, resume: &[] };
        scan(&mut ours, 1000, request, &Patchy).await
    }

    async fn render_with(replies: Vec<u8>) -> Result<Vec<Bytes>, Ended> {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(&replies).await.expect("fits");
        theirs.shutdown().await.expect("shutdown");
        let renditions = [Rendition::thumb(16, 16).expect("size")];
        render(&mut ours, 1000, &config(), &[Bytes::from_static(b"key")], &renditions).await
    }

    fn index(offset: u64) -> KeyframeIndex {
        let ranges = vec![ByteRange { offset, len: 8 }];
        let keyframes = vec![Keyframe { at_ms: 0, config: 0, ranges, gop_bytes: 8 }];
        KeyframeIndex { configs: vec![config()], keyframes, duration_ms: 40, resume: vec![] }
    }

    fn read(offset: u64, len: u32) -> Vec<u8> {
        framed(&Reply::Read { offset, len }.encode())
    }

    fn failed(kind: FaultKind) -> Vec<u8> {
        framed(&Reply::Failed(Fault::new(kind, "bad\nmedia")).encode())
    }

    #[tokio::test]
    async fn scans_are_checked() {
        async fn check(replies: &[Vec<u8>], expected: Result<(), (FaultKind, bool)>) {
            let result = scan_with(replies.concat()).await;
            let seen = result.map(|_| ()).map_err(|ended| (ended.fault.kind, ended.worker_lives));
            assert_eq!(seen, expected, "{replies:?}");
        }
        use FaultKind::{Crashed, Damaged, Gone, Internal, Unreadable};
        let scanned = |offset| framed(&Reply::Scanned(index(offset)).encode());
        check(&[scanned(8)], Ok(())).await;
        check(&[read(0, 11), read(4, 4), scanned(0)], Ok(())).await;
        check(&[scanned(9)], Err((Crashed, false))).await;
        check(&[scanned(u64::MAX - 2)], Err((Crashed, false))).await;
        check(&[failed(Damaged)], Err((Damaged, true))).await;
        check(&[failed(Internal)], Err((Internal, false))).await;
        // Where media is, and who may read it, is not the worker's to say.
        check(&[failed(Gone)], Err((Crashed, false))).await;
        // The source's fault is what counts, and no read follows it.
        check(&[read(12, 1), failed(Damaged)], Err((Gone, true))).await;
        check(&[read(12, 1), scanned(0)], Err((Gone, true))).await;
        check(&[read(11, 1), failed(Gone)], Err((Unreadable, true))).await;
        check(&[read(12, 1), read(0, 1)], Err((Crashed, false))).await;
        // Reads outside the file, of nothing, and of too much.
        check(&[read(9, 8)], Err((Crashed, false))).await;
        check(&[read(u64::MAX, 8)], Err((Crashed, false))).await;
        check(&[read(0, 0)], Err((Crashed, false))).await;
        // Garbage, a lie about the length, half a message, silence, another request's answer.
        check(&[framed(&[77])], Err((Crashed, false))).await;
        check(&[vec![255; 4]], Err((Crashed, false))).await;
        check(&[vec![9, 0, 0, 0, 1]], Err((Crashed, false))).await;
        check(&[], Err((Crashed, false))).await;
        check(&[framed(&Reply::Rendered { pictures: vec![], luma: stills_model::wire::Luma::default() }.encode())], Err((Crashed, false))).await;
    }

    #[tokio::test]
    async fn a_scan_has_a_budget() {
        async fn check(budget: Budget, reads: usize, expected: Option<FaultKind>) {
            let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
            let replies = [vec![self::read(0, 5); reads].concat(), framed(&Reply::Scanned(index(0)).encode())].concat();
            theirs.write_all(&replies).await.expect("fits");
            let result = answer_reads(&mut ours, &Patchy, FILE.len() as u64, budget).await;
            assert_eq!(
                result.err().map(|ended| (ended.fault.kind, ended.worker_lives)),
                expected.map(|kind| (kind, false))
            );
        }
        check(Budget { bytes: 20, reads: 9 }, 4, None).await;
        check(Budget { bytes: 19, reads: 9 }, 4, Some(FaultKind::TooLarge)).await;
        check(Budget { bytes: 99, reads: 3 }, 4, Some(FaultKind::TooLarge)).await;
        assert_eq!(Budget::of(u64::MAX).bytes, u64::MAX);
    }

    #[tokio::test]
    async fn renders_are_checked() {
        async fn check(reply: Vec<u8>, expected: Result<usize, (FaultKind, bool)>) {
            let result = render_with(reply.clone()).await;
            let seen = result.map(|pictures| pictures.len()).map_err(|ended| (ended.fault.kind, ended.worker_lives));
            assert_eq!(seen, expected, "{reply:?}");
        }
        use FaultKind::{Busy, Crashed, Unsupported};
        let jpeg = vec![0xff, 0xd8, 0xff, 0xe0, 0xff, 0xd9];
        let rendered = |pictures| framed(&Reply::Rendered { pictures, luma: stills_model::wire::Luma::default() }.encode());
        check(rendered(vec![jpeg.clone()]), Ok(1)).await;
        check(rendered(vec![]), Err((Crashed, false))).await;
        check(rendered(vec![jpeg.clone(), jpeg.clone()]), Err((Crashed, false))).await;
        check(rendered(vec![b"<script>".to_vec()]), Err((Crashed, false))).await;
        check(rendered(vec![jpeg[..4].to_vec()]), Err((Crashed, false))).await;
        check(failed(Unsupported), Err((Unsupported, true))).await;
        check(failed(Busy), Err((Crashed, false))).await;
        check(read(0, 1), Err((Crashed, false))).await;
        // A 16x16 picture of two hundred thousand bytes is a lie: refused by its announced length alone.
        check(vec![0, 0, 3, 0], Err((Crashed, false))).await;
        check(vec![], Err((Crashed, false))).await;
    }

    #[tokio::test]
    async fn details_are_one_short_line() {
        let fault = Fault::new(FaultKind::Damaged, format!("a\nb{}", "x".repeat(5000)));
        let told = scan_with(framed(&Reply::Failed(fault).encode())).await.expect_err("failed").fault.detail;
        assert!(told.starts_with("a bxx"));
        assert_eq!(told.chars().count(), DETAIL_LEN_MAX);
    }

    #[tokio::test]
    async fn another_build_is_refused() {
        for (theirs_say, fine) in [(&b"stills01"[..], true), (b"stills00", false), (b"stil", false)] {
            let (mut ours, mut theirs) = tokio::io::duplex(64);
            theirs.write_all(theirs_say).await.expect("fits");
            theirs.shutdown().await.expect("shutdown");
            assert_eq!(greet(&mut ours).await.is_ok(), fine);
        }
    }
}
