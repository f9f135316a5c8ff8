//! Watch as a program: files that grow, are closed, moved and removed, with and without the kernel's notices.

use std::fs;
use std::io::Write;
use std::process::Child;
use std::time::Duration;

use serde_json::Value;

use crate::origin::{Next, Origin, Taken};
use crate::{Site, terminate};

/// What was told of the recording whose name holds `part`, in order of arrival.
fn told(taken: &Taken, part: &str) -> Vec<&'static str> {
    let of_it = taken.events.iter().filter(|event| event["data"]["recording_id"].as_str().expect("id").contains(part));
    of_it.map(phase).collect()
}

/// Whether the recording was told as growing with this size.
fn is_told(taken: &Taken, part: &str, size: u64) -> bool {
    taken.events.iter().any(|event| {
        let is_it = event["data"]["recording_id"].as_str().expect("id").contains(part);
        is_it && event["data"]["size"] == size && phase(event) == "growing"
    })
}

fn phase(event: &Value) -> &'static str {
    match (event["type"].as_str(), event["data"]["growing"].as_bool()) {
        (Some("recording.deleted"), _) => "deleted",
        (_, Some(true)) => "growing",
        _ => "whole",
    }
}

/// A run that ends with the test.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(site: &Site, origin: &Origin, more: &[&str]) -> Watching {
    let mut command = site.command("watch", origin);
    command.args(["--growing-every", "100ms"]).args(more);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    Watching(command.spawn().expect("run"))
}

/// The life of a file: it grows under the eyes of `watch`, is closed, and is removed.
fn life_of_a_file(more: &[&str], is_closing_heard: bool) {
    let site = Site::new();
    site.record(2);
    let origin = Origin::start(&[]);
    let _watching = watch(&site, &origin, more);
    origin.wait_until("what is there already", |taken| taken.events.len() == 2);
    assert_eq!(origin.look(|taken| told(taken, "1757371980000")), ["whole"]);

    let path = site.footage().join("side/1757400000000.mp4");
    fs::create_dir(path.parent().expect("parent")).expect("folder");
    let mut file = fs::File::create(&path).expect("file");
    let ours = "1757400000000";
    // A device that nobody configured is not told; one by its id is.
    drop(fs::rename(site.footage().join("side"), site.footage().join(crate::DEVICE)));
    let path = site.footage().join(crate::DEVICE).join("1757400000000.mp4");
    file.write_all(b"one").expect("written");
    origin.wait_until("growing", |taken| is_told(taken, ours, 3));
    file.write_all(b"two").expect("written");
    origin.wait_until("growing on", |taken| is_told(taken, ours, 6));
    drop(file);
    origin.wait_until("whole", |taken| told(taken, ours).ends_with(&["whole"]));
    if is_closing_heard {
        assert_eq!(origin.look(|taken| told(taken, ours)), ["growing", "growing", "whole"]);
    }
    fs::remove_file(&path).expect("removed");
    origin.wait_until("deleted", |taken| told(taken, ours).ends_with(&["deleted"]));

    let in_order = origin.look(|taken| {
        let of_it = taken.events.iter().filter(|e| e["data"]["recording_id"].as_str().expect("id").contains(ours));
        let orders: Vec<_> =
            of_it.map(|e| (e["time"].as_str().expect("time").to_owned(), e["id"].to_string())).collect();
        let times = orders.iter().map(|(time, id)| (time.parse::<jiff::Timestamp>().expect("time"), id.clone()));
        times.collect::<Vec<_>>().is_sorted_by(|a, b| a < b)
    });
    assert!(in_order, "events count in the order in which they were sent");
}

#[test]
fn a_file_grows_is_closed_and_is_removed() {
    // Settling alone would take longer than the test waits.
    life_of_a_file(&["--settled", "10m"], true);
}

#[test]
fn the_same_without_notices() {
    life_of_a_file(&["--poll", "100ms", "--settled", "1s"], false);
}

#[test]
fn a_file_moved_into_place_is_whole_at_once() {
    let site = Site::new();
    let origin = Origin::start(&[]);
    site.record(1);
    let _watching = watch(&site, &origin, &["--settled", "10m"]);
    origin.wait_until("what is there already", |taken| taken.events.len() == 1);
    let hidden = site.footage().join("front/.part");
    fs::write(&hidden, b"media").expect("file");
    fs::rename(&hidden, site.footage().join("front/1757400000000.mp4")).expect("moved");
    origin.wait_until("whole", |taken| told(taken, "1757400000000") == ["whole"]);
}

#[test]
fn what_happens_while_it_does_not_run_is_told_afterwards_and_nothing_twice() {
    let site = Site::new();
    site.record(3);
    let origin = Origin::start(&[]);
    let mut first = watch(&site, &origin, &[]);
    origin.wait_until("three files", |taken| taken.events.len() == 3);
    terminate(&first.0);
    assert!(first.0.wait().expect("end").success(), "a signal ends it well");

    fs::remove_file(site.footage().join("front/1757371980000.mp4")).expect("removed");
    site.write("front/1757372040000.mp4", b"longer than before", Duration::from_secs(1800));
    site.write("front/1757400000000.mp4", b"media", Duration::from_secs(1800));
    let _second = watch(&site, &origin, &[]);
    origin.wait_until("what changed", |taken| taken.events.len() == 6);
    origin.look(|taken| {
        assert_eq!(told(taken, "1757371980000"), ["whole", "deleted"]);
        assert_eq!(told(taken, "1757372040000"), ["whole", "whole"]);
        assert_eq!(told(taken, "1757372100000"), ["whole"]);
        assert_eq!(told(taken, "1757400000000"), ["whole"]);
        assert!(taken.by_id.values().all(|n| *n == 1), "nothing twice");
    });
}

#[test]
fn a_busy_origin_is_told_later() {
    let site = Site::new();
    site.record(1);
    let origin = Origin::start(&[Next::Answer(503, Some(1)), Next::Drop, Next::TakeAndDrop]);
    let _watching = watch(&site, &origin, &[]);
    origin.wait_until("the answer", |taken| taken.n_posts == 4);
    assert_eq!(origin.look(|taken| told(taken, "1757371980000")), ["whole"]);
}
