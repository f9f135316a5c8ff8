//! An hour block: the recordings of one device that start within one hour and change no more, as one compressed value.
//!
//! Stored form, version 1: version; then twice a length, the length before compression, and zstd of that: first the
//! recordings by start and id (count, then id, row as stored, number of pages), then their keyframe pages in the same
//! order, each behind its length. Pages apart, for they are noise that does not compress.

use std::cell::RefCell;

use bytes::Bytes;
use stills_model::codec::{Malformed, Reader, Writer};
use stills_model::id::RecordingId;
use stills_model::thumb::MediaId;
use stills_model::time::Hour;

use super::row::{Entry, Row};

const VERSION: u8 = 1;
/// Above this the block is damaged: an hour of recordings of a second with a page each is 1 MB.
const PART_BYTES_MAX: u64 = 64 << 20;
/// Half as large as level 1 at the same speed of reading; higher levels gain a few per cent.
const LEVEL: i32 = 3;

/// One recording of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// What look-ups by time see of it.
    pub(super) entry: Entry,
    /// The stored form of its row; shares the block's memory.
    pub(super) row: Bytes,
    /// The stored forms of its keyframe pages, in order; they share the block's memory too.
    pub(super) pages: Vec<Bytes>,
}

impl Member {
    /// None: the row has no time, so it belongs to no hour.
    pub(super) fn new(recording: &RecordingId, row: &Row, pages: Vec<Vec<u8>>) -> Option<Self> {
        let pages = pages.into_iter().map(Bytes::from).collect();
        Some(Self { entry: row.entry(recording)?, row: row.encode().into(), pages })
    }

    /// Of each of its keyframe pages what `decode` reads.
    pub(super) fn read_pages<T>(&self, decode: impl Fn(&[u8]) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        self.pages.iter().map(|page| decode(page)).collect()
    }
}

/// The recordings of one hour, by start and id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Block {
    members: Vec<Member>,
}

impl Block {
    /// Sorts the members.
    pub(super) fn new(mut members: Vec<Member>) -> Self {
        members.sort_by(|a, b| a.entry.precedence().cmp(&b.entry.precedence()));
        Self { members }
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// In which all of its recordings start.
    pub(super) fn hour(&self) -> Option<Hour> {
        self.members.first().map(|member| member.entry.span.start.hour())
    }

    pub(super) fn into_members(self) -> Vec<Member> {
        self.members
    }

    pub(super) fn member(&self, recording: &RecordingId) -> Option<&Member> {
        self.members.iter().find(|member| member.entry.recording == *recording)
    }

    pub(super) fn member_of(&self, media: &MediaId) -> Option<&Member> {
        self.members.iter().find(|member| member.entry.media == *media && member.entry.n_keyframes > 0)
    }

    /// About how much memory it takes.
    pub(super) fn cost(&self) -> usize {
        let of =
            |member: &Member| 350 + member.row.len() + member.pages.iter().map(|page| 32 + page.len()).sum::<usize>();
        self.members.iter().map(of).sum()
    }

    /// The stored form.
    pub(super) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let (mut rows, mut pages) = (Writer::new(), Writer::new());
        rows.unsigned(self.members.len() as u64);
        for member in &self.members {
            rows.text(member.entry.recording.as_str()).bytes(&member.row).unsigned(member.pages.len() as u64);
            for page in &member.pages {
                pages.bytes(page);
            }
        }
        let mut w = Writer::new();
        w.byte(VERSION);
        for part in [rows.finish(), pages.finish()] {
            w.unsigned(part.len() as u64).bytes(&zstd::bulk::compress(&part, LEVEL)?);
        }
        Ok(w.finish())
    }

    /// Reads the stored form.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.byte()? != VERSION {
            return Err(Malformed("hour block version"));
        }
        let (rows, pages) = (part(&mut r)?, part(&mut r)?);
        r.end()?;
        let (mut r, mut r_pages) = (Reader::new(&rows), Reader::new(&pages));
        let mut members = Vec::new();
        for _ in 0..r.unsigned()? {
            let recording = r.text()?.parse().map_err(|_| Malformed("recording id"))?;
            let row = rows.slice_ref(r.bytes()?);
            let entry = Row::skim(&row, recording)?.ok_or(Malformed("row without a time"))?;
            let own = (0..r.unsigned()?).map(|_| Ok(pages.slice_ref(r_pages.bytes()?))).collect::<Result<_, _>>()?;
            members.push(Member { entry, row, pages: own });
        }
        r.end()?;
        r_pages.end()?;
        Ok(Self { members })
    }
}

fn part(r: &mut Reader<'_>) -> Result<Bytes, Malformed> {
    let len = r.unsigned()?;
    if len > PART_BYTES_MAX {
        return Err(Malformed("hour block length"));
    }
    let len = usize::try_from(len).map_err(|_| Malformed("hour block length"))?;
    let part = decompress(r.bytes()?, len).map_err(|_| Malformed("hour block"))?;
    if part.len() == len { Ok(part.into()) } else { Err(Malformed("hour block length")) }
}

/// Undoes a compression; the tables that takes are kept by the thread, for to make them takes longer than to use them.
fn decompress(bytes: &[u8], len_max: usize) -> std::io::Result<Vec<u8>> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = match decompressor {
            Some(known) => known,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress(bytes, len_max)
    })
}
