//! One request: its route, its handler, and what every answer carries. The one `match` over [`Route`] is here.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use stills_indexer::telemetry;

use crate::app::App;
use crate::compat::{jobs, kinesis};
use crate::reply::{HttpResponse, Kind, Problem, Reply, insert};
use crate::route::Route;
use crate::{auth_check, cors, events, image, images, openapi, ops, problems, recordings, search, thumb};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const AWS_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// How long a body may take to arrive: NGINX, which sends it whole, needs a moment; 8 MiB over a phone's uplink fit.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// The longest path and query: twice what NGINX's buffers pass on; no valid one is a tenth of it.
const URI_LEN_MAX: usize = 16 * 1024;

/// Answers one request of the public listener.
pub(crate) async fn public(app: &App, request: Request<Incoming>) -> HttpResponse {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let route = Route::parse(app.config().public.prefix.as_str(), parts.uri.path());
    let request_id = request_id(app, &parts.headers);
    let mut response = match answer(app, &route, &parts, body).await {
        Ok(reply) => reply.into_response(),
        Err(problem) => problem.into_response(parts.uri.path()),
    };
    if !matches!(route, Route::AuthCheck) {
        cors::expose(&app.config().cors, &parts.headers, response.headers_mut());
    }
    insert(response.headers_mut(), REQUEST_ID, &request_id);
    if matches!(route, Route::KinesisEndpoint | Route::KinesisImages) {
        insert(response.headers_mut(), AWS_REQUEST_ID, &request_id);
    }
    let (status, took) = (response.status(), began.elapsed());
    app.engine.metrics.http_request(route.name(), status.as_u16(), took);
    // Worded only where it is written.
    if ops::is_failure(status) || tracing::enabled!(tracing::Level::DEBUG) {
        let uri = telemetry::redact_uri(&parts.uri.to_string());
        let (took_ms, method) = (took.as_secs_f64() * 1000.0, parts.method.as_str());
        if ops::is_failure(status) {
            tracing::warn!(%request_id, method, uri, status = status.as_u16(), took_ms, "answered");
        } else {
            tracing::debug!(%request_id, method, uri, status = status.as_u16(), took_ms, "answered");
        }
    }
    response
}

async fn answer(app: &App, route: &Route, parts: &Parts, body: Incoming) -> Result<Reply, Problem> {
    check_head(app, parts)?;
    if matches!(route, Route::Unknown) {
        return Err(Problem::new(Kind::NotFound, "there is nothing at this path"));
    }
    // To NGINX a 2xx from there is a yes, whatever the method was.
    if cors::is_options(parts) && !matches!(route, Route::AuthCheck) {
        return Ok(cors::options(&app.config().cors, route, parts));
    }
    if !is_allowed(route, &parts.method) {
        let problem = Problem::new(Kind::MethodNotAllowed, format!("this path allows {}", route.allow()));
        return Err(problem.with_header(header::ALLOW, route.allow()));
    }
    // Boxed, but for pictures: or what the largest of all handlers remembers would be moved about for each of them.
    match route {
        Route::Thumb(path) => thumb::get(app, parts, path).await,
        _ => Box::pin(by_route(app, route, parts, body)).await,
    }
}

async fn by_route(app: &App, route: &Route, parts: &Parts, body: Incoming) -> Result<Reply, Problem> {
    match route {
        Route::Thumb(path) => thumb::get(app, parts, path).await,
        Route::Search => search::get(app, parts).await,
        Route::Events => events::post(app, parts, read_body(body, app.config().http.body_max)).await,
        Route::Recordings => recordings::get(app, parts).await,
        Route::Devices => recordings::devices(app, parts).await,
        Route::Job => Ok(jobs::thumbnail(app, parts, read_body(body, app.config().http.body_max)).await),
        Route::JobStatus => Ok(jobs::job_status(app, parts, read_body(body, app.config().http.body_max)).await),
        Route::JobsStatus => Ok(jobs::jobs_status(app, parts, read_body(body, app.config().http.body_max)).await),
        Route::JobResult(id, secret) => jobs::result(app, *id, *secret).await,
        Route::KinesisEndpoint => Ok(kinesis::endpoint(app, parts, read_body(body, app.config().http.body_max)).await),
        Route::KinesisImages => Ok(kinesis::images(app, parts, read_body(body, app.config().http.body_max)).await),
        Route::Image => image::get(app, parts).await,
        Route::Images(path) if parts.method == Method::PUT => {
            images::put(app, parts, path, read_body(body, app.config().images.body_max)).await
        }
        Route::Images(path) if parts.method == Method::DELETE => images::delete(app, parts, path).await,
        Route::Images(path) => images::get(app, parts, path).await,
        Route::AuthCheck => auth_check::get(app, parts).await,
        Route::OpenApi => Ok(openapi::document(app)),
        Route::Problem(slug) => problems::page(slug),
        Route::Unknown => Err(Problem::new(Kind::NotFound, "there is nothing at this path")),
    }
}

/// The limits on a request's head. What passes even the parser's own, larger ones never gets here: hyper answers
/// it with a bare status.
fn check_head(app: &App, parts: &Parts) -> Result<(), Problem> {
    let uri_len = parts.uri.path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri_len > URI_LEN_MAX {
        return Err(Problem::new(Kind::UriTooLong, format!("a URI may be at most {URI_LEN_MAX} bytes long")));
    }
    let max = app.config().http.header_bytes_max;
    let lines = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if lines.sum::<usize>() > max {
        return Err(Problem::new(Kind::HeaderFieldsTooLarge, format!("headers may be at most {max} bytes long")));
    }
    Ok(())
}

fn is_allowed(route: &Route, method: &Method) -> bool {
    route.allow().split(", ").any(|allowed| allowed == method.as_str())
}

/// The whole body, no longer than `max` bytes.
async fn read_body(body: Incoming, max: u64) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Kind::ContentTooLarge, format!("a body may be at most {max} bytes long"));
    // What announces its length need not be read to be refused.
    if body.size_hint().lower() > max {
        return Err(too_large());
    }
    let limited = Limited::new(body, usize::try_from(max).unwrap_or(usize::MAX));
    match tokio::time::timeout(BODY_TIME_MAX, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(Kind::BadRequest, "the body ended early")),
        Err(_) => {
            let seconds = BODY_TIME_MAX.as_secs();
            Err(Problem::new(Kind::BadRequest, format!("the body took longer than {seconds} s to arrive")))
        }
    }
}

/// The client's id of the request where it is well-formed, else one of ours.
fn request_id(app: &App, headers: &HeaderMap) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let given = given.filter(|id| (8..=128).contains(&id.len()) && id.bytes().all(is_plain));
    given.map_or_else(|| app.next_request_id(), str::to_owned)
}
