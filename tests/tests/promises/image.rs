//! `GET /image`: one picture of media that a caller names by URL, by ranges alone, for whom the configuration lets it.

use std::os::unix::fs::FileExt;
use std::path::Path;

use e2e::footage::{Container, Footage, Rate, Recipe, cached, read_clock};
use e2e::harness::media_server::{Asked, MediaServer, Object, Reply};
use e2e::harness::token::{self, claims_with};
use e2e::harness::{Answer, OTHER_USER, Setup, Stills, USER};
use reqwest::Method;
use serde_json::json;

use crate::fixtures::first_minute;

/// A server that lets callers name what lies on this machine.
fn setup() -> Setup {
    Setup::new()
        .set("fetch.allow_urls", "[\"^http://127\\\\.0\\\\.0\\\\.1:[0-9]+/\", \"^http://localhost:[0-9]+/\"]")
        .set("fetch.allow_networks", "[\"127.0.0.0/8\"]")
}

/// A URL as one parameter.
fn encoded(url: &str) -> String {
    url.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

async fn image(stills: &Stills, url: &str, more: &str) -> Answer {
    stills.get(&format!("/image?url={}{more}", encoded(url))).await
}

/// Demands a picture of this type and size that shows this instant.
fn check(answer: &Answer, content_type: &str, size: (u32, u32), clock_ms: i64) {
    let answer = answer.clone().expect(200);
    assert_eq!(answer.header("content-type"), content_type, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "private, no-store");
    let picture = image::load_from_memory(&answer.body).expect("a picture");
    assert_eq!((picture.width(), picture.height()), size);
    assert_eq!(read_clock(&picture.to_luma8()), Some(clock_ms), "what the picture shows: {answer:?}");
}

/// The last keyframe not behind a share of the footage.
fn at_or_before(footage: &Footage, percent: f64) -> i64 {
    let recipe = &footage.recipe;
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "minutes in milliseconds")]
    let point = recipe.start_ms + (percent * recipe.duration_ms as f64 / 100.0) as i64;
    recipe.keyframes_ms().into_iter().rfind(|at| *at <= point).expect("a keyframe")
}

/// A gigabyte whose pictures stand in front and whose tables stand at the end: a hole is put into the media data.
fn huge(footage: &Footage, to: &Path) -> u64 {
    const LEN: u64 = 1 << 30;
    let bytes = std::fs::read(&footage.path).expect("footage");
    let (mut at, mut mdat, mut moov) = (0, None, None);
    while at + 8 <= bytes.len() {
        let len = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
        match &bytes[at + 4..at + 8] {
            b"mdat" => mdat = Some(at),
            b"moov" => moov = Some(at..at + len),
            _ => {}
        }
        at += len;
    }
    let (mdat, moov) = (mdat.expect("mdat"), moov.expect("moov"));
    assert!(moov.start > mdat && moov.end == bytes.len(), "the tables are at the end");
    let file = std::fs::File::create(to).expect("a file");
    file.write_all_at(&bytes[..moov.start], 0).expect("a write");
    let mdat_len = u32::try_from(LEN - mdat as u64).expect("below 4 GiB");
    file.write_all_at(&mdat_len.to_be_bytes(), mdat as u64).expect("a write");
    file.write_all_at(&bytes[moov.clone()], LEN).expect("a write");
    moov.len() as u64
}

fn fast() -> Recipe {
    Recipe { width: 320, height: 240, rate: Rate { frames: 5, seconds: 1 }, gop: 10, ..Recipe::default() }
}

#[tokio::test]
async fn points_sizes_and_formats() {
    let footage = first_minute();
    let server = MediaServer::of(Object::new(&footage.path, "1")).await;
    let stills = setup().nginx().start().await;
    let url = server.url("/film.mp4");
    let own = (320, 240);
    for (more, percent) in [
        ("", 10.0),
        ("&offset_percent=0", 0.0),
        ("&offset_percent=3.33", 3.33),
        ("&offset_percent=50", 50.0),
        ("&offset_percent=99.9", 99.9),
        ("&offset_percent=100", 100.0),
    ] {
        check(&image(&stills, &url, more).await, "image/jpeg", own, at_or_before(&footage, percent));
    }
    let tenth = at_or_before(&footage, 10.0);
    for (more, content_type, size) in [
        ("&format=png", "image/png", own),
        ("&format=jpeg&width=640", "image/jpeg", (640, 480)),
        ("&height=120", "image/jpeg", (160, 120)),
        ("&format=png&width=200&height=300", "image/png", (200, 300)),
        ("&width=1000&height=2160", "image/jpeg", (1000, 2160)),
    ] {
        check(&image(&stills, &url, more).await, content_type, size, tenth);
    }
    let small = image(&stills, &url, "&width=16&height=16").await.expect(200);
    assert_eq!(image::load_from_memory(&small.body).expect("a picture").width(), 16);
    let offset = image(&stills, &url, "&offset_percent=50").await.number("stills-frame-offset");
    assert_eq!(offset, 30_000);
}

#[tokio::test]
async fn a_gigabyte_is_never_fetched() {
    let footage = cached(&Recipe { container: Container::Mp4MoovAtEnd, ..fast() }).expect("footage");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("huge.mp4");
    let tables = huge(&footage, &path);
    let server = MediaServer::of(Object::new(&path, "1")).await;
    let stills = setup().start().await;
    let url = server.url("/huge.mp4");
    check(&image(&stills, &url, "").await, "image/jpeg", (320, 240), at_or_before(&footage, 10.0));
    let (requests, bytes) = server.take();
    // The keyframe is what a second picture of the same point takes.
    check(&image(&stills, &url, "").await, "image/jpeg", (320, 240), at_or_before(&footage, 10.0));
    let (again, keyframe) = server.take();
    assert_eq!(again, 1, "one ranged read");
    assert!(bytes <= tables + keyframe + 256 * 1024, "{bytes} bytes in {requests} requests");
    // Another point is one ranged read too, of that very version.
    for percent in [0.0, 47.11, 100.0] {
        let picture = image(&stills, &url, &format!("&offset_percent={percent}")).await;
        check(&picture, "image/jpeg", (320, 240), at_or_before(&footage, percent));
        let asked = server.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(asked[0].if_match.as_deref(), Some("\"1\""));
        server.take();
    }
}

#[tokio::test]
async fn every_fault_of_parameters_is_told() {
    let server = MediaServer::of(Object::new(first_minute().path, "1")).await;
    let stills = setup().nginx().start().await;
    let url = encoded(&server.url("/film.mp4"));
    for (query, parameters) in [
        ("", "url"),
        ("width=320", "url"),
        ("url={}&width=15", "width"),
        ("url={}&width=3841&height=2161", "width height"),
        ("url={}&format=jpg", "format"),
        ("url={}&offset_percent=100.5", "offset_percent"),
        ("url={}&offset_percent=1e1", "offset_percent"),
        ("url={}&credentials_key=", "credentials_key"),
        ("url={}&width=20&width=30", "width"),
        ("url={}&url={}", "url"),
        ("url={}&second=3&quality=4", "query query"),
        ("width=1&height=1&format=gif&offset_percent=-1&url={}", "format width height offset_percent"),
    ] {
        let answer = stills.get(&format!("/image?{}", query.replace("{}", &url))).await;
        let problem = answer.problem(400, "bad-request");
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let named: Vec<&str> = errors.iter().filter_map(|error| error["parameter"].as_str()).collect();
        assert_eq!(named.join(" "), parameters, "{query}: {problem}");
    }
    assert_eq!(server.take().0, 0, "nothing was asked for");
    stills
        .ask(Method::POST, &format!("/image?url={url}"))
        .bearer(stills.owner())
        .send()
        .await
        .problem(405, "method-not-allowed");
}

#[tokio::test]
async fn a_url_that_was_not_encoded_is_put_together_again() {
    let footage = first_minute();
    let server = MediaServer::of(Object::new(&footage.path, "1")).await;
    let stills = setup().nginx().start().await;
    let whole = "/film.mp4?X-Amz-Credential=AK%2F2025&X-Amz-Signature=ab%2Bc&b&a=1";
    for (query, target) in [
        (format!("url={}&width=160", encoded(&server.url(whole))), whole),
        (format!("width=160&url={}", server.url(whole)), whole),
        // As encodeURI leaves it, a parameter of ours in its midst.
        (format!("url={}&width=160&a=1", server.url(&whole.replace('%', "%25").replace("&a=1", ""))), whole),
        (format!("url={}&width=160", server.url("/my%20film.mp4")), "/my%20film.mp4"),
    ] {
        let answer = stills.get(&format!("/image?{query}")).await;
        check(&answer, "image/jpeg", (160, 120), at_or_before(&footage, 10.0));
        let targets: Vec<String> = server.asked().into_iter().map(|asked| asked.target).collect();
        assert!(!targets.is_empty() && targets.iter().all(|asked| asked == target), "{query}: {targets:?}");
        server.take();
    }
    for query in ["url={}/film.mp4&sig=x", "sig=x&url={}/film.mp4?a=b"] {
        let query = query.replace("{}", &server.url(""));
        stills.get(&format!("/image?{query}")).await.problem(400, "bad-request");
    }
}

#[tokio::test]
async fn who_may_ask() {
    let footage = first_minute();
    let server = MediaServer::of(Object::new(&footage.path, "1")).await;
    let stills = setup().nginx().start().await;
    let target = format!("/image?url={}&width=160", encoded(&server.url("/film.mp4")));
    let token = token::with_scope("images:read");
    let other = |changes| token::hs256(&claims_with("images:read", &changes));
    let rasp = |token: &str| stills.ask(Method::GET, &target).header("x-rasp-auth-token", token).send();
    for token in [
        token.clone(),
        other(json!({"user_id": [USER, OTHER_USER], "sub": USER})),
        token::hs256(&claims_with("images:read users:all", &json!({"user_id": null, "sub": USER}))),
        other(json!({"user_id": null, "sub": USER})),
    ] {
        let picture = stills.get_as(&token, &target).await;
        check(&picture, "image/jpeg", (160, 120), at_or_before(&footage, 10.0));
    }
    check(&rasp(&token).await, "image/jpeg", (160, 120), at_or_before(&footage, 10.0));
    server.take();
    for token in [
        token::with_scope("thumbnails:read recordings:read images:write"),
        other(json!({"user_id": [USER, OTHER_USER]})),
        other(json!({"user_id": []})),
        token::hs256(&claims_with("images:read users:all", &json!({"user_id": null}))),
    ] {
        stills.get_as(&token, &target).await.problem(403, "insufficient-scope");
        rasp(&token).await.problem(403, "insufficient-scope");
    }
    stills.ask(Method::GET, &target).send().await.problem(401, "invalid-token");
    rasp("x.y.z").await.problem(401, "invalid-token");
    rasp(&format!("Bearer {token}")).await.problem(401, "invalid-token");
    let both = stills.ask(Method::GET, &target).bearer(&token).header("x-rasp-auth-token", &token);
    both.send().await.problem(401, "invalid-token");
    // The token of another user asks the place for itself: nothing that is known of this one's clips is used.
    let theirs = other(json!({"user_id": OTHER_USER}));
    check(&stills.get_as(&theirs, &target).await, "image/jpeg", (160, 120), at_or_before(&footage, 10.0));
    assert_eq!(server.asked()[0].if_match, None, "found anew");
    check(&stills.get_as(&theirs, &target).await, "image/jpeg", (160, 120), at_or_before(&footage, 10.0));
    assert_eq!(server.asked().last().and_then(|asked| asked.if_match.clone()).as_deref(), Some("\"1\""));
}

#[tokio::test]
async fn only_what_the_configuration_names_is_fetched() {
    let footage = first_minute();
    let server = MediaServer::of(Object::new(&footage.path, "1")).await;
    let port = server.address().port();
    let allowed = format!("[\"^http://[^/]*:{port}/\", \"^https?://(?:127|\\\\[)\", \"^s3://\", \"^http://{USER}\"]");
    // Every host may be named, and no address that is not public reached.
    let stills = Setup::new().set("fetch.allow_urls", &allowed).start().await;
    let file = format!("file://{}", stills.place(&e2e::harness::Camera::first(), &footage.path, "own.mp4"));
    let forms = [
        format!("http://127.0.0.1:{port}/a.mp4"),
        format!("http://localhost:{port}/a.mp4"),
        format!("http://[::1]:{port}/a.mp4"),
        format!("http://[::ffff:127.0.0.1]:{port}/a.mp4"),
        format!("http://2130706433:{port}/a.mp4"),
        format!("http://0x7f.1:{port}/a.mp4"),
        format!("http://0177.0.0.1:{port}/a.mp4"),
        format!("http://0:{port}/a.mp4"),
        format!("http://169.254.169.254:{port}/latest/meta-data/"),
        format!("http://user:password@127.0.0.1:{port}/a.mp4"),
        format!("http://10.0.0.1:{port}/a.mp4"),
        "https://media.example.com/a.mp4".to_owned(),
        "s3://footage/a.mp4".to_owned(),
        "ftp://127.0.0.1/a.mp4".to_owned(),
        "/etc/passwd".to_owned(),
        "concat:a|b".to_owned(),
        "file:///etc/passwd".to_owned(),
        file.replace("file://file://", "file://"),
    ];
    for url in &forms {
        let problem = image(&stills, url, "").await.problem(403, "url-not-allowed");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(!detail.contains("127.0.0.1") && !detail.contains("169.254"), "{url}: {detail}");
    }
    assert_eq!(server.take().0, 0, "nothing was asked for");
    // Without a word in the configuration nothing is fetched, whatever recordings may be read from.
    let silent = Setup::new()
        .set("media.allow_urls", "[\"^http://127\"]")
        .set("media.allow_networks", "[\"127.0.0.0/8\"]")
        .start()
        .await;
    image(&silent, &server.url("/a.mp4"), "").await.problem(403, "url-not-allowed");
    assert_eq!(server.take().0, 0, "nothing was asked for");
}

#[tokio::test]
async fn a_redirect_leads_only_where_one_might_go() {
    let footage = first_minute();
    let object = Object::new(&footage.path, "1");
    let server = MediaServer::start(move |asked: &Asked, _| match asked.target.as_str() {
        "/elsewhere" => Reply::Redirect("http://[::1]:1/film.mp4".to_owned()),
        "/files" => Reply::Redirect("file:///etc/passwd".to_owned()),
        "/here" => Reply::Redirect("/film.mp4".to_owned()),
        "/round" => Reply::Redirect("/round".to_owned()),
        _ => Reply::Good(object.clone()),
    })
    .await;
    let stills = setup().start().await;
    let url = |path: &str| server.url(path);
    check(&image(&stills, &url("/here"), "&width=160").await, "image/jpeg", (160, 120), at_or_before(&footage, 10.0));
    for path in ["/elsewhere", "/files"] {
        image(&stills, &url(path), "").await.problem(403, "url-not-allowed");
    }
    image(&stills, &url("/round"), "").await.problem(502, "media-unreadable");
}

#[tokio::test]
async fn places_that_do_not_answer_as_they_should() {
    let footage = first_minute();
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        Object::new(path, "1")
    };
    let whole = std::fs::read(&footage.path).expect("footage");
    let (text, half) = (file("text", b"#EXTM3U\nfile:///etc/passwd\n"), file("half", &whole[..700]));
    let object = Object::new(&footage.path, "1");
    let server = MediaServer::start(move |asked: &Asked, _| {
        let object = object.clone();
        match asked.target.as_str() {
            "/no-ranges" => Reply::NoRanges(object),
            "/cut-off" => Reply::CutOff(object),
            "/shifted" => Reply::Shifted(object),
            "/longer" => Reply::LongerBy(object, 1 << 40),
            "/stalled" => Reply::Stalled(object),
            "/text" => Reply::Good(text.clone()),
            "/half" => Reply::Good(half.clone()),
            status => Reply::Status(status.trim_start_matches('/').parse().unwrap_or(500)),
        }
    })
    .await;
    let stills = setup().nginx().set("fetch.deadline", "\"4s\"").start().await;
    for (path, status, slug) in [
        ("/404", 404, "media-gone"),
        ("/410", 404, "media-gone"),
        ("/401", 502, "media-unreadable"),
        ("/403", 502, "media-unreadable"),
        ("/500", 502, "media-unreadable"),
        ("/503", 502, "media-unreadable"),
        ("/204", 502, "media-unreadable"),
        ("/no-ranges", 502, "media-unreadable"),
        ("/cut-off", 502, "media-unreadable"),
        ("/shifted", 502, "media-unreadable"),
        ("/text", 415, "not-decodable"),
        ("/half", 415, "not-decodable"),
        ("/stalled", 504, "deadline"),
    ] {
        let answer = image(&stills, &server.url(path), "").await;
        let problem = answer.problem(status, slug);
        assert!(!problem.to_string().contains("127.0.0.1"), "{path}: {problem}");
        if status >= 500 {
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        }
    }
    let longer = image(&stills, &server.url("/longer"), "").await;
    assert!([200, 415, 502].contains(&longer.status), "{longer:?}");
    let nobody = "http://127.0.0.1:1/film.mp4";
    image(&stills, nobody, "").await.problem(502, "media-unreadable");
    server.take();
    image(&stills, &server.url("/no-ranges"), "").await.problem(502, "media-unreadable");
    assert!(server.take().1 <= footage.path.metadata().expect("a file").len().min(1 << 20), "not read to its end");
}

#[tokio::test]
async fn another_version_is_looked_at_anew_and_never_mixed() {
    let (before, after) = (fast(), Recipe { start_ms: 1_700_000_000_000, ..fast() });
    let [before, after] = [before, after].map(|recipe| cached(&recipe).expect("footage"));
    let versions = [Object::new(&before.path, "1"), Object::new(&after.path, "2")];
    let now = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let shown = std::sync::Arc::clone(&now);
    let server = MediaServer::start(move |asked: &Asked, number| {
        let order = std::sync::atomic::Ordering::SeqCst;
        match asked.target.as_str() {
            // Every answer of another version.
            "/restless.mp4" => Reply::Good(versions[number % 2].clone()),
            _ => Reply::Good(versions[shown.load(order)].clone()),
        }
    })
    .await;
    let stills = setup().start().await;
    let url = server.url("/film.mp4");
    for (version, footage) in [(0, &before), (1, &after), (0, &before)] {
        now.store(version, std::sync::atomic::Ordering::SeqCst);
        for percent in [50.0, 90.0] {
            let picture = image(&stills, &url, &format!("&offset_percent={percent}&width=320")).await;
            check(&picture, "image/jpeg", (320, 240), at_or_before(footage, percent));
        }
    }
    image(&stills, &server.url("/restless.mp4"), "&offset_percent=90").await.problem(502, "media-unreadable");
}

#[tokio::test]
async fn no_more_is_read_or_made_at_once_than_allowed() {
    let footage = first_minute();
    let dir = tempfile::tempdir().expect("a directory");
    let huge_path = dir.path().join("holes.ts");
    std::fs::write(&huge_path, [0u8; 16]).expect("a file");
    let object = Object::new(&footage.path, "1");
    let server = MediaServer::start(move |asked: &Asked, _| match asked.target.as_str() {
        "/stalled" => Reply::Stalled(object.clone()),
        _ => Reply::Good(object.clone()),
    })
    .await;
    let stills = setup().set("fetch.running_max", "1").set("fetch.deadline", "\"5s\"").start().await;
    let (stalled, good) = (server.url("/stalled"), server.url("/film.mp4"));
    let first = image(&stills, &stalled, "");
    let second = async {
        e2e::harness::wait::until("the first is on its way", async || !server.asked().is_empty()).await;
        image(&stills, &good, "").await
    };
    let (first, second) = tokio::join!(first, second);
    first.problem(504, "deadline");
    second.problem(503, "busy");
    assert_eq!(second.number("retry-after"), 1);
    image(&stills, &good, "").await.expect(200);
}
