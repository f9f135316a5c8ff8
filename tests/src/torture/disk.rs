//! The disk gets full at any moment of a load. What is stored is shown meanwhile, nothing acknowledged is lost, and
//! everything goes on by itself once there is room.

use std::time::Instant;

use super::{Acknowledged, Sent, announce, are_whole, is_shown, minute, send};
use crate::harness::dice::Dice;
use crate::harness::tmpfs::Tmpfs;
use crate::harness::{Camera, Setup, Stills, event, wait};

const DISK_BYTES: u64 = 256 << 20;

/// Plays so many rounds.
///
/// # Panics
/// When something happens that may not.
pub async fn rounds(count: u32, seed: u64, mut each: impl FnMut(u32, &str)) {
    let home = Setup::new()
        .set("data.free_min", "\"8MiB\"")
        .set("cache.max_bytes", "\"8MiB\"")
        .set("cache.volume_bytes", "\"1MiB\"")
        .set("prerender.interval", "\"10s\"")
        .lay_out();
    let disk = Tmpfs::mount(&home.data(), DISK_BYTES);
    let mut stills = Stills::start(home, false).await;
    let (footage, mut dice, mut acknowledged) = (minute(), Dice::new(seed), Acknowledged::default());
    let media = stills.place(&Camera::first(), &footage.path, "shared");
    let first = Camera::numbered(999_999);
    acknowledged.take(vec![announce(&stills, &first, &media)]).await;
    acknowledged.check(&stills, 20_000, "the first").await;
    for round in 0..count {
        let numbered = |n: u32| Camera::numbered(round * 100 + n);
        let mut sent: Vec<Sent> = (0..12).map(|n| announce(&stills, &numbered(n), &media)).collect();
        let doomed: Vec<Camera> = acknowledged.there.iter().skip(1).take(2).cloned().collect();
        let n_awaited = usize::try_from(dice.roll(0, 12)).expect("few");
        while sent.iter().filter(|sent| sent.task.is_finished()).count() < n_awaited {
            tokio::task::yield_now().await;
        }
        disk.fill();
        sent.extend(doomed.iter().map(|camera| send(&stills, camera, event::deleted(camera, "r-1"))));
        for _ in 0..10 {
            let _ = is_shown(&stills, &first, 1000 * dice.roll(0, 59)).await;
        }
        wait::until("readiness says so", async || stills.admin("/readyz").await.status == 503).await;
        wait::until("what is there is shown", async || are_whole(&stills, std::slice::from_ref(&first), 20_000).await)
            .await;
        acknowledged.take(sent).await;
        disk.free();
        let began = Instant::now();
        wait::until("readiness says so", async || stills.admin("/readyz").await.status == 200).await;
        let ready = began.elapsed();
        acknowledged.check(&stills, 20_000, &format!("round {round}")).await;
        let whole = began.elapsed();
        if dice.roll(0, 2) == 0 {
            stills.kill9().await;
            stills.start_again().await;
            acknowledged.check(&stills, 20_000, &format!("round {round}, after a kill")).await;
        }
        let counts = (acknowledged.there.len(), acknowledged.deleted.len());
        each(round, &format!("{counts:?}; with room again ready after {ready:?}, whole and looked at after {whole:?}"));
        let surplus = acknowledged.there.len().saturating_sub(40);
        acknowledged.there.drain(1..=surplus);
        let surplus = acknowledged.deleted.len().saturating_sub(20);
        acknowledged.deleted.drain(..surplus);
    }
    drop(stills);
    drop(disk);
}
