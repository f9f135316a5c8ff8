//! `GET /auth`: NGINX asks whether the request it holds may see what lies under its path. 204, 401 or 403.
//!
//! The original request comes as `X-Original-URI` and with its own `Authorization`. A 204 says for how long it may be
//! kept and which epochs the window has; without an answer to that NGINX stores nothing.

use http::header::{self, HeaderName};
use http::request::Parts;

use crate::app::App;
use crate::auth::{Credentials, Scope, Target, Window, authorize};
use crate::reply::{Problem, Reply, X_ACCEL_EXPIRES};
use crate::route::Route;

const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const EPOCH: HeaderName = HeaderName::from_static("stills-cache-epoch");

/// Answers NGINX.
pub(crate) async fn get(app: &App, parts: &Parts) -> Result<Reply, Problem> {
    let original = parts.headers.get(ORIGINAL_URI).and_then(|uri| uri.to_str().ok()).unwrap_or_default();
    // What is behind it is no part of what is asked for, and the origin's own routes never see it.
    let original = original.split('#').next().unwrap_or_default();
    let (path, query) = original.split_once('?').map_or((original, None), |(path, query)| (path, Some(query)));
    let credentials = Credentials::from_headers_or_query(&parts.headers, query)?;
    let route = Route::parse(app.config().public.prefix.as_str(), path);
    let window = match &route {
        Route::Thumb(thumb) => thumb.window().ok().map(|span| Window { timeline: thumb.timeline, span }),
        _ => None,
    };
    let identity = app.auth.authenticate(credentials, window.as_ref()).await?;
    let Some(window) = window else {
        if let Route::Thumb(thumb) = &route {
            authorize(&identity, Scope::ThumbnailsRead, Target::Device(thumb.timeline))?;
        }
        // Nothing to see there, and the origin says why: 422 or 404. Without an epoch NGINX stores neither answer.
        return Ok(Reply::nothing().with(X_ACCEL_EXPIRES, "0").with(header::CACHE_CONTROL, "no-store"));
    };
    authorize(&identity, Scope::ThumbnailsRead, Target::Window(window))?;
    let epoch = app.engine.thumbs.ask(move |catalog| catalog.epoch(&window.timeline, &window.span)).await?;
    // NGINX counts whole seconds and keeps an answer up to one longer than it says.
    let ttl_s = app.auth.cache_ttl(&identity).as_secs().saturating_sub(1);
    Ok(Reply::nothing()
        .with(X_ACCEL_EXPIRES, &ttl_s.to_string())
        .with(header::CACHE_CONTROL, &format!("private, max-age={ttl_s}"))
        .with(EPOCH, &epoch))
}
