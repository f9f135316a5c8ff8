//! How the programs start, stop, tell what is wrong and go on when a part of them dies.

use std::process::Output;
use std::time::{Duration, Instant};

use e2e::harness::event::{self, media_type};
use e2e::harness::http::client;
use e2e::harness::program::Program;
use e2e::harness::stills::thumb;
use e2e::harness::{Ask, Camera, OTHER_USER, START, Search, Setup, Stills, USER, wait};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixtures::{check_picture, first_minute, hour, span};

/// A request whose body is not complete yet: it is in flight for as long as we like.
async fn half_a_request(stills: &Stills, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(stills.origin_address()).await.expect("a connection");
    let head = format!(
        "POST /v1/recordings/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: {}\r\n\
         Content-Length: {}\r\n\r\n",
        stills.owner(),
        media_type::ONE,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&body.as_bytes()[..10]).await.expect("sent");
    stream
}

/// Whether the request has reached its handler: the server has taken all that was sent.
async fn until_in_flight(stills: &Stills) {
    // A request that was sent later on another connection is answered, so the earlier one has been read.
    wait::until("the server answers", async || stills.admin("/livez").await.status == 200).await;
    stills.ask_origin(Method::GET, "/openapi.json").send().await.expect(200);
}

#[tokio::test]
async fn a_stop_lets_requests_finish() {
    let mut stills = Setup::new().set("http.drain", "\"30s\"").start().await;
    assert_eq!(stills.admin("/readyz").await.status, 200);
    let body = event::deleted(&Camera::first(), "r-1").to_string();
    let mut stream = half_a_request(&stills, &body).await;
    until_in_flight(&stills).await;
    stills.origin().signal(Signal::TERM);
    // Readiness fails while the server still answers, and no new connection is taken.
    wait::until("readiness fails", async || stills.admin("/readyz").await.status == 503).await;
    assert_eq!(stills.admin("/livez").await.status, 200);
    let address = stills.origin_address();
    wait::until("listening stops", async || {
        let ask = Ask::new(&client(), Method::GET, format!("http://{address}/openapi.json"));
        ask.attempt().await.is_err()
    })
    .await;
    assert!(stills.origin().is_running());
    stream.write_all(&body.as_bytes()[10..]).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert_eq!(stills.origin().end().await.code(), Some(0));
    check_log(&stills.log());
}

#[tokio::test]
async fn a_stop_is_bounded() {
    let mut stills = Setup::new().set("http.drain", "\"1s\"").start().await;
    let stream = half_a_request(&stills, &"x".repeat(100)).await;
    until_in_flight(&stills).await;
    let asked = Instant::now();
    assert_eq!(stills.origin().stop().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    drop(stream);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut stills = Setup::new().set("http.drain", "\"10m\"").start().await;
    let stream = half_a_request(&stills, &"x".repeat(100)).await;
    until_in_flight(&stills).await;
    stills.origin().signal(Signal::TERM);
    wait::until("readiness fails", async || stills.admin("/readyz").await.status == 503).await;
    stills.origin().signal(Signal::TERM);
    stills.origin().end().await;
    drop(stream);
}

#[tokio::test]
async fn one_directory_has_one_owner() {
    let mut stills = Setup::new().start().await;
    // On other ports, so that nothing else is in its way.
    stills.home_mut().set("http.listen", "\"127.0.0.1:0\"");
    stills.home_mut().set("http.admin_listen", "\"127.0.0.1:0\"");
    let mut second = Program::start("the second server", &mut stills.home().command("stills-origin", &["serve"]));
    let status = second.end().await;
    assert!(!status.success());
    let said = second.lines().join("\n");
    assert!(said.contains("owned by another process"), "{said}");
    assert_eq!(stills.admin("/livez").await.status, 200);
}

fn run(home: &e2e::harness::setup::Home, arguments: &[&str]) -> Output {
    home.command("stills-origin", arguments).output().expect("stills-origin")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_fault_of_the_configuration_is_told_at_once() {
    let home = Setup::new().lay_out();
    assert_eq!(run(&home, &["check-config"]).status.code(), Some(0));

    let faulty = Setup::new()
        .set("auth.cache_ttl", "\"10 parsecs\"")
        .set("auth.hs256_secret_file", "\"/nowhere/secret\"")
        .set("cache.max_bytes", "\"1 byte\"")
        .set("search.urls", "\"mine\"")
        .set("http.lisden", "\"127.0.0.1:1\"")
        .set("media.allow_urls", "[\"(\"]");
    let home = faulty.lay_out();
    for command in ["check-config", "serve"] {
        let output = run(&home, &[command]);
        assert_eq!(output.status.code(), Some(78), "{command}: {}", said(&output));
        let said = said(&output);
        for part in [
            "cache_ttl",
            "10 parsecs",
            "hs256_secret_file",
            "max_bytes",
            "urls",
            "lisden",
            "allow_urls",
            "stills.toml:",
        ] {
            assert!(said.contains(part), "{command}: {part} is not in\n{said}");
        }
        assert!(!home.data().exists(), "{command} began although the configuration is faulty");
    }
}

#[test]
fn the_environment_beats_the_file_and_secrets_are_never_shown() {
    let home = Setup::new().lay_out();
    let mut command = home.command("stills-origin", &["check-config"]);
    let output =
        command.env("STILLS_AUTH__CACHE_TTL", "never").env("STILLS_HTTP__NOTHING", "1").output().expect("a run");
    assert_eq!(output.status.code(), Some(78));
    let told = said(&output);
    assert!(told.contains("STILLS_AUTH__CACHE_TTL") && told.contains("STILLS_HTTP__NOTHING"), "{told}");

    let home = Setup::new().set("auth.hs256_secret_file", "\"/nowhere\"").lay_out();
    let mut command = home.command("stills-origin", &["check-config"]);
    let output = command.env("STILLS_AUTH__HS256_SECRET", "too-short-secret").output().expect("a run");
    assert_eq!(output.status.code(), Some(78));
    assert!(!said(&output).contains("too-short-secret"), "{}", said(&output));
}

#[tokio::test]
async fn tokens_of_the_command_line_work() {
    let stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let arguments = ["token", "--user-id", USER, "--scope", "thumbnails:read", "--ttl", "1h"];
    let output = run(stills.home(), &arguments);
    assert!(output.status.success(), "{}", said(&output));
    let token = String::from_utf8(output.stdout).expect("a token");
    assert_eq!(token.lines().count(), 1);
    let token = token.trim();
    check_picture(&stills.get_as(token, &thumb(&camera, span(&minute), 0)).await, (320, 240), START);
    stills.get_as(token, "/v1/devices?user_id=627d8ca8297a3d00019e2abb").await.problem(403, "insufficient-scope");
    let other = thumb(&Camera::of(OTHER_USER, &camera.device), span(&minute), 0);
    stills.get_as(token, &other).await.problem(403, "insufficient-scope");
    assert!(!run(stills.home(), &["token", "--user-id", "x"]).status.success());
}

/// Demands that every line is one JSON object with what a reader of logs needs.
fn check_log(lines: &[String]) {
    assert!(lines.len() >= 3, "{lines:?}");
    for line in lines {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| unreachable!("{error}: {line}"));
        for name in ["timestamp", "level", "message"] {
            assert!(line[name].is_string(), "{name}: {line}");
        }
    }
}

#[tokio::test]
async fn logs_are_objects_that_tell_no_secret() {
    let setup = Setup::new().nginx().set("log.level", "\"trace\"");
    let mut stills = setup.start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let query = e2e::harness::signed::Window::new(USER, &camera.device, span(&minute).0, span(&minute).1).query();
    stills.ask(Method::GET, &format!("{}?{query}", thumb(&camera, span(&minute), 0))).send().await.expect(200);
    stills.list(&Search::new(&camera, span(&minute), 10_000).with("signed=true")).await;
    stills.get_as("not-a-token-but-secret", "/v1/devices").await.expect(401);
    stills.origin().stop().await;
    let lines = stills.log();
    check_log(&lines);
    let all = lines.join("\n");
    let signature = query.split("signature=").nth(1).expect("a signature");
    for secret in [signature, stills.owner(), "not-a-token-but-secret", e2e::harness::token::SECRET] {
        assert!(!all.contains(secret), "{secret} in the log");
    }
}

/// Processes that `parent` started and that still run.
fn children(parent: u32) -> Vec<(u32, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).expect("a process");
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let ids: Vec<u32> =
        lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect();
    let name = |id: u32| std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default().trim().to_owned();
    ids.into_iter().map(|id| (id, name(id))).collect()
}

fn decoder_of(stills: &mut Stills) -> Option<u32> {
    let id = stills.origin().id();
    children(id).into_iter().find(|(_, name)| name.starts_with("stills-decoder")).map(|(id, _)| id)
}

fn kill(id: u32) {
    let pid = Pid::from_raw(id.cast_signed()).expect("a process id");
    kill_process(pid, Signal::KILL).expect("a child of the server");
}

#[tokio::test]
async fn a_decoder_that_dies_is_replaced() {
    let mut stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    for second in [2, 4, 6] {
        let id = decoder_of(&mut stills).expect("a decoder");
        kill(id);
        wait::until("it is gone", async || !std::path::Path::new(&format!("/proc/{id}")).exists()).await;
        let picture = wait::some("a picture", async || {
            let answer = stills.get(&thumb(&camera, span(&minute), second * 1000)).await;
            (answer.status == 200).then_some(answer)
        });
        check_picture(&picture.await, (320, 240), START + second * 1000);
        assert_ne!(decoder_of(&mut stills), Some(id));
    }
    // And a new recording is scanned.
    stills.record(&Camera::second(), "r-2", span(&minute), &minute.path).await;
}

#[tokio::test]
async fn decoders_end_with_the_server() {
    let mut stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    stills.get(&thumb(&camera, span(&minute), 0)).await.expect(200);
    let decoder = decoder_of(&mut stills).expect("a decoder");
    let mut all = vec![decoder];
    all.extend(children(decoder).into_iter().map(|(id, _)| id));
    stills.kill9().await;
    for id in all {
        wait::until("a decoder ends", async || {
            let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            !name.starts_with("stills-decoder") || status.contains("State:\tZ")
        })
        .await;
    }
}

#[tokio::test]
async fn too_much_at_once_is_told_and_not_queued_without_end() {
    let setup = Setup::new().nginx().set("decoders.running_max", "1").set("decoders.queued_max", "1");
    let stills = setup.start().await;
    let (camera, hour) = (Camera::first(), hour());
    stills.record(&camera, "r-1", span(&hour), &hour.path).await;
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..60 {
        let ask = stills.ask(Method::GET, &thumb(&camera, span(&hour), n * 10_000)).bearer(stills.owner());
        asked.spawn(async move { (n, ask.send().await) });
    }
    let (mut n_good, mut n_busy) = (0, 0);
    for (n, answer) in asked.join_all().await {
        if answer.status == 200 {
            check_picture(&answer, (320, 240), START + n * 10_000);
            n_good += 1;
        } else {
            answer.problem(503, "busy");
            assert!(answer.number("retry-after") > 0);
            assert_eq!(answer.header("cache-control"), "no-store");
            n_busy += 1;
        }
    }
    assert!(n_good >= 2 && n_busy >= 2, "{n_good} pictures, {n_busy} refusals");
    // Once it is calm again, everything is there.
    for n in 0..60 {
        check_picture(&stills.get(&thumb(&camera, span(&hour), n * 10_000)).await, (320, 240), START + n * 10_000);
    }
}

#[tokio::test]
async fn metrics_are_what_scrapers_read() {
    let stills = Setup::new().start().await;
    stills.get("/nothing").await.expect(404);
    let answer = stills.admin("/metrics").await.expect(200);
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"), "{answer:?}");
    let samples = stills.metrics().await;
    assert!(samples.all().len() > 20);
    for sample in samples.all() {
        assert!(sample.name.starts_with("stills_") && sample.value.is_finite(), "{sample:?}");
        // No id of a user or device, so that their number does not multiply the series.
        assert!(sample.labels.values().all(|value| value.len() < 24), "{sample:?}");
    }
    let text = answer.text();
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(types.len() >= 10 && types.iter().all(|name| text.contains(&format!("# HELP {name} "))), "{types:?}");
    assert_eq!(stills.admin("/nothing").await.status, 404);
}
