//! Rounds in which something breaks, on the real programs: damaged files, kills under load, a disk that fills. A few of
//! each are part of the tests; `scripts/torture` plays as many as are asked for. What may never happen panics: a picture
//! of another instant, an acknowledged event that is lost, something deleted that is shown, a request that hangs.

#![expect(clippy::panic, reason = "a round that finds a fault has failed, and says what")]

pub mod damage;
pub mod disk;
pub mod io;
pub mod kill;
pub mod power;
pub mod start;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use crate::footage::{Footage, Rate, Recipe, cached, look};
use crate::harness::event::{self, media_type};
use crate::harness::stills::{listed, thumb};
use crate::harness::{Answer, Camera, START, Search, Stills, wait};

/// How long any one request may take: the deadline of a look-up twice, on a machine that is busy.
const ANSWER_MAX: Duration = Duration::from_secs(8);

/// How long the longest answer to a search or for a picture took so far, in milliseconds.
pub static LONGEST_MS: AtomicU64 = AtomicU64::new(0);

/// A frame a second, a keyframe every two.
fn minute() -> Footage {
    let rate = Rate { frames: 1, seconds: 1 };
    let recipe =
        Recipe { width: 320, height: 240, rate, gop: 2, duration_ms: 60_000, start_ms: START, ..Recipe::default() };
    cached(&recipe).expect("footage")
}

const WINDOW: (i64, i64) = (START, START + 60_000);

/// `GET`, which must be answered in time, and not by a failure of ours other than 503; media that could not be read (502)
/// is remembered for seconds.
async fn answered(stills: &Stills, target: &str) -> Answer {
    let began = Instant::now();
    let answer = stills.get(target).await;
    let took = began.elapsed();
    LONGEST_MS.fetch_max(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    assert!(took < ANSWER_MAX, "{target}: {took:?}");
    assert!(answer.status < 500 || [502, 503].contains(&answer.status), "{answer:?}");
    answer
}

/// Whether the camera's picture at `offset` is shown. What is shown must be right.
async fn is_shown(stills: &Stills, camera: &Camera, offset: i64) -> bool {
    let answer = answered(stills, &thumb(camera, WINDOW, offset)).await;
    if answer.status != 200 {
        return false;
    }
    let seen = look(&answer.body).expect("a JPEG");
    // The nearest keyframe, of two the later; the last one is at 58 s.
    let expected = START + ((offset + 1000) / 2000 * 2000).min(58_000);
    assert_eq!(seen.clock_ms, Some(expected), "a picture of another instant: {camera:?} at {offset}");
    true
}

/// Whether everything of these cameras is listed and shown.
async fn are_whole(stills: &Stills, cameras: &[Camera], offset: i64) -> bool {
    for camera in cameras {
        let listing = answered(stills, &Search::new(camera, WINDOW, 20_000).target()).await;
        if listing.status != 200 || listed(&listing).len() != 4 || !is_shown(stills, camera, offset).await {
            return false;
        }
    }
    true
}

async fn until_whole(stills: &Stills, cameras: &[Camera], offset: i64, what: &str) {
    wait::until(what, async || are_whole(stills, cameras, offset).await).await;
}

/// One request with events on its way, and which camera it is about.
struct Sent {
    /// The request's id, which its answer bears too.
    id: String,
    camera: Camera,
    is_delete: bool,
    task: tokio::task::JoinHandle<Option<u16>>,
}

/// Sends an event without waiting for the answer.
fn send(stills: &Stills, camera: &Camera, event: Value) -> Sent {
    let is_delete = event["type"] == "recording.deleted";
    let body = Value::from(vec![event]).to_string();
    let id = format!("{}-{}", if is_delete { "delete" } else { "announce" }, camera.device);
    let ask = stills.ask(Method::POST, "/v1/recordings/events").bearer(stills.owner()).header("x-request-id", &id);
    let ask = ask.body(media_type::BATCH, body);
    let task = tokio::spawn(async move { ask.attempt().await.ok().map(|answer| answer.status) });
    Sent { id, camera: camera.clone(), is_delete, task }
}

/// A camera's only recording, announced.
fn announce(stills: &Stills, camera: &Camera, media_url: &str) -> Sent {
    send(stills, camera, event::available(camera, "r-1", WINDOW, media_url))
}

/// What became of a load: what was acknowledged, and what nobody can tell.
#[derive(Debug, Default)]
struct Acknowledged {
    there: Vec<Camera>,
    deleted: Vec<Camera>,
}

impl Acknowledged {
    /// Waits for the answers. Returns how many were refused or never came.
    async fn take(&mut self, sent: Vec<Sent>) -> usize {
        let (mut unclear, mut n_refused) = (Vec::new(), 0);
        for Sent { camera, is_delete, task, .. } in sent {
            let status = task.await.expect("a task");
            n_refused += usize::from(status != Some(202));
            match (status, is_delete) {
                (Some(202), true) => self.deleted.push(camera),
                (Some(202), false) => self.there.push(camera),
                (Some(503) | None, false) => {}
                // It may be durable all the same: to be sent again.
                (Some(503) | None, true) => unclear.push(camera),
                (Some(status), _) => panic!("an event was answered {status}"),
            }
        }
        self.there.retain(|camera| !self.deleted.contains(camera) && !unclear.contains(camera));
        n_refused
    }

    /// Demands that what was acknowledged is so.
    async fn check(&self, stills: &Stills, offset: i64, what: &str) {
        until_whole(stills, &self.there, offset, what).await;
        for camera in &self.deleted {
            let target = thumb(camera, WINDOW, offset);
            // The one that is looked at: the catalog may be opened anew right behind it.
            let known = async || Some(answered(stills, &target).await).filter(|answer| answer.status != 503);
            let answer = wait::some("an answer", known).await;
            assert_eq!(answer.status, 404, "{what}: {camera:?} was deleted: {answer:?}");
        }
    }
}
