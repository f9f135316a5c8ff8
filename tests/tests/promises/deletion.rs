//! What is deleted or replaced is no longer shown: not by a search, not by the server, not by NGINX, not on the disk;
//! and what was not touched stays where it is.

use std::time::{Duration, Instant};

use e2e::harness::stills::thumb;
use e2e::harness::{Answer, Camera, OTHER_USER, START, Search, Setup, Stills, event, token, wait};
use serde_json::{Value, json};

use crate::fixtures::{check_picture, first_minute, is_hit, minute, span};

/// `auth.cache_ttl`
const CACHE_TTL: Duration = Duration::from_secs(3);

const DAY: i64 = 86_400_000;

/// Who asks for the first time: the yes to this token is as fresh in NGINX's store as it can be.
async fn newcomer(stills: &Stills, target: &str) -> String {
    // NGINX counts whole seconds: a yes from their beginning lives longest.
    wait::until("a second begins", async || token::now_ms() % 1000 < 100).await;
    let token = token::hs256(&token::claims_with("thumbnails:read", &json!({"jti": token::now_ms()})));
    assert!(is_hit(&stills.get_as(&token, target).await.expect(200)));
    token
}

/// Asks until the answer is another one than NGINX had, and demands that this takes no longer than it may.
async fn until_changed(
    stills: &Stills,
    token: &str,
    target: &str,
    since: Instant,
    is_changed: impl Fn(&Answer) -> bool,
) -> Answer {
    let answer = wait::some("what NGINX had is out of reach", async || {
        let answer = stills.get_as(token, target).await;
        is_changed(&answer).then_some(answer)
    })
    .await;
    // A busy machine may take a moment for the last request.
    let took = since.elapsed();
    assert!(took <= CACHE_TTL + Duration::from_millis(700), "{target} was shown for {took:?}");
    answer
}

/// A server with NGINX, one minute each on the usual day and four days later, both pictures in NGINX's store.
struct Two {
    stills: Stills,
    camera: Camera,
    doomed: String,
    other_day: String,
}

async fn two() -> Two {
    let stills = Setup::new().nginx().set("auth.cache_ttl", &format!("\"{}s\"", CACHE_TTL.as_secs())).start().await;
    let camera = Camera::first();
    let (first, later) = (first_minute(), minute(START + 4 * DAY));
    stills.record(&camera, "r-1", span(&first), &first.path).await;
    stills.record(&camera, "r-2", span(&later), &later.path).await;
    let doomed = thumb(&camera, span(&first), 20_000);
    let other_day = thumb(&camera, span(&later), 20_000);
    for target in [&doomed, &other_day] {
        stills.get(target).await.expect(200);
        assert!(is_hit(&stills.get(target).await.expect(200)));
    }
    Two { stills, camera, doomed, other_day }
}

/// One kind of delete takes the first minute; what stays depends on the kind.
async fn check_delete(delete: impl FnOnce(&Camera) -> Value, is_other_day_left: bool) {
    let Two { stills, camera, doomed, other_day } = two().await;
    let picture = stills.get(&doomed).await.expect(200).body;
    let window = (START, START + 60_000);
    let newcomer = newcomer(&stills, &doomed).await;
    let asked = Instant::now();
    stills.send(&[delete(&camera)]).await.expect(202);
    // Before any waiting: a search does not list what is gone, and the server itself does not show it.
    assert_eq!(stills.list(&Search::new(&camera, window, 10_000)).await, []);
    let direct = stills.ask_origin(reqwest::Method::GET, &doomed).bearer(stills.owner()).send().await;
    direct.problem(404, "deleted");
    let answer = until_changed(&stills, &newcomer, &doomed, asked, |answer| answer.status != 200).await;
    answer.problem(404, "deleted");

    if is_other_day_left {
        let before = stills.requests("thumb").await;
        let answer = stills.get(&other_day).await;
        check_picture(&answer, (320, 240), START + 4 * DAY + 20_000);
        assert!(is_hit(&answer), "{answer:?}");
        assert_eq!(stills.requests("thumb").await, before, "the other day's picture was fetched again");
    } else {
        until_changed(&stills, &newcomer, &other_day, asked, |answer| answer.status != 200)
            .await
            .problem(404, "deleted");
    }

    // Nothing of the picture is left in what the server stores.
    wait::until("the picture leaves the disk", async || !is_stored(&stills, &picture)).await;
}

fn is_stored(stills: &Stills, bytes: &[u8]) -> bool {
    let mut folders = vec![stills.home().data()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the server") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).is_ok_and(|file| file.windows(bytes.len()).any(|part| part == bytes)) {
                return true;
            }
        }
    }
    false
}

#[tokio::test]
async fn pictures_are_on_the_disk_until_they_are_deleted() {
    let Two { stills, doomed, .. } = two().await;
    let picture = stills.get(&doomed).await.expect(200).body;
    assert!(is_stored(&stills, &picture));
}

#[tokio::test]
async fn a_recording() {
    check_delete(|camera| event::deleted(camera, "r-1"), true).await;
}

#[tokio::test]
async fn a_range() {
    check_delete(|camera| event::range_deleted(camera, (START - 1000, START + 60_000)), true).await;
}

#[tokio::test]
async fn a_device() {
    check_delete(event::device_deleted, false).await;
}

#[tokio::test]
async fn a_user() {
    check_delete(|camera| event::user_deleted(&camera.user), false).await;
}

#[tokio::test]
async fn a_range_that_only_touches_takes_nothing() {
    let Two { stills, camera, doomed, .. } = two().await;
    stills.send(&[event::range_deleted(&camera, (START + 1, START + 60_000))]).await.expect(202);
    stills.send(&[event::deleted(&camera, "r-9"), event::device_deleted(&Camera::second())]).await.expect(202);
    let other = token::hs256(&token::claims_with("recordings:write", &json!({"user_id": OTHER_USER})));
    stills.send_as(&other, &[event::user_deleted(OTHER_USER)]).await.expect(202);
    check_picture(&stills.get(&doomed).await, (320, 240), START + 20_000);
    assert_eq!(stills.list(&Search::new(&camera, (START, START + 60_000), 10_000)).await.len(), 7);
}

#[tokio::test]
async fn recorded_anew_it_shows_the_new_picture() {
    let Two { stills, camera, doomed, other_day } = two().await;
    // Footage of another hour, announced over the same minute: its clock tells which one is shown.
    let other = minute(START + 3_600_000);
    let window = (START, START + 60_000);
    let old = stills.get(&doomed).await.expect(200).header("etag").to_owned();
    stills.send(&[event::deleted(&camera, "r-1")]).await.expect(202);
    let url = stills.place(&camera, &other.path, "r-1-anew");
    stills.send(&[event::available(&camera, "r-1", window, &url)]).await.expect(202);
    stills.until_state(&camera, "r-1", window, "indexed").await;
    let picture =
        until_changed(&stills, stills.owner(), &doomed, Instant::now(), |a| a.status == 200 && a.header("etag") != old)
            .await;
    check_picture(&picture, (320, 240), START + 3_600_000 + 20_000);
    assert!(is_hit(&stills.get(&other_day).await.expect(200)));
}

#[tokio::test]
async fn a_late_overlap_shows_at_once() {
    let Two { stills, camera, other_day, .. } = two().await;
    let target = thumb(&camera, (START, START + 60_000), 20_900);
    let old = stills.get(&target).await;
    check_picture(&old, (320, 240), START + 20_000);
    assert!(is_hit(&stills.get(&target).await));
    // Footage of another hour, whose first keyframe is nearer now.
    let other = minute(START + 3_600_000);
    stills.record(&camera, "r-3", (START + 20_800, START + 60_000), &other.path).await;
    let indexed = Instant::now();
    let is_new = |answer: &Answer| answer.header("etag") != old.header("etag");
    let picture = until_changed(&stills, stills.owner(), &target, indexed, is_new).await;
    check_picture(&picture, (320, 240), START + 3_600_000);
    assert!(is_hit(&stills.get(&other_day).await.expect(200)));
}

#[tokio::test]
async fn a_deleted_recording_does_not_come_back_by_an_old_event() {
    let stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    let url = stills.place(&camera, &minute.path, "r-1");
    let [old, older] = [(); 2].map(|()| event::available(&camera, "r-1", span(&minute), &url));
    let delete = event::deleted(&camera, "r-1");
    for event in [older, delete, old] {
        stills.send(&[event]).await.expect(202);
    }
    assert_eq!(stills.list(&Search::new(&camera, span(&minute), 10_000)).await, []);
    stills.get(&thumb(&camera, span(&minute), 0)).await.problem(404, "deleted");
}

#[tokio::test]
async fn what_expires_is_gone_at_its_time() {
    let stills = Setup::new().nginx().set("auth.cache_ttl", "\"2s\"").start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    let mut event = event::available(&camera, "r-1", span(&minute), &stills.place(&camera, &minute.path, "r-1"));
    let expires_at = token::now_ms() + 4_000;
    event["data"]["expires_at"] = expires_at.into();
    stills.send(&[event]).await.expect(202);
    stills.until_state(&camera, "r-1", span(&minute), "indexed").await;
    let target = thumb(&camera, span(&minute), 20_000);
    check_picture(&stills.get(&target).await, (320, 240), START + 20_000);
    wait::until("it has expired", async || stills.get(&target).await.status == 404).await;
    let late_ms = token::now_ms() - expires_at;
    assert!((0..1_000).contains(&late_ms), "{late_ms} ms late");
    wait::until("searches leave it out", async || {
        stills.list(&Search::new(&camera, span(&minute), 10_000)).await.is_empty()
    })
    .await;
    stills.get(&target).await.problem(404, "deleted");
}

#[tokio::test]
async fn events_older_than_retention_are_taken_and_ignored() {
    let stills = Setup::new().set("retention.days", "1").start().await;
    let (camera, first) = (Camera::first(), first_minute());
    let now = token::now_ms() / 1000 * 1000 - 120_000;
    let url = stills.place(&camera, &first.path, "media");
    let old = event::available(&camera, "old", span(&first), &url);
    let new = event::available(&camera, "new", (now, now + 60_000), &url);
    assert_eq!(stills.send(&[old, new]).await.expect(202).json()["accepted"], 2);
    stills.until_state(&camera, "new", (now, now + 60_000), "indexed").await;
    assert_eq!(stills.recordings(&camera, span(&first)).await["recordings"], json!([]));
    assert_eq!(stills.list(&Search::new(&camera, (now, now + 60_000), 10_000)).await.len(), 7);
}
