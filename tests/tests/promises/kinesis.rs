//! Kinesis Video Streams' GetDataEndpoint and GetImages, asked by an unmodified boto3 through NGINX.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::footage::{Footage, Rate, Recipe, cached, read_clock};
use e2e::harness::{
    Camera, DEVICE, OTHER_DEVICE, OTHER_USER, PUBLIC_HOST, START, Setup, Stills, USER, event, procfs, python,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::fixtures::{first_minute, minute, span};

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const OTHER_KEY: &str = "AKIDOTHER";

/// A server with two keys and two streams, one of them empty.
async fn start() -> Stills {
    let streams = [("front-door", DEVICE), ("empty", OTHER_DEVICE)];
    let device =
        |setup: Setup, (name, id): (&str, &str)| setup.set(&format!("kinesis.streams.{name}"), &format!("\"{id}\""));
    let mut home = streams.into_iter().fold(Setup::new().set("decoders.deadline", "\"30s\""), device).lay_out();
    let secret = home.write("kinesis-secret", SECRET);
    let secret = secret.display();
    let key = |id: &str, user: &str| format!("{{ id = \"{id}\", secret_file = \"{secret}\", user_id = \"{user}\" }}");
    home.set("kinesis.access_keys", &format!("[{}, {}]", key(KEY, USER), key(OTHER_KEY, OTHER_USER)));
    Stills::start(home, true).await
}

/// A call with the usual key.
fn call(operation: &str, arguments: &Value) -> Value {
    let service = if operation == "get_images" { "kinesis-video-archived-media" } else { "kinesisvideo" };
    json!({"service": service, "operation": operation, "key": KEY, "secret": SECRET, "arguments": arguments})
}

/// `GetImages` of the front door with other arguments; instants in milliseconds, null for none.
fn images(others: &Value) -> Value {
    let mut arguments = json!({
        "StreamName": "front-door", "ImageSelectorType": "PRODUCER_TIMESTAMP", "Format": "JPEG",
        "StartTimestamp": START, "EndTimestamp": START + 60_000, "SamplingInterval": 10_000,
    });
    change(&mut arguments, others);
    call("get_images", &arguments)
}

fn change(call: &mut Value, others: &Value) {
    let members = call.as_object_mut().expect("an object");
    for (name, value) in others.as_object().expect("an object") {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
}

/// The same call with other members.
fn with(mut call: Value, others: &Value) -> Value {
    change(&mut call, others);
    call
}

async fn ask_all(stills: &Stills, calls: &[Value]) -> Vec<Value> {
    let asked = json!({"endpoint": format!("http://{}", stills.address()), "calls": calls});
    python::run("aws.py", &asked).await.as_array().expect("outcomes").clone()
}

async fn ask(stills: &Stills, call: Value) -> Value {
    ask_all(stills, &[call]).await.remove(0)
}

/// What an entry shows: its tick, and the clock in its picture or its error.
fn shown(entry: &Value) -> (i64, Result<i64, String>) {
    let tick = entry["TimeStamp"].as_i64().expect("a time");
    let Some(content) = entry["ImageContent"].as_str() else {
        return (tick, Err(entry["Error"].as_str().expect("an error").to_owned()));
    };
    assert!(entry.get("Error").is_none(), "a picture and an error");
    let picture = BASE64_STANDARD.decode(content).expect("base64");
    let luma = image::load_from_memory(&picture).expect("a picture").into_luma8();
    (tick, Ok(read_clock(&luma).expect("a clock")))
}

fn all_shown(answer: &Value) -> Vec<(i64, Result<i64, String>)> {
    answer["Images"].as_array().expect("images").iter().map(shown).collect()
}

/// Twelve seconds at 25 frames a second, a keyframe every 2 s.
fn smooth() -> Footage {
    let rate = Rate { frames: 25, seconds: 1 };
    let recipe = Recipe { width: 320, height: 240, rate, gop: 50, duration_ms: 12_000, ..Recipe::default() };
    cached(&recipe).expect("footage")
}

fn no_media() -> Result<i64, String> {
    Err("NO_MEDIA".to_owned())
}

#[tokio::test]
async fn a_client_finds_the_endpoint_and_gets_pictures_there() {
    let mut stills = start().await;
    let endpoint = format!("http://{}", stills.address());
    stills.home_mut().set("public.host", &format!("\"{endpoint}\""));
    stills.origin().stop().await;
    stills.start_again().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;

    let arguments = json!({"StreamName": "front-door", "APIName": "GET_IMAGES"});
    let found = ask(&stills, call("get_data_endpoint", &arguments)).await["answer"]["DataEndpoint"].clone();
    assert_eq!(found, endpoint);

    let arn = "arn:aws:kinesisvideo:eu-west-1:123456789012:stream/front-door/1600000000000";
    let calls = [
        images(&json!({})),
        images(&json!({"StreamName": DEVICE, "ImageSelectorType": "SERVER_TIMESTAMP"})),
        images(&json!({"StreamName": null, "StreamARN": arn})),
    ];
    let calls = calls.map(|call| with(call, &json!({"endpoint": found, "region": "us-gov-west-1"})));
    for outcome in ask_all(&stills, &calls).await {
        // A keyframe every 2 s, the last one at 58 s.
        let expected: Vec<_> = (0..=6).map(|k| (START + k * 10_000, Ok(START + (k * 10_000).min(58_000)))).collect();
        assert_eq!(all_shown(&outcome["answer"]), expected, "{}", outcome["message"]);
        assert!(outcome["answer"].get("NextToken").is_none());
    }
}

#[tokio::test]
async fn every_tick_has_its_entry_on_one_of_the_pages() {
    let stills = start().await;
    let camera = Camera::first();
    // A minute, a gap of a minute, a minute, and one whose media is not there.
    for (n, id) in [(0, "r-1"), (2, "r-2")] {
        let footage = minute(START + n * 60_000);
        stills.record(&camera, id, span(&footage), &footage.path).await;
    }
    let broken = (START + 240_000, START + 270_000);
    let url = stills.media_url(&camera, "not-there");
    stills.send(&[event::available(&camera, "r-3", broken, &url)]).await.expect(202);

    let paginate = |others: &Value| with(images(others), &json!({"paginate": true}));
    let all = paginate(&json!({"EndTimestamp": START + 300_000, "SamplingInterval": null}));
    let few = paginate(&json!({"EndTimestamp": START + 300_000, "SamplingInterval": null, "MaxResults": 7}));
    let many = paginate(&json!({"EndTimestamp": START + 300_000, "SamplingInterval": null, "MaxResults": 100}));
    let expected: Vec<_> = (0..=100)
        .map(|k| {
            let at = k * 3000;
            // The nearest keyframe, of two equally near the later; behind the last one, at 58 s, the last frame is nearer.
            let shown = |start: i64| {
                let of_recording = at - start;
                let frame = if of_recording == 60_000 { 59_000 } else { (of_recording + 1000) / 2000 * 2000 };
                Ok(START + start + frame)
            };
            let entry = match at {
                0..=60_000 => shown(0),
                120_000..=180_000 => shown(120_000),
                240_000..=270_000 => Err("MEDIA_ERROR".to_owned()),
                _ => no_media(),
            };
            (START + at, entry)
        })
        .collect();
    for (outcome, lens) in ask_all(&stills, &[all, few, many]).await.iter().zip([25, 7, 25]) {
        let pages = outcome["answer"].as_array().expect("pages");
        let found: Vec<_> = pages.iter().flat_map(all_shown).collect();
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected);
        }
        assert_eq!(found.len(), expected.len());
        let page_lens: Vec<_> = pages.iter().map(|page| page["Images"].as_array().map_or(0, Vec::len)).collect();
        assert!(page_lens[..page_lens.len() - 1].iter().all(|len| *len == lens), "{page_lens:?}");
        assert!(pages.last().expect("a page").get("NextToken").is_none());
    }
}

#[tokio::test]
async fn fine_sampling_shows_the_exact_frames() {
    let stills = start().await;
    let (camera, footage) = (Camera::first(), smooth());
    stills.record(&camera, "r-1", span(&footage), &footage.path).await;
    let decodes = async || stills.metrics().await.sum("stills_renders_total", &[("class", "exact")]);
    // One whose ticks all are instants of frames, and one whose ticks hardly ever are.
    for interval in [200, 210] {
        let before = decodes().await;
        let fine = |others: &Value| {
            let usual =
                json!({"SamplingInterval": interval, "StartTimestamp": START + 1000, "EndTimestamp": START + 6000});
            with(images(&with(usual, others)), &json!({"paginate": true}))
        };
        let ticks: Vec<i64> = (0..=5000 / interval).map(|k| START + 1000 + k * interval).collect();
        // A frame every 40 ms: of two equally near the later; a keyframe stands for ticks up to 40 ms from it.
        let nearest = |tick: i64| {
            let frame = START + (tick - START + 20) / 40 * 40;
            let keyframe = START + (tick - START + 1000) / 2000 * 2000;
            if (keyframe - tick).abs() <= 40 { keyframe } else { frame }
        };
        let expected: Vec<_> = ticks.iter().map(|tick| (*tick, Ok(nearest(*tick)))).collect();
        let calls =
            [fine(&json!({})), fine(&json!({"Format": "PNG"})), fine(&json!({"HeightPixels": 120, "MaxResults": 10}))];
        for outcome in ask_all(&stills, &calls).await {
            let pages = outcome["answer"].as_array().expect("pages");
            let found: Vec<_> = pages.iter().flat_map(all_shown).collect();
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found, expected);
            }
            assert_eq!(found.len(), expected.len());
        }
        // What shares a stretch between keyframes shares a decode: 75 frames of three stretches, and a few first ones alone.
        let made = decodes().await - before;
        assert!((1.0..=24.0).contains(&made), "{made} decodes");
    }

    // A second and more apart, the keyframe within half of that will do.
    let wide = images(&json!({"StartTimestamp": START + 1000, "EndTimestamp": START + 6000, "SamplingInterval": 1300}));
    let found = all_shown(&ask(&stills, wide).await["answer"]);
    let of = |offset: i64, shown: i64| (START + offset, Ok(START + shown));
    assert_eq!(found, [of(1000, 1000), of(2300, 2000), of(3600, 4000), of(4900, 4920)]);
}

/// What a page's pictures may take, in characters of base64.
const PAGE_LEN_MAX: usize = 16 * 1024 * 1024;

/// What the server may hold at most beyond what it held before pages are made: three pages, and their pictures as such.
const GROWTH_MAX_BYTES: u64 = 128 * 1024 * 1024;

#[tokio::test]
async fn pages_of_large_pictures_take_bounded_memory() {
    let mut stills = start().await;
    let (camera, dir) = (Camera::first(), tempfile::tempdir().expect("a directory"));
    let film = dir.path().join("noise.mp4");
    let filter = "testsrc2=size=960x540:rate=25:duration=8,noise=alls=40:allf=t";
    let mut ffmpeg = std::process::Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", filter, "-c:v", "libx264", "-preset", "ultrafast", "-qp", "12"]);
    assert!(ffmpeg.args(["-g", "50", "-pix_fmt", "yuv420p"]).arg(&film).status().expect("ffmpeg").success());
    stills.record(&camera, "r-1", (START, START + 8000), &film).await;

    let fine = json!({"SamplingInterval": 200, "EndTimestamp": START + 5000, "MaxResults": 25, "Format": "PNG"});
    let id = stills.origin().id();
    let largest = || procfs::tree(id).into_iter().find(|process| process.id == id).map(|of| of.resident_max_bytes);
    let before = largest().expect("a server");
    let answer = ask(&stills, with(images(&fine), &json!({"paginate": true}))).await;
    let after = largest().expect("a server");
    let pages = answer["answer"].as_array().expect("pages");
    let mut found = Vec::new();
    for page in pages {
        let entries = page["Images"].as_array().expect("images");
        let lens = entries.iter().map(|entry| entry["ImageContent"].as_str().map_or(0, str::len));
        let len: usize = lens.sum();
        assert!(len <= PAGE_LEN_MAX, "a page of {len}");
        found.extend(entries.iter().map(|entry| (entry["TimeStamp"].clone(), entry["ImageContent"].is_string())));
    }
    let expected: Vec<_> = (0..=25).map(|k| (json!(START + k * 200), true)).collect();
    assert_eq!(found, expected);
    // Else the pictures were too small to show anything.
    assert!(pages.len() >= 3, "{} pages", pages.len());
    let growth = after.saturating_sub(before);
    assert!(growth <= GROWTH_MAX_BYTES, "{growth} bytes more");
}

#[tokio::test]
async fn sizes_and_formats_are_as_asked() {
    let stills = start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    use image::ImageFormat::{Jpeg, Png};
    let cases = [
        (json!({}), (320, 240), Jpeg),
        (json!({"FormatConfig": {"JPEGQuality": "10"}}), (320, 240), Jpeg),
        (json!({"FormatConfig": {"JPEGQuality": "100"}}), (320, 240), Jpeg),
        (json!({"Format": "PNG"}), (320, 240), Png),
        (json!({"WidthPixels": 400, "HeightPixels": 200}), (400, 200), Jpeg),
        (json!({"WidthPixels": 400, "HeightPixels": 200, "Format": "PNG"}), (400, 200), Png),
        (json!({"HeightPixels": 480}), (640, 480), Jpeg),
        (json!({"HeightPixels": 720}), (960, 720), Jpeg),
    ];
    let calls = cases.each_ref().map(|(others, ..)| images(&with(json!({"EndTimestamp": START}), others)));
    let mut lens = Vec::new();
    for (outcome, (others, size, format)) in ask_all(&stills, &calls).await.iter().zip(cases) {
        let content = outcome["answer"]["Images"][0]["ImageContent"].as_str();
        let picture = BASE64_STANDARD.decode(content.unwrap_or_default()).expect("base64");
        assert_eq!(image::guess_format(&picture).ok(), Some(format), "{others}: {outcome}");
        let decoded = image::load_from_memory(&picture).expect("a picture").into_luma8();
        assert_eq!((decoded.dimensions(), read_clock(&decoded)), (size, Some(START)), "{others}");
        lens.push(picture.len());
    }
    // By quality: the usual 80, 10, 100.
    assert!(lens[1] < lens[0] && lens[0] < lens[2], "{lens:?}");
}

#[tokio::test]
async fn errors_are_of_the_classes_that_the_sdk_knows() {
    let stills = start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let endpoint = |others: &Value| {
        call("get_data_endpoint", &with(json!({"StreamName": "front-door", "APIName": "GET_IMAGES"}), others))
    };
    let (argument, unknown) = ("InvalidArgumentException", "ResourceNotFoundException");
    let denied = "NotAuthorizedException";
    let unrecorded = "627d911f7f58e4f344ca72ff";
    let token = ask(&stills, images(&json!({"MaxResults": 1}))).await["answer"]["NextToken"].clone();
    assert!(token.is_string());
    let cases = [
        (images(&json!({"EndTimestamp": START - 1000})), argument, 400),
        (images(&json!({"EndTimestamp": START + 301_000})), argument, 400),
        (images(&json!({"SamplingInterval": 199})), argument, 400),
        (images(&json!({"StreamName": null})), argument, 400),
        (images(&json!({"StreamARN": "arn:aws:kinesisvideo:eu-west-1:1:stream/front-door/1"})), argument, 400),
        (images(&json!({"FormatConfig": {"JPEGQuality": "101"}})), argument, 400),
        (images(&json!({"NextToken": "AAAA"})), argument, 400),
        (images(&json!({"NextToken": token, "SamplingInterval": 10_001})), argument, 400),
        (images(&json!({"NextToken": token, "StreamName": "empty"})), argument, 400),
        (images(&json!({"WidthPixels": 320})), "ClientError", 400),
        (images(&json!({"StreamName": "back-door"})), unknown, 404),
        (images(&json!({"StreamName": unrecorded})), unknown, 404),
        (with(images(&json!({"StreamName": DEVICE})), &json!({"key": OTHER_KEY})), unknown, 404),
        (endpoint(&json!({"StreamName": "back-door"})), unknown, 404),
        (endpoint(&json!({"APIName": "GET_CLIP"})), argument, 400),
        (with(endpoint(&json!({})), &json!({"key": "AKIDUNKNOWN"})), denied, 401),
        (with(endpoint(&json!({})), &json!({"secret": "another"})), denied, 401),
        (with(images(&json!({})), &json!({"key": "AKIDUNKNOWN"})), denied, 401),
        (with(images(&json!({})), &json!({"secret": "another"})), denied, 401),
        (with(images(&json!({})), &json!({"session_token": "temporary"})), denied, 401),
    ];
    let calls: Vec<Value> = cases.iter().map(|(call, ..)| call.clone()).collect();
    for (outcome, (call, class, status)) in ask_all(&stills, &calls).await.iter().zip(cases) {
        assert_eq!((&outcome["error"], &outcome["status"]), (&json!(class), &json!(status)), "{call}: {outcome}");
        let code = if class == "ClientError" { "ValidationException" } else { class };
        assert_eq!(outcome["code"], code, "{call}");
        assert!(outcome["message"].as_str().is_some_and(|text| !text.is_empty()), "{call}: {outcome}");
        assert!(outcome["request_id"].as_str().is_some_and(|text| !text.is_empty()), "{call}: {outcome}");
    }
    // A stream that is configured and has recorded nothing is there, and empty.
    let empty = ask(&stills, images(&json!({"StreamName": "empty", "EndTimestamp": START}))).await;
    assert_eq!(all_shown(&empty["answer"]), [(START, no_media())]);
}

#[tokio::test]
async fn a_clock_may_be_five_minutes_off() {
    let stills = start().await;
    let call = call("get_data_endpoint", &json!({"StreamName": "front-door", "APIName": "GET_IMAGES"}));
    for (skew_s, is_taken) in [(-240, true), (240, true), (-400, false), (400, false)] {
        let endpoint = format!("http://{}", stills.address());
        let asked = json!({"endpoint": endpoint, "skew_s": skew_s, "calls": [call]});
        let outcome = python::run("aws.py", &asked).await[0].clone();
        if is_taken {
            assert_eq!(outcome["answer"]["DataEndpoint"], PUBLIC_HOST, "{skew_s}: {outcome}");
        } else {
            assert_eq!(outcome["code"], "NotAuthorizedException", "{skew_s}: {outcome}");
            assert!(outcome["message"].as_str().is_some_and(|text| text.contains("five minutes")), "{outcome}");
        }
    }
}

#[tokio::test]
async fn what_is_not_signed_is_refused_in_the_same_form() {
    let stills = start().await;
    for target in ["/getImages", "/getDataEndpoint"] {
        for ask in [stills.ask(Method::POST, target), stills.ask(Method::POST, target).bearer(stills.owner())] {
            let answer = ask.body("application/json", "{}").send().await.expect(401);
            assert_eq!(answer.header("x-amzn-errortype"), "NotAuthorizedException");
            assert_eq!(answer.header("x-amzn-requestid"), answer.header("x-request-id"));
            assert_eq!(answer.header("content-type"), "application/json");
            let message = answer.json()["Message"].as_str().expect("a message").to_owned();
            assert!(message.contains("not signed"), "{message}");
        }
        assert_eq!(stills.get(target).await.problem(405, "method-not-allowed")["status"], 405);
        assert_eq!(stills.get(target).await.header("allow"), "POST, OPTIONS");
    }
}

#[tokio::test]
async fn too_much_at_once_is_told_apart() {
    let stills = start().await;
    let footage = smooth();
    stills.record(&Camera::first(), "r-1", span(&footage), &footage.path).await;
    let page = json!({"EndTimestamp": START + 5000, "SamplingInterval": 210});
    let calls = vec![images(&page); 20];
    let asked = json!({"endpoint": format!("http://{}", stills.address()), "calls": calls, "at_once": 20});
    let outcomes = python::run("aws.py", &asked).await.as_array().expect("outcomes").clone();
    let refused = outcomes.iter().filter(|outcome| outcome["error"] == "ClientLimitExceededException").count();
    let pages: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.get("answer")).collect();
    assert_eq!(refused + pages.len(), 20, "{:?}", outcomes.iter().map(|outcome| &outcome["code"]).collect::<Vec<_>>());
    assert!(refused > 0 && pages.len() >= 8, "{refused} refused, {} answered", pages.len());
    for page in pages {
        let first = shown(&page["Images"][0]);
        assert_eq!(first, (START, Ok(START)));
    }
}
