//! The files that hold hour blocks: append-only, checked on every read, given back to the disk when a block is replaced.
//! Knows bytes, no domain. Which blocks count is in the tables alone.
//!
//! Form, version 1: a file begins with "STILLSH1"; then blocks, each its length (u32), the CRC-32C of what follows
//! (u32), both little-endian, and its bytes. Nothing looks for blocks in a file: a place says where one lies.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::FallocateFlags;
use stills_model::codec::{Malformed, Reader, Writer};

const MAGIC: &[u8; 8] = b"STILLSH1";
/// Length and check sum.
const HEADER_LEN: usize = 8;
/// A file is not appended to beyond this: small enough that old ones go soon after their recordings.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) offset: u64,
    /// Of its bytes, without length and check sum.
    pub(super) len: u32,
}

impl Place {
    pub(super) fn write(&self, w: &mut Writer) {
        w.unsigned(self.file.into()).unsigned(self.offset).unsigned(self.len.into());
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { file: r.unsigned_32()?, offset: r.unsigned()?, len: r.unsigned_32()? })
    }
}

/// The open files.
#[derive(Debug)]
pub(super) struct HourFiles {
    dir: PathBuf,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    open: BTreeMap<u32, Arc<File>>,
    /// Which one is appended to, and where.
    active: Option<(u32, u64)>,
    /// Whether a file was begun whose name may not survive a power cut.
    is_new: bool,
    /// What was appended to since the last sync.
    unsynced: BTreeMap<u32, Arc<File>>,
}

impl HourFiles {
    /// Opens the files in `dir`, which is created when it is missing.
    ///
    /// # Errors
    /// When the directory cannot be read or created.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut files = Files::default();
        for item in fs::read_dir(&dir)? {
            let item = item?;
            let Some(id) = item.file_name().to_str().and_then(id_of) else { continue };
            let file = OpenOptions::new().read(true).write(true).open(item.path())?;
            files.open.insert(id, Arc::new(file));
        }
        // The last one is filled on: what a crash left at its end nothing points to.
        if let Some((id, file)) = files.open.last_key_value() {
            files.active = Some((*id, file.metadata()?.len().max(MAGIC.len() as u64)));
        }
        Ok(Self { dir, files: Mutex::new(files) })
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a block; not durable until [`HourFiles::sync`].
    ///
    /// # Errors
    /// A full or failing disk; what was written counts for nothing.
    pub(super) fn append(&self, bytes: &[u8]) -> io::Result<Place> {
        let too_long = || io::Error::other("an hour block over 4 GiB");
        let len = u32::try_from(bytes.len()).map_err(|_| too_long())?;
        let mut files = self.lock();
        let (id, offset) = match files.active {
            Some((id, end)) if end < FILE_BYTES_MAX => (id, end),
            active => self.begin(&mut files, active.map_or(0, |(id, _)| id + 1))?,
        };
        let mut block = Vec::with_capacity(HEADER_LEN + bytes.len());
        block.extend_from_slice(&len.to_le_bytes());
        block.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
        block.extend_from_slice(bytes);
        let file = files.open.get(&id).ok_or_else(|| io::Error::other("the hour file is not open"))?;
        file.write_all_at(&block, offset)?;
        let file = Arc::clone(file);
        files.active = Some((id, offset + block.len() as u64));
        files.unsynced.insert(id, file);
        Ok(Place { file: id, offset, len })
    }

    fn begin(&self, files: &mut Files, id: u32) -> io::Result<(u32, u64)> {
        let path = path(&self.dir, id);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all_at(MAGIC, 0)?;
        files.open.insert(id, Arc::new(file));
        files.is_new = true;
        Ok((id, MAGIC.len() as u64))
    }

    /// Hands what was appended to the disk.
    ///
    /// # Errors
    /// A failing disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        let (unsynced, is_new) = {
            let mut files = self.lock();
            (std::mem::take(&mut files.unsynced), std::mem::take(&mut files.is_new))
        };
        let sync = || {
            unsynced.values().try_for_each(|file| file.sync_data())?;
            if is_new { File::open(&self.dir)?.sync_all() } else { Ok(()) }
        };
        sync().inspect_err(|_| {
            let mut files = self.lock();
            files.unsynced.extend(unsynced.clone());
            files.is_new |= is_new;
        })
    }

    /// The bytes of a block; none: they are not there, or not those that were written.
    ///
    /// # Errors
    /// A failing disk.
    pub(super) fn read(&self, place: &Place) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.lock().open.get(&place.file).cloned() else { return Ok(None) };
        // A damaged place must not make us reserve what no file holds.
        let end = place.offset.saturating_add(HEADER_LEN as u64).saturating_add(place.len.into());
        if end > file.metadata()?.len() {
            return Ok(None);
        }
        let mut block = vec![0; HEADER_LEN + usize::try_from(place.len).unwrap_or(0)];
        match file.read_exact_at(&mut block, place.offset) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let bytes = block.split_off(HEADER_LEN);
        let is_whole = block[..4] == place.len.to_le_bytes() && block[4..] == crc32c::crc32c(&bytes).to_le_bytes();
        Ok(is_whole.then_some(bytes))
    }

    /// Gives a block's bytes back to the disk. Nothing points to it any more; where holes cannot be made, its bytes
    /// stay until the whole file goes.
    pub(super) fn release(&self, place: &Place) {
        let Some(file) = self.lock().open.get(&place.file).cloned() else { return };
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Err(error) = rustix::fs::fallocate(&*file, hole, place.offset, u64::from(place.len) + 8) {
            tracing::debug!(%error, file = place.file, "an hour block's bytes stay until its file goes");
        }
    }

    /// Deletes the files in which no block counts any more; never the one that is appended to.
    pub(super) fn keep_only(&self, used: impl Fn(u32) -> bool) {
        let mut files = self.lock();
        let active = files.active.map(|(id, _)| id);
        let dead: Vec<u32> = files.open.keys().copied().filter(|id| Some(*id) != active && !used(*id)).collect();
        for id in dead {
            files.open.remove(&id);
            files.unsynced.remove(&id);
            if let Err(error) = fs::remove_file(path(&self.dir, id)) {
                tracing::warn!(%error, file = id, "a file of hour blocks could not be deleted");
            }
        }
    }
}

fn path(dir: &Path, id: u32) -> PathBuf {
    dir.join(format!("{id:010}.hours"))
}

fn id_of(name: &str) -> Option<u32> {
    let id = name.strip_suffix(".hours")?.parse().ok()?;
    (format!("{id:010}.hours") == name).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_again_and_checked() {
        let dir = tempfile::tempdir().expect("dir");
        let open = || HourFiles::open(dir.path().join("hours")).expect("open");
        let files = open();
        let (one, two) = (files.append(b"one").expect("append"), files.append(&[2; 20_000]).expect("append"));
        files.sync().expect("sync");
        assert_eq!(files.read(&one).expect("read").as_deref(), Some(&b"one"[..]));
        drop(files);
        let files = open();
        let three = files.append(b"three").expect("append");
        assert_eq!(three.file, one.file, "the last file is filled on");
        assert_eq!(files.read(&two).expect("read"), Some(vec![2; 20_000]));
        for wrong in [
            Place { len: 4, ..one },
            Place { offset: one.offset + 1, ..one },
            Place { file: 7, ..one },
            Place { len: u32::MAX, ..three },
        ] {
            assert_eq!(files.read(&wrong).expect("read"), None, "{wrong:?}");
        }
        files.release(&two);
        assert_eq!(files.read(&two).expect("read"), None);
        assert_eq!(files.read(&three).expect("read").as_deref(), Some(&b"three"[..]));
    }

    #[test]
    fn files_without_a_block_that_counts_go() {
        let dir = tempfile::tempdir().expect("dir");
        let files = HourFiles::open(dir.path().to_owned()).expect("open");
        let big = vec![1; usize::try_from(FILE_BYTES_MAX).expect("small")];
        let first = files.append(&big).expect("append");
        let second = files.append(b"x").expect("append");
        assert_ne!(first.file, second.file);
        files.keep_only(|_| false);
        assert_eq!(files.read(&first).expect("read"), None);
        assert_eq!(files.read(&second).expect("read").as_deref(), Some(&b"x"[..]), "it is appended to");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }
}
