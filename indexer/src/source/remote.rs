//! Media over the network: ranged reads of one object, pinned to the state in which its first answer showed it.
//!
//! A place is a URL behind the guarded client or an object of a store. Opening costs one request, for the first bytes:
//! its answer also says how long the media is, and the scanner asks for those bytes first. Whoever knows the length
//! already (a render of what was indexed) opens without a request. Never writes to the place.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::header::{ACCEPT_ENCODING, IF_MATCH, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::UserId;
use stills_model::keyframe::ByteRange;
use tokio::sync::Semaphore;
use url::Url;

use super::answer::{self, Answer, Version, changed};
use super::client::{Ask, Client, Pace};
use super::connector::{Guarded, fault_of};
use super::credentials::Credentials;
use super::policy::{MediaPolicy, Place as PolicyPlace};
use super::{READ_BYTES_MAX, READ_DEADLINE};

/// What opening reads: the tables of most recordings, or the way to them.
const HEAD_LEN: u32 = 64 * 1024;

/// Where one object lies and how it is asked for.
pub(super) enum Place {
    /// Behind plain HTTP.
    Http {
        client: Client,
        url: Url,
        credentials: Option<HeaderValue>,
        /// Asked about each redirect.
        policy: Arc<MediaPolicy>,
        user: UserId,
    },
    /// In an object store.
    Store { store: Arc<dyn ObjectStore>, path: Path, pace: Pace },
}

impl Place {
    /// Where a URL that the policy allows points to, with the credentials that go with it.
    ///
    /// # Errors
    /// `Forbidden` when the credentials are not for it, or the URL has a query that a store would not heed.
    pub(super) fn of(
        url: Url,
        user: UserId,
        policy: &Arc<MediaPolicy>,
        client: &Client,
        credentials: &Credentials,
        credentials_key: Option<&str>,
    ) -> Result<Self, Fault> {
        let held = credentials.choose(&url, credentials_key)?;
        let (client, policy) = (client.clone(), Arc::clone(policy));
        let Some(held) = held.filter(|_| !url.scheme().starts_with("http")) else {
            let credentials = held.and_then(super::credentials::Held::authorization);
            return Ok(Self::Http { client, url, credentials, policy, user });
        };
        if url.query().is_some() {
            return Err(refused("the URL of an object must have no query"));
        }
        let bucket = url.host_str().unwrap_or_default();
        let path = Path::from_url_path(url.path()).map_err(|_| refused("the object's name cannot be used"))?;
        let pace = client.pace();
        Ok(Self::Store { store: held.store(bucket, Guarded(client))?, path, pace })
    }

    /// Asks for a range, or for all.
    pub(super) async fn get(&self, wanted: Option<Range<u64>>, if_match: Option<&str>) -> Result<Answer, Fault> {
        match self {
            Self::Http { client, url, credentials, policy, user } => {
                let ask = ask(url.clone(), credentials.clone(), wanted.as_ref(), if_match);
                let allows = |hop: &Url| {
                    let place = policy.check_stored(*user, hop.as_str());
                    matches!(place, Ok(PolicyPlace::Remote { .. }))
                };
                let response = client.send(ask, Some(&allows)).await?;
                Answer::of(answer::check_status(response, wanted.is_some()).await?, wanted.as_ref(), client.pace())
            }
            Self::Store { store, path, pace } => {
                let range = wanted.clone().map(GetRange::Bounded);
                let options = GetOptions { range, if_match: if_match.map(str::to_owned), ..GetOptions::default() };
                let result = store.get_opts(path, options).await.map_err(|error| fault_of(&error))?;
                let modified = Some(result.meta.last_modified.to_string());
                Ok(Answer {
                    version: Version { etag: result.meta.e_tag.clone(), modified },
                    total: Some(result.meta.size),
                    range: wanted.map(|_| result.range.clone()),
                    body: Box::pin(result.into_stream().map_err(|error| fault_of(&error))),
                    pace: *pace,
                })
            }
        }
    }
}

/// The URL may not be read.
pub(super) fn refused(detail: &str) -> Fault {
    Fault::new(FaultKind::Forbidden, detail)
}

fn ask(url: Url, credentials: Option<HeaderValue>, wanted: Option<&Range<u64>>, if_match: Option<&str>) -> Ask {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let range = wanted.map(|wanted| format!("bytes={}-{}", wanted.start, wanted.end.saturating_sub(1)));
    for (name, value) in [(RANGE, range.as_deref()), (IF_MATCH, if_match)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    Ask { method: Method::GET, url, headers, credentials, body: Bytes::new() }
}

/// Open media over the network, read range by range.
pub(super) struct RemoteMedia {
    place: Place,
    /// A growing one changes while it is read, and only gets longer.
    is_growing: bool,
    len: u64,
    /// The first bytes, from opening.
    head: Bytes,
    pinned: Mutex<Option<Pin>>,
    /// Requests that may still begin, all media together.
    requests: Arc<Semaphore>,
}

/// What the first answer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pin {
    version: Version,
    total: Option<u64>,
}

impl std::fmt::Debug for RemoteMedia {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteMedia").field("len", &self.len).field("pinned", &self.pinned).finish_non_exhaustive()
    }
}

impl RemoteMedia {
    /// Opens media by reading its head.
    ///
    /// # Errors
    /// `Gone`, `Unreadable`, `Forbidden`, `Busy`.
    pub(super) async fn open(place: Place, is_growing: bool, requests: Arc<Semaphore>) -> Result<Self, Fault> {
        let mut media = Self::assumed(place, is_growing, 0, requests);
        let (head, total) = in_time(media.get(0..u64::from(HEAD_LEN))).await?;
        let unsaid = || Fault::new(FaultKind::Unreadable, "the media's server does not say how long it is");
        (media.head, media.len) = (head, total.ok_or_else(unsaid)?);
        Ok(media)
    }

    /// Media that was indexed with `len` bytes; nothing is asked until it is read.
    pub(super) fn assumed(place: Place, is_growing: bool, len: u64, requests: Arc<Semaphore>) -> Self {
        Self { place, is_growing, len, head: Bytes::new(), pinned: Mutex::default(), requests }
    }

    /// Media that must still be what it was when `pin` was taken of it; nothing is asked until it is read.
    pub(super) fn pinned(place: Place, len: u64, pin: Pin, requests: Arc<Semaphore>) -> Self {
        let pinned = Mutex::new(Some(pin));
        Self { place, is_growing: false, len, head: Bytes::new(), pinned, requests }
    }

    /// The state that it was opened in, where the server says what tells it from others.
    pub(super) fn pin(&self) -> Option<Pin> {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pinned.filter(|pin| pin.version.etag.is_some() || pin.version.modified.is_some())
    }

    /// The entity tag of the state that it was opened in.
    pub(super) fn etag(&self) -> Option<String> {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.as_ref().and_then(|pin| pin.version.etag.clone())
    }

    /// Bytes when it was opened, or indexed.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads exactly one range.
    ///
    /// # Errors
    /// `Changed` past the media's end and when it is not what it was, `TooLarge`, `Gone`, `Unreadable`, `Forbidden`,
    /// `Busy`.
    pub(super) async fn read(&self, range: ByteRange) -> Result<Bytes, Fault> {
        let ByteRange { offset, len } = range;
        if u64::from(len) > READ_BYTES_MAX {
            return Err(super::too_large());
        }
        if len == 0 {
            return Ok(Bytes::new());
        }
        let in_head = usize::try_from(offset).ok().and_then(|from| Some((from, from.checked_add(len as usize)?)));
        if let Some((from, to)) = in_head.filter(|(_, to)| *to <= self.head.len()) {
            return Ok(self.head.slice(from..to));
        }
        let end = offset.checked_add(len.into()).ok_or_else(super::shorter)?;
        let (bytes, _) = in_time(self.get(offset..end)).await?;
        if bytes.len() == len as usize { Ok(bytes) } else { Err(super::shorter()) }
    }

    /// Asks for a range and reads what the answer says it holds: less than asked for only at the media's end.
    async fn get(&self, wanted: Range<u64>) -> Result<(Bytes, Option<u64>), Fault> {
        let _permit = self.requests.try_acquire().map_err(|_| super::busy())?;
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let if_match = pinned.as_ref().and_then(|pin| pin.version.strong()).filter(|_| !self.is_growing);
        let answer = self.place.get(Some(wanted.clone()), if_match).await?;
        let range = answer.range.clone().unwrap_or(wanted.clone());
        self.compare(&answer)?;
        // An answer that stops early without being at the end is no answer.
        if range.end < wanted.end && answer.total != Some(range.end) {
            let detail = "the media's server gave fewer bytes than were asked for";
            return Err(Fault::new(FaultKind::Unreadable, detail));
        }
        let len = u32::try_from(range.end.saturating_sub(range.start)).map_err(|_| super::too_large())?;
        Ok((answer::collect(answer.body, answer.pace, len).await?, answer.total))
    }

    /// Pins the first answer's state; later ones must agree.
    fn compare(&self, answer: &Answer) -> Result<(), Fault> {
        if self.is_growing {
            return Ok(());
        }
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pin) = &*pinned else {
            *pinned = Some(Pin { version: answer.version.clone(), total: answer.total });
            return Ok(());
        };
        let same_len = pin.total.is_none() || answer.total.is_none() || pin.total == answer.total;
        if same_len && pin.version.agrees(&answer.version) { Ok(()) } else { Err(changed()) }
    }
}

/// Bounds a read, attempts and pauses included.
async fn in_time<T>(read: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    bounded(READ_DEADLINE, read).await
}

pub(super) async fn bounded<T>(deadline: Duration, read: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(deadline, read).await.unwrap_or_else(|_| Err(super::late()))
}
