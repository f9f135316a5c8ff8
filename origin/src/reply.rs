//! What a handler answers, and the one place where HTTP statuses are chosen.
//!
//! An error is a [`Problem`]: a closed [`Kind`] with a slug, a title and a status, and a public sentence. Nothing
//! internal (a path, an address, a stack) ever gets into one.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use stills_indexer::thumbs::ThumbError;
use stills_model::rendition::Format;

use crate::route;

mod of;

/// A response with its whole body.
pub(crate) type HttpResponse = Response<Full<Bytes>>;

/// NGINX heeds it only when it stands before `Cache-Control`.
pub(crate) const X_ACCEL_EXPIRES: HeaderName = HeaderName::from_static("x-accel-expires");

const AWS_ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// For how long NGINX may keep a 404 and a 415: what is missing may be there in a moment.
const NEGATIVE_AGE_S: u32 = 5;

/// The kinds of problem; each has a page under `/problems/{slug}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    InvalidParameters,
    InvalidEvents,
    InvalidToken,
    InsufficientScope,
    NotFound,
    Gap,
    NotRecorded,
    Deleted,
    MediaGone,
    MethodNotAllowed,
    ContentTooLarge,
    UnsupportedMediaType,
    UriTooLong,
    HeaderFieldsTooLarge,
    NotDecodable,
    BadRequest,
    UrlNotAllowed,
    UnknownCredentials,
    Internal,
    NoImage,
    MediaUnreadable,
    NotIndexed,
    Busy,
    Unavailable,
    Deadline,
    TooManyRequests,
}

impl Kind {
    /// Every kind, for the pages that explain them.
    pub(crate) const ALL: [Self; 26] = [
        Self::InvalidParameters,
        Self::InvalidEvents,
        Self::InvalidToken,
        Self::InsufficientScope,
        Self::NotFound,
        Self::Gap,
        Self::NotRecorded,
        Self::Deleted,
        Self::MediaGone,
        Self::MethodNotAllowed,
        Self::ContentTooLarge,
        Self::UnsupportedMediaType,
        Self::UriTooLong,
        Self::HeaderFieldsTooLarge,
        Self::NotDecodable,
        Self::BadRequest,
        Self::UrlNotAllowed,
        Self::UnknownCredentials,
        Self::Internal,
        Self::NoImage,
        Self::MediaUnreadable,
        Self::NotIndexed,
        Self::Busy,
        Self::Unavailable,
        Self::Deadline,
        Self::TooManyRequests,
    ];

    /// Status, slug, title and whole explanation of each kind: the only table of statuses.
    pub(crate) const fn facts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidParameters => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-parameters", "Parameters are outside their limits")
            }
            Self::InvalidEvents => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-events", "Events cannot be taken"),
            Self::InvalidToken => (StatusCode::UNAUTHORIZED, "invalid-token", "A valid credential is needed"),
            Self::InsufficientScope => (StatusCode::FORBIDDEN, "insufficient-scope", "The credential may not do this"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is nothing at this path"),
            Self::Gap => (StatusCode::NOT_FOUND, "gap", "Nothing is recorded at this instant"),
            Self::NotRecorded => (StatusCode::NOT_FOUND, "not-recorded", "This device has recorded nothing"),
            Self::Deleted => (StatusCode::NOT_FOUND, "deleted", "The recording is deleted"),
            Self::MediaGone => (StatusCode::NOT_FOUND, "media-gone", "The recording's media is gone"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here")
            }
            Self::ContentTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "content-too-large", "The body is too large"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The content type is not taken here")
            }
            Self::UriTooLong => (StatusCode::URI_TOO_LONG, "uri-too-long", "The URI is too long"),
            Self::HeaderFieldsTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "header-fields-too-large", "The headers are too large")
            }
            Self::NotDecodable => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-decodable", "The media holds no picture that can be decoded")
            }
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad-request", "The request cannot be understood"),
            Self::UrlNotAllowed => (StatusCode::FORBIDDEN, "url-not-allowed", "This URL is not fetched here"),
            Self::UnknownCredentials => (StatusCode::NOT_FOUND, "unknown-credentials", "There are no such credentials"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something is wrong on our side"),
            Self::NoImage => (StatusCode::INTERNAL_SERVER_ERROR, "no-image", "There is no image to show"),
            Self::MediaUnreadable => (StatusCode::BAD_GATEWAY, "media-unreadable", "The media cannot be read"),
            Self::NotIndexed => (StatusCode::SERVICE_UNAVAILABLE, "not-indexed", "The recording is not indexed yet"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Too much is asked at once"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The service is not available"),
            Self::Deadline => (StatusCode::GATEWAY_TIMEOUT, "deadline", "The picture took too long to make"),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests"),
        }
    }

    /// After how many seconds to try again, where that helps.
    const fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::NotIndexed | Self::Unavailable => Some(5),
            Self::Busy | Self::TooManyRequests => Some(1),
            _ => None,
        }
    }

    /// For how long NGINX may keep it; none: not at all.
    const fn negative_age_s(self) -> Option<u32> {
        match self {
            Self::Gap | Self::NotRecorded | Self::Deleted | Self::MediaGone | Self::NotDecodable => {
                Some(NEGATIVE_AGE_S)
            }
            _ => None,
        }
    }
}

/// An error on the wire: RFC 9457.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
    members: Vec<(&'static str, Value)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), members: Vec::new(), headers: Vec::new() }
    }

    /// Adds an extension member.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: Value) -> Self {
        self.members.push((name, value));
        self
    }

    /// Adds a header.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// Every fault of a request's parameters.
    pub(crate) fn of_parameters(faults: &[route::Fault]) -> Self {
        let list: Vec<Value> =
            faults.iter().map(|fault| json!({"parameter": fault.parameter, "detail": fault.detail})).collect();
        let detail: Vec<String> = faults.iter().map(|fault| format!("{} {}", fault.parameter, fault.detail)).collect();
        Self::new(Kind::InvalidParameters, detail.join("; ")).with("errors", Value::Array(list))
    }

    /// The same fault as another kind, for calls whose interface demands another status.
    #[must_use]
    pub(crate) fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn into_response(self, instance: &str) -> HttpResponse {
        let (status, slug, title) = self.kind.facts();
        let mut body = json!({
            "type": format!("/problems/{slug}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
            "instance": instance,
        });
        for (name, value) in self.members {
            body[name] = value;
        }
        let mut headers = HeaderMap::new();
        match self.kind.negative_age_s() {
            Some(age_s) => {
                headers.insert(X_ACCEL_EXPIRES, age_s.into());
                insert(&mut headers, header::CACHE_CONTROL, &format!("private, max-age={age_s}"));
            }
            None => insert(&mut headers, header::CACHE_CONTROL, "no-store"),
        }
        if let Some(seconds) = self.kind.retry_after_s() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.headers);
        respond(status, headers, body.to_string().into())
    }
}

/// The media type of a picture.
pub(crate) const fn content_type(format: Format) -> &'static str {
    match format {
        Format::Jpeg => "image/jpeg",
        Format::Png => "image/png",
        Format::WebP => "image/webp",
    }
}

/// A header whose value is known to be printable; anything else is left out.
pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn respond(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> HttpResponse {
    // The first of all headers: NGINX heeds it only before `Cache-Control`.
    let is_first = headers.keys().next() == Some(&X_ACCEL_EXPIRES);
    if let Some(expires) = headers.get(X_ACCEL_EXPIRES).filter(|_| !is_first).cloned() {
        let mut sorted = HeaderMap::with_capacity(headers.len());
        sorted.insert(X_ACCEL_EXPIRES, expires);
        let others = headers.iter().filter(|(name, _)| *name != X_ACCEL_EXPIRES);
        for (name, value) in others {
            sorted.append(name, value.clone());
        }
        headers = sorted;
    }
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The errors of an AWS interface, by the names that its SDKs know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exception {
    InvalidArgument,
    Validation,
    ClientLimitExceeded,
    NotAuthorized,
    ResourceNotFound,
    InternalFailure,
    ServiceUnavailable,
}

impl Exception {
    const fn facts(self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidArgument => (StatusCode::BAD_REQUEST, "InvalidArgumentException"),
            Self::Validation => (StatusCode::BAD_REQUEST, "ValidationException"),
            Self::ClientLimitExceeded => (StatusCode::BAD_REQUEST, "ClientLimitExceededException"),
            Self::NotAuthorized => (StatusCode::UNAUTHORIZED, "NotAuthorizedException"),
            Self::ResourceNotFound => (StatusCode::NOT_FOUND, "ResourceNotFoundException"),
            Self::InternalFailure => (StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure"),
            Self::ServiceUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        }
    }
}

/// An error as an AWS SDK reads it: a name in a header, a sentence in the body.
#[derive(Debug)]
pub(crate) struct AwsError {
    pub(crate) exception: Exception,
    pub(crate) message: String,
}

impl AwsError {
    pub(crate) fn new(exception: Exception, message: impl Into<String>) -> Self {
        Self { exception, message: message.into() }
    }
}

impl From<Problem> for AwsError {
    fn from(problem: Problem) -> Self {
        let exception = match problem.kind {
            Kind::Busy | Kind::TooManyRequests => Exception::ClientLimitExceeded,
            Kind::Internal => Exception::InternalFailure,
            kind if kind.facts().0.is_server_error() => Exception::ServiceUnavailable,
            _ => Exception::InvalidArgument,
        };
        Self::new(exception, problem.detail)
    }
}

impl From<ThumbError> for AwsError {
    fn from(error: ThumbError) -> Self {
        Problem::from(error).into()
    }
}

/// The answers of the jobs interface, which carry their status in the body too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobAnswer {
    Done,
    Accepted,
    Invalid,
    Unauthorized,
    Unknown,
    UnsupportedMediaType,
    Full,
    Failed,
}

impl JobAnswer {
    const fn status(self) -> StatusCode {
        match self {
            Self::Done => StatusCode::OK,
            Self::Accepted => StatusCode::ACCEPTED,
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Full => StatusCode::TOO_MANY_REQUESTS,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The number in the body.
    pub(crate) const fn code(self) -> u16 {
        self.status().as_u16()
    }
}

/// A success.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    content_type: Option<&'static str>,
    headers: HeaderMap,
    body: Bytes,
}

/// Headers of a picture, and those that every answer gets: room for them is made once.
const HEADERS_USUAL: usize = 12;

impl Reply {
    fn new(status: StatusCode, content_type: Option<&'static str>, body: Bytes) -> Self {
        Self { status, content_type, headers: HeaderMap::with_capacity(HEADERS_USUAL), body }
    }

    /// 200 with a body.
    pub(crate) fn ok(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::OK, Some(content_type), body.into())
    }

    /// 202 with JSON.
    pub(crate) fn accepted(body: &Value) -> Self {
        Self::new(StatusCode::ACCEPTED, Some("application/json"), body.to_string().into())
    }

    /// 201 without a body: what was put is there, and was not before.
    pub(crate) fn created() -> Self {
        Self::new(StatusCode::CREATED, None, Bytes::new())
    }

    /// 204.
    pub(crate) fn nothing() -> Self {
        Self::new(StatusCode::NO_CONTENT, None, Bytes::new())
    }

    /// 304: what the client has is still right.
    pub(crate) fn not_modified() -> Self {
        Self::new(StatusCode::NOT_MODIFIED, None, Bytes::new())
    }

    /// 503 with JSON: readiness.
    pub(crate) fn not_ready(body: &Value) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Some("application/json"), body.to_string().into())
    }

    /// An error of an AWS interface.
    pub(crate) fn aws_error(error: &AwsError) -> Self {
        let (status, name) = error.exception.facts();
        let body = json!({"Message": error.message}).to_string();
        let reply = Self::new(status, Some("application/json"), body.into());
        reply.with(AWS_ERROR_TYPE, name).with(header::CACHE_CONTROL, "no-store")
    }

    /// An answer of the jobs interface.
    pub(crate) fn job(answer: JobAnswer, body: &Value) -> Self {
        let reply = Self::new(answer.status(), Some("application/json"), body.to_string().into());
        reply.with(header::CACHE_CONTROL, "no-store")
    }

    /// A problem in the words of the jobs interface.
    pub(crate) fn job_problem(problem: &Problem, job_id: &str) -> Self {
        let status = problem.kind.facts().0;
        let body = json!({"code": status.as_u16(), "message": problem.detail, "job_id": job_id});
        let reply = Self::new(status, Some("application/json"), body.to_string().into());
        reply.with(header::CACHE_CONTROL, "no-store")
    }

    /// Adds a header.
    #[must_use]
    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        insert(&mut self.headers, name, value);
        self
    }

    /// Adds a header whose value is made already.
    #[must_use]
    pub(crate) fn with_value(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a header whose text is not needed any more.
    #[must_use]
    pub(crate) fn with_text(mut self, name: HeaderName, text: String) -> Self {
        if let Ok(value) = HeaderValue::try_from(text) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(crate) fn into_response(mut self) -> HttpResponse {
        if let Some(content_type) = self.content_type {
            self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        respond(self.status, self.headers, self.body)
    }
}

#[cfg(test)]
mod tests;
