//! Keys made afresh for every test run, and tokens signed with them as they stand, however wrong. Tests only.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, signature};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Value, json};
use stills_indexer::clock::Clock;
use stills_model::time::Timestamp;

use super::config::{AuthConfig, Secret};
use super::{Auth, AuthError, Caller, Credentials, Identity};

/// The tests' time, in Unix seconds.
pub(super) const NOW: i64 = 1_757_372_000;
pub(super) const USER: &str = "627d8ca8297a3d00019e2abb";
pub(super) const DEVICE: &str = "627d911f7f58e4f344ca726c";
pub(super) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A private key of one kind.
pub(super) enum Signer {
    Hs(Vec<u8>),
    Rs(RsaKeyPair),
    Es(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    pub(super) fn hs() -> Self {
        Self::Hs(SECRET.to_vec())
    }

    pub(super) fn rs() -> Self {
        Self::Rs(RsaKeyPair::generate(KeySize::Rsa2048).expect("RSA key"))
    }

    pub(super) fn es() -> Self {
        Self::Es(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("P-256 key"))
    }

    pub(super) fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().expect("Ed25519 key"))
    }

    pub(super) fn alg(&self) -> &'static str {
        match self {
            Self::Hs(_) => "HS256",
            Self::Rs(_) => "RS256",
            Self::Es(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hs(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
            Self::Rs(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("signed");
                signature
            }
            Self::Es(pair) => {
                pair.sign(&random, message).map(|s: signature::Signature| s.as_ref().to_vec()).expect("signed")
            }
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// The public half as SubjectPublicKeyInfo.
    pub(super) fn public_der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Hs(_) => panic!("a secret has no public half"),
            Self::Rs(pair) => pair.public_key().as_der().expect("DER"),
            Self::Es(pair) => pair.public_key().as_der().expect("DER"),
            Self::Ed(pair) => pair.public_key().as_der().expect("DER"),
        };
        der.as_ref().to_vec()
    }

    pub(super) fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_der())
    }

    /// The public half as a JSON Web Key with this id.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        let pem = self.public_pem();
        let key = match self {
            Self::Rs(_) => DecodingKey::from_rsa_pem(pem.as_bytes()),
            Self::Es(_) => DecodingKey::from_ec_pem(pem.as_bytes()),
            _ => DecodingKey::from_ed_pem(pem.as_bytes()),
        };
        let jwk = Jwk::from_decoding_key(&key.expect("public key"), None).expect("JWK");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = json!(kid);
        jwk
    }

    /// A token with the right header for this key.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.raw(&json!({"alg": self.alg(), "typ": "JWT"}).to_string(), claims.to_string().as_bytes())
    }

    pub(super) fn token_with_kid(&self, kid: &str, claims: &Value) -> String {
        self.raw(&json!({"alg": self.alg(), "kid": kid}).to_string(), claims.to_string().as_bytes())
    }

    /// Whatever header and claims, correctly signed.
    pub(super) fn raw(&self, header: &str, claims: &[u8]) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Good claims, with these members put in; a member of JSON null is taken out.
pub(super) fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "sub": "alice", "user_id": USER, "scope": "thumbnails:read", "exp": NOW + 600,
    });
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    for (name, value) in changes {
        if value.is_null() {
            claims.as_object_mut().expect("object").remove(&name);
        } else {
            claims[name] = value;
        }
    }
    claims
}

pub(super) fn clock() -> Clock {
    Clock::settable(Timestamp::from_ms(NOW * 1000))
}

pub(super) fn hs_config() -> AuthConfig {
    AuthConfig { hs256_secret: Some(Secret::new(SECRET)), ..AuthConfig::default() }
}

pub(super) fn auth(config: &AuthConfig) -> Auth {
    Auth::new(config, clock()).expect("good configuration")
}

/// What a bearer token gives, without the identity around it.
pub(super) async fn bearer(auth: &Auth, token: &str) -> Result<Caller, AuthError> {
    match auth.authenticate(Credentials::Bearer(token), None).await? {
        Identity::Caller(caller) => Ok((*caller).clone()),
        Identity::Grant(_) => panic!("a token is no grant"),
    }
}
