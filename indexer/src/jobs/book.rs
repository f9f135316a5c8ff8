//! Who waits, who runs, what is done and who is still to be told: the jobs of this process, in memory and bounded. Pure but
//! for the instants it is given; knows neither files nor network.
//!
//! Pauses and waits are counted by a clock that nobody sets; the wall clock only says how old a success is.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use stills_model::codec::Writer;
use stills_model::id::UserId;
use stills_model::time::{DAY_MS, Timestamp};

use super::record::{Delivery, Job, JobId, Order};

/// For how long a success answers the same order again.
const REPEAT_MS: i64 = DAY_MS;

/// Jobs that are not over: they wait, run, or their callers are still to be told.
pub(super) const OPEN_MAX: usize = 100_000;

/// Jobs that are over and can still be asked about; the oldest go first. About 500 bytes each.
const DONE_MAX: usize = 100_000;

/// For how long a receiver is tried.
const TRIED_MAX: Duration = Duration::from_secs(24 * 3600);

/// The pause after the first failed attempt; it doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// What tells an order from others: nothing without the caller's own name for it.
pub(super) type Key = [u8; 32];

pub(super) fn key_of(user: UserId, order: &Order) -> Option<Key> {
    let caller_id = order.caller_id.as_deref().filter(|id| !id.is_empty())?;
    let mut w = Writer::new();
    w.raw(user.as_bytes()).text(caller_id).text(&order.video_url);
    w.raw(&order.second.to_bits().to_be_bytes()).optional_text(order.webhook_url.as_deref());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &w.finish());
    digest.as_ref().try_into().ok()
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Accepted, and behind others.
    Queued,
    /// At work.
    Running,
    /// Over, well or not.
    Done,
}

#[derive(Debug)]
struct Held {
    job: Job,
    phase: Phase,
    /// Since when it is in this phase, and how long it was in it before this process began.
    since: Instant,
    before: Duration,
    changed_at: Timestamp,
}

impl Held {
    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since).saturating_add(self.before)
    }
}

/// All jobs.
#[derive(Debug, Default)]
pub(super) struct Book {
    jobs: HashMap<JobId, Held>,
    by_key: HashMap<Key, JobId>,
    /// In the order in which they were accepted.
    waiting: VecDeque<JobId>,
    /// Accepted and not durable yet: counted, and not started.
    n_accepting: usize,
    n_running: usize,
    /// By the moment of the next attempt.
    due: BTreeSet<(Instant, JobId)>,
    n_telling: usize,
    done: VecDeque<JobId>,
    n_dead: usize,
}

impl Book {
    /// The job that answers this order: one that is under way, or a success of the last 24 h.
    pub(super) fn repeated(&self, key: &Key, now: Timestamp) -> Option<(&Job, Phase)> {
        let held = self.jobs.get(self.by_key.get(key)?)?;
        let is_fresh = match &held.job.outcome {
            None => true,
            Some(outcome) => outcome.failure.is_none() && now.since_ms(outcome.finished_at) <= REPEAT_MS,
        };
        is_fresh.then_some((&held.job, held.phase))
    }

    /// How many wait.
    pub(super) fn n_waiting(&self) -> usize {
        self.waiting.len() + self.n_accepting
    }

    /// Receivers that are still to be told, and those that were given up.
    pub(super) fn n_due_and_dead(&self) -> (usize, usize) {
        (self.due.len() + self.n_telling, self.n_dead)
    }

    /// How many are at work.
    pub(super) fn n_running(&self) -> usize {
        self.n_running
    }

    /// Keeps a place for a job in the queue, before it is durable. False: there is none.
    pub(super) fn reserve(&mut self, job: &Job, waiting_max: usize, now: Instant) -> bool {
        let n_open = self.n_waiting() + self.n_running + self.due.len() + self.n_telling;
        if self.n_waiting() >= waiting_max || n_open >= OPEN_MAX {
            return false;
        }
        self.n_accepting += 1;
        self.hold(job.clone(), Phase::Queued, now, Duration::ZERO, job.accepted_at);
        true
    }

    /// Gives a place back that was kept in vain.
    pub(super) fn withdraw(&mut self, job: &Job) {
        self.n_accepting -= 1;
        self.forget(job.id);
    }

    /// Puts a job that is durable into the queue.
    pub(super) fn enqueue(&mut self, id: JobId) {
        self.n_accepting -= 1;
        self.waiting.push_back(id);
    }

    /// Takes a job in that does not wait for others.
    pub(super) fn begin(&mut self, job: &Job, now: Instant) {
        self.n_running += 1;
        self.hold(job.clone(), Phase::Running, now, Duration::ZERO, job.accepted_at);
    }

    /// Takes it out again, as if it had never been.
    pub(super) fn abandon(&mut self, id: JobId) {
        self.n_running -= 1;
        self.forget(id);
    }

    /// The next one to work at, and how long it waited.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Job, Duration)> {
        let held = self.jobs.get_mut(&self.waiting.pop_front()?)?;
        let waited = held.elapsed(now);
        (held.phase, held.since, held.before) = (Phase::Running, now, Duration::ZERO);
        self.n_running += 1;
        Some((held.job.clone(), waited))
    }

    /// Notes how a job at work ended; whom it is to tell is due at once.
    pub(super) fn finish(&mut self, job: Job, now: Instant) {
        self.n_running -= 1;
        self.settle(job, now, Duration::ZERO);
    }

    fn settle(&mut self, job: Job, now: Instant, before: Duration) {
        let (id, changed_at) = (job.id, job.outcome.as_ref().map_or(job.accepted_at, |outcome| outcome.finished_at));
        match job.delivery {
            Delivery::Due { .. } => drop(self.due.insert((now, id))),
            Delivery::Dead { .. } => self.n_dead += 1,
            Delivery::None | Delivery::Delivered { .. } => {}
        }
        self.hold(job, Phase::Done, now, before, changed_at);
        self.done.push_back(id);
        while self.done.len() > DONE_MAX {
            self.forget_oldest();
        }
    }

    /// The oldest that is over and has nobody left to tell.
    fn forget_oldest(&mut self) {
        for _ in 0..self.done.len() {
            let Some(id) = self.done.pop_front() else { return };
            let is_due = self.jobs.get(&id).is_some_and(|held| matches!(held.job.delivery, Delivery::Due { .. }));
            if !is_due {
                return self.forget(id);
            }
            self.done.push_back(id);
        }
    }

    /// Takes receivers that are due by now, at most `n_max`.
    pub(super) fn take_due(&mut self, now: Instant, n_max: usize) -> Vec<Job> {
        let mut taken = Vec::new();
        while taken.len() < n_max && self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = self.due.pop_first() else { break };
            if let Some(held) = self.jobs.get(&id) {
                self.n_telling += 1;
                taken.push(held.job.clone());
            }
        }
        taken
    }

    /// When the next receiver is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// What becomes of a delivery after an attempt: the job as it is to be stored. `Err` says why it failed, and whether
    /// for good.
    pub(super) fn attempted(&self, job: &Job, result: Result<(), (&str, bool)>, now: Instant) -> Job {
        let Delivery::Due { attempts, .. } = job.delivery else { return job.clone() };
        let tried = self.jobs.get(&job.id).map_or(Duration::ZERO, |held| held.elapsed(now));
        let attempts = attempts.saturating_add(1);
        let delivery = match result {
            Ok(()) => Delivery::Delivered { attempts },
            Err((reason, is_for_good)) if is_for_good || tried + pause(attempts) > TRIED_MAX => {
                Delivery::Dead { attempts, reason: reason.into() }
            }
            Err(_) => Delivery::Due { attempts, tried_ms: u64::try_from(tried.as_millis()).unwrap_or(u64::MAX) },
        };
        Job { delivery, revision: job.revision + 1, ..job.clone() }
    }

    /// Notes the delivery of a job that was taken by [`Book::take_due`].
    pub(super) fn told(&mut self, job: Job, now: Instant) {
        self.n_telling -= 1;
        let Some(held) = self.jobs.get_mut(&job.id) else { return };
        match job.delivery {
            Delivery::Due { attempts, .. } => drop(self.due.insert((now + pause(attempts), job.id))),
            Delivery::Dead { .. } => self.n_dead += 1,
            Delivery::None | Delivery::Delivered { .. } => {}
        }
        held.job = job;
    }

    /// Makes a dead letter due again, as its caller asked again. The job as it is to be stored.
    pub(super) fn revive(&mut self, id: JobId, now: Instant) -> Option<Job> {
        let held = self.jobs.get_mut(&id)?;
        if !matches!(held.job.delivery, Delivery::Dead { .. }) {
            return None;
        }
        held.job.delivery = Delivery::Due { attempts: 0, tried_ms: 0 };
        held.job.revision += 1;
        (held.since, held.before) = (now, Duration::ZERO);
        self.n_dead -= 1;
        self.due.insert((now, id));
        Some(held.job.clone())
    }

    /// Takes up jobs of earlier runs, in the order in which they were accepted.
    pub(super) fn restore(&mut self, jobs: Vec<Job>, now: Instant, wall: Timestamp) {
        for job in jobs {
            if job.outcome.is_none() {
                let before = Duration::from_millis(u64::try_from(wall.since_ms(job.accepted_at)).unwrap_or(0));
                let (id, accepted_at) = (job.id, job.accepted_at);
                self.hold(job, Phase::Queued, now, before, accepted_at);
                self.waiting.push_back(id);
            } else {
                let tried_ms = if let Delivery::Due { tried_ms, .. } = job.delivery { tried_ms } else { 0 };
                self.settle(job, now, Duration::from_millis(tried_ms));
            }
        }
    }

    /// Forgets what nobody may ask for any more.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let jobs = &self.jobs;
        let is_over = |id: &JobId| {
            let held = jobs.get(id);
            held.is_none_or(|held| held.job.needed_until <= now && !matches!(held.job.delivery, Delivery::Due { .. }))
        };
        let (over, kept): (VecDeque<JobId>, VecDeque<JobId>) = self.done.iter().partition(|id| is_over(id));
        self.done = kept;
        over.into_iter().for_each(|id| self.forget(id));
    }

    /// A job of a user.
    pub(super) fn get(&self, user: UserId, id: JobId) -> Option<(Job, Phase)> {
        let held = self.jobs.get(&id).filter(|held| held.job.user == user)?;
        Some((held.job.clone(), held.phase))
    }

    /// The jobs of a user that changed at `since` or later.
    pub(super) fn list(&self, user: UserId, since: Timestamp) -> BTreeMap<JobId, Phase> {
        let all = self.jobs.values().filter(|held| held.job.user == user && held.changed_at >= since);
        all.map(|held| (held.job.id, held.phase)).collect()
    }

    fn hold(&mut self, job: Job, phase: Phase, since: Instant, before: Duration, changed_at: Timestamp) {
        if let Some(key) = key_of(job.user, &job.order) {
            self.by_key.insert(key, job.id);
        }
        self.jobs.insert(job.id, Held { job, phase, since, before, changed_at });
    }

    fn forget(&mut self, id: JobId) {
        let Some(held) = self.jobs.remove(&id) else { return };
        self.n_dead -= usize::from(matches!(held.job.delivery, Delivery::Dead { .. }));
        // Another job may have taken the key over.
        if let Some(key) = key_of(held.job.user, &held.job.order)
            && self.by_key.get(&key) == Some(&id)
        {
            self.by_key.remove(&key);
        }
    }
}

/// The pause after so many failed attempts.
fn pause(attempts: u32) -> Duration {
    let doubled = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    PAUSE_FIRST.saturating_mul(doubled).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{outcome, sample};
    use super::*;

    fn named(caller_id: &str) -> Job {
        let mut job = sample();
        job.order.caller_id = Some(caller_id.into());
        job
    }

    fn finished(job: Job, failure: Option<&str>) -> Job {
        Job {
            outcome: Some(outcome(failure)),
            delivery: Delivery::Due { attempts: 0, tried_ms: 0 },
            revision: 1,
            ..job
        }
    }

    #[test]
    fn jobs_run_in_the_order_of_their_acceptance_and_the_queue_has_an_end() {
        let (mut book, now) = (Book::default(), Instant::now());
        let jobs: Vec<Job> = ["a", "b", "c"].map(named).into();
        for job in &jobs[..2] {
            assert!(book.reserve(job, 2, now));
        }
        assert_eq!((book.n_waiting(), book.reserve(&jobs[2], 2, now)), (2, false));
        assert!(book.next(now).is_none(), "not durable yet");
        jobs[..2].iter().for_each(|job| book.enqueue(job.id));
        let (first, waited) = book.next(now + Duration::from_secs(3)).expect("a job");
        assert_eq!((first.id, waited), (jobs[0].id, Duration::from_secs(3)));
        // The running one is not counted.
        assert!(book.reserve(&jobs[2], 2, now));
        book.withdraw(&jobs[2]);
        assert_eq!((book.n_waiting(), book.n_running()), (1, 1));
        assert_eq!(book.get(jobs[2].user, jobs[2].id), None);
    }

    #[test]
    fn the_same_order_is_answered_by_the_same_job() {
        let (mut book, now) = (Book::default(), Instant::now());
        let job = named("a");
        let key = key_of(job.user, &job.order).expect("a key");
        let repeated = |book: &Book, at_ms: i64| book.repeated(&key, Timestamp::from_ms(at_ms)).map(|(job, _)| job.id);
        book.begin(&job, now);
        assert_eq!(repeated(&book, 1000), Some(job.id), "under way");
        book.finish(finished(job.clone(), None), now);
        assert_eq!(repeated(&book, 1500 + REPEAT_MS), Some(job.id));
        assert_eq!(repeated(&book, 1501 + REPEAT_MS), None, "too old");
        let failed = named("b");
        let key = key_of(failed.user, &failed.order).expect("a key");
        book.begin(&failed, now);
        book.finish(finished(failed, Some("no")), now);
        assert!(book.repeated(&key, Timestamp::from_ms(1500)).is_none(), "a failed one runs again");
        // What differs is another job.
        let keys: BTreeSet<Option<Key>> = [
            job.order.clone(),
            Order { second: 2.0, ..job.order.clone() },
            Order { webhook_url: None, ..job.order.clone() },
            Order { video_url: "https://other.example/".into(), ..job.order.clone() },
            Order { caller_id: None, ..job.order.clone() },
            Order { caller_id: Some("".into()), ..job.order.clone() },
        ]
        .map(|order| key_of(job.user, &order))
        .into();
        assert_eq!(keys.len(), 5, "the last two have none");
    }

    #[test]
    fn receivers_are_tried_for_a_day_with_growing_pauses() {
        let (mut book, start) = (Book::default(), Instant::now());
        let job = named("a");
        book.begin(&job, start);
        book.finish(finished(job.clone(), None), start);
        let (mut now, mut n_attempts, mut pauses) = (start, 0, Vec::new());
        loop {
            let due = book.take_due(now, 10);
            assert_eq!(due.len(), 1);
            assert_eq!(book.n_due_and_dead(), (1, 0));
            n_attempts += 1;
            let after = book.attempted(&due[0], Err(("down", false)), now);
            book.told(after, now);
            let Some(next) = book.next_due() else { break };
            assert!(book.take_due(next - Duration::from_millis(1), 10).is_empty(), "not before its time");
            pauses.push(next - now);
            now = next;
        }
        assert_eq!(pauses[..3], [2, 4, 8].map(Duration::from_secs));
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX));
        let tried = now - start;
        assert!(tried <= TRIED_MAX && tried + PAUSE_MAX > TRIED_MAX, "{tried:?}");
        assert!((30..40).contains(&n_attempts), "{n_attempts}");
        assert_eq!(book.n_due_and_dead(), (0, 1));
        let (dead, _) = book.get(job.user, job.id).expect("kept");
        assert_eq!(dead.delivery, Delivery::Dead { attempts: n_attempts, reason: "down".into() });
        assert_eq!(dead.revision, 1 + n_attempts);

        // Who asks again is told again.
        let revived = book.revive(job.id, now).expect("dead before");
        assert_eq!((revived.delivery, book.n_due_and_dead()), (Delivery::Due { attempts: 0, tried_ms: 0 }, (1, 0)));
        let due = book.take_due(now, 10);
        let after = book.attempted(&due[0], Ok(()), now);
        book.told(after, now);
        assert_eq!(book.n_due_and_dead(), (0, 0));
        assert!(book.revive(job.id, now).is_none());
    }

    #[test]
    fn what_is_refused_for_good_is_not_tried_again() {
        let (mut book, now) = (Book::default(), Instant::now());
        let job = named("a");
        book.begin(&job, now);
        book.finish(finished(job, None), now);
        let due = book.take_due(now, 1);
        let after = book.attempted(&due[0], Err(("forbidden", true)), now);
        assert_eq!(after.delivery, Delivery::Dead { attempts: 1, reason: "forbidden".into() });
    }

    #[test]
    fn a_restart_goes_on_where_it_was_whatever_the_clock_says() {
        let (mut book, now) = (Book::default(), Instant::now());
        let waiting = [named("a"), named("b")];
        let tried =
            Job { delivery: Delivery::Due { attempts: 20, tried_ms: 80_000_000 }, ..finished(named("c"), None) };
        // The wall clock was set back to before anything was accepted.
        book.restore([waiting.to_vec(), vec![tried.clone()]].concat(), now, Timestamp::from_ms(0));
        assert_eq!(book.next(now).map(|(job, waited)| (job.id, waited)), Some((waiting[0].id, Duration::ZERO)));
        assert_eq!(book.n_waiting(), 1);
        let due = book.take_due(now, 10);
        assert_eq!(due, [tried]);
        let later = now + Duration::from_secs(5000);
        let after = book.attempted(&due[0], Err(("down", false)), later);
        assert!(matches!(after.delivery, Delivery::Dead { attempts: 21, .. }), "80,000 s and 5,000 s are nearly a day");
    }

    #[test]
    fn what_is_over_is_forgotten_in_time() {
        let (mut book, now) = (Book::default(), Instant::now());
        let told = |name: &str| Job { delivery: Delivery::Delivered { attempts: 1 }, ..finished(named(name), None) };
        let (early, late) = (told("a"), Job { needed_until: Timestamp::from_ms(9000), ..told("b") });
        let due = finished(named("c"), None);
        book.restore(vec![early.clone(), late.clone(), due.clone()], now, Timestamp::from_ms(1600));
        assert_eq!(book.list(early.user, Timestamp::from_ms(1500)).len(), 3);
        assert!(book.list(early.user, Timestamp::from_ms(1501)).is_empty());
        book.expire(Timestamp::from_ms(2000));
        let is_there = |book: &Book, job: &Job| book.get(job.user, job.id).is_some();
        assert_eq!([&early, &late, &due].map(|job| is_there(&book, job)), [false, true, true]);
        let stranger = "627d8ca8297a3d00019e2abc".parse().expect("an id");
        assert_eq!(book.get(stranger, late.id), None);
    }
}
