//! Who may do what: verifies bearer tokens and signed URLs, and decides about access. Chooses no HTTP status, and never
//! logs or prints a token, a signature or a key.
//!
//! 1. [`Credentials`] are found in headers or query: exactly one.
//! 2. [`Auth::authenticate`] turns them into an [`Identity`]: a token through `keys` and `token`, a signed window
//!    through [`signed`].
//! 3. [`authorize`] decides, for lists and gets alike.
//!
//! Whatever fails is an [`AuthError`].

mod access;
mod config;
mod credentials;
mod error;
mod jwks;
mod keys;
mod mint;
mod scope;
pub mod signed;
mod token;

#[cfg(test)]
mod forgeries;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod running;
#[cfg(test)]
mod testkeys;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use stills_indexer::clock::Clock;
use stills_model::time::Timestamp;

pub use access::{Caller, Grant, Identity, Target, Users, Window, authorize};
pub use config::{AuthConfig, ClaimPointers, ConfigFault, SECRET_MIN_BYTES, Secret, SecretSource};
pub use credentials::{Credentials, SignedParts};
pub use error::{AuthError, Refusal};
pub use mint::{Minting, mint};
pub use scope::{Scope, ScopeSet, UnknownScope};

use jwks::RemoteKeys;
use keys::KeySet;
use signed::SigningKeys;
use token::{TokenHeader, TokenRules};

/// The most verified tokens kept; one is under a kilobyte, and a viewer needs one.
const VERIFIED_MAX: u64 = 10_000;

/// The longest a verified token is believed without verifying it again.
const VERIFIED_FOR_MS: i64 = 60_000;

/// The longest `auth.cache_ttl`: a revoked credential still opens pictures for that long.
const CACHE_TTL_MAX: Duration = Duration::from_secs(60);

/// Verifies credentials. One per server; [`Auth::reload`] replaces its keys and rules while requests run.
pub struct Auth {
    clock: Clock,
    state: ArcSwap<State>,
}

/// What one configuration gives. The cache is part of it, so that nothing verified before a reload outlives it.
struct State {
    keys: KeySource,
    rules: TokenRules,
    signing: SigningKeys,
    cache_ttl: Duration,
    verified: moka::sync::Cache<[u8; 32], Verified>,
}

enum KeySource {
    Fixed(KeySet),
    Remote(Arc<RemoteKeys>),
}

/// A token that was verified, under its SHA-256.
#[derive(Clone)]
struct Verified {
    caller: Arc<Caller>,
    generation: u64,
    verified_at: Timestamp,
}

impl Auth {
    /// Checks the configuration and reads its files. A JWKS URL is first fetched when a token needs it.
    ///
    /// # Errors
    /// Every fault found, none of which holds a secret.
    pub fn new(config: &AuthConfig, clock: Clock) -> Result<Self, Vec<ConfigFault>> {
        let state = State::new(config, &clock, None)?;
        Ok(Self { clock, state: ArcSwap::from_pointee(state) })
    }

    /// Replaces keys and rules as a whole, and forgets every verified token. Requests that run finish with the old ones.
    /// Fetched keys of an unchanged JWKS URL stay in use until they were fetched again, which happens at once.
    ///
    /// # Errors
    /// As [`Auth::new`]; then the old configuration stays in force.
    pub fn reload(&self, config: &AuthConfig) -> Result<(), Vec<ConfigFault>> {
        let state = State::new(config, &self.clock, Some(&self.state.load()))?;
        self.state.store(Arc::new(state));
        Ok(())
    }

    /// Verifies a credential. `window` is the window of the path that is asked for, where it has one; only there may a
    /// signature stand.
    ///
    /// # Errors
    /// Every kind that [`Refusal::Unauthenticated`] or [`Refusal::Unavailable`] covers.
    pub async fn authenticate(
        &self,
        credentials: Credentials<'_>,
        window: Option<&Window>,
    ) -> Result<Identity, AuthError> {
        let state = self.state.load_full();
        match credentials {
            Credentials::Bearer(token) => self.verify_token(&state, token).await.map(Identity::Caller),
            Credentials::Signed(parts) => {
                let window = window.ok_or(AuthError::BadSignature)?;
                state.signing.verify(window, parts, self.clock.now()).map(Identity::Grant)
            }
        }
    }

    /// The query (`expires=…&key=…&signature=…`) that opens the window for `auth.signed_ttl`. Nothing when no signing
    /// key is configured. Whoever may read the window may have it: authorize first.
    pub fn sign(&self, window: &Window) -> Option<String> {
        self.state.load().signing.sign(window, self.clock.now())
    }

    /// Whether a signing key is configured.
    pub fn can_sign(&self) -> bool {
        self.state.load().signing.can_sign()
    }

    /// How long a yes about this credential may be kept: `auth.cache_ttl`, and no longer than it lives. Whole seconds,
    /// rounded down.
    pub fn cache_ttl(&self, identity: &Identity) -> Duration {
        let left_ms = identity.expires_at().since_ms(self.clock.now());
        let left = Duration::from_secs(u64::try_from(left_ms / 1000).unwrap_or(0));
        Duration::from_secs(self.state.load().cache_ttl.min(left).as_secs())
    }

    async fn verify_token(&self, state: &State, token: &str) -> Result<Arc<Caller>, AuthError> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(verified) = state.verified.get(&hash) {
            if verified.is_fresh(state.keys.generation(), self.clock.now()) {
                return Ok(verified.caller);
            }
            state.verified.invalidate(&hash);
        }
        let header = TokenHeader::parse(token)?;
        let (caller, generation) = match &state.keys {
            KeySource::Fixed(keys) => (token::verify(token, &header, keys, &state.rules, self.clock.now())?, 0),
            KeySource::Remote(remote) => {
                let fetched = remote.keys(header.kid.as_deref()).await?;
                let caller = token::verify(token, &header, &fetched.keys, &state.rules, self.clock.now())?;
                (caller, fetched.generation)
            }
        };
        let caller = Arc::new(caller);
        let verified = Verified { caller: Arc::clone(&caller), generation, verified_at: self.clock.now() };
        state.verified.insert(hash, verified);
        Ok(caller)
    }
}

impl Verified {
    fn is_fresh(&self, generation: u64, now: Timestamp) -> bool {
        let age_ms = now.since_ms(self.verified_at);
        generation == self.generation && (0..VERIFIED_FOR_MS).contains(&age_ms) && now < self.caller.expires_at
    }
}

impl KeySource {
    fn generation(&self) -> u64 {
        match self {
            Self::Fixed(_) => 0,
            Self::Remote(remote) => remote.generation(),
        }
    }

    fn load(config: &AuthConfig, clock: &Clock, before: Option<&State>) -> Result<Self, ConfigFault> {
        let fault = |setting: &str, detail: String| ConfigFault::new(format!("auth.{setting}"), detail);
        let sources = [
            ("hs256_secret", config.hs256_secret.is_some()),
            ("hs256_secret_file", config.hs256_secret_file.is_some()),
            ("public_key_file", config.public_key_file.is_some()),
            ("jwks_file", config.jwks_file.is_some()),
            ("jwks_url", config.jwks_url.is_some()),
        ];
        let set: Vec<&str> = sources.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
        if set.len() > 1 {
            // Keys of two kinds would let a token choose between them.
            return Err(fault(set[1], format!("only one source of keys is allowed, and auth.{} is set too", set[0])));
        }
        if let Some(secret) = &config.hs256_secret {
            let secret = secret.clone().checked().map_err(|detail| fault("hs256_secret", detail))?;
            return Ok(Self::Fixed(KeySet::from_secret(&secret)));
        }
        if let Some(path) = &config.hs256_secret_file {
            let secret = Secret::from_file(path).map_err(|detail| fault("hs256_secret_file", detail))?;
            return Ok(Self::Fixed(KeySet::from_secret(&secret)));
        }
        if let Some(path) = &config.public_key_file {
            return KeySet::from_pem_file(path).map(Self::Fixed).map_err(|detail| fault("public_key_file", detail));
        }
        if let Some(path) = &config.jwks_file {
            return KeySet::from_jwks_file(path).map(Self::Fixed).map_err(|detail| fault("jwks_file", detail));
        }
        let Some(url) = &config.jwks_url else {
            return Err(fault(
                "hs256_secret_file",
                "one of it, public_key_file, jwks_file and jwks_url is needed".into(),
            ));
        };
        let remote = RemoteKeys::new(url, clock.clone());
        let remote = remote.map_err(|detail| fault("jwks_url", detail))?;
        match before.map(|state| &state.keys) {
            Some(Self::Remote(before)) if before.url() == remote.url() => {
                before.expire();
                Ok(Self::Remote(Arc::clone(before)))
            }
            _ => Ok(Self::Remote(remote)),
        }
    }
}

impl State {
    fn new(config: &AuthConfig, clock: &Clock, before: Option<&Self>) -> Result<Self, Vec<ConfigFault>> {
        let mut faults = Vec::new();
        let signing = SigningKeys::load(
            &config.signing_keys,
            config.signing_current.as_deref(),
            config.signed_ttl,
            config.signed_max_age,
            &mut faults,
        );
        if config.cache_ttl > CACHE_TTL_MAX {
            faults.push(ConfigFault::new("auth.cache_ttl", "must be at most 60 s"));
        }
        for (name, pointer) in
            [("user", &config.claims.user), ("device", &config.claims.device), ("scope", &config.claims.scope)]
        {
            if !pointer.starts_with('/') || pointer.len() > 256 {
                let detail = "must be a JSON pointer that starts with / and has at most 256 bytes";
                faults.push(ConfigFault::new(format!("auth.claims.{name}"), detail));
            }
        }
        for (name, value) in [("issuer", &config.issuer), ("audience", &config.audience)] {
            if value.as_deref() == Some("") {
                faults.push(ConfigFault::new(format!("auth.{name}"), "must not be empty; leave it out instead"));
            }
        }
        match KeySource::load(config, clock, before) {
            Err(fault) => faults.push(fault),
            Ok(keys) if faults.is_empty() => {
                let rules = TokenRules {
                    issuer: config.issuer.clone(),
                    audience: config.audience.clone(),
                    claims: config.claims.clone(),
                    default_scopes: config.default_scopes,
                };
                let verified = moka::sync::Cache::builder()
                    .max_capacity(VERIFIED_MAX)
                    .time_to_live(Duration::from_millis(VERIFIED_FOR_MS.unsigned_abs()))
                    .build();
                return Ok(Self { keys, rules, signing, cache_ttl: config.cache_ttl, verified });
            }
            Ok(_) => {}
        }
        Err(faults)
    }
}
