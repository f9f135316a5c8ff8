//! Media: whether a URL may be read for a user, and ranged reads of what lies there.
//!
//! The path of a read:
//!
//! 1. [`policy`] checks the URL against `media.roots` and `media.allow_urls` and says where it points;
//! 2. [`mod@file`] opens a local file beneath its root, following no link, and pins it by its descriptor; or
//! 3. `remote` reads an object over the network, with the [`credentials`] that go with it, through the [`client`] that
//!    reaches only what the [`guard`] lets it, and pins it by what its first answer said; or
//! 4. `whole` fetches it with one request into a nameless file, where scan and prerender both find it;
//! 5. `coalesce` turns the ranges of keyframes into few reads;
//! 6. [`fetch`] reads what a caller named, under rules, credentials and limits of its own;
//! 7. `near` reads a keyframe that lies in memory already at once;
//! 8. [`crate::threads`] does what blocks on a few threads of their own, so that a slow disk stops no async thread.
//!
//! Nothing here decodes or interprets media.

mod answer;
pub mod client;
mod coalesce;
mod connector;
pub mod credentials;
pub mod fetch;
pub mod file;
pub mod guard;
pub mod listing;
mod near;
pub mod policy;
mod remote;
mod spelling;
mod whole;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::UserId;
use stills_model::keyframe::ByteRange;
use tokio::sync::Semaphore;
use url::Url;

use crate::threads::{CallError, Threads};
use client::Client;
use credentials::Credentials;
use file::MediaFile;
use policy::{MediaPolicy, Place};
use remote::RemoteMedia;
use whole::{Name, Spool, WholeMedia};

/// The most bytes that one call to [`Media::read`] or [`Media::read_ranges`] gives: what one message to a decoder
/// can carry.
pub const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The most ranges in one call to [`Media::read_ranges`]; a keyframe has one to a few dozen.
pub const RANGES_MAX: usize = 512;

/// A read that takes longer comes from a disk that is not well.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// Requests for media over the network at once; each holds its answer in memory.
const REQUESTS_MAX: usize = 256;

/// Does a read on a thread that may block.
async fn read_on<T: Send + 'static>(
    threads: &Threads,
    read: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    threads.call(READ_DEADLINE, read).await.unwrap_or_else(|error| {
        Err(match error {
            CallError::Full => busy(),
            CallError::Late => late(),
            CallError::Died => Fault::new(FaultKind::Internal, "reading the media failed inside"),
        })
    })
}

fn busy() -> Fault {
    Fault::new(FaultKind::Busy, "too many reads of media are waiting; try again soon")
}

fn late() -> Fault {
    Fault::new(FaultKind::Unreadable, "the media could not be read in time")
}

fn shorter() -> Fault {
    Fault::new(FaultKind::Changed, "the media is shorter than it was")
}

fn check_ranges(ranges: &[ByteRange]) -> Result<(), Fault> {
    let total: u64 = ranges.iter().map(|range| u64::from(range.len)).sum();
    if ranges.len() > RANGES_MAX || total > READ_BYTES_MAX {
        let detail = format!("one picture may take {RANGES_MAX} pieces and {READ_BYTES_MAX} bytes of media");
        return Err(Fault::new(FaultKind::TooLarge, detail));
    }
    Ok(())
}

fn too_large() -> Fault {
    Fault::new(FaultKind::TooLarge, format!("one read of media takes at most {READ_BYTES_MAX} bytes"))
}

/// How media over the network is read.
#[derive(Debug)]
pub struct RemoteConfig {
    /// Reaches what `media.allow_networks` lets it.
    pub client: Client,
    /// Whose keys.
    pub credentials: Credentials,
    /// Whether recordings are read whole for scan and prerender together.
    pub is_whole: bool,
    /// A directory of this process alone, for media read whole.
    pub whole_dir: PathBuf,
    /// The most bytes there at once.
    pub whole_bytes_max: u64,
}

/// Which media, for whom.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Whose recording it is.
    pub user: UserId,
    /// As its event gave it.
    pub media_url: &'a str,
    /// As its event gave it: the name of credentials, if not those of the URL.
    pub credentials_key: Option<&'a str>,
    /// Whether it may grow while it is read.
    pub is_growing: bool,
}

impl Wanted<'_> {
    fn name(&self) -> Name {
        let (media_url, credentials_key) = (self.media_url.into(), self.credentials_key.map(Into::into));
        Name { user: self.user, media_url, credentials_key }
    }
}

/// Opens media. Cloning is cheap; clones share policy, threads, connections and credentials.
#[derive(Debug, Clone)]
pub struct Source {
    policy: Arc<MediaPolicy>,
    threads: Arc<Threads>,
    remote: Arc<Remote>,
    buffers: near::Buffers,
}

#[derive(Debug)]
struct Remote {
    client: Client,
    credentials: ArcSwap<Credentials>,
    is_whole: bool,
    spool: Spool,
    requests: Arc<Semaphore>,
}

impl Source {
    /// Media that `policy` allows; what blocks runs on `threads`.
    ///
    /// # Errors
    /// When the directory for media read whole cannot be used.
    pub fn new(policy: Arc<MediaPolicy>, threads: Arc<Threads>, remote: RemoteConfig) -> io::Result<Self> {
        let remote = Remote {
            spool: Spool::open(&remote.whole_dir, remote.whole_bytes_max)?,
            client: remote.client,
            credentials: ArcSwap::from_pointee(remote.credentials),
            is_whole: remote.is_whole,
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
        };
        Ok(Self { policy, threads, remote: Arc::new(remote), buffers: near::Buffers::default() })
    }

    /// The rules for media URLs, for whoever accepts events.
    pub fn policy(&self) -> &MediaPolicy {
        &self.policy
    }

    /// Replaces the credentials; media that is open keeps those it was opened with.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.remote.credentials.store(Arc::new(credentials));
    }

    /// Opens the media of an accepted recording to be scanned; the policy is asked again
    /// ([`MediaPolicy::check_stored`]).
    ///
    /// # Errors
    /// `Forbidden` by policy, guard or credentials, `Gone`, `Unreadable`, `Busy` when too many reads wait, and those of
    /// [`MediaFile::open`].
    pub async fn open(&self, wanted: Wanted<'_>) -> Result<Media, Fault> {
        let place = match self.place(wanted)? {
            Place::File { root, beneath } => return self.open_file(root, beneath).await,
            Place::Remote { url } => self.remote_place(url, wanted)?,
        };
        let Remote { spool, requests, .. } = &*self.remote;
        if self.remote.is_whole
            && !wanted.is_growing
            && let Some(whole) = spool.fetch(wanted.name(), &place, requests, &self.threads).await?
        {
            return Ok(self.media(Body::Whole(whole)));
        }
        let media = RemoteMedia::open(place, wanted.is_growing, Arc::clone(requests)).await?;
        Ok(self.media(Body::Remote(Arc::new(media))))
    }

    /// Whether media can be opened; never fetches it whole.
    pub async fn is_there(&self, wanted: Wanted<'_>) -> bool {
        match self.place(wanted) {
            Ok(Place::File { root, beneath }) => self.open_file(root, beneath).await.is_ok(),
            Ok(Place::Remote { url }) => {
                let Ok(place) = self.remote_place(url, wanted) else { return false };
                RemoteMedia::open(place, wanted.is_growing, Arc::clone(&self.remote.requests)).await.is_ok()
            }
            Err(_) => false,
        }
    }

    /// Opens media that was indexed with `len` bytes. Over the network this costs no request: what is wrong with it
    /// shows when it is read.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub async fn open_indexed(&self, wanted: Wanted<'_>, len: u64) -> Result<Media, Fault> {
        let url = match self.place(wanted)? {
            Place::File { root, beneath } => return self.open_file(root, beneath).await,
            Place::Remote { url } => url,
        };
        if let Some(whole) = self.remote.spool.held(&wanted.name()) {
            return Ok(self.media(Body::Whole(whole)));
        }
        let (place, requests) = (self.remote_place(url, wanted)?, Arc::clone(&self.remote.requests));
        let media = RemoteMedia::assumed(place, wanted.is_growing, len, requests);
        Ok(self.media(Body::Remote(Arc::new(media))))
    }

    /// Reads ranges of media that was indexed with `len` bytes; a file is opened and read in one turn.
    ///
    /// # Errors
    /// Those of [`Source::open_indexed`] and [`Media::read_ranges`].
    pub async fn read_indexed(&self, wanted: Wanted<'_>, len: u64, ranges: &[ByteRange]) -> Result<Vec<Bytes>, Fault> {
        let (root, beneath) = match self.place(wanted)? {
            Place::File { root, beneath } => (root, beneath),
            Place::Remote { .. } => return self.open_indexed(wanted, len).await?.read_ranges(ranges).await,
        };
        check_ranges(ranges)?;
        let plan = coalesce::plan(ranges);
        if let Some(read) = near::read(&self.buffers, &root, &beneath, &plan.reads) {
            return Ok(plan.cut(&read));
        }
        let read = move || {
            let file = MediaFile::open(&root, &beneath)?;
            let read = plan.reads.iter().map(|range| file.read_at(range.offset, range.len));
            Ok(plan.cut(&read.collect::<Result<Vec<_>, _>>()?))
        };
        read_on(&self.threads, read).await
    }

    fn place(&self, wanted: Wanted<'_>) -> Result<Place, Fault> {
        let place = self.policy.check_stored(wanted.user, wanted.media_url);
        place.map_err(|refused| Fault::new(FaultKind::Forbidden, refused.detail))
    }

    fn remote_place(&self, url: Url, wanted: Wanted<'_>) -> Result<remote::Place, Fault> {
        let Remote { client, credentials, .. } = &*self.remote;
        let credentials = credentials.load();
        remote::Place::of(url, wanted.user, &self.policy, client, &credentials, wanted.credentials_key)
    }

    async fn open_file(&self, root: PathBuf, beneath: PathBuf) -> Result<Media, Fault> {
        let file = read_on(&self.threads, move || MediaFile::open(&root, &beneath)).await?;
        Ok(self.media(Body::File(Arc::new(file))))
    }

    fn media(&self, body: Body) -> Media {
        Media { body, threads: Arc::clone(&self.threads) }
    }
}

/// Open media. Stays the same file or object while it is held, whatever happens to its name.
#[derive(Debug, Clone)]
pub struct Media {
    body: Body,
    threads: Arc<Threads>,
}

#[derive(Debug, Clone)]
enum Body {
    File(Arc<MediaFile>),
    Remote(Arc<RemoteMedia>),
    Whole(Arc<WholeMedia>),
}

impl Media {
    /// Bytes when it was opened; a growing one may have more by now.
    #[expect(clippy::len_without_is_empty, reason = "a count of bytes on disk, not a collection")]
    pub fn len(&self) -> u64 {
        match &self.body {
            Body::File(file) => file.len(),
            Body::Remote(media) => media.len(),
            Body::Whole(media) => media.len(),
        }
    }

    /// The entity tag that its place gave for what was opened, as it was written there; files have none.
    pub fn etag(&self) -> Option<String> {
        match &self.body {
            Body::File(_) => None,
            Body::Remote(media) => media.etag(),
            Body::Whole(media) => media.etag(),
        }
    }

    /// Whether it was fetched whole: reads by others find it for as long as this value is held.
    pub fn is_whole(&self) -> bool {
        matches!(self.body, Body::Whole(_))
    }

    /// Reads one range.
    ///
    /// # Errors
    /// `TooLarge` over [`READ_BYTES_MAX`], `Changed` past the end and when it is not what it was, `Gone`, `Forbidden`,
    /// `Busy` when too many reads wait, `Unreadable` otherwise.
    pub async fn read(&self, range: ByteRange) -> Result<Bytes, Fault> {
        let ByteRange { offset, len } = range;
        match &self.body {
            Body::File(file) => {
                let file = Arc::clone(file);
                read_on(&self.threads, move || file.read_at(offset, len)).await
            }
            Body::Whole(media) => {
                let media = Arc::clone(media);
                read_on(&self.threads, move || media.read_at(offset, len)).await
            }
            Body::Remote(media) => media.read(range).await,
        }
    }

    /// Reads several ranges, in as few reads as their distances allow, and gives them in the order asked for.
    ///
    /// # Errors
    /// As [`Media::read`], its limit being on all ranges together; `TooLarge` over [`RANGES_MAX`] ranges.
    pub async fn read_ranges(&self, ranges: &[ByteRange]) -> Result<Vec<Bytes>, Fault> {
        check_ranges(ranges)?;
        let plan = coalesce::plan(ranges);
        let mut read = Vec::with_capacity(plan.reads.len());
        for range in &plan.reads {
            read.push(self.read(*range).await?);
        }
        Ok(plan.cut(&read))
    }

    /// Checks that it is still as it was opened: for scans of recordings that no longer grow. What lies over the
    /// network was compared with each read.
    ///
    /// # Errors
    /// `Changed` if it is not, `Unreadable` if that cannot be told.
    pub async fn unchanged(&self) -> Result<(), Fault> {
        let Body::File(file) = &self.body else { return Ok(()) };
        let file = Arc::clone(file);
        read_on(&self.threads, move || file.unchanged()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::PolicyConfig;

    const USER: UserId = UserId::from_bytes([0xab; 12]);

    fn source(root: &std::path::Path, allow_urls: &[&str]) -> Source {
        let config = PolicyConfig {
            roots: vec![format!("{}/{{user_id}}", root.display())],
            allow_urls: allow_urls.iter().map(ToString::to_string).collect(),
        };
        let threads = Threads::start("source-test", 2, 8).expect("threads");
        let remote = RemoteConfig {
            client: Client::new(guard::Guard::default()).expect("client"),
            credentials: Credentials::default(),
            is_whole: false,
            whole_dir: root.join("tmp"),
            whole_bytes_max: 0,
        };
        Source::new(Arc::new(MediaPolicy::new(config).expect("policy")), Arc::new(threads), remote).expect("source")
    }

    fn wanted(media_url: &str) -> Wanted<'_> {
        Wanted { user: USER, media_url, credentials_key: None, is_growing: false }
    }

    fn range(offset: u64, len: u32) -> ByteRange {
        ByteRange { offset, len }
    }

    #[tokio::test]
    async fn a_file_is_opened_and_read() {
        let dir = tempfile::tempdir().expect("dir");
        let home = dir.path().join(USER.to_string());
        std::fs::create_dir_all(home.join("cam 1")).expect("dirs");
        let content: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(home.join("cam 1/1.mp4"), &content).expect("file");
        let source = source(dir.path(), &[]);
        let url = format!("file://{}/cam%201/1.mp4", home.display());
        let media = source.open(wanted(&url)).await.expect("open");
        assert_eq!(media.len(), 300_000);
        assert_eq!(media.read(range(10, 5)).await.expect("read"), content[10..15]);
        let ranges = [range(200_000, 100), range(0, 10), range(50, 100_000), range(299_999, 1), range(7, 0)];
        let pieces = media.read_ranges(&ranges).await.expect("read");
        for (range, piece) in ranges.iter().zip(pieces) {
            let (from, to) =
                (usize::try_from(range.offset).expect("small"), usize::try_from(range.end()).expect("small"));
            assert_eq!(piece, content[from..to]);
        }
        media.unchanged().await.expect("unchanged");
        let kind = |outcome: Result<Vec<Bytes>, Fault>| outcome.map_err(|fault| fault.kind);
        assert_eq!(kind(media.read_ranges(&[range(299_999, 2)]).await), Err(FaultKind::Changed));
        assert_eq!(kind(media.read_ranges(&[range(u64::MAX, u32::MAX)]).await), Err(FaultKind::TooLarge));
        assert_eq!(kind(media.read_ranges(&[range(0, u32::MAX); 2]).await), Err(FaultKind::TooLarge));
        assert_eq!(kind(media.read_ranges(&[range(0, 1); RANGES_MAX + 1]).await), Err(FaultKind::TooLarge));
        assert_eq!(kind(media.read_ranges(&[]).await), Ok(vec![]));
    }

    async fn check_fault(url: &str, kind: FaultKind, detail: &str) {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::create_dir_all(dir.path().join(USER.to_string())).expect("dirs");
        let url = url.replace("ROOT", &format!("{}/{USER}", dir.path().display()));
        let source = source(dir.path(), &["^s3://footage/{user_id}/", "^http://"]);
        let fault = source.open(wanted(&url)).await.map(|_| ()).expect_err(&url);
        assert_eq!(fault.kind, kind, "{url}: {fault}");
        assert!(fault.detail.contains(detail), "{url}: {fault}");
        assert!(!fault.detail.contains(&*dir.path().to_string_lossy()), "{fault}");
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_told_by_kind() {
        check_fault("file://ROOT/none.mp4", FaultKind::Gone, "no longer").await;
        check_fault("file:///etc/passwd", FaultKind::Forbidden, "media.roots").await;
        let remote = format!("s3://footage/{USER}/1.mp4");
        check_fault(&remote, FaultKind::Forbidden, "no credentials").await;
        check_fault("http://127.0.0.1/1.mp4", FaultKind::Forbidden, "no public address").await;
        check_fault("http://localhost/1.mp4", FaultKind::Forbidden, "no public address").await;
        check_fault("s3://other/1.mp4", FaultKind::Forbidden, "media.allow_urls").await;
    }
}
