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

#[cfg(test)]
mod tests {
    use stills_model::id::Timeline;
    use stills_model::time::Span;

    use super::super::config::Secret;
    use super::*;

    const USER: &str = "627d8ca8297a3d00019e2abb";
    const DEVICE: &str = "627d911f7f58e4f344ca726c";
    const START: i64 = 1_757_371_980_000;
    const END: i64 = 1_757_372_040_000;
    /// An hour and some before [`HOUR`].
    const NOW: Timestamp = Timestamp::from_ms(1_757_372_100_000);
    const HOUR: i64 = 1_757_376_000;
    const VECTOR: &str = "TFUI6CX0cRUYF0SE5Zep34EIs7wuz5UiScIhDzZF7I8";

    fn window(user: &str, device: &str, start: i64, end: i64) -> Window {
        let timeline = Timeline { user: user.parse().expect("id"), device: device.parse().expect("id") };
        Window { timeline, span: Span { start: Timestamp::from_ms(start), end: Timestamp::from_ms(end) } }
    }

    fn own() -> Window {
        window(USER, DEVICE, START, END)
    }

    fn load(ids: &[(&str, u8)], current: Option<&str>, ttl_s: u64, max_s: u64) -> (SigningKeys, Vec<String>) {
        let secret = |seed: u8| match seed {
            0 => SecretSource::Value(Secret::new(*b"0123456789abcdef0123456789abcdef")),
            1 => SecretSource::Value(Secret::new(*b"short")),
            seed => SecretSource::Value(Secret::new([seed; 40])),
        };
        let sources = ids.iter().map(|(id, seed)| ((*id).to_owned(), secret(*seed))).collect();
        let mut faults = Vec::new();
        let (ttl, max) = (Duration::from_secs(ttl_s), Duration::from_secs(max_s));
        let keys = SigningKeys::load(&sources, current, ttl, max, &mut faults);
        (keys, faults.iter().map(ToString::to_string).collect())
    }

    fn keys() -> SigningKeys {
        let (keys, faults) = load(&[("a", 0), ("b", 7)], Some("a"), 3600, 7 * 86_400);
        assert_eq!(faults, [""; 0]);
        keys
    }

    fn parts<'q>(expires: &'q str, key: &'q str, signature: &'q str) -> SignedParts<'q> {
        SignedParts { expires, key, signature }
    }

    #[test]
    fn the_published_vector() {
        assert_eq!(
            text(&own(), SIGNED_SCOPE, HOUR),
            format!("stills-window-v1\n/{USER}/{DEVICE}/{START}/{END}/\nthumbnails:read\n1757376000\n")
        );
        let grant = keys().verify(&own(), parts("1757376000", "a", VECTOR), NOW).expect("the vector is good");
        let expires_at = Timestamp::from_ms(HOUR * 1000);
        assert_eq!(grant, Grant { window: own(), scope: Scope::ThumbnailsRead, expires_at });
        // Half an hour ahead of that hour rounds up to it.
        let (half_hour, _) = load(&[("a", 0)], None, 1800, 1800);
        let query = half_hour.sign(&own(), NOW).expect("a key signs");
        assert_eq!(query, format!("expires=1757376000&key=a&signature={VECTOR}"));
        assert!(include_str!("signed.rs").starts_with("//! Signed URLs") && include_str!("signed.rs").contains(VECTOR));
        // Ids in upper case are the same window.
        let upper = window(&USER.to_uppercase(), &DEVICE.to_uppercase(), START, END);
        assert!(keys().verify(&upper, parts("1757376000", "a", VECTOR), NOW).is_ok());
    }

    fn refuse(window: &Window, parts: SignedParts<'_>, now: Timestamp, expected: AuthError) {
        let error = keys().verify(window, parts, now).expect_err("refused");
        let alike = std::mem::discriminant(&error) == std::mem::discriminant(&expected);
        assert!(alike, "{error:?} for {window:?} {} {} {}", parts.expires, parts.key, parts.signature);
    }

    #[test]
    fn other_windows() {
        let other = "627d8ca8297a3d00019e2abc";
        for window in [
            window(other, DEVICE, START, END),
            window(USER, other, START, END),
            window(DEVICE, USER, START, END),
            window(USER, DEVICE, START + 1, END),
            window(USER, DEVICE, START - 1, END),
            window(USER, DEVICE, START, END + 1),
            window(USER, DEVICE, START, END - 1),
            window(USER, DEVICE, START / 10, END),
            window(USER, DEVICE, END, END),
            window(USER, DEVICE, 0, i64::MAX),
        ] {
            refuse(&window, parts("1757376000", "a", VECTOR), NOW, AuthError::BadSignature);
        }
    }

    #[test]
    fn other_expiries_keys_and_scopes() {
        use AuthError::{BadSignature, UnknownKey};
        const MALFORMED: AuthError = AuthError::Malformed("");
        for expires in ["1757379600", "1757376001", "175737600", "17573760000", "1"] {
            refuse(&own(), parts(expires, "a", VECTOR), NOW, BadSignature);
        }
        for expires in [
            "",
            "0",
            "01757376000",
            "+1757376000",
            "-1757376000",
            "1757376000.0",
            "1757376000 ",
            " 1757376000",
            "1e9",
            "0x68bf6d00",
            "１757376000",
            "1757376000000",
            "99999999999999999999",
            "%31757376000",
            "NaN",
        ] {
            refuse(&own(), parts(expires, "a", VECTOR), NOW, MALFORMED);
        }
        refuse(&own(), parts("1757376000", "b", VECTOR), NOW, BadSignature);
        for key in ["c", "A", "a.", "0"] {
            refuse(&own(), parts("1757376000", key, VECTOR), NOW, UnknownKey);
        }
        for key in ["", "a ", "a/b", "a\n", "é", &"k".repeat(65)] {
            refuse(&own(), parts("1757376000", key, VECTOR), NOW, MALFORMED);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef0123456789abcdef");
        let signed = |text: &str| URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()));
        assert_eq!(signed(&text(&own(), SIGNED_SCOPE, HOUR)), VECTOR);
        let prefix = format!("/{USER}/{DEVICE}/{START}/{END}/");
        for other in [
            text(&own(), Scope::UsersAll, HOUR),
            text(&own(), Scope::ImagesRead, HOUR),
            format!("stills-window-v1\n{prefix}\nthumbnails:read\n1757376000"),
            format!("stills-window-v2\n{prefix}\nthumbnails:read\n1757376000\n"),
            format!("stills-window-v1\n/thumbs{prefix}\nthumbnails:read\n1757376000\n"),
            format!("{prefix}thumbnails:read1757376000"),
            prefix.clone(),
            String::new(),
        ] {
            refuse(&own(), parts("1757376000", "a", &signed(&other)), NOW, BadSignature);
        }
    }

    #[test]
    fn other_signatures() {
        const MALFORMED: AuthError = AuthError::Malformed("");
        let bytes = URL_SAFE_NO_PAD.decode(VECTOR).expect("base64url");
        for bit in 0..256 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let signature = URL_SAFE_NO_PAD.encode(flipped);
            refuse(&own(), parts("1757376000", "a", &signature), NOW, AuthError::BadSignature);
        }
        let padded = format!("{VECTOR}=");
        let longer = URL_SAFE_NO_PAD.encode([bytes.as_slice(), b"\0"].concat());
        let shorter = URL_SAFE_NO_PAD.encode(&bytes[..31]);
        // The last character of 32 bytes carries two spare bits: 8 and 9 would decode alike.
        let respelled = format!("{}9", &VECTOR[..42]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        for signature in ["", "=", "A", &VECTOR[1..], &padded, &longer, &shorter, &respelled, &hex, "TFUI/+", "é"] {
            refuse(&own(), parts("1757376000", "a", signature), NOW, MALFORMED);
        }
    }

    #[test]
    fn times() {
        let at = |seconds: i64| Timestamp::from_ms(seconds * 1000);
        let vector = parts("1757376000", "a", VECTOR);
        assert!(keys().verify(&own(), vector, at(HOUR).plus_ms(-1)).is_ok());
        refuse(&own(), vector, at(HOUR), AuthError::Expired);
        refuse(&own(), vector, at(HOUR + 1), AuthError::Expired);
        let week = 7 * 86_400;
        assert!(keys().verify(&own(), vector, at(HOUR - week)).is_ok());
        assert!(keys().verify(&own(), vector, at(HOUR - week - 3599)).is_ok());
        refuse(&own(), vector, at(HOUR - week - 3600), AuthError::NotYetValid);
    }

    #[test]
    fn rotation() {
        let find = |query: &str, name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).expect("there").to_owned()
        };
        let (old, _) = load(&[("old", 7)], None, 3600, 3600);
        let (both, _) = load(&[("new", 8), ("old", 7)], Some("new"), 3600, 3600);
        let (new, _) = load(&[("new", 8)], None, 3600, 3600);
        let verify = |keys: &SigningKeys, query: &str| {
            let (expires, key, signature) = (find(query, "expires"), find(query, "key"), find(query, "signature"));
            keys.verify(&own(), parts(&expires, &key, &signature), NOW).map(|_| ())
        };
        let by_old = old.sign(&own(), NOW).expect("signs");
        let by_both = both.sign(&own(), NOW).expect("signs");
        assert_eq!((verify(&both, &by_old), verify(&both, &by_both)), (Ok(()), Ok(())));
        assert_eq!((verify(&new, &by_old), verify(&new, &by_both)), (Err(AuthError::UnknownKey), Ok(())));
        let (none, faults) = load(&[], None, 3600, 3600);
        assert_eq!((none.sign(&own(), NOW), faults.len()), (None, 0));
        assert_eq!(verify(&none, &by_old), Err(AuthError::UnknownKey));
    }

    #[test]
    fn settings() {
        let check = |ids: &[(&str, u8)], current: Option<&str>, ttl_s: u64, max_s: u64, expected: &[&str]| {
            assert_eq!(load(ids, current, ttl_s, max_s).1, expected, "{ids:?}");
        };
        let hour = 3600;
        check(&[("a", 0)], None, hour, hour, &[]);
        check(&[("a", 1)], None, hour, hour, &["auth.signing_keys.a: must be at least 32 bytes long, but is 5"]);
        check(
            &[("a/b", 0)],
            None,
            hour,
            hour,
            &["auth.signing_keys.a/b: the key id must be 1 to 64 of A-Z a-z 0-9 . _ -"],
        );
        check(
            &[("a", 0), ("b", 7)],
            None,
            hour,
            hour,
            &["auth.signing_current: must say which of auth.signing_keys signs"],
        );
        check(
            &[("a", 0)],
            Some("b"),
            hour,
            hour,
            &["auth.signing_current: must be the id of one of auth.signing_keys"],
        );
        let wrong_ttl = "auth.signed_ttl: must be over 0 and at most auth.signed_max_age";
        check(&[], None, 0, hour, &[wrong_ttl]);
        check(&[], None, hour + 1, hour, &[wrong_ttl]);
        check(&[], None, hour, u64::MAX, &["auth.signed_max_age: must be at most 366 days"]);
        let many: Vec<String> = (0..17).map(|id| id.to_string()).collect();
        let many: Vec<(&str, u8)> = many.iter().map(|id| (id.as_str(), 7)).collect();
        check(&many, Some("0"), hour, hour, &["auth.signing_keys: must be at most 16 keys"]);
    }
}
