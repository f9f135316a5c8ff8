//! Tokens that are forged, broken or merely odd: none may pass; and their good neighbours, which must. Tests only.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use stills_model::time::Timestamp;

use super::testkeys::{DEVICE, NOW, SECRET, Signer, USER, auth, bearer, claims, hs_config, pem};
use super::{Auth, AuthConfig, AuthError, Scope, Users};

const MALFORMED: AuthError = AuthError::Malformed("");

/// Refused, for a reason of this kind (of [`AuthError::Malformed`], whatever its text), and again when sent again.
async fn refuse(auth: &Auth, token: &str, expected: AuthError) {
    for _ in 0..2 {
        let error = bearer(auth, token).await.expect_err(token);
        assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&expected), "{error:?} for {token}");
    }
}

async fn accept(auth: &Auth, token: &str) {
    let caller = bearer(auth, token).await.unwrap_or_else(|error| panic!("{error:?} for {token}"));
    assert_eq!(caller.users, Users::These([USER.parse().expect("id")].into()), "{token}");
    assert!(caller.scopes.has(Scope::ThumbnailsRead), "{token}");
}

fn strict() -> Auth {
    auth(&AuthConfig { issuer: Some("https://issuer.example".into()), audience: Some("stills".into()), ..hs_config() })
}

fn named(changes: Value) -> Value {
    let mut claims = claims(changes);
    let object = claims.as_object_mut().expect("object");
    object.entry("iss").or_insert(json!("https://issuer.example"));
    object.entry("aud").or_insert(json!("stills"));
    claims
}

#[tokio::test]
async fn headers() {
    use AuthError::WrongAlgorithm;
    let (auth, signer) = (auth(&hs_config()), Signer::hs());
    let good = claims(json!({})).to_string();
    let cases = [
        (r#"{"alg":"none"}"#, WrongAlgorithm),
        (r#"{"alg":"None"}"#, WrongAlgorithm),
        (r#"{"alg":"NONE"}"#, WrongAlgorithm),
        (r#"{"alg":""}"#, WrongAlgorithm),
        (r#"{"alg":"hs256"}"#, WrongAlgorithm),
        (r#"{"alg":"HS256 "}"#, WrongAlgorithm),
        (r#"{"alg":"HS384"}"#, WrongAlgorithm),
        (r#"{"alg":"HS512"}"#, WrongAlgorithm),
        (r#"{"alg":"RS256"}"#, WrongAlgorithm),
        (r#"{"alg":"PS256"}"#, WrongAlgorithm),
        (r#"{"alg":"ES256"}"#, WrongAlgorithm),
        (r#"{"alg":"EdDSA"}"#, WrongAlgorithm),
        (r#"{"typ":"JWT"}"#, MALFORMED),
        (r#"{"alg":null}"#, MALFORMED),
        (r#"{"alg":256}"#, MALFORMED),
        (r#"{"alg":["HS256"]}"#, MALFORMED),
        (r#"{"alg":"none","alg":"HS256"}"#, MALFORMED),
        (r#"{"alg":"HS256","alg":"none"}"#, WrongAlgorithm),
        (r#"{"alg":"HS256","crit":["exp"]}"#, MALFORMED),
        (r#"{"alg":"HS256","crit":[]}"#, MALFORMED),
        (r#"{"alg":"HS256","crit":null}"#, MALFORMED),
        (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, MALFORMED),
        (r#"{"alg":"HS256","kid":1}"#, MALFORMED),
        (r#"{"alg":"HS256","kid":null}"#, MALFORMED),
        (r#"{"alg":"HS256","kid":["a"]}"#, MALFORMED),
        (r"[]", MALFORMED),
        (r#""HS256""#, MALFORMED),
        (r"null", MALFORMED),
        (r"{", MALFORMED),
        (r"", MALFORMED),
        ("\u{feff}{\"alg\":\"HS256\"}", MALFORMED),
    ];
    for (header, expected) in cases {
        refuse(&auth, &signer.raw(header, good.as_bytes()), expected).await;
    }
    let long = json!({"alg": "HS256", "kid": "k".repeat(257)}).to_string();
    refuse(&auth, &signer.raw(&long, good.as_bytes()), MALFORMED).await;
    // A secret is the only key there is: an id, a type or a foreign key in the header changes nothing.
    accept(&auth, &signer.raw(r#"{"alg":"HS256"}"#, good.as_bytes())).await;
    accept(&auth, &signer.raw(r#"{"alg":"HS256","kid":"../../dev/null","typ":"at+jwt"}"#, good.as_bytes())).await;
    accept(&auth, &signer.raw(r#"{"alg":"HS256","jku":"https://evil.example/keys"}"#, good.as_bytes())).await;
}

#[tokio::test]
async fn times() {
    use AuthError::{Expired, NotYetValid};
    let (auth, signer) = (auth(&hs_config()), Signer::hs());
    for (name, raw, expected) in [
        ("exp", "\"1757372600\"", MALFORMED),
        ("exp", "null", MALFORMED),
        ("exp", "true", MALFORMED),
        ("exp", "[1757372600]", MALFORMED),
        ("exp", "{}", MALFORMED),
        ("exp", "-1", MALFORMED),
        ("exp", "-1e300", MALFORMED),
        ("exp", "1e300", MALFORMED),
        ("exp", "1e400", MALFORMED),
        ("exp", "253402300800", MALFORMED),
        ("exp", "9223372036854775807", MALFORMED),
        ("exp", "18446744073709551615", MALFORMED),
        ("exp", "99999999999999999999999", MALFORMED),
        ("exp", "0x68bf5d60", MALFORMED),
        ("exp", "1757372600000", MALFORMED),
        ("exp", "0", Expired),
        ("exp", "1757371970", Expired),
        ("exp", "1757371970.0", Expired),
        ("exp", "1757371969.999", Expired),
        ("nbf", "1757372031", NotYetValid),
        ("nbf", "1757372030.5", NotYetValid),
        ("nbf", "253402300799", NotYetValid),
        ("nbf", "\"0\"", MALFORMED),
        ("nbf", "null", MALFORMED),
        ("nbf", "-1", MALFORMED),
        ("nbf", "1e300", MALFORMED),
        ("nbf", "[]", MALFORMED),
    ] {
        let other = if name == "exp" { String::new() } else { format!(r#","exp":{}"#, NOW + 600) };
        let claims = format!(r#"{{"user_id":"{USER}","scope":"thumbnails:read","{name}":{raw}{other}}}"#);
        refuse(&auth, &signer.raw(r#"{"alg":"HS256"}"#, claims.as_bytes()), expected).await;
    }
    refuse(&auth, &signer.token(&claims(json!({"exp": null}))), MALFORMED).await;
    accept(&auth, &signer.token(&claims(json!({"exp": NOW - 29})))).await;
    accept(&auth, &signer.token(&claims(json!({"exp": NOW + 1, "nbf": NOW + 30})))).await;
    accept(&auth, &signer.token(&claims(json!({"exp": 1_757_372_600.5})))).await;
    accept(&auth, &signer.token(&claims(json!({"exp": 253_402_300_799_i64})))).await;
}

#[tokio::test]
async fn issuers_and_audiences() {
    use AuthError::{WrongAudience, WrongIssuer};
    let (auth, signer) = (strict(), Signer::hs());
    let issuer = "https://issuer.example";
    for iss in [json!("https://evil.example"), json!("https://issuer.example/"), json!("HTTPS://ISSUER.EXAMPLE")] {
        refuse(&auth, &signer.token(&named(json!({"iss": iss}))), WrongIssuer).await;
    }
    for iss in [json!([issuer]), json!(1), json!({"a": issuer}), json!("")] {
        refuse(&auth, &signer.token(&named(json!({"iss": iss}))), WrongIssuer).await;
    }
    refuse(&auth, &signer.token(&claims(json!({"aud": "stills"}))), WrongIssuer).await;
    for aud in [json!("other"), json!("stills2"), json!("Stills"), json!("stills other"), json!("")] {
        refuse(&auth, &signer.token(&named(json!({"aud": aud}))), WrongAudience).await;
    }
    for aud in [json!([]), json!(["other"]), json!(["stills", 1]), json!([["stills"]]), json!(1), json!({"stills": 1})]
    {
        refuse(&auth, &signer.token(&named(json!({"aud": aud}))), WrongAudience).await;
    }
    refuse(&auth, &signer.token(&claims(json!({"iss": issuer}))), WrongAudience).await;
    accept(&auth, &signer.token(&named(json!({})))).await;
    accept(&auth, &signer.token(&named(json!({"aud": ["other", "stills"]})))).await;
    // Not configured: not looked at.
    accept(&super::testkeys::auth(&hs_config()), &signer.token(&named(json!({"aud": 1, "iss": []})))).await;
}

#[tokio::test]
async fn claims_of_wrong_types() {
    let (auth, signer) = (auth(&hs_config()), Signer::hs());
    let wrong_ids = [
        json!(1),
        json!(true),
        json!({}),
        json!(""),
        json!("627d8ca8297a3d00019e2ab"),
        json!("627d8ca8297a3d00019e2abb "),
        json!("627d8ca8297a3d00019e2abb,627d8ca8297a3d00019e2abb"),
        json!("６27d8ca8297a3d00019e2a"),
        json!("*"),
        json!([USER, 1]),
        json!([[USER]]),
        json!([USER, "other"]),
    ];
    for wrong in wrong_ids {
        refuse(&auth, &signer.token(&claims(json!({"user_id": wrong}))), MALFORMED).await;
        refuse(&auth, &signer.token(&claims(json!({"device_id": wrong}))), MALFORMED).await;
    }
    for wrong in [json!(1), json!(true), json!({"thumbnails:read": true}), json!(["thumbnails:read", 1])] {
        refuse(&auth, &signer.token(&claims(json!({"scope": wrong}))), MALFORMED).await;
    }
    for wrong in [json!(1), json!([USER]), json!({})] {
        refuse(&auth, &signer.token(&claims(json!({"sub": wrong}))), MALFORMED).await;
    }
    // A null is not an absence: an absent claim may grant more.
    for name in ["user_id", "device_id", "scope", "sub"] {
        let mut claims = claims(json!({}));
        claims[name] = Value::Null;
        refuse(&auth, &signer.token(&claims), MALFORMED).await;
    }
    let header = r#"{"alg":"HS256"}"#;
    let deep = format!(r#"{{"exp":{},"a":{}{}}}"#, NOW + 600, "[".repeat(500), "]".repeat(500));
    for raw in ["[]", "null", "1", "\"x\"", "{", "", "{\"exp\":1757372600}}", "{'exp':1757372600}", &deep] {
        refuse(&auth, &signer.raw(header, raw.as_bytes()), MALFORMED).await;
    }
    refuse(&auth, &signer.raw(header, b"{\"exp\":1757372600,\"sub\":\"\xff\"}"), MALFORMED).await;
}

#[tokio::test]
async fn broken_text() {
    let (auth, signer) = (auth(&hs_config()), Signer::hs());
    let good = signer.token(&claims(json!({})));
    let [header, body, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let other = signer.token(&claims(json!({"user_id": DEVICE})));
    let other_body = other.split('.').nth(1).expect("claims");
    let standard = STANDARD.encode(URL_SAFE_NO_PAD.decode(signature).expect("base64url"));
    for token in [
        String::new(),
        ".".into(),
        "..".into(),
        "a.b.c".into(),
        format!("{header}.{body}"),
        format!("{header}.{body}.{signature}."),
        format!("{good}.{good}"),
        format!(".{body}.{signature}"),
        format!("{header}..{signature}"),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\n"),
        format!("{header} .{body}.{signature}"),
        format!("{header}=.{body}.{signature}"),
        format!("{header}.{body}=.{signature}"),
        format!("{good}="),
        format!("{header}.{body}.{standard}"),
        format!("{header}.{body}.é"),
        format!("{header}\0.{body}.{signature}"),
        format!("{header}.{body}.{}", &signature[..signature.len() - 1]),
        format!("{header}.{body}."),
        format!("{header}.{body}.{}", &signature[..40]),
        format!("{header}.{body}.{signature}AAAA"),
        format!("{header}.{other_body}.{signature}"),
        Signer::Hs(b"another secret of thirty-two byte".to_vec()).token(&claims(json!({}))),
        Signer::Hs(Vec::new()).token(&claims(json!({}))),
    ] {
        let error = bearer(&auth, &token).await.expect_err(&token);
        assert!(matches!(error, AuthError::BadSignature | AuthError::Malformed(_)), "{error:?} for {token}");
    }
    let bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let token = format!("{header}.{body}.{}", URL_SAFE_NO_PAD.encode(flipped));
        refuse(&auth, &token, AuthError::BadSignature).await;
    }
    // The last character of 32 bytes has two spare bits: another spelling of the same signature is no token.
    let respelled = format!("{}{}", &good[..good.len() - 1], char::from(good.as_bytes()[good.len() - 1] + 1));
    assert!(bearer(&auth, &respelled).await.is_err());
    let long = signer.token(&claims(json!({"padding": "x".repeat(8 * 1024)})));
    refuse(&auth, &long, MALFORMED).await;
    accept(&auth, &signer.token(&claims(json!({"padding": "x".repeat(4 * 1024)})))).await;
    accept(&auth, &good).await;
}

fn file_config(name: &str, text: &str) -> (tempfile::TempDir, AuthConfig) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("keys");
    std::fs::write(&path, text).expect("writable");
    let mut config = AuthConfig::default();
    match name {
        "public_key_file" => config.public_key_file = Some(path),
        "jwks_file" => config.jwks_file = Some(path),
        _ => config.hs256_secret_file = Some(path),
    }
    (directory, config)
}

#[tokio::test]
async fn each_kind_of_key_takes_its_own_tokens_only() {
    let signers = [Signer::hs(), Signer::rs(), Signer::es(), Signer::ed()];
    for (index, own) in signers.iter().enumerate() {
        let (_directory, config) = match own {
            Signer::Hs(_) => file_config("hs256_secret_file", "0123456789abcdef0123456789abcdef\n"),
            _ => file_config("public_key_file", &own.public_pem()),
        };
        let auth = auth(&config);
        accept(&auth, &own.token(&claims(json!({})))).await;
        accept(&auth, &own.token_with_kid("any", &claims(json!({})))).await;
        for (other_index, other) in signers.iter().enumerate() {
            let body = claims(json!({})).to_string();
            if other_index != index {
                refuse(&auth, &other.token(&claims(json!({}))), AuthError::WrongAlgorithm).await;
                // The right name over a wrong kind of signature, and the other way round.
                let named = other.raw(&json!({"alg": own.alg()}).to_string(), body.as_bytes());
                refuse(&auth, &named, AuthError::BadSignature).await;
                let misnamed = own.raw(&json!({"alg": other.alg()}).to_string(), body.as_bytes());
                refuse(&auth, &misnamed, AuthError::WrongAlgorithm).await;
            }
        }
        for stranger in [Signer::es(), Signer::ed(), Signer::Hs(b"another secret of thirty-two byte".to_vec())] {
            if stranger.alg() == own.alg() {
                refuse(&auth, &stranger.token(&claims(json!({}))), AuthError::BadSignature).await;
            }
        }
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    for own in [Signer::rs(), Signer::es(), Signer::ed()] {
        let pem_text = own.public_pem();
        let (_directory, config) = file_config("public_key_file", &pem_text);
        let auth = auth(&config);
        let trimmed = pem_text.trim_end().as_bytes().to_vec();
        for secret in [pem_text.clone().into_bytes(), trimmed, own.public_der()] {
            let forger = Signer::Hs(secret);
            refuse(&auth, &forger.token(&claims(json!({}))), AuthError::WrongAlgorithm).await;
            let named = forger.raw(&json!({"alg": own.alg()}).to_string(), claims(json!({})).to_string().as_bytes());
            refuse(&auth, &named, AuthError::BadSignature).await;
        }
    }
}

#[tokio::test]
async fn key_sets() {
    use AuthError::{BadSignature, UnknownKey, WrongAlgorithm};
    let (es, es2, ed, stranger) = (Signer::es(), Signer::es(), Signer::ed(), Signer::es());
    let oct = json!({"kty": "oct", "kid": "o", "k": URL_SAFE_NO_PAD.encode(SECRET), "alg": "HS256"});
    let mut encryption = stranger.jwk("enc");
    encryption["use"] = json!("enc");
    let set = json!({"keys": [es.jwk("a"), es2.jwk("b"), ed.jwk("c"), oct, encryption, {"kty": "AKP"}, 7]});
    let (_directory, config) = file_config("jwks_file", &set.to_string());
    let auth = auth(&config);
    let good = claims(json!({}));
    for (signer, kid) in [(&es, "a"), (&es2, "b"), (&ed, "c")] {
        accept(&auth, &signer.token_with_kid(kid, &good)).await;
    }
    // Without an id only a key that is alone in its algorithm can be meant.
    accept(&auth, &ed.token(&good)).await;
    refuse(&auth, &es.token(&good), UnknownKey).await;
    for kid in ["d", "", "A", "a ", "enc", "o", "0"] {
        refuse(&auth, &es.token_with_kid(kid, &good), UnknownKey).await;
    }
    refuse(&auth, &es.token_with_kid("b", &good), BadSignature).await;
    refuse(&auth, &stranger.token_with_kid("a", &good), BadSignature).await;
    refuse(&auth, &stranger.token_with_kid("enc", &good), UnknownKey).await;
    refuse(&auth, &es.token_with_kid("c", &good), WrongAlgorithm).await;
    refuse(&auth, &ed.token_with_kid("a", &good), WrongAlgorithm).await;
    refuse(&auth, &Signer::hs().token_with_kid("o", &good), UnknownKey).await;
    refuse(&auth, &Signer::hs().token_with_kid("a", &good), WrongAlgorithm).await;
    refuse(&auth, &Signer::hs().token(&good), WrongAlgorithm).await;
}

#[tokio::test]
async fn what_claims_grant() {
    let config = AuthConfig {
        default_scopes: [Scope::RecordingsRead].into_iter().collect(),
        claims: super::ClaimPointers {
            user: "/app/users".into(),
            device: "/https:~1~1x.example~1d".into(),
            scope: "/scp".into(),
        },
        ..hs_config()
    };
    let (auth, signer) = (auth(&config), Signer::hs());
    let grants = async |body: Value| bearer(&auth, &signer.token(&body)).await.expect("good token");
    let caller =
        grants(json!({"exp": NOW + 1, "app": {"users": [USER, DEVICE]}, "https://x.example/d": DEVICE.to_uppercase()}))
            .await;
    assert_eq!(caller.users, Users::These([USER.parse().expect("id"), DEVICE.parse().expect("id")].into()));
    assert_eq!(caller.devices, Some([DEVICE.parse().expect("id")].into()));
    assert_eq!(caller.scopes.to_string(), "recordings:read");
    assert_eq!(caller.expires_at, Timestamp::from_ms((NOW + 1) * 1000));
    assert_eq!(caller.sub, None);
    // Claims under other names than the configured ones grant nothing; `sub` stands in for an absent user claim.
    let caller = grants(json!({"exp": NOW + 1, "sub": USER, "user_id": DEVICE, "scp": "", "scope": "users:all"})).await;
    assert_eq!(caller.users, Users::These([USER.parse().expect("id")].into()));
    assert_eq!((caller.devices, caller.scopes.to_string()), (None, String::new()));
    let caller = grants(json!({"exp": NOW + 1, "sub": "alice"})).await;
    assert_eq!(caller.users, Users::These([].into()));
    let caller = grants(json!({"exp": NOW + 1, "app": {"users": []}, "sub": USER, "scp": ["users:all"]})).await;
    assert_eq!(caller.users, Users::All);
}

#[test]
fn pem_files() {
    let check = |text: &str, expected: &str| {
        let (_directory, config) = file_config("public_key_file", text);
        let faults = Auth::new(&config, super::testkeys::clock()).err().expect("refused");
        assert_eq!(
            faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("auth.public_key_file: {expected}")]
        );
    };
    let ed = Signer::ed();
    check("", "holds no PEM block");
    check("ssh-ed25519 AAAA", "holds no PEM block");
    check(&pem("PRIVATE KEY", &ed.public_der()), "holds a private key; only the public half belongs here");
    check(&pem("CERTIFICATE", &ed.public_der()), "must hold a public key (BEGIN PUBLIC KEY)");
    check(&pem("PUBLIC KEY", b"junk"), "must be an RSA, P-256 or Ed25519 public key");
    check(&(ed.public_pem() + &ed.public_pem()), "holds more than one PEM block; use a JWKS for several keys");
    check(&rsa_pem(128, &[1, 0, 1]), "an RSA key must have 2048 to 8192 bits");
    for exponent in [&[1][..], &[2], &[0]] {
        check(&rsa_pem(256, exponent), "it is not a valid RSA key");
    }
    let (_directory, config) = file_config("public_key_file", &rsa_pem(256, &[1, 0, 1]));
    assert!(Auth::new(&config, super::testkeys::clock()).is_ok());
}

/// A PKCS#1 public key whose modulus is all ones.
fn rsa_pem(modulus_bytes: usize, exponent: &[u8]) -> String {
    let der = |tag: u8, body: &[u8]| {
        let [high, low] = u16::try_from(body.len()).expect("short").to_be_bytes();
        let length = match (high, low) {
            (0, 0..=0x7f) => vec![low],
            (0, _) => vec![0x81, low],
            _ => vec![0x82, high, low],
        };
        [&[tag], length.as_slice(), body].concat()
    };
    let modulus = [&[0], vec![0xff; modulus_bytes].as_slice()].concat();
    pem("RSA PUBLIC KEY", &der(0x30, &[der(0x02, &modulus), der(0x02, exponent)].concat()))
}
