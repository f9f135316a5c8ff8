//! A volume: one append-only file of pictures. Appends, reads, walks and punches; knows nothing of the cache index.
//!
//! Form, version 2, all integers little-endian (version 1 had shorter keys; its pictures are rendered again):
//!
//! ```text
//! at 0       "STILLSV\n", version u32, marker [8], when it was begun in Unix ms u64 (0: not known), CRC-32C of
//!            these 28 bytes
//! from 32 on entries: marker [8], state u8, key length u8, body length u32, header CRC-32C, CRC-32C of key and
//!            body, key (a thumb key's stored form), body
//! ```
//!
//! The state says whether the body was punched out; it is the only byte of an entry that ever changes, so the
//! header's CRC, which covers the entry's offset, both lengths and the key, leaves it out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use stills_model::thumb::ThumbKey;
use stills_model::time::Timestamp;

use super::reads::Reads;
use super::slots::Slot;
use crate::marker::{self, Marker};

/// Where the first entry begins.
pub(super) const FIRST_ENTRY: u64 = 32;

const MAGIC: &[u8; 8] = b"STILLSV\n";
const VERSION: u32 = 2;
const KEY_LEN: usize = 53;
/// Bytes in front of an entry's key.
const FIXED_LEN: usize = 22;
/// Bytes in front of an entry's body.
pub(super) const HEADER_LEN: usize = FIXED_LEN + KEY_LEN;
const STATE_AT: usize = 8;
const LIVE: u8 = 0;
const PUNCHED: u8 = 0xff;
/// How much is searched at once for a marker, and zeroed at once where holes cannot be punched.
const PIECE_LEN: usize = 1 << 16;

/// One volume, open. Reads need no lock; appends are the caller's to order.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) id: u32,
    /// When it was begun.
    pub(super) begun: Timestamp,
    /// What was read of it.
    pub(super) reads: Reads,
    /// Whether all reads of it are known: this run began it.
    is_watched: bool,
    path: PathBuf,
    file: File,
    marker: Marker,
    /// The length of the file; only the appender changes it.
    len: AtomicU64,
    /// How much of it was given back to the disk.
    punched: AtomicU64,
}

/// An entry's header, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: ThumbKey,
    pub(super) slot: Slot,
    pub(super) is_punched: bool,
    body_crc: u32,
}

impl Volume {
    /// The file of a volume.
    pub(super) fn path(dir: &Path, id: u32) -> PathBuf {
        dir.join(format!("{id:010}.volume"))
    }

    /// The volume's number in a file name, if it is one.
    pub(super) fn id_of(name: &str) -> Option<u32> {
        let id = name.strip_suffix(".volume")?.parse().ok()?;
        (format!("{id:010}.volume") == name).then_some(id)
    }

    /// Begins a volume of about `len_max` bytes.
    pub(super) fn create(dir: &Path, id: u32, len_max: u64, begun: Timestamp) -> io::Result<Self> {
        let path = Self::path(dir, id);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let marker = marker::draw();
        let mut header = Vec::with_capacity(32);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&marker);
        header.extend_from_slice(&begun.as_ms().cast_unsigned().to_le_bytes());
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        if let Err(error) = file.write_all_at(&header, 0) {
            // A file without its header is of no use; the next start would delete it too.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        let (len, punched, reads) = (AtomicU64::new(FIRST_ENTRY), AtomicU64::new(0), Reads::new(len_max));
        Ok(Self { id, begun, reads, is_watched: true, path, file, marker, len, punched })
    }

    /// None: the header is damaged or of another version, so nothing can be found in the file.
    pub(super) fn open(dir: &Path, id: u32, len_max: u64) -> io::Result<Option<Self>> {
        let path = Self::path(dir, id);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let metadata = file.metadata()?;
        let mut header = [0; 32];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let (body, crc) = header.split_at(28);
        let valid = body.starts_with(MAGIC) && body[8..12] == VERSION.to_le_bytes();
        if !valid || crc != crc32c::crc32c(body).to_le_bytes() {
            return Ok(None);
        }
        let mut marker = Marker::default();
        marker.copy_from_slice(&body[12..20]);
        let begun = match body.last_chunk() {
            Some([0, 0, 0, 0, 0, 0, 0, 0]) | None => file_time(&metadata),
            Some(raw) => Timestamp::from_ms(i64::from_le_bytes(*raw)),
        };
        // Holes show as blocks that are missing; blocks beyond the length do not count.
        let punched = metadata.len().saturating_sub(metadata.blocks().saturating_mul(512));
        let (len, punched) = (AtomicU64::new(metadata.len()), AtomicU64::new(punched));
        let reads = Reads::new(len_max);
        Ok(Some(Self { id, begun, reads, is_watched: false, path, file, marker, len, punched }))
    }

    /// Whether nobody ever saw the entry at `offset`, for all that is known.
    pub(super) fn is_unread(&self, offset: u64) -> bool {
        self.is_watched && !self.reads.is_ever(offset)
    }

    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// What it takes on the disk, about.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.len().saturating_sub(self.punched.load(Ordering::Relaxed))
    }

    /// Deletes the file, which may be gone already; those who read it now may finish.
    pub(super) fn unlink(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Cuts everything from `len` on.
    pub(super) fn cut(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    /// Appends one entry; the caller lets one thread at a time do so. After an error nothing of it is left, or
    /// the second value is false and the volume must not be appended to again.
    pub(super) fn append(&self, key: &ThumbKey, body: &[u8]) -> Result<Slot, (io::Error, bool)> {
        let offset = self.len();
        let entry = self.encode(offset, key, body).map_err(|error| (error, true))?;
        if let Err(error) = self.file.write_all_at(&entry, offset) {
            return Err((error, self.cut(offset).is_ok()));
        }
        let len = u32::try_from(entry.len()).unwrap_or(u32::MAX);
        self.len.store(offset + u64::from(len), Ordering::Release);
        Ok(Slot { at_ms: key.at_ms, volume: self.id, offset, len })
    }

    fn encode(&self, offset: u64, key: &ThumbKey, body: &[u8]) -> io::Result<Vec<u8>> {
        let too_long = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        u32::try_from(body.len() + HEADER_LEN).map_err(too_long)?;
        let body_len = u32::try_from(body.len()).map_err(too_long)?;
        let key = key.encode();
        let key_len = u8::try_from(key.len()).map_err(too_long)?;
        let body_crc = crc32c::crc32c_append(crc32c::crc32c(&key), body);
        let mut entry = Vec::with_capacity(HEADER_LEN + body.len());
        entry.extend_from_slice(&self.marker);
        entry.extend_from_slice(&[LIVE, key_len]);
        entry.extend_from_slice(&body_len.to_le_bytes());
        entry.extend_from_slice(&header_crc(offset, key_len, body_len, body_crc, &key).to_le_bytes());
        entry.extend_from_slice(&body_crc.to_le_bytes());
        entry.extend_from_slice(&key);
        entry.extend_from_slice(body);
        Ok(entry)
    }

    /// The body of the live entry of `key` in the slot, all of it checked; None when anything is wrong with it.
    pub(super) fn read(&self, slot: Slot, key: &ThumbKey) -> io::Result<Option<Bytes>> {
        let Some(mut entry) = self.room_for(slot) else { return Ok(None) };
        self.file.read_exact_at(&mut entry, slot.offset)?;
        Ok(self.body(slot, key, entry))
    }

    /// The same where the system has the bytes in memory; None also when it has not, or cannot tell.
    pub(super) fn read_at_once(&self, slot: Slot, key: &ThumbKey) -> Option<Bytes> {
        let mut entry = self.room_for(slot)?;
        let mut room = [io::IoSliceMut::new(&mut entry)];
        let len = preadv2(&self.file, &mut room, slot.offset, ReadWriteFlags::NOWAIT).ok()?;
        if len < entry.len() {
            return None;
        }
        self.body(slot, key, entry)
    }

    /// Room for a whole entry, if one can be there.
    fn room_for(&self, slot: Slot) -> Option<Vec<u8>> {
        let end = slot.offset.checked_add(slot.len.into())?;
        let len = usize::try_from(slot.len).ok()?;
        (len >= HEADER_LEN && end <= self.len()).then(|| vec![0; len])
    }

    fn body(&self, slot: Slot, key: &ThumbKey, entry: Vec<u8>) -> Option<Bytes> {
        let found = self.parse(slot.offset, &entry)?;
        let whole = found.slot == slot && found.key == *key && !found.is_punched;
        let intact = crc32c::crc32c(&entry[FIXED_LEN..]) == found.body_crc;
        (whole && intact).then(|| Bytes::from(entry).slice(HEADER_LEN..))
    }

    /// The entry whose header begins `bytes`, which stand at `offset`.
    fn parse(&self, offset: u64, bytes: &[u8]) -> Option<Found> {
        let (fixed, rest) = bytes.split_first_chunk::<FIXED_LEN>()?;
        let [m @ .., state, key_len, l0, l1, l2, l3, h0, h1, h2, h3, b0, b1, b2, b3] = *fixed;
        let key = rest.get(..usize::from(key_len))?;
        let body_len = u32::from_le_bytes([l0, l1, l2, l3]);
        let body_crc = u32::from_le_bytes([b0, b1, b2, b3]);
        let crc = header_crc(offset, key_len, body_len, body_crc, key);
        if m != self.marker || crc != u32::from_le_bytes([h0, h1, h2, h3]) {
            return None;
        }
        let key = ThumbKey::decode(key).ok()?;
        let len = body_len.checked_add(u32::try_from(HEADER_LEN).ok()?)?;
        let slot = Slot { at_ms: key.at_ms, volume: self.id, offset, len };
        Some(Found { key, slot, is_punched: state != LIVE, body_crc })
    }

    /// Takes the body off the disk and marks the entry, unless the slot holds another key's entry. Not durable
    /// until [`Volume::sync`].
    pub(super) fn punch(&self, slot: Slot, key: &ThumbKey) -> io::Result<()> {
        let end = slot.offset.saturating_add(slot.len.into()).min(self.len());
        let body = slot.offset.saturating_add(HEADER_LEN as u64);
        if body > end {
            return Ok(());
        }
        let mut header = [0; HEADER_LEN];
        self.file.read_exact_at(&mut header, slot.offset)?;
        let found = self.parse(slot.offset, &header);
        if found.is_some_and(|found| found.key != *key) {
            return Ok(());
        }
        // The mark first: a crash in between leaves an entry that a rebuild does not admit, and punches again.
        self.file.write_all_at(&[PUNCHED], slot.offset + STATE_AT as u64)?;
        if body == end {
            return Ok(());
        }
        match rustix::fs::fallocate(
            &self.file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            body,
            end - body,
        ) {
            Ok(()) => {
                if found.is_none_or(|found| !found.is_punched) {
                    self.punched.fetch_add(end - body, Ordering::Relaxed);
                }
                Ok(())
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.overwrite(body, end),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Zeros where the file system has no holes.
    fn overwrite(&self, from: u64, to: u64) -> io::Result<()> {
        let zeros = [0; PIECE_LEN];
        let mut at = from;
        while at < to {
            let len = usize::try_from(to - at).map_or(PIECE_LEN, |left| left.min(PIECE_LEN));
            self.file.write_all_at(&zeros[..len], at)?;
            at += len as u64;
        }
        Ok(())
    }

    /// Reads bytes as they are.
    pub(super) fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    /// Gives every entry from `from` on, punched or not, bodies unread. Returns where the last one ends: what is
    /// behind it is a torn tail. Damage in between is skipped.
    pub(super) fn walk(&self, from: u64, mut each: impl FnMut(Found)) -> io::Result<u64> {
        let end = self.len();
        let mut at = from.max(FIRST_ENTRY);
        let mut valid_end = at.min(end);
        while let Some(found) = self.entry_from(at, end)? {
            at = found.slot.offset + u64::from(found.slot.len);
            valid_end = at;
            each(found);
        }
        Ok(valid_end)
    }

    /// The first entry at or behind `at` that ends before `end`.
    pub(super) fn entry_from(&self, mut at: u64, end: u64) -> io::Result<Option<Found>> {
        let mut piece = Vec::new();
        while at.saturating_add(HEADER_LEN as u64) <= end {
            let mut header = [0; HEADER_LEN];
            self.file.read_exact_at(&mut header, at)?;
            if let Some(found) = self.parse(at, &header)
                && at + u64::from(found.slot.len) <= end
            {
                return Ok(Some(found));
            }
            at += 1;
            let len = usize::try_from(end - at).map_or(PIECE_LEN, |left| left.min(PIECE_LEN));
            piece.resize(len, 0);
            self.file.read_exact_at(&mut piece, at)?;
            let found = piece.windows(self.marker.len()).position(|window| window == self.marker);
            // A marker may straddle two pieces.
            at += found.unwrap_or_else(|| len.saturating_sub(self.marker.len() - 1).max(1)) as u64;
        }
        Ok(None)
    }
}

/// When a file was last written, for volumes that do not say when they were begun.
fn file_time(metadata: &std::fs::Metadata) -> Timestamp {
    Timestamp::from_ms(metadata.mtime().saturating_mul(1000))
}

fn header_crc(offset: u64, key_len: u8, body_len: u32, body_crc: u32, key: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&offset.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &[key_len]);
    let crc = crc32c::crc32c_append(crc, &body_len.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &body_crc.to_le_bytes()), key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_holes_cannot_be_punched_zeros_are_written() {
        let temp = tempfile::tempdir().expect("directory");
        let volume = Volume::create(temp.path(), 1, 1 << 20, Timestamp::from_ms(7)).expect("volume");
        let len = 3 * PIECE_LEN + 5;
        volume.file.write_all_at(&vec![7; len], 0).expect("write");
        volume.overwrite(3, len as u64 - 1).expect("overwrite");
        let bytes = std::fs::read(&volume.path).expect("volume");
        assert_eq!((&bytes[..3], bytes.len(), bytes[len - 1]), (&[7; 3][..], len, 7));
        assert!(bytes[3..len - 1].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn names() {
        assert_eq!(Volume::id_of("0000000012.volume"), Some(12));
        assert_eq!(Volume::id_of("12.volume"), None);
        assert_eq!(Volume::id_of("+000000012.volume"), None);
        assert_eq!(Volume::id_of("0000000012.volume.bak"), None);
    }

    #[test]
    fn a_file_without_a_header_is_not_a_volume() {
        let temp = tempfile::tempdir().expect("directory");
        let volume = Volume::create(temp.path(), 1, 1 << 20, Timestamp::from_ms(7)).expect("volume");
        assert!(Volume::open(temp.path(), 1, 1 << 20).expect("open").is_some());
        for bit in 0..32 * 8 {
            let whole = std::fs::read(&volume.path).expect("volume");
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&volume.path, &damaged).expect("damage");
            assert!(Volume::open(temp.path(), 1, 1 << 20).expect("open").is_none(), "bit {bit}");
            std::fs::write(&volume.path, &whole).expect("restore");
        }
    }
}
