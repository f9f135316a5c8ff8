//! Who and what: users, devices, recordings. Parsed once at the edge, compared as bytes ever after.

use std::fmt;

use crate::codec::{Malformed, Reader, Writer};

/// The text is not an id of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidId(pub &'static str);

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidId {}

/// Twelve bytes written as 24 hexadecimal digits of either letter case; shown in lower case.
fn parse_object_id(text: &str) -> Result<[u8; 12], InvalidId> {
    let wrong = InvalidId("must be 24 hexadecimal digits");
    let digits = text.as_bytes();
    if digits.len() != 24 {
        return Err(wrong);
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(wrong);
    let mut id = [0; 12];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(id)
}

macro_rules! object_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 12]);

        impl $name {
            /// From the twelve raw bytes of a stored key.
            pub const fn from_bytes(bytes: [u8; 12]) -> Self {
                Self(bytes)
            }

            /// The twelve raw bytes, the prefix of every stored key.
            pub const fn as_bytes(&self) -> &[u8; 12] {
                &self.0
            }

            pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok(Self(reader.array()?))
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_object_id(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                crate::hex::write(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

object_id! {
    /// The owner of footage. Every stored key, cache key and queue begins with it.
    UserId
}

object_id! {
    /// One camera; owns one timeline.
    DeviceId
}

/// The recorder's own name of a recording within one device: `[A-Za-z0-9._~-]{1,128}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordingId(Box<str>);

impl RecordingId {
    /// The longest id, in bytes.
    pub const LEN_MAX: usize = 128;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.text()?.parse().map_err(|_| Malformed("recording id"))
    }
}

impl std::str::FromStr for RecordingId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-');
        if (1..=Self::LEN_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId("must be 1 to 128 of A-Z a-z 0-9 . _ ~ -"))
        }
    }
}

impl fmt::Display for RecordingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One device of one user: the owner of a timeline. (Two users may use the same device id; they share nothing.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline {
    /// Whose footage it is.
    pub user: UserId,
    /// Which camera.
    pub device: DeviceId,
}

impl Timeline {
    /// User then device, the 24-byte prefix of stored keys.
    pub fn key(&self) -> [u8; 24] {
        let mut key = [0; 24];
        key[..12].copy_from_slice(self.user.as_bytes());
        key[12..].copy_from_slice(self.device.as_bytes());
        key
    }

    /// Writes the 24 bytes.
    pub fn write(&self, writer: &mut Writer) {
        writer.raw(&self.key());
    }

    /// Reads the 24 bytes.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { user: UserId::read(reader)?, device: DeviceId::read(reader)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_device(text: &str, shown: Option<&str>) {
        assert_eq!(text.parse::<DeviceId>().ok().map(|id| id.to_string()).as_deref(), shown, "{text:?}");
    }

    #[test]
    fn object_ids() {
        check_device("627d911f7f58e4f344ca726c", Some("627d911f7f58e4f344ca726c"));
        check_device("627D911F7F58E4F344CA726C", Some("627d911f7f58e4f344ca726c"));
        check_device("627d911f7f58e4f344ca726", None);
        check_device("627d911f7f58e4f344ca726g", None);
        check_device("+27d911f7f58e4f344ca726c", None);
        check_device("", None);
        check_device("627d911f7f58e4f344ca72é", None);
    }

    fn check_recording(text: &str, valid: bool) {
        assert_eq!(text.parse::<RecordingId>().is_ok(), valid, "{text:?}");
    }

    #[test]
    fn recording_ids() {
        check_recording("r-000123", true);
        check_recording("A._~-9", true);
        check_recording("", false);
        check_recording("a/b", false);
        check_recording(&"x".repeat(128), true);
        check_recording(&"x".repeat(129), false);
    }
}
