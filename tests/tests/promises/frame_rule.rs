//! Every instant is answered with the keyframe that the contract's rule names, and every answer says which one it is.

use std::path::PathBuf;
use std::process::Command;

use e2e::footage::rule::{Recorded, listed, shown};
use e2e::footage::{Footage, look};
use e2e::harness::stills::thumb;
use e2e::harness::{Camera, START, Search, Setup, Stills, event};
use serde_json::Value;

use crate::fixtures::{Dice, assorted, check_picture, first_minute};

/// `coverage.seam_max`
const SEAM_MS: i64 = 1000;

/// A recording, and by how much its instants are later than those that its footage shows.
struct Announced {
    recorded: Recorded,
    shift_ms: i64,
    file: PathBuf,
}

impl Announced {
    /// Footage announced under other times than its own.
    fn new(footage: &Footage, id: &str, (start_ms, end_ms): (i64, i64)) -> Self {
        let shift_ms = start_ms - footage.recipe.start_ms;
        let keyframes_ms = footage.recipe.keyframes_ms().into_iter().map(|at_ms| at_ms + shift_ms).collect();
        let recorded = Recorded { id: id.to_owned(), start_ms, end_ms, keyframes_ms };
        Self { recorded, shift_ms, file: footage.path.clone() }
    }
}

/// One device and everything that is known of it.
struct Device {
    camera: Camera,
    all: Vec<Announced>,
    recorded: Vec<Recorded>,
}

impl Device {
    fn new(camera: Camera, all: Vec<Announced>) -> Self {
        let recorded = all.iter().map(|announced| announced.recorded.clone()).collect();
        Self { camera, all, recorded }
    }

    fn events(&self, stills: &Stills) -> Vec<Value> {
        let event = |announced: &Announced| {
            let Recorded { id, start_ms, end_ms, .. } = &announced.recorded;
            let url = stills.place(&self.camera, &announced.file, id);
            event::available(&self.camera, id, (*start_ms, *end_ms), &url)
        };
        self.all.iter().map(event).collect()
    }

    async fn until_indexed(&self, stills: &Stills) {
        for Recorded { id, start_ms, end_ms, .. } in &self.recorded {
            stills.until_state(&self.camera, id, (*start_ms, *end_ms), "indexed").await;
        }
    }

    /// What the picture of an instant must be, or that there is none.
    async fn check(&self, stills: &Stills, window: (i64, i64), instant_ms: i64) {
        let answer = stills.get(&thumb(&self.camera, window, instant_ms - window.0)).await;
        let about = format!("{instant_ms} of {:?}", self.recorded);
        let Some(shown) = shown(&self.recorded, SEAM_MS, instant_ms) else {
            let gap = answer.problem(404, "gap");
            let before = self.recorded.iter().map(|r| r.end_ms).filter(|end_ms| *end_ms < instant_ms).max();
            let after = self.recorded.iter().map(|r| r.start_ms).filter(|start_ms| *start_ms > instant_ms).min();
            assert_eq!((gap["covered_before"].as_i64(), gap["covered_after"].as_i64()), (before, after), "{about}");
            return;
        };
        let answer = answer.expect(200);
        assert_eq!(answer.number("stills-frame-timestamp"), shown.keyframe_ms, "{about}");
        assert_eq!(answer.number("stills-frame-distance"), shown.keyframe_ms - instant_ms, "{about}");
        let of = self.all.iter().find(|announced| announced.recorded == *shown.recording).expect("its recording");
        let clock_ms = look(&answer.body).expect("a JPEG").clock_ms;
        assert_eq!(clock_ms, Some(shown.keyframe_ms - of.shift_ms), "{about}");
    }

    /// What a window lists must be what the rule lists, and all of it must be there.
    async fn check_listing(&self, stills: &Stills, window: (i64, i64), interval_ms: i64) {
        let entries = stills.list(&Search::new(&self.camera, window, interval_ms)).await;
        let offsets: Vec<i64> = entries.iter().map(|entry| entry.timestamp).collect();
        let step = usize::try_from(interval_ms).expect("an interval");
        let wanted = listed(&self.recorded, SEAM_MS, window, step);
        assert_eq!(offsets, wanted, "{window:?} by {interval_ms} of {:?}", self.recorded);
        for entry in &entries {
            stills.get(&entry.target).await.expect(200);
        }
    }
}

/// Recordings that overlap, meet, leave a seam or a gap, or lie inside one another.
fn random_device(n: u32, pool: &[Footage]) -> Device {
    let mut dice = Dice::new(u64::from(n) + 1);
    let mut all = Vec::new();
    let mut at_ms = START;
    let n_recordings = dice.roll(2, 6);
    for (footage, id) in pool.iter().take(usize::try_from(n_recordings).expect("a few")).zip('a'..) {
        let start_ms = match dice.roll(0, 5) {
            0 => at_ms,
            1 => at_ms + dice.roll(1, SEAM_MS),
            2 => at_ms + dice.roll(SEAM_MS + 1, 40_000),
            3 => at_ms + SEAM_MS + dice.roll(0, 1),
            _ => at_ms - dice.roll(1, 25_000),
        };
        // Recorders round, and cut: the end is often not where the footage ends.
        let len_ms =
            footage.recipe.duration_ms + [0, 0, -3_000, 1_500][usize::try_from(dice.roll(0, 3)).expect("an index")];
        all.push(Announced::new(footage, &format!("{id}-{n}"), (start_ms, start_ms + len_ms)));
        at_ms = at_ms.max(start_ms + len_ms);
    }
    Device::new(Camera::numbered(n), all)
}

#[tokio::test]
async fn random_recordings_at_random_instants() {
    let stills = Setup::new().start().await;
    let pool = assorted();
    let devices: Vec<Device> = (0..10).map(|n| random_device(n, &pool)).collect();
    let events: Vec<Value> = devices.iter().flat_map(|device| device.events(&stills)).collect();
    stills.send(&events).await.expect(202);
    for (device, seed) in devices.iter().zip(1000..) {
        device.until_indexed(&stills).await;
        let mut dice = Dice::new(seed);
        let window = (START - 60_000, START + 300_000);
        let edges: Vec<i64> =
            device.recorded.iter().flat_map(|r| r.keyframes_ms.iter().copied().chain([r.start_ms, r.end_ms])).collect();
        for _ in 0..30 {
            let edge =
                edges[usize::try_from(dice.roll(0, i64::try_from(edges.len()).expect("few") - 1)).expect("an index")];
            let instant_ms = match dice.roll(0, 2) {
                0 => dice.roll(window.0, window.1),
                1 => edge + dice.roll(-2, 2),
                _ => edge + dice.roll(-2_500, 2_500),
            };
            device.check(&stills, window, instant_ms).await;
        }
        for _ in 0..4 {
            let start_ms = dice.roll(START - 20_000, START + 60_000);
            let interval_ms = dice.roll(1_000, 9_000);
            device.check_listing(&stills, (start_ms, start_ms + dice.roll(interval_ms, 150_000)), interval_ms).await;
        }
    }
}

#[tokio::test]
async fn seams_overlaps_and_gaps_one_by_one() {
    let stills = Setup::new().nginx().start().await;
    let pool = assorted();
    let at = |from_s: i64, to_s: i64| (START + from_s * 1000, START + to_s * 1000);
    let device = Device::new(
        Camera::first(),
        vec![
            Announced::new(&pool[0], "a", at(0, 30)),
            Announced::new(&pool[1], "b", (START + 30_999, START + 60_000)), // a seam
            Announced::new(&pool[2], "c", (START + 61_001, START + 90_000)), // a gap of 1001 ms
            Announced::new(&pool[3], "d", at(80, 100)),                      // an overlap
            Announced::new(&pool[4], "e", at(80, 110)),                      // with the same start
        ],
    );
    stills.send(&device.events(&stills)).await.expect(202);
    device.until_indexed(&stills).await;
    let window = at(-10, 120);
    let edges = [0, 1, 999, 1000, 1001, 30_000, 30_499, 30_500, 30_999, 60_000, 60_001, 60_500, 61_000, 61_001];
    for offset_ms in edges.into_iter().chain([79_999, 80_000, 85_000, 90_000, 99_999, 100_000, 110_000, 110_001, -1]) {
        device.check(&stills, window, START + offset_ms).await;
    }
    device.check_listing(&stills, window, 1000).await;
}

/// The first three seconds cut off without coding anew: from the keyframe at 2 s on, with an edit list that begins at 3 s.
fn trimmed(footage: &Footage, to: &std::path::Path) {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-y", "-ss", "3", "-i"]).arg(&footage.path);
    let status = ffmpeg.args(["-c", "copy", "-f", "mp4"]).arg(to).status().expect("ffmpeg");
    assert!(status.success());
}

#[tokio::test]
async fn an_edit_list_says_where_the_recording_begins() {
    let stills = Setup::new().start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    let file = stills.home().path("trimmed.mp4");
    trimmed(&minute, &file);
    let span = (START + 3_000, START + 60_000);
    stills.record(&camera, "r-1", span, &file).await;

    let offset_of_first = stills.get(&thumb(&camera, span, 0)).await;
    // The keyframe of 2 s is in the file and not presented.
    check_picture(&offset_of_first, (320, 240), START + 4_000);
    for second in [1, 2, 9, 30, 50] {
        let picture = stills.get(&thumb(&camera, span, second * 1000)).await;
        let nearest = (second + 3 + 1) / 2 * 2;
        check_picture(&picture, (320, 240), START + nearest * 1000);
        assert_eq!(picture.number("stills-frame-timestamp"), START + nearest * 1000);
    }
}
