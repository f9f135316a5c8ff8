//! The decoder pool: a slot, a worker of the right user, a deadline.
//!
//! A worker serves one user for as long as it lives: who takes it over through a hostile file can neither forge nor
//! see another user's pictures. At most `running_max` workers live, idle ones included.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use stills_model::clip::{ClipFound, ClipQuery};
use stills_model::exact::ExactQuery;
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::UserId;
use stills_model::keyframe::DecoderConfig;
use stills_model::leap::Scanned;
use stills_model::rendition::Rendition;
use tokio::time::timeout;

use super::exchange::{self, Ended};
use super::process::{Program, StartError, Worker};
use super::queue::{Lane, Slot, Slots};
use super::{Class, Counters, DecodeConfig, Frame, Pictured, Ranges, Rendered, ScanRequest, count};

/// Requests that one worker answers before a fresh one takes its place, so that nothing leaks for long.
const SERVED_MAX: u32 = 200;

/// FFmpeg's libraries and one 1080p picture need this much address space.
const MEMORY_MIN_BYTES: u64 = 256 * 1024 * 1024;

/// How long the first worker may take to come up.
const START_TIME_MAX: Duration = Duration::from_secs(15);

/// The decoders of this service. Dropping it ends them all.
#[derive(Debug)]
pub struct DecodePool {
    config: DecodeConfig,
    slots: Arc<Slots>,
    program: Program,
    /// The longest idle first.
    idle: Mutex<Vec<Idle>>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Idle {
    /// None: it has served nobody yet.
    user: Option<UserId>,
    worker: Worker,
}

impl DecodePool {
    /// Starts the decoder program and proves it with a first worker.
    ///
    /// # Errors
    /// When a limit makes no sense, or the program does not start or is of another build.
    pub async fn start(config: DecodeConfig) -> Result<Arc<Self>, StartError> {
        if config.running_max == 0 {
            return Err(StartError::Limit("decoders.running_max must be at least 1"));
        }
        if config.memory_max_bytes < MEMORY_MIN_BYTES {
            return Err(StartError::Limit("decoders.memory_max must be at least 256 MiB"));
        }
        if config.deadline.is_zero() || config.scan_deadline.is_zero() || config.exact_deadline.is_zero() {
            return Err(StartError::Limit("the deadlines of decoders must be longer than zero"));
        }
        if config.exact_frames_max == 0 {
            return Err(StartError::Limit("decoders.exact_frames_max must be at least 1"));
        }
        let counters = Arc::new(Counters::default());
        let pool = Arc::new(Self {
            slots: Slots::new(config.running_max, config.queued_max, Arc::clone(&counters)),
            program: Program::new(&config, Arc::clone(&counters)),
            idle: Mutex::default(),
            counters,
            config,
        });
        let failed = |detail: String| StartError::Program { program: pool.config.program.clone(), detail };
        match timeout(START_TIME_MAX, pool.fresh_worker()).await {
            Ok(Ok(worker)) => pool.idle().push(Idle { user: None, worker }),
            Ok(Err(fault)) => return Err(failed(fault.detail)),
            Err(_) => return Err(failed("no worker came up in time".to_owned())),
        }
        Ok(pool)
    }

    /// Finds the keyframes of a media file of `user`, which is read through `media`.
    ///
    /// # Errors
    /// The fault of the media or of its source; [`FaultKind::Busy`] at once when the queue is full;
    /// [`FaultKind::Deadline`]; [`FaultKind::Crashed`] when the worker died on it; [`FaultKind::TooLarge`] when it
    /// read too much; [`FaultKind::Internal`] when no worker can be had.
    pub async fn scan<R: Ranges>(
        &self,
        user: UserId,
        class: Class,
        request: ScanRequest<'_>,
        media: &R,
    ) -> Result<Scanned, Fault> {
        count(&self.counters.scans);
        let _slot = self.slot(Lane::of(class, true), class).await?;
        let deadline = self.config.scan_deadline;
        self.within(deadline, async {
            let mut worker = self.worker_of(user).await?;
            let outcome = exchange::scan(&mut worker.stream, millis(deadline), request, media).await;
            self.settle(user, worker, outcome)
        })
        .await
    }

    /// Shows one keyframe of `user` in all of `renditions`; `pieces` are the bytes of its ranges, in order.
    ///
    /// # Errors
    /// As [`Self::scan`], without a source.
    pub async fn render(
        &self,
        user: UserId,
        class: Class,
        config: &DecoderConfig,
        pieces: &[Bytes],
        renditions: &[Rendition],
    ) -> Result<Rendered, Fault> {
        count(&self.counters.renders);
        let _slot = self.slot(Lane::of(class, false), class).await?;
        let deadline = self.config.deadline;
        self.within(deadline, async {
            let mut worker = self.worker_of(user).await?;
            let outcome = exchange::render(&mut worker.stream, millis(deadline), config, pieces, renditions).await;
            self.settle(user, worker, outcome)
        })
        .await
    }

    /// Shows the frames of `user` that are nearest to the query's instants, with one decode for all of them; the media
    /// is read through `media`. At most `exact_frames_max` frames are decoded, and the query's own maximum where that
    /// is less.
    ///
    /// # Errors
    /// As [`Self::scan`]; what fails for one instant is that one's answer.
    pub async fn exact<R: Ranges>(
        &self,
        user: UserId,
        class: Class,
        query: ExactQuery,
        media: &R,
    ) -> Result<Vec<Result<Frame, Fault>>, Fault> {
        count(&self.counters.exacts);
        let _slot = self.slot(Lane::of(class, true), class).await?;
        let deadline = self.config.exact_deadline;
        let query = ExactQuery { frames_max: query.frames_max.min(self.config.exact_frames_max), ..query };
        self.within(deadline, async {
            let mut worker = self.worker_of(user).await?;
            let outcome = exchange::exact(&mut worker.stream, millis(deadline), query, media).await;
            self.settle(user, worker, outcome)
        })
        .await
    }

    /// Finds the picture at one point of a clip of `user`, or all its keyframes where its container lists them; the media
    /// is read through `media`.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub async fn clip<R: Ranges>(
        &self,
        user: UserId,
        class: Class,
        query: ClipQuery,
        media: &R,
    ) -> Result<ClipFound, Fault> {
        count(&self.counters.clips);
        let _slot = self.slot(Lane::of(class, true), class).await?;
        let deadline = self.config.scan_deadline;
        let query = ClipQuery { frames_max: query.frames_max.min(self.config.exact_frames_max), ..query };
        self.within(deadline, async {
            let mut worker = self.worker_of(user).await?;
            let outcome = exchange::clip(&mut worker.stream, millis(deadline), query, media).await;
            self.settle(user, worker, outcome)
        })
        .await
    }

    /// Shows an image file of `user` in all of `renditions`, of which there may be none: then it is only looked at.
    ///
    /// # Errors
    /// As [`Self::render`]; [`FaultKind::TooLarge`] for an image of more than `pixels_max` pixels.
    pub async fn picture(
        &self,
        user: UserId,
        class: Class,
        pixels_max: u64,
        file: &[u8],
        renditions: &[Rendition],
    ) -> Result<Pictured, Fault> {
        count(&self.counters.images);
        let _slot = self.slot(Lane::of(class, false), class).await?;
        let deadline = self.config.deadline;
        self.within(deadline, async {
            let mut worker = self.worker_of(user).await?;
            let outcome = exchange::picture(&mut worker.stream, millis(deadline), pixels_max, file, renditions).await;
            self.settle(user, worker, outcome)
        })
        .await
    }

    /// What it did and does.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A slot when it is this request's turn. A person does not wait longer than a render may take.
    async fn slot(&self, lane: Lane, class: Class) -> Result<Slot, Fault> {
        let taken = match class {
            Class::Interactive => timeout(self.config.deadline, self.slots.take(lane)).await.ok(),
            Class::Batch => Some(self.slots.take(lane).await),
        };
        taken.and_then(Result::ok).ok_or_else(|| {
            count(&self.counters.refusals);
            Fault::new(FaultKind::Busy, "all decoders are busy and the queue is full")
        })
    }

    /// Runs `attempt`; past the deadline it is dropped, and the worker that it holds is killed by that.
    async fn within<T>(&self, deadline: Duration, attempt: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        timeout(deadline, attempt).await.unwrap_or_else(|_| {
            count(&self.counters.deadline_kills);
            let detail = format!("it took longer than the {} ms that are allowed", deadline.as_millis());
            Err(Fault::new(FaultKind::Deadline, detail))
        })
    }

    /// The idle worker that served `user` last, else one that served nobody, else a fresh one.
    async fn worker_of(&self, user: UserId) -> Result<Worker, Fault> {
        while let Some(worker) = self.take_idle(user) {
            if worker.is_quiet() {
                return Ok(worker);
            }
        }
        self.make_room();
        self.fresh_worker().await
    }

    async fn fresh_worker(&self) -> Result<Worker, Fault> {
        let mut worker = self.program.fork().await?;
        exchange::greet(&mut worker.stream).await.map_err(|ended| {
            count(&self.counters.crashes);
            Fault::new(FaultKind::Internal, ended.fault.detail)
        })?;
        Ok(worker)
    }

    fn take_idle(&self, user: UserId) -> Option<Worker> {
        let mut idle = self.idle();
        let of = |wanted: Option<UserId>| move |idle: &Idle| idle.user == wanted;
        let place = idle.iter().rposition(of(Some(user))).or_else(|| idle.iter().position(of(None)))?;
        Some(idle.remove(place).worker)
    }

    /// Lets idle workers of other users go, the longest idle first, until one more may live.
    fn make_room(&self) {
        // The slot of this request is among the running ones.
        let idle_max = self.config.running_max.saturating_sub(self.slots.running());
        let mut idle = self.idle();
        let surplus = idle.len().saturating_sub(idle_max);
        let gone: Vec<Idle> = idle.drain(..surplus).collect();
        drop(idle);
        drop(gone);
    }

    /// Keeps the worker for its user's next request, or lets it go.
    fn settle<T>(&self, user: UserId, mut worker: Worker, outcome: Result<T, Ended>) -> Result<T, Fault> {
        let lives = outcome.as_ref().map_or_else(|ended| ended.worker_lives, |_| true);
        worker.served += 1;
        if lives && worker.served < SERVED_MAX {
            self.idle().push(Idle { user: Some(user), worker });
        }
        outcome.map_err(|ended| {
            if ended.fault.kind == FaultKind::Crashed {
                count(&self.counters.crashes);
            }
            ended.fault
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
