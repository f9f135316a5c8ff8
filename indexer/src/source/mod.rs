//! Media: whether a URL may be read for a user, and ranged reads of what lies there.
//!
//! The path of a read:
//!
//! 1. [`policy`] checks the URL against `media.roots` and `media.allow_urls` and says where it points;
//! 2. [`mod@file`] opens a local file beneath its root, following no link, and pins it by its descriptor;
//! 3. `coalesce` turns the ranges of keyframes into few reads;
//! 4. [`crate::threads`] does the reads on a few threads of their own, so that a slow disk stops no async thread.
//!
//! Media over the network is checked here but not read by this build. Nothing here decodes or interprets media.

mod coalesce;
pub mod file;
pub mod policy;
mod spelling;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::UserId;
use stills_model::keyframe::ByteRange;

use crate::threads::{CallError, Threads};
use file::{Identity, MediaFile};
use policy::{MediaPolicy, Place};

/// The most bytes that one call to [`Media::read`] or [`Media::read_ranges`] gives: what one message to a decoder
/// can carry.
pub const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The most ranges in one call to [`Media::read_ranges`]; a keyframe has one to a few dozen.
pub const RANGES_MAX: usize = 512;

/// A read that takes longer comes from a disk that is not well.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// Does a read on a thread that may block.
async fn read_on<T: Send + 'static>(
    threads: &Threads,
    read: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    threads.call(READ_DEADLINE, read).await.unwrap_or_else(|error| {
        Err(match error {
            CallError::Full => Fault::new(FaultKind::Busy, "too many reads of media are waiting; try again soon"),
            CallError::Late => Fault::new(FaultKind::Unreadable, "the media could not be read in time"),
            CallError::Died => Fault::new(FaultKind::Internal, "reading the media failed inside"),
        })
    })
}

/// Opens media. Cloning is cheap; clones share policy and threads.
#[derive(Debug, Clone)]
pub struct Source {
    policy: Arc<MediaPolicy>,
    threads: Arc<Threads>,
}

impl Source {
    /// Media that `policy` allows, read on `threads`.
    pub fn new(policy: Arc<MediaPolicy>, threads: Arc<Threads>) -> Self {
        Self { policy, threads }
    }

    /// The rules for media URLs, for whoever accepts events.
    pub fn policy(&self) -> &MediaPolicy {
        &self.policy
    }

    /// Opens the media of an accepted recording; the policy is asked again ([`MediaPolicy::check_stored`]).
    ///
    /// # Errors
    /// `Forbidden` by the policy, `Unsupported` for media over the network, `Busy` when too many reads wait, and
    /// those of [`MediaFile::open`].
    pub async fn open(&self, user: UserId, media_url: &str) -> Result<Media, Fault> {
        let place = self.policy.check_stored(user, media_url);
        match place.map_err(|refused| Fault::new(FaultKind::Forbidden, refused.detail))? {
            Place::File { root, beneath } => {
                let file = read_on(&self.threads, move || MediaFile::open(&root, &beneath)).await?;
                Ok(Media { file: Arc::new(file), threads: Arc::clone(&self.threads) })
            }
            Place::Remote { url } => {
                let detail = format!("media at {}:// is not read by this build", url.scheme());
                Err(Fault::new(FaultKind::Unsupported, detail))
            }
        }
    }
}

/// Open media. Stays the same file while it is held, whatever happens to its name.
#[derive(Debug, Clone)]
pub struct Media {
    file: Arc<MediaFile>,
    threads: Arc<Threads>,
}

impl Media {
    /// Bytes when it was opened; a growing file may have more by now.
    #[expect(clippy::len_without_is_empty, reason = "a count of bytes on disk, not a collection")]
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// What tells this file, in this state, from others.
    pub fn identity(&self) -> Identity {
        self.file.identity()
    }

    /// Reads one range.
    ///
    /// # Errors
    /// `TooLarge` over [`READ_BYTES_MAX`], `Changed` past the end of the file, `Busy` when too many reads wait,
    /// `Unreadable` otherwise.
    pub async fn read(&self, range: ByteRange) -> Result<Bytes, Fault> {
        let file = Arc::clone(&self.file);
        read_on(&self.threads, move || file.read_at(range.offset, range.len)).await
    }

    /// Reads several ranges, in as few reads as their distances allow, and gives them in the order asked for.
    ///
    /// # Errors
    /// As [`Media::read`], its limit being on all ranges together; `TooLarge` over [`RANGES_MAX`] ranges.
    pub async fn read_ranges(&self, ranges: &[ByteRange]) -> Result<Vec<Bytes>, Fault> {
        let total: u64 = ranges.iter().map(|range| u64::from(range.len)).sum();
        if ranges.len() > RANGES_MAX || total > READ_BYTES_MAX {
            let detail = format!("one picture may take {RANGES_MAX} pieces and {READ_BYTES_MAX} bytes of media");
            return Err(Fault::new(FaultKind::TooLarge, detail));
        }
        let plan = coalesce::plan(ranges);
        let mut read = Vec::with_capacity(plan.reads.len());
        for range in &plan.reads {
            read.push(self.read(*range).await?);
        }
        Ok(plan.cut(&read))
    }

    /// Checks that the file is still as it was opened: for scans of recordings that no longer grow.
    ///
    /// # Errors
    /// `Changed` if it is not, `Unreadable` if that cannot be told.
    pub async fn unchanged(&self) -> Result<(), Fault> {
        let file = Arc::clone(&self.file);
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
        Source::new(Arc::new(MediaPolicy::new(config).expect("policy")), Arc::new(threads))
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
        let media = source.open(USER, &url).await.expect("open");
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
        let fault =
            source(dir.path(), &["^s3://footage/{user_id}/"]).open(USER, &url).await.map(|_| ()).expect_err(&url);
        assert_eq!(fault.kind, kind, "{url}: {fault}");
        assert!(fault.detail.contains(detail), "{url}: {fault}");
        assert!(!fault.detail.contains(&*dir.path().to_string_lossy()), "{fault}");
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_told_by_kind() {
        check_fault("file://ROOT/none.mp4", FaultKind::Gone, "no longer").await;
        check_fault("file:///etc/passwd", FaultKind::Forbidden, "media.roots").await;
        let remote = format!("s3://footage/{USER}/1.mp4");
        check_fault(&remote, FaultKind::Unsupported, "media at s3:// is not read by this build").await;
        check_fault("s3://other/1.mp4", FaultKind::Forbidden, "media.allow_urls").await;
    }
}
