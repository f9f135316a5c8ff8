//! Every refusal has its status, its kind and its words, the same through NGINX and past it.

use e2e::harness::stills::{thumb, thumb_sized};
use e2e::harness::{Answer, Camera, OTHER_DEVICE, OTHER_USER, START, Search, Setup, Stills, USER, event, raw};
use reqwest::Method;

use crate::fixtures::{check_picture, first_minute, is_hit, span};

async fn with_minute() -> (Stills, Camera, (i64, i64)) {
    let stills = Setup::new().nginx().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    (stills, camera, span(&minute))
}

/// The same request through NGINX and past it.
async fn both(stills: &Stills, method: &Method, target: &str, token: Option<&str>) -> [Answer; 2] {
    let asks = [stills.ask(method.clone(), target), stills.ask_origin(method.clone(), target)];
    let [through, direct] = asks.map(|ask| match token {
        Some(token) => ask.bearer(token).send(),
        None => ask.send(),
    });
    [through.await, direct.await]
}

/// A path, and the parameters at fault.
struct Faulty {
    target: String,
    parameters: &'static [&'static str],
}

fn faults(answer: &Answer) -> Vec<String> {
    let problem = answer.problem(422, "invalid-parameters");
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> =
        errors.iter().filter_map(|error| error["parameter"].as_str().map(str::to_owned)).collect();
    assert!(errors.iter().all(|error| error["detail"].as_str().is_some_and(|detail| !detail.is_empty())), "{problem}");
    names.sort_unstable();
    names
}

async fn check_faults(stills: &Stills, faulty: Faulty) {
    for answer in both(stills, &Method::GET, &faulty.target, Some(stills.owner())).await {
        assert_eq!(faults(&answer), faulty.parameters, "{}", faulty.target);
    }
}

#[tokio::test]
async fn every_fault_of_a_search_is_listed_at_once() {
    let stills = Setup::new().nginx().start().await;
    let usual = [
        ("user_id", USER.to_owned()),
        ("device_id", "627d911f7f58e4f344ca726c".to_owned()),
        ("start_timestamp", START.to_string()),
        ("end_timestamp", (START + 3_600_000).to_string()),
        ("resolution", "320x240".to_owned()),
        ("interval", "10000".to_owned()),
    ];
    let target = |changes: &[(&str, Option<&str>)]| {
        let mut pairs: Vec<String> = Vec::new();
        for (name, value) in &usual {
            match changes.iter().find(|(changed, _)| changed == name) {
                Some((_, Some(value))) => pairs.push(format!("{name}={value}")),
                Some((_, None)) => {}
                None => pairs.push(format!("{name}={value}")),
            }
        }
        let is_usual = |name: &str| usual.iter().any(|(usual, _)| *usual == name);
        let more = changes.iter().filter(|(name, _)| !is_usual(name));
        pairs.extend(more.map(|(name, value)| format!("{name}={}", value.unwrap_or_default())));
        format!("/v1/thumbnails/search?{}", pairs.join("&"))
    };
    stills.get(&target(&[])).await.expect(200);
    stills
        .get(&target(&[("page", Some("1")), ("page_size", Some("1000")), ("signed", Some("false"))]))
        .await
        .expect(200);

    let all = ["device_id", "end_timestamp", "interval", "resolution", "start_timestamp", "user_id"];
    for answer in both(&stills, &Method::GET, "/v1/thumbnails/search", Some(stills.owner())).await {
        assert_eq!(faults(&answer), all);
    }
    let many = target(&[
        ("user_id", Some("x")),
        ("device_id", Some("")),
        ("start_timestamp", Some("-1")),
        ("end_timestamp", Some("1.5")),
        ("resolution", Some("641x480")),
        ("interval", Some("999")),
        ("page", Some("0")),
        ("page_size", Some("1001")),
        ("signed", Some("yes")),
        ("urls", Some("mine")),
        ("snap", Some("x")),
    ]);
    let named: &[&str] = &[
        "device_id",
        "end_timestamp",
        "interval",
        "page",
        "page_size",
        "resolution",
        "signed",
        "snap",
        "start_timestamp",
        "urls",
        "user_id",
    ];
    check_faults(&stills, Faulty { target: many, parameters: named }).await;

    let day_later = (START + 86_400_001).to_string();
    let day = (START + 86_400_000).to_string();
    let earlier = (START - 1).to_string();
    let one: [(&str, &[&str]); 11] = [
        (
            "user_id",
            &["627d8ca8297a3d00019e2ab", "627d8ca8297a3d00019e2abbb", "627d8ca8297a3d00019e2abg", "%20", "%ff"],
        ),
        ("device_id", &["0x627d911f7f58e4f344ca72", "627d911f7f58e4f344ca726c%00"]),
        ("start_timestamp", &["", "x", "+1", "1e3", "9223372036854775808", "99999999999999999999", "0x10", "%2d1"]),
        ("end_timestamp", &[&day_later, &earlier, "9223372036854775807", ""]),
        (
            "resolution",
            &["320", "320x", "x240", "320X240", "0x240", "320x0", "320x481", "0320x240", "320x240x1", "-1x240"],
        ),
        ("interval", &["999", "0", "-1000", "3600001", "1000.5", "x"]),
        ("page", &["0", "-1", "x", "1.0", "99999999999999999999"]),
        ("page_size", &["0", "1001", "x"]),
        ("signed", &["1", "TRUE", ""]),
        ("urls", &["Shared"]),
        ("snap", &["anchor"]),
    ];
    for (name, values) in one {
        for value in values {
            let answer = stills.get(&target(&[(name, Some(value))])).await;
            let found = faults(&answer);
            assert!(found.iter().any(|found| found == name), "{name}={value}: {found:?}");
        }
    }
    // Exactly a day is allowed, and so is an interval as long as the window.
    stills.get(&target(&[("end_timestamp", Some(&day)), ("interval", Some("86400000"))])).await.expect(200);
    let twice = format!("{}&page=1&page=2", target(&[]));
    assert_eq!(faults(&stills.get(&twice).await), ["page"]);
}

#[tokio::test]
async fn thumbs_outside_their_limits() {
    let (stills, camera, (start, end)) = with_minute().await;
    let Camera { user, device } = &camera;
    let path = |start: &str, end: &str, offset: &str, size: &str| {
        format!("/{user}/{device}/{start}/{end}/1/false/thumb-{offset}-{size}.jpg")
    };
    let [from, to] = [start, end].map(|ms| ms.to_string());
    let usual = "w320-h240";
    let huge = "99999999999999999999";
    for (target, parameters) in [
        (path(&from, &to, "60001", usual), &["offset"][..]),
        (path(&from, &to, huge, usual), &["offset"]),
        (path(&from, &to, "0", "w0-h240"), &["size"]),
        (path(&from, &to, "0", "w641-h240"), &["size"]),
        (path(&from, &to, "0", "w320-h481"), &["size"]),
        (path(&from, &to, "0", "w4294967616-h240"), &["size"]),
        (path(&to, &from, "0", usual), &["end_timestamp"]),
        (path(&from, &(start + 86_400_001).to_string(), "0", usual), &["end_timestamp"]),
        (path(huge, huge, "0", usual), &["end_timestamp", "start_timestamp"]),
        (path(&from, "9223372036854775807", "0", usual), &["end_timestamp"]),
        (path(&from, &to, "60001", "w0-h0"), &["offset", "size"]),
    ] {
        check_faults(&stills, Faulty { target, parameters }).await;
    }
    let day = thumb_sized(&camera, (start, start + 86_400_000), 20_000, (640, 480));
    check_picture(&stills.get(&day).await, (640, 480), START + 20_000);
    let smallest = thumb_sized(&camera, (start, end), 0, (1, 1));
    let answer = stills.get(&smallest).await.expect(200);
    let seen = e2e::footage::look(&answer.body).expect("a JPEG");
    assert_eq!((seen.width, seen.height), (1, 1));
}

#[tokio::test]
async fn other_addresses_are_nothing() {
    let (stills, camera, window) = with_minute().await;
    let right = thumb(&camera, window, 0);
    let mut targets: Vec<String> = [
        "/x",
        "/v1",
        "/v1/",
        "/v1/thumbnails",
        "/v1/thumbnails/search/",
        "/v1/thumbnails/Search",
        "/v2/thumbnails/search",
        "/v1/recordings/",
        "/v1/recordings/events/x",
        "/problems/",
        "/problems/nothing",
        "/openapi.json/",
        "/metrics/",
        "/%2e%2e/etc/passwd",
    ]
    .map(str::to_owned)
    .to_vec();
    for (from, to) in [
        ("/1/false/", "/2/false/"),
        ("/1/false/", "/1/true/"),
        ("/1/false/", "/1/"),
        ("/1/false/", "/01/false/"),
        ("/1/false/", "/1/false//"),
        ("thumb-0", "thumb--1"),
        ("thumb-0", "thumb-+0"),
        ("thumb-0", "thumb-0.5"),
        ("thumb-0", "thumb-"),
        ("thumb-0", "Thumb-0"),
        ("thumb-0", "%74humb-0"),
        (".jpg", ".png"),
        (".jpg", ".JPG"),
        (".jpg", ".jpg/"),
        (".jpg", ".jpg.jpg"),
        (".jpg", ""),
        ("-h240", ""),
        ("w320-h240", "h240-w320"),
        (camera.user.as_str(), "627d8ca8297a3d00019e2ab"),
    ] {
        targets.push(right.replacen(from, to, 1));
    }
    targets.push(format!("/x{right}"));
    targets.push(format!("/{right}"));
    for target in targets {
        for answer in both(&stills, &Method::GET, &target, Some(stills.owner())).await {
            answer.problem(404, "not-found");
            assert!(!is_hit(&answer));
        }
    }
}

#[tokio::test]
async fn nothing_is_there() {
    let (stills, camera, window) = with_minute().await;
    let never = Camera::of(USER, OTHER_DEVICE);
    for answer in both(&stills, &Method::GET, &thumb(&never, window, 0), Some(stills.owner())).await {
        answer.problem(404, "not-recorded");
    }
    let later = (window.1 + 60_000, window.1 + 120_000);
    for answer in both(&stills, &Method::GET, &thumb(&camera, later, 0), Some(stills.owner())).await {
        let gap = answer.problem(404, "gap");
        assert_eq!((gap["covered_before"].as_i64(), gap["covered_after"].as_i64()), (Some(window.1), None));
        let age = answer.header("cache-control").strip_prefix("private, max-age=").expect("an age");
        assert!((1..=30).contains(&age.parse::<i64>().expect("seconds")), "{answer:?}");
    }
}

#[tokio::test]
async fn every_route_wants_its_credential() {
    let (stills, camera, window) = with_minute().await;
    let recordings = |user: &str| {
        let (start, end) = window;
        format!("/v1/recordings?user_id={user}&device_id={}&start_timestamp={start}&end_timestamp={end}", camera.device)
    };
    let other = Camera::of(OTHER_USER, &camera.device);
    let routes = [
        (thumb(&camera, window, 0), thumb(&other, window, 0), "thumbnails:read"),
        (
            Search::new(&camera, window, 10_000).target(),
            Search::new(&other, window, 10_000).target(),
            "thumbnails:read",
        ),
        (recordings(&camera.user), recordings(OTHER_USER), "recordings:read"),
        (format!("/v1/devices?user_id={USER}"), format!("/v1/devices?user_id={OTHER_USER}"), "recordings:read"),
    ];
    for (own, others, scope) in routes {
        for answer in both(&stills, &Method::GET, &own, None).await {
            answer.problem(401, "invalid-token");
            assert!(answer.header("www-authenticate").starts_with("Bearer error=\"invalid_token\""), "{answer:?}");
        }
        let enough = e2e::harness::token::with_scope(scope);
        for answer in both(&stills, &Method::GET, &own, Some(&enough)).await {
            answer.expect(200);
        }
        for scopes in ["", "images:read images:write recordings:write"] {
            let token = e2e::harness::token::with_scope(scopes);
            for answer in both(&stills, &Method::GET, &own, Some(&token)).await {
                answer.problem(403, "insufficient-scope");
                assert!(answer.header("www-authenticate").contains("insufficient_scope"), "{answer:?}");
            }
        }
        // Whether or not there is anything.
        for answer in both(&stills, &Method::GET, &others, Some(stills.owner())).await {
            answer.problem(403, "insufficient-scope");
        }
    }
}

#[tokio::test]
async fn other_methods_are_told_which_ones_there_are() {
    let (stills, camera, window) = with_minute().await;
    let read = ["GET", "HEAD", "OPTIONS"];
    let methods = ["POST", "PUT", "DELETE", "PATCH"];
    let routes = [
        thumb(&camera, window, 0),
        Search::new(&camera, window, 10_000).target(),
        "/v1/recordings".to_owned(),
        "/v1/devices".to_owned(),
        "/openapi.json".to_owned(),
        "/problems/gap".to_owned(),
    ];
    for target in routes {
        for method in methods {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            for answer in both(&stills, &method, &target, Some(stills.owner())).await {
                answer.problem(405, "method-not-allowed");
                let allow: Vec<&str> = answer.header("allow").split(", ").collect();
                assert_eq!(allow, read, "{answer:?}");
            }
        }
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        for answer in both(&stills, &method, "/v1/recordings/events", Some(stills.owner())).await {
            answer.problem(405, "method-not-allowed");
            assert_eq!(answer.header("allow"), "POST, OPTIONS");
        }
    }
}

#[tokio::test]
async fn media_that_cannot_be_shown_any_more() {
    let (stills, camera, window) = with_minute().await;
    let media = stills.media_path(&camera, "r-1");
    let len = std::fs::metadata(&media).expect("the media").len();
    // The same length, and nothing in it that a decoder could use.
    std::fs::write(&media, vec![0; usize::try_from(len).expect("a length")]).expect("a file");
    for answer in both(&stills, &Method::GET, &thumb(&camera, window, 10_000), Some(stills.owner())).await {
        answer.problem(415, "not-decodable");
    }
    std::fs::write(&media, vec![0; 100]).expect("a file");
    for answer in both(&stills, &Method::GET, &thumb(&camera, window, 20_000), Some(stills.owner())).await {
        answer.problem(502, "media-unreadable");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(!answer.header("cache-status").contains("stored"), "{answer:?}");
    }
    assert_eq!(stills.nginx().files("cache-pictures").len(), 0, "a failure was stored");
}

#[tokio::test]
async fn a_server_that_is_away() {
    let (mut stills, camera, window) = with_minute().await;
    stills.origin().stop().await;
    let search = Search::new(&camera, window, 10_000).target();
    let event = event::deleted(&camera, "r-1");
    let answers = [
        stills.get(&thumb(&camera, window, 0)).await,
        stills.get(&search).await,
        stills.send(&[event]).await,
        stills.get("/openapi.json").await,
        stills.get("/nothing").await,
    ];
    for answer in answers {
        answer.problem(503, "unavailable");
        assert!(answer.number("retry-after") > 0);
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    stills.start_again().await;
    e2e::harness::wait::until("NGINX finds it again", async || {
        stills.get(&thumb(&camera, window, 0)).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn heads_that_are_too_long() {
    let (stills, camera, window) = with_minute().await;
    let target = thumb(&camera, window, 0);
    let owner = stills.owner();
    let long_line = format!("GET {target}?x={} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "x".repeat(40_000));
    let long_header =
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\nConnection: close\r\n\r\n", "x".repeat(40_000));
    let many = "X-Many: 1\r\n".repeat(20_000);
    let many = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{many}Connection: close\r\n\r\n");
    for (name, request, status, slug) in [
        ("a long line", &long_line, 414, "uri-too-long"),
        ("a long header", &long_header, 431, "header-fields-too-large"),
        ("many headers", &many, 431, "header-fields-too-large"),
    ] {
        let through = raw::exchange(stills.address(), request).await;
        assert_eq!(through.status, status, "{name}: {through:?}");
        assert_eq!(through.header("content-type"), "application/problem+json", "{name}");
        assert!(through.text.contains(&format!("/problems/{slug}")), "{name}: {through:?}");
        // Past NGINX there is nobody to please, but the answer must be a refusal.
        let direct = raw::exchange(stills.origin_address(), request).await;
        assert!([400, 414, 431].contains(&direct.status), "{name}: {direct:?}");
    }
    // And the server goes on.
    stills.get_as(owner, &target).await.expect(200);
}

#[tokio::test]
async fn every_kind_has_its_page_and_the_interface_its_description() {
    let stills = Setup::new().nginx().start().await;
    for slug in [
        "bad-request",
        "busy",
        "content-too-large",
        "deadline",
        "deleted",
        "gap",
        "header-fields-too-large",
        "insufficient-scope",
        "internal",
        "invalid-events",
        "invalid-parameters",
        "invalid-token",
        "media-gone",
        "media-unreadable",
        "method-not-allowed",
        "not-decodable",
        "not-found",
        "not-indexed",
        "not-recorded",
        "too-many-requests",
        "unavailable",
        "unsupported-media-type",
        "uri-too-long",
    ] {
        let page = stills.ask(Method::GET, &format!("/problems/{slug}")).send().await.expect(200);
        assert!(page.header("content-type").starts_with("text/html"), "{slug}");
    }
    let document = stills.ask(Method::GET, "/openapi.json").send().await.expect(200).json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    let paths = document["paths"].as_object().expect("paths");
    for part in
        ["/v1/thumbnails/search", "/v1/recordings/events", "/v1/recordings", "/v1/devices", "/problems/", "/1/false/"]
    {
        assert!(paths.keys().any(|path| path.contains(part)), "{part} is not described");
    }
}
