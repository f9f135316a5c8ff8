//! The write path: from a recording event to listed, pre-rendered thumbs.
//!
//! 1. [`Pipeline::submit`]: events are made durable in the journal, then applied to the catalog, then acknowledged;
//! 2. what has to be scanned is queued ([`queue`]): scans before renders, live before backfill;
//! 3. a scan finds the keyframes ([`scan`]); the result goes to the journal, then to the catalog as one batch;
//! 4. the anchors are rendered ([`prerender`]) through the read path, and the recording is done; those at an edge where a
//!    recording is about to follow are held back ([`held`]).
//!
//! Beside it: [`upkeep`] from time to time, [`retention`] by age and of journal entries.
//!
//! Every step can be done again: after a crash the journal is replayed ([`replay`]) and the catalog's pending
//! recordings go on where they were. A recording that keeps failing waits for its own turn and holds up nothing.

mod held;
mod prerender;
mod queue;
mod replay;
mod retention;
mod scan;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stills_model::event::{Event, EventKind};
use stills_model::id::{RecordingId, Timeline, UserId};
use stills_model::rendition::Rendition;
use stills_model::thumb::MediaId;
use stills_model::time::Timestamp;
use thiserror::Error;
use tokio::sync::{Notify, RwLock};
use tokio::task::JoinSet;

use crate::catalog::{Catalog, CatalogError, Effects, Received};
use crate::clock::Clock;
use crate::config::pictures::PrerenderPolicy;
use crate::decode::DecodePool;
use crate::disk::Disk;
use crate::journal::{Entry, Journal, JournalError, JournalStats, Space};
use crate::live::Live;
use crate::maintain::Chores;
use crate::metrics::Metrics;
use crate::source::Source;
use crate::threads::{CallError, Threads};
use crate::thumbs::{ThumbError, Thumbs};

use held::Held;
use queue::{Job, Queue, Urgency};
use retention::Retention;

pub use replay::Replayed;
pub(crate) use replay::fill;

/// Kind bytes of journal entries. Part of the stored form: only ever add.
mod entry_kind {
    pub(super) const EVENT: u8 = 1;
    pub(super) const FINISHED: u8 = 2;
}

/// Writing to the catalog waits behind other writes, never behind media: longer than this it is not well.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// Media whose pictures are removed before the event is acknowledged; of more, in the background.
const PURGED_AT_ONCE_MAX: usize = 256;

/// A recording that ends this close to now is live: it goes before backfill.
const LIVE_MS: i64 = 600_000;

/// Memory for resuming scans of growing media; one needs about twelve bytes a keyframe.
const RESUMES_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// A recording's media at one place.
type Place = (Timeline, RecordingId, Box<str>);

/// What is to be rendered ahead of time.
#[derive(Debug, Clone)]
pub struct PrerenderConfig {
    /// Which keyframes.
    pub anchors: Anchors,
    /// In which renditions.
    pub renditions: Vec<Rendition>,
    /// When, for all users but those in `users`.
    pub policy: PrerenderPolicy,
    /// When, for single users.
    pub users: BTreeMap<UserId, PrerenderPolicy>,
}

impl PrerenderConfig {
    fn policy(&self, user: UserId) -> PrerenderPolicy {
        self.users.get(&user).copied().unwrap_or(self.policy)
    }
}

/// Which keyframes are rendered ahead of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchors {
    /// Those that answer for epoch-aligned multiples of this many milliseconds.
    Every(i64),
    /// All.
    EveryKeyframe,
    /// None.
    Off,
}

/// Limits of the write path.
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// Scans and prerenders at once.
    pub running_max: usize,
    /// A growing recording without an event for this long is complete.
    pub growing_idle: Duration,
    /// Events of recordings that ended before this many days ago are accepted and ignored; 0: none are.
    pub retention_days: u32,
    /// What to render ahead of time.
    pub prerender: PrerenderConfig,
}

/// The parts that the write path composes.
#[derive(Debug)]
pub struct Parts {
    /// Ground state.
    pub journal: Arc<Journal>,
    /// What is derived from it.
    pub catalog: Arc<Live<Catalog>>,
    /// Whether there is room for events and for rendering ahead.
    pub disk: Arc<Disk>,
    /// The read path, for rendering ahead and for forgetting.
    pub thumbs: Thumbs,
    /// Decoders, for scans.
    pub pool: Arc<DecodePool>,
    /// Media.
    pub source: Source,
    /// Threads for blocking calls.
    pub threads: Arc<Threads>,
    /// The time.
    pub clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// How far a replay is.
    pub chores: Arc<Chores>,
}

/// What became of submitted events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Submitted {
    /// Taken, duplicates included.
    pub accepted: usize,
    /// Of these, taken before within 24 hours.
    pub duplicates: usize,
}

/// Events could not be taken; sending them again is safe.
#[derive(Debug, Error)]
pub enum SubmitError {
    /// The inbox is full.
    #[error("too many events are waiting")]
    Full,
    /// The disk takes no more.
    #[error("the disk is full or fails")]
    NoSpace,
    /// The journal or the catalog failed.
    #[error("{0}")]
    Failed(String),
}

impl From<JournalError> for SubmitError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Full => Self::Full,
            JournalError::NoSpace { .. } => Self::NoSpace,
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<CatalogError> for SubmitError {
    fn from(error: CatalogError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<CallError> for SubmitError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Full => Self::Full,
            other => Self::Failed(other.to_string()),
        }
    }
}

/// The write path. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Pipeline(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    config: PipelineConfig,
    queue: Queue,
    /// Anchors that may turn out to be another keyframe's. Memory only: after a restart they are rendered when asked for.
    held: Held,
    /// Where scans of growing media can go on. Memory only: after a restart such a media is scanned from its start.
    resumes: moka::sync::Cache<Place, Arc<[u8]>>,
    retention: Retention,
    /// Told when retention changes: what is past it need not wait for the next round.
    retention_changed: Notify,
    /// Held shared from the journal's append to the catalog's apply, and alone while the checkpoint is read: so
    /// that everything up to a checkpoint is applied.
    in_between: RwLock<()>,
}

impl Pipeline {
    /// Builds the write path; [`Pipeline::catch_up`] comes before anything of it is used or beside it.
    pub fn new(parts: Parts, config: PipelineConfig) -> Self {
        let retention = Retention::new(config.retention_days, parts.clock.clone());
        retention::own_entries(&parts.journal, &parts.catalog, &retention);
        let (queue, held) = (Queue::default(), Held::default());
        let (in_between, retention_changed) = (RwLock::default(), Notify::new());
        let weigh = |_: &Place, resume: &Arc<[u8]>| u32::try_from(resume.len()).unwrap_or(u32::MAX);
        let resumes = moka::sync::Cache::builder().max_capacity(RESUMES_BYTES_MAX).weigher(weigh).build();
        Self(Arc::new(Inner { parts, config, queue, held, resumes, retention, retention_changed, in_between }))
    }

    /// Replays what the catalog has not seen, and queues what is left to do: at the start, and after the catalog was
    /// opened anew.
    ///
    /// # Errors
    /// When the journal cannot be read or the catalog fails.
    pub(crate) async fn catch_up(&self) -> Result<Replayed, SubmitError> {
        let replayed = self.replay().await?;
        for (timeline, recording) in self.write(|catalog, _| catalog.pending()).await? {
            self.0.queue.push(Urgency::Backfill, Job::Scan { timeline, recording });
        }
        Ok(replayed)
    }

    /// Starts the tasks that work off the queue; they end when `tasks` is shut down.
    pub fn start(&self, tasks: &mut JoinSet<()>) {
        for _ in 0..self.0.config.running_max.max(1) {
            let pipeline = self.clone();
            tasks.spawn(async move {
                loop {
                    pipeline.0.parts.disk.until_well().await;
                    let job = pipeline.0.queue.next().await;
                    pipeline.run(&job).await;
                    pipeline.0.queue.done(&job);
                }
            });
        }
        self.start_upkeep(tasks);
    }

    /// Takes events: durable, applied and queued when this returns.
    ///
    /// # Errors
    /// [`SubmitError::Full`] before anything is written; else a failure after which the events may be sent again.
    pub async fn submit(&self, events: Vec<Event>) -> Result<Submitted, SubmitError> {
        // A task of its own: a caller that hangs up between journal and catalog must not part the two.
        let pipeline = self.clone();
        let submitted = tokio::spawn(async move { pipeline.take(events).await });
        submitted.await.unwrap_or_else(|error| Err(SubmitError::Failed(error.to_string())))
    }

    async fn take(&self, events: Vec<Event>) -> Result<Submitted, SubmitError> {
        let accepted = events.len();
        let kept: Vec<Event> = events.into_iter().filter(|event| !self.0.retention.is_past(event)).collect();
        let n_kept = kept.len();
        let fresh = self
            .write(move |catalog, now| {
                let mut fresh = Vec::with_capacity(kept.len());
                for event in kept {
                    if !catalog.is_seen(event.user, &event.order, now)? {
                        fresh.push(event);
                    }
                }
                Ok(fresh)
            })
            .await?;
        let mut duplicates = n_kept - fresh.len();
        if !fresh.is_empty() {
            let _between = self.0.in_between.read().await;
            let deletes_only = fresh.iter().all(|event| !matches!(event.kind, EventKind::Available(_)));
            // Deletes make room; everything else must leave it to them.
            if !deletes_only && !self.0.parts.disk.is_well() {
                return Err(SubmitError::NoSpace);
            }
            let space = if deletes_only { Space::Reserved } else { Space::Ordinary };
            let now = self.0.parts.clock.now();
            let entries = fresh.iter().map(|event| journal_entry(event, now)).collect();
            let appended = self.0.parts.journal.append(entries, space).await;
            appended.inspect_err(|_| self.0.parts.disk.suspect())?;
            duplicates += self.apply(fresh).await?;
        }
        self.0.parts.metrics.events("new", (accepted - duplicates) as u64);
        self.0.parts.metrics.events("duplicate", duplicates as u64);
        Ok(Submitted { accepted, duplicates })
    }

    /// Applies journalled events; returns how many turned out to be duplicates.
    async fn apply(&self, events: Vec<Event>) -> Result<usize, SubmitError> {
        let applied = self
            .write(move |catalog, now| {
                let (mut n_duplicates, mut all) = (0, Effects::default());
                for event in &events {
                    let (received, effects) = catalog.apply(event, now)?;
                    n_duplicates += usize::from(received == Received::Duplicate);
                    all.scan.extend(effects.scan);
                    all.purge.extend(effects.purge);
                }
                Ok((n_duplicates, all))
            })
            .await;
        match applied {
            Ok((n_duplicates, effects)) => {
                self.follow(effects).await;
                Ok(n_duplicates)
            }
            Err(error) => {
                // It may have been applied all the same, only too late for us to hear what is left to do.
                self.0.queue.overflow();
                Err(error)
            }
        }
    }

    /// Does what an event or a scan left to do.
    async fn follow(&self, effects: Effects) {
        if effects.purge.len() > PURGED_AT_ONCE_MAX {
            // Minutes, perhaps; the catalog remembers what is to be removed, and names none of it any more.
            let pipeline = self.clone();
            tokio::spawn(async move { pipeline.purge(effects.purge).await });
        } else {
            self.purge(effects.purge).await;
        }
        for (timeline, recording) in effects.scan {
            let urgency = self.urgency(&timeline, &recording).await;
            self.0.queue.push(urgency, Job::Scan { timeline, recording });
        }
    }

    async fn purge(&self, media: Vec<(Timeline, MediaId)>) {
        if media.is_empty() {
            return;
        }
        let purged = match self.0.parts.thumbs.purge(media.clone()).await {
            Ok(()) => self.write(move |catalog, _| catalog.note_purged(&media)).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = purged {
            tracing::error!(%error, "pictures of deleted recordings are not wholly removed; tried again soon");
        }
    }

    async fn urgency(&self, timeline: &Timeline, recording: &RecordingId) -> Urgency {
        let (timeline, recording) = (*timeline, recording.clone());
        let row = self.write(move |catalog, _| catalog.row(&timeline, &recording)).await.ok().flatten();
        let available = row.and_then(|row| row.latest).map(|(_, available)| available);
        let now = self.0.parts.clock.now();
        let is_live = available.is_some_and(|a| now.since_ms(a.end.unwrap_or(a.start)) <= LIVE_MS || a.growing);
        if is_live { Urgency::Live } else { Urgency::Backfill }
    }

    async fn run(&self, job: &Job) {
        match job {
            Job::Scan { timeline, recording } => self.scan(timeline, recording).await,
            Job::Prerender { timeline, recording, n_done } => {
                self.prerender_turn(job, timeline, recording, *n_done).await;
            }
            Job::Anchors { timeline, instants } => self.render_held(*timeline, instants).await,
            Job::Listed { timeline, rendition, instants } => self.render_listed(*timeline, *rendition, instants).await,
        }
    }

    /// Replaces the number of days after which recordings go and their events are ignored; 0: never.
    pub fn set_retention_days(&self, days: u32) {
        self.0.retention.set_days(days);
        self.0.retention_changed.notify_one();
    }

    /// Queues the rendering of listed pictures that are not stored, below all other work. Over the bound they
    /// are left to be rendered when they are asked for.
    pub fn request_listed(&self, timeline: Timeline, rendition: Rendition, instants: Vec<Timestamp>) {
        if self.0.config.prerender.policy(timeline.user) == PrerenderPolicy::None {
            return;
        }
        self.0.queue.push(Urgency::Backfill, Job::Listed { timeline, rendition, instants: instants.into() });
    }

    /// Has a recording that was set aside scanned again. False: it is not set aside.
    ///
    /// # Errors
    /// A failing catalog.
    pub async fn retry(&self, timeline: Timeline, recording: RecordingId) -> Result<bool, SubmitError> {
        let id = recording.clone();
        let is_set_aside = self.write(move |catalog, now| catalog.retry(&timeline, &id, now)).await?;
        if is_set_aside {
            self.0.queue.push(Urgency::Backfill, Job::Scan { timeline, recording });
        }
        Ok(is_set_aside)
    }

    /// The journal, for checks.
    pub(crate) fn journal(&self) -> &Arc<Journal> {
        &self.0.parts.journal
    }

    /// What the journal did and holds.
    pub fn journal_stats(&self) -> JournalStats {
        self.0.parts.journal.stats()
    }

    /// Recordings whose work is queued or running.
    pub fn backlog(&self) -> usize {
        self.0.queue.len()
    }

    /// Makes a catalog call that may wait behind other writers.
    async fn write<T, F>(&self, call: F) -> Result<T, SubmitError>
    where
        T: Send + 'static,
        F: FnOnce(&Catalog, Timestamp) -> Result<T, CatalogError> + Send + 'static,
    {
        let (catalog, now) = (self.0.parts.catalog.get_within(WRITE_DEADLINE).await, self.0.parts.clock.now());
        let catalog = catalog.ok_or_else(|| SubmitError::Failed("the catalog is being opened".to_owned()))?;
        let answer = self.0.parts.threads.call(WRITE_DEADLINE, move || call(&catalog, now)).await?;
        answer.map_err(SubmitError::from)
    }
}

fn journal_entry(event: &Event, now: Timestamp) -> Entry {
    // A recording's events lie with its day. A delete lies with the day it came or the one it speaks of, whichever is
    // later: as long as its day is kept, so is it.
    let day = match &event.kind {
        EventKind::Available(available) => available.start.day(),
        _ => Timestamp::from_ms((event.order.time_ns / 1_000_000).max(0)).day().max(now.day()),
    };
    Entry { day, kind: entry_kind::EVENT, payload: event.encode() }
}

impl From<ThumbError> for SubmitError {
    fn from(error: ThumbError) -> Self {
        Self::Failed(error.to_string())
    }
}
