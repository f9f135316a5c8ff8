//! Ranged reads over HTTP: what good servers cost, and what bad ones give.

use std::time::Duration;

use stills_indexer::source::{Media, Source, Wanted};
use stills_model::fault::{Fault, FaultKind};

use crate::server::{Asked, Ending, Reply, Server};
use crate::sources::{Setup, USER, content, range, wanted};

const LOCAL: &str = "127.0.0.1";
const LEN: usize = 300_000;

fn source(dir: &tempfile::TempDir) -> Source {
    Setup::default().source(dir)
}

fn slice(body: &[u8], offset: usize, len: usize) -> &[u8] {
    &body[offset..offset + len]
}

#[tokio::test]
async fn ranges_cost_what_they_are() {
    let dir = tempfile::tempdir().expect("dir");
    let body = content(LEN);
    let served = body.clone();
    let server = Server::start(LOCAL, move |asked: &Asked, _| Reply::object(asked, &served, "\"a\"")).await;
    let url = server.url("/cam%201/1.mp4?token=x%2Fy");
    let media = source(&dir).open(wanted(&url)).await.expect("open");
    assert_eq!(media.len(), LEN as u64);
    // The head came with opening.
    assert_eq!(media.read(range(0, 16)).await.expect("head"), slice(&body, 0, 16));
    assert_eq!(media.read(range(60_000, 5_536)).await.expect("head"), slice(&body, 60_000, 5_536));
    assert_eq!(media.read(range(7, 0)).await.expect("nothing"), &[][..]);
    assert_eq!(server.asked().len(), 1);
    // Near ones share a request, far ones do not.
    let ranges = [range(250_000, 100), range(70_000, 10), range(70_100, 500), range(299_999, 1)];
    let pieces = media.read_ranges(&ranges).await.expect("pieces");
    let expected = [(250_000, 100), (70_000, 10), (70_100, 500), (299_999, 1)];
    for (piece, (offset, len)) in pieces.iter().zip(expected) {
        assert_eq!(*piece, slice(&body, offset, len));
    }
    let asked = server.asked();
    let asked_ranges: Vec<_> = asked.iter().map(|asked| asked.range).collect();
    assert_eq!(asked_ranges, [Some((0, 65_535)), Some((70_000, 70_599)), Some((250_000, 299_999))]);
    assert!(asked.iter().all(|asked| asked.method == "GET" && asked.path == "/cam%201/1.mp4?token=x%2Fy"));
    assert_eq!(asked[0].if_match, None);
    assert!(asked[1..].iter().all(|asked| asked.if_match.as_deref() == Some("\"a\"")));
    assert_eq!(server.body_bytes(), 65_536 + 600 + 50_000);
    assert_eq!(server.connections(), 1, "one connection carries all");
    media.unchanged().await.expect("unchanged");
    let kind = |read: Result<bytes::Bytes, Fault>| read.map_err(|fault| fault.kind);
    assert_eq!(kind(media.read(range(LEN as u64 - 1, 2)).await), Err(FaultKind::Changed));
    assert_eq!(kind(media.read(range(LEN as u64 + 5, 2)).await), Err(FaultKind::Changed));
    assert_eq!(kind(media.read(range(u64::MAX, 2)).await), Err(FaultKind::Changed));
    assert_eq!(kind(media.read(range(0, u32::MAX)).await), Err(FaultKind::TooLarge));
}

#[tokio::test]
async fn what_was_indexed_opens_without_a_request() {
    let dir = tempfile::tempdir().expect("dir");
    let body = content(LEN);
    let served = body.clone();
    let server = Server::start(LOCAL, move |asked: &Asked, _| Reply::object(asked, &served, "\"a\"")).await;
    let url = server.url("/1.mp4");
    let media = source(&dir).open_indexed(wanted(&url), LEN as u64).await.expect("open");
    assert_eq!((media.len(), server.asked().len()), (LEN as u64, 0));
    assert_eq!(media.read(range(1000, 50)).await.expect("read"), slice(&body, 1000, 50));
    assert_eq!((server.asked().len(), server.body_bytes()), (1, 50));
}

/// Opens and reads a range past the head from a server that answers its first request well, and then `reply`.
async fn read_after(reply: impl Fn(&Asked, &[u8]) -> Reply + Send + Sync + 'static) -> Result<bytes::Bytes, Fault> {
    let dir = tempfile::tempdir().expect("dir");
    let body = content(LEN);
    let behaviour = move |asked: &Asked, n: usize| match n {
        0 => Reply::object(asked, &body, "\"a\""),
        _ => reply(asked, &body),
    };
    let server = Server::start(LOCAL, behaviour).await;
    let media: Media = source(&dir).open(wanted(&server.url("/1.mp4"))).await.expect("open");
    media.read(range(100_000, 1000)).await
}

async fn check(reply: impl Fn(&Asked, &[u8]) -> Reply + Send + Sync + 'static, kind: FaultKind, detail: &str) {
    let fault = read_after(reply).await.expect_err(detail);
    assert_eq!(fault.kind, kind, "{fault}");
    assert!(fault.detail.contains(detail), "{fault} / {detail}");
    assert!(!fault.detail.contains("127.0.0.1") && !fault.detail.contains("http"), "{fault}");
}

fn good(asked: &Asked, body: &[u8]) -> Reply {
    Reply::object(asked, body, "\"a\"")
}

#[tokio::test]
async fn statuses_become_faults() {
    use FaultKind::{Changed, Gone, Unreadable};
    check(|_, _| Reply::status(404), Gone, "no longer").await;
    check(|_, _| Reply::status(410), Gone, "no longer").await;
    check(|_, _| Reply::status(401), Unreadable, "refuses").await;
    check(|_, _| Reply::status(403), Unreadable, "refuses").await;
    check(|_, _| Reply::status(412), Changed, "changed").await;
    check(|_, _| Reply::status(416), Changed, "shorter").await;
    check(|_, _| Reply::status(429), Unreadable, "429").await;
    check(|_, _| Reply::status(503), Unreadable, "503").await;
    check(|_, _| Reply::status(204), Unreadable, "204").await;
    check(|_, _| Reply::status(302), Unreadable, "redirects").await;
    let no_bucket = |_: &Asked, _: &[u8]| Reply {
        body: b"<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code></Error>".to_vec(),
        ..Reply::status(404)
    };
    check(no_bucket, Unreadable, "bucket").await;
}

#[tokio::test]
async fn servers_that_lie_are_told_from_good_ones() {
    use FaultKind::{Changed, Unreadable};
    let whole = |_: &Asked, body: &[u8]| Reply { body: body.to_vec(), ..Reply::status(200) };
    check(whole, Unreadable, "requests for ranges").await;
    let with_range = |range: &'static str, len: usize| {
        move |_: &Asked, body: &[u8]| {
            let reply = Reply { body: body[..len].to_vec(), ..Reply::status(206) };
            reply.with("ETag", "\"a\"").with("Content-Range", range)
        }
    };
    check(with_range("bytes 0-999/300000", 1000), Unreadable, "other bytes").await;
    check(with_range("bytes 100000-101000/300000", 1001), Unreadable, "other bytes").await;
    check(with_range("bytes 100000-100999/300000", 500), Unreadable, "other bytes").await;
    check(with_range("bytes 100000-100999/300000", 1500), Unreadable, "other bytes").await;
    check(with_range("bytes 100000-100499/300000", 500), Unreadable, "fewer bytes").await;
    check(with_range("bytes 100000-100499/100500", 500), Changed, "changed").await;
    check(with_range("nonsense", 1000), Unreadable, "other bytes").await;
    check(|_, body| Reply { body: body[..1000].to_vec(), ..Reply::status(206) }, Unreadable, "other bytes").await;
    check(|asked, body| good(asked, body).with("Content-Encoding", "gzip"), Unreadable, "compressed").await;
    check(|asked, body| Reply { ending: Ending::CutAt(400), ..good(asked, body) }, Unreadable, "broke off").await;
    check(
        |asked, body| Reply { said_len: Some(5000), ending: Ending::Close, ..good(asked, body) },
        Unreadable,
        "broke off",
    )
    .await;
}

#[tokio::test]
async fn servers_that_wait_are_left() {
    use FaultKind::Unreadable;
    check(|asked, body| Reply { ending: Ending::Silence, ..good(asked, body) }, Unreadable, "silent").await;
    check(|asked, body| Reply { ending: Ending::StallAt(400), ..good(asked, body) }, Unreadable, "silent").await;
    let drip = Ending::Drip(1, Duration::from_millis(50));
    check(move |asked, body| Reply { ending: drip, ..good(asked, body) }, Unreadable, "too slow").await;
}

#[tokio::test]
async fn media_that_changes_is_told() {
    use FaultKind::Changed;
    let other = content(LEN + 1);
    // With a check of its own, without one, and where only the length tells.
    check(|asked, body| Reply::object(asked, body, "\"b\""), Changed, "changed").await;
    let heedless =
        |asked: &Asked, body: &[u8]| Reply::object(&Asked { if_match: None, ..asked.clone() }, body, "\"b\"");
    check(heedless, Changed, "changed").await;
    check(move |asked, _| Reply::object(asked, &other, "\"a\""), Changed, "changed").await;
}

#[tokio::test]
async fn a_growing_recording_may_change_while_it_is_read() {
    let dir = tempfile::tempdir().expect("dir");
    let body = content(LEN);
    let behaviour =
        move |asked: &Asked, n: usize| Reply::object(asked, &body[..LEN / 2 + n * 1000], &format!("\"{n}\""));
    let server = Server::start(LOCAL, behaviour).await;
    let url = server.url("/1.mp4");
    let growing = Wanted { is_growing: true, ..wanted(&url) };
    let media = Setup { is_whole: true, ..Setup::default() }.source(&dir).open(growing).await.expect("open");
    assert!(!media.is_whole(), "it would have to be fetched again for each event");
    assert_eq!(media.read(range(150_000, 500)).await.expect("read"), slice(&content(LEN), 150_000, 500));
}

#[tokio::test]
async fn failures_of_the_server_are_asked_again_a_few_times() {
    let dir = tempfile::tempdir().expect("dir");
    let body = content(LEN);
    let behaviour = move |asked: &Asked, n: usize| match n {
        0 | 1 => Reply::status(503),
        _ => good(asked, &body),
    };
    let server = Server::start(LOCAL, behaviour).await;
    source(&dir).open(wanted(&server.url("/1.mp4"))).await.expect("the third time");
    assert_eq!(server.asked().len(), 3);
    let server = Server::start(LOCAL, |_, _| Reply::status(500)).await;
    source(&dir).open(wanted(&server.url("/1.mp4"))).await.expect_err("never");
    assert_eq!(server.asked().len(), 3);
    let server = Server::start(LOCAL, |_, _| Reply::status(404)).await;
    source(&dir).open(wanted(&server.url("/1.mp4"))).await.expect_err("gone");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn whole_is_one_request_for_everyone_who_reads_meanwhile() {
    let dir = tempfile::tempdir().expect("dir");
    let body = content(5_000_000);
    let served = body.clone();
    let server = Server::start(LOCAL, move |asked: &Asked, _| good(asked, &served)).await;
    let source = Setup { is_whole: true, ..Setup::default() }.source(&dir);
    let url = server.url("/1.mp4");
    let held = source.open(wanted(&url)).await.expect("open");
    assert!(held.is_whole());
    assert_eq!(held.len(), 5_000_000);
    let other = source.open_indexed(wanted(&url), 5_000_000).await.expect("open");
    for media in [&held, &other] {
        for (offset, len) in [(0, 10), (4_999_990, 10), (1_048_570, 100), (0, 5_000_000)] {
            let read = media.read(range(offset as u64, u32::try_from(len).expect("small"))).await.expect("read");
            assert_eq!(read, slice(&body, offset, len));
        }
        let past = media.read(range(4_999_999, 2)).await.expect_err("past the end");
        assert_eq!(past.kind, FaultKind::Changed);
    }
    assert_eq!(server.asked().len(), 1);
    assert_eq!(server.asked()[0].range, None);
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).expect("dir").count(), 0, "the file has no name");
    drop((held, other));
    let again = source.open_indexed(wanted(&url), 5_000_000).await.expect("open");
    again.read(range(0, 10)).await.expect("read");
    assert_eq!(server.asked()[1].range, Some((0, 9)), "nobody holds it any more");
}

#[tokio::test]
async fn whole_has_a_limit_and_gives_it_back() {
    let dir = tempfile::tempdir().expect("dir");
    let body = content(100_000);
    let server = Server::start(LOCAL, move |asked: &Asked, _| good(asked, &body)).await;
    let source = Setup { is_whole: true, whole_bytes_max: 150_000, ..Setup::default() }.source(&dir);
    let (one, two) = (server.url("/1.mp4"), server.url("/2.mp4"));
    let first = source.open(wanted(&one)).await.expect("open");
    let second = source.open(wanted(&two)).await.expect("open");
    assert_eq!((first.is_whole(), second.is_whole()), (true, false), "what does not fit is read by ranges");
    second.read(range(99_990, 10)).await.expect("read");
    drop(first);
    assert!(source.open(wanted(&two)).await.expect("open").is_whole());
}

#[tokio::test]
async fn whole_reads_of_bad_servers_fail() {
    let check = async |reply: fn(&Asked, &[u8]) -> Reply, kind: FaultKind, detail: &str| {
        let dir = tempfile::tempdir().expect("dir");
        let body = content(LEN);
        let server = Server::start(LOCAL, move |asked: &Asked, _| reply(asked, &body)).await;
        let source = Setup { is_whole: true, ..Setup::default() }.source(&dir);
        let fault = source.open(wanted(&server.url("/1.mp4"))).await.map(|_| ()).expect_err(detail);
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.detail.contains(detail), "{fault} / {detail}");
    };
    use FaultKind::{Gone, Unreadable};
    check(|_, _| Reply::status(404), Gone, "no longer").await;
    check(|asked, body| Reply { ending: Ending::CutAt(100_000), ..good(asked, body) }, Unreadable, "broke off").await;
    check(|asked, body| Reply { ending: Ending::StallAt(100_000), ..good(asked, body) }, Unreadable, "silent").await;
    let slow: fn(&Asked, &[u8]) -> Reply =
        |asked, body| Reply { ending: Ending::Drip(100, Duration::from_millis(50)), ..good(asked, body) };
    check(slow, Unreadable, "too slow").await;
    check(|asked, body| good(asked, body).with("Content-Encoding", "br"), Unreadable, "compressed").await;
}

#[tokio::test]
async fn http_credentials_go_to_their_prefix_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let body = content(1000);
    let server = Server::start(LOCAL, move |asked: &Asked, _| good(asked, &body)).await;
    let prefix = server.url("/private");
    let toml = format!("[credentials.keyed]\nkind = \"http\"\naccess_key_id = \"cam\"\nurl_prefix = \"{prefix}\"\n");
    let source = Setup { credentials: &toml, ..Setup::default() }.source(&dir);
    let (inside, outside) = (server.url("/private/1.mp4"), server.url("/private-not/1.mp4"));
    source.open(wanted(&inside)).await.expect("open");
    source.open(wanted(&outside)).await.expect("open");
    let named = |media_url| Wanted { user: USER, media_url, credentials_key: Some("keyed"), is_growing: false };
    source.open(named(inside.as_str())).await.expect("open");
    let fault = source.open(named(outside.as_str())).await.map(|_| ()).expect_err("not for this URL");
    assert_eq!(fault.kind, FaultKind::Forbidden, "{fault}");
    let fault = source.open(Wanted { credentials_key: Some("none"), ..wanted(&inside) }).await.map(|_| ());
    assert_eq!(fault.expect_err("unknown").kind, FaultKind::Forbidden);
    let basic = Some("Basic Y2FtOnZlcnktc2VjcmV0".to_owned());
    let sent: Vec<_> = server.asked().into_iter().map(|asked| asked.authorization).collect();
    assert_eq!(sent, [basic.clone(), None, basic]);
    // After a reload without them, none are sent.
    source.set_credentials(crate::sources::credentials("").expect("credentials"));
    source.open(wanted(&inside)).await.expect("open");
    assert_eq!(server.asked().last().and_then(|asked| asked.authorization.clone()), None);
}
