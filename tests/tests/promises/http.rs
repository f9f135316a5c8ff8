//! HTTP as it is spoken at the edges: odd requests, request ids, and pages of other origins.

use e2e::harness::event::{self, media_type};
use e2e::harness::raw::{self, RawAnswer};
use e2e::harness::stills::thumb;
use e2e::harness::{Answer, Camera, START, Search, Setup, Stills};
use reqwest::Method;

use crate::fixtures::{check_picture, first_minute, is_hit, span};

async fn with_minute(setup: Setup) -> (Stills, Camera, (i64, i64)) {
    let stills = setup.nginx().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    (stills, camera, span(&minute))
}

/// Through NGINX and past it.
async fn both(stills: &Stills, request: &str) -> [RawAnswer; 2] {
    [raw::exchange(stills.address(), request).await, raw::exchange(stills.origin_address(), request).await]
}

#[tokio::test]
async fn requests_that_are_allowed_though_rare() {
    let (stills, camera, window) = with_minute(Setup::new()).await;
    let target = thumb(&camera, window, 20_000);
    let token = format!("Authorization: Bearer {}\r\n", stills.owner());
    let end = "Connection: close\r\n\r\n";
    let event = event::deleted(&camera, "r-9").to_string();
    let (front, back) = event.split_at(20);
    let chunks = format!("14\r\n{front}\r\n{:x};ext=1\r\n{back}\r\n0\r\nX-Trailer: 1\r\n\r\n", back.len());
    let post =
        format!("POST /v1/recordings/events HTTP/1.1\r\nHost: x\r\n{token}Content-Type: {}\r\n", media_type::ONE);
    for (name, request, status) in [
        ("HTTP/1.0", format!("GET {target} HTTP/1.0\r\n{token}\r\n"), 200),
        (
            "lower-case names",
            format!("GET {target} HTTP/1.1\r\nhost: x\r\n{}{end}", token.replace("Auth", "aUTH")),
            200,
        ),
        (
            "a lower-case scheme",
            format!("GET {target} HTTP/1.1\r\nHost: x\r\n{}{end}", token.replace("Bearer", "bearer")),
            200,
        ),
        ("empty lines first", format!("\r\nGET {target} HTTP/1.1\r\nHost: x\r\n{token}{end}"), 200),
        ("an absolute target", format!("GET http://x{target} HTTP/1.1\r\nHost: x\r\n{token}{end}"), 200),
        (
            "a body that nobody reads",
            format!("GET {target} HTTP/1.1\r\nHost: x\r\n{token}Content-Length: 3\r\n{end}abc"),
            200,
        ),
        ("an empty query", format!("GET {target}? HTTP/1.1\r\nHost: x\r\n{token}{end}"), 200),
        ("chunks", format!("{post}Transfer-Encoding: chunked\r\n{end}{chunks}"), 202),
        ("asking first", format!("{post}Expect: 100-continue\r\nContent-Length: {}\r\n{end}{event}", event.len()), 202),
    ] {
        for answer in both(&stills, &request).await {
            // `100 Continue` may come before.
            let last = answer.text.rsplit("HTTP/1.").find(|part| !part.starts_with("1 100")).unwrap_or_default();
            let found = last.split(' ').nth(1).unwrap_or_default();
            assert_eq!(found, status.to_string(), "{name}: {}", &answer.text[..answer.text.len().min(400)]);
        }
    }
    // Several requests in one go are answered in their order.
    let one = format!("HEAD {target} HTTP/1.1\r\nHost: x\r\n{token}\r\n");
    let last = format!("GET /nothing HTTP/1.1\r\nHost: x\r\n{token}{end}");
    for answer in both(&stills, &format!("{}{last}", one.repeat(3))).await {
        assert_eq!(answer.n_answers(), 4, "{answer:?}");
        assert!(answer.text.rfind("404").expect("a 404") > answer.text.rfind("200 OK").expect("a 200"));
    }
}

#[tokio::test]
async fn requests_that_are_wrong() {
    let (stills, camera, window) = with_minute(Setup::new()).await;
    let target = thumb(&camera, window, 20_000);
    let token = format!("Authorization: Bearer {}\r\n", stills.owner());
    let end = "Connection: close\r\n\r\n";
    let events = "POST /v1/recordings/events HTTP/1.1\r\nHost: x\r\n";
    for (name, request) in [
        ("no HTTP", "hello\r\n\r\n".to_owned()),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned()),
        ("a space in the target", format!("GET {target} x HTTP/1.1\r\nHost: x\r\n{token}{end}")),
        ("a wrong version", format!("GET {target} HTTP/3.7\r\nHost: x\r\n{token}{end}")),
        ("a header without a name", format!("GET {target} HTTP/1.1\r\nHost: x\r\n: y\r\n{token}{end}")),
        ("a negative length", format!("{events}{token}Content-Length: -1\r\n{end}")),
        ("two lengths", format!("{events}{token}Content-Length: 3\r\nContent-Length: 4\r\n{end}abcd")),
        ("both framings", format!("{events}{token}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n{end}0\r\n\r\n")),
        ("an unknown coding", format!("{events}{token}Transfer-Encoding: gzip\r\n{end}abc")),
        ("a broken chunk", format!("{events}{token}Transfer-Encoding: chunked\r\n{end}zz\r\nabc\r\n0\r\n\r\n")),
    ] {
        let [through, direct] = both(&stills, &request).await;
        // Whoever is not understood may be cut off without a word; nobody is served.
        for answer in [&through, &direct] {
            assert!((400..=505).contains(&answer.status) || answer.text.is_empty(), "{name}: {answer:?}");
            assert_ne!(answer.status, 500, "{name}: {answer:?}");
        }
        // NGINX answers what never was HTTP/1 without headers.
        if through.text.starts_with("HTTP/1.1") {
            assert_eq!(through.header("content-type"), "application/problem+json", "{name}: {through:?}");
        }
    }
    check_picture(&stills.get(&target).await, (320, 240), START + 20_000);
}

#[tokio::test]
async fn request_ids_are_the_clients_where_they_are_plain() {
    let (stills, camera, window) = with_minute(Setup::new()).await;
    let target = thumb(&camera, window, 20_000);
    let ask = async |id: Option<&str>, target: &str, is_direct: bool| -> Answer {
        let ask = if is_direct { stills.ask_origin(Method::GET, target) } else { stills.ask(Method::GET, target) };
        let ask = ask.bearer(stills.owner());
        match id {
            Some(id) => ask.header("x-request-id", id).send().await,
            None => ask.send().await,
        }
    };
    let long = "x".repeat(128);
    let too_long = "x".repeat(129);
    for target in [target.as_str(), "/nothing", "/v1/devices"] {
        for is_direct in [false, true] {
            for id in ["12345678", "a-B_c.9-0", &long] {
                assert_eq!(ask(Some(id), target, is_direct).await.header("x-request-id"), id, "{target}");
            }
            let mut made = Vec::new();
            for id in [None, Some("with spaces in it"), Some("quotes\"in\"it"), Some(&too_long)] {
                let answer = ask(id, target, is_direct).await;
                assert_eq!(answer.headers.get_all("x-request-id").iter().count(), 1);
                let own = answer.header("x-request-id").to_owned();
                assert!(own.len() >= 8 && Some(own.as_str()) != id, "{own}");
                made.push(own);
            }
            made.sort_unstable();
            made.dedup();
            assert_eq!(made.len(), 4, "two requests, one id");
        }
    }
    // From NGINX's store each request still has its own.
    let [a, b] = ["from-store-1", "from-store-2"];
    let (first, second) = (ask(Some(a), &target, false).await, ask(Some(b), &target, false).await);
    assert!(is_hit(&first) && is_hit(&second));
    assert_eq!((first.header("x-request-id"), second.header("x-request-id")), (a, b));
}

const PAGE: &str = "https://app.example.com";

fn with_cors(origins: &str) -> Setup {
    Setup::new().set("cors.origins", origins)
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_answers() {
    let (stills, camera, window) = with_minute(with_cors(&format!("[\"{PAGE}\"]"))).await;
    let target = thumb(&camera, window, 20_000);
    let search = Search::new(&camera, window, 10_000).target();
    for target in [&target, &search, &"/v1/devices".to_owned(), &"/openapi.json".to_owned()] {
        for is_direct in [true, false] {
            let ask = |method| if is_direct { stills.ask_origin(method, target) } else { stills.ask(method, target) };
            // A preflight carries no credential.
            let preflight = |origin: &str| {
                let ask = ask(Method::OPTIONS).header("origin", origin).header("access-control-request-method", "GET");
                ask.header("access-control-request-headers", "authorization").send()
            };
            let answer = preflight(PAGE).await.expect(204);
            assert_eq!(answer.header("access-control-allow-origin"), PAGE, "{target}");
            assert!(answer.header("access-control-allow-methods").contains("GET"), "{answer:?}");
            assert!(
                answer.header("access-control-allow-headers").to_lowercase().contains("authorization"),
                "{answer:?}"
            );
            assert_eq!(answer.number("access-control-max-age"), 600);
            let answer = preflight("https://elsewhere.example.com").await;
            assert_eq!(answer.header("access-control-allow-origin"), "", "{target}");

            let answer = ask(Method::GET).bearer(stills.owner()).header("origin", PAGE).send().await;
            assert_eq!(answer.header("access-control-allow-origin"), PAGE, "{target} {is_direct}");
            assert!(answer.headers.get_all("vary").iter().any(|vary| vary.as_bytes().eq_ignore_ascii_case(b"origin")));
            let exposed = answer.header("access-control-expose-headers").to_lowercase();
            for name in
                ["etag", "link", "x-total-count", "stills-frame-timestamp", "stills-frame-distance", "retry-after"]
            {
                assert!(exposed.contains(name), "{name}: {exposed}");
            }
        }
    }
    // One stored copy each, and none that tells the wrong page.
    for _ in 0..2 {
        for (origin, expected) in [(Some(PAGE), PAGE), (None, ""), (Some("https://elsewhere.example.com"), "")] {
            let ask = stills.ask(Method::GET, &target).bearer(stills.owner());
            let answer = match origin {
                Some(origin) => ask.header("origin", origin).send().await,
                None => ask.send().await,
            };
            check_picture(&answer, (320, 240), START + 20_000);
            assert_eq!(answer.header("access-control-allow-origin"), expected, "{origin:?}");
        }
    }
}

#[tokio::test]
async fn without_configuration_no_page_may() {
    let (stills, camera, window) = with_minute(Setup::new()).await;
    let target = thumb(&camera, window, 20_000);
    let answer =
        stills.ask(Method::GET, &target).bearer(stills.owner()).header("origin", PAGE).send().await.expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let ask =
        stills.ask(Method::OPTIONS, &target).header("origin", PAGE).header("access-control-request-method", "GET");
    assert_eq!(ask.send().await.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn any_page_may_where_that_is_configured() {
    let (stills, camera, window) = with_minute(with_cors("[\"*\"]")).await;
    let answer = stills.ask(Method::GET, &thumb(&camera, window, 0)).bearer(stills.owner()).header("origin", PAGE);
    assert_eq!(answer.send().await.expect(200).header("access-control-allow-origin"), "*");
}

#[tokio::test]
async fn a_prefix_stands_in_front_of_pictures() {
    let (stills, camera, window) = with_minute(Setup::new().set("public.prefix", "\"/cam/eu\"")).await;
    let entries = stills.list(&Search::new(&camera, window, 20_000)).await;
    assert_eq!(entries[1].target, format!("/cam/eu{}", thumb(&camera, window, 20_000)));
    for _ in 0..2 {
        check_picture(&stills.get(&entries[1].target).await, (320, 240), START + 20_000);
    }
    assert!(is_hit(&stills.get(&entries[1].target).await));
    stills.get(&thumb(&camera, window, 20_000)).await.problem(404, "not-found");
    // What is signed is the path without the prefix.
    let query = e2e::harness::signed::Window::new(&camera.user, &camera.device, window.0, window.1).query();
    let signed = stills.ask(Method::GET, &format!("{}?{query}", entries[1].target)).send().await;
    check_picture(&signed, (320, 240), START + 20_000);
}

#[tokio::test]
async fn no_header_changes_the_listed_host() {
    let (stills, camera, window) = with_minute(Setup::new()).await;
    let target = Search::new(&camera, window, 20_000).target();
    let usual = stills.get(&target).await.expect(200);
    let names = ["host", "x-forwarded-host", "x-forwarded-proto", "forwarded", "x-original-uri", "x-forwarded-prefix"];
    for is_direct in [true, false] {
        let mut ask =
            if is_direct { stills.ask_origin(Method::GET, &target) } else { stills.ask(Method::GET, &target) };
        for name in names {
            ask = ask.header(name, "evil.example.com");
        }
        let answer = ask.bearer(stills.owner()).send().await.expect(200);
        assert_eq!(answer.text(), usual.text());
        assert_eq!(answer.header("link"), usual.header("link"));
    }
}
