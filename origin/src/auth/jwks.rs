//! Verification keys published at a URL. Fetched when needed and kept; never fetched once per request, whatever callers
//! send.
//!
//! 1. No set yet: fetch, and wait for it.
//! 2. A key id that the set lacks: fetch once, and wait for it.
//! 3. A set older than [`AGE_MAX_MS`]: go on with it, and fetch beside the request.
//!
//! Always: one fetch at a time, none within [`COOLDOWN_MS`] of the last for the same reason, and when a fetch fails the
//! last good set stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use reqwest::redirect::Policy;
use stills_indexer::clock::Clock;
use stills_model::time::Timestamp;
use tokio::sync::Mutex;
use url::{Host, Url};

use super::error::AuthError;
use super::keys::{JWKS_MAX_BYTES, KeySet};

/// How old a set may grow before it is fetched again.
pub(super) const AGE_MAX_MS: i64 = 600_000;

/// The least time between two fetches for the same reason: callers can name unknown keys as often as they like.
pub(super) const COOLDOWN_MS: i64 = 30_000;

/// The same while there is no set at all: an issuer that starts after us should not cost half a minute.
pub(super) const COOLDOWN_EMPTY_MS: i64 = 5_000;

/// A fetch from connecting to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a set is fetched. Each has its own cool-down, so that a key published just after a fetch is found at once.
#[derive(Clone, Copy)]
enum Reason {
    /// There is none.
    Empty,
    /// It is old.
    Age,
    /// It lacks a key id that a token names.
    UnknownKid,
}

impl Reason {
    fn cooldown_ms(self) -> i64 {
        match self {
            Self::Empty => COOLDOWN_EMPTY_MS,
            Self::Age | Self::UnknownKid => COOLDOWN_MS,
        }
    }
}

/// A set as it was fetched.
pub(super) struct FetchedKeys {
    pub(super) keys: KeySet,
    /// Grows with every set, so that what was verified with an older one can be told.
    pub(super) generation: u64,
    fetched_at: Timestamp,
}

/// The keys at one URL.
pub(super) struct RemoteKeys {
    url: Url,
    client: reqwest::Client,
    clock: Clock,
    current: ArcSwapOption<FetchedKeys>,
    /// Held while fetching.
    turn: Mutex<()>,
    /// Fetches that ended, well or not.
    fetches: AtomicU64,
    /// When the last fetch for want or age of a set began, and the last for an unknown key; `i64::MIN`: never.
    attempted_at_ms: AtomicI64,
    attempted_for_kid_at_ms: AtomicI64,
    expired: AtomicBool,
}

impl RemoteKeys {
    /// Checks the URL and prepares a client for it; fetches nothing.
    pub(super) fn new(url: &str, clock: Clock) -> Result<Arc<Self>, String> {
        let url = Url::parse(url).map_err(|error| format!("is not a URL: {error}"))?;
        let loopback = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            "http" => return Err("must be https, or http of a loopback address".into()),
            _ => return Err("must be https".into()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user name or a password: it is printed and logged".into());
        }
        // A redirect or a proxy from the environment would let someone else answer.
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(FETCH_TIMEOUT)
            .build()
            .map_err(|error| format!("no client for it: {error}"))?;
        Ok(Arc::new(Self {
            url,
            client,
            clock,
            current: ArcSwapOption::empty(),
            turn: Mutex::new(()),
            fetches: AtomicU64::new(0),
            attempted_at_ms: AtomicI64::new(i64::MIN),
            attempted_for_kid_at_ms: AtomicI64::new(i64::MIN),
            expired: AtomicBool::new(false),
        }))
    }

    /// The address, to see whether a reload changed it.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Has the set fetched again when it is next needed; until that succeeds it stays in use.
    pub(super) fn expire(&self) {
        self.expired.store(true, Ordering::Release);
        self.attempted_at_ms.store(i64::MIN, Ordering::Release);
    }

    /// The generation of the current set; 0 before the first.
    pub(super) fn generation(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |current| current.generation)
    }

    /// The set to verify a token that names `kid` with.
    pub(super) async fn keys(self: &Arc<Self>, kid: Option<&str>) -> Result<Arc<FetchedKeys>, AuthError> {
        let Some(current) = self.current.load_full() else {
            self.refresh(Reason::Empty).await;
            return self.current.load_full().ok_or(AuthError::KeysUnavailable);
        };
        if kid.is_some_and(|kid| !current.keys.knows(kid)) {
            self.refresh(Reason::UnknownKid).await;
            return Ok(self.current.load_full().unwrap_or(current));
        }
        let age_ms = self.clock.now().since_ms(current.fetched_at);
        // A clock set back makes the age negative: then it is unknown, and the set is old.
        let old = !(0..AGE_MAX_MS).contains(&age_ms) || self.expired.load(Ordering::Acquire);
        if old && !self.cooling(Reason::Age) {
            let this = Arc::clone(self);
            // Nobody waits: the set is good, and the next request sees the new one.
            drop(tokio::spawn(async move { this.refresh(Reason::Age).await }));
        }
        Ok(current)
    }

    /// Fetches, unless someone else did meanwhile or just before. Runs to its end though the asker goes away.
    async fn refresh(self: &Arc<Self>, reason: Reason) {
        let seen = self.fetches.load(Ordering::Acquire);
        // While cooling, a fetch that still runs is waited for; with none running there is nothing to wait for.
        if self.cooling(reason) && self.turn.try_lock().is_ok() {
            return;
        }
        let this = Arc::clone(self);
        let fetch = tokio::spawn(async move {
            let _turn = this.turn.lock().await;
            if this.fetches.load(Ordering::Acquire) == seen && !this.cooling(reason) {
                this.attempted(reason).store(this.clock.now().as_ms(), Ordering::Release);
                this.fetch_and_keep().await;
                this.fetches.fetch_add(1, Ordering::AcqRel);
            }
        });
        if fetch.await.is_err() {
            tracing::error!("fetching the verification keys was cut short");
        }
    }

    fn attempted(&self, reason: Reason) -> &AtomicI64 {
        match reason {
            Reason::Empty | Reason::Age => &self.attempted_at_ms,
            Reason::UnknownKid => &self.attempted_for_kid_at_ms,
        }
    }

    fn cooling(&self, reason: Reason) -> bool {
        let attempted_at_ms = self.attempted(reason).load(Ordering::Acquire);
        let since_ms = self.clock.now().as_ms().saturating_sub(attempted_at_ms);
        (0..reason.cooldown_ms()).contains(&since_ms)
    }

    async fn fetch_and_keep(&self) {
        match self.fetch().await {
            Ok(keys) => {
                let generation = self.generation() + 1;
                self.expired.store(false, Ordering::Release);
                self.current.store(Some(Arc::new(FetchedKeys { keys, generation, fetched_at: self.clock.now() })));
                tracing::info!(generation, "verification keys fetched");
            }
            Err(reason) => tracing::warn!(reason, "verification keys not fetched; the last good ones stay"),
        }
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        // `without_url`: an address may hold credentials, and this text is logged.
        let readable = |error: reqwest::Error| error.without_url().to_string();
        let request = self.client.get(self.url.clone()).header(http::header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(readable)?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("the answer was {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(readable)? {
            if body.len() + chunk.len() > JWKS_MAX_BYTES {
                return Err(format!("the answer is longer than {JWKS_MAX_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        KeySet::from_jwks(&body).map_err(str::to_owned)
    }
}
