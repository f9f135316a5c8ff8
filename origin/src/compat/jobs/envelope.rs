//! How a job is told: the envelope of answers and webhooks, and the record of the status calls.

use serde_json::{Value, json};
use stills_indexer::jobs::Phase;
use stills_indexer::jobs::record::{Delivery, Job};

use crate::app::VERSION;
use crate::reply::JobAnswer;

pub(super) const ENDPOINT: &str = "/v1/video/thumbnail";

/// A job that is over.
pub(crate) fn done(host: &str, job: &Job) -> Value {
    let Some(outcome) = &job.outcome else { return Value::Null };
    let (answer, response, message) = match &outcome.failure {
        None => (JobAnswer::Done, json!(result_url(host, job)), json!("success")),
        Some(why) => (JobAnswer::Failed, Value::Null, json!(why)),
    };
    json!({
        "endpoint": ENDPOINT,
        "code": answer.code(),
        "id": job.order.caller_id,
        "job_id": job.id.to_string(),
        "response": response,
        "message": message,
        "run_time": seconds(outcome.run_ms),
        "queue_time": seconds(outcome.queue_ms),
        "total_time": seconds(outcome.run_ms.saturating_add(outcome.queue_ms)),
        "pid": outcome.pid,
        "queue_id": outcome.queue_id,
        "queue_length": outcome.queue_length,
        "build_number": VERSION,
    })
}

fn result_url(host: &str, job: &Job) -> String {
    format!("{host}/v1/jobs/{}/{}.jpg", job.id, job.secret.to_text())
}

/// Milliseconds as seconds with three decimals.
fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}

/// What `job/status` tells of a job; `webhook` is beyond the original.
pub(super) fn record(host: &str, job: &Job, phase: Phase, queue_id: u64) -> Value {
    let (process_id, queue_id) =
        job.outcome.as_ref().map_or((std::process::id(), queue_id), |outcome| (outcome.pid, outcome.queue_id));
    json!({
        "job_status": word(phase),
        "job_id": job.id.to_string(),
        "queue_id": queue_id,
        "process_id": process_id,
        "response": done(host, job),
        "webhook": webhook(job),
    })
}

pub(super) const fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::Running => "running",
        Phase::Done => "done",
    }
}

fn webhook(job: &Job) -> Value {
    match &job.delivery {
        Delivery::None => Value::Null,
        Delivery::Due { attempts, .. } => json!({"state": "due", "attempts": attempts}),
        Delivery::Delivered { attempts } => json!({"state": "delivered", "attempts": attempts}),
        Delivery::Dead { attempts, reason } => json!({"state": "dead", "attempts": attempts, "reason": reason}),
    }
}
