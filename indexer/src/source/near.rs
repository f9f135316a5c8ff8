//! Local media that lies in memory already: opened and read at once, where it is asked for. Whatever could wait for a disk
//! or another machine, and whatever is wrong, is left to [`super::file`] on a thread that may block.
//!
//! To wake a thread and wait for it costs as much as a read of a megabyte.

use std::io::IoSliceMut;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use rustix::io::{ReadWriteFlags, preadv2};
use stills_model::keyframe::ByteRange;

/// The most bytes that are read at once here: a fifth of a millisecond.
const NEAR_BYTES_MAX: u64 = 1024 * 1024;

/// Buffers that wait for the next read; each is of [`NEAR_BYTES_MAX`] at most.
const IDLE_MAX: usize = 8;

/// Buffers that are used again and again: memory that is new has to be cleared, page by page.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer on loan. Only what was read into it is shown, never what lay there before.
struct Lent {
    bytes: Vec<u8>,
    len: usize,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut idle = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Buffers {
    fn lend(&self, len: usize) -> Lent {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        Lent { bytes, len, home: self.clone() }
    }
}

/// The ranges of the file `beneath` the directory `root`, if all of it lies in memory. As careful with links as
/// [`super::file::MediaFile::open`].
pub(super) fn read(buffers: &Buffers, root: &Path, beneath: &Path, ranges: &[ByteRange]) -> Option<Vec<Bytes>> {
    if ranges.iter().map(|range| u64::from(range.len)).sum::<u64>() > NEAR_BYTES_MAX {
        return None;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat2(CWD, root, flags, Mode::empty(), ResolveFlags::CACHED).ok()?;
    // NONBLOCK: opening a pipe must not wait for its other end.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS | ResolveFlags::CACHED;
    let file = openat2(&root, beneath, flags, Mode::empty(), resolve).ok()?;
    // As far as it is known here: asking another machine could wait.
    let known = statx(&file, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE).ok()?;
    if FileType::from_raw_mode(known.stx_mode.into()) != FileType::RegularFile {
        return None;
    }
    let read = ranges.iter().map(|range| {
        let mut lent = buffers.lend(usize::try_from(range.len).ok()?);
        let space = lent.bytes.get_mut(..lent.len)?;
        let n_read = preadv2(&file, &mut [IoSliceMut::new(space)], range.offset, ReadWriteFlags::NOWAIT).ok()?;
        (n_read == lent.len).then(|| Bytes::from_owner(lent))
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_nothing_else() {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::create_dir(dir.path().join("cam")).expect("dir");
        std::fs::write(dir.path().join("cam/1.mp4"), b"0123456789").expect("file");
        std::os::unix::fs::symlink("1.mp4", dir.path().join("cam/link.mp4")).expect("link");
        let buffers = Buffers::default();
        let read = |beneath: &str, ranges: &[(u64, u32)]| {
            let ranges: Vec<_> = ranges.iter().map(|&(offset, len)| ByteRange { offset, len }).collect();
            let read = super::read(&buffers, dir.path(), Path::new(beneath), &ranges)?;
            Some(read.iter().map(|bytes| bytes.to_vec()).collect::<Vec<_>>())
        };
        let whole = read("cam/1.mp4", &[(2, 8), (0, 3)]);
        // Not every file system can tell what lies in memory; then it is always left to others.
        if whole.is_some() {
            assert_eq!(whole, Some(vec![b"23456789".to_vec(), b"012".to_vec()]));
            // A buffer that held more shows only what was read.
            assert_eq!(read("cam/1.mp4", &[(4, 1)]), Some(vec![b"4".to_vec()]));
        }
        assert_eq!(read("cam/1.mp4", &[(5, 6)]), None, "past the end");
        assert_eq!(read("cam/link.mp4", &[(0, 1)]), None);
        assert_eq!(read("cam", &[(0, 1)]), None);
        assert_eq!(read("../cam/1.mp4", &[(0, 1)]), None);
        assert_eq!(read("none.mp4", &[(0, 1)]), None);
        assert_eq!(read("cam/1.mp4", &[(0, u32::MAX)]), None);
        assert!(buffers.0.lock().expect("lock").len() <= IDLE_MAX);
    }
}
