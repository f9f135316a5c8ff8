//! Why media could not be scanned or shown: closed kinds, so that age and HTTP status can be chosen in one place each.

use std::fmt;

use crate::codec::{Malformed, Reader, Writer};

/// The kinds of failure. The discriminant is part of stored forms: only ever append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FaultKind {
    /// The media is of a container or codec that is not decoded here.
    Unsupported = 0,
    /// The media is broken: truncated, damaged, without its tables, or without any picture.
    Damaged = 1,
    /// The media is no longer at its place.
    Gone = 2,
    /// The place could not be read, or answered wrongly; trying again may help.
    Unreadable = 3,
    /// The media changed while it was read.
    Changed = 4,
    /// Reading this place is forbidden by configuration.
    Forbidden = 5,
    /// It took longer than the deadline.
    Deadline = 6,
    /// The decoder died on it.
    Crashed = 7,
    /// Over a limit (pixels, tables, keyframes): named in the detail.
    TooLarge = 8,
    /// All decoders and the queue are full.
    Busy = 9,
    /// A fault of ours.
    Internal = 10,
}

const KINDS: [FaultKind; 11] = [
    FaultKind::Unsupported,
    FaultKind::Damaged,
    FaultKind::Gone,
    FaultKind::Unreadable,
    FaultKind::Changed,
    FaultKind::Forbidden,
    FaultKind::Deadline,
    FaultKind::Crashed,
    FaultKind::TooLarge,
    FaultKind::Busy,
    FaultKind::Internal,
];

/// A failure and what a person should know of it. The detail is public text: no path, address or secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind.
    pub kind: FaultKind,
    /// One sentence: what is wrong, where, what would be right.
    pub detail: String,
}

impl Fault {
    /// A fault with its sentence.
    pub fn new(kind: FaultKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// Appends the stored form.
    pub fn write(&self, w: &mut Writer) {
        w.byte(self.kind as u8).text(&self.detail);
    }

    /// Takes the stored form off the reader.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let byte = r.byte()?;
        let kind = KINDS.into_iter().find(|kind| *kind as u8 == byte).ok_or(Malformed("fault kind"))?;
        Ok(Self { kind, detail: r.text()?.to_owned() })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Fault {}
