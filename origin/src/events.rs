//! `POST /v1/recordings/events`: recording events in, 202 once they are durable.

use std::cell::Cell;

use bytes::Bytes;
use http::header;
use http::request::Parts;
use serde_json::json;
use stills_indexer::events::{Objection, Parsed, Refused, cloudevents, notifications};
use stills_model::event::{Event, EventKind};
use stills_model::id::Timeline;

use crate::app::App;
use crate::auth::{Credentials, Identity, Scope, Target, Users, authorize};
use crate::reply::{Kind, Problem, Reply};

/// Takes the events of one request. The body is read only for a caller who may send events at all.
pub(crate) async fn post<B>(app: &App, parts: &Parts, read_body: B) -> Result<Reply, Problem>
where
    B: Future<Output = Result<Bytes, Problem>>,
{
    let identity = app.auth.authenticate(Credentials::from_headers(&parts.headers)?, None).await?;
    authorize(&identity, Scope::RecordingsWrite, Target::Nothing)?;
    let body = read_body.await?;
    let is_lenient = is_lenient(parts);
    let (is_notification, Parsed { events, rejected }) = parse(app, parts, &body, &identity, is_lenient)?;
    // An object store can correct nothing and would send the same again for ever.
    let is_lenient = is_lenient || is_notification;
    if !rejected.is_empty() && !is_lenient {
        let n_faults = rejected.len();
        let faults = if n_faults == 1 { "fault" } else { "faults" };
        let detail = format!("{n_faults} {faults}; nothing of this request was taken");
        return Err(Problem::new(Kind::InvalidEvents, detail).with("errors", json!(rejected)));
    }
    let submitted = app.engine.pipeline.submit(events.into_iter().map(|(_, event)| event).collect()).await?;
    let mut answer = json!({"accepted": submitted.accepted, "duplicates": submitted.duplicates});
    if is_lenient {
        answer["rejected"] = json!(rejected);
    }
    Ok(Reply::accepted(&answer))
}

/// RFC 7240: `Prefer: handling=lenient`.
fn is_lenient(parts: &Parts) -> bool {
    let values = parts.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split([',', ';'])).any(|one| one.trim().eq_ignore_ascii_case("handling=lenient"))
}

/// The events of a request, and whether an object store sent them.
fn parse(
    app: &App,
    parts: &Parts,
    body: &Bytes,
    identity: &Identity,
    is_lenient: bool,
) -> Result<(bool, Parsed), Problem> {
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let is_trusted = identity.caller().is_some_and(|caller| caller.users == Users::All);
    let forbidden = Cell::new(None);
    let check = |event: &Event| {
        let target = match event.kind {
            EventKind::UserDeleted => Target::AllDevices(event.user),
            _ => event
                .device()
                .map_or(Target::AllDevices(event.user), |device| Target::Device(Timeline { user: event.user, device })),
        };
        if let Err(error) = authorize(identity, Scope::RecordingsWrite, target) {
            forbidden.set(Some(error));
            return Err(Objection::new("/data/user_id", error.description()));
        }
        check_media(app, event, is_trusted)
    };
    let now = app.engine.clock.now();
    let is_binary = parts.headers.contains_key("ce-specversion");
    let layouts = &app.config().media.layouts;
    let notification = if is_binary { None } else { notifications::parse(content_type, body, layouts, now, &check) };
    let is_notification = notification.is_some();
    let parsed = notification.unwrap_or_else(|| cloudevents::parse(content_type, headers, body, now, &check));
    let parsed = parsed.map_err(|refused| {
        let kind = match &refused {
            Refused::UnsupportedMediaType => Kind::UnsupportedMediaType,
            Refused::TooManyEvents => Kind::ContentTooLarge,
        };
        Problem::new(kind, refused.to_string())
    })?;
    match forbidden.get() {
        // Footage of somebody else is refused as such, whether or not other events are faulty.
        Some(error) if !is_lenient => Err(error.into()),
        _ => Ok((is_notification, parsed)),
    }
}

/// Media must lie where this caller may have it read from.
fn check_media(app: &App, event: &Event, is_trusted: bool) -> Result<(), Objection> {
    let EventKind::Available(available) = &event.kind else { return Ok(()) };
    if let Some(key) = &available.credentials_key {
        let config = app.config();
        let known = config.credentials.get(&**key);
        if !known.is_some_and(|credential| is_trusted || credential.users.contains(&event.user)) {
            return Err(Objection::new("/data/credentials_key", "names no credentials that this user may use"));
        }
    }
    let place = app.engine.policy.check(event.user, is_trusted, &available.media_url);
    place.map(|_| ()).map_err(|refused| Objection::new("/data/media_url", refused.detail))
}
