//! Secrets: held as bytes, never shown.

use std::fmt;

/// Something that must not be printed: both its `Debug` and its `Display` are `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes what a secret's file or variable holds, without one line end at its foot, which editors add.
    pub fn new(text: &[u8]) -> Self {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        Self(text.strip_suffix(b"\r").unwrap_or(text).into())
    }

    /// Takes bytes as they are.
    pub fn exact(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for the one who computes with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let secret = Secret::new(text.as_bytes());
        assert_eq!(secret.expose(), expected.as_bytes());
        assert_eq!(format!("{secret} {secret:?} {:#?}", Some(&secret)), "*** *** Some(\n    ***,\n)");
    }

    #[test]
    fn one_line_end_goes_and_nothing_shows() {
        check("abc", "abc");
        check("abc\n", "abc");
        check("abc\r\n", "abc");
        check("abc\n\n", "abc\n");
        check(" abc ", " abc ");
        check("\n", "");
    }
}
