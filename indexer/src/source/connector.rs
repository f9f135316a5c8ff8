//! How `object_store` sends its requests: through the guarded client, or, for the machine's own identity alone, past
//! it. The crate is built without an HTTP client of its own, so that there is no third way.

use std::future::Future;
use std::pin::Pin;

use http::Response;
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use stills_model::fault::{Fault, FaultKind};
use url::Url;

use super::answer;
use super::client::{self, Ask, Client};

/// What a service's call gives.
type Calling<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

/// Connects stores through the guarded client.
#[derive(Debug, Clone)]
pub(super) struct Guarded(pub(super) Client);

impl HttpConnector for Guarded {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Guarded {
    fn call<'s, 'a>(&'s self, request: HttpRequest) -> Calling<'a>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move { self.ask(request).await.map_err(|fault| HttpError::new(HttpErrorKind::Unknown, fault)) })
    }
}

impl Guarded {
    /// Answers that are not a success become faults here, where status and headers are still at hand.
    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, Fault> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse::<Url>();
        let url = url.map_err(|_| Fault::new(FaultKind::Internal, "the object store's URL cannot be parsed"))?;
        let body = body.as_bytes().cloned().unwrap_or_default();
        let ask = Ask { method: parts.method, url, headers: parts.headers, credentials: None, body };
        let is_ranged = ask.headers.contains_key(http::header::RANGE);
        // A signature is for one host: no redirects.
        let response = self.0.send(ask, None).await?;
        answer::check_status(response, is_ranged).await.map(translated)
    }
}

/// Connects to the addresses of the machine's own identity, which the configuration names.
#[derive(Debug, Clone)]
pub(super) struct OwnIdentity(reqwest::Client);

impl OwnIdentity {
    pub(super) fn new() -> Result<Self, String> {
        client::own_identity_client().map(Self).map_err(|error| error.to_string())
    }
}

impl HttpConnector for OwnIdentity {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for OwnIdentity {
    fn call<'s, 'a>(&'s self, request: HttpRequest) -> Calling<'a>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.as_bytes().cloned().unwrap_or_default();
            let sent = self.0.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body).send();
            sent.await.map(translated).map_err(|error| HttpError::new(HttpErrorKind::Unknown, client::broken(&error)))
        })
    }
}

fn translated(response: reqwest::Response) -> HttpResponse {
    let broken = |error: reqwest::Error| HttpError::new(HttpErrorKind::Unknown, client::broken(&error));
    let (parts, body) = Response::<reqwest::Body>::from(response).into_parts();
    HttpResponse::from_parts(parts, HttpResponseBody::new(body.map_err(broken)))
}

/// The fault behind the crate's error: ours if one is in it, else what the crate objected to.
pub(super) fn fault_of(error: &object_store::Error) -> Fault {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(fault) = inner.downcast_ref::<Fault>() {
            return fault.clone();
        }
        source = inner.source();
    }
    tracing::debug!(%error, "an object store's answer was refused");
    Fault::new(FaultKind::Unreadable, "the media's store answered wrongly, or its credentials could not be had")
}
