//! How long an answer may be kept, and what it costs to ask again: entity tags, ages, `HEAD`, one stored spelling.

use e2e::harness::raw;
use e2e::harness::stills::{Search, thumb};
use e2e::harness::token::now_ms;
use e2e::harness::{Answer, Camera, START, Setup, Stills, event, signed};
use reqwest::Method;

use crate::fixtures::{check_picture, first_minute, is_hit, span};

async fn with_minute(setup: Setup) -> (Stills, Camera, (i64, i64)) {
    let stills = setup.start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    (stills, camera, span(&minute))
}

async fn if_none_match(stills: &Stills, target: &str, tags: &str) -> Answer {
    stills.ask(Method::GET, target).bearer(stills.owner()).header("if-none-match", tags).send().await
}

#[tokio::test]
async fn what_the_client_has_is_not_rendered_again() {
    let (mut stills, camera, window) = with_minute(Setup::new()).await;
    let target = thumb(&camera, window, 20_000);
    let etag = stills.get(&target).await.expect(200).header("etag").to_owned();
    // Without its pictures the server would have to render to send one.
    stills.origin().stop().await;
    std::fs::remove_dir_all(stills.home().data().join("cache")).expect("the cache");
    stills.start_again().await;
    let opaque = etag.trim_matches('"');
    for tags in [etag.clone(), format!("\"x\", W/{etag}"), format!("W/\"{opaque}\",\"y\""), "*".to_owned()] {
        let answer = if_none_match(&stills, &target, &tags).await.expect(304);
        assert_eq!((answer.header("etag"), answer.body.len()), (etag.as_str(), 0), "{tags}");
        assert_eq!(answer.header("cache-control"), "private, max-age=300");
    }
    assert_eq!(stills.renders().await, 0.0);
    for tags in ["\"x\"".to_owned(), opaque.to_owned(), format!("\"{}\"", &opaque[1..])] {
        let answer = if_none_match(&stills, &target, &tags).await;
        check_picture(&answer, (320, 240), START + 20_000);
        assert_eq!(answer.header("etag"), etag);
    }
    assert_eq!(stills.renders().await, 1.0);
}

#[tokio::test]
async fn nginx_answers_if_none_match_from_its_store() {
    let (stills, camera, window) = with_minute(Setup::new().nginx()).await;
    let target = thumb(&camera, window, 20_000);
    let etag = stills.get(&target).await.expect(200).header("etag").to_owned();
    let asked = stills.requests("thumb").await;
    let answer = if_none_match(&stills, &target, &etag).await.expect(304);
    assert!(is_hit(&answer) && answer.body.is_empty(), "{answer:?}");
    if_none_match(&stills, &target, "\"x\"").await.expect(200);
    assert_eq!(stills.requests("thumb").await, asked);
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let (stills, camera, window) = with_minute(Setup::new().nginx()).await;
    let about = |answer: &Answer| {
        let mut headers: Vec<(String, String)> = answer
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .filter(|(name, _)| !["date", "x-request-id", "cache-status"].contains(&name.as_str()))
            .collect();
        headers.sort();
        (answer.status, headers)
    };
    let Camera { user, device } = &camera;
    let recordings = format!(
        "/v1/recordings?user_id={user}&device_id={device}&start_timestamp={}&end_timestamp={}",
        window.0, window.1
    );
    let targets = [
        thumb(&camera, window, 20_000),
        thumb(&camera, (START - 60_000, START), 1),
        thumb(&camera, window, 60_001),
        Search::new(&camera, window, 10_000).target(),
        recordings,
        "/nothing".to_owned(),
    ];
    for target in targets {
        for is_direct in [false, true] {
            let ask = |method| if is_direct { stills.ask_origin(method, &target) } else { stills.ask(method, &target) };
            // First `HEAD`: it must not need that somebody asked before.
            let head = ask(Method::HEAD).bearer(stills.owner()).send().await;
            let get = ask(Method::GET).bearer(stills.owner()).send().await;
            assert_eq!(about(&head), about(&get), "{target}");
            assert!(head.body.is_empty() && !get.body.is_empty(), "{target}");
            assert_eq!(head.number("content-length"), i64::try_from(get.body.len()).expect("a length"), "{target}");
        }
    }
}

#[tokio::test]
async fn only_a_named_picture_is_immutable() {
    let (stills, camera, window) = with_minute(Setup::new().nginx()).await;
    let target = thumb(&camera, window, 20_000);
    let picture = stills.get(&target).await.expect(200);
    assert_eq!(picture.header("cache-control"), "private, max-age=300");
    let etag = picture.header("etag").trim_matches('"').to_owned();
    let listed = stills.list(&Search::new(&camera, window, 20_000).with("urls=shared")).await;
    let version = listed[1].target.split_once("?v=").expect("a version").1.to_owned();
    assert!(etag.starts_with(&version));

    let wrong: String = version.chars().map(|digit| if digit == '0' { '1' } else { '0' }).collect();
    let named = "private, max-age=86400, immutable";
    let usual = "private, max-age=300";
    for (query, expected) in [
        (format!("?v={version}"), named),
        (format!("?v={etag}"), named),
        (format!("?v={wrong}"), usual),
        (format!("?v={}", &version[..1]), usual),
        ("?v=".to_owned(), usual),
        ("?x=1".to_owned(), usual),
    ] {
        for _ in 0..2 {
            let answer = stills.get(&format!("{target}{query}")).await;
            check_picture(&answer, (320, 240), START + 20_000);
            assert_eq!(answer.header("cache-control"), expected, "{query}");
        }
    }
}

#[tokio::test]
async fn nginx_is_told_its_age_first() {
    let (stills, camera, window) = with_minute(Setup::new()).await;
    for (offset, status) in [(20_000, 200), (-1_000, 404)] {
        let window = (window.0 - 1_000, window.1);
        let target = thumb(&camera, window, offset + 1_000);
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            stills.owner()
        );
        let answer = raw::exchange(stills.origin_address(), request).await;
        assert_eq!(answer.status, status);
        let place = |name: &str| answer.text.to_lowercase().find(&format!("\r\n{name}:")).expect("the header");
        assert!(place("x-accel-expires") < place("cache-control"), "{}", answer.text);
    }
}

#[tokio::test]
async fn ages_end_with_the_recording_and_are_short_while_it_grows() {
    let stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    let mut expiring = event::available(&camera, "a", span(&minute), &stills.place(&camera, &minute.path, "a"));
    expiring["data"]["expires_at"] = (now_ms() + 100_000).into();
    let later = (START + 600_000, START + 660_000);
    let mut growing = event::available(&camera, "b", later, &stills.place(&camera, &minute.path, "b"));
    growing["data"]["growing"] = true.into();
    stills.send(&[expiring, growing]).await.expect(202);
    stills.until_state(&camera, "a", span(&minute), "indexed").await;
    stills.until_state(&camera, "b", later, "growing").await;

    let max_age = |answer: &Answer| {
        let age = answer.header("cache-control").strip_prefix("private, max-age=").expect("an age without more");
        age.parse::<i64>().expect("seconds")
    };
    let picture = stills.get(&thumb(&camera, span(&minute), 0)).await.expect(200);
    assert!((1..=100).contains(&max_age(&picture)), "{picture:?}");
    assert!((1..=100).contains(&picture.number("x-accel-expires")), "{picture:?}");
    let picture = stills.get(&thumb(&camera, later, 0)).await.expect(200);
    assert!((1..=10).contains(&max_age(&picture)), "{picture:?}");
    assert!((1..=10).contains(&picture.number("x-accel-expires")), "{picture:?}");
}

/// NGINX sends the epoch that it keyed with: what is answered under an old one must not be stored there.
#[tokio::test]
async fn an_answer_for_an_old_epoch_is_not_stored() {
    let (stills, camera, window) = with_minute(Setup::new()).await;
    let target = thumb(&camera, window, 20_000);
    let asked = stills.ask(Method::GET, "/auth").bearer(stills.owner()).header("x-original-uri", &target);
    let epoch = asked.send().await.expect(204).header("stills-cache-epoch").to_owned();
    let under = async |epoch: &str| {
        let asked = stills.ask(Method::GET, &target).bearer(stills.owner()).header("stills-cache-epoch", epoch);
        asked.send().await.expect(200).number("x-accel-expires")
    };
    assert!(under(&epoch).await > 0);
    assert_eq!(under("00000000-0").await, 0);
}

#[tokio::test]
async fn signed_answers_are_as_public_as_configured() {
    for (setting, expected) in [("private", "private, max-age=300"), ("public", "public, max-age=300")] {
        let setup = Setup::new().nginx().set("auth.signed_cache", &format!("\"{setting}\""));
        let (stills, camera, window) = with_minute(setup).await;
        let target = thumb(&camera, window, 20_000);
        let query = signed::Window::new(&camera.user, &camera.device, window.0, window.1).query();
        // The other kind of credential in between must not change what is said.
        for _ in 0..2 {
            let signed = stills.ask(Method::GET, &format!("{target}?{query}")).send().await.expect(200);
            assert_eq!(signed.header("cache-control"), expected);
            let bearer = stills.get(&target).await.expect(200);
            assert_eq!(bearer.header("cache-control"), "private, max-age=300");
        }
    }
}

#[tokio::test]
async fn only_the_canonical_spelling_is_stored() {
    let (stills, camera, window) = with_minute(Setup::new().nginx()).await;
    let Camera { user, device } = &camera;
    let (start, end) = window;
    for spelling in [
        format!("/{}/{device}/{start}/{end}/1/false/thumb-20000-w320-h240.jpg", user.to_uppercase()),
        format!("/{user}/{}/{start}/{end}/1/false/thumb-20000-w320-h240.jpg", device.to_uppercase()),
        format!("/{user}/{device}/0{start}/{end}/1/false/thumb-20000-w320-h240.jpg"),
        format!("/{user}/{device}/{start}/{end}/1/false/thumb-020000-w320-h240.jpg"),
        format!("/{user}/{device}/{start}/{end}/1/false/thumb-20000-w0320-h240.jpg"),
    ] {
        for _ in 0..2 {
            let answer = stills.get(&spelling).await;
            check_picture(&answer, (320, 240), START + 20_000);
            assert!(
                !is_hit(&answer) && !answer.header("cache-status").contains("nginx; fwd=miss; stored"),
                "{answer:?}"
            );
        }
    }
    assert_eq!(stills.nginx().files("cache-pictures").len(), 0);
    let canonical = thumb(&camera, window, 20_000);
    assert!(!is_hit(&stills.get(&canonical).await.expect(200)));
    assert!(is_hit(&stills.get(&canonical).await.expect(200)));
    assert_eq!(stills.nginx().files("cache-pictures").len(), 1);
    assert_eq!(stills.renders().await, 1.0);
}

#[tokio::test]
async fn tags_and_timings_only_where_they_are_wanted() {
    let (stills, camera, window) = with_minute(Setup::new()).await;
    let plain = stills.get(&thumb(&camera, window, 0)).await.expect(200);
    assert_eq!((plain.header("cache-tag"), plain.header("server-timing")), ("", ""));
    assert_eq!(plain.header("cache-status"), "stills; fwd=miss; stored");
    let again = stills.get(&thumb(&camera, window, 0)).await.expect(200);
    assert_eq!(again.header("cache-status"), "stills; hit");

    let setup = Setup::new().set("http.cache_tags", "true").set("http.server_timing", "true");
    let (stills, camera, window) = with_minute(setup).await;
    let full = stills.get(&thumb(&camera, window, 0)).await.expect(200);
    assert_eq!(full.header("cache-tag"), format!("{},r-1", camera.device));
    assert!(full.header("server-timing").contains(";dur="), "{full:?}");
}
