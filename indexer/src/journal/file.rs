//! The form of a journal file: names, header, entries, and the scan that finds entries again around damage.
//! Reads and creates files; never appends to one and never deletes one.
//!
//! Form, all integers little-endian:
//!
//! ```text
//! at 0 and again at 4096   header: "STILLSJ\n", version u32, marker [8], batch [8], CRC-32C of these 28 bytes
//! from 4128 on             entries: marker [8], payload length u32, kind u8, CRC-32C, payload
//! ```
//!
//! Version 1: what is appended, entry by entry; earlier releases made such files by compaction too. Version 2: what a
//! compaction makes; each entry is a run (`run`) of entries, its kind the run's method.
//!
//! The batch is zeros, or of a file that a compaction made the first and last number (u32 each) of all that it made:
//! they contain every file of the day with a lower number, as soon as the last of them is there.
//!
//! The header stands twice, in different pages, because without its marker no entry can be found. An entry's
//! CRC covers its own offset too, so that a block which the disk put in the wrong place is not taken for one.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use stills_model::time::Day;

use crate::marker::{self, Marker};

/// Where the first entry of a file begins.
pub(super) const FIRST_ENTRY: u64 = SECOND_HEADER + HEADER_LEN as u64;
/// Bytes in front of an entry's payload.
pub(super) const ENTRY_HEADER_LEN: usize = 17;

const MAGIC: &[u8; 8] = b"STILLSJ\n";
const HEADER_LEN: usize = 32;
/// In another page than the first: the two are not lost together to one bad sector.
const SECOND_HEADER: u64 = 4096;
/// How much is read at once: few calls, little memory.
const WINDOW_LEN: usize = 1 << 20;
/// How much is searched at once for a marker: a small part of the window, or each find would read a window anew.
const SEARCH_LEN: usize = 1 << 16;

/// The name of a journal file: the day its entries belong to, then a sequence number within the day. Sorts by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    /// The recording day of all entries in it.
    pub day: Day,
    /// Counts the day's files from 1.
    pub sequence: u32,
}

impl FileName {
    /// The last day that has a name: seven digits reach past year 9999.
    pub const DAY_MAX: Day = Day(9_999_999);
}

/// `{day, 7 digits}-{sequence, 8 digits}.journal`.
impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:07}-{:08}.journal", self.day.0, self.sequence)
    }
}

/// The text is not the name of a journal file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidFileName;

impl std::str::FromStr for FileName {
    type Err = InvalidFileName;

    fn from_str(text: &str) -> Result<Self, InvalidFileName> {
        let stem = text.strip_suffix(".journal").ok_or(InvalidFileName)?;
        let (day, sequence) = stem.split_once('-').ok_or(InvalidFileName)?;
        let day = Day(day.parse().map_err(|_| InvalidFileName)?);
        let name = Self { day, sequence: sequence.parse().map_err(|_| InvalidFileName)? };
        // One spelling each, or two files would claim one name.
        if name.to_string() == text { Ok(name) } else { Err(InvalidFileName) }
    }
}

/// The numbers of the files that one compaction made; both 0 for files that took entries as they came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) first: u32,
    pub(super) last: u32,
}

/// What a file's entries are. The discriminant is the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Form {
    /// Entries as they were appended.
    Entries = 1,
    /// Runs of entries.
    Runs = 2,
}

/// What a file's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// A file of a known version, with its marker and batch.
    Known(Form, Marker, Batch),
    /// A file of a later version.
    Newer(u32),
    /// Neither copy is whole.
    Damaged,
}

/// Makes a file with nothing but its header, room for `preallocated` bytes, all of it on the disk.
/// The caller renames it and syncs the directory, so that a named file always has its header.
pub(super) fn create(path: &Path, preallocated: u64) -> io::Result<(File, Marker)> {
    let marker = marker::draw();
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if preallocated > 0 {
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, flags, 0, preallocated)?;
    }
    write_header(&file, Form::Entries, &marker, Batch::default())?;
    file.sync_all()?;
    Ok((file, marker))
}

/// Writes both copies of the header, not durably yet.
pub(super) fn write_header(file: &File, form: Form, marker: &Marker, batch: Batch) -> io::Result<()> {
    let mut header = Vec::with_capacity(HEADER_LEN);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&(form as u32).to_le_bytes());
    header.extend_from_slice(marker);
    header.extend_from_slice(&batch.first.to_le_bytes());
    header.extend_from_slice(&batch.last.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    file.write_all_at(&header, 0)?;
    file.write_all_at(&header, SECOND_HEADER)
}

/// Reads the header, from its second copy where the first is damaged.
pub(super) fn read_header(file: &File) -> io::Result<Header> {
    let mut newer = Header::Damaged;
    for at in [0, SECOND_HEADER] {
        let mut header = [0; HEADER_LEN];
        match file.read_exact_at(&mut header, at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            Err(error) => return Err(error),
        }
        let Some((body, crc)) = header.split_last_chunk::<4>() else { continue };
        let (Some(version), Some(marker)) = (body[8..].first_chunk(), body[12..].first_chunk()) else { continue };
        if !body.starts_with(MAGIC) || u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
            continue;
        }
        let version = u32::from_le_bytes(*version);
        match [Form::Entries, Form::Runs].into_iter().find(|form| *form as u32 == version) {
            Some(form) => {
                let number = |at: usize| body[at..].first_chunk().map_or(0, |raw| u32::from_le_bytes(*raw));
                return Ok(Header::Known(form, *marker, Batch { first: number(20), last: number(24) }));
            }
            None => newer = Header::Newer(version),
        }
    }
    Ok(newer)
}

/// Appends one entry, to stand at `offset` of its file, to `buffer`. `payload` is under 4 GiB: appending checks it.
pub(super) fn encode_entry(buffer: &mut Vec<u8>, marker: &Marker, offset: u64, kind: u8, payload: &[u8]) {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    buffer.extend_from_slice(marker);
    buffer.extend_from_slice(&len.to_le_bytes());
    buffer.push(kind);
    buffer.extend_from_slice(&entry_crc(offset, len, kind, payload).to_le_bytes());
    buffer.extend_from_slice(payload);
}

fn entry_crc(offset: u64, len: u32, kind: u8, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&offset.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &len.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &[kind]), payload)
}

/// What stands at an offset of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// A whole entry.
    Entry { kind: u8, payload: &'a [u8], end: u64 },
    /// No entry; the next one begins at `end`.
    Damaged { end: u64 },
    /// No entry here and none behind.
    Torn,
    /// The end of the file.
    End,
}

/// Walks a file's entries.
#[derive(Debug)]
pub(super) struct Scan {
    file: File,
    marker: Marker,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl Scan {
    /// Reads `file` as far as `end`, which also bounds what a damaged length can make it read.
    pub(super) fn new(file: File, marker: Marker, end: u64) -> Self {
        Self { file, marker, end, window: Vec::new(), window_start: 0 }
    }

    /// What stands at `offset`.
    pub(super) fn step(&mut self, offset: u64) -> io::Result<Step<'_>> {
        if offset >= self.end {
            return Ok(Step::End);
        }
        match self.entry_at(offset)? {
            Some((kind, len)) => {
                let bytes = self.bytes(offset, ENTRY_HEADER_LEN + len)?;
                let end = offset + bytes.len() as u64;
                Ok(Step::Entry { kind, payload: &bytes[ENTRY_HEADER_LEN..], end })
            }
            None => Ok(self.next_entry(offset + 1)?.map_or(Step::Torn, |end| Step::Damaged { end })),
        }
    }

    /// Kind and payload length of the entry at `offset`, if a whole one stands there.
    fn entry_at(&mut self, offset: u64) -> io::Result<Option<(u8, usize)>> {
        let marker = self.marker;
        let header = self.bytes(offset, ENTRY_HEADER_LEN)?;
        let Some(header) = header.first_chunk::<ENTRY_HEADER_LEN>().copied() else { return Ok(None) };
        let [m @ .., l0, l1, l2, l3, kind, c0, c1, c2, c3] = header;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let Ok(payload_len) = usize::try_from(len) else { return Ok(None) };
        if m != marker {
            return Ok(None);
        }
        let bytes = self.bytes(offset, ENTRY_HEADER_LEN + payload_len)?;
        let whole = bytes.len() == ENTRY_HEADER_LEN + payload_len;
        let crc = u32::from_le_bytes([c0, c1, c2, c3]);
        let valid = whole && entry_crc(offset, len, kind, &bytes[ENTRY_HEADER_LEN..]) == crc;
        Ok(valid.then_some((kind, payload_len)))
    }

    /// The first offset from `from` on at which a whole entry stands.
    fn next_entry(&mut self, from: u64) -> io::Result<Option<u64>> {
        let marker = self.marker;
        let mut at = from;
        while at + ENTRY_HEADER_LEN as u64 <= self.end {
            let bytes = self.bytes(at, SEARCH_LEN)?;
            match bytes.windows(marker.len()).position(|window| window == marker) {
                Some(found) => {
                    at += found as u64;
                    if self.entry_at(at)?.is_some() {
                        return Ok(Some(at));
                    }
                    at += 1;
                }
                // A marker may straddle two windows.
                None => at += (bytes.len() - (marker.len() - 1)).max(1) as u64,
            }
        }
        Ok(None)
    }

    /// `len` bytes at `offset`, fewer at the end of the file.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let available = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = len.min(available);
        let inside = |start: usize| start.checked_add(len).is_some_and(|end| end <= self.window.len());
        let start = offset.checked_sub(self.window_start).and_then(|start| usize::try_from(start).ok());
        let start = match start.filter(|&start| inside(start)) {
            Some(start) => start,
            None => {
                self.window.resize(len.max(WINDOW_LEN).min(available), 0);
                self.window_start = offset;
                if let Err(error) = self.file.read_exact_at(&mut self.window, offset) {
                    // What the window holds now is not what the file holds.
                    self.window.clear();
                    return Err(error);
                }
                0
            }
        };
        Ok(&self.window[start..start + len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: Option<(i64, u32)>) {
        assert_eq!(text.parse::<FileName>().ok().map(|n| (n.day.0, n.sequence)), name, "{text:?}");
    }

    #[test]
    fn names() {
        check("0020413-00000001.journal", Some((20_413, 1)));
        check("9999999-00000012.journal", Some((9_999_999, 12)));
        check("20413-00000001.journal", None);
        check("0020413-1.journal", None);
        check("0020413-00000001.journal.new", None);
        check("+020413-00000001.journal", None);
        check("reserve", None);
    }

    #[test]
    fn a_header_survives_the_loss_of_one_copy() {
        let temp = tempfile::tempdir().expect("directory");
        let (file, marker) = create(&temp.path().join("x"), 1 << 16).expect("file");
        let len = file.metadata().expect("metadata").len();
        assert_eq!(len, FIRST_ENTRY);
        for (at, expected) in
            [(9, Header::Known(Form::Entries, marker, Batch::default())), (SECOND_HEADER + 9, Header::Damaged)]
        {
            assert_eq!(read_header(&file).expect("header"), Header::Known(Form::Entries, marker, Batch::default()));
            file.write_all_at(&[7], at).expect("damage");
            assert_eq!(read_header(&file).expect("header"), expected);
        }
    }

    #[test]
    fn a_newer_form_is_told_apart_from_damage() {
        let temp = tempfile::tempdir().expect("directory");
        let (file, _) = create(&temp.path().join("x"), 0).expect("file");
        let mut header = [0; 28];
        file.read_exact_at(&mut header, 0).expect("header");
        header[8] = 3;
        for at in [0, SECOND_HEADER] {
            file.write_all_at(&header, at).expect("version");
            file.write_all_at(&crc32c::crc32c(&header).to_le_bytes(), at + 28).expect("crc");
        }
        assert_eq!(read_header(&file).expect("header"), Header::Newer(3));
    }
}
