//! Tokens with any claims, signed with any kind of key.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::USER;

/// The HS256 secret that every server here knows, unless a test says otherwise.
pub const SECRET: &str = "token-secret-0123456789abcdef-0123456789ab";

/// Every scope of one user.
pub const SCOPES: &str = "thumbnails:read recordings:read recordings:write images:read images:write";

/// Unix seconds.
pub fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Unix milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The claims of a token for [`USER`] with these scopes, good for an hour.
pub fn claims(scope: &str) -> Value {
    json!({"sub": "tests", "user_id": USER, "scope": scope, "exp": now_s() + 3600})
}

/// The same with some claims replaced, and those that are null left out.
pub fn claims_with(scope: &str, changes: &Value) -> Value {
    let mut claims = claims(scope);
    for (name, value) in changes.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    claims
}

/// A token with these claims, signed with [`SECRET`].
pub fn hs256(claims: &Value) -> String {
    Key::hs256(SECRET).sign(claims)
}

/// A token for [`USER`] with these scopes.
pub fn with_scope(scope: &str) -> String {
    hs256(&claims(scope))
}

/// A token for [`USER`] that may do everything with the user's own footage.
pub fn owner() -> String {
    with_scope(SCOPES)
}

/// A key that signs tokens.
pub struct Key {
    header: Header,
    private: EncodingKey,
    /// The public half as SubjectPublicKeyInfo; empty for a secret.
    public_der: Vec<u8>,
    /// The public half as a JWK without `kid`; null for a secret.
    jwk: Value,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?})", self.header.alg)
    }
}

impl Key {
    /// A secret.
    pub fn hs256(secret: &str) -> Self {
        let private = EncodingKey::from_secret(secret.as_bytes());
        Self { header: Header::new(Algorithm::HS256), private, public_der: Vec::new(), jwk: Value::Null }
    }

    /// A fresh RSA key.
    ///
    /// # Panics
    /// When none can be made.
    pub fn rs256() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).expect("a private key");
        let numbers = pair.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (n, e) =
            (numbers.modulus().big_endian_without_leading_zero(), numbers.exponent().big_endian_without_leading_zero());
        let jwk = json!({"kty": "RSA", "alg": "RS256", "use": "sig", "n": number(n), "e": number(e)});
        let pem = pem("PRIVATE KEY", der.as_ref());
        let private = EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a private key");
        Self { header: Header::new(Algorithm::RS256), private, public_der: public_der(numbers), jwk }
    }

    /// A fresh P-256 key.
    ///
    /// # Panics
    /// When none can be made.
    pub fn es256() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key");
        let der = pair.to_pkcs8v1().expect("a private key");
        // An uncompressed point: 4, then both coordinates.
        let point = pair.public_key().as_ref();
        let coordinate = |at: usize| URL_SAFE_NO_PAD.encode(&point[at..at + 32]);
        let jwk =
            json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "x": coordinate(1), "y": coordinate(33)});
        let private = EncodingKey::from_ec_der(der.as_ref());
        Self { header: Header::new(Algorithm::ES256), private, public_der: public_der(pair.public_key()), jwk }
    }

    /// A fresh Ed25519 key.
    ///
    /// # Panics
    /// When none can be made.
    pub fn eddsa() -> Self {
        let pair = Ed25519KeyPair::generate().expect("an Ed25519 key");
        let der = pair.to_pkcs8v1().expect("a private key");
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "x": x});
        let private = EncodingKey::from_ed_der(der.as_ref());
        Self { header: Header::new(Algorithm::EdDSA), private, public_der: public_der(pair.public_key()), jwk }
    }

    /// The same key, named in the header of its tokens and in its JWK.
    #[must_use]
    pub fn named(mut self, kid: &str) -> Self {
        self.header.kid = Some(kid.to_owned());
        self.jwk["kid"] = json!(kid);
        self
    }

    /// The public half as a JWK.
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// The public half as a PEM file.
    pub fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_der)
    }

    /// A token with these claims.
    ///
    /// # Panics
    /// When it cannot be signed.
    pub fn sign(&self, claims: &Value) -> String {
        jsonwebtoken::encode(&self.header, claims, &self.private).expect("a token")
    }
}

fn public_der(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Vec<u8> {
    key.as_der().map(|der| der.as_ref().to_vec()).expect("a public key")
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation};

    #[test]
    fn every_kind_of_key_signs_what_its_public_half_verifies() {
        type Read = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;
        let all: [(Key, Read); 3] = [
            (Key::rs256(), DecodingKey::from_rsa_pem),
            (Key::es256(), DecodingKey::from_ec_pem),
            (Key::eddsa(), DecodingKey::from_ed_pem),
        ];
        for (key, read) in all {
            let token = key.sign(&claims("thumbnails:read"));
            let from_pem = read(key.public_pem().as_bytes()).expect("a public key");
            let jwk = serde_json::from_value(key.jwk().clone()).expect("a JWK");
            let from_jwk = DecodingKey::from_jwk(&jwk).expect("a public key");
            for public in [from_pem, from_jwk] {
                let validation = Validation::new(key.header.alg);
                jsonwebtoken::decode::<Value>(&token, &public, &validation).expect("a valid token");
            }
        }
    }
}
