//! Signed URLs, for players and `<img>` tags that cannot send headers. Never part of a cache key.
//!
//! What is signed is a window of one device. One signature opens every picture, sheet and playlist under
//! `/{user_id}/{device_id}/{start}/{end}/` and nothing else.
//!
//! The recipe, for front ends that mint their own:
//!
//! 1. The prefix: `/{user_id}/{device_id}/{start}/{end}/`, ids in lower case, times in milliseconds as decimal digits
//!    without sign or leading zeros, **without** the configured `public.prefix` and without scheme and host.
//! 2. The expiry: Unix seconds, rounded up to a whole hour (a multiple of 3600), so that URLs made within one hour are
//!    the same; decimal digits without leading zeros. At most `auth.signed_max_age` (and that rounding) ahead.
//! 3. The text, UTF-8, each of the four lines ended by one `\n`:
//!    `stills-window-v1`, the prefix, `thumbnails:read`, the expiry.
//! 4. The signature: HMAC-SHA256 of the text under the secret of the signing key, in base64url (RFC 4648 section 5)
//!    without padding: 43 characters.
//! 5. Append `?expires={expiry}&key={key id}&signature={signature}` to any URL under the prefix; other parameters
//!    (`v`) may stand beside these.
//!
//! Secret `0123456789abcdef0123456789abcdef`, user `627d8ca8297a3d00019e2abb`, device `627d911f7f58e4f344ca726c`,
//! 1757371980000 to 1757372040000, expiry 1757376000 give the signature
//! `TFUI6CX0cRUYF0SE5Zep34EIs7wuz5UiScIhDzZF7I8`.
//!
//! No field can hold a `\n`, so one text has one meaning; the first line keeps it apart from any other use of a secret.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stills_model::time::{TIMESTAMP_MAX_MS, Timestamp};

use super::access::{Grant, Window};
use super::config::{ConfigFault, SecretSource};
use super::credentials::SignedParts;
use super::error::AuthError;
use super::scope::Scope;

/// Signatures expire on the hour.
const HOUR_MS: i64 = 3_600_000;

/// The most signing keys; rotation needs two.
const SIGNING_KEYS_MAX: usize = 16;

/// The longest key id.
const KEY_ID_MAX: usize = 64;

/// The only scope that is signed for.
const SIGNED_SCOPE: Scope = Scope::ThumbnailsRead;

/// The secrets of signed URLs.
pub(super) struct SigningKeys {
    keys: BTreeMap<String, hmac::Key>,
    current: Option<String>,
    ttl_ms: i64,
    ahead_max_ms: i64,
}

impl SigningKeys {
    /// Whether there is a key that signs.
    pub(super) fn can_sign(&self) -> bool {
        self.current.is_some()
    }

    /// Reads the secrets; every fault is added to `faults`.
    pub(super) fn load(
        sources: &BTreeMap<String, SecretSource>,
        current: Option<&str>,
        ttl: Duration,
        max_age: Duration,
        faults: &mut Vec<ConfigFault>,
    ) -> Self {
        let mut keys = BTreeMap::new();
        if sources.len() > SIGNING_KEYS_MAX {
            faults.push(ConfigFault::new("auth.signing_keys", format!("must be at most {SIGNING_KEYS_MAX} keys")));
        }
        for (id, source) in sources.iter().take(SIGNING_KEYS_MAX) {
            let setting = format!("auth.signing_keys.{id}");
            if !is_key_id(id) {
                faults.push(ConfigFault::new(setting, "the key id must be 1 to 64 of A-Z a-z 0-9 . _ -"));
                continue;
            }
            match source.read() {
                Ok(secret) => {
                    keys.insert(id.clone(), hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
                }
                Err(detail) => faults.push(ConfigFault::new(setting, detail)),
            }
        }
        let current = match current {
            Some(id) if !sources.contains_key(id) => {
                faults.push(ConfigFault::new("auth.signing_current", "must be the id of one of auth.signing_keys"));
                None
            }
            Some(id) => Some(id.to_owned()),
            None if sources.len() > 1 => {
                faults.push(ConfigFault::new("auth.signing_current", "must say which of auth.signing_keys signs"));
                None
            }
            None => sources.keys().next().cloned(),
        };
        if ttl.is_zero() || ttl > max_age {
            faults.push(ConfigFault::new("auth.signed_ttl", "must be over 0 and at most auth.signed_max_age"));
        }
        let ahead_max_ms = millis(max_age);
        if ahead_max_ms > 366 * 24 * HOUR_MS {
            faults.push(ConfigFault::new("auth.signed_max_age", "must be at most 366 days"));
        }
        Self { keys, current, ttl_ms: millis(ttl), ahead_max_ms }
    }

    /// The query that opens the window for the configured time, with the current key. Nothing when no key signs.
    pub(super) fn sign(&self, window: &Window, now: Timestamp) -> Option<String> {
        let id = self.current.as_deref()?;
        let key = self.keys.get(id)?;
        let expires = hour_after(now.plus_ms(self.ttl_ms)).as_ms() / 1000;
        let tag = hmac::sign(key, text(window, SIGNED_SCOPE, expires).as_bytes());
        Some(format!("expires={expires}&key={id}&signature={}", URL_SAFE_NO_PAD.encode(tag)))
    }

    /// Checks a signature against the window of the path that was asked for.
    pub(super) fn verify(&self, window: &Window, parts: SignedParts<'_>, now: Timestamp) -> Result<Grant, AuthError> {
        let seconds = expiry(parts.expires)?;
        if !is_key_id(parts.key) {
            return Err(AuthError::Malformed("The key must be 1 to 64 of A-Z a-z 0-9 . _ -"));
        }
        let mut signature = [0; 32];
        match URL_SAFE_NO_PAD.decode_slice(parts.signature, &mut signature) {
            Ok(32) => {}
            _ => return Err(AuthError::Malformed("The signature must be 32 bytes as base64url without padding")),
        }
        let key = self.keys.get(parts.key).ok_or(AuthError::UnknownKey)?;
        hmac::verify(key, text(window, SIGNED_SCOPE, seconds).as_bytes(), &signature)
            .map_err(|_| AuthError::BadSignature)?;
        let expires_at = Timestamp::from_ms(seconds.saturating_mul(1000));
        if now >= expires_at {
            return Err(AuthError::Expired);
        }
        if expires_at > hour_after(now.plus_ms(self.ahead_max_ms)) {
            return Err(AuthError::NotYetValid);
        }
        Ok(Grant { window: *window, scope: SIGNED_SCOPE, expires_at })
    }
}

/// The text that is signed; see the recipe above.
fn text(window: &Window, scope: Scope, expires: i64) -> String {
    let Window { timeline, span } = window;
    format!(
        "stills-window-v1\n/{}/{}/{}/{}/\n{scope}\n{expires}\n",
        timeline.user, timeline.device, span.start, span.end
    )
}

/// The first whole hour at or after the instant.
fn hour_after(instant: Timestamp) -> Timestamp {
    let hours = instant.as_ms().saturating_add(HOUR_MS - 1).div_euclid(HOUR_MS);
    Timestamp::from_ms(hours.saturating_mul(HOUR_MS))
}

/// Unix seconds in the one spelling that may be signed.
fn expiry(digits: &str) -> Result<i64, AuthError> {
    let canonical = digits.len() <= 12 && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    let seconds = digits.parse::<i64>().ok().filter(|seconds| canonical && *seconds <= TIMESTAMP_MAX_MS / 1000);
    seconds.ok_or(AuthError::Malformed("The parameter expires must be Unix seconds as plain decimal digits"))
}

fn is_key_id(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=KEY_ID_MAX).contains(&id.len()) && id.bytes().all(allowed)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
