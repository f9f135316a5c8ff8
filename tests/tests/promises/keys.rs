//! Tokens of every kind of key that can be configured, and of no other.

use e2e::harness::stills::thumb;
use e2e::harness::token::{self, Key, claims, claims_with};
use e2e::harness::{Camera, START, Setup, Site, Stills};
use rustix::process::Signal;
use serde_json::json;

/// A path that answers 404 to whoever may ask: nothing is recorded.
fn target() -> String {
    thumb(&Camera::first(), (START, START + 60_000), 0)
}

/// A server that knows what `write` puts into the file of `setting`.
async fn with_file(setting: &str, content: &str) -> Stills {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), content).expect("a file");
    let setup = Setup::new().nginx().set(setting, &format!("\"{}\"", file.path().display()));
    // Read at the start; gone when this returns.
    setup.start().await
}

async fn status(stills: &Stills, token: &str) -> u16 {
    stills.get_as(token, &target()).await.status
}

#[tokio::test]
async fn public_keys_in_pem_files() {
    for key in [Key::rs256(), Key::es256(), Key::eddsa()] {
        let stills = with_file("auth.public_key_file", &key.public_pem()).await;
        let good = claims("thumbnails:read");
        assert_eq!(status(&stills, &key.sign(&good)).await, 404, "{key:?}");
        // The public key is known to everybody: it must never do as a secret.
        assert_eq!(status(&stills, &Key::hs256(&key.public_pem()).sign(&good)).await, 401, "{key:?}");
        for other in [Key::rs256(), Key::es256(), Key::eddsa()] {
            assert_eq!(status(&stills, &other.sign(&good)).await, 401, "{other:?} for {key:?}");
        }
        assert_eq!(status(&stills, &token::hs256(&good)).await, 401, "{key:?}");
    }
}

#[tokio::test]
async fn several_keys_in_a_jwks_file() {
    let keys = [Key::rs256().named("a"), Key::es256().named("b"), Key::eddsa().named("c")];
    let jwks = json!({"keys": keys.iter().map(|key| key.jwk().clone()).collect::<Vec<_>>()});
    let stills = with_file("auth.jwks_file", &jwks.to_string()).await;
    let good = claims("thumbnails:read");
    for key in keys {
        assert_eq!(status(&stills, &key.sign(&good)).await, 404, "{key:?}");
    }
    assert_eq!(status(&stills, &Key::es256().named("b").sign(&good)).await, 401);
    assert_eq!(status(&stills, &Key::es256().named("d").sign(&good)).await, 401);
}

#[tokio::test]
async fn keys_at_a_url_are_fetched_again_for_one_that_is_new_and_not_more_often() {
    let (old, new) = (Key::es256().named("old"), Key::es256().named("new"));
    let set = |keys: &[&Key]| json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string();
    let site = Site::start(&set(&[&old])).await;
    let stills = Setup::new().nginx().set("auth.jwks_url", &format!("\"{}\"", site.url())).start().await;
    let good = claims("thumbnails:read");
    assert_eq!(status(&stills, &old.sign(&good)).await, 404);
    assert_eq!(site.n_visits(), 1);
    site.show(&set(&[&old, &new]));
    assert_eq!(status(&stills, &new.sign(&good)).await, 404);
    assert_eq!(status(&stills, &old.sign(&good)).await, 404);
    assert_eq!(site.n_visits(), 2);
    for n in 0..20 {
        let unknown = Key::es256().named(&format!("unknown-{n}"));
        assert_eq!(status(&stills, &unknown.sign(&good)).await, 401);
    }
    assert!(site.n_visits() <= 3, "{} visits", site.n_visits());
}

#[tokio::test]
async fn issuer_audience_claims_and_default_scopes_as_configured() {
    let setup = Setup::new()
        .set("auth.issuer", "\"https://issuer.test\"")
        .set("auth.audience", "\"stills\"")
        .set("auth.default_scopes", "[\"thumbnails:read\"]")
        .set("auth.claims.user", "\"/app/users\"");
    let stills = setup.start().await;
    let user = json!({"users": [Camera::first().user]});
    let right =
        json!({"iss": "https://issuer.test", "aud": ["x", "stills"], "app": user, "user_id": null, "scope": null});
    let with = |name: &str, value: serde_json::Value| {
        let mut changes = right.clone();
        changes[name] = value;
        token::hs256(&claims_with("", &changes))
    };
    for (token, expected) in [
        (with("x", json!(1)), 404),
        (with("scope", json!("recordings:read")), 403),
        (with("iss", json!("https://other.test")), 401),
        (with("iss", json!(null)), 401),
        (with("aud", json!("other")), 401),
        (with("aud", json!(null)), 401),
        (with("app", json!(null)), 403),
    ] {
        assert_eq!(status(&stills, &token).await, expected, "{token}");
    }
}

#[tokio::test]
async fn a_hangup_takes_another_key() {
    let mut stills = Setup::new().start().await;
    let other = "another-secret-0123456789abcdef-0123456789";
    let good = claims("thumbnails:read");
    let (old_token, new_token) = (token::hs256(&good), Key::hs256(other).sign(&good));
    assert_eq!((status(&stills, &old_token).await, status(&stills, &new_token).await), (404, 401));

    // A faulty configuration changes nothing.
    stills.home().write("token-secret", "short");
    stills.origin().signal(Signal::HUP);
    e2e::harness::wait::until("the fault is told", async || {
        stills.log().iter().any(|line| line.contains("the old one"))
    })
    .await;
    assert_eq!((status(&stills, &old_token).await, status(&stills, &new_token).await), (404, 401));

    stills.home().write("token-secret", other);
    stills.origin().signal(Signal::HUP);
    e2e::harness::wait::until("the new key holds", async || status(&stills, &new_token).await == 404).await;
    assert_eq!(status(&stills, &old_token).await, 401);
}
