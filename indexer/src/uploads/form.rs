//! The stored form of one image: a head that tells whose it is and what it shows, then the file as it was put.
//!
//! Version 1: eight bytes of magic, the head's length and CRC-32C (`u32`, little-endian), the head, the image.

use sha2::{Digest, Sha256};
use stills_model::codec::{Malformed, Reader, Writer};
use stills_model::id::UserId;

/// Ends with the version.
const MAGIC: &[u8; 8] = b"STLIMG01";

/// Bytes before the head.
pub(super) const PREFIX_LEN: usize = 16;

/// The longest head: four texts of 256 bytes and some numbers take a third of it.
pub(super) const HEAD_LEN_MAX: usize = 4096;

/// Whose image it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Everyone's: the only owner where images are public.
    Everyone,
    /// One user's.
    User(UserId),
}

/// The name of an image. The texts may be anything: no file is named by them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadKey {
    /// Whose.
    pub owner: Owner,
    /// Of what kind of content.
    pub content_type: Box<str>,
    /// Of which content.
    pub id: Box<str>,
    /// Which image of it.
    pub image_type: Box<str>,
    /// For which locale; none: for all that have none of their own.
    pub locale: Option<Box<str>>,
}

impl UploadKey {
    fn write(&self, w: &mut Writer) {
        match &self.owner {
            Owner::Everyone => w.byte(0),
            Owner::User(user) => w.byte(1).raw(user.as_bytes()),
        };
        w.text(&self.content_type).text(&self.id).text(&self.image_type).optional_text(self.locale.as_deref());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let owner = match r.byte()? {
            0 => Owner::Everyone,
            1 => Owner::User(UserId::from_bytes(r.array()?)),
            _ => return Err(Malformed("owner of an image")),
        };
        let mut text = || r.text().map(Box::from);
        let (content_type, id, image_type) = (text()?, text()?, text()?);
        Ok(Self { owner, content_type, id, image_type, locale: r.optional_text()?.map(Box::from) })
    }

    /// What its file is named by: two keys never share one, and no key names another file.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut w = Writer::new();
        self.write(&mut w);
        Sha256::digest(w.finish()).into()
    }
}

/// What is known of an image without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Width and height in pixels, upright.
    pub size: (u32, u32),
    /// SHA-256 of the file.
    pub content: [u8; 32],
    /// Its bytes.
    pub len: u64,
}

impl Head {
    /// Of an image of that size.
    pub fn of(size: (u32, u32), image: &[u8]) -> Self {
        Self { size, content: Sha256::digest(image).into(), len: image.len() as u64 }
    }
}

/// What stands before the image.
pub(super) fn encode(key: &UploadKey, head: &Head) -> Vec<u8> {
    let mut w = Writer::new();
    key.write(&mut w);
    w.unsigned(head.size.0.into()).unsigned(head.size.1.into()).raw(&head.content).unsigned(head.len);
    let body = w.finish();
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [MAGIC, len.to_le_bytes().as_slice(), &crc32c::crc32c(&body).to_le_bytes(), &body].concat()
}

/// The head's length, from the first [`PREFIX_LEN`] bytes.
pub(super) fn head_len(prefix: &[u8]) -> Result<usize, Malformed> {
    let mut r = Reader::new(prefix);
    if r.raw(MAGIC.len())? != MAGIC {
        return Err(Malformed("magic or version of an image"));
    }
    let len = usize::try_from(u32::from_le_bytes(r.array()?)).unwrap_or(usize::MAX);
    if len > HEAD_LEN_MAX { Err(Malformed("length of an image's head")) } else { Ok(len) }
}

/// The head, which must be of `key`.
pub(super) fn decode(prefix: &[u8], head: &[u8], key: &UploadKey) -> Result<Head, Malformed> {
    let sum = prefix.get(12..PREFIX_LEN).and_then(|sum| sum.try_into().ok()).map(u32::from_le_bytes);
    if sum != Some(crc32c::crc32c(head)) {
        return Err(Malformed("check sum of an image's head"));
    }
    let mut r = Reader::new(head);
    if UploadKey::read(&mut r)? != *key {
        return Err(Malformed("key of an image"));
    }
    let head = Head { size: (r.unsigned_32()?, r.unsigned_32()?), content: r.array()?, len: r.unsigned()? };
    r.end()?;
    Ok(head)
}
