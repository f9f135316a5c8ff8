//! `kill -9` while events, deletes and pictures are on their way, pictures are rendered ahead and old ones evicted; then
//! everything acknowledged must be so.

use std::time::Instant;

use super::{Acknowledged, Sent, announce, is_shown, minute, send};
use crate::harness::dice::Dice;
use crate::harness::{Camera, Setup, event, wait};

/// Recordings announced in one round.
const ANNOUNCED: u32 = 6;

/// Volumes evicted and pictures rendered: what else was going on than what was asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Work {
    /// Pictures that went with their volumes.
    pub evicted: f64,
    /// Renders that ended.
    pub rendered: f64,
}

/// Plays so many rounds. Returns what was going on meanwhile.
///
/// # Panics
/// When something happens that may not.
pub async fn rounds(count: u32, seed: u64, mut each: impl FnMut(u32, &str)) -> Work {
    // Room for the pictures of a few rounds: several of each keyframe, since decoding is what takes time.
    let setup = Setup::new().set("cache.max_bytes", "\"4MiB\"").set("cache.volume_bytes", "\"1MiB\"");
    let setup = setup
        .set("prerender.interval", "\"10s\"")
        .set("prerender.renditions", "[\"640x480\", \"640x360\", \"480x480\", \"320x240\"]");
    let mut stills = setup.start().await;
    let mut work = Work::default();
    let footage = minute();
    let mut dice = Dice::new(seed);
    let mut acknowledged = Acknowledged::default();
    let media = stills.place(&Camera::first(), &footage.path, "shared");
    for round in 0..count {
        let mut sent: Vec<Sent> = Vec::new();
        for n in 0..ANNOUNCED {
            sent.push(announce(&stills, &Camera::numbered(round * 100 + n), &media));
        }
        // Of the last rounds' recordings some go.
        let doomed: Vec<Camera> = acknowledged.there.iter().rev().take(2).cloned().collect();
        for camera in &doomed {
            sent.push(send(&stills, camera, event::deleted(camera, "r-1")));
        }
        for camera in acknowledged.there.iter().take(usize::try_from(dice.roll(0, 10)).expect("few")) {
            let _ = is_shown(&stills, camera, 1000 * dice.roll(0, 59)).await;
        }
        // However many of them are answered by now.
        let n_awaited = usize::try_from(dice.roll(0, i64::from(ANNOUNCED))).expect("few");
        while sent.iter().filter(|sent| sent.task.is_finished()).count() < n_awaited {
            tokio::task::yield_now().await;
        }
        if round % 8 == 3 {
            // There is more to render ahead than there is room for.
            let evicted = async || stills.metrics().await.sum("stills_cache_evicted_pictures_total", &[]);
            wait::until("pictures are evicted", async || evicted().await > 0.0).await;
        }
        let metrics = stills.metrics().await;
        work.evicted += metrics.sum("stills_cache_evicted_pictures_total", &[]);
        work.rendered += metrics.sum("stills_renders_total", &[]);
        stills.kill9().await;
        let before = (acknowledged.there.len(), acknowledged.deleted.len());
        acknowledged.take(sent).await;
        let began = Instant::now();
        stills.start_again().await;
        let took = began.elapsed();
        acknowledged.check(&stills, 20_000, &format!("round {round}")).await;
        let after = (acknowledged.there.len(), acknowledged.deleted.len());
        each(round, &format!("{before:?} then {after:?}, ready after {took:?}, {work:?}"));
        // The oldest have been looked at often enough.
        let surplus = acknowledged.there.len().saturating_sub(10);
        acknowledged.there.drain(..surplus);
        let surplus = acknowledged.deleted.len().saturating_sub(8);
        acknowledged.deleted.drain(..surplus);
    }
    work
}
