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

#[cfg(test)]
mod tests {
    use super::super::testkeys::{DEVICE, NOW, SECRET, USER, auth, bearer, hs_config};
    use super::super::{AuthConfig, Users};
    use super::*;

    fn minting() -> Minting {
        Minting {
            users: vec![USER.parse().expect("id")],
            scopes: ScopeSet::from_text("thumbnails:read recordings:read"),
            ttl: Duration::from_secs(60),
            ..Minting::default()
        }
    }

    fn now() -> Timestamp {
        Timestamp::from_ms(NOW * 1000)
    }

    #[tokio::test]
    async fn minted_tokens_are_accepted() {
        let auth_of = |config: &AuthConfig| auth(config);
        let token = mint(&Secret::new(SECRET), &minting(), now()).expect("minted");
        let caller = bearer(&auth_of(&hs_config()), &token).await.expect("accepted");
        assert_eq!(caller.users, Users::These([USER.parse().expect("id")].into()));
        assert_eq!((caller.devices, caller.scopes), (None, minting().scopes));
        assert_eq!(caller.expires_at, Timestamp::from_ms((NOW + 60) * 1000));

        // With everything configured, and the claims elsewhere.
        let claims =
            ClaimPointers { user: "/app/u~1s".into(), device: "/app/devices".into(), scope: "/app/scopes".into() };
        let config = AuthConfig {
            issuer: Some("here".into()),
            audience: Some("stills".into()),
            claims: claims.clone(),
            ..hs_config()
        };
        let minting = Minting {
            devices: vec![DEVICE.parse().expect("id")],
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            claims,
            ..minting()
        };
        let token = mint(&Secret::new(SECRET), &minting, now()).expect("minted");
        let caller = bearer(&auth_of(&config), &token).await.expect("accepted");
        assert_eq!(caller.users, Users::These([USER.parse().expect("id")].into()));
        assert_eq!(caller.devices, Some([DEVICE.parse().expect("id")].into()));
    }

    #[test]
    fn refused() {
        let check = |minting: &Minting, secret: &[u8], expected: &str| {
            assert_eq!(mint(&Secret::new(secret), minting, now()), Err(expected.to_owned()));
        };
        let ttl = |seconds| Minting { ttl: Duration::from_secs(seconds), ..minting() };
        check(&minting(), b"short", "the secret must be at least 32 bytes long, but is 5");
        check(&ttl(0), SECRET, "the time to live must be 1 s to 366 days");
        check(&ttl(366 * 86_400 + 1), SECRET, "the time to live must be 1 s to 366 days");
        check(&Minting { users: vec![], ..minting() }, SECRET, "a user id or the scope users:all is needed");
        let clash = ClaimPointers { user: "/sub/id".into(), ..ClaimPointers::default() };
        check(&Minting { claims: clash, ..minting() }, SECRET, "the claim pointer /sub/id meets another claim");
        let all = Minting { users: vec![], scopes: ScopeSet::from_text("users:all"), ..minting() };
        assert!(mint(&Secret::new(SECRET), &all, now()).is_ok());
    }
}
