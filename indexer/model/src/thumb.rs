//! The identity of a picture: one keyframe of one recording's media in one rendition by one render version.
//!
//! Every window, URL form and interface that shows the same picture meets here, so it is rendered once, stored
//! once and has one `ETag`. The key alone knows its stored form and its tag.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::codec::{Malformed, Reader, Writer};
use crate::id::{RecordingId, Timeline};
use crate::keyframe_index::KeyframeIndex;
use crate::rendition::Rendition;
use crate::time::{Hour, Timestamp};

/// Raised by every change that alters pixels or their coding; it is part of key and `ETag`.
///
/// 1: planes scaled by area, libjpeg-turbo 4:2:0. 2: planes halved by averages before they are scaled.
pub const RENDER_VERSION: u16 = 2;

/// A fingerprint of a recording's media: the same after the file moved or grew, another after it was recorded again.
/// Its first four bytes are the hour in which the recording starts: what is keyed by it lies in order of time, and the
/// recording is found without another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaId(pub [u8; MediaId::LEN]);

impl MediaId {
    /// Bytes of a media id: hour and digest.
    pub const LEN: usize = 12;

    /// The hour in which the recording starts.
    pub fn hour(&self) -> Hour {
        let mut hour = [0; 4];
        hour.copy_from_slice(&self.0[..4]);
        Hour::from_bytes(hour)
    }

    /// From what identifies the media: its recording and start, and its first keyframe's instant, sizes, decoder
    /// configuration and `head`, a digest of its first bytes (two recordings of a still scene agree in all the
    /// rest). Offsets do not count: rewriting a file with its tables in front changes no picture.
    pub fn new(recording: &RecordingId, start: Timestamp, index: &KeyframeIndex, head: &[u8]) -> Self {
        let mut w = Writer::new();
        w.text(recording.as_str()).signed(start.as_ms()).bytes(head);
        if let Some(first) = index.keyframes.first() {
            w.signed(first.at_ms);
            for range in &first.ranges {
                w.unsigned(range.len.into());
            }
            w.raw(&index.configs[usize::from(first.config)].id().0);
        }
        let digest = Sha256::digest(w.finish());
        let mut id = [0; Self::LEN];
        id[..4].copy_from_slice(&start.hour().to_bytes());
        id[4..].copy_from_slice(&digest[..8]);
        Self(id)
    }
}

/// The identity of one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThumbKey {
    /// Whose camera.
    pub timeline: Timeline,
    /// Which recording's media.
    pub media: MediaId,
    /// Which keyframe: milliseconds after the recording's start.
    pub at_ms: i64,
    /// In which rendition.
    pub rendition: Rendition,
    /// By which render version.
    pub version: u16,
}

impl ThumbKey {
    /// The stored form: 24 bytes of user and device, 12 of media, 7 of rendition, 2 of version, 8 of instant,
    /// all big-endian, so that keys of one recording and rendition lie together.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.timeline.write(&mut w);
        w.raw(&self.media.0);
        self.rendition.write(&mut w);
        w.raw(&self.version.to_be_bytes()).raw(&self.at_ms.to_be_bytes());
        w.finish()
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let key = Self {
            timeline: Timeline::read(&mut r)?,
            media: MediaId(r.array()?),
            rendition: Rendition::read(&mut r)?,
            version: u16::from_be_bytes(r.array()?),
            at_ms: i64::from_be_bytes(r.array()?),
        };
        r.end()?;
        Ok(key)
    }

    /// The same picture by the render version before this one, which may still be stored.
    #[must_use]
    pub fn earlier(&self) -> Option<Self> {
        let version = self.version.checked_sub(1).filter(|version| *version > 0)?;
        Some(Self { version, ..*self })
    }

    /// The strong entity tag, without its quotes: 24 hexadecimal digits.
    pub fn etag(&self) -> ETag {
        let digest = Sha256::digest(self.encode());
        let mut tag = [0; 12];
        tag.copy_from_slice(&digest[..12]);
        ETag(tag)
    }
}

/// A picture's strong entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ETag([u8; 12]);

impl ETag {
    /// How many digits of the tag `?v=` carries: enough that two pictures of one URL never share it.
    pub const PREFIX_LEN: usize = 8;

    /// Of an image that was put, whose SHA-256 is `content`, in a rendition by this render version.
    pub fn of_image(content: &[u8; 32], rendition: &Rendition) -> Self {
        let mut w = Writer::new();
        w.raw(content).raw(&RENDER_VERSION.to_be_bytes());
        rendition.write(&mut w);
        let digest = Sha256::digest(w.finish());
        let mut tag = [0; 12];
        tag.copy_from_slice(&digest[..12]);
        Self(tag)
    }

    /// The `?v=` value of this picture.
    pub fn prefix(&self) -> String {
        let mut text = self.to_string();
        text.truncate(Self::PREFIX_LEN);
        text
    }
}

/// The digits without quotes.
impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::hex::write(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and tag are what caches outside of us hold on to: a change here must be meant.
    #[test]
    fn key_and_tag_stay_what_they_are() {
        let timeline = Timeline {
            user: "627d8ca8297a3d00019e2abb".parse().expect("id"),
            device: "627d911f7f58e4f344ca726c".parse().expect("id"),
        };
        let rendition = Rendition::thumb(320, 240).expect("size");
        let key = ThumbKey { timeline, media: MediaId([9; 12]), at_ms: 4000, rendition, version: 1 };
        assert_eq!(ThumbKey::decode(&key.encode()), Ok(key));
        assert_eq!(key.encode().len(), 53);
        assert_eq!(key.etag().to_string(), "fa3f2aa0bc47674bc2602959");
        assert_ne!(key.etag(), ThumbKey { version: 2, ..key }.etag());
        assert_ne!(key.etag(), ThumbKey { at_ms: 4001, ..key }.etag());
    }

    #[test]
    fn tags_of_images_differ_by_content_and_rendition() {
        let (one, other) = (Rendition::thumb(320, 240).expect("size"), Rendition::thumb(320, 241).expect("size"));
        let tag = ETag::of_image(&[1; 32], &one);
        assert_eq!(tag, ETag::of_image(&[1; 32], &one));
        assert_ne!(tag, ETag::of_image(&[2; 32], &one));
        assert_ne!(tag, ETag::of_image(&[1; 32], &other));
    }
}
