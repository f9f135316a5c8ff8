//! The one HTTP client for places that strangers may name: media, and what else callers point at.
//!
//! 1. each URL is checked by the [`Guard`], redirects included, before anything is sent;
//! 2. a name is resolved once, its forbidden addresses are left out, and only what is left is dialled;
//! 3. no proxy is taken from the environment (it would resolve for us), no redirect is followed by the library;
//! 4. a redirect goes on only where the caller allows it, never from https to http, without the credentials once
//!    scheme, host or port differ;
//! 5. connecting, silence, the number of attempts and the whole are bounded.
//!
//! Never interprets what a body holds; a fault never names an address.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use stills_model::fault::{Fault, FaultKind};
use url::Url;

use super::guard::{FORBIDDEN_ADDRESS, Forbidden, Guard};

/// How fast a server has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// A host that does not take a connection in this time is not there.
    pub connect_max: Duration,
    /// The longest silence, before an answer and within it.
    pub silence_max: Duration,
    /// For how long a body may come more slowly than `rate_min`.
    pub slow_start: Duration,
    /// The slowest that a body may come after that, its beginning counted, in bytes a second: a server that drips
    /// must not hold a read for its whole deadline.
    pub rate_min: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect_max: Duration::from_secs(3),
            silence_max: Duration::from_secs(10),
            slow_start: Duration::from_secs(5),
            rate_min: 16 * 1024,
        }
    }
}

/// The most redirects of one request.
const HOPS_MAX: usize = 3;

/// The most attempts at a request that the server fails on.
const ATTEMPTS_MAX: u32 = 3;

/// The pause before the second attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Idle connections kept for each host.
const IDLE_MAX: usize = 16;

/// Resolves a name: the system's way, or a test's own.
pub type Lookup = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync>;

/// What to ask a server.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The method; only `GET` and `HEAD` are tried again.
    pub method: Method,
    /// Where.
    pub url: Url,
    /// Without credentials.
    pub headers: HeaderMap,
    /// The value of `Authorization`, for the first URL's scheme, host and port alone.
    pub credentials: Option<HeaderValue>,
    /// What to send with it.
    pub body: bytes::Bytes,
}

/// Whether a redirect may lead to a URL.
pub type HopCheck<'a> = &'a (dyn Fn(&Url) -> bool + Send + Sync);

/// The guarded client. Cloning is cheap; clones share the connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    guard: Arc<Guard>,
    pace: Pace,
}

impl Client {
    /// A client that reaches what the guard lets it, resolving names the system's way.
    ///
    /// # Errors
    /// When the system's trusted certificates cannot be read.
    pub fn new(guard: Guard) -> io::Result<Self> {
        Self::paced(guard, Pace::default())
    }

    /// The same at another pace.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn paced(guard: Guard, pace: Pace) -> io::Result<Self> {
        Self::with(guard, Arc::new(|name| Box::pin(system_lookup(name))), pace)
    }

    /// The same with another way to resolve names and another pace.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with(guard: Guard, lookup: Lookup, pace: Pace) -> io::Result<Self> {
        let guard = Arc::new(guard);
        let resolver = GuardedResolver { guard: Arc::clone(&guard), lookup };
        let http = builder(pace).dns_resolver(Arc::new(resolver)).build().map_err(io::Error::other)?;
        Ok(Self { http, guard, pace })
    }

    /// Checks what a URL says by itself, as [`Guard::check_url`].
    ///
    /// # Errors
    /// Why it must not be reached.
    pub fn check_url(&self, url: &Url) -> Result<(), Forbidden> {
        self.guard.check_url(url)
    }

    /// How fast a body has to come.
    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    /// Sends a request and gives the answer's head; its body is still to be read. Answers of 5xx to `GET` and `HEAD`
    /// are asked for again, a few times. Redirects are followed where `hop_check` allows, and are answers without it.
    ///
    /// # Errors
    /// `Forbidden` by the guard or for a redirect that may not be followed, `Unreadable` when the server cannot be
    /// reached or breaks off.
    pub async fn send(&self, ask: Ask, hop_check: Option<HopCheck<'_>>) -> Result<reqwest::Response, Fault> {
        let is_repeatable = matches!(ask.method, Method::GET | Method::HEAD);
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let answer = self.follow(ask.clone(), hop_check).await?;
            if !answer.status().is_server_error() || !is_repeatable || attempt == ATTEMPTS_MAX {
                return Ok(answer);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(Fault::new(FaultKind::Internal, "a request was never sent"))
    }

    async fn follow(&self, mut ask: Ask, hop_check: Option<HopCheck<'_>>) -> Result<reqwest::Response, Fault> {
        for _ in 0..=HOPS_MAX {
            let answer = self.send_once(&ask).await?;
            let (Some(allows), true) = (hop_check, is_redirect(answer.status())) else { return Ok(answer) };
            let next = next_url(&ask.url, answer.headers().get(LOCATION))?;
            if !allows(&next) {
                return Err(forbidden("the URL redirects to a place that the configuration does not allow"));
            }
            if next.origin() != ask.url.origin() {
                ask.credentials = None;
            }
            ask.url = next;
        }
        Err(Fault::new(FaultKind::Unreadable, format!("the URL redirects more than {HOPS_MAX} times")))
    }

    async fn send_once(&self, ask: &Ask) -> Result<reqwest::Response, Fault> {
        self.guard.check_url(&ask.url).map_err(|refused| forbidden(refused.0))?;
        let mut request = self.http.request(ask.method.clone(), ask.url.clone()).headers(ask.headers.clone());
        if let Some(credentials) = &ask.credentials {
            let mut credentials = credentials.clone();
            credentials.set_sensitive(true);
            request = request.header(AUTHORIZATION, credentials);
        }
        if !ask.body.is_empty() {
            request = request.body(ask.body.clone());
        }
        request.send().await.map_err(|error| broken(&error))
    }
}

/// A client for the addresses of the machine's own identity, which the operator's configuration names and no caller
/// can: those are link-local, so the guard would refuse them.
pub(super) fn own_identity_client() -> io::Result<reqwest::Client> {
    let pace = Pace::default();
    builder(pace).timeout(pace.silence_max).build().map_err(io::Error::other)
}

fn builder(pace: Pace) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .referer(false)
        .http1_only()
        .connect_timeout(pace.connect_max)
        .read_timeout(pace.silence_max)
        .pool_max_idle_per_host(IDLE_MAX)
        .user_agent(concat!("stills/", env!("CARGO_PKG_VERSION")))
}

const fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads. The guard checks it before it is asked.
fn next_url(from: &Url, location: Option<&HeaderValue>) -> Result<Url, Fault> {
    let location = location.and_then(|value| value.to_str().ok());
    let mut next = location
        .and_then(|location| from.join(location).ok())
        .ok_or_else(|| Fault::new(FaultKind::Unreadable, "the server redirects without saying where to"))?;
    next.set_fragment(None);
    if from.scheme() == "https" && next.scheme() != "https" {
        return Err(forbidden("the URL redirects from https to an unprotected place"));
    }
    Ok(next)
}

fn forbidden(detail: &str) -> Fault {
    Fault::new(FaultKind::Forbidden, detail)
}

/// What went wrong on the way, without URL or address.
pub(super) fn broken(error: &reqwest::Error) -> Fault {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(refused) = inner.downcast_ref::<Forbidden>() {
            return forbidden(refused.0);
        }
        source = inner.source();
    }
    let detail = match error {
        _ if error.is_connect() && error.is_timeout() => "the media's server did not take the connection in time",
        _ if error.is_connect() => "the media's server cannot be reached",
        _ if error.is_timeout() => "the media's server fell silent",
        _ => "the media's server broke off",
    };
    Fault::new(FaultKind::Unreadable, detail)
}

async fn system_lookup(name: String) -> io::Result<Vec<IpAddr>> {
    let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
    Ok(addresses.map(|address| address.ip()).collect())
}

/// Resolves names and leaves out the addresses that must not be reached. What it gives is what is dialled, so that a
/// name cannot lead elsewhere between check and connection.
struct GuardedResolver {
    guard: Arc<Guard>,
    lookup: Lookup,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, looked_up) = (Arc::clone(&self.guard), (self.lookup)(name.as_str().to_owned()));
        Box::pin(async move {
            let mut addresses = looked_up.await?;
            addresses.retain(|address| !guard.is_forbidden(*address));
            if addresses.is_empty() {
                return Err(FORBIDDEN_ADDRESS.into());
            }
            // The port comes from the URL.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
