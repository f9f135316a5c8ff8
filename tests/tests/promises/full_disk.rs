//! A disk that is full takes nothing away from who looks: pictures and searches are answered, deletes are taken, what is
//! refused is refused with a time to come again, and all of it ends by itself when there is room.

use std::time::{Duration, Instant};

use e2e::harness::stills::{thumb, thumb_sized};
use e2e::harness::tmpfs::Tmpfs;
use e2e::harness::{Camera, START, Search, Setup, Stills, event, wait};

use crate::fixtures::{check_picture, first_minute, span};

/// Room for a journal, a catalog and some pictures.
const DISK_BYTES: u64 = 48 << 20;

/// How long everything may be refused once there is room.
const RECOVERS_WITHIN: Duration = Duration::from_secs(10);

/// When the disk gets full.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Idle,
    AfterEvents,
    WhileRendering,
    BeforeAnything,
    AfterADelete,
}

async fn is_ready(stills: &Stills) -> bool {
    stills.admin("/readyz").await.status == 200
}

/// What is looked at goes on, what is new is refused, what is deleted goes.
async fn check_while_full(stills: &Stills, round: i64) {
    let (camera, window) = (Camera::first(), span(&first_minute()));
    wait::until("readiness says so", async || !is_ready(stills).await).await;
    let readiness = stills.admin("/readyz").await;
    assert_eq!((readiness.status, &readiness.json()["status"]), (503, &"disk full".into()));
    assert_eq!(stills.metrics().await.sum("stills_disk_well", &[]), 0.0);
    assert_eq!(stills.list(&Search::new(&camera, window, 20_000)).await.len(), 4);
    check_picture(&stills.get(&thumb(&camera, window, 20_000)).await, (320, 240), START + 20_000);
    // Never rendered before: it is rendered now and not kept.
    let (width, height) = (300 + u32::try_from(round).expect("small"), 200);
    let fresh = stills.get(&thumb_sized(&camera, window, 40_000, (width, height))).await;
    check_picture(&fresh, (width, height), START + 40_000);

    let refused = stills.send(&[event::available(&camera, "refused", window, &stills.media_url(&camera, "r-1"))]).await;
    refused.problem(503, "unavailable");
    assert!(refused.header("retry-after").parse::<u32>().is_ok());
    assert!(stills.recording(&camera, "refused", window).await.is_null(), "nothing of it was taken");
    stills.send(&[event::deleted(&Camera::second(), "doomed")]).await.expect(202);
    stills.get(&thumb(&Camera::second(), window, 20_000)).await.problem(404, "deleted");
}

async fn check_moment(stills: &mut Stills, disk: &Tmpfs, round: i64, moment: Moment) {
    let (camera, footage) = (Camera::first(), first_minute());
    let window = span(&footage);
    let more = |id: String| event::available(&camera, &id, window, &stills.media_url(&camera, "r-1"));
    stills.record(&Camera::second(), "doomed", window, &footage.path).await;
    let mut acknowledged: Vec<String> = Vec::new();
    match moment {
        Moment::Idle => {
            wait::until("at rest", async || stills.metrics().await.sum("stills_pipeline_backlog", &[]) == 0.0).await;
        }
        Moment::AfterEvents | Moment::WhileRendering => {
            for n in 0..10 {
                let id = format!("r-{round}-{n}");
                stills.send(&[more(id.clone())]).await.expect(202);
                acknowledged.push(id);
            }
            if matches!(moment, Moment::WhileRendering) {
                let before = stills.renders().await;
                wait::until("it renders", async || stills.renders().await > before).await;
            }
        }
        Moment::BeforeAnything => {}
        Moment::AfterADelete => {
            stills.send(&[event::deleted(&camera, "was-never-there")]).await.expect(202);
        }
    }
    disk.fill();
    check_while_full(stills, round).await;
    disk.free();
    let freed = Instant::now();
    wait::until("readiness says so", async || is_ready(stills).await).await;
    let id = format!("r-{round}-late");
    let late = more(id.clone());
    wait::until("events are taken again", async || stills.send(std::slice::from_ref(&late)).await.status == 202).await;
    assert!(freed.elapsed() < RECOVERS_WITHIN, "{moment:?}: {:?}", freed.elapsed());
    acknowledged.push(id);
    for id in &acknowledged {
        stills.until_state(&camera, id, window, "indexed").await;
    }
    stills.kill9().await;
    stills.start_again().await;
    for id in &acknowledged {
        stills.until_state(&camera, id, window, "indexed").await;
    }
    stills.get(&thumb(&Camera::second(), window, 20_000)).await.problem(404, "deleted");
    check_picture(&stills.get(&thumb(&camera, window, 20_000)).await, (320, 240), START + 20_000);
}

#[tokio::test]
async fn it_goes_on_and_recovers_by_itself() {
    let home = Setup::new()
        .set("data.free_min", "\"8MiB\"")
        .set("cache.max_bytes", "\"8MiB\"")
        .set("cache.volume_bytes", "\"1MiB\"")
        .set("prerender.interval", "\"2s\"")
        .lay_out();
    let disk = Tmpfs::mount(&home.data(), DISK_BYTES);
    let mut stills = Stills::start(home, false).await;
    let (camera, footage) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&footage), &footage.path).await;
    let moments = [
        Moment::Idle,
        Moment::AfterEvents,
        Moment::WhileRendering,
        Moment::BeforeAnything,
        Moment::AfterADelete,
        Moment::AfterEvents,
    ];
    for (round, moment) in (0..).zip(moments) {
        check_moment(&mut stills, &disk, round, moment).await;
    }
    drop(stills);
    drop(disk);
}
