//! The admin listener: liveness, readiness, metrics, and the chores of an operator. Never reachable from outside, never behind a credential.

use http::header;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::json;
use stills_indexer::disk::DiskState;
use stills_indexer::maintain::Chore;
use stills_indexer::metrics;

use crate::app::App;
use crate::reply::{HttpResponse, Kind, Problem, Reply};

/// Answers a request on the admin listener.
pub(crate) async fn serve(app: &App, parts: &Parts) -> HttpResponse {
    let path = parts.uri.path();
    let allow = match path {
        "/livez" | "/readyz" | "/metrics" | "/chores" => "GET, HEAD",
        "/rebuild" | "/check" => "POST",
        "/failures" => "GET, HEAD, POST",
        _ => {
            let known = "there are /livez, /readyz, /metrics, /chores, /rebuild, /check and /failures here";
            return Problem::new(Kind::NotFound, known).into_response(path);
        }
    };
    if !allow.split(", ").any(|method| method == parts.method.as_str()) {
        let problem = Problem::new(Kind::MethodNotAllowed, format!("this path allows {allow}"));
        return problem.with_header(header::ALLOW, allow).into_response(path);
    }
    let answer = match path {
        "/livez" => Ok(Reply::ok("application/json", json!({"status": "live"}).to_string())),
        "/readyz" => Ok(readiness(app)),
        "/chores" => Ok(Reply::ok("application/json", json!(app.engine.chore()).to_string())),
        "/rebuild" => begin(app, Chore::Rebuild),
        "/check" => begin(app, Chore::Check),
        "/failures" => failures(app, parts).await,
        _ => {
            app.engine.measure();
            Ok(Reply::ok(metrics::CONTENT_TYPE, app.engine.metrics.encode()))
        }
    };
    match answer {
        Ok(reply) => reply.into_response(),
        Err(problem) => problem.into_response(path),
    }
}

fn begin(app: &App, chore: Chore) -> Result<Reply, Problem> {
    let begun = app.engine.begin(chore).map(|status| Reply::accepted(&json!(status)));
    begun.ok_or_else(|| Problem::new(Kind::Busy, "a chore is under way; GET /chores says how far it is"))
}

/// Recordings that were set aside, a page at a time; `POST` has that page scanned again.
async fn failures(app: &App, parts: &Parts) -> Result<Reply, Problem> {
    let query = parts.uri.query().unwrap_or_default();
    let after = query.split('&').find_map(|pair| pair.strip_prefix("after=")).unwrap_or_default();
    let page = app.engine.failures(after, parts.method == Method::POST).await?;
    let page = page.ok_or_else(|| Problem::new(Kind::BadRequest, "after must be what an earlier page gave as next"))?;
    Ok(Reply::ok("application/json", json!(page).to_string()))
}

fn readiness(app: &App) -> Reply {
    if app.is_draining() {
        return Reply::not_ready(&json!({"status": "stopping"}));
    }
    let disk = app.engine.disk_state();
    if disk != DiskState::Well {
        // Pictures and searches are answered all the same; what is new cannot be kept.
        return Reply::not_ready(&json!({"status": format!("disk {}", disk.name())}));
    }
    if app.engine.is_rebuilding() {
        return Reply::not_ready(&json!({"status": "rebuilding"}));
    }
    Reply::ok("application/json", json!({"status": "ready"}).to_string())
}

/// Whether the status counts as our own failure, for the log's level.
pub(crate) fn is_failure(status: StatusCode) -> bool {
    status.is_server_error()
}
