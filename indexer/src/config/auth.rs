//! `[auth]`: which tokens are believed, how long a decision may be remembered, and the keys of signed URLs.
//!
//! Only reads and bounds them; key material is parsed by the part that verifies with it.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use super::secret::Secret;
use super::settings::{Section, Settings};
use super::values::NamedFile;

/// The shortest HS256 secret and signing key: as long as the digest.
const SECRET_LEN_MIN: usize = 32;

/// The largest file of public keys.
const KEY_FILE_LEN_MAX: u64 = 1024 * 1024;

/// The scopes that a token can carry.
pub const SCOPES: [&str; 6] =
    ["thumbnails:read", "recordings:write", "recordings:read", "images:read", "images:write", "users:all"];

/// `[auth]`
#[derive(Debug, Clone)]
pub struct Auth {
    /// What tokens are verified with; absent only where nothing is served.
    pub key: Option<TokenKey>,
    /// The `iss` that tokens must carry.
    pub issuer: Option<String>,
    /// The `aud` that tokens must carry.
    pub audience: Option<String>,
    /// How long a decision may be remembered, at most a minute.
    pub cache_ttl: Duration,
    /// The scopes of a token that carries none.
    pub default_scopes: Vec<ScopeName>,
    /// Where claims stand in a token.
    pub claims: Claims,
    /// The keys of signed URLs by id.
    pub signing_keys: BTreeMap<String, Secret>,
    /// Which of them signs; absent: the only one.
    pub signing_current: Option<String>,
    /// How long our own signed URLs are good for, before rounding up to the hour.
    pub signed_ttl: Duration,
    /// The longest that a signed URL may be good for.
    pub signed_max_age: Duration,
    /// Whether shared caches may keep what a signed URL opens.
    pub signed_cache: SignedCache,
}

/// What tokens are verified with. It fixes the algorithm.
#[derive(Debug, Clone)]
pub enum TokenKey {
    /// HS256.
    Secret(Secret),
    /// RS256, ES256 or EdDSA by a PEM file.
    PublicKey(NamedFile),
    /// A JWKS file.
    JwksFile(NamedFile),
    /// A JWKS behind a URL.
    JwksUrl(Url),
}

/// JSON pointers into a token.
#[derive(Debug, Clone)]
pub struct Claims {
    /// The users whose footage the token may touch.
    pub user: JsonPointer,
    /// The devices it is narrowed to.
    pub device: JsonPointer,
    /// Its scopes.
    pub scope: JsonPointer,
}

/// Whether shared caches may keep what a signed URL opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedCache {
    /// Only the browser.
    Private,
    /// Every cache that sees the URL.
    Public,
}

impl Auth {
    pub(super) fn read(settings: &Settings, is_key_needed: bool) -> Self {
        let auth = settings.section("auth");
        let cache = [("private", SignedCache::Private), ("public", SignedCache::Public)];
        let cache_ttl_doc = "How long NGINX and the server may remember that a credential was good.";
        let signed_cache_doc = "Whether shared caches may keep what a signed URL opens.";
        let signed_age_doc = "The longest that a signed URL may be good for.";
        Self {
            key: token_key(&auth, is_key_needed),
            issuer: auth.optional_text("issuer", "The `iss` that tokens must carry; absent: any."),
            audience: auth.optional_text("audience", "The `aud` that tokens must carry; absent: any."),
            cache_ttl: auth.duration("cache_ttl", "10s", "0s"..="60s", cache_ttl_doc),
            default_scopes: auth.list("default_scopes", &[], SCOPES.len(), "The scopes of a token that carries none."),
            claims: Claims::read(&auth.table("claims")),
            signing_current: auth.optional_text("signing_current", "Which signing key signs; absent: the only one."),
            signed_ttl: auth.duration("signed_ttl", "1h", "1m"..="366d", "How long our own signed URLs are good for."),
            signed_max_age: auth.duration("signed_max_age", "7d", "1h"..="366d", signed_age_doc),
            signed_cache: auth.choice("signed_cache", &cache, SignedCache::Private, signed_cache_doc),
            signing_keys: auth.named("signing_keys", |id, key| {
                if !is_key_id(id) {
                    key.fault_of_section("a key's id must be 1 to 64 of A-Z a-z 0-9 . _ -");
                }
                key.secret("secret", SECRET_LEN_MIN, "The key `<name>` of signed URLs, which `key=` names.")
            }),
        }
    }
}

/// At most one of the four kinds of key, exactly one where it is needed.
fn token_key(auth: &Section<'_>, is_needed: bool) -> Option<TokenKey> {
    let kinds = "hs256_secret_file, public_key_file, jwks_file, jwks_url";
    let pem_doc = "PEM file with the public key of RS256, ES256 or EdDSA tokens.";
    let url_doc = "Where the JWKS of the tokens' issuer is fetched.";
    let keys = [
        auth.secret("hs256_secret", SECRET_LEN_MIN, "The secret of HS256 tokens.").map(TokenKey::Secret),
        auth.file("public_key_file", KEY_FILE_LEN_MAX, pem_doc).map(TokenKey::PublicKey),
        auth.file("jwks_file", KEY_FILE_LEN_MAX, "JWKS file with the keys of tokens.").map(TokenKey::JwksFile),
        auth.optional("jwks_url", url_doc).map(|WebUrl(url)| TokenKey::JwksUrl(url)),
    ];
    let names = ["hs256_secret", "hs256_secret_file", "public_key_file", "jwks_file", "jwks_url"];
    let given: Vec<_> = names.into_iter().filter(|name| auth.is_set(name)).collect();
    let is_one_secret = given == ["hs256_secret", "hs256_secret_file"];
    if given.len() > 1 && !is_one_secret {
        auth.fault_of_section(&format!("only one of {kinds} may be set; there are {}", given.join(", ")));
    } else if given.is_empty() && is_needed {
        auth.fault_of_section(&format!("one of {kinds} must be set, or no token could be verified"));
    }
    keys.into_iter().flatten().next()
}

fn is_key_id(id: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    id == "<name>" || ((1..=64).contains(&id.len()) && id.bytes().all(is_plain))
}

impl Claims {
    fn read(claims: &Section<'_>) -> Self {
        let pointer = |name: &str, default: &str, meaning: &str| {
            claims.parsed(name, JsonPointer(default.to_owned()), &format!("JSON pointer to {meaning}."))
        };
        Self {
            user: pointer("user", "/user_id", "the users whose footage a token may touch"),
            device: pointer("device", "/device_id", "the devices that it is narrowed to"),
            scope: pointer("scope", "/scope", "its scopes"),
        }
    }
}

/// A JSON pointer (RFC 6901) to one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer(String);

impl JsonPointer {
    /// With the slash in front.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for JsonPointer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let escapes_are_good = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        let is_pointer = text.len() > 1 && text.starts_with('/') && escapes_are_good;
        if is_pointer { Ok(Self(text.to_owned())) } else { Err("must be a JSON pointer, such as \"/user_id\"") }
    }
}

/// One of [`SCOPES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeName(String);

impl ScopeName {
    /// As tokens write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ScopeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match SCOPES.contains(&text) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("must be one of {}", SCOPES.join(", "))),
        }
    }
}

/// An `http` or `https` URL without user or password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebUrl(pub Url);

impl std::str::FromStr for WebUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.filter(|url| url.username().is_empty() && url.password().is_none());
        url.map(Self).ok_or("must be an http:// or https:// URL without user or password")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_pointer(text: &str, is_valid: bool) {
        assert_eq!(text.parse::<JsonPointer>().is_ok(), is_valid, "{text:?}");
    }

    #[test]
    fn pointers() {
        for good in ["/user_id", "/a/b", "/https:~1~1x.org~1user", "/a~0b"] {
            check_pointer(good, true);
        }
        for wrong in ["", "/", "user_id", "/a~b", "/a~"] {
            check_pointer(wrong, false);
        }
    }

    fn check_url(text: &str, is_valid: bool) {
        assert_eq!(text.parse::<WebUrl>().is_ok(), is_valid, "{text:?}");
    }

    #[test]
    fn web_urls() {
        check_url("https://issuer.example.com/jwks", true);
        check_url("http://127.0.0.1:8333", true);
        for wrong in ["", "issuer", "ftp://a", "https://u@a", "https://u:p@a", "file:///a"] {
            check_url(wrong, false);
        }
    }
}
