//! From a bearer token to a [`Caller`]: signature first, then times, issuer, audience, and what the claims grant.
//! Never lets the token choose its algorithm or key, and takes a claim of a wrong type for an invalid token, never for
//! an absent claim: an absent one may grant more.

use std::collections::BTreeSet;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value};
use stills_model::id::{DeviceId, UserId};
use stills_model::time::{TIMESTAMP_MAX_MS, Timestamp};

use super::access::{Caller, Users};
use super::config::ClaimPointers;
use super::error::AuthError;
use super::keys::KeySet;
use super::scope::{Scope, ScopeSet};

/// The longest token in bytes, checked before anything of it is parsed; NGINX takes headers of 8 KiB too.
pub(super) const TOKEN_MAX_BYTES: usize = 8 * 1024;

/// How far the issuer's clock and ours may differ.
pub(super) const LEEWAY_MS: i64 = 30_000;

/// The longest key id in bytes; issuers use UUIDs or digests.
const KID_MAX_BYTES: usize = 256;

/// What a token must say to be for us, and where it says what it grants.
pub(super) struct TokenRules {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) claims: ClaimPointers,
    pub(super) default_scopes: ScopeSet,
}

/// The part of a token's header that chooses among configured keys.
pub(super) struct TokenHeader {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
}

impl TokenHeader {
    /// Reads the header of an unverified token.
    pub(super) fn parse(token: &str) -> Result<Self, AuthError> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(AuthError::Malformed("The token is longer than 8 KiB"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(AuthError::Malformed("The token must have three parts"));
        };
        let wrong = AuthError::Malformed("The header of the token cannot be read");
        let json = URL_SAFE_NO_PAD.decode(header).map_err(|_| wrong)?;
        let header: Map<String, Value> = serde_json::from_slice(&json).map_err(|_| wrong)?;
        // RFC 7515 section 4.1.11: extensions that must be understood, and none is.
        if header.contains_key("crit") {
            return Err(AuthError::Malformed("The token has critical extensions, and none is supported"));
        }
        let name = header.get("alg").and_then(Value::as_str).ok_or(wrong)?;
        let algorithm = Algorithm::from_str(name).map_err(|_| AuthError::WrongAlgorithm)?;
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= KID_MAX_BYTES => Some(kid.clone()),
            Some(_) => {
                return Err(AuthError::Malformed("The key id of the token must be a string of at most 256 bytes"));
            }
        };
        Ok(Self { algorithm, kid })
    }
}

/// Verifies a token whose header was parsed, and reads what it grants.
pub(super) fn verify(
    token: &str,
    header: &TokenHeader,
    keys: &KeySet,
    rules: &TokenRules,
    now: Timestamp,
) -> Result<Caller, AuthError> {
    let key = keys.select(header.algorithm, header.kid.as_deref())?;
    let mut validation = Validation::new(key.algorithm());
    // The library asks the machine's clock and takes wrong types for absent claims: times and names are checked below.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let claims = jsonwebtoken::decode::<Value>(token, key.decoding(), &validation)
        .map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => AuthError::BadSignature,
            ErrorKind::InvalidAlgorithm => AuthError::WrongAlgorithm,
            _ => AuthError::Malformed("The token cannot be read"),
        })?
        .claims;
    if !claims.is_object() {
        return Err(AuthError::Malformed("The claims of the token must be an object"));
    }
    let expires_at = check_times(&claims, now)?;
    check_names(&claims, rules)?;
    caller(&claims, rules, expires_at)
}

fn check_times(claims: &Value, now: Timestamp) -> Result<Timestamp, AuthError> {
    let exp = claims.get("exp").ok_or(AuthError::Malformed("The token must have the claim exp"))?;
    let expires_at = numeric_date(exp).ok_or(AuthError::Malformed("The claim exp must be Unix seconds"))?;
    if let Some(nbf) = claims.get("nbf") {
        let not_before = numeric_date(nbf).ok_or(AuthError::Malformed("The claim nbf must be Unix seconds"))?;
        if not_before > now.plus_ms(LEEWAY_MS) {
            return Err(AuthError::NotYetValid);
        }
    }
    if now >= expires_at.plus_ms(LEEWAY_MS) { Err(AuthError::Expired) } else { Ok(expires_at) }
}

/// A `NumericDate` (RFC 7519 section 2): a JSON number of seconds, fractions allowed, within the times we can show.
fn numeric_date(value: &Value) -> Option<Timestamp> {
    const SECONDS_MAX: i64 = TIMESTAMP_MAX_MS / 1000;
    if let Some(seconds) = value.as_i64() {
        return (0..=SECONDS_MAX).contains(&seconds).then(|| Timestamp::from_ms(seconds * 1000));
    }
    let ms = value.as_f64()? * 1000.0;
    #[expect(clippy::cast_precision_loss, reason = "TIMESTAMP_MAX_MS is below 2^53")]
    let representable = ms >= 0.0 && ms <= TIMESTAMP_MAX_MS as f64;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range was just checked; the fraction is dropped on purpose"
    )]
    representable.then(|| Timestamp::from_ms(ms as i64))
}

fn check_names(claims: &Value, rules: &TokenRules) -> Result<(), AuthError> {
    if let Some(issuer) = &rules.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(AuthError::WrongIssuer);
    }
    if let Some(audience) = &rules.audience {
        let named = match claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(many)) => {
                many.iter().all(Value::is_string) && many.iter().any(|one| one.as_str() == Some(audience))
            }
            _ => false,
        };
        if !named {
            return Err(AuthError::WrongAudience);
        }
    }
    Ok(())
}

fn caller(claims: &Value, rules: &TokenRules, expires_at: Timestamp) -> Result<Caller, AuthError> {
    let sub = match claims.get("sub") {
        None => None,
        Some(Value::String(sub)) => Some(sub.clone()),
        Some(_) => return Err(AuthError::Malformed("The claim sub must be a string")),
    };
    let scopes = match claims.pointer(&rules.claims.scope) {
        None => rules.default_scopes,
        Some(claim) => ScopeSet::from_claim(claim)
            .ok_or(AuthError::Malformed("The scope claim must be a string or an array of strings"))?,
    };
    let these: BTreeSet<UserId> = match claims.pointer(&rules.claims.user) {
        None => sub.iter().filter_map(|sub| sub.parse().ok()).collect(),
        Some(claim) => ids(claim).ok_or(AuthError::Malformed("The user claim must be one or more 24-digit ids"))?,
    };
    let users = if scopes.has(Scope::UsersAll) { Users::All } else { Users::These(these) };
    let devices: Option<BTreeSet<DeviceId>> = match claims.pointer(&rules.claims.device) {
        None => None,
        Some(claim) => {
            Some(ids(claim).ok_or(AuthError::Malformed("The device claim must be one or more 24-digit ids"))?)
        }
    };
    Ok(Caller { sub, users, devices, scopes, expires_at })
}

/// One id or an array of ids; nothing when any part of it is something else.
fn ids<Id: FromStr + Ord>(claim: &Value) -> Option<BTreeSet<Id>> {
    let id = |value: &Value| value.as_str()?.parse().ok();
    match claim {
        Value::Array(values) => values.iter().map(id).collect(),
        _ => id(claim).map(|id| std::iter::once(id).collect()),
    }
}
