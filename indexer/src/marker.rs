//! Markers for resynchronisation in append-only files. Each file draws its own, so that nobody who can choose
//! stored bytes (a URL, a picture) can write something that looks like an entry; it is never sent anywhere.

use std::hash::{BuildHasher, RandomState};

/// Eight bytes in front of every entry of one file.
pub(crate) type Marker = [u8; 8];

/// A marker that cannot be guessed: the standard library's hasher is keyed by the system's random source.
pub(crate) fn draw() -> Marker {
    RandomState::new().hash_one(std::process::id()).to_be_bytes()
}
