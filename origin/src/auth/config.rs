//! The settings of `[auth]` as plain values, and secrets that cannot be printed. Parses no TOML: the loader fills these
//! in, [`super::Auth::new`] checks them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::scope::ScopeSet;

/// The shortest secret in bytes: HMAC-SHA256 wants a key as long as its output (RFC 7518 section 3.2).
pub const SECRET_MIN_BYTES: usize = 32;

/// The longest file of a secret or a public key in bytes; real ones are a few hundred.
pub(super) const KEY_FILE_MAX_BYTES: usize = 16 * 1024;

/// Everything about who may do what. Exactly one of the five sources of verification keys must be set.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// `auth.hs256_secret`: the HS256 secret itself (from the environment), at least [`SECRET_MIN_BYTES`].
    pub hs256_secret: Option<Secret>,
    /// `auth.hs256_secret_file`: a file with it; line ends at the file's end do not belong to it.
    pub hs256_secret_file: Option<PathBuf>,
    /// `auth.public_key_file`: one PEM public key; RSA (RS256, 2048 to 8192 bits), P-256 (ES256) or Ed25519 (EdDSA).
    pub public_key_file: Option<PathBuf>,
    /// `auth.jwks_file`: a JSON Web Key Set.
    pub jwks_file: Option<PathBuf>,
    /// `auth.jwks_url`: where to fetch one; `https`, or `http` of a loopback address.
    pub jwks_url: Option<String>,
    /// `auth.issuer`: `iss` must be there and be exactly this.
    pub issuer: Option<String>,
    /// `auth.audience`: `aud` must be there and be, or hold, exactly this. Unset: `aud` is not looked at.
    pub audience: Option<String>,
    /// `auth.cache_ttl`: how long NGINX may keep a yes, at most 60 s.
    pub cache_ttl: Duration,
    /// `auth.default_scopes`: what a token without a scope claim may do. With `users:all` in it, every user's footage.
    pub default_scopes: ScopeSet,
    /// `auth.claims`: where tokens keep what we need.
    pub claims: ClaimPointers,
    /// `auth.signing_keys`: secrets of signed URLs by key id (`[A-Za-z0-9._-]{1,64}`), at most 16. Empty: none are taken.
    pub signing_keys: BTreeMap<String, SecretSource>,
    /// `auth.signing_current`: the id of the key that signs. May be left out when there is only one.
    pub signing_current: Option<String>,
    /// `auth.signed_ttl`: how long our own signed URLs live, before rounding up to the hour.
    pub signed_ttl: Duration,
    /// `auth.signed_max_age`: the furthest ahead that a signed URL may expire, apart from that rounding.
    pub signed_max_age: Duration,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            hs256_secret: None,
            hs256_secret_file: None,
            public_key_file: None,
            jwks_file: None,
            jwks_url: None,
            issuer: None,
            audience: None,
            cache_ttl: Duration::from_secs(10),
            default_scopes: ScopeSet::EMPTY,
            claims: ClaimPointers::default(),
            signing_keys: BTreeMap::new(),
            signing_current: None,
            signed_ttl: Duration::from_secs(3600),
            signed_max_age: Duration::from_secs(7 * 86_400),
        }
    }
}

/// JSON pointers (RFC 6901) into a token's claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPointers {
    /// The users: a string or an array.
    pub user: String,
    /// The devices: a string or an array.
    pub device: String,
    /// The scopes: names set apart by spaces, or an array.
    pub scope: String,
}

impl Default for ClaimPointers {
    fn default() -> Self {
        Self { user: "/user_id".into(), device: "/device_id".into(), scope: "/scope".into() }
    }
}

/// A setting that cannot be used, for the list that `check-config` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// The full name of the setting, such as `auth.jwks_url`.
    pub setting: String,
    /// What is wrong and what is allowed. Never holds a secret.
    pub detail: String,
}

impl ConfigFault {
    pub(super) fn new(setting: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { setting: setting.into(), detail: detail.into() }
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.detail)
    }
}

impl std::error::Error for ConfigFault {}

/// Bytes that are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Wraps the bytes; their length is checked where they are used.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Reads a file, without the line ends at its end, and checks the length.
    ///
    /// # Errors
    /// A sentence without the path: it cannot be read, or is shorter or longer than a secret may be.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let bytes = read_limited(path, KEY_FILE_MAX_BYTES)?;
        let end = bytes.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |last| last + 1);
        Self::new(&bytes[..end]).checked()
    }

    pub(super) fn checked(self) -> Result<Self, String> {
        if self.0.len() < SECRET_MIN_BYTES {
            return Err(format!("must be at least {SECRET_MIN_BYTES} bytes long, but is {}", self.0.len()));
        }
        Ok(self)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret comes from.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// The value itself.
    Value(Secret),
    /// A file that holds it.
    File(PathBuf),
}

impl SecretSource {
    pub(super) fn read(&self) -> Result<Secret, String> {
        match self {
            Self::Value(secret) => secret.clone().checked(),
            Self::File(path) => Secret::from_file(path),
        }
    }
}

/// Reads a whole file of at most `max` bytes; the error is a sentence without the path.
pub(super) fn read_limited(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > max { Err(format!("is longer than {max} bytes")) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(bytes: &[u8], expected: Result<usize, &str>) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("secret");
        std::fs::write(&path, bytes).expect("writable");
        let read = Secret::from_file(&path).map(|secret| secret.as_bytes().len());
        assert_eq!(read, expected.map_err(str::to_owned));
    }

    #[test]
    fn secret_files() {
        check_file(&[b'k'; 32], Ok(32));
        check_file(&[[b'k'; 32].as_slice(), b"\r\n\n"].concat(), Ok(32));
        check_file(&[[b'k'; 31].as_slice(), b"\n"].concat(), Err("must be at least 32 bytes long, but is 31"));
        check_file(b"\n", Err("must be at least 32 bytes long, but is 0"));
        check_file(b"", Err("must be at least 32 bytes long, but is 0"));
        check_file(&[b'k'; 16_384], Ok(16_384));
        check_file(&[b'k'; 16_385], Err("is longer than 16384 bytes"));
        let missing = Secret::from_file(Path::new("/nonexistent/secret")).expect_err("no such file");
        assert!(missing.starts_with("cannot be opened"), "{missing}");
    }

    #[test]
    fn secrets_are_never_printed() {
        let config = AuthConfig {
            hs256_secret: Some(Secret::new(*b"a secret that must not be printed")),
            signing_keys: [("a".to_owned(), SecretSource::Value(Secret::new(*b"another that must not be")))].into(),
            ..AuthConfig::default()
        };
        let printed = format!("{config:?}");
        assert!(!printed.contains("must not be") && !printed.contains("97, 32"), "{printed}");
    }
}
