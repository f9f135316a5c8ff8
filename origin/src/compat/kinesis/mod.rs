//! `POST /getDataEndpoint` and `POST /getImages`: Kinesis Video Streams as an AWS SDK speaks it.
//!
//! 1. who signs is found in the headers, and the body is read only for a key that is known and a clock that is right;
//! 2. the signature is verified over the body ([`super::sigv4`]);
//! 3. the body is checked ([`ask`]) and its stream named: a configured name, or a device's id;
//! 4. the ticks of one page are answered in order ([`page`]); where it ends early, a [`token`] goes on.
//!
//! Words of Kinesis stay in here. Both kinds of `ImageSelectorType` mean the recording's wall clock.

mod ask;
mod page;
mod token;

use bytes::Bytes;
use http::request::Parts;
use serde_json::json;
use stills_indexer::catalog::Missing;
use stills_indexer::config::jobs::AccessKey;
use stills_indexer::thumbs::ThumbError;
use stills_model::id::{DeviceId, Timeline};
use stills_model::time::Timestamp;
use tokio::sync::Semaphore;

use super::sigv4::{Request, Signed};
use crate::app::App;
use crate::reply::{AwsError, Exception, Problem, Reply};
use ask::ImagesAsk;

const SERVICE: &str = "kinesisvideo";

/// Pages that are made at once, over which callers are told to come back: each holds its 16 MiB, and about as much
/// again while it is made.
const PAGES_AT_ONCE_MAX: usize = 8;

/// The room for pages.
#[derive(Debug)]
pub(crate) struct Room(Semaphore);

impl Room {
    pub(crate) fn new() -> Self {
        Self(Semaphore::new(PAGES_AT_ONCE_MAX))
    }
}

/// A stream that the caller may see.
struct Stream {
    timeline: Timeline,
    /// Whether anything is recorded of it.
    is_recorded: bool,
}

/// Where pictures of a stream are to be asked for: here.
pub(crate) async fn endpoint<B>(app: &App, parts: &Parts, read_body: B) -> Reply
where
    B: Future<Output = Result<Bytes, Problem>>,
{
    let answer = async {
        let (key, body) = authenticate(app, parts, read_body).await?;
        stream(app, &key, &ask::read_endpoint(&body)?).await?;
        let host = app.config().public.host.as_str().to_owned();
        Ok(Reply::ok("application/json", json!({"DataEndpoint": host}).to_string()))
    };
    answer.await.unwrap_or_else(|error: AwsError| Reply::aws_error(&error))
}

/// A page of pictures.
pub(crate) async fn images<B>(app: &App, parts: &Parts, read_body: B) -> Reply
where
    B: Future<Output = Result<Bytes, Problem>>,
{
    let answer = async {
        let (key, body) = authenticate(app, parts, read_body).await?;
        let ask = ImagesAsk::read(&body)?;
        let _place = app.kinesis.0.try_acquire().map_err(|_| too_much())?;
        let stream = stream(app, &key, &ask.stream).await?;
        let (secret, timeline) = (key.secret.expose(), &stream.timeline);
        let first = match &ask.next_token {
            None => 0,
            Some(text) => usize::try_from(token::read(secret, timeline, &ask, text).ok_or_else(foreign_token)?)
                .ok()
                .filter(|first| *first < ask.n_ticks())
                .ok_or_else(foreign_token)?,
        };
        let page = page::make(app, &stream, &ask, first).await?;
        let next = page.next.and_then(|k| u32::try_from(k).ok());
        let next_token = next.map(|k| token::make(secret, timeline, &ask, k));
        Ok(Reply::ok("application/json", page.into_body(next_token.as_deref())))
    };
    answer.await.unwrap_or_else(|error: AwsError| Reply::aws_error(&error))
}

fn too_much() -> AwsError {
    AwsError::new(Exception::ClientLimitExceeded, "too much is asked at once; try again in a moment")
}

fn foreign_token() -> AwsError {
    let detail =
        "NextToken is not of this request: repeat the request that gave it, with nothing changed but MaxResults";
    AwsError::new(Exception::InvalidArgument, detail)
}

/// The key that signed the request, and the request's body.
async fn authenticate<B>(app: &App, parts: &Parts, read_body: B) -> Result<(AccessKey, Bytes), AwsError>
where
    B: Future<Output = Result<Bytes, Problem>>,
{
    let refused = |detail: String| AwsError::new(Exception::NotAuthorized, detail);
    let signed = Signed::read(&parts.headers).map_err(|why| refused(why.to_string()))?;
    let key = app.config().kinesis.access_keys.iter().find(|key| key.id.as_str() == signed.access_key_id).cloned();
    let key = key.ok_or_else(|| refused("the access key id is not known here".to_owned()))?;
    signed.check_scope(SERVICE, app.engine.clock.now()).map_err(|why| refused(why.to_string()))?;
    let body = read_body.await?;
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let request = Request { method: &parts.method, path, query, headers: &parts.headers, body: &body };
    signed.verify(request, key.secret.expose()).map_err(|why| refused(why.to_string()))?;
    Ok((key, body))
}

/// The stream of a name: a configured one, else the device of that id, if anything is recorded of it.
async fn stream(app: &App, key: &AccessKey, name: &str) -> Result<Stream, AwsError> {
    let unknown = || AwsError::new(Exception::ResourceNotFound, format!("there is no stream {name}"));
    let configured = app.config().kinesis.streams.get(name).copied();
    let device = configured.or_else(|| name.parse::<DeviceId>().ok()).ok_or_else(unknown)?;
    let timeline = Timeline { user: key.user_id, device };
    // Of an instant without a recording the catalog tells whether there is one anywhere.
    let located = app.engine.thumbs.locate(timeline, Timestamp::from_ms(0)).await;
    let is_recorded = match located {
        Ok(_) => true,
        Err(ThumbError::Missing(missing)) => missing != Missing::NotRecorded,
        Err(error) => return Err(error.into()),
    };
    if !is_recorded && configured.is_none() {
        return Err(unknown());
    }
    Ok(Stream { timeline, is_recorded })
}
