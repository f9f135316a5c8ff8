//! `kill -9` while events, deletes and pictures are on their way; then everything acknowledged must be so.

use super::{Acknowledged, Sent, announce, is_shown, minute, send};
use crate::harness::dice::Dice;
use crate::harness::{Camera, Setup, event};

/// Plays so many rounds.
///
/// # Panics
/// When something happens that may not.
pub async fn rounds(count: u32, seed: u64, mut each: impl FnMut(u32, &str)) {
    let mut stills = Setup::new().set("prerender.interval", "\"10s\"").start().await;
    let footage = minute();
    let mut dice = Dice::new(seed);
    let mut acknowledged = Acknowledged::default();
    let media = stills.place(&Camera::first(), &footage.path, "shared");
    for round in 0..count {
        let mut sent: Vec<Sent> = Vec::new();
        for n in 0..20 {
            sent.push(announce(&stills, &Camera::numbered(round * 100 + n), &media));
        }
        // Of the last rounds' recordings some go.
        let doomed: Vec<Camera> = acknowledged.there.iter().rev().take(3).cloned().collect();
        for camera in &doomed {
            sent.push(send(&stills, camera, event::deleted(camera, "r-1")));
        }
        for camera in acknowledged.there.iter().take(usize::try_from(dice.roll(0, 10)).expect("few")) {
            let _ = is_shown(&stills, camera, 1000 * dice.roll(0, 59)).await;
        }
        // However many of them are answered by now.
        let n_awaited = usize::try_from(dice.roll(0, 20)).expect("few");
        while sent.iter().filter(|sent| sent.task.is_finished()).count() < n_awaited {
            tokio::task::yield_now().await;
        }
        stills.kill9().await;
        let before = (acknowledged.there.len(), acknowledged.deleted.len());
        acknowledged.take(sent).await;
        stills.start_again().await;
        acknowledged.check(&stills, 20_000, &format!("round {round}")).await;
        each(round, &format!("{before:?} then {:?}", (acknowledged.there.len(), acknowledged.deleted.len())));
        // The oldest have been looked at often enough.
        let surplus = acknowledged.there.len().saturating_sub(60);
        acknowledged.there.drain(..surplus);
        let surplus = acknowledged.deleted.len().saturating_sub(30);
        acknowledged.deleted.drain(..surplus);
    }
}
