//! Making a job's picture: now, or in the order of the queue. Waits for a decoder where nobody waits for the answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use stills_model::fault::FaultKind;
use stills_model::id::UserId;
use stills_model::rendition::{Fit, Format, Rendition};

use super::book::{Phase, key_of};
use super::record::{Delivery, Job, Order, Outcome};
use super::{FILE_DEADLINE, JobError, Jobs};
use crate::clips::{ClipError, ClipPicture, ClipWanted};
use crate::decode::Class;

/// The picture in its own size. Quality 90: it is looked at on its own, not on a timeline.
const RENDITION: Rendition = Rendition { width: 0, height: 0, fit: Fit::Inside, format: Format::Jpeg, quality: 90 };

/// The pauses of a job for which there is no decoder; they double.
const BUSY_PAUSE_FIRST: Duration = Duration::from_millis(200);
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);

impl Jobs {
    /// As [`Jobs::run_now`], in a task of its own.
    pub(super) async fn make_now(&self, user: UserId, order: Order) -> Result<Job, JobError> {
        let job = self.new_job(user, order)?;
        let key = key_of(user, &job.order);
        loop {
            // Asked for before it is looked, so that an end in between is heard.
            let mut over = std::pin::pin!(self.0.over.notified());
            over.as_mut().enable();
            {
                let mut book = self.book();
                let known = key.and_then(|key| book.repeated(&key, job.accepted_at));
                match known {
                    Some((known, Phase::Done)) => return Ok(known.clone()),
                    Some(_) => {}
                    None => {
                        book.begin(&job, Instant::now());
                        break;
                    }
                }
            }
            over.await;
        }
        let began = Instant::now();
        let shown = match self.picture(&job, Class::Interactive).await {
            Err(error) if is_busy(&error) => Err(JobError::Busy),
            shown => Ok(shown),
        };
        let done = match shown {
            Ok(shown) => {
                let done = self.ended(&job, shown, began, Duration::ZERO).await;
                self.keep(&done).await.map(|()| done).map_err(JobError::from)
            }
            Err(busy) => Err(busy),
        };
        match &done {
            Ok(done) => self.book().finish(done.clone(), Instant::now()),
            Err(_) => self.book().abandon(job.id),
        }
        self.0.over.notify_waiters();
        done
    }

    /// Works at whatever is first in the queue, for ever.
    pub(super) async fn run_all(self) {
        loop {
            let next = self.book().next(Instant::now());
            let Some((job, waited)) = next else {
                self.0.queued.notified().await;
                continue;
            };
            // One call wakes one runner; there may be work for more.
            self.0.queued.notify_one();
            let began = Instant::now();
            let shown = self.picture_when_free(&job).await;
            let done = self.ended(&job, shown, began, waited).await;
            self.keep_until_kept(&done).await;
            self.book().finish(done, Instant::now());
            self.0.over.notify_waiters();
            self.0.due.notify_one();
        }
    }

    async fn picture(&self, job: &Job, class: Class) -> Result<ClipPicture, ClipError> {
        let wanted = ClipWanted { user: job.user, url: &job.order.video_url, credentials_key: None };
        self.0.parts.clips.exact(wanted, job.order.second, RENDITION, class).await
    }

    async fn picture_when_free(&self, job: &Job) -> Result<ClipPicture, ClipError> {
        let mut pause = BUSY_PAUSE_FIRST;
        loop {
            match self.picture(job, Class::Batch).await {
                Err(error) if is_busy(&error) => tokio::time::sleep(pause).await,
                shown => return shown,
            }
            pause = (pause * 2).min(BUSY_PAUSE_MAX);
        }
    }

    /// The job as it is when its picture is there or is not to be had.
    async fn ended(&self, job: &Job, shown: Result<ClipPicture, ClipError>, began: Instant, waited: Duration) -> Job {
        let failure = match shown {
            Ok(picture) => self.store(job, picture.body).await.err(),
            Err(error) => Some(error.to_string()),
        };
        self.0.parts.metrics.job(failure.is_none());
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let finished_at = self.0.parts.clock.now();
        let outcome = Outcome {
            failure: failure.map(Into::into),
            finished_at,
            run_ms: ms(began.elapsed()),
            queue_ms: ms(waited),
            queue_length: self.n_waiting() as u64,
            pid: std::process::id(),
            queue_id: self.0.queue_id,
        };
        let is_told = job.order.webhook_url.is_some();
        Job {
            outcome: Some(outcome),
            delivery: if is_told { Delivery::Due { attempts: 0, tried_ms: 0 } } else { Delivery::None },
            needed_until: self.needed_until(finished_at.max(job.accepted_at)),
            revision: job.revision + 1,
            ..job.clone()
        }
    }

    /// Stores a result; why not is public text.
    async fn store(&self, job: &Job, body: Bytes) -> Result<(), String> {
        let (results, id, secret) = (self.0.results.clone(), job.id, job.secret);
        let stored = self.0.parts.threads.call(FILE_DEADLINE, move || results.put(id, secret, &body)).await;
        let error = match stored {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(job = %job.id, error, "a result could not be stored");
        Err("the result could not be stored; try again".to_owned())
    }
}

fn is_busy(error: &ClipError) -> bool {
    matches!(error, ClipError::Fault(fault) if fault.kind == FaultKind::Busy)
}
