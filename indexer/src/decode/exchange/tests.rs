//! The exchange against workers that follow the protocol, break it, lie or die.

use super::*;
use stills_model::keyframe::{ByteRange, Codec, Keyframe, Orientation, Packaging};
use stills_model::wire::Luma;

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
async fn scan_with(replies: Vec<u8>) -> Result<Scanned, Ended> {
    let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
    theirs.write_all(&replies).await.expect("fits");
    theirs.shutdown().await.expect("shutdown");
    let request = ScanRequest { len: FILE.len() as u64, growing: false, resume: &[] };
    scan(&mut ours, 1000, request, &Patchy).await
}

async fn render_with(replies: Vec<u8>) -> Result<Rendered, Ended> {
    let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
    theirs.write_all(&replies).await.expect("fits");
    theirs.shutdown().await.expect("shutdown");
    let renditions = [Rendition::thumb(16, 16).expect("size")];
    render(&mut ours, 1000, &config(), &[Bytes::from_static(b"key")], &renditions).await
}

fn rendered(pictures: Vec<Vec<u8>>) -> Vec<u8> {
    Reply::Rendered { pictures, luma: Luma::default() }.encode()
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
    let scanned = |offset| framed(&Reply::Scanned(index(offset).into()).encode());
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
    check(&[framed(&rendered(vec![]))], Err((Crashed, false))).await;
    check(&[framed(&Reply::Exact(vec![]).encode())], Err((Crashed, false))).await;
}

#[tokio::test]
async fn a_scan_has_a_budget() {
    async fn check(budget: Budget, reads: usize, expected: Option<FaultKind>) {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        let replies =
            [vec![self::read(0, 5); reads].concat(), framed(&Reply::Scanned(index(0).into()).encode())].concat();
        theirs.write_all(&replies).await.expect("fits");
        let result = answer_reads(&mut ours, &Patchy, FILE.len() as u64, budget, 4096).await;
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
        let seen =
            result.map(|rendered| rendered.pictures.len()).map_err(|ended| (ended.fault.kind, ended.worker_lives));
        assert_eq!(seen, expected, "{reply:?}");
    }
    use FaultKind::{Busy, Crashed, Unsupported};
    let jpeg = vec![0xff, 0xd8, 0xff, 0xe0, 0xff, 0xd9];
    let rendered = |pictures| framed(&rendered(pictures));
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

/// Asks for the frames at two instants.
async fn exact_with(replies: Vec<u8>) -> Result<Vec<Result<Frame, Fault>>, Ended> {
    let (mut ours, mut theirs) = tokio::io::duplex(1 << 18);
    theirs.write_all(&replies).await.expect("fits");
    theirs.shutdown().await.expect("shutdown");
    let query = ExactQuery {
        len: FILE.len() as u64,
        growing: false,
        from_ms: 0,
        ranges: vec![ByteRange { offset: 0, len: 8 }],
        config: config(),
        instants_ms: vec![7, 50],
        frames_max: 600,
        renditions: vec![Rendition::thumb(16, 16).expect("size")],
    };
    exact(&mut ours, 1000, query, &Patchy).await
}

#[tokio::test]
async fn exact_frames_are_checked() {
    use FaultKind::{Busy, Crashed, Damaged, Gone, TooLarge};
    type Seen = Result<Vec<Result<i64, FaultKind>>, (FaultKind, bool)>;
    async fn check(replies: &[Vec<u8>], expected: Seen) {
        let result = exact_with(replies.concat()).await;
        let of = |answer: Result<Frame, Fault>| answer.map(|frame| frame.at_ms).map_err(|fault| fault.kind);
        let seen = result.map(|answers| answers.into_iter().map(of).collect());
        assert_eq!(seen.map_err(|ended| (ended.fault.kind, ended.worker_lives)), expected, "{replies:?}");
    }
    let frame = |at_ms: i64, picture: &[u8]| Ok(ExactFrame { at_ms, pictures: vec![picture.to_vec()] });
    let fine = |at_ms: i64| frame(at_ms, &[0xff, 0xd8, 0xff, 0xe0, 0xff, 0xd9]);
    let failed = |kind: FaultKind| Err(Fault::new(kind, "no frame"));
    let exact = |answers: &[Result<ExactFrame, Fault>]| framed(&Reply::Exact(answers.to_vec()).encode());
    check(&[exact(&[fine(0), fine(40)])], Ok(vec![Ok(0), Ok(40)])).await;
    check(&[read(0, 11), exact(&[fine(-40), failed(TooLarge)])], Ok(vec![Ok(-40), Err(TooLarge)])).await;
    let broken = || Err((Crashed, false));
    check(&[exact(&[fine(0)])], broken()).await;
    check(&[exact(&[fine(0), fine(1), fine(2)])], broken()).await;
    check(&[exact(&[fine(0), frame(1, b"<script>")])], broken()).await;
    check(&[exact(&[fine(0), Ok(ExactFrame { at_ms: 1, pictures: vec![] })])], broken()).await;
    check(&[exact(&[fine(0), fine(i64::MIN)])], broken()).await;
    check(&[exact(&[fine(0), failed(Busy)])], broken()).await;
    check(&[read(16, 1)], broken()).await;
    check(&[framed(&rendered(vec![]))], broken()).await;
    check(&[framed(&Reply::Scanned(index(0).into()).encode())], broken()).await;
    check(&[framed(&Reply::Failed(Fault::new(Damaged, "bad")).encode())], Err((Damaged, true))).await;
    check(&[read(12, 1), exact(&[fine(0), fine(40)])], Err((Gone, true))).await;
}

#[tokio::test]
async fn more_pictures_than_a_message_holds_are_not_asked_for() {
    let query = |instants: usize, renditions: usize| ExactQuery {
        len: 1,
        growing: false,
        from_ms: 0,
        ranges: vec![],
        config: config(),
        instants_ms: vec![0; instants],
        frames_max: 1,
        renditions: vec![Rendition::thumb(16, 16).expect("size"); renditions],
    };
    for (instants, renditions) in [(PICTURES_MAX + 1, 1), (33, 2), (PICTURES_MAX + 1, 0)] {
        let ended = exact(&mut tokio::io::empty(), 1, query(instants, renditions), &Patchy).await;
        assert_eq!(ended.map_err(|ended| (ended.fault.kind, ended.worker_lives)), Err((FaultKind::TooLarge, true)));
    }
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
    for (theirs_say, fine) in [(&PROTOCOL[..], true), (b"stills01", false), (b"stil", false)] {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(theirs_say).await.expect("fits");
        theirs.shutdown().await.expect("shutdown");
        assert_eq!(greet(&mut ours).await.is_ok(), fine);
    }
}

#[tokio::test]
async fn images_are_checked() {
    async fn check(reply: Reply, expected: Result<(), (FaultKind, bool)>) {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(&framed(&reply.encode())).await.expect("fits");
        theirs.shutdown().await.expect("shutdown");
        let one = Rendition::thumb(16, 16).expect("size");
        let renditions = [one, Rendition { format: Format::WebP, ..one }];
        let result = picture(&mut ours, 1000, 100, b"file", &renditions).await;
        let seen = result.map(|_| ()).map_err(|ended| (ended.fault.kind, ended.worker_lives));
        assert_eq!(seen, expected, "{reply:?}");
    }
    let (jpeg, webp) = (b"\xff\xd8\xff\xd9".to_vec(), b"RIFF\0\0\0\0WEBP".to_vec());
    let jpeg = [&jpeg[..3], b"\0", &jpeg[2..]].concat();
    let pictured = |size, pictures: &[&Vec<u8>]| Reply::Pictured {
        size,
        pictures: pictures.iter().map(|picture| (*picture).clone()).collect(),
    };
    let broken = Err((FaultKind::Crashed, false));
    check(pictured((10, 10), &[&jpeg, &webp]), Ok(())).await;
    check(pictured((10, 11), &[&jpeg, &webp]), broken).await;
    check(pictured((0, 10), &[&jpeg, &webp]), broken).await;
    check(pictured((u32::MAX, u32::MAX), &[&jpeg, &webp]), broken).await;
    check(pictured((10, 10), &[&webp, &jpeg]), broken).await;
    check(pictured((10, 10), &[&jpeg]), broken).await;
    check(Reply::Scanned(Scanned::default()), broken).await;
    check(Reply::Failed(Fault::new(FaultKind::TooLarge, "large")), Err((FaultKind::TooLarge, true))).await;
    check(Reply::Failed(Fault::new(FaultKind::Gone, "gone")), broken).await;
}
