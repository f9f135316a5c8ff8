//! What the pipeline does next: scans before prerenders, live before backfill, each recording once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stills_model::id::{RecordingId, Timeline, UserId};
use stills_model::rendition::Rendition;
use stills_model::time::Timestamp;
use tokio::sync::Notify;

/// The lane of listed windows.
const LISTED: usize = 4;

/// Listed windows that may wait; each holds at most a page of instants.
const LISTED_MAX: usize = 64;

/// Jobs that may wait; what comes on top is fetched from the catalog's pending recordings when there is room.
const QUEUED_MAX: usize = 100_000;

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Job {
    /// Find the keyframes of a recording.
    Scan {
        /// Whose camera.
        timeline: Timeline,
        /// Which recording.
        recording: RecordingId,
    },
    /// Render the anchors of a recording, a turn's worth at a time.
    Prerender {
        /// Whose camera.
        timeline: Timeline,
        /// Which recording.
        recording: RecordingId,
        /// How many of its anchors earlier turns have done.
        n_done: usize,
    },
    /// Render anchors that were held back.
    Anchors {
        /// Whose camera.
        timeline: Timeline,
        /// For which instants, in order.
        instants: Arc<[Timestamp]>,
    },
    /// Render pictures that a search has listed.
    Listed {
        /// Whose camera.
        timeline: Timeline,
        /// In which rendition.
        rendition: Rendition,
        /// For which instants, in order.
        instants: Arc<[Timestamp]>,
    },
}

impl Job {
    fn user(&self) -> UserId {
        match self {
            Self::Scan { timeline, .. }
            | Self::Prerender { timeline, .. }
            | Self::Anchors { timeline, .. }
            | Self::Listed { timeline, .. } => timeline.user,
        }
    }

    /// The lane: scans before prerenders, within each live before backfill; what was merely listed comes last.
    fn lane(&self, urgency: Urgency) -> usize {
        match (self, urgency) {
            (Self::Scan { .. }, Urgency::Live) => 0,
            (Self::Scan { .. }, Urgency::Backfill) => 1,
            (Self::Prerender { .. } | Self::Anchors { .. }, Urgency::Live) => 2,
            (Self::Prerender { .. } | Self::Anchors { .. }, Urgency::Backfill) => 3,
            (Self::Listed { .. }, _) => LISTED,
        }
    }
}

/// How soon it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Just recorded: somebody may be looking.
    Live,
    /// Recorded long ago, or left from before a restart.
    Backfill,
}

/// One lane: users take turns, each user's newest work first.
#[derive(Debug, Default)]
struct Lane {
    turns: VecDeque<UserId>,
    jobs: HashMap<UserId, VecDeque<Job>>,
}

impl Lane {
    fn push(&mut self, job: Job) {
        let user = job.user();
        let jobs = self.jobs.entry(user).or_default();
        if jobs.is_empty() {
            self.turns.push_back(user);
        }
        jobs.push_back(job);
    }

    fn pop(&mut self) -> Option<Job> {
        let user = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&user)?;
        let job = jobs.pop_back();
        if jobs.is_empty() {
            self.jobs.remove(&user);
        } else {
            self.turns.push_back(user);
        }
        job
    }
}

#[derive(Debug, Default)]
struct Work {
    lanes: [Lane; 5],
    n_listed: usize,
    /// Some recording with work is not queued.
    is_overflown: bool,
    queued: HashSet<Job>,
    running: HashMap<Job, Option<Urgency>>,
    urgency: HashMap<Job, Urgency>,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    work: Mutex<Work>,
    wake: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job unless it is queued already; one that is running runs once more afterwards.
    pub(super) fn push(&self, urgency: Urgency, job: Job) {
        let mut work = self.lock();
        if let Some(again) = work.running.get_mut(&job) {
            *again = Some(urgency);
            return;
        }
        let lane = job.lane(urgency);
        if lane == LISTED && work.n_listed >= LISTED_MAX {
            return;
        }
        if work.queued.len() >= QUEUED_MAX {
            // These the catalog knows of.
            work.is_overflown |= matches!(job, Job::Scan { .. } | Job::Prerender { .. });
            return;
        }
        if work.queued.insert(job.clone()) {
            work.n_listed += usize::from(lane == LISTED);
            work.urgency.insert(job.clone(), urgency);
            work.lanes[lane].push(job);
            drop(work);
            self.wake.notify_one();
        }
    }

    /// Queues a job after a pause. The pause outlives neither the runtime nor, being noted in the catalog, a restart.
    pub(super) fn push_later(queue: Arc<impl AsRef<Self> + Send + Sync + 'static>, pause: Duration, job: Job) {
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            queue.as_ref().as_ref().push(Urgency::Backfill, job);
        });
    }

    /// Notes that some recording with work may not be queued.
    pub(super) fn overflow(&self) {
        self.lock().is_overflown = true;
    }

    /// Whether pending recordings are to be fetched now: some are not queued, and there is room.
    pub(super) fn take_overflow(&self) -> bool {
        let mut work = self.lock();
        let has_room = work.queued.len() < QUEUED_MAX / 2;
        has_room && std::mem::take(&mut work.is_overflown)
    }

    /// The next job, when there is one.
    pub(super) async fn next(&self) -> Job {
        loop {
            let woken = self.wake.notified();
            if let Some(job) = self.pop() {
                return job;
            }
            woken.await;
        }
    }

    fn pop(&self) -> Option<Job> {
        let mut work = self.lock();
        let job = work.lanes.iter_mut().find_map(Lane::pop)?;
        work.n_listed -= usize::from(matches!(job, Job::Listed { .. }));
        work.queued.remove(&job);
        work.running.insert(job.clone(), None);
        // Whoever waits for the next one has been woken once for all that was pushed.
        if !work.queued.is_empty() {
            self.wake.notify_one();
        }
        Some(job)
    }

    /// How soon a running job mattered when it was queued.
    pub(super) fn urgency(&self, job: &Job) -> Urgency {
        self.lock().urgency.get(job).copied().unwrap_or(Urgency::Backfill)
    }

    /// Ends a job, and queues it again if it was asked for while it ran.
    pub(super) fn done(&self, job: &Job) {
        let again = {
            let mut work = self.lock();
            work.urgency.remove(job);
            work.running.remove(job).flatten()
        };
        if let Some(urgency) = again {
            self.push(urgency, job.clone());
        }
    }

    /// Jobs queued or running.
    pub(super) fn len(&self) -> usize {
        let work = self.lock();
        work.queued.len() + work.running.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stills_model::id::DeviceId;

    fn scan(user: u8, n: u32) -> Job {
        let timeline = Timeline { user: UserId::from_bytes([user; 12]), device: DeviceId::from_bytes([0; 12]) };
        Job::Scan { timeline, recording: n.to_string().parse().expect("id") }
    }

    fn prerender(user: u8, n: u32) -> Job {
        match scan(user, n) {
            Job::Scan { timeline, recording } => Job::Prerender { timeline, recording, n_done: 0 },
            _ => unreachable!("a scan"),
        }
    }

    #[tokio::test]
    async fn order_fairness_and_once_only() {
        let queue = Queue::default();
        queue.push(Urgency::Live, prerender(1, 1));
        queue.push(Urgency::Backfill, scan(1, 1));
        queue.push(Urgency::Backfill, scan(1, 2));
        queue.push(Urgency::Backfill, scan(1, 3));
        queue.push(Urgency::Backfill, scan(1, 3));
        queue.push(Urgency::Backfill, scan(2, 9));
        queue.push(Urgency::Live, scan(1, 4));
        assert_eq!(queue.len(), 6);
        let mut order = Vec::new();
        for _ in 0..6 {
            order.push(queue.next().await);
        }
        assert_eq!(order, [scan(1, 4), scan(1, 3), scan(2, 9), scan(1, 2), scan(1, 1), prerender(1, 1)]);
        // Asked for again while it runs: once more, afterwards.
        queue.push(Urgency::Live, scan(1, 4));
        queue.push(Urgency::Live, scan(1, 4));
        order.iter().for_each(|job| queue.done(job));
        assert_eq!(queue.next().await, scan(1, 4));
        queue.done(&scan(1, 4));
        assert_eq!(queue.len(), 0);
    }
}
