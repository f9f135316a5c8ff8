//! How far it is: a bar on a terminal, a line every few seconds elsewhere. Both go to standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What is counted. `found` grows ahead of the others; files of earlier runs count where they were dealt with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files beneath the places, as far as they are counted.
    pub found: u64,
    /// Whether all of them are.
    pub is_found_complete: bool,
    /// Files that were dealt with in earlier runs.
    pub before: u64,
    /// Files that were dealt with in this one.
    pub walked: u64,
    /// Events that the origin took, duplicates included.
    pub accepted: u64,
    /// Of these, events that it had taken before.
    pub duplicates: u64,
    /// Files that it, or the layout, would not have.
    pub rejected: u64,
    /// Files that no pattern matches.
    pub unmatched: u64,
    /// Files without a byte in them.
    pub empty: u64,
    /// Places that could not be read.
    pub unreadable: u64,
}

/// What the origin has made of it since the run began, where it can be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// Recordings scanned.
    pub indexed: u64,
    /// Recordings whose scan failed.
    pub failed: u64,
    /// Pictures rendered.
    pub rendered: u64,
    /// Recordings that wait.
    pub backlog: u64,
}

/// Shows counts as they change.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    shown: Instant,
}

impl Progress {
    /// A bar if standard error is a terminal.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:24}] {wide_msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, started: Instant::now(), shown: Instant::now() }
    }

    /// Shows where things stand; cheap to call often.
    pub fn show(&mut self, counts: &Counts, made: Option<&Made>) {
        let elapsed = self.started.elapsed();
        match &self.bar {
            Some(bar) => {
                bar.set_length(counts.found.max(counts.before + counts.walked));
                bar.set_position(counts.before + counts.walked);
                bar.set_message(line(counts, made, elapsed));
                bar.tick();
            }
            None if self.shown.elapsed() >= LINE_EVERY => {
                self.shown = Instant::now();
                self.say(&line(counts, made, elapsed));
            }
            None => {}
        }
    }

    /// A line of its own, above the bar.
    #[expect(clippy::print_stderr, reason = "progress is for the person who typed the command")]
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// `found=10000 done=2500 sent=2400 …  rate=250/s left=30s`, the same on the bar and without it.
fn line(counts: &Counts, made: Option<&Made>, elapsed: Duration) -> String {
    let done = counts.before + counts.walked;
    let more = if counts.is_found_complete { "" } else { "+" };
    let mut text = format!(
        "found={}{more} done={done} sent={} duplicates={} rejected={} unmatched={}",
        counts.found.max(done),
        counts.accepted,
        counts.duplicates,
        counts.rejected,
        counts.unmatched
    );
    if let Some(made) = made {
        text += &format!(
            " indexed={} failed={} rendered={} waiting={}",
            made.indexed, made.failed, made.rendered, made.backlog
        );
    }
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    text += &format!(" rate={}/s", counts.walked.saturating_mul(1000) / ms);
    match left(counts, ms) {
        Some(seconds) => text += &format!(" left={}", spoken(seconds)),
        None => text += " left=?",
    }
    text
}

/// Seconds until all files are dealt with, at the rate of this run; unknown until all are counted.
fn left(counts: &Counts, elapsed_ms: u64) -> Option<u64> {
    if !counts.is_found_complete || counts.walked == 0 {
        return None;
    }
    let remaining = counts.found.saturating_sub(counts.before + counts.walked);
    let ms = u128::from(remaining) * u128::from(elapsed_ms) / u128::from(counts.walked);
    u64::try_from(ms / 1000).ok()
}

fn spoken(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(counts: Counts, made: Option<Made>, seconds: u64, expected: &str) {
        assert_eq!(line(&counts, made.as_ref(), Duration::from_secs(seconds)), expected);
    }

    #[test]
    fn lines() {
        let begun = Counts { found: 300, walked: 20, accepted: 10, ..Counts::default() };
        check(begun, None, 2, "found=300+ done=20 sent=10 duplicates=0 rejected=0 unmatched=0 rate=10/s left=?");
        let counts =
            Counts { found: 10_000, is_found_complete: true, before: 4000, walked: 1000, accepted: 990, ..begun };
        let made = Made { indexed: 900, failed: 2, rendered: 5400, backlog: 88 };
        check(
            Counts { duplicates: 3, rejected: 2, unmatched: 5, ..counts },
            Some(made),
            20,
            "found=10000 done=5000 sent=990 duplicates=3 rejected=2 unmatched=5 indexed=900 failed=2 rendered=5400 \
             waiting=88 rate=50/s left=1m40s",
        );
        assert_eq!((spoken(59), spoken(60), spoken(7265)), ("59s".into(), "1m00s".into(), "2h01m".into()));
    }
}
