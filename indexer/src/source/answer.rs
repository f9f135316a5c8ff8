//! What a server's answer to a request for bytes says: its status as a fault, which version it is of, which bytes it
//! holds; and reading its body under a limit. A server is believed in nothing that can be checked.

use std::ops::Range;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt};
use http::header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};
use stills_model::fault::{Fault, FaultKind};
use tokio::time::Instant;

use super::client::{self, Pace};

/// How much of an error's body is looked at for its code.
const ERROR_BODY_MAX: usize = 4096;

/// A body as it comes.
pub(super) type Body = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

/// A good answer whose body is still to be read.
pub(super) struct Answer {
    pub(super) version: Version,
    /// Bytes of the whole media; none where the server does not know.
    pub(super) total: Option<u64>,
    /// Which of them the body holds, where it says so.
    pub(super) range: Option<Range<u64>>,
    pub(super) body: Body,
    /// How fast the body has to come.
    pub(super) pace: Pace,
}

/// What tells a state of the media from others, as far as the server says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) etag: Option<String>,
    pub(super) modified: Option<String>,
}

impl Version {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { etag: text(ETAG), modified: text(LAST_MODIFIED) }
    }

    /// Whether both may be of the same state: entity tags decide where both have one, else dates.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        match (&self.etag, &other.etag) {
            (Some(one), Some(other)) => one == other,
            _ => self.modified.is_none() || other.modified.is_none() || self.modified == other.modified,
        }
    }

    /// The entity tag, if it is a strong one: only those may stand in `If-Match`.
    pub(super) fn strong(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| etag.starts_with('"'))
    }
}

/// Lets answers pass that hold what was asked for, and makes faults of all others.
///
/// # Errors
/// `Gone`, `Changed` or `Unreadable` by the status.
pub(super) async fn check_status(mut response: reqwest::Response, is_ranged: bool) -> Result<reqwest::Response, Fault> {
    let unreadable = |detail: String| Err(Fault::new(FaultKind::Unreadable, detail));
    match response.status() {
        StatusCode::OK if is_ranged => unreadable("the media's server does not answer requests for ranges".to_owned()),
        StatusCode::OK | StatusCode::PARTIAL_CONTENT if is_encoded(response.headers()) => {
            unreadable("the media's server sends it compressed".to_owned())
        }
        StatusCode::PARTIAL_CONTENT if is_ranged => Ok(response),
        StatusCode::OK => Ok(response),
        // As with a disk that is not mounted: its recordings have not disappeared.
        StatusCode::NOT_FOUND | StatusCode::GONE if names_no_bucket(&mut response).await => {
            unreadable("the media's bucket is not there".to_owned())
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            Err(Fault::new(FaultKind::Gone, "the media is no longer at its place"))
        }
        StatusCode::PRECONDITION_FAILED => Err(changed()),
        StatusCode::RANGE_NOT_SATISFIABLE => {
            Err(Fault::new(FaultKind::Changed, "the media is empty or shorter than it was"))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            unreadable("the media's server refuses access to it".to_owned())
        }
        status => unreadable(format!("the media's server answered with status {}", status.as_u16())),
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding.as_bytes() != b"identity")
}

/// Whether a 404 is about the bucket (S3, GCS) or container (Azure).
async fn names_no_bucket(response: &mut reqwest::Response) -> bool {
    let mut body = BytesMut::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= ERROR_BODY_MAX {
            break;
        }
    }
    let body = String::from_utf8_lossy(&body);
    ["<Code>NoSuchBucket</Code>", "<Code>ContainerNotFound</Code>"].iter().any(|code| body.contains(code))
}

impl Answer {
    /// What a checked response says. `wanted` is the range that was asked for.
    ///
    /// # Errors
    /// `Unreadable` when it holds other bytes than asked for.
    pub(super) fn of(response: reqwest::Response, wanted: Option<&Range<u64>>, pace: Pace) -> Result<Self, Fault> {
        let version = Version::of(response.headers());
        let (total, range) = match wanted {
            None => (response.content_length(), None),
            Some(wanted) => {
                let (range, total) = content_range(response.headers()).ok_or_else(wrong_range)?;
                if range.start != wanted.start || range.end > wanted.end {
                    return Err(wrong_range());
                }
                (total, Some(range))
            }
        };
        let body = futures_util::stream::try_unfold(response, |mut response| async {
            let chunk = response.chunk().await.map_err(|error| client::broken(&error))?;
            Ok(chunk.map(|chunk| (chunk, response)))
        });
        Ok(Self { version, total, range, body: Box::pin(body), pace })
    }
}

/// `bytes 0-99/1234`: the bytes, the end exclusive, and the total where it is known.
fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, Option<u64>)> {
    let (range, total) = headers.get(CONTENT_RANGE)?.to_str().ok()?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, end) = (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?.checked_add(1)?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse::<u64>().ok()?),
    };
    (first < end && total.is_none_or(|total| end <= total)).then_some((first..end, total))
}

fn wrong_range() -> Fault {
    Fault::new(FaultKind::Unreadable, "the media's server gave other bytes than were asked for")
}

pub(super) fn changed() -> Fault {
    Fault::new(FaultKind::Changed, "the media changed while it was read")
}

/// The body's next part, while it comes fast enough.
pub(super) struct Paced {
    body: Body,
    pace: Pace,
    began: Instant,
    /// Bytes so far.
    pub(super) so_far: u64,
}

impl Paced {
    pub(super) fn new(body: Body, pace: Pace) -> Self {
        Self { body, pace, began: Instant::now(), so_far: 0 }
    }

    /// # Errors
    /// `Unreadable` when the body is too slow or breaks off.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let chunk = self.body.try_next().await?;
        self.so_far += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let (elapsed, Pace { slow_start, rate_min, .. }) = (self.began.elapsed(), self.pace);
        let due = u128::from(rate_min) * elapsed.as_millis() / 1000;
        if chunk.is_some() && elapsed > slow_start && u128::from(self.so_far) < due {
            return Err(Fault::new(FaultKind::Unreadable, "the media's server is too slow"));
        }
        Ok(chunk)
    }
}

/// Reads a body that must hold exactly `len` bytes.
///
/// # Errors
/// `Unreadable` when it holds fewer or more, is too slow or breaks off.
pub(super) async fn collect(body: Body, pace: Pace, len: u32) -> Result<Bytes, Fault> {
    let mut body = Paced::new(body, pace);
    // Grows with what comes, not with what is announced.
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.next().await? {
        if body.so_far > u64::from(len) {
            return Err(wrong_range());
        }
        bytes.extend_from_slice(&chunk);
    }
    if bytes.len() == len as usize { Ok(bytes.freeze()) } else { Err(wrong_range()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expected: &Option<(Range<u64>, Option<u64>)>) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, header.parse().expect("header"));
        assert_eq!(content_range(&headers), *expected, "{header}");
    }

    #[test]
    fn content_ranges() {
        check("bytes 0-99/1234", &Some((0..100, Some(1234))));
        check("bytes 5-5/6", &Some((5..6, Some(6))));
        check("bytes 5-5/*", &Some((5..6, None)));
        for wrong in [
            "bytes 5-4/6",
            "bytes 0-6/6",
            "bytes */6",
            "bytes 0-18446744073709551615/*",
            "bytes -1-5/6",
            "0-5/6",
            "lines 0-5/6",
            "bytes 0-5",
            "bytes 0-5/x",
        ] {
            check(wrong, &None);
        }
    }

    #[test]
    fn versions_agree_by_tag_then_by_date() {
        let version = |etag: &str, modified: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Version { etag: some(etag), modified: some(modified) }
        };
        for (one, other, expected) in [
            (("", ""), ("", ""), true),
            (("\"a\"", "x"), ("\"a\"", "y"), true),
            (("\"a\"", "x"), ("\"b\"", "x"), false),
            (("W/\"a\"", ""), ("\"a\"", ""), false),
            (("\"a\"", "x"), ("", "x"), true),
            (("", "x"), ("", "y"), false),
            (("", "x"), ("", ""), true),
        ] {
            assert_eq!(version(one.0, one.1).agrees(&version(other.0, other.1)), expected, "{one:?} {other:?}");
        }
        assert_eq!(version("W/\"a\"", "").strong(), None);
        assert_eq!(version("\"a\"", "").strong(), Some("\"a\""));
    }
}
