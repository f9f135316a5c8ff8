//! Backfill and watch as programs, against a small origin over real HTTP: stopped, killed, refused, and gone on.

mod origin;
mod store;
mod watching;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use origin::{Next, Origin};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const USER: &str = "627d8ca8297a3d00019e2abb";
const DEVICE: &str = "627d911f7f58e4f344ca726c";

/// Footage, a configuration, a token and a place for state.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let settings = format!(
            "[media.layout.yard]\nrecorder = \"epoch\"\nuser_id = \"{USER}\"\ndevices = {{ front = \"{DEVICE}\" }}\n"
        );
        std::fs::write(dir.path().join("stills.toml"), settings).expect("configuration");
        std::fs::write(dir.path().join("token"), "a.b.c\n").expect("token");
        std::fs::create_dir_all(dir.path().join("footage/front")).expect("footage");
        Self { dir }
    }

    fn footage(&self) -> PathBuf {
        self.dir.path().join("footage").canonicalize().expect("footage")
    }

    /// Files of a minute each, written an hour ago.
    fn record(&self, count: u64) {
        for n in 0..count {
            self.write(&format!("front/{}.mp4", 1_757_371_980_000 + n * 60_000), b"media", Duration::from_secs(3600));
        }
    }

    fn write(&self, path: &str, bytes: &[u8], age: Duration) {
        let path = self.footage().join(path);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(&path, bytes).expect("file");
        let file = std::fs::File::options().write(true).open(&path).expect("file");
        file.set_modified(SystemTime::now() - age).expect("time");
    }

    fn command(&self, what: &str, origin: &Origin) -> Command {
        self.command_at(what, self.footage().to_str().expect("text"), origin)
    }

    fn command_at(&self, what: &str, place: &str, origin: &Origin) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stills-indexer"));
        // What whoever runs the tests has set is not for it.
        command.args([what, place]).args(["--origin", &origin.url]).env_clear();
        let in_dir = |name: &str| self.dir.path().join(name);
        command.arg("--config").arg(in_dir("stills.toml")).arg("--token-file").arg(in_dir("token"));
        command.arg("--state").arg(in_dir("state.json"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn backfill(&self, origin: &Origin, more: &[&str]) -> Output {
        self.command("backfill", origin).args(more).output().expect("run")
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn terminate(child: &Child) {
    let pid = Pid::from_child(child);
    kill_process(pid, Signal::TERM).expect("signal");
}

/// Every file of `folder` was taken under its own URL, exactly once.
fn assert_each_once(origin: &Origin, folder: &Path) {
    let url = |event: &Value| event["data"]["media_url"].as_str().expect("url").to_owned();
    let taken: Vec<String> = origin.look(|taken| taken.events.iter().map(url).collect());
    let front = folder.join("front");
    let files = std::fs::read_dir(&front).expect("folder").map(|entry| entry.expect("entry").path());
    let files: BTreeSet<String> = files.map(|path| format!("file://{}", path.display())).collect();
    assert_eq!(taken.len(), files.len(), "each file once");
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), files);
}

#[test]
fn ten_thousand_files_killed_in_the_middle_and_started_again() {
    let site = Site::new();
    site.record(10_000);
    // Nine batches are answered, the tenth is taken and the answer never comes.
    let plan: Vec<Next> = std::iter::repeat_n(Next::Take, 9).chain([Next::TakeAndHold]).collect();
    let origin = Origin::start(&plan);
    let mut child = site.command("backfill", &origin).spawn().expect("run");
    origin.wait_until("ten batches", |taken| taken.events.len() == 5000);
    child.kill().expect("kill");
    assert_eq!(child.wait().expect("end").signal(), Some(9));

    let output = site.backfill(&origin, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_each_once(&origin, &site.footage());
    // Only the batch whose answer was lost came twice.
    let n_twice = origin.look(|taken| taken.by_id.values().filter(|n| **n == 2).count());
    let n_more = origin.look(|taken| taken.by_id.values().filter(|n| **n > 2).count());
    assert_eq!((n_twice, n_more), (500, 0));
    let report = stdout(&output);
    for line in ["files       10000", "earlier     4500", "accepted    5500", "duplicates  500"] {
        assert!(report.contains(line), "{line}:\n{report}");
    }
}

#[test]
fn ten_thousand_files_stopped_and_started_again() {
    let site = Site::new();
    site.record(10_000);
    let origin = Origin::start(&[]);
    let child = site.command("backfill", &origin).args(["--order", "oldest"]).spawn().expect("run");
    origin.wait_until("a batch", |taken| taken.events.len() >= 500);
    terminate(&child);
    let stopped = child.wait_with_output().expect("end");
    let n_before = origin.look(|taken| taken.events.len());
    if n_before < 10_000 {
        assert_eq!(stopped.status.code(), Some(130), "{}", stderr(&stopped));
        let wrong = site.backfill(&origin, &["--order", "newest"]);
        assert!(stderr(&wrong).contains("began with --order oldest"), "{}", stderr(&wrong));
        let output = site.backfill(&origin, &["--order", "oldest"]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert_each_once(&origin, &site.footage());
    // A run that could end what it had begun repeats nothing.
    assert!(origin.look(|taken| taken.by_id.values().all(|n| *n == 1)));
    assert_eq!(origin.look(|taken| taken.authorization.clone()), "Bearer a.b.c");
    let first = origin.look(|taken| taken.events[0]["data"]["start_timestamp"].clone());
    assert_eq!(first, 1_757_371_980_000_u64, "oldest first");
}

#[test]
fn a_run_that_is_over_can_be_repeated_and_is_all_duplicates() {
    let site = Site::new();
    site.record(20);
    let origin = Origin::start(&[]);
    assert!(site.backfill(&origin, &[]).status.success());
    let again = site.backfill(&origin, &[]);
    assert!(again.status.success() && stdout(&again).contains("duplicates  20"), "{}", stdout(&again));
    // Without a terminal there are no control characters.
    assert!(!stderr(&again).contains('\u{1b}'), "{}", stderr(&again));
}

#[test]
fn failures_are_tried_again_and_no_sooner_than_asked() {
    let site = Site::new();
    site.record(600);
    let origin = Origin::start(&[
        Next::Answer(503, Some(2)),
        Next::Drop,
        Next::TakeAndDrop,
        Next::Answer(429, None),
        Next::Take,
    ]);
    let output = site.backfill(&origin, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_each_once(&origin, &site.footage());
    let pause = origin.look(|taken| taken.at[1] - taken.at[0]);
    assert!(pause >= Duration::from_secs(2), "{pause:?}");
}

#[test]
fn batches_that_are_too_large_are_halved() {
    let site = Site::new();
    site.record(10);
    let origin = Origin::start(&[Next::Answer(413, None), Next::Take, Next::Answer(413, None)]);
    let output = site.backfill(&origin, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_each_once(&origin, &site.footage());
    assert_eq!(origin.look(|taken| taken.n_posts), 5);
}

#[test]
fn a_final_answer_ends_the_run() {
    let site = Site::new();
    site.record(10);
    let origin = Origin::start(&[Next::Answer(403, None)]);
    let output = site.backfill(&origin, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the origin answered 403: as planned"), "{}", stderr(&output));
    assert!(site.backfill(&origin, &[]).status.success(), "nothing was remembered as sent");
    assert_each_once(&origin, &site.footage());
}

#[test]
fn what_is_not_taken_is_listed_and_makes_the_exit_code() {
    let site = Site::new();
    site.record(3);
    let old = Duration::from_secs(3600);
    site.write("front/readme.txt", b"x", old);
    site.write("front/1757371980001.mp4", b"", old);
    site.write("back/1757371980002.mp4", b"x", old);
    let origin = Origin::start(&[]);
    origin.reject("1757372040000");
    let output = site.backfill(&origin, &[]);
    assert_eq!(output.status.code(), Some(1));
    let listed = stderr(&output);
    assert!(listed.contains("front/1757372040000.mp4: /data/media_url not here"), "{listed}");
    assert!(listed.contains("back/1757371980002.mp4: [media.layout.yard] device \"back\" is neither"), "{listed}");
    let report = stdout(&output);
    for line in ["files       6", "accepted    2", "rejected    2", "unmatched   1", "empty       1"] {
        assert!(report.contains(line), "{line}:\n{report}");
    }
}

#[test]
fn a_dry_run_lists_and_sends_nothing() {
    let site = Site::new();
    site.record(3);
    site.write("front/readme.txt", b"x", Duration::from_secs(3600));
    // What was written just now may still grow.
    site.write("front/1757400000000.mp4", b"x", Duration::ZERO);
    let origin = Origin::start(&[]);
    let output = site.backfill(&origin, &["--dry-run", "--media-url", "file:///srv/cams"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let events: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).expect("event")).collect();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event["data"]["media_url"].as_str().expect("url"), event["data"]["growing"].as_bool()))
        .collect();
    assert_eq!(told.len(), 4);
    assert_eq!(told[0], ("file:///srv/cams/front/1757400000000.mp4", Some(true)), "newest first");
    assert_eq!(told[3], ("file:///srv/cams/front/1757371980000.mp4", Some(false)));
    assert!(stderr(&output).contains("unmatched") && stderr(&output).contains("readme.txt"), "{}", stderr(&output));
    assert_eq!(origin.look(|taken| taken.n_posts), 0);
    assert!(!site.dir.path().join("state.json").exists());
}

#[test]
fn waiting_ends_when_nothing_is_pending() {
    let site = Site::new();
    site.record(3);
    let origin = Origin::start(&[]);
    origin.list(&["pending", "pending", "indexed"]);
    origin.list(&["indexed", "failed", "indexed"]);
    let output = site.backfill(&origin, &["--wait"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report = stdout(&output);
    for line in ["indexed     2", "failed      1 (recordings", "failed      1: torn"] {
        assert!(report.contains(line), "{line}:\n{report}");
    }
    assert_eq!(origin.look(|taken| taken.listings.len()), 1, "it looked twice");
}

#[test]
fn what_cannot_work_is_told_before_anything_is_sent() {
    let site = Site::new();
    let origin = Origin::start(&[]);
    let check = |more: &[&str], part: &str| {
        let output = site.backfill(&origin, more);
        assert_eq!(output.status.code(), Some(1), "{more:?}");
        assert!(stderr(&output).contains(part), "{more:?}: {}", stderr(&output));
    };
    check(&["/no/such/folder"], "/no/such/folder: No such file");
    check(&["ftp://footage/"], "must be a folder, or an s3://");
    check(&["--layout", "none"], "no such layout");
    check(&["--media-url", "file:///a", "."], "one URL can stand for one folder only");
    assert_eq!(origin.look(|taken| taken.n_posts), 0);
}
