//! Which containers and codecs `GET /image` shows, at which point: by the clock in the pictures, for those of recordings
//! and for those of clips alone, by ranged reads.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::footage::{Rate, Recipe, cached, read_clock};
use e2e::harness::media_server::{MediaServer, Object, Reply};
use e2e::harness::{Camera, START, Setup, Stills, event};

/// The clip is this long.
const LEN_MS: i64 = 20_000;

/// One way to pack the clip.
struct Packed {
    /// The ending of its name tells FFmpeg the container.
    name: &'static str,
    arguments: &'static str,
}

const fn packed(name: &'static str, arguments: &'static str) -> Packed {
    Packed { name, arguments }
}

const MPEG2: &str = "-c:v mpeg2video -b:v 2M -g 50 -bf 2 -sc_threshold 1000000000";
const H264: &str = "-c:v libx264 -preset ultrafast -g 50 -keyint_min 50 -bf 2 -x264-params scenecut=0:open-gop=0";
const PRORES: &str = "-c:v prores_ks -profile:v 0 -pix_fmt yuv422p10le";
const DNXHR: &str = "-c:v dnxhd -profile:v dnxhr_lb -pix_fmt yuv422p";

fn all() -> Vec<Packed> {
    vec![
        packed("h264.mp4", H264),
        packed("h264.ts", H264),
        packed("h264.mkv", H264),
        packed("h264.flv", H264),
        packed("h264.avi", "-c:v libx264 -preset ultrafast -g 50 -keyint_min 50 -bf 0 -x264-params scenecut=0"),
        packed(
            "h264.mxf",
            "-c:v libx264 -preset ultrafast -g 50 -keyint_min 50 -bf 0 -x264-params scenecut=0 -pix_fmt yuv420p",
        ),
        packed("mpeg2.mxf", MPEG2),
        packed("mpeg2.mpg", "-c:v mpeg2video -b:v 2M -g 50 -bf 2 -sc_threshold 1000000000 -f vob"),
        packed("mpeg1.mpeg", "-c:v mpeg1video -b:v 2M -g 50 -bf 2 -sc_threshold 1000000000 -f mpeg"),
        packed("mpeg2.ts", MPEG2),
        packed("mpeg2.mov", MPEG2),
        packed("mpeg4.avi", "-c:v mpeg4 -q:v 3 -g 50 -sc_threshold 1000000000"),
        packed("mjpeg.avi", "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p"),
        packed("prores.mov", PRORES),
        packed("prores4444.mov", "-c:v prores_ks -profile:v 4 -pix_fmt yuv444p10le"),
        packed("prores.mxf", "-c:v prores_aw -profile:v 0 -pix_fmt yuv422p10le"),
        packed("dnxhr.mov", DNXHR),
        packed("dnxhr.mxf", DNXHR),
    ]
}

fn pack(way: &Packed, directory: &Path) -> PathBuf {
    let rate = Rate { frames: 5, seconds: 1 };
    let recipe = Recipe { width: 320, height: 240, rate, gop: 5, duration_ms: LEN_MS, ..Recipe::default() };
    let source = cached(&recipe).expect("footage");
    let to = directory.join(way.name);
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-i"])
        .arg(&source.path)
        .args("-f lavfi -i sine=frequency=440:sample_rate=48000 -shortest -map 0:v -map 1:a -vf fps=25".split(' '))
        .args(way.arguments.split(' '))
        .args(if way.name.ends_with(".flv") { ["-ar", "44100"] } else { ["-ac", "2"] })
        .arg(&to)
        .output()
        .expect("ffmpeg");
    assert!(made.status.success(), "{}: {}", way.name, String::from_utf8_lossy(&made.stderr));
    to
}

/// What the source shows at a time: a frame every 200 ms.
fn shown_at(ms: i64) -> i64 {
    START + ms / 200 * 200
}

/// Where FFmpeg finds keyframes, in milliseconds after the first.
fn keyframes(clip: &Path) -> Vec<i64> {
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0"])
        .args(["-show_entries", "packet=pts_time,dts_time,flags", "-of", "csv=p=0"])
        .arg(clip)
        .output()
        .expect("ffprobe");
    let lines = String::from_utf8(probed.stdout).expect("text");
    let times: Vec<i64> = lines
        .lines()
        .map(|line| line.trim_end_matches(',').split(',').collect::<Vec<_>>())
        .filter(|fields| fields.last().is_some_and(|flags| flags.starts_with('K')))
        .map(|fields| {
            let us = fields.iter().find_map(|field| field.replace('.', "").parse::<i64>().ok());
            us.expect("a time with six decimals") / 1000
        })
        .collect();
    let first = times.first().copied().expect("a keyframe");
    times.into_iter().map(|time| time - first).collect()
}

/// What may be shown: the keyframe at or before the point, or the frame beside it, as the sound may make the clip some
/// frames longer or shorter than its pictures.
fn expected(keyframes: &[i64], percent: f64) -> Vec<i64> {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "seconds in milliseconds")]
    let point = (percent * LEN_MS as f64 / 100.0) as i64;
    let at = keyframes.iter().rfind(|at| **at <= point).copied().unwrap_or(0);
    vec![shown_at(at + 20), shown_at((at - 20).max(0)), shown_at((at + 60).min(LEN_MS - 1))]
}

fn clock(body: &[u8]) -> Option<i64> {
    read_clock(&image::load_from_memory(body).expect("a picture").to_luma8())
}

async fn start() -> Stills {
    Setup::new()
        .set("fetch.allow_urls", "[\"^http://127\\\\.0\\\\.0\\\\.1:[0-9]+/\"]")
        .set("fetch.allow_networks", "[\"127.0.0.0/8\"]")
        .set("decoders.deadline", "\"30s\"")
        .start()
        .await
}

async fn folder(directory: &Path) -> MediaServer {
    let directory = directory.to_owned();
    MediaServer::start(move |asked, _| {
        Reply::Good(Object::new(directory.join(asked.target.trim_start_matches('/')), "1"))
    })
    .await
}

#[tokio::test]
async fn every_way_to_pack_a_clip_is_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let (stills, server) = (start().await, folder(directory.path()).await);
    let mut wrong = Vec::new();
    for way in all() {
        let keyframes = keyframes(&pack(&way, directory.path()));
        let mut pictures = Vec::new();
        for percent in [0.0, 34.4, 71.7, 100.0] {
            let target = format!("/image?url={}&offset_percent={percent}", server.url(&format!("/{}", way.name)));
            let answer = stills.get(&target).await;
            let right = expected(&keyframes, percent);
            if answer.status != 200 {
                wrong.push(format!("{} at {percent}: {answer:?}", way.name));
            } else if !clock(&answer.body).is_some_and(|clock| right.contains(&clock)) {
                let shown = clock(&answer.body).map(|clock| clock - START);
                wrong.push(format!("{} at {percent}: shows {shown:?}, not {}", way.name, right[0] - START));
            }
            pictures.push((target, answer));
        }
        // Each of these points again is one ranged read.
        for (target, answer) in pictures {
            server.take();
            let again = stills.get(&target).await;
            let requests = server.take().0;
            if (again.status, &again.body, requests) != (answer.status, &answer.body, 1) {
                wrong.push(format!("{target} again: {} in {requests} requests", again.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_clips_alone_may_be_is_no_recording_and_can_be_switched_off() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = folder(directory.path()).await;
    let stills = Setup::new()
        .set("fetch.allow_urls", "[\"^http://127\\\\.0\\\\.0\\\\.1:[0-9]+/\"]")
        .set("fetch.allow_networks", "[\"127.0.0.0/8\"]")
        .set("fetch.formats", "[\"avi\"]")
        .start()
        .await;
    let (camera, span) = (Camera::first(), (START, START + LEN_MS));
    for way in all()
        .into_iter()
        .filter(|way| ["prores.mov", "dnxhr.mxf", "mpeg2.mpg", "h264.flv", "mjpeg.avi"].contains(&way.name))
    {
        let path = pack(&way, directory.path());
        let (status, is_clip) = match way.name {
            "prores.mov" | "mjpeg.avi" => (200, true),
            _ => (415, false),
        };
        let answer = stills.get(&format!("/image?url={}&width=64", server.url(&format!("/{}", way.name)))).await;
        assert_eq!(answer.status, status, "{}: {answer:?}", way.name);
        if !is_clip {
            let problem = answer.problem(415, "not-decodable");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("fetch.formats")), "{problem}");
        }
        let url = stills.place(&camera, &path, way.name);
        stills.send(&[event::available(&camera, way.name, span, &url)]).await.expect(202);
        stills.until_state(&camera, way.name, span, "failed").await;
    }
}
