//! `POST /v1/video/thumbnail`, `POST /v1/toolkit/job/status`, `POST /v1/toolkit/jobs/status` and
//! `GET /v1/jobs/{job_id}/{secret}.jpg`: one frame of a video as a job.
//!
//! 1. the key in `x-api-key` names the user, before anything else is looked at;
//! 2. the body is read and checked ([`ask`]);
//! 3. the URLs must be ones that this user may have fetched;
//! 4. without a webhook the picture is made now, with one the job is queued: the work is [`stills_indexer::jobs`]';
//! 5. how it is told is [`envelope`]'s.
//!
//! A result's URL is its own credential.

mod ask;
pub(crate) mod envelope;

use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use bytes::Bytes;
use http::HeaderName;
use http::header::{self, HeaderValue};
use http::request::Parts;
use serde_json::{Map, Value, json};
use stills_indexer::jobs::record::{JobId, Order, ResultSecret};
use stills_indexer::jobs::{JobError, Jobs};
use stills_model::id::UserId;

use crate::app::{App, VERSION};
use crate::reply::{JobAnswer, Kind, Problem, Reply};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Why a call is not answered with what it asks for.
enum Refused {
    /// The key.
    Unauthorized,
    /// The content type.
    MediaType,
    /// The body.
    Invalid(String),
    /// The body's way here.
    Body(Problem),
    /// The queue, or the decoders; how many may wait.
    Full { max: usize },
    /// The store.
    Failed,
}

/// One call: what every answer to it carries.
struct Call<'a> {
    jobs: &'a Jobs,
    /// Of the job, or of the call itself.
    job_id: String,
    /// The caller's own name of the job.
    caller_id: Value,
}

impl<'a> Call<'a> {
    fn new(app: &'a App) -> Self {
        let job_id = JobId::random().map(|id| id.to_string()).unwrap_or_default();
        Self { jobs: &app.engine.jobs, job_id, caller_id: Value::Null }
    }

    /// The members that all but the shortest answers have.
    fn body(&self, answer: JobAnswer, message: &str) -> Map<String, Value> {
        let members = json!({
            "code": answer.code(),
            "id": self.caller_id,
            "job_id": self.job_id,
            "message": message,
            "pid": std::process::id(),
            "queue_id": self.jobs.queue_id(),
            "queue_length": self.jobs.n_waiting(),
            "build_number": VERSION,
        });
        if let Value::Object(members) = members { members } else { Map::new() }
    }

    fn refuse(&self, refused: Refused) -> Reply {
        let short = |answer: JobAnswer, message: &str| {
            let body = json!({"code": answer.code(), "message": message, "job_id": self.job_id});
            Reply::job(answer, &body)
        };
        match refused {
            Refused::Unauthorized => Reply::job(JobAnswer::Unauthorized, &json!({"message": "Unauthorized"})),
            Refused::MediaType => short(JobAnswer::UnsupportedMediaType, "Content-Type must be application/json"),
            Refused::Invalid(wrong) => short(JobAnswer::Invalid, &format!("Invalid request: {wrong}")),
            Refused::Body(problem) => Reply::job_problem(&problem, &self.job_id),
            Refused::Full { max } => {
                let body = self.body(JobAnswer::Full, &format!("MAX_QUEUE_LENGTH ({max}) reached"));
                Reply::job(JobAnswer::Full, &Value::Object(body)).with(header::RETRY_AFTER, "1")
            }
            Refused::Failed => {
                let mut body = self.body(JobAnswer::Failed, "the job could not be kept; send it again");
                body.insert("endpoint".to_owned(), json!(envelope::ENDPOINT));
                body.insert("response".to_owned(), Value::Null);
                Reply::job(JobAnswer::Failed, &Value::Object(body))
            }
        }
    }

    /// The envelope of a status call, which takes no time.
    fn status(&self, answer: JobAnswer, endpoint: &str, response: &Value, message: &Value) -> Reply {
        let mut body = self.body(answer, "");
        for (name, value) in
            [("endpoint", json!(endpoint)), ("response", response.clone()), ("message", message.clone())]
        {
            body.insert(name.to_owned(), value);
        }
        for name in ["run_time", "queue_time", "total_time"] {
            body.insert(name.to_owned(), json!(0));
        }
        Reply::job(answer, &Value::Object(body))
    }
}

/// Makes a picture, or queues its making.
pub(crate) async fn thumbnail<B>(app: &App, parts: &Parts, read_body: B) -> Reply
where
    B: Future<Output = Result<Bytes, Problem>>,
{
    let mut call = Call::new(app);
    let answer = async {
        let (user, body) = authenticate(app, parts, read_body, true).await?;
        let order = ask::read_order(&body).map_err(Refused::Invalid)?;
        call.caller_id = json!(order.caller_id);
        check_urls(call.jobs, user, &order)?;
        if order.webhook_url.is_some() {
            queue(app, &mut call, user, order).await
        } else {
            make(app, &call, user, order).await
        }
    };
    match answer.await {
        Ok(reply) => reply,
        Err(refused) => call.refuse(refused),
    }
}

async fn make(app: &App, call: &Call<'_>, user: UserId, order: Order) -> Result<Reply, Refused> {
    let job =
        call.jobs.run_now(user, order).await.map_err(|error| refused(&error, app.config().decoders.queued_max))?;
    let answer = if job.is_success() { JobAnswer::Done } else { JobAnswer::Failed };
    Ok(Reply::job(answer, &envelope::done(app.config().public.host.as_str(), &job)))
}

async fn queue(app: &App, call: &mut Call<'_>, user: UserId, order: Order) -> Result<Reply, Refused> {
    let max = app.config().jobs.max_queue_length;
    let waiting_max = usize::try_from(max).unwrap_or(usize::MAX);
    let job = call.jobs.submit(user, order, waiting_max).await.map_err(|error| refused(&error, waiting_max))?;
    call.job_id = job.id.to_string();
    let mut body = call.body(JobAnswer::Accepted, "processing");
    body.insert("max_queue_length".to_owned(), if max == 0 { json!("unlimited") } else { json!(max) });
    Ok(Reply::job(JobAnswer::Accepted, &Value::Object(body)))
}

fn refused(error: &JobError, max: usize) -> Refused {
    match error {
        JobError::Full { .. } | JobError::Busy => Refused::Full { max },
        JobError::Store(why) => {
            tracing::error!(error = why, "a job could not be taken");
            Refused::Failed
        }
    }
}

/// Where a job is.
pub(crate) async fn job_status<B>(app: &App, parts: &Parts, read_body: B) -> Reply
where
    B: Future<Output = Result<Bytes, Problem>>,
{
    const ENDPOINT: &str = "/v1/toolkit/job/status";
    let call = Call::new(app);
    let answer = async {
        let (user, body) = authenticate(app, parts, read_body, true).await?;
        let asked = ask::read_job_id(&body).map_err(Refused::Invalid)?;
        let found = asked.parse::<JobId>().ok().and_then(|id| call.jobs.status(user, id));
        let Some((job, phase)) = found else {
            let asked: String = asked.chars().take(100).collect();
            let message = json!({"error": "Job not found", "job_id": asked});
            return Ok(call.status(JobAnswer::Unknown, ENDPOINT, &Value::Null, &message));
        };
        let record = envelope::record(app.config().public.host.as_str(), &job, phase, call.jobs.queue_id());
        Ok(call.status(JobAnswer::Done, ENDPOINT, &record, &json!("success")))
    };
    match answer.await {
        Ok(reply) => reply,
        Err(refused) => call.refuse(refused),
    }
}

/// Where the jobs of a while are.
pub(crate) async fn jobs_status<B>(app: &App, parts: &Parts, read_body: B) -> Reply
where
    B: Future<Output = Result<Bytes, Problem>>,
{
    let call = Call::new(app);
    let answer = async {
        let (user, body) = authenticate(app, parts, read_body, false).await?;
        let since = ask::read_since(&body).map_err(Refused::Invalid)?;
        let since = Duration::try_from_secs_f64(since).unwrap_or(Duration::MAX);
        let all: Map<String, Value> = call
            .jobs
            .list(user, since)
            .into_iter()
            .map(|(id, phase)| (id.to_string(), json!(envelope::word(phase))))
            .collect();
        Ok(call.status(JobAnswer::Done, "/v1/toolkit/jobs/status", &Value::Object(all), &json!("success")))
    };
    match answer.await {
        Ok(reply) => reply,
        Err(refused) => call.refuse(refused),
    }
}

/// A result, to whoever knows its URL.
pub(crate) async fn result(app: &App, id: JobId, secret: ResultSecret) -> Result<Reply, Problem> {
    let found = app.engine.jobs.result(id, secret).await.map_err(|error| {
        tracing::error!(%error, "a result cannot be read");
        Problem::new(Kind::Unavailable, "the result cannot be read at present")
    })?;
    let (body, left) = found.ok_or_else(|| Problem::new(Kind::NotFound, "there is no result here, or no more"))?;
    let cache_control = format!("private, max-age={}, immutable", left.as_secs());
    Ok(Reply::ok("image/jpeg", body).with(header::CACHE_CONTROL, &cache_control))
}

/// The user whose key came along, and the body.
async fn authenticate<B>(app: &App, parts: &Parts, read_body: B, is_json: bool) -> Result<(UserId, Bytes), Refused>
where
    B: Future<Output = Result<Bytes, Problem>>,
{
    let user = user_of(app, parts).ok_or(Refused::Unauthorized)?;
    if is_json && !has_json(parts) {
        return Err(Refused::MediaType);
    }
    Ok((user, read_body.await.map_err(Refused::Body)?))
}

/// The user of the one key that came along. Every configured key is looked at, so that how long it takes tells nothing.
fn user_of(app: &App, parts: &Parts) -> Option<UserId> {
    let mut given = parts.headers.get_all(API_KEY).iter();
    let (Some(key), None) = (given.next(), given.next()) else { return None };
    let given = digest::digest(&digest::SHA256, key.as_bytes());
    let is_this = |sha256: &[u8; 32]| constant_time::verify_slices_are_equal(sha256, given.as_ref()).is_ok();
    let mut found = None;
    for key in &app.config().jobs.api_keys {
        if is_this(&key.sha256.0) {
            found = Some(key.user_id);
        }
    }
    found
}

fn has_json(parts: &Parts) -> bool {
    let content_type = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"application/json")
}

fn check_urls(jobs: &Jobs, user: UserId, order: &Order) -> Result<(), Refused> {
    let invalid = |name: &str, detail: String| Refused::Invalid(format!("{name}: {detail}"));
    jobs.check_media(user, &order.video_url).map_err(|refused| invalid("video_url", refused.detail))?;
    match &order.webhook_url {
        Some(url) => jobs.check_webhook(user, url).map_err(|refused| invalid("webhook_url", refused.detail)),
        None => Ok(()),
    }
}
