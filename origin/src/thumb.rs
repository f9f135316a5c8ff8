//! `GET {prefix}/{user}/{device}/{start}/{end}/1/false/thumb-{offset}-w{w}-h{h}.jpg`: one picture.
//!
//! 1. authorise; 2. check the numbers; 3. find the keyframe; 4. answer 304 without a picture where the client has it;
//! 5. get the picture from wherever it is; 6. say how long it may be kept.

use std::time::{Duration, Instant};

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use stills_indexer::catalog::Located;
use stills_indexer::config::auth::SignedCache;
use stills_indexer::decode::Class;
use stills_indexer::thumbs::{self, Origin, Picture};
use stills_model::thumb::ETag;

use crate::app::App;
use crate::auth::{Credentials, Identity, Scope, Target, Window, authorize};
use crate::conditional::is_known;
use crate::reply::{Problem, Reply, X_ACCEL_EXPIRES};
use crate::route::ThumbPath;

const EPOCH: HeaderName = HeaderName::from_static("stills-cache-epoch");
const FRAME_TIMESTAMP: HeaderName = HeaderName::from_static("stills-frame-timestamp");
const FRAME_DISTANCE: HeaderName = HeaderName::from_static("stills-frame-distance");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// A day: what a URL that names its picture by `?v=` is worth, and what NGINX may keep under an epoch.
const LONG_AGE_S: i64 = 86_400;

/// What browsers may keep of a URL that names an instant: the picture there can change.
const USUAL_AGE_S: i64 = 300;

/// What anyone may keep of an answer that a following recording may change.
const SHORT_AGE_S: i64 = 5;

/// Authorises a request for a path inside a window, by token or by signature.
pub(crate) async fn authorize_window(app: &App, parts: &Parts, path: &ThumbPath) -> Result<Identity, Problem> {
    let credentials = Credentials::from_headers_or_query(&parts.headers, parts.uri.query())?;
    let window = path.window().ok().map(|span| Window { timeline: path.timeline, span });
    let identity = app.auth.authenticate(credentials, window.as_ref()).await?;
    let target = window.map_or(Target::Device(path.timeline), Target::Window);
    authorize(&identity, Scope::ThumbnailsRead, target)?;
    Ok(identity)
}

/// Answers with the picture.
pub(crate) async fn get(app: &App, parts: &Parts, path: &ThumbPath) -> Result<Reply, Problem> {
    let began = Instant::now();
    let identity = authorize_window(app, parts, path).await?;
    let ask = path.ask().map_err(|faults| Problem::of_parameters(&faults))?;
    // Whoever names a picture that he has may need no other.
    let sought = (!parts.headers.contains_key(header::IF_NONE_MATCH)).then_some(ask.rendition);
    let looked = app.engine.thumbs.look(path.timeline, ask.instant, sought).await?;
    let located = looked.located.clone();
    let looked_up = began.elapsed();
    let key = thumbs::key_of(&located, ask.rendition);
    let etag = key.etag();
    let ages = ages(app, parts, path, &located, etag).await?;
    // NGINX, told by a 304 not to keep what it has, would keep it for as long as before: it gets the whole answer.
    let may_confirm = ages.nginx_s > 0 || !parts.headers.contains_key(&EPOCH);
    if may_confirm && is_known(parts, etag) {
        return Ok(headers(app, Reply::not_modified(), &identity, &located, etag, ages));
    }
    let picture = app.engine.thumbs.picture_of(looked, ask.rendition, Class::Interactive).await?;
    let ages = if picture.origin == Origin::Earlier { ages.about_to_change() } else { ages };
    let reply = headers(app, Reply::ok("image/jpeg", picture.body.clone()), &identity, &located, picture.etag, ages);
    let mut reply = reply.with_value(CACHE_STATUS, cache_status(&picture));
    if app.config().http.server_timing {
        reply = reply.with(SERVER_TIMING, &server_timing(looked_up, began.elapsed()));
    }
    Ok(reply)
}

fn cache_status(picture: &Picture) -> HeaderValue {
    HeaderValue::from_static(match picture.origin {
        Origin::Hot | Origin::Disk | Origin::Earlier => "stills; hit",
        Origin::Rendered => "stills; fwd=miss; stored",
    })
}

fn server_timing(looked_up: Duration, total: Duration) -> String {
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    format!("lookup;dur={:.1}, picture;dur={:.1}", ms(looked_up), ms(total.saturating_sub(looked_up)))
}

/// How long an answer may be kept, in seconds.
#[derive(Debug, Clone, Copy)]
struct Ages {
    /// By browsers and shared caches.
    client_s: i64,
    /// By NGINX, whose key holds the epoch.
    nginx_s: i64,
    /// The URL names this very picture.
    is_immutable: bool,
}

impl Ages {
    /// Of a picture that is being replaced.
    fn about_to_change(self) -> Self {
        let (client_s, nginx_s) = (self.client_s.min(SHORT_AGE_S), self.nginx_s.min(SHORT_AGE_S));
        Self { client_s, nginx_s, is_immutable: false }
    }
}

async fn ages(app: &App, parts: &Parts, path: &ThumbPath, located: &Located, etag: ETag) -> Result<Ages, Problem> {
    let is_named = version(parts.uri.query().unwrap_or_default()).is_some_and(|v| is_prefix(v, etag));
    let (client_s, nginx_s) = match (located.is_settled, is_named) {
        (false, _) => (SHORT_AGE_S, SHORT_AGE_S),
        (true, true) => (LONG_AGE_S, LONG_AGE_S),
        (true, false) => (USUAL_AGE_S, LONG_AGE_S),
    };
    let left_s = located.expires_at.map_or(i64::MAX, |end| end.since_ms(app.engine.clock.now()) / 1000);
    let is_current = is_current_epoch(app, parts, path).await?;
    Ok(Ages {
        client_s: client_s.min(left_s),
        // NGINX counts whole seconds and keeps an answer up to one longer than it is told.
        nginx_s: if is_current { nginx_s.min(left_s - 1).max(0) } else { 0 },
        is_immutable: is_named && located.is_settled && left_s > LONG_AGE_S,
    })
}

/// Whether NGINX's key for this answer holds the epoch that is in force; an answer for an old one is not stored.
async fn is_current_epoch(app: &App, parts: &Parts, path: &ThumbPath) -> Result<bool, Problem> {
    let Some(keyed) = parts.headers.get(&EPOCH).cloned() else { return Ok(true) };
    let Ok(window) = path.window() else { return Ok(true) };
    let timeline = path.timeline;
    let current = app.engine.thumbs.ask(move |catalog| catalog.epoch(&timeline, &window)).await?;
    Ok(keyed.as_bytes() == current.as_bytes())
}

/// The value of `?v=`.
fn version(query: &str) -> Option<&str> {
    query.split('&').find_map(|part| part.strip_prefix("v="))
}

fn is_prefix(version: &str, etag: ETag) -> bool {
    version.len() >= ETag::PREFIX_LEN && etag.to_string().starts_with(version)
}

fn headers(app: &App, reply: Reply, identity: &Identity, located: &Located, etag: ETag, ages: Ages) -> Reply {
    let is_public = identity.is_signed() && app.config().auth.signed_cache == SignedCache::Public;
    let who = if is_public { "public" } else { "private" };
    let immutable = if ages.is_immutable { ", immutable" } else { "" };
    let cache_control = format!("{who}, max-age={}{immutable}", ages.client_s.max(0));
    let mut reply = reply
        .with_value(X_ACCEL_EXPIRES, ages.nginx_s.max(0).into())
        .with_text(header::CACHE_CONTROL, cache_control)
        .with_text(header::ETAG, format!("\"{etag}\""))
        .with_value(FRAME_TIMESTAMP, located.timestamp.as_ms().into())
        .with_value(FRAME_DISTANCE, located.distance_ms().into());
    if app.config().http.cache_tags {
        reply = reply.with(CACHE_TAG, &format!("{},{}", located.timeline.device, located.recording));
    }
    reply
}
