//! Jobs: pictures of media that callers name by URL, made now or in the background, kept for a while, and told to whoever
//! asked for that. Knows no wire form: how a job is told is given from outside ([`Envelope`]).
//!
//! The path of a job in the background:
//!
//! 1. [`Jobs::submit`] finds the same order again, else keeps a place in the queue or refuses at once;
//! 2. the job goes to the journal, then into the queue ([`book`]), then its caller hears of it;
//! 3. a runner ([`make`]) takes it, in the order of acceptance, and asks for its frame ([`crate::clips`]); busy decoders are waited for;
//! 4. the picture becomes a file ([`results`]), then how it ended goes to the journal, then it is done;
//! 5. its receiver is told ([`deliver`]) until it heard, or a day has passed.
//!
//! A crash at any point leaves a job that waits again, or one that is done and whose receiver is told (perhaps twice, under
//! one id). The journal is one of its own beside that of recordings, so that a start reads the jobs of weeks and not the
//! recordings of years; its entries are of [`record::ENTRY_KIND`], and [`upkeep`]
//! compacts it to those that [`record::is_needed`] says are.

mod book;
mod deliver;
mod make;
pub mod record;
mod results;
mod upkeep;
pub mod webhook;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stills_model::id::UserId;
use stills_model::time::{DAY_MS, Timestamp};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::clips::Clips;
use crate::clock::Clock;
use crate::config::jobs::WebhookSecret;
use crate::journal::{Entry, Journal, JournalError, Space};
use crate::metrics::Metrics;
use crate::source::policy::Refused;
use crate::threads::Threads;

pub use book::Phase;
use book::{Book, key_of};
use record::{Delivery, Job, JobId, Order, ResultSecret};
use results::Results;
use webhook::Webhooks;

/// How a job that is done is told to its receiver: the body.
pub type Envelope = Arc<dyn Fn(&Job) -> String + Send + Sync>;

/// The pause after a journal that failed.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);

/// Writing or reading a result may take this long.
const FILE_DEADLINE: Duration = Duration::from_secs(30);

/// What jobs are made with.
#[derive(Debug)]
pub struct Parts {
    /// Keeps them; used by nobody else.
    pub journal: Journal,
    /// Makes pictures.
    pub clips: Clips,
    /// Tells receivers.
    pub webhooks: Webhooks,
    /// Threads for files.
    pub threads: Threads,
    /// The time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// The limits of `[jobs]`.
#[derive(Debug, Clone, Copy)]
pub struct JobsConfig {
    /// How long a result can be fetched.
    pub result_retention: Duration,
    /// Jobs at work at once in the background.
    pub running_max: usize,
}

/// A job is not taken, or cannot be answered.
#[derive(Debug, Error)]
pub enum JobError {
    /// No place in the queue.
    #[error("{waiting} jobs wait")]
    Full {
        /// How many wait.
        waiting: usize,
    },
    /// No decoder for a job that does not wait.
    #[error("no decoder is free")]
    Busy,
    /// It could not be kept.
    #[error("the job could not be kept: {0}")]
    Store(String),
}

impl From<JournalError> for JobError {
    fn from(error: JournalError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<record::NoRandom> for JobError {
    fn from(error: record::NoRandom) -> Self {
        Self::Store(error.to_string())
    }
}

/// All jobs. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Jobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    results: Results,
    running_max: usize,
    retention_ms: AtomicI64,
    queue_id: u64,
    book: Mutex<Book>,
    /// A job was put into the queue.
    queued: Notify,
    /// A job is over.
    over: Notify,
    /// A receiver may be due.
    due: Notify,
}

impl Jobs {
    /// Takes up the jobs of earlier runs; nothing runs before [`Jobs::start`]. `dir` is the data directory's part for
    /// results. Blocks.
    ///
    /// # Errors
    /// When the journal or the directory cannot be read.
    pub fn open(parts: Parts, config: JobsConfig, dir: &Path) -> Result<Self, JobError> {
        let results = Results::open(dir.to_owned()).map_err(|error| JobError::Store(error.to_string()))?;
        let mut book = Book::default();
        upkeep::own_entries(&parts.journal, parts.clock.clone());
        let jobs = replay(&parts.journal, parts.clock.now())?;
        book.restore(jobs, Instant::now(), parts.clock.now());
        let (queue_id, book) = (u64::from(std::process::id()), Mutex::new(book));
        let (queued, over, due) = (Notify::new(), Notify::new(), Notify::new());
        let (running_max, retention_ms) = (config.running_max.max(1), AtomicI64::new(0));
        let inner = Inner { parts, results, running_max, retention_ms, queue_id, book, queued, over, due };
        let jobs = Self(Arc::new(inner));
        jobs.set_retention(config.result_retention);
        Ok(jobs)
    }

    /// Starts the tasks that work; they end when `tasks` is shut down.
    pub fn start(&self, tasks: &mut JoinSet<()>, envelope: Envelope) {
        for _ in 0..self.0.running_max {
            let jobs = self.clone();
            tasks.spawn(async move { jobs.run_all().await });
        }
        tasks.spawn(self.clone().deliver_all(envelope));
        tasks.spawn(self.clone().upkeep());
    }

    /// Replaces how long results can be fetched.
    pub fn set_retention(&self, retention: Duration) {
        self.0.retention_ms.store(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Signs webhooks with other secrets from now on, those that are tried again too.
    pub fn set_webhook_secrets(&self, secrets: Vec<WebhookSecret>) {
        self.0.parts.webhooks.set_secrets(secrets);
    }

    /// How many wait.
    pub fn n_waiting(&self) -> usize {
        self.book().n_waiting()
    }

    /// The id of this process's queue.
    pub fn queue_id(&self) -> u64 {
        self.0.queue_id
    }

    /// Whether a user may have this media fetched, as far as the URL says.
    ///
    /// # Errors
    /// Why not; public text.
    pub fn check_media(&self, user: UserId, url: &str) -> Result<(), Refused> {
        self.0.parts.clips.check(user, url)
    }

    /// Whether a user may have this receiver told, as far as the URL says.
    ///
    /// # Errors
    /// Why not; public text.
    pub fn check_webhook(&self, user: UserId, url: &str) -> Result<(), Refused> {
        self.0.parts.webhooks.check(user, url)
    }

    /// Takes a job for the background: durable when this returns. The same order again gives the same job; if its
    /// receiver was given up, it is tried again. `waiting_max`: 0 is no limit but that of all open jobs.
    ///
    /// # Errors
    /// [`JobError::Full`] at once, [`JobError::Store`].
    pub async fn submit(&self, user: UserId, order: Order, waiting_max: usize) -> Result<Job, JobError> {
        // A task of its own: a caller that hangs up must not leave a place kept for nobody.
        let jobs = self.clone();
        let taken = tokio::spawn(async move { jobs.take(user, order, waiting_max).await });
        taken.await.unwrap_or_else(|error| Err(JobError::Store(error.to_string())))
    }

    async fn take(&self, user: UserId, order: Order, waiting_max: usize) -> Result<Job, JobError> {
        let job = self.new_job(user, order)?;
        let waiting_max = if waiting_max == 0 { usize::MAX } else { waiting_max };
        let repeated = {
            let mut book = self.book();
            let key = key_of(user, &job.order);
            let known = key.and_then(|key| book.repeated(&key, job.accepted_at).map(|(job, _)| job.clone()));
            match known {
                Some(known) => Some((book.revive(known.id, Instant::now()), known)),
                None if book.reserve(&job, waiting_max, Instant::now()) => None,
                None => return Err(JobError::Full { waiting: book.n_waiting() }),
            }
        };
        if let Some((revived, known)) = repeated {
            if let Some(revived) = revived {
                self.keep_until_kept(&revived).await;
                self.0.due.notify_one();
            }
            return Ok(known);
        }
        if let Err(error) = self.keep(&job).await {
            self.book().withdraw(&job);
            return Err(error.into());
        }
        self.book().enqueue(job.id);
        self.0.queued.notify_one();
        Ok(job)
    }

    /// Makes a job's picture now. The same order again is answered by the job that made it, also while that is at work.
    ///
    /// # Errors
    /// [`JobError::Busy`] when there is no decoder, [`JobError::Store`]. A job that fails is a job.
    pub async fn run_now(&self, user: UserId, order: Order) -> Result<Job, JobError> {
        let jobs = self.clone();
        let ran = tokio::spawn(async move { jobs.make_now(user, order).await });
        ran.await.unwrap_or_else(|error| Err(JobError::Store(error.to_string())))
    }

    /// A job of a user, and where it is.
    pub fn status(&self, user: UserId, id: JobId) -> Option<(Job, Phase)> {
        self.book().get(user, id)
    }

    /// The jobs of a user that changed in the last `since`.
    pub fn list(&self, user: UserId, since: Duration) -> BTreeMap<JobId, Phase> {
        let since_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        self.book().list(user, self.0.parts.clock.now().plus_ms(since_ms.saturating_neg()))
    }

    /// A result, and for how long it can still be fetched; nothing where there is none (any more).
    ///
    /// # Errors
    /// [`JobError::Store`] when it cannot be read.
    pub async fn result(&self, id: JobId, secret: ResultSecret) -> Result<Option<(Bytes, Duration)>, JobError> {
        let results = self.0.results.clone();
        let read = self.0.parts.threads.call(FILE_DEADLINE, move || results.get(id, secret)).await;
        let read = read.map_err(|error| JobError::Store(error.to_string()))?;
        let read = read.map_err(|error| JobError::Store(error.to_string()))?;
        let retention = self.retention();
        Ok(read.and_then(|(body, age)| Some((body, retention.checked_sub(age).filter(|left| !left.is_zero())?))))
    }

    /// Copies what is counted here into the metrics.
    pub fn measure(&self) {
        let (waiting, running, (due, dead)) = {
            let book = self.book();
            (book.n_waiting(), book.n_running(), book.n_due_and_dead())
        };
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let metrics = &self.0.parts.metrics;
        metrics.jobs_waiting.set(gauge(waiting));
        metrics.jobs_running.set(gauge(running));
        metrics.webhooks_due.set(gauge(due));
        metrics.webhooks_dead.set(gauge(dead));
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Every change is small and keeps it whole.
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retention(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.retention_ms.load(Ordering::Relaxed)).unwrap_or(0))
    }

    /// The result's time, and a day each for the repeats of an order and for its receiver.
    fn needed_until(&self, from: Timestamp) -> Timestamp {
        from.plus_ms(self.0.retention_ms.load(Ordering::Relaxed)).plus_ms(2 * DAY_MS)
    }

    fn new_job(&self, user: UserId, order: Order) -> Result<Job, JobError> {
        let now = self.0.parts.clock.now();
        Ok(Job {
            id: JobId::random()?,
            secret: ResultSecret::random()?,
            user,
            order,
            accepted_at: now,
            needed_until: self.needed_until(now),
            revision: 0,
            outcome: None,
            delivery: Delivery::None,
        })
    }

    async fn keep(&self, job: &Job) -> Result<(), JournalError> {
        let day = Timestamp::from_ms(job.accepted_at.as_ms().max(0)).day();
        let entry = Entry { day, kind: record::ENTRY_KIND, payload: job.encode() };
        self.0.parts.journal.append(vec![entry], Space::Ordinary).await.map(|_| ())
    }

    /// Keeps what must not be forgotten; a disk that is full is waited for.
    async fn keep_until_kept(&self, job: &Job) {
        while let Err(error) = self.keep(job).await {
            tracing::error!(job = %job.id, %error, "a job could not be kept; tried again soon");
            tokio::time::sleep(JOURNAL_PAUSE).await;
        }
    }
}

/// The jobs that a journal holds and somebody may still ask for, each as it was last, in the order of their acceptance.
fn replay(journal: &Journal, now: Timestamp) -> Result<Vec<Job>, JournalError> {
    let mut places: HashMap<JobId, usize> = HashMap::new();
    let mut jobs: Vec<Job> = Vec::new();
    let mut n_unreadable = 0;
    let report = journal.replay(
        |_| 0,
        |_, kind, payload| {
            if kind == record::ENTRY_KIND && record::is_needed(payload, now) {
                match Job::decode(payload) {
                    Ok(job) => {
                        let place = *places.entry(job.id).or_insert(jobs.len());
                        match jobs.get_mut(place) {
                            Some(known) if known.revision >= job.revision => {}
                            Some(known) => *known = job,
                            None => jobs.push(job),
                        }
                    }
                    Err(_) => n_unreadable += 1,
                }
            }
            ControlFlow::Continue(())
        },
    )?;
    if n_unreadable > 0 || report.damaged_count > 0 {
        tracing::warn!(n_unreadable, damaged = report.damaged_count, "some of what is known of jobs is lost");
    }
    Ok(jobs)
}
