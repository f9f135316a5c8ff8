//! Cross-origin requests: preflights answered before any authorisation, and what scripts may read of an answer.

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, request::Parts};
use stills_indexer::config::http::{Cors, CorsOrigin};

use crate::reply::{Reply, insert};
use crate::route::Route;

/// What scripts may read beside the body.
const EXPOSED: &str = "ETag, aspectMatch, Link, X-Total-Count, Retry-After, Cache-Status, X-Request-Id, Stills-Pending, \
                       Stills-Frame-Timestamp, Stills-Frame-Distance, Stills-Frame-Offset";

/// What requests may carry.
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, If-None-Match, Prefer, X-Rasp-Auth-Token, X-Request-Id";

/// Whether the request is a preflight or a bare `OPTIONS`: answered without a credential.
pub(crate) fn is_options(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
}

/// The answer to `OPTIONS`: what the route allows, and for a preflight of a known page what it may send.
pub(crate) fn options(cors: &Cors, route: &Route, parts: &Parts) -> Reply {
    let mut reply = Reply::nothing().with(header::ALLOW, route.allow());
    let is_preflight = parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if is_preflight && allowed_origin(cors, &parts.headers).is_some() {
        reply = reply
            .with(header::ACCESS_CONTROL_ALLOW_METHODS, route.allow())
            .with(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS)
            .with(header::ACCESS_CONTROL_MAX_AGE, &cors.max_age.as_secs().to_string());
    }
    reply
}

/// Adds what a browser needs to hand the answer to a page. `Vary` is there whenever the answer depends on the page.
pub(crate) fn expose(cors: &Cors, request: &HeaderMap, response: &mut HeaderMap) {
    if cors.origins.is_empty() {
        return;
    }
    if !cors.origins.contains(&CorsOrigin::Any) {
        response.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(origin) = allowed_origin(cors, request) {
        insert(response, header::ACCESS_CONTROL_ALLOW_ORIGIN, &origin);
        insert(response, header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

fn allowed_origin(cors: &Cors, request: &HeaderMap) -> Option<String> {
    if cors.origins.contains(&CorsOrigin::Any) {
        // The same for every page, so that shared caches keep one copy.
        return Some("*".to_owned());
    }
    let asked = request.get(header::ORIGIN)?.to_str().ok()?;
    let known = |origin: &CorsOrigin| matches!(origin, CorsOrigin::Only(site) if site.as_str() == asked);
    cors.origins.iter().any(known).then(|| asked.to_owned())
}
