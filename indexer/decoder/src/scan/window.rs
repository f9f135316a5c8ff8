//! Reads media through one small buffer, so that neighbouring headers cost one read. Never keeps more than was asked
//! for plus the read-ahead.

use stills_model::fault::{Fault, FaultKind};
use stills_model::wire::READ_LEN_MAX;

use super::Media;

/// Read-ahead for headers: a `moof` of a two-second fragment or a run of small blocks fits.
const AHEAD: u32 = 4096;

/// A buffer over the media.
pub(super) struct Window<'m> {
    media: &'m mut dyn Media,
    len: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl<'m> Window<'m> {
    /// Reads nothing yet.
    pub(super) fn new(media: &'m mut dyn Media) -> Self {
        let len = media.len();
        Self { media, len, start: 0, buffer: Vec::new() }
    }

    /// Bytes in the file.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Up to `len` bytes from `offset` on: fewer only at the file's end.
    pub(super) fn up_to(&mut self, offset: u64, len: u32) -> Result<&[u8], Fault> {
        let len = u64::from(len.min(READ_LEN_MAX)).min(self.len.saturating_sub(offset));
        if len == 0 {
            return Ok(&[]);
        }
        let held = offset >= self.start && offset + len <= self.start + self.buffer.len() as u64;
        if !held {
            let wanted = len.max(AHEAD.into()).min(self.len - offset);
            self.buffer = read(self.media, offset, wanted)?;
            self.start = offset;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let to = from.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
        self.buffer.get(from..to).ok_or_else(|| Fault::new(FaultKind::Internal, "the read window is out of step"))
    }

    /// Exactly `len` bytes from `offset` on, or nothing where the file ends before.
    pub(super) fn exactly(&mut self, offset: u64, len: u32) -> Result<Option<&[u8]>, Fault> {
        let bytes = self.up_to(offset, len)?;
        Ok(if bytes.len() as u64 == u64::from(len) { Some(bytes) } else { None })
    }

    /// Exactly `len` bytes from `offset` on, however many reads that takes; the caller has bounded `len` and knows that
    /// the file holds them.
    pub(super) fn whole(&mut self, offset: u64, len: u64) -> Result<Vec<u8>, Fault> {
        if offset >= self.start && offset.saturating_add(len) <= self.start + self.buffer.len() as u64 {
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            return Ok(self.up_to(offset, len)?.to_vec());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        let mut done = 0;
        while done < len {
            let step = (len - done).min(READ_LEN_MAX.into());
            bytes.append(&mut read(self.media, offset + done, step)?);
            done += step;
        }
        Ok(bytes)
    }
}

fn read(media: &mut dyn Media, offset: u64, len: u64) -> Result<Vec<u8>, Fault> {
    let len = u32::try_from(len).map_err(|_| Fault::new(FaultKind::Internal, "a read over the limit"))?;
    let bytes = media.read(offset, len)?;
    if bytes.len() as u64 != u64::from(len) {
        return Err(Fault::new(FaultKind::Unreadable, "the source gave another number of bytes than asked for"));
    }
    Ok(bytes)
}
