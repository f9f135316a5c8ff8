//! What is done for jobs from time to time: results and jobs whose time is over go, and the journal is compacted.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use stills_model::time::{Day, Timestamp};

use super::record::{self, ENTRY_KIND};
use super::{FILE_DEADLINE, Jobs};
use crate::clock::Clock;
use crate::journal::{Journal, JournalError, Position};

/// How often it is looked what can go.
const EVERY: Duration = Duration::from_secs(600);

/// Makes compactions leave out what nobody may ask for any more.
pub(super) fn own_entries(journal: &Journal, clock: Clock) {
    journal.set_owner(ENTRY_KIND, move |_, payload| record::is_needed(payload, clock.now()));
}

impl Jobs {
    /// Looks after everything, for ever.
    pub(super) async fn upkeep(self) {
        let mut rounds = Rounds::default();
        loop {
            self.expire().await;
            let jobs = self.clone();
            // As long as reading and writing a day takes.
            let compacted = tokio::task::spawn_blocking(move || {
                compact(&jobs.0.parts.journal, jobs.0.parts.clock.now(), &mut rounds);
                rounds
            });
            rounds = compacted.await.unwrap_or_default();
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn expire(&self) {
        self.book().expire(self.0.parts.clock.now());
        let (results, retention) = (self.0.results.clone(), self.retention());
        match self.0.parts.threads.call(FILE_DEADLINE, move || results.expire(retention)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(n_removed)) => tracing::info!(n_removed, "results of jobs were removed: their time is over"),
            Ok(Err(error)) => tracing::warn!(%error, "old results of jobs could not be removed"),
            Err(error) => tracing::warn!(%error, "old results of jobs could not be removed"),
        }
    }
}

/// What compaction remembers of this run.
#[derive(Debug, Default)]
struct Rounds {
    /// The day on which entries that are over were looked for.
    looked_on: Option<Day>,
    /// Days that stay as they are until tomorrow: they are compacted, or damaged.
    done: BTreeSet<Day>,
}

/// Compacts days with many files, and once a day those that have an entry which is over.
fn compact(journal: &Journal, now: Timestamp, rounds: &mut Rounds) {
    let today = now.day();
    journal.discard_retired();
    let mut days = BTreeSet::new();
    if rounds.looked_on != Some(today) {
        *rounds = Rounds { looked_on: Some(today), done: BTreeSet::new() };
        match days_with_over(journal, now) {
            Ok(over) => days = over,
            Err(error) => tracing::warn!(%error, "the jobs' journal could not be looked through"),
        }
    }
    while let Some(day) = days.pop_first().or_else(|| journal.due(today, &rounds.done)) {
        rounds.done.insert(day);
        match journal.compact(day) {
            Ok(done) if done.is_damaged => {
                tracing::warn!(day = day.0, "a day of the jobs' journal is damaged and stays");
            }
            Ok(done) => tracing::info!(day = day.0, ?done, "a day of the jobs' journal is compacted"),
            Err(error) => {
                return tracing::warn!(day = day.0, %error, "a day of the jobs' journal could not be compacted");
            }
        }
    }
}

/// The days of entries that nobody may ask for any more.
fn days_with_over(journal: &Journal, now: Timestamp) -> Result<BTreeSet<Day>, JournalError> {
    let mut days = BTreeSet::new();
    let look = |position: Position, kind: u8, payload: &[u8]| {
        if kind == ENTRY_KIND && !record::is_needed(payload, now) {
            days.insert(position.file.day);
        }
        ControlFlow::Continue(())
    };
    journal.replay(|_| 0, look)?;
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::sample;
    use super::super::replay;
    use super::*;
    use crate::journal::{Entry, JournalConfig, Space};
    use stills_model::time::DAY_MS;

    #[tokio::test]
    async fn the_journal_keeps_what_may_still_be_asked_for() {
        let temp = tempfile::tempdir().expect("a directory");
        let clock = Clock::settable(Timestamp::from_ms(0));
        let config = JournalConfig { retired_grace: Duration::ZERO, ..JournalConfig::default() };
        let (journal, _) = Journal::open(temp.path(), config).expect("open");
        own_entries(&journal, clock.clone());
        // Of days 0 to 3, needed for two days each; and one of day 0 that is needed for long.
        let mut jobs = Vec::new();
        for (day, needed_days) in [(0, 2), (1, 3), (2, 4), (3, 5), (0, 100)] {
            let mut job = sample();
            job.accepted_at = Timestamp::from_ms(day * DAY_MS);
            job.needed_until = Timestamp::from_ms(needed_days * DAY_MS);
            let entry = Entry { day: Day(day), kind: ENTRY_KIND, payload: job.encode() };
            journal.append(vec![entry], Space::Ordinary).await.expect("kept");
            jobs.push(job);
        }
        let journal = std::sync::Arc::new(journal);
        let mut rounds = Rounds::default();
        for (today, left) in
            [(1, vec![0, 4, 1, 2, 3]), (2, vec![4, 1, 2, 3]), (4, vec![4, 3]), (99, vec![4]), (100, vec![])]
        {
            let now = Timestamp::from_ms(today * DAY_MS);
            clock.set(now);
            let compacted = std::sync::Arc::clone(&journal);
            let done = move || {
                compact(&compacted, now, &mut rounds);
                rounds
            };
            rounds = tokio::task::spawn_blocking(done).await.expect("compacted");
            let ids: Vec<_> = left.iter().map(|n: &usize| jobs[*n].id).collect();
            // As they are on the disk, whatever the time is.
            let found = replay(&journal, Timestamp::from_ms(0)).expect("replayed");
            assert_eq!(found.iter().map(|job| job.id).collect::<Vec<_>>(), ids, "day {today}");
        }
        assert!(journal.days().is_empty(), "days of which nothing is needed vanish");
    }
}
