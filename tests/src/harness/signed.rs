//! Signed windows, made by the published recipe and nothing else.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::token::now_s;

/// The id of the signing key that every server here knows.
pub const KEY_ID: &str = "k1";

/// Its secret.
pub const SECRET: &[u8] = b"signing-secret-0123456789abcdef-0123456789";

/// Everything that a signature says; change a field to make a wrong one.
#[derive(Debug, Clone)]
pub struct Window<'a> {
    /// Whose footage.
    pub user: &'a str,
    /// Of which device.
    pub device: &'a str,
    /// From, in milliseconds.
    pub start: i64,
    /// Until, in milliseconds.
    pub end: i64,
    /// What it opens; the recipe knows only `thumbnails:read`.
    pub scope: &'a str,
    /// Unix seconds on a whole hour.
    pub expires: i64,
    /// The id of the key.
    pub key: &'a str,
    /// The key's secret.
    pub secret: &'a [u8],
}

impl<'a> Window<'a> {
    /// A right one for this window, good for one to two hours.
    pub fn new(user: &'a str, device: &'a str, start: i64, end: i64) -> Self {
        let expires = (now_s() / 3600 + 2) * 3600;
        Self { user, device, start, end, scope: "thumbnails:read", expires, key: KEY_ID, secret: SECRET }
    }

    /// The query that opens it, without `?`.
    pub fn query(&self) -> String {
        let Self { user, device, start, end, scope, expires, key, .. } = self;
        let text = format!("stills-window-v1\n/{user}/{device}/{start}/{end}/\n{scope}\n{expires}\n");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.secret), text.as_bytes());
        format!("expires={expires}&key={key}&signature={}", URL_SAFE_NO_PAD.encode(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DEVICE, USER};
    use super::*;

    #[test]
    fn the_published_example() {
        let secret = b"0123456789abcdef0123456789abcdef";
        let window = Window {
            expires: 1_757_376_000,
            secret,
            ..Window::new(USER, DEVICE, 1_757_371_980_000, 1_757_372_040_000)
        };
        assert_eq!(window.query(), "expires=1757376000&key=k1&signature=TFUI6CX0cRUYF0SE5Zep34EIs7wuz5UiScIhDzZF7I8");
    }
}
