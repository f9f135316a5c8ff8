//! The admin listener: liveness, readiness, metrics. Never reachable from outside, never behind a credential.

use http::header;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::json;
use stills_indexer::disk::DiskState;
use stills_indexer::metrics;

use crate::app::App;
use crate::reply::{HttpResponse, Kind, Problem, Reply};

/// Answers a request on the admin listener.
pub(crate) fn serve(app: &App, parts: &Parts) -> HttpResponse {
    let path = parts.uri.path();
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let problem = Problem::new(Kind::MethodNotAllowed, "only GET and HEAD are allowed here");
        return problem.with_header(header::ALLOW, "GET, HEAD").into_response(path);
    }
    match path {
        "/livez" => Reply::ok("application/json", json!({"status": "live"}).to_string()).into_response(),
        "/readyz" => readiness(app).into_response(),
        "/metrics" => {
            app.engine.measure();
            Reply::ok(metrics::CONTENT_TYPE, app.engine.metrics.encode()).into_response()
        }
        _ => Problem::new(Kind::NotFound, "there are /livez, /readyz and /metrics here").into_response(path),
    }
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
