//! Pages of the cache index: which keyframes of a stretch of one recording and rendition are stored where.
//! Keys and values only; no IO.
//!
//! A page's key is the thumb key without its instant (45 bytes: timeline, media, rendition, render version), then
//! the number of the two-minute page of the recording's time, big-endian with its sign bit turned, so that pages
//! sort by time. Two minutes keep a value near 100 bytes at the usual prerender interval and near 1 KiB with a
//! thumb per second; the index's memory and speed hold only for small values.
//!
//! Stored form of a page, version 1: version, count, then per slot the distance of its instant from the previous
//! one's (the first: from the page's start), of its volume from the previous one's and of its offset from where the
//! previous one ends, and its length; at the end the CRC-32C of the page's key and all that.

use stills_model::codec::{Malformed, Reader, Writer};
use stills_model::rendition::Rendition;
use stills_model::thumb::{MediaId, ThumbKey};

use stills_model::id::Timeline;

const VERSION: u8 = 1;
/// Milliseconds of a recording's time in one page.
const PAGE_MS: i64 = 120_000;
/// Bytes of the thumb key in front of its instant.
const PREFIX_LEN: usize = 45;

/// Where a picture is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Which keyframe: milliseconds after the recording's start.
    pub(super) at_ms: i64,
    pub(super) volume: u32,
    pub(super) offset: u64,
    /// Header, key and body.
    pub(super) len: u32,
}

impl Slot {
    /// Of two entries of one key, the one with the greater age counts.
    pub(super) fn age(&self) -> (u32, u64) {
        (self.volume, self.offset)
    }
}

/// The key of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PageKey([u8; PREFIX_LEN + 8]);

impl PageKey {
    pub(super) fn of(key: &ThumbKey) -> Self {
        let mut page = [0; PREFIX_LEN + 8];
        page[..PREFIX_LEN].copy_from_slice(&key.encode()[..PREFIX_LEN]);
        let number = key.at_ms.div_euclid(PAGE_MS) ^ i64::MIN;
        page[PREFIX_LEN..].copy_from_slice(&number.to_be_bytes());
        Self(page)
    }

    /// What all pages of one recording's media in one rendition begin with.
    pub(super) fn prefix(timeline: &Timeline, media: &MediaId, rendition: &Rendition, version: u16) -> Vec<u8> {
        let key = ThumbKey { timeline: *timeline, media: *media, at_ms: 0, rendition: *rendition, version };
        let mut prefix = key.encode();
        prefix.truncate(PREFIX_LEN);
        prefix
    }

    /// None: the length is wrong.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key of the thumb at `at_ms` in this page; None when the prefix is not of this release.
    pub(super) fn thumb(&self, at_ms: i64) -> Option<ThumbKey> {
        let mut key = self.0;
        key[PREFIX_LEN..].copy_from_slice(&at_ms.to_be_bytes());
        ThumbKey::decode(&key).ok()
    }

    fn start_ms(&self) -> i64 {
        let mut number = [0; 8];
        number.copy_from_slice(&self.0[PREFIX_LEN..]);
        (i64::from_be_bytes(number) ^ i64::MIN).saturating_mul(PAGE_MS)
    }
}

/// The slots of one page, by instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page(Vec<Slot>);

impl Page {
    pub(super) fn slots(&self) -> &[Slot] {
        &self.0
    }

    pub(super) fn get(&self, at_ms: i64) -> Option<Slot> {
        self.0.binary_search_by_key(&at_ms, |slot| slot.at_ms).ok().map(|i| self.0[i])
    }

    /// Returns the slot that was there for the instant.
    pub(super) fn insert(&mut self, slot: Slot) -> Option<Slot> {
        match self.0.binary_search_by_key(&slot.at_ms, |slot| slot.at_ms) {
            Ok(i) => Some(std::mem::replace(&mut self.0[i], slot)),
            Err(i) => {
                self.0.insert(i, slot);
                None
            }
        }
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Slot) -> bool) {
        self.0.retain(keep);
    }

    pub(super) fn encode(&self, key: &PageKey) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(VERSION).unsigned(self.0.len() as u64);
        let (mut at_ms, mut volume, mut end) = (key.start_ms(), 0, 0);
        for slot in &self.0 {
            // All differences wrap, and wrap back when read: every value comes through.
            w.signed(slot.at_ms.wrapping_sub(at_ms)).signed(i64::from(slot.volume) - i64::from(volume));
            w.signed(slot.offset.wrapping_sub(end).cast_signed()).unsigned(slot.len.into());
            (at_ms, volume, end) = (slot.at_ms, slot.volume, slot.offset.wrapping_add(slot.len.into()));
        }
        let mut bytes = w.finish();
        let crc = page_crc(key, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(key: &PageKey, bytes: &[u8]) -> Result<Self, Malformed> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(Malformed("cache index page"))?;
        if page_crc(key, body) != u32::from_le_bytes(*crc) {
            return Err(Malformed("cache index page"));
        }
        let mut r = Reader::new(body);
        if r.byte()? != VERSION {
            return Err(Malformed("cache index page version"));
        }
        let count = r.unsigned()?;
        let mut slots = Vec::new();
        let (mut at_ms, mut volume, mut end) = (key.start_ms(), 0u32, 0u64);
        for _ in 0..count {
            at_ms = at_ms.wrapping_add(r.signed()?);
            let id = i64::from(volume).wrapping_add(r.signed()?);
            volume = u32::try_from(id).map_err(|_| Malformed("volume"))?;
            let offset = end.wrapping_add(r.signed()?.cast_unsigned());
            let len = r.unsigned_32()?;
            end = offset.wrapping_add(len.into());
            slots.push(Slot { at_ms, volume, offset, len });
        }
        r.end()?;
        Ok(Self(slots))
    }
}

fn page_crc(key: &PageKey, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.as_bytes()), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn thumb(at_ms: i64) -> ThumbKey {
        let timeline = Timeline {
            user: "627d8ca8297a3d00019e2abb".parse().expect("id"),
            device: "627d911f7f58e4f344ca726c".parse().expect("id"),
        };
        let rendition = Rendition::thumb(320, 240).expect("size");
        ThumbKey { timeline, media: MediaId([9; 12]), at_ms, rendition, version: 1 }
    }

    proptest! {
        #[test]
        fn pages_survive(at_ms: i64, raw in prop::collection::btree_map(any::<i64>(), any::<(u32, u64, u32)>(), 0..9)) {
            let key = PageKey::of(&thumb(at_ms));
            let mut page = Page::default();
            for (at_ms, (volume, offset, len)) in raw {
                page.insert(Slot { at_ms, volume, offset, len });
            }
            prop_assert_eq!(Page::decode(&key, &page.encode(&key)), Ok(page.clone()));
            prop_assert_eq!(key.thumb(at_ms), Some(thumb(at_ms)));
            // A page that comes back under another key is not believed.
            prop_assert!(Page::decode(&PageKey::of(&thumb(at_ms ^ (1 << 40))), &page.encode(&key)).is_err());
        }

        #[test]
        fn pages_sort_by_time(a: i64, b: i64) {
            let (first, second) = (PageKey::of(&thumb(a)), PageKey::of(&thumb(b)));
            prop_assert_eq!(first.cmp(&second), a.div_euclid(PAGE_MS).cmp(&b.div_euclid(PAGE_MS)));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = Page::decode(&PageKey::of(&thumb(0)), &bytes);
        }
    }

    #[test]
    fn a_usual_page_is_small() {
        let mut page = Page::default();
        for i in 0..12u32 {
            page.insert(Slot { at_ms: i64::from(i) * 10_000, volume: 3, offset: u64::from(i) * 9_000, len: 9_000 });
        }
        assert!(page.encode(&PageKey::of(&thumb(0))).len() < 100);
    }
}
