//! Events may come in any order: the end state is that of their own order.

use e2e::harness::{Camera, START, Setup, Stills, event, wait};
use serde_json::{Value, json};

use crate::fixtures::{first_minute, span};

/// One story: its events in their own order, with `{camera}` still open.
type Story = fn(&Stills, &Camera) -> Vec<Value>;

fn available(stills: &Stills, camera: &Camera, id: &str, seconds: (i64, i64)) -> Value {
    let span = (START + seconds.0 * 1000, START + seconds.1 * 1000);
    event::available(camera, id, span, &stills.media_url(camera, "minute.mp4"))
}

/// Events whose times follow the order in which they were made.
const STORIES: [(&str, Story); 5] = [
    ("a later end holds", |stills, camera| {
        vec![
            available(stills, camera, "a", (0, 20)),
            available(stills, camera, "a", (0, 50)),
            available(stills, camera, "b", (100, 120)),
        ]
    }),
    ("deleted is deleted, and can be recorded anew", |stills, camera| {
        vec![
            available(stills, camera, "a", (0, 20)),
            event::deleted(camera, "a"),
            available(stills, camera, "b", (0, 30)),
            event::deleted(camera, "b"),
            available(stills, camera, "b", (5, 15)),
        ]
    }),
    ("a range takes what lay in it at its time", |stills, camera| {
        vec![
            available(stills, camera, "a", (0, 20)),
            available(stills, camera, "b", (10, 40)),
            event::range_deleted(camera, (START, START + 30_000)),
            available(stills, camera, "c", (5, 15)),
        ]
    }),
    ("what grew out of a range before it stays", |stills, camera| {
        vec![
            available(stills, camera, "a", (0, 20)),
            available(stills, camera, "a", (0, 50)),
            event::range_deleted(camera, (START, START + 30_000)),
        ]
    }),
    ("a device is deleted and goes on", |stills, camera| {
        vec![
            available(stills, camera, "a", (0, 20)),
            event::device_deleted(camera),
            available(stills, camera, "b", (30, 50)),
        ]
    }),
];

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let longer = |shorter: Vec<usize>| {
        (0..n).map(move |at| {
            let mut one = shorter.clone();
            one.insert(at, n - 1);
            one
        })
    };
    permutations(n - 1).into_iter().flat_map(longer).collect()
}

/// Coverage and recordings once nothing is pending any more. A recording that a later event extends stays indexed while it
/// is scanned again, so the work that waits or runs counts too.
async fn settled(stills: &Stills, camera: &Camera) -> Value {
    let window = (START - 600_000, START + 600_000);
    wait::until("everything is indexed", async || {
        if stills.metrics().await.sum("stills_pipeline_backlog", &[]) > 0.0 {
            return false;
        }
        let all = stills.recordings(camera, window).await;
        let recordings = all["recordings"].as_array().expect("a list");
        recordings.iter().all(|recording| recording["state"] != "pending")
    })
    .await;
    // Asked again: coverage and recordings of one answer need not be of one moment.
    stills.recordings(camera, window).await
}

#[tokio::test]
async fn every_order_ends_the_same() {
    let stills = Setup::new().start().await;
    let minute = first_minute();
    let mut n_devices = 0;
    for (name, story) in STORIES {
        let n_events = story(&stills, &Camera::first()).len();
        let mut first: Option<Value> = None;
        // All orders of short stories, every seventh of the long one.
        let step = if n_events > 4 { 7 } else { 1 };
        for order in permutations(n_events).into_iter().step_by(step) {
            n_devices += 1;
            let camera = Camera::numbered(n_devices);
            stills.place(&camera, &minute.path, "minute.mp4");
            let events = story(&stills, &camera);
            for at in &order {
                stills.send(&events[*at..=*at]).await.expect(202);
            }
            let end = settled(&stills, &camera).await;
            let first = first.get_or_insert_with(|| end.clone());
            assert_eq!(end, *first, "{name}: {order:?}");
            // And once more, in another order: nothing changes.
            stills.send(&events).await.expect(202);
            assert_eq!(settled(&stills, &camera).await, *first, "{name}: twice, {order:?}");
        }
        let end = first.expect("an order");
        let of =
            |from: i64, to: i64| json!({"start_timestamp": START + from * 1000, "end_timestamp": START + to * 1000});
        let expected = match name {
            "a later end holds" => json!([of(0, 50), of(100, 120)]),
            "deleted is deleted, and can be recorded anew" => json!([of(5, 15)]),
            "a range takes what lay in it at its time" => json!([of(5, 40)]),
            "what grew out of a range before it stays" => json!([of(0, 50)]),
            _ => json!([of(30, 50)]),
        };
        assert_eq!(end["coverage"], expected, "{name}: {end}");
    }
}

#[tokio::test]
async fn a_user_is_deleted_whatever_comes_first() {
    for is_late in [false, true] {
        let stills = Setup::new().start().await;
        let (camera, minute) = (Camera::first(), first_minute());
        let url = stills.place(&camera, &minute.path, "r-1");
        let old = event::available(&camera, "r-1", span(&minute), &url);
        let gone = event::user_deleted(&camera.user);
        let new = event::available(
            &Camera::second(),
            "r-2",
            span(&minute),
            &stills.place(&Camera::second(), &minute.path, "r-2"),
        );
        let order = if is_late { [old, gone, new] } else { [gone, new, old] };
        for event in order {
            stills.send(&[event]).await.expect(202);
        }
        stills.until_state(&Camera::second(), "r-2", span(&minute), "indexed").await;
        assert_eq!(settled(&stills, &camera).await["coverage"], json!([]), "late: {is_late}");
    }
}
