//! Telling callers: each receiver when it is due, some at a time, until it heard or a day has passed. What became of
//! each attempt is durable before the next one.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::record::{Delivery, Job};
use super::webhook::Failed;
use super::{Envelope, Jobs};

/// Attempts at once: a receiver that is silent holds its place for 20 s.
const AT_ONCE_MAX: usize = 32;

impl Jobs {
    /// Tells whoever is due, for ever.
    pub(super) async fn deliver_all(self, envelope: Envelope) {
        let mut sends = JoinSet::new();
        loop {
            // Asked for before it is looked, so that what comes in between is heard.
            let woken = self.0.due.notified();
            let room = AT_ONCE_MAX.saturating_sub(sends.len());
            let taken = self.book().take_due(Instant::now(), room);
            for job in taken {
                let (jobs, envelope) = (self.clone(), Arc::clone(&envelope));
                sends.spawn(async move { jobs.deliver(job, &envelope).await });
            }
            let next = if sends.len() < AT_ONCE_MAX { self.book().next_due() } else { None };
            let until_due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = woken => {}
                () = until_due => {}
                Some(_) = sends.join_next() => {}
            }
        }
    }

    async fn deliver(&self, job: Job, envelope: &Envelope) {
        let Some(url) = job.order.webhook_url.clone() else { return };
        let body = Bytes::from(envelope(&job));
        let now = self.0.parts.clock.now();
        let sent = self.0.parts.webhooks.send(job.user, &url, job.id, body, now).await;
        let after = {
            let result = match &sent {
                Ok(()) => Ok(()),
                Err(Failed::ForNow(reason)) => Err((reason.as_str(), false)),
                Err(Failed::ForGood(reason)) => Err((reason.as_str(), true)),
            };
            self.book().attempted(&job, result, Instant::now())
        };
        let outcome = match &after.delivery {
            Delivery::Delivered { .. } => "delivered",
            Delivery::Dead { attempts, reason } => {
                tracing::warn!(job = %job.id, attempts, reason, "a webhook was given up");
                "dead"
            }
            Delivery::Due { .. } | Delivery::None => "failed",
        };
        self.0.parts.metrics.webhook(outcome);
        self.keep_until_kept(&after).await;
        self.book().told(after, Instant::now());
        self.0.due.notify_one();
    }
}
