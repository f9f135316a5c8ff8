//! Media that a caller names by URL: the rules of `[fetch]`, the credentials that the caller may name, and the same
//! guarded client, pinning and ranged reads as for recordings. Never a local file, and never fetched whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use stills_model::fault::Fault;
use stills_model::id::UserId;
use tokio::sync::Semaphore;
use url::Url;

use super::client::Client;
use super::credentials::Credentials;
use super::policy::{MediaPolicy, Place, Refused};
use super::remote::{self, Pin, RemoteMedia};
use super::{Body, Media};
use crate::threads::Threads;

/// Requests for media that callers named at once, all callers together.
const REQUESTS_MAX: usize = 64;

/// The state of media when it was first read: entity tag or date, and length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    pin: Pin,
    len: u64,
}

/// Reads what callers name.
#[derive(Debug)]
pub struct Fetch {
    policy: Arc<MediaPolicy>,
    client: Client,
    credentials: ArcSwap<Credentials>,
    requests: Arc<Semaphore>,
    threads: Arc<Threads>,
}

impl Fetch {
    /// What `policy` ([`MediaPolicy::of_fetch`]) allows, through `client`.
    pub fn new(policy: MediaPolicy, client: Client, credentials: Credentials, threads: Arc<Threads>) -> Self {
        let requests = Arc::new(Semaphore::new(REQUESTS_MAX));
        Self { policy: Arc::new(policy), client, credentials: ArcSwap::from_pointee(credentials), requests, threads }
    }

    /// Whether a user may have this URL fetched, as far as its text tells; asks nothing of the network. What its name
    /// leads to is checked when it is dialled.
    ///
    /// # Errors
    /// Why not; public text.
    pub fn check(&self, user: UserId, url: &str) -> Result<(), Refused> {
        self.place(user, url).map(|_| ())
    }

    fn place(&self, user: UserId, url: &str) -> Result<Url, Refused> {
        // Whoever wrote `[fetch]` meant callers: an entry without the user's id serves all of them.
        let Place::Remote { url } = self.policy.check(user, true, url)? else {
            return Err("a file is never fetched: name http, https, s3, gs or az".into());
        };
        if url.scheme().starts_with("http") {
            self.client.check_url(&url).map_err(|refused| Refused { detail: refused.to_string() })?;
        }
        Ok(url)
    }

    /// Whether the user may name these credentials.
    pub fn has_credentials(&self, user: UserId, key: &str) -> bool {
        self.credentials.load().of_user(user).has(key)
    }

    /// Replaces the credentials; media that is open keeps those it was opened with.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.credentials.store(Arc::new(credentials));
    }

    /// Opens media by reading its head.
    ///
    /// # Errors
    /// `Forbidden` by policy, guard or credentials, `Gone`, `Unreadable` (also without ranges), `Busy`.
    pub async fn open(&self, user: UserId, url: &str, key: Option<&str>) -> Result<Media, Fault> {
        let place = self.remote_place(user, url, key)?;
        let media = RemoteMedia::open(place, false, Arc::clone(&self.requests)).await?;
        Ok(self.media(media))
    }

    /// Opens media that must still be as it was; that costs no request, and shows when it is read.
    ///
    /// # Errors
    /// `Forbidden` by policy or credentials.
    pub fn open_pinned(&self, user: UserId, url: &str, key: Option<&str>, pinned: &Pinned) -> Result<Media, Fault> {
        let place = self.remote_place(user, url, key)?;
        let Pinned { pin, len } = pinned.clone();
        Ok(self.media(RemoteMedia::pinned(place, len, pin, Arc::clone(&self.requests))))
    }

    fn remote_place(&self, user: UserId, url: &str, key: Option<&str>) -> Result<remote::Place, Fault> {
        let url = self.place(user, url).map_err(|refused| remote::refused(&refused.detail))?;
        let own = self.credentials.load().of_user(user);
        remote::Place::of(url, user, &self.policy, &self.client, &own, key)
    }

    fn media(&self, media: RemoteMedia) -> Media {
        Media { body: Body::Remote(Arc::new(media)), threads: Arc::clone(&self.threads) }
    }
}

impl Media {
    /// The state that it was opened in, where its server says what tells that from others.
    pub fn pinned(&self) -> Option<Pinned> {
        match &self.body {
            Body::Remote(media) => media.pin().map(|pin| Pinned { pin, len: media.len() }),
            Body::File(_) | Body::Whole(_) => None,
        }
    }
}
