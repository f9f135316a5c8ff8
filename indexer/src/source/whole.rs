//! Media read whole: one request brings the object into a temporary file, and every range is read from there.
//!
//! The file has no name, so that nothing is left behind however the program ends. All such files together stay
//! under a limit; what does not fit is read by ranges instead. A file lives for as long as its media is held:
//! the pipeline holds it from the scan through the prerender, and reads by others meanwhile find it here too.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::UserId;
use tokio::sync::Semaphore;

use super::answer::{Answer, Paced};
use super::remote::{Place, bounded};
use super::{READ_BYTES_MAX, read_on};
use crate::threads::Threads;

/// The longest that one object may take; that it comes at a steady pace is checked meanwhile.
const WHOLE_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Written to the file at once.
const WRITE_LEN: usize = 1024 * 1024;

/// Which media, for whom, read with whose keys: what one user reads is never found by another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) user: UserId,
    pub(super) media_url: Box<str>,
    pub(super) credentials_key: Option<Box<str>>,
}

/// The temporary files.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    bytes_max: u64,
    in_use: Arc<AtomicU64>,
    made: AtomicU64,
    held: Mutex<HashMap<Name, Weak<WholeMedia>>>,
}

/// Media in a temporary file. Its methods block.
#[derive(Debug)]
pub(super) struct WholeMedia {
    file: Arc<File>,
    len: u64,
    /// Of the version that was fetched.
    etag: Option<String>,
    /// Given back when the file goes.
    _share: Share,
}

/// A part of the limit.
#[derive(Debug)]
struct Share {
    in_use: Arc<AtomicU64>,
    bytes_max: u64,
    bytes: u64,
}

impl Share {
    /// Takes more of the limit; false if that is not to be had.
    fn grow(&mut self, bytes: u64) -> bool {
        let taken = self.in_use.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |in_use| {
            in_use.checked_add(bytes).filter(|sum| *sum <= self.bytes_max)
        });
        if taken.is_ok() {
            self.bytes += bytes;
        }
        taken.is_ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.in_use.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Spool {
    /// Temporary files in `dir`, `bytes_max` bytes together. What an earlier run left there is removed.
    ///
    /// # Errors
    /// When the directory cannot be made or emptied.
    pub(super) fn open(dir: &Path, bytes_max: u64) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for left in std::fs::read_dir(dir)? {
            std::fs::remove_file(left?.path())?;
        }
        let (in_use, made, held) = (Arc::default(), AtomicU64::new(0), Mutex::default());
        Ok(Self { dir: dir.to_owned(), bytes_max, in_use, made, held })
    }

    /// The media that somebody holds, if somebody does.
    pub(super) fn held(&self, name: &Name) -> Option<Arc<WholeMedia>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).get(name).and_then(Weak::upgrade)
    }

    /// Fetches an object; none if it is over the limit.
    ///
    /// # Errors
    /// Those of asking the place; `Unreadable` when the body breaks off, `Internal` when the disk fails.
    pub(super) async fn fetch(
        &self,
        name: Name,
        place: &Place,
        requests: &Semaphore,
        threads: &Threads,
    ) -> Result<Option<Arc<WholeMedia>>, Fault> {
        let _permit = requests.try_acquire().map_err(|_| super::busy())?;
        let fetched = bounded(WHOLE_DEADLINE, async {
            let answer = place.get(None, None).await?;
            self.write(answer, threads).await
        });
        let Some(media) = fetched.await?.map(Arc::new) else { return Ok(None) };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, media| media.strong_count() > 0);
        held.insert(name, Arc::downgrade(&media));
        Ok(Some(media))
    }

    async fn write(&self, answer: Answer, threads: &Threads) -> Result<Option<WholeMedia>, Fault> {
        let mut share = Share { in_use: Arc::clone(&self.in_use), bytes_max: self.bytes_max, bytes: 0 };
        if !share.grow(answer.total.unwrap_or(0)) {
            return Ok(None);
        }
        let path = self.dir.join(self.made.fetch_add(1, Ordering::Relaxed).to_string());
        let file = Arc::new(read_on(threads, move || nameless(&path).map_err(|error| disk_failed(&error))).await?);
        let mut body = Paced::new(answer.body, answer.pace);
        let (mut buffer, mut written) = (BytesMut::new(), 0);
        loop {
            let chunk = body.next().await?;
            let is_end = chunk.is_none();
            buffer.extend_from_slice(&chunk.unwrap_or_default());
            if body.so_far > share.bytes && !share.grow(body.so_far - share.bytes) {
                return Ok(None);
            }
            if !buffer.is_empty() && (is_end || buffer.len() >= WRITE_LEN) {
                let (file, part, at) = (Arc::clone(&file), buffer.split().freeze(), written);
                written += part.len() as u64;
                let write = move || file.write_all_at(&part, at).map_err(|error| disk_failed(&error));
                read_on(threads, write).await?;
            }
            if is_end {
                break;
            }
        }
        if answer.total.is_some_and(|total| total != written) {
            return Err(Fault::new(FaultKind::Unreadable, "the media's server broke off"));
        }
        Ok(Some(WholeMedia { file, len: written, etag: answer.version.etag, _share: share }))
    }
}

impl WholeMedia {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn etag(&self) -> Option<String> {
        self.etag.clone()
    }

    /// Reads exactly `len` bytes.
    ///
    /// # Errors
    /// `TooLarge` over the limit, `Changed` past the end, `Internal` when the disk fails.
    pub(super) fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, Fault> {
        if u64::from(len) > READ_BYTES_MAX {
            return Err(super::too_large());
        }
        if offset.checked_add(len.into()).is_none_or(|end| end > self.len) {
            return Err(super::shorter());
        }
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(|error| disk_failed(&error))?;
        Ok(bytes.into())
    }
}

/// A new file that is already removed.
fn nameless(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn disk_failed(error: &io::Error) -> Fault {
    tracing::warn!(%error, "a temporary file failed");
    Fault::new(FaultKind::Internal, "the media could not be kept on disk while it is read")
}
