//! Calls of the server to its disk fail at random for a while, by libfiu under the real program. Requests may be refused
//! meanwhile; nothing acknowledged is lost, no picture is wrong, and once the faults are over everything goes on by itself.
//!
//! Only calls that are made on files: a fault in `read` or `write` would hit the runtime's own pipes and the sockets too.

use std::time::Instant;

use reqwest::Method;

use super::{ANSWER_MAX, Acknowledged, Sent, WINDOW, announce, minute, send};
use crate::footage::look;
use crate::harness::dice::Dice;
use crate::harness::faults::Faults;
use crate::harness::stills::thumb;
use crate::harness::{Camera, START, Search, Setup, Stills, event, wait};

/// The calls that fail.
const POINTS: [&str; 9] = [
    "posix/io/rw/pwrite",
    "posix/io/rw/pwrite/reduce",
    "posix/io/rw/pread",
    "posix/io/rw/ftruncate",
    "posix/io/sync/fsync",
    "posix/io/sync/fdatasync",
    "posix/io/oc/open",
    "posix/io/dir/rename",
    "posix/io/dir/unlink",
];

/// What they fail with: EIO, most often, and ENOSPC.
const ERRORS: [i32; 3] = [5, 5, 28];

/// How often, of a hundred.
const CHANCES: [u32; 4] = [2, 20, 60, 100];

/// A point of failure, how often of a hundred, the error's number.
type Fault = (&'static str, u32, i32);

/// Plays so many rounds. Returns how many events were refused: had there been none, nothing had failed.
///
/// # Panics
/// When something happens that may not.
pub async fn rounds(count: u32, seed: u64, mut each: impl FnMut(u32, &str)) -> usize {
    let mut home = Setup::new()
        .set("prerender.interval", "\"10s\"")
        .set("data.free_min", "\"1MiB\"")
        .set("cache.max_bytes", "\"4MiB\"")
        .set("cache.volume_bytes", "\"1MiB\"")
        .lay_out();
    let control = Faults::under(&mut home);
    let mut stills = Stills::start(home, false).await;
    let (footage, mut dice, mut acknowledged) = (minute(), Dice::new(seed), Acknowledged::default());
    let media = stills.place(&Camera::first(), &footage.path, "shared");
    let mut n_refused = 0;
    for round in 0..count {
        let faults = draw(&mut dice);
        let what = format!("round {round}, {faults:?}");
        let sent = disturbed(&mut stills, &media, round, (&control, &faults), &acknowledged, &mut dice).await;
        let has_ended = !stills.origin().is_running();
        if has_ended {
            stills.start_again().await;
        }
        n_refused += acknowledged.take(sent).await;
        wait::until(&format!("ready after {what}"), async || stills.admin("/readyz").await.status == 200).await;
        acknowledged.check(&stills, 1000 * dice.roll(0, 59), &what).await;
        let counts = (acknowledged.there.len(), acknowledged.deleted.len());
        let end = if has_ended { ", ended and was started again" } else { "" };
        each(round, &format!("{faults:?}: {counts:?}, {n_refused} refused so far{end}"));
        let surplus = acknowledged.there.len().saturating_sub(10);
        acknowledged.there.drain(..surplus);
        let surplus = acknowledged.deleted.len().saturating_sub(6);
        acknowledged.deleted.drain(..surplus);
        if dice.roll(0, 9) == 0 && !has_ended {
            stills.kill9().await;
            stills.start_again().await;
            acknowledged.check(&stills, 20_000, &format!("{what}, and a kill")).await;
        }
    }
    n_refused
}

/// One to three of them.
fn draw(dice: &mut Dice) -> Vec<Fault> {
    let mut pick = |n: usize| usize::try_from(dice.roll(0, i64::try_from(n).expect("few") - 1)).expect("an index");
    (0..=pick(3)).map(|_| (POINTS[pick(POINTS.len())], CHANCES[pick(4)], ERRORS[pick(3)])).collect()
}

/// A load, a part of it under faults, which are over when this returns.
async fn disturbed(
    stills: &mut Stills,
    media: &str,
    round: u32,
    (control, faults): (&Faults, &[Fault]),
    known: &Acknowledged,
    dice: &mut Dice,
) -> Vec<Sent> {
    let mut sent: Vec<Sent> = Vec::new();
    let announced = |n: u32| Camera::numbered(round * 100 + n);
    let before = u32::try_from(dice.roll(0, 2)).expect("few");
    sent.extend((0..before).map(|n| announce(stills, &announced(n), media)));
    let process = stills.origin().id();
    control.begin(process, faults);
    sent.extend((before..6).map(|n| announce(stills, &announced(n), media)));
    for camera in known.there.iter().rev().take(2) {
        sent.push(send(stills, camera, event::deleted(camera, "r-1")));
    }
    for camera in known.there.iter().rev().skip(2).take(3) {
        look_at(stills, camera, 1000 * dice.roll(0, 59)).await;
    }
    let n_awaited = usize::try_from(dice.roll(0, 8)).expect("few").min(sent.len());
    wait::until("some are answered", async || sent.iter().filter(|sent| sent.task.is_finished()).count() >= n_awaited)
        .await;
    if stills.origin().is_running() {
        control.end(process, &POINTS);
    }
    sent
}

/// Looks while calls fail: anything may be refused, and what is shown is right.
async fn look_at(stills: &Stills, camera: &Camera, offset: i64) {
    for target in [Search::new(camera, WINDOW, 20_000).target(), thumb(camera, WINDOW, offset)] {
        let began = Instant::now();
        let Ok(answer) = stills.ask(Method::GET, &target).bearer(stills.owner()).attempt().await else { return };
        assert!(began.elapsed() < ANSWER_MAX, "{target}: {:?}", began.elapsed());
        assert!([200, 502, 503].contains(&answer.status), "{answer:?}");
        if answer.status == 200 && target.ends_with(".jpg") {
            let expected = START + ((offset + 1000) / 2000 * 2000).min(58_000);
            assert_eq!(look(&answer.body).expect("a JPEG").clock_ms, Some(expected), "{camera:?} at {offset}");
        }
    }
}
