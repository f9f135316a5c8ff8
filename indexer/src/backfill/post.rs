//! Events to an origin over HTTP, and again where that can help: the answer, or why there will be none.
//!
//! Busy answers (429, 500, 502, 503, 504) and broken connections are tried again with back-off, no sooner than
//! `Retry-After` asks for; a body that is too large is halved. Anything else ends the run. The token is read from its
//! file for every request, so that short-lived ones can be renewed while a run goes on.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, redirect};
use serde::Deserialize;
use stills_model::event::Event;
use thiserror::Error;
use url::Url;

use crate::events::emit;

/// The most events in a request. A hundred already reach full speed; this keeps bodies far below their limit.
pub const BATCH_MAX: usize = 500;

/// How often a request is sent before giving up: with back-off, about four minutes.
const ATTEMPTS_MAX: u32 = 12;

/// The first and the longest pause between attempts.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The longest `Retry-After` that is heeded.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

/// The longest time for one request.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// An origin and who asks it.
#[derive(Debug, Clone)]
pub struct Origin {
    client: Client,
    base: Url,
    token_file: Option<PathBuf>,
}

/// What became of a request's events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// Taken, duplicates included.
    pub accepted: u64,
    /// Of these, taken before.
    pub duplicates: u64,
    /// Those that were not taken.
    #[serde(default)]
    pub rejected: Vec<Rejected>,
}

/// Why one event was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rejected {
    /// Its place in the request, from 0.
    pub index: usize,
    /// The field.
    pub pointer: String,
    /// What is wrong.
    pub detail: String,
}

/// The origin cannot be asked, or will not answer.
#[derive(Debug, Error)]
pub enum PostError {
    /// The address of the origin.
    #[error("--origin {0}: must be an http:// or https:// URL such as http://127.0.0.1:8080")]
    Origin(String),
    /// The client could not be made.
    #[error("no HTTP client: {0}")]
    Client(reqwest::Error),
    /// The token's file.
    #[error("--token-file {path}: {problem}")]
    Token {
        /// As given.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A final answer.
    #[error("the origin answered {status}: {detail}")]
    Status {
        /// The answer's status.
        status: u16,
        /// What it says of the reason.
        detail: String,
    },
    /// It said the same, or nothing, each time.
    #[error("given up after {ATTEMPTS_MAX} attempts: {0}")]
    GivenUp(String),
    /// The answer is none of ours.
    #[error("the answer cannot be read: {0}")]
    Answer(reqwest::Error),
}

impl PostError {
    /// Whether the same may well succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::GivenUp(_))
    }
}

impl Origin {
    /// An origin at a URL, asked with the token in a file.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn new(base: &str, token_file: Option<PathBuf>) -> Result<Self, PostError> {
        let url = Url::parse(&format!("{}/", base.trim_end_matches('/'))).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none());
        let base = url.ok_or_else(|| PostError::Origin(base.to_owned()))?;
        // Neither a redirect nor a proxy of the environment may see the token.
        let client = Client::builder().timeout(REQUEST_MAX).redirect(redirect::Policy::none()).no_proxy();
        Ok(Self { client: client.build().map_err(PostError::Client)?, base, token_file })
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        self.base.as_str()
    }

    /// Sends events; at most [`BATCH_MAX`] at a time make sense.
    ///
    /// # Errors
    /// [`PostError`]; none of the events is known to be taken then, though some may be.
    pub async fn post(&self, events: &[Event]) -> Result<Answer, PostError> {
        let mut total = Answer::default();
        let mut waiting = vec![(0, events)];
        while let Some((first, part)) = waiting.pop() {
            let body: String = part.iter().map(|event| emit::to_structured(event) + "\n").collect();
            let url = self.url("v1/recordings/events");
            let request = self.client.post(url).header(CONTENT_TYPE, "application/x-ndjson");
            match self.send(request.header("prefer", "handling=lenient").body(body)).await {
                Ok(response) => {
                    let answer: Answer = response.json().await.map_err(PostError::Answer)?;
                    total.accepted += answer.accepted;
                    total.duplicates += answer.duplicates;
                    let here = answer.rejected.into_iter().map(|one| Rejected { index: first + one.index, ..one });
                    total.rejected.extend(here);
                }
                Err(PostError::Status { status: 413, .. }) if part.len() > 1 => {
                    let (head, tail) = part.split_at(part.len() / 2);
                    waiting.push((first + head.len(), tail));
                    waiting.push((first, head));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Asks for JSON at a path, with a query.
    ///
    /// # Errors
    /// As [`Origin::post`].
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<serde_json::Value, PostError> {
        let mut url = self.url(path);
        url.query_pairs_mut().extend_pairs(query);
        self.send(self.client.get(url)).await?.json().await.map_err(PostError::Answer)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }

    /// One request until there is an answer to keep.
    async fn send(&self, request: RequestBuilder) -> Result<Response, PostError> {
        let (mut pause, mut last) = (PAUSE, String::new());
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            let request = request.try_clone().ok_or_else(|| PostError::GivenUp("the request is a stream".into()))?;
            let request = match self.token()? {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            let response = match request.send().await {
                Ok(response) => response,
                Err(error) => {
                    last = innermost(&error);
                    continue;
                }
            };
            let status = response.status().as_u16();
            if (200..300).contains(&status) {
                return Ok(response);
            }
            let asked = retry_after(&response);
            let detail = detail(response).await;
            if !matches!(status, 429 | 500 | 502 | 503 | 504) {
                return Err(PostError::Status { status, detail });
            }
            last = format!("{status}: {detail}");
            tracing::debug!(status, attempt, "the origin is busy");
            if let Some(asked) = asked {
                pause = asked.max(pause);
            }
        }
        Err(PostError::GivenUp(last))
    }

    fn token(&self) -> Result<Option<String>, PostError> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let wrong = |problem: String| PostError::Token { path: path.display().to_string(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let token = text.trim();
        let is_token = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        if is_token { Ok(Some(token.to_owned())) } else { Err(wrong("must hold one token and nothing else".into())) }
    }
}

/// How long the origin asks to wait, in whole seconds.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// What a problem document says, or nothing.
async fn detail(response: Response) -> String {
    let problem: serde_json::Value = response.json().await.unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let detail = text("detail");
    if detail.is_empty() { text("title") } else { detail }
}

/// The system's own words; those around them only repeat the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
