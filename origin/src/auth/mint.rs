//! Signs development tokens with the configured HS256 secret, for `stills-origin token`. The server never signs tokens.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};
use stills_model::id::{DeviceId, UserId};
use stills_model::time::Timestamp;

use super::config::{ClaimPointers, Secret};
use super::scope::{Scope, ScopeSet};

/// The longest life of a development token.
const TTL_MAX: Duration = Duration::from_secs(366 * 86_400);

/// What a development token says.
#[derive(Debug, Clone, Default)]
pub struct Minting {
    /// The users it may touch; none with the scope `users:all` alone.
    pub users: Vec<UserId>,
    /// The devices it is narrowed to; none: all of its users' devices.
    pub devices: Vec<DeviceId>,
    /// What it may do.
    pub scopes: ScopeSet,
    /// How long it lives: 1 s to 366 days.
    pub ttl: Duration,
    /// `auth.issuer`, when configured.
    pub issuer: Option<String>,
    /// `auth.audience`, when configured.
    pub audience: Option<String>,
    /// `auth.claims`: the token keeps its claims where the server looks for them.
    pub claims: ClaimPointers,
}

/// A token as [`Minting`] says, signed with HS256.
///
/// # Errors
/// A sentence: the secret is too short, the life is out of range, or there is neither a user nor `users:all`.
pub fn mint(secret: &Secret, minting: &Minting, now: Timestamp) -> Result<String, String> {
    let secret = secret.clone().checked().map_err(|detail| format!("the secret {detail}"))?;
    if minting.ttl < Duration::from_secs(1) || minting.ttl > TTL_MAX {
        return Err("the time to live must be 1 s to 366 days".into());
    }
    if minting.users.is_empty() && !minting.scopes.has(Scope::UsersAll) {
        return Err("a user id or the scope users:all is needed".into());
    }
    let issued_at = now.as_ms().div_euclid(1000);
    let ttl = i64::try_from(minting.ttl.as_secs()).unwrap_or(i64::MAX);
    let mut claims = json!({"sub": "stills-origin token", "iat": issued_at, "exp": issued_at.saturating_add(ttl)});
    if let Some(issuer) = &minting.issuer {
        claims["iss"] = json!(issuer);
    }
    if let Some(audience) = &minting.audience {
        claims["aud"] = json!(audience);
    }
    let ids = |ids: &mut dyn Iterator<Item = String>| -> Value { ids.map(Value::from).collect() };
    place(&mut claims, &minting.claims.user, ids(&mut minting.users.iter().map(ToString::to_string)))?;
    if !minting.devices.is_empty() {
        place(&mut claims, &minting.claims.device, ids(&mut minting.devices.iter().map(ToString::to_string)))?;
    }
    place(&mut claims, &minting.claims.scope, json!(minting.scopes.to_string()))?;
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(|error| error.to_string())
}

/// Puts a value where the JSON pointer will find it, making the objects on the way.
fn place(claims: &mut Value, pointer: &str, value: Value) -> Result<(), String> {
    let mut at = claims;
    for name in pointer.split('/').skip(1) {
        let name = name.replace("~1", "/").replace("~0", "~");
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        let object = at.as_object_mut().ok_or_else(|| format!("the claim pointer {pointer} meets another claim"))?;
        at = object.entry(name).or_insert(Value::Null);
    }
    *at = value;
    Ok(())
}
