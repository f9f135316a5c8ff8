//! Recordings whose media lies on the network: what is read of it, and that it is what was announced.

use std::path::Path;
use std::process::Command;

use e2e::footage::{Container, Footage, Rate, Recipe, cached};
use e2e::harness::media_server::{MediaServer, Object};
use e2e::harness::stills::thumb;
use e2e::harness::{Camera, START, Setup, Stills, USER, event, wait};
use serde_json::Value;

use crate::fixtures::{check_picture, first_minute, span};

/// A server that reads media of this machine's servers, where the user's id begins the path.
fn setup() -> Setup {
    Setup::new()
        .set("media.allow_urls", "[\"^http://127\\\\.0\\\\.0\\\\.1:[0-9]+/{user_id}/\"]")
        .set("media.allow_networks", "[\"127.0.0.0/8\"]")
}

fn announced(camera: &Camera, id: &str, footage: &Footage, url: &str, more: &[(&str, Value)]) -> Value {
    let mut event = event::available(camera, id, span(footage), url);
    for (name, value) in more {
        event["data"][*name] = value.clone();
    }
    event
}

/// Bytes of the keyframes, by FFmpeg; and of the tables, by the box headers.
fn keyframes_and_tables(path: &Path) -> (u64, u64) {
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-show_entries", "packet=size,flags", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe");
    let lines = String::from_utf8(probed.stdout).expect("text");
    let sizes = lines.lines().filter_map(|line| line.split_once(',')).filter(|(_, flags)| flags.starts_with('K'));
    let keyframes = sizes.map(|(size, _)| size.parse::<u64>().expect("a size")).sum();
    let bytes = std::fs::read(path).expect("footage");
    let (mut at, mut tables) = (0, 0);
    while at + 8 <= bytes.len() {
        let len = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        tables += if &bytes[at + 4..at + 8] == b"mdat" { 8 } else { u64::from(len) };
        at += len as usize;
    }
    (keyframes, tables)
}

async fn requests_and_bytes(recipe: Recipe, setup: Setup) -> (usize, u64, u64, u64) {
    let footage = cached(&recipe).expect("footage");
    let server = MediaServer::of(Object::new(&footage.path, "1")).await;
    let stills = setup.set("prerender.interval", "\"every-keyframe\"").start().await;
    let camera = Camera::first();
    let url = server.url(&format!("/{USER}/film.mp4"));
    stills.send(&[announced(&camera, "r-1", &footage, &url, &[])]).await.expect(202);
    stills.until_state(&camera, "r-1", span(&footage), "indexed").await;
    let n_keyframes = footage.recipe.keyframes_ms().len();
    wait::until("everything is rendered ahead", async || rendered(&stills).await >= n_keyframes).await;
    let (requests, bytes) = server.take();
    let (keyframes, tables) = keyframes_and_tables(&footage.path);
    for offset in [0, 30_000, 60_000] {
        let picture = stills.get(&thumb(&camera, span(&footage), offset)).await;
        check_picture(&picture, (320, 240), START + offset);
    }
    assert_eq!(server.take().0, 0, "what was rendered ahead needs no media");
    (requests, bytes, keyframes, tables)
}

async fn rendered(stills: &Stills) -> usize {
    let samples = stills.metrics().await;
    let renders = samples.sum("stills_renders_total", &[("outcome", "ok")]);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let renders = renders as usize;
    renders
}

#[tokio::test]
async fn by_ranges_no_more_is_read_than_tables_and_keyframes() {
    for container in [Container::Mp4, Container::Mp4MoovAtEnd] {
        let rate = Rate { frames: 5, seconds: 1 };
        // Two minutes, so that the file is many times the bound.
        let recipe =
            Recipe { width: 640, height: 480, rate, gop: 10, duration_ms: 120_000, container, ..Recipe::default() };
        let (requests, bytes, keyframes, tables) = requests_and_bytes(recipe, setup()).await;
        let most = tables + keyframes + 64 * 1024;
        assert!(bytes <= most, "{container:?}: {bytes} bytes in {requests} requests; {tables} + {keyframes} + 64 KiB");
    }
}

#[tokio::test]
async fn another_object_than_announced_is_not_indexed() {
    let footage = first_minute();
    let len = footage.path.metadata().expect("a file").len();
    let server = MediaServer::of(Object::new(&footage.path, "one")).await;
    let stills = setup().start().await;
    let camera = Camera::first();
    let url = server.url(&format!("/{USER}/film.mp4"));
    let file = stills.place(&camera, &footage.path, "own.mp4");
    for (id, url, more) in [
        ("size", &url, vec![("size", (len + 1).into())]),
        ("tag", &url, vec![("size", len.into()), ("etag", "another".into())]),
        ("file", &file, vec![("size", (len - 1).into())]),
    ] {
        stills.send(&[announced(&camera, id, &footage, url, &more)]).await.expect(202);
        wait::until("it is tried", async || stills.recording(&camera, id, span(&footage)).await["reason"].is_string())
            .await;
        let recording = stills.recording(&camera, id, span(&footage)).await;
        let reason = recording["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("not what was announced"), "{recording}");
        assert_eq!(recording["state"], "pending", "tried again: {recording}");
    }
    // What it is, it may be said to be: a later event is tried at once.
    for (id, url, more) in [
        ("size", &url, vec![("size", len.into())]),
        ("tag", &url, vec![("size", len.into()), ("etag", "one".into())]),
        ("file", &file, vec![("size", len.into()), ("etag", "files have none".into())]),
    ] {
        stills.send(&[announced(&camera, id, &footage, url, &more)]).await.expect(202);
        stills.until_state(&camera, id, span(&footage), "indexed").await;
    }
}
