//! Verification keys. Each has one algorithm, fixed by what kind of key it is and never by a token: an HS256 secret, RSA
//! (RS256), P-256 (ES256), Ed25519 (EdDSA). Symmetric, private and foreign keys of a JWKS are left out.

use std::path::Path;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::config::{KEY_FILE_MAX_BYTES, Secret, read_limited};
use super::error::AuthError;

/// The longest JWKS in bytes; large issuers publish a few kilobytes.
pub(super) const JWKS_MAX_BYTES: usize = 256 * 1024;

/// The most keys of a JWKS; an issuer rotates among a handful.
pub(super) const JWKS_KEYS_MAX: usize = 64;

/// RSA moduli in bits: under 2048 is forgeable, over 8192 makes each token cost milliseconds.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// One key that verifies, with the only algorithm it verifies.
pub(super) struct VerifyKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerifyKey {
    /// The algorithm that a token signed with it must name.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key for the verifying library.
    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.key
    }
}

/// The keys of one source.
pub(super) enum KeySet {
    /// A configured secret or PEM key: whatever `kid` a token names, it must be this.
    Single(VerifyKey),
    /// A JWKS, perhaps empty of usable keys.
    Many(Vec<VerifyKey>),
}

impl KeySet {
    /// The HS256 secret, its length already checked.
    pub(super) fn from_secret(secret: &Secret) -> Self {
        let key = DecodingKey::from_secret(secret.as_bytes());
        Self::Single(VerifyKey { kid: None, algorithm: Algorithm::HS256, key })
    }

    /// One public key as PEM.
    pub(super) fn from_pem_file(path: &Path) -> Result<Self, String> {
        let pem = read_limited(path, KEY_FILE_MAX_BYTES)?;
        Self::from_pem(&pem).map_err(str::to_owned)
    }

    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(pem).map_err(|_| "is not PEM text")?;
        let mut blocks = text.split("-----BEGIN ").skip(1);
        let label = blocks.next().and_then(|block| block.split("-----").next()).ok_or("holds no PEM block")?;
        if blocks.next().is_some() {
            return Err("holds more than one PEM block; use a JWKS for several keys");
        }
        if label.contains("PRIVATE") {
            return Err("holds a private key; only the public half belongs here");
        }
        if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
            return Err("must hold a public key (BEGIN PUBLIC KEY)");
        }
        let key = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .map_err(|_| "must be an RSA, P-256 or Ed25519 public key")?;
        let algorithm = match key.family() {
            AlgorithmFamily::Rsa => rsa_der(&key)?,
            AlgorithmFamily::Ec => p256_point(key.try_get_as_bytes().unwrap_or_default())?,
            AlgorithmFamily::Ed => ed25519(key.try_get_as_bytes().unwrap_or_default())?,
            AlgorithmFamily::Hmac => return Err("must be a public key"),
        };
        Ok(Self::Single(VerifyKey { kid: None, algorithm, key }))
    }

    /// A JWKS file; one without a usable key is an error.
    pub(super) fn from_jwks_file(path: &Path) -> Result<Self, String> {
        let json = read_limited(path, JWKS_MAX_BYTES)?;
        Ok(Self::from_jwks(&json)?)
    }

    /// A JWKS. Keys that cannot verify tokens here are left out and logged; none left is an error.
    pub(super) fn from_jwks(json: &[u8]) -> Result<Self, &'static str> {
        if json.len() > JWKS_MAX_BYTES {
            return Err("is longer than a JWKS may be (256 KiB)");
        }
        let set: JwkSet = serde_json::from_slice(json).map_err(|_| "is not a JSON Web Key Set")?;
        if set.keys.len() > JWKS_KEYS_MAX {
            return Err("holds more than 64 keys");
        }
        let mut keys = Vec::new();
        for (index, jwk) in set.keys.into_iter().enumerate() {
            match serde_json::from_value::<Jwk>(jwk).map_err(|_| "it is not a JSON Web Key").and_then(Jwk::usable) {
                Ok(key) => keys.push(key),
                Err(reason) => tracing::warn!(index, reason, "a key of the JWKS is left out"),
            }
        }
        if keys.is_empty() { Err("holds no key that can verify RS256, ES256 or EdDSA") } else { Ok(Self::Many(keys)) }
    }

    /// Whether a key of this id is there, or ids do not matter.
    pub(super) fn knows(&self, kid: &str) -> bool {
        match self {
            Self::Single(_) => true,
            Self::Many(keys) => keys.iter().any(|key| key.kid.as_deref() == Some(kid)),
        }
    }

    /// The one key that a token with this header must be signed with.
    pub(super) fn select(&self, algorithm: Algorithm, kid: Option<&str>) -> Result<&VerifyKey, AuthError> {
        let named: Vec<&VerifyKey> = match (self, kid) {
            (Self::Single(key), _) => vec![key],
            (Self::Many(keys), Some(kid)) => keys.iter().filter(|key| key.kid.as_deref() == Some(kid)).collect(),
            (Self::Many(keys), None) => keys.iter().collect(),
        };
        if named.is_empty() {
            return Err(AuthError::UnknownKey);
        }
        let mut fitting = named.into_iter().filter(|key| key.algorithm == algorithm);
        let key = fitting.next().ok_or(AuthError::WrongAlgorithm)?;
        // Two that fit: guessing would let whoever adds a key to the set choose.
        if fitting.next().is_some() { Err(AuthError::UnknownKey) } else { Ok(key) }
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

/// The members of a JSON Web Key (RFC 7517, RFC 7518 section 6, RFC 8037) that matter for verifying.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Value>,
}

impl Jwk {
    fn usable(self) -> Result<VerifyKey, &'static str> {
        if self.kty == "oct" {
            return Err("a symmetric key in a public set is known to everyone");
        }
        if self.d.is_some() {
            return Err("it is a private key");
        }
        if self.usage.as_ref().is_some_and(|usage| usage != "sig") {
            return Err("its use is not sig");
        }
        if self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err("its key_ops do not hold verify");
        }
        let (algorithm, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => rsa_key(self.n.as_deref(), self.e.as_deref())?,
            ("EC", Some("P-256")) => p256_key(self.x.as_deref(), self.y.as_deref())?,
            ("OKP", Some("Ed25519")) => ed25519_key(self.x.as_deref())?,
            _ => return Err("it is not an RSA, P-256 or Ed25519 key"),
        };
        let named = self.alg.as_deref().is_none_or(|alg| match algorithm {
            Algorithm::RS256 => alg == "RS256",
            Algorithm::ES256 => alg == "ES256",
            _ => matches!(alg, "EdDSA" | "Ed25519"),
        });
        if !named {
            return Err("its alg is not RS256, ES256 or EdDSA, or not of its kty");
        }
        Ok(VerifyKey { kid: self.kid, algorithm, key })
    }
}

fn member(text: Option<&str>) -> Result<Vec<u8>, &'static str> {
    let text = text.ok_or("a member of the key is missing")?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "a member of the key is not base64url")
}

fn rsa_key(n: Option<&str>, e: Option<&str>) -> Result<(Algorithm, DecodingKey), &'static str> {
    let (n, e) = (member(n)?, member(e)?);
    let algorithm = rsa_components(&n, &e)?;
    Ok((algorithm, DecodingKey::from_rsa_raw_components(&n, &e)))
}

fn p256_key(x: Option<&str>, y: Option<&str>) -> Result<(Algorithm, DecodingKey), &'static str> {
    let (x, y) = (member(x)?, member(y)?);
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    Ok((p256_point(&point)?, DecodingKey::from_ec_der(&point)))
}

fn ed25519_key(x: Option<&str>) -> Result<(Algorithm, DecodingKey), &'static str> {
    let x = member(x)?;
    Ok((ed25519(&x)?, DecodingKey::from_ed_der(&x)))
}

fn rsa_components(n: &[u8], e: &[u8]) -> Result<Algorithm, &'static str> {
    let zeros = n.first().map_or(0, |first| first.leading_zeros());
    let bits = n.len().saturating_mul(8).saturating_sub(usize::try_from(zeros).unwrap_or(0));
    if !RSA_BITS.contains(&bits) {
        return Err("an RSA key must have 2048 to 8192 bits");
    }
    // Loading from components checks neither: with an exponent of 1 a signature is its own text.
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    if !odd(n) || !odd(e) || e == [1] || e.len() > 4 {
        return Err("it is not a valid RSA key");
    }
    PublicKeyComponents { n, e }
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .map(|_| Algorithm::RS256)
        .map_err(|_| "it is not a valid RSA key")
}

/// Checks an RSA key that came as PKCS#1 DER.
fn rsa_der(key: &DecodingKey) -> Result<Algorithm, &'static str> {
    let wrong = "it is not a valid RSA key";
    let der = key.try_get_as_bytes().map_err(|_| wrong)?;
    let public = aws_lc_rs::rsa::PublicKey::from_der(der).map_err(|_| wrong)?;
    if !RSA_BITS.contains(&public.modulus_len().saturating_mul(8)) {
        return Err("an RSA key must have 2048 to 8192 bits");
    }
    Ok(Algorithm::RS256)
}

/// Checks an uncompressed point of P-256.
fn p256_point(point: &[u8]) -> Result<Algorithm, &'static str> {
    let wrong = "an EC key must be a point of P-256";
    if point.len() != 65 || point[0] != 4 {
        return Err(wrong);
    }
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map(|_| Algorithm::ES256).map_err(|_| wrong)
}

fn ed25519(bytes: &[u8]) -> Result<Algorithm, &'static str> {
    let wrong = "it is not a valid Ed25519 key";
    if bytes.len() != 32 {
        return Err(wrong);
    }
    ParsedPublicKey::new(&ED25519, bytes).map(|_| Algorithm::EdDSA).map_err(|_| wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testkeys::{SECRET, Signer};
    use super::*;

    fn changed(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk[name] = value;
        jwk
    }

    fn check(jwk: Value, expected: Result<Algorithm, &str>) {
        let shown = jwk.to_string();
        let usable = serde_json::from_value::<Jwk>(jwk).map_err(|_| "unreadable").and_then(Jwk::usable);
        assert_eq!(usable.map(|key| key.algorithm()), expected, "{shown}");
    }

    #[test]
    fn json_web_keys() {
        let (rs, es, ed) = (Signer::rs().jwk("r"), Signer::es().jwk("e"), Signer::ed().jwk("d"));
        check(rs.clone(), Ok(Algorithm::RS256));
        check(changed(rs.clone(), "alg", json!("RS256")), Ok(Algorithm::RS256));
        check(changed(es.clone(), "use", json!("sig")), Ok(Algorithm::ES256));
        check(changed(es.clone(), "key_ops", json!(["sign", "verify"])), Ok(Algorithm::ES256));
        check(changed(ed.clone(), "alg", json!("EdDSA")), Ok(Algorithm::EdDSA));
        check(changed(ed.clone(), "alg", json!("Ed25519")), Ok(Algorithm::EdDSA));

        let wrong_alg = Err("its alg is not RS256, ES256 or EdDSA, or not of its kty");
        for alg in ["RS384", "RS512", "PS256", "ES256", "HS256", "RSA-OAEP", "none", ""] {
            check(changed(rs.clone(), "alg", json!(alg)), wrong_alg);
        }
        check(changed(es.clone(), "alg", json!("RS256")), wrong_alg);
        check(changed(ed.clone(), "alg", json!("ES256")), wrong_alg);
        check(changed(rs.clone(), "use", json!("enc")), Err("its use is not sig"));
        check(changed(rs.clone(), "key_ops", json!(["sign"])), Err("its key_ops do not hold verify"));
        check(changed(rs.clone(), "key_ops", json!([])), Err("its key_ops do not hold verify"));
        check(changed(ed.clone(), "d", json!("c2VjcmV0")), Err("it is a private key"));
        check(changed(es.clone(), "d", json!({})), Err("it is a private key"));
        let symmetric = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET), "alg": "HS256"});
        check(symmetric, Err("a symmetric key in a public set is known to everyone"));

        let other = Err("it is not an RSA, P-256 or Ed25519 key");
        for crv in ["P-384", "P-521", "secp256k1", "Ed25519", "p-256"] {
            check(changed(es.clone(), "crv", json!(crv)), other);
        }
        check(changed(ed.clone(), "crv", json!("X25519")), other);
        check(changed(ed.clone(), "kty", json!("okp")), other);
        check(json!({"kty": "AKP"}), other);
        check(json!({"kty": "RSA"}), Err("a member of the key is missing"));
        check(json!({"kid": "a"}), Err("unreadable"));
        check(changed(rs.clone(), "kid", json!(1)), Err("unreadable"));

        let encoded = |bytes: &[u8]| json!(URL_SAFE_NO_PAD.encode(bytes));
        let off_curve = Err("an EC key must be a point of P-256");
        check(changed(es.clone(), "x", encoded(&[0; 32])), off_curve);
        check(changed(es.clone(), "y", encoded(&[1; 33])), off_curve);
        check(changed(es, "y", encoded(&[])), off_curve);
        check(changed(ed.clone(), "x", encoded(&[1; 31])), Err("it is not a valid Ed25519 key"));
        check(changed(ed, "x", json!("a=")), Err("a member of the key is not base64url"));
        let bits = Err("an RSA key must have 2048 to 8192 bits");
        check(changed(rs.clone(), "n", encoded(&[0xff; 128])), bits);
        check(changed(rs.clone(), "n", encoded(&[[0x7f].as_slice(), &[0xff; 255]].concat())), bits);
        check(changed(rs.clone(), "n", encoded(&[0xff; 1025])), bits);
        check(changed(rs.clone(), "n", encoded(&[])), bits);
        for e in [&[1][..], &[0, 1], &[2], &[], &[0], &[1, 0, 0], &[1; 5]] {
            check(changed(rs.clone(), "e", encoded(e)), Err("it is not a valid RSA key"));
        }
        check(changed(rs.clone(), "e", encoded(&[3])), Ok(Algorithm::RS256));
        check(changed(rs, "n", encoded(&[[0xff; 255].as_slice(), &[0xfe]].concat())), Err("it is not a valid RSA key"));
    }

    #[test]
    fn sets() {
        let check = |json: &[u8], expected: Result<usize, &str>| {
            let count = KeySet::from_jwks(json).map(|set| match set {
                KeySet::Single(_) => 0,
                KeySet::Many(keys) => keys.len(),
            });
            assert_eq!(count, expected);
        };
        let key = Signer::ed().jwk("a");
        let set = |keys: Vec<Value>| json!({"keys": keys}).to_string().into_bytes();
        check(&set(vec![key.clone()]), Ok(1));
        check(&set(vec![key.clone(), json!({"kty": "AKP"}), json!(null)]), Ok(1));
        check(&set(vec![key.clone(); JWKS_KEYS_MAX]), Ok(JWKS_KEYS_MAX));
        check(&set(vec![key.clone(); JWKS_KEYS_MAX + 1]), Err("holds more than 64 keys"));
        check(&set(vec![]), Err("holds no key that can verify RS256, ES256 or EdDSA"));
        check(&set(vec![json!({"kty": "AKP"})]), Err("holds no key that can verify RS256, ES256 or EdDSA"));
        check(key.to_string().as_bytes(), Err("is not a JSON Web Key Set"));
        check(b"{\"keys\":{}}", Err("is not a JSON Web Key Set"));
        check(b"", Err("is not a JSON Web Key Set"));
        check(&vec![b' '; JWKS_MAX_BYTES + 1], Err("is longer than a JWKS may be (256 KiB)"));
    }
}
