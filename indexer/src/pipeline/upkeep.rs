//! What the pipeline does from time to time: expiry, anchors that were held back, room in the disk cache, removal that a crash interrupted, checkpoints, silent and lost media.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::queue::{Job, Urgency};
use super::retention::Rounds;
use super::{Pipeline, replay};

/// How often recordings are looked for whose time is over.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// How often recordings past retention and journal files worth joining are looked for.
const RETIRE_EVERY: Duration = Duration::from_secs(600);

/// How often the catalog's place in the journal is noted; at most this much is replayed after a crash, before anything
/// is answered.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// How often leftovers, silent recordings and lost media are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// Recordings without media that are looked for in one round.
const LOOKED_FOR_MAX: usize = 200;

impl Pipeline {
    /// Starts the tasks; they end when `tasks` is shut down.
    pub(super) fn start_upkeep(&self, tasks: &mut JoinSet<()>) {
        let pipeline = self.clone();
        tasks.spawn(async move {
            loop {
                pipeline.expire().await;
                pipeline.queue_held();
                pipeline.0.parts.thumbs.make_room().await;
                tokio::time::sleep(EXPIRE_EVERY).await;
            }
        });
        let pipeline = self.clone();
        tasks.spawn(async move {
            let mut rounds = Rounds::default();
            loop {
                pipeline.until_whole().await;
                pipeline.retire().await;
                pipeline.fold().await;
                pipeline.compact(&mut rounds).await;
                tokio::select! {
                    () = tokio::time::sleep(RETIRE_EVERY) => {}
                    () = pipeline.0.retention_changed.notified() => {}
                }
            }
        });
        let pipeline = self.clone();
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(CHECKPOINT_EVERY).await;
                pipeline.checkpoint().await;
            }
        });
        let pipeline = self.clone();
        tasks.spawn(async move {
            let (mut n_evicted, mut n_looked_for) = (0, 0);
            loop {
                pipeline.tidy().await;
                tokio::time::sleep(TIDY_EVERY).await;
                pipeline.complete_idle().await;
                let evicted = pipeline.0.parts.thumbs.n_evicted();
                pipeline.look_for_gone(evicted != n_evicted, &mut n_looked_for).await;
                n_evicted = evicted;
                pipeline.refill().await;
            }
        });
    }

    /// Waits until the catalog has all that the journal has.
    async fn until_whole(&self) {
        while self.0.parts.catalog.is_partial() {
            tokio::time::sleep(EXPIRE_EVERY).await;
        }
    }

    /// Removes recordings whose time is over.
    async fn expire(&self) {
        loop {
            match self.write(|catalog, now| catalog.expire(now)).await {
                Ok((effects, more)) => {
                    self.follow(effects).await;
                    if !more {
                        return;
                    }
                }
                Err(error) => return tracing::warn!(%error, "expired recordings could not be removed"),
            }
        }
    }

    /// Keeps the catalog's own lists short: removes pictures that a crash or a failure left, forgets old events.
    async fn tidy(&self) {
        match self.write(|catalog, _| catalog.to_purge()).await {
            Ok(media) => self.purge(media).await,
            Err(error) => tracing::warn!(%error, "pictures to remove could not be listed"),
        }
        if let Err(error) = self.write(|catalog, now| catalog.forget_seen(now)).await {
            tracing::warn!(%error, "old events could not be forgotten");
        }
    }

    /// Completes growing recordings that have had no event for too long.
    async fn complete_idle(&self) {
        let idle_ms = i64::try_from(self.0.config.growing_idle.as_millis()).unwrap_or(i64::MAX);
        let silent = self.write(move |catalog, now| {
            let mut silent = Vec::new();
            for (timeline, recording) in catalog.pending()? {
                let Some(row) = catalog.row(&timeline, &recording)? else { continue };
                let Some((order, available)) = &row.latest else { continue };
                let since_ms = now.as_ms().saturating_sub(order.time_ns / 1_000_000);
                if available.growing && since_ms > idle_ms && !row.to_scan {
                    catalog.note_silent(&timeline, &recording, now)?;
                    silent.push((timeline, recording));
                }
            }
            Ok(silent)
        });
        match silent.await {
            Ok(silent) => {
                for (timeline, recording) in silent {
                    self.0.queue.push(Urgency::Backfill, Job::Scan { timeline, recording });
                }
            }
            Err(error) => tracing::warn!(%error, "silent recordings could not be completed"),
        }
    }

    /// Looks for the media of recordings whose media was gone: a volume may have been mounted again. After an
    /// eviction it also looks what is left of their pictures.
    async fn look_for_gone(&self, is_evicted: bool, n_looked_for: &mut usize) {
        let gone = self.write(|catalog, _| {
            let mut gone = Vec::new();
            for (timeline, recording) in catalog.pending()? {
                if catalog.row(&timeline, &recording)?.is_some_and(|row| row.gone) {
                    gone.push((timeline, recording));
                }
            }
            Ok(gone)
        });
        let gone = gone.await.unwrap_or_default();
        if is_evicted {
            for (timeline, recording) in gone.clone() {
                self.note_gone(timeline, recording).await;
            }
        }
        // A part of them each round, in turn.
        let first = *n_looked_for % gone.len().max(1);
        for (timeline, recording) in gone.into_iter().skip(first).take(LOOKED_FOR_MAX) {
            self.0.queue.push(Urgency::Backfill, Job::Scan { timeline, recording });
        }
        *n_looked_for = first + LOOKED_FOR_MAX;
    }

    /// Queues what did not fit when it came, or was lost with a call that took too long.
    async fn refill(&self) {
        if !self.0.queue.take_overflow() {
            return;
        }
        match self.write(|catalog, _| catalog.pending()).await {
            Ok(pending) => {
                for (timeline, recording) in pending {
                    self.0.queue.push(Urgency::Backfill, Job::Scan { timeline, recording });
                }
            }
            Err(error) => {
                self.0.queue.overflow();
                tracing::warn!(%error, "pending recordings could not be listed; tried again soon");
            }
        }
    }

    /// Notes how far the journal is applied, so that the next start replays only what comes after.
    pub async fn checkpoint(&self) {
        let positions = {
            let _alone = self.0.in_between.write().await;
            self.0.parts.journal.files()
        };
        let text = replay::encode_positions(&positions);
        let store = Arc::clone(&self.0.parts.catalog);
        // Asked last: the catalog may have been replaced by an empty one since the places were read.
        let is_whole = move || !store.is_partial();
        let noted = self.write(move |catalog, _| {
            let is_news = catalog.checkpoint()?.as_ref() != Some(&text);
            if is_news && is_whole() { catalog.set_checkpoint(&text) } else { Ok(()) }
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "the place in the journal could not be noted");
        }
    }
}
