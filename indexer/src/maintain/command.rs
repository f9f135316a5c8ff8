//! The commands: on the running server where there is one, else on the data directory itself. Progress goes to standard
//! error, what was found to standard output.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::local::Local;
use super::remote::Remote;
use super::{Chore, Chores, Failure, Report, Status};
use crate::config::Config;
use crate::data_dir::DataDirError;

/// Between two looks at how far it is, and between two lines where there is no terminal.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How a command ended; the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Ended {
    /// Done, and nothing is wrong.
    Well = 0,
    /// Done, and something is wrong: a fault was found, or recordings are set aside.
    Found = 1,
    /// It could not be done.
    Failed = 3,
}

enum Place {
    Here(Box<Local>),
    Server(Remote),
}

fn place(config: &Config) -> Result<Place, String> {
    match Local::open(config) {
        Ok(local) => Ok(Place::Here(Box::new(local))),
        Err(DataDirError::Owned { .. }) => Remote::of(&config.data.dir).map(Place::Server),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs a chore to its end, wherever it has to run, and shows how far it is.
async fn run(config: &Config, chore: Chore) -> Result<Report, String> {
    let mut shown = Shown::new();
    let status = match place(config)? {
        Place::Here(local) => {
            let chores = Arc::new(Chores::default());
            chores.begin(chore);
            let working = tokio::task::spawn_blocking({
                let chores = Arc::clone(&chores);
                move || {
                    let result = match chore {
                        Chore::Rebuild => local.rebuild(&chores.tally),
                        Chore::Check => local.check(&chores.tally),
                    };
                    chores.end(chore, result);
                }
            });
            while !working.is_finished() {
                shown.show(&chores.status());
                tokio::time::sleep(LOOK_EVERY).await;
            }
            working.await.map_err(|error| error.to_string())?;
            chores.status()
        }
        Place::Server(remote) => {
            let mut status = remote.begin(if chore == Chore::Rebuild { "rebuild" } else { "check" }).await?;
            while let Status::Running { .. } = status {
                shown.show(&status);
                tokio::time::sleep(LOOK_EVERY).await;
                status = remote.status().await?;
            }
            status
        }
    };
    shown.finish();
    match status {
        Status::Done { report, .. } => Ok(report),
        Status::Failed { error, .. } => Err(error),
        Status::Idle | Status::Running { .. } => Err("the server began anew; it is not known how it ended".to_owned()),
    }
}

fn say(out: &mut impl Write, line: &str) {
    // Nobody reads it any more: nothing left to do.
    let _ = writeln!(out, "{line}");
}

fn failed(error: &str, errors: &mut impl Write) -> Ended {
    say(errors, error);
    Ended::Failed
}

/// `stills-indexer check`
pub async fn check(config: &Config, only_deleted: bool, out: &mut impl Write, errors: &mut impl Write) -> Ended {
    let report = match run(config, Chore::Check).await {
        Ok(report) => report,
        Err(error) => return failed(&error, errors),
    };
    let faults = report.faults(only_deleted);
    report.lines().iter().filter(|_| !only_deleted).for_each(|line| say(out, line));
    faults.iter().for_each(|fault| say(out, fault));
    if !faults.is_empty() {
        return Ended::Found;
    }
    say(out, if only_deleted { "no byte of a deleted recording's pictures is left" } else { "nothing is wrong" });
    Ended::Well
}

/// `stills-indexer rebuild`
pub async fn rebuild(config: &Config, out: &mut impl Write, errors: &mut impl Write) -> Ended {
    match run(config, Chore::Rebuild).await {
        Ok(report) if report.journal_damaged > 0 => {
            report.faults(false).iter().for_each(|fault| say(out, fault));
            Ended::Found
        }
        Ok(_) => {
            say(out, "catalog and cache index are made anew");
            Ended::Well
        }
        Err(error) => failed(&error, errors),
    }
}

/// `stills-indexer failures`
pub async fn failures(config: &Config, is_retry: bool, out: &mut impl Write, errors: &mut impl Write) -> Ended {
    let mut n_failures = 0u64;
    let mut each = |failure: &Failure| {
        n_failures += 1;
        let Failure { user_id, device_id, recording_id, start_timestamp, media_url, reason, attempts } = failure;
        let line = format!(
            "{user_id} {device_id} {recording_id} start={start_timestamp} attempts={attempts} {media_url}: {reason}"
        );
        say(out, &line);
    };
    let told = match place(config) {
        Ok(Place::Here(local)) => local.failures(is_retry, |failure| each(&failure)),
        Ok(Place::Server(remote)) => {
            let (mut after, mut told) = (None, Ok(()));
            loop {
                match remote.failures(after.as_deref(), is_retry).await {
                    Ok(page) => {
                        page.failures.iter().for_each(&mut each);
                        after = page.next;
                    }
                    Err(error) => told = Err(error),
                }
                if after.is_none() || told.is_err() {
                    break told;
                }
            }
        }
        Err(error) => Err(error),
    };
    match told {
        Err(error) => failed(&error, errors),
        Ok(()) if n_failures == 0 => {
            say(out, "no recording is set aside");
            Ended::Well
        }
        Ok(()) if is_retry => {
            say(out, &format!("{n_failures} recordings are scanned again"));
            Ended::Well
        }
        Ok(()) => Ended::Found,
    }
}

/// A bar on a terminal, a line every few seconds elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    last: Instant,
}

impl Shown {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:24}] {wide_msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, last: Instant::now() }
    }

    #[expect(clippy::print_stderr, reason = "progress is for the person who typed the command")]
    fn show(&mut self, status: &Status) {
        let Status::Running { phase, done, total, .. } = status else { return };
        let of = if *total > 0 { format!(" of {total}") } else { String::new() };
        let line = format!("{phase}: {done}{of}");
        match &self.bar {
            Some(bar) => {
                bar.set_length(*total);
                bar.set_position(*done);
                bar.set_message(line);
                bar.tick();
            }
            None if self.last.elapsed() >= LINE_EVERY => {
                self.last = Instant::now();
                eprintln!("{line}");
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
