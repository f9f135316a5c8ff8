//! How verification behaves while it runs: keys fetched from a URL, tokens remembered, settings replaced. Tests only.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use stills_indexer::clock::Clock;
use stills_model::id::Timeline;
use stills_model::time::{Span, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::testkeys::{DEVICE, NOW, SECRET, Signer, USER, bearer, claims, clock, hs_config};
use super::{Auth, AuthConfig, AuthError, Credentials, Secret, SecretSource, SignedParts, Window, authorize};
use super::{Scope, Target};

/// A small issuer: answers every connection with what it is set to, and counts.
struct Issuer {
    address: SocketAddr,
    answer: Arc<Mutex<Vec<u8>>>,
    asked: watch::Receiver<usize>,
    /// One permit is one answer.
    gate: Arc<Semaphore>,
}

impl Issuer {
    async fn start(signers: &[(&str, &Signer)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let answer = Arc::new(Mutex::new(Vec::new()));
        let gate = Arc::new(Semaphore::new(1000));
        let (count, asked) = watch::channel(0);
        let (shared, permits) = (Arc::clone(&answer), Arc::clone(&gate));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let answer = shared.lock().expect("unpoisoned").clone();
                count.send_modify(|count| *count += 1);
                permits.acquire().await.expect("open").forget();
                Self::serve(connection, &answer).await;
            }
        });
        let issuer = Self { address, answer, asked, gate };
        issuer.publish(signers);
        issuer
    }

    /// A client that hangs up in the middle (over its size limit) is no fault of the issuer's.
    async fn serve(mut connection: TcpStream, answer: &[u8]) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match connection.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => return,
            }
        }
        drop(connection.write_all(answer).await);
        drop(connection.shutdown().await);
    }

    fn publish(&self, signers: &[(&str, &Signer)]) {
        let keys: Vec<_> = signers.iter().map(|(kid, signer)| signer.jwk(kid)).collect();
        self.answer("200 OK", json!({"keys": keys}).to_string().as_bytes());
    }

    fn answer(&self, status: &str, body: &[u8]) {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        *self.answer.lock().expect("unpoisoned") = [head.as_bytes(), body].concat();
    }

    fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    fn config(&self) -> AuthConfig {
        AuthConfig { jwks_url: Some(format!("http://{}/keys", self.address)), ..AuthConfig::default() }
    }
}

fn after(clock: &Clock, seconds: i64) {
    clock.set(Timestamp::from_ms((NOW + seconds) * 1000));
}

fn token(signer: &Signer, kid: &str) -> String {
    signer.token_with_kid(kid, &claims(json!({"exp": NOW + 100_000})))
}

/// The same token again would be remembered; a changed one is verified afresh.
fn fresh_token(signer: &Signer, kid: &str, number: usize) -> String {
    signer.token_with_kid(kid, &claims(json!({"exp": NOW + 100_000, "jti": number})))
}

/// Sends good tokens until the issuer was asked `count` times: a renewal runs beside them.
async fn eventually_asked(issuer: &Issuer, auth: &Auth, signer: &Signer, count: usize) {
    let asked = async {
        let mut number = count * 1_000_000;
        while issuer.asked() < count {
            number += 1;
            bearer(auth, &fresh_token(signer, "k", number)).await.expect("the last good set serves");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect("asked in time");
    assert_eq!(issuer.asked(), count);
}

async fn eventually_accepted(auth: &Auth, token: &str) {
    let accepted = async {
        while bearer(auth, token).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), accepted).await.expect("accepted in time");
}

#[tokio::test]
async fn keys_are_fetched_once_and_again_for_an_unknown_id() {
    let (a, b) = (Signer::es(), Signer::ed());
    let (issuer, clock) = (Issuer::start(&[("a", &a)]).await, clock());
    let auth = Auth::new(&issuer.config(), clock.clone()).expect("good configuration");
    assert_eq!(issuer.asked(), 0);
    for number in 0..5 {
        bearer(&auth, &fresh_token(&a, "a", number)).await.expect("accepted");
    }
    assert_eq!(issuer.asked(), 1);
    // A rotation is found at once, and only asked for once.
    issuer.publish(&[("a", &a), ("b", &b)]);
    for number in 0..5 {
        bearer(&auth, &fresh_token(&b, "b", number)).await.expect("accepted");
    }
    assert_eq!(issuer.asked(), 2);
    // Made-up ids cost one fetch in 30 s, however many there are.
    for (seconds, asked) in [(0, 2), (29, 2), (30, 3), (31, 3), (59, 3), (60, 4)] {
        after(&clock, seconds);
        for kid in ["x", "y", "z", ""] {
            assert_eq!(bearer(&auth, &token(&a, kid)).await, Err(AuthError::UnknownKey));
        }
        assert_eq!(issuer.asked(), asked, "after {seconds} s");
    }
}

#[tokio::test]
async fn many_unknown_ids_at_once_are_one_fetch() {
    let (a, b) = (Signer::es(), Signer::ed());
    let issuer = Issuer::start(&[("a", &a)]).await;
    let auth = Arc::new(Auth::new(&issuer.config(), clock()).expect("good configuration"));
    bearer(&auth, &token(&a, "a")).await.expect("accepted");
    issuer.publish(&[("b", &b)]);
    issuer.gate.forget_permits(usize::MAX);
    let mut asked = issuer.asked.clone();
    // Whoever asked first goes away; the fetch that it began serves the others.
    let (leader, first) = (Arc::clone(&auth), token(&b, "b"));
    let leader = tokio::spawn(async move { bearer(&leader, &first).await });
    asked.wait_for(|asked| *asked == 2).await.expect("the issuer lives");
    leader.abort();
    let waiting: Vec<_> = (0..50)
        .map(|number| {
            let (auth, token) = (Arc::clone(&auth), fresh_token(&b, "b", number));
            tokio::spawn(async move { bearer(&auth, &token).await })
        })
        .collect();
    issuer.gate.add_permits(1);
    for answer in waiting {
        assert!(answer.await.expect("not cut short").is_ok());
    }
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn an_old_set_is_renewed_beside_requests_and_kept_while_that_fails() {
    let (a, b) = (Signer::es(), Signer::es());
    let (issuer, clock) = (Issuer::start(&[("k", &a)]).await, clock());
    let auth = Auth::new(&issuer.config(), clock.clone()).expect("good configuration");
    bearer(&auth, &token(&a, "k")).await.expect("accepted");
    for (status, body) in [
        ("500 Internal Server Error", b"{}".as_slice()),
        ("404 Not Found", b"{\"keys\":[]}"),
        ("200 OK", b"not JSON"),
        ("200 OK", b"{\"keys\":[]}"),
        ("204 No Content", b""),
        ("200 OK", &vec![b' '; 300 * 1024]),
    ] {
        issuer.answer(status, body);
        let count = issuer.asked() + 1;
        after(&clock, 600 + 30 * i64::try_from(count).expect("few"));
        eventually_asked(&issuer, &auth, &a, count).await;
    }
    // A redirect is not followed: this one leads to good keys.
    let other = Issuer::start(&[("k", &b)]).await;
    issuer.answer(&format!("302 Found\r\nlocation: http://{}/keys", other.address), b"");
    after(&clock, 2000);
    eventually_asked(&issuer, &auth, &a, 8).await;
    issuer.publish(&[("k", &b)]);
    after(&clock, 2030);
    eventually_accepted(&auth, &token(&b, "k")).await;
    assert_eq!(other.asked(), 0);
    assert_eq!(bearer(&auth, &fresh_token(&a, "k", 1)).await, Err(AuthError::BadSignature));
}

#[tokio::test]
async fn without_any_set_there_is_no_answer() {
    let a = Signer::es();
    let (issuer, clock) = (Issuer::start(&[]).await, clock());
    let auth = Auth::new(&issuer.config(), clock.clone()).expect("good configuration");
    for (seconds, asked) in [(0, 1), (4, 1), (5, 2), (9, 2), (10, 3)] {
        after(&clock, seconds);
        assert_eq!(bearer(&auth, &token(&a, "a")).await, Err(AuthError::KeysUnavailable));
        assert_eq!(issuer.asked(), asked, "after {seconds} s");
    }
    issuer.publish(&[("a", &a)]);
    after(&clock, 15);
    bearer(&auth, &token(&a, "a")).await.expect("accepted");
    // Tokens that cannot be read are refused without asking anyone.
    let unreachable = AuthConfig { jwks_url: Some("http://127.0.0.1:1/".into()), ..AuthConfig::default() };
    let auth = Auth::new(&unreachable, clock).expect("good configuration");
    assert!(matches!(bearer(&auth, "a.b.c").await, Err(AuthError::Malformed(_))));
    assert_eq!(bearer(&auth, &token(&a, "a")).await, Err(AuthError::KeysUnavailable));
}

#[tokio::test]
async fn a_reload_fetches_again_and_keeps_the_set_meanwhile() {
    let (a, b) = (Signer::es(), Signer::es());
    let issuer = Issuer::start(&[("k", &a)]).await;
    let auth = Auth::new(&issuer.config(), clock()).expect("good configuration");
    bearer(&auth, &token(&a, "k")).await.expect("accepted");
    issuer.publish(&[("k", &b)]);
    issuer.gate.forget_permits(usize::MAX);
    auth.reload(&issuer.config()).expect("good configuration");
    let remembered = token(&a, "k");
    bearer(&auth, &remembered).await.expect("the last good set serves");
    issuer.gate.add_permits(1);
    eventually_accepted(&auth, &token(&b, "k")).await;
    // The id is the same, the key is not: what the old set verified is verified again.
    assert_eq!(bearer(&auth, &remembered).await, Err(AuthError::BadSignature));
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn an_unknown_id_waits_for_the_renewal_that_runs() {
    let (a, b) = (Signer::es(), Signer::ed());
    let (issuer, clock) = (Issuer::start(&[("a", &a)]).await, clock());
    let auth = Arc::new(Auth::new(&issuer.config(), clock.clone()).expect("good configuration"));
    bearer(&auth, &token(&a, "a")).await.expect("accepted");
    issuer.publish(&[("b", &b)]);
    issuer.gate.forget_permits(usize::MAX);
    after(&clock, 600);
    let mut asked = issuer.asked.clone();
    bearer(&auth, &token(&a, "a")).await.expect("the old set serves");
    asked.wait_for(|asked| *asked == 2).await.expect("the issuer lives");
    let (waiting, new) = (Arc::clone(&auth), token(&b, "b"));
    let mut waiting = tokio::spawn(async move { bearer(&waiting, &new).await });
    // On one thread the task has begun to wait once it was polled; the gate is still shut.
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("answered before the keys came"),
        () = tokio::task::yield_now() => {}
    }
    issuer.gate.add_permits(1000);
    assert!(waiting.await.expect("not cut short").is_ok());
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn remembered_tokens_still_expire() {
    let clock = clock();
    let auth = Auth::new(&hs_config(), clock.clone()).expect("good configuration");
    let short = Signer::hs().token(&claims(json!({"exp": NOW + 20})));
    let later = Signer::hs().token(&claims(json!({"exp": NOW + 1000, "nbf": NOW})));
    for (seconds, expected) in [(0, Ok(())), (19, Ok(())), (49, Ok(())), (50, Err(AuthError::Expired))] {
        after(&clock, seconds);
        assert_eq!(bearer(&auth, &short).await.map(|_| ()), expected, "after {seconds} s");
        bearer(&auth, &later).await.expect("accepted");
    }
    // The clock set back before `nbf`: what was remembered then is no longer believed.
    after(&clock, -31);
    assert_eq!(bearer(&auth, &later).await, Err(AuthError::NotYetValid));
}

#[tokio::test]
async fn a_reload_forgets_remembered_tokens() {
    let auth = Auth::new(&hs_config(), clock()).expect("good configuration");
    let token = Signer::hs().token(&claims(json!({})));
    bearer(&auth, &token).await.expect("accepted");
    let faults = auth.reload(&AuthConfig::default()).expect_err("no keys");
    assert_eq!(faults.len(), 1);
    bearer(&auth, &token).await.expect("a bad reload changes nothing");
    auth.reload(&AuthConfig { issuer: Some("other".into()), ..hs_config() }).expect("good configuration");
    assert_eq!(bearer(&auth, &token).await, Err(AuthError::WrongIssuer));
    let other = AuthConfig { hs256_secret: Some(Secret::new([7; 32])), ..hs_config() };
    auth.reload(&other).expect("good configuration");
    assert_eq!(bearer(&auth, &token).await, Err(AuthError::BadSignature));
}

#[tokio::test]
async fn signed_windows_end_to_end() {
    let clock = clock();
    let config =
        AuthConfig { signing_keys: [("a".to_owned(), SecretSource::Value(Secret::new(SECRET)))].into(), ..hs_config() };
    let auth = Auth::new(&config, clock.clone()).expect("good configuration");
    let timeline = Timeline { user: USER.parse().expect("id"), device: DEVICE.parse().expect("id") };
    let span = |end| Span { start: Timestamp::from_ms(0), end: Timestamp::from_ms(end) };
    let (window, other) = (Window { timeline, span: span(5) }, Window { timeline, span: span(6) });
    let query = auth.sign(&window).expect("a key signs");
    let headers = http::HeaderMap::new();
    let credentials = Credentials::from_headers_or_query(&headers, Some(&query)).expect("signed");
    let identity = auth.authenticate(credentials, Some(&window)).await.expect("good signature");
    assert!(identity.is_signed() && identity.caller().is_none());
    assert_eq!(authorize(&identity, Scope::ThumbnailsRead, Target::Window(window)), Ok(()));
    assert!(authorize(&identity, Scope::ThumbnailsRead, Target::Window(other)).is_err());
    assert_eq!(auth.authenticate(credentials, Some(&other)).await, Err(AuthError::BadSignature));
    assert_eq!(auth.authenticate(credentials, None).await, Err(AuthError::BadSignature));
    assert_eq!(auth.cache_ttl(&identity), Duration::from_secs(10));
    clock.set(identity.expires_at().plus_ms(-3_500));
    assert_eq!(auth.cache_ttl(&identity), Duration::from_secs(3));
    clock.set(identity.expires_at().plus_ms(1));
    assert_eq!(auth.cache_ttl(&identity), Duration::ZERO);
    assert_eq!(auth.authenticate(credentials, Some(&window)).await, Err(AuthError::Expired));
    // Without signing keys nothing is signed and nothing signed is taken.
    auth.reload(&hs_config()).expect("good configuration");
    assert_eq!(auth.sign(&window), None);
    let Credentials::Signed(SignedParts { key, .. }) = credentials else { panic!("signed") };
    assert_eq!(key, "a");
    assert_eq!(auth.authenticate(credentials, Some(&window)).await, Err(AuthError::UnknownKey));
}

#[test]
fn settings() {
    let check = |config: &AuthConfig, expected: &[&str]| {
        let faults = Auth::new(config, clock()).err().unwrap_or_default();
        assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    };
    let url = |url: &str| AuthConfig { jwks_url: Some(url.into()), ..AuthConfig::default() };
    check(&hs_config(), &[]);
    for good in ["https://issuer.example/keys", "http://127.0.0.1:80/", "http://[::1]/", "http://localhost/keys"] {
        check(&url(good), &[]);
    }
    let https = "auth.jwks_url: must be https, or http of a loopback address";
    check(&url("http://issuer.example/keys"), &[https]);
    check(&url("http://localhost.example/"), &[https]);
    check(&url("file:///etc/keys"), &["auth.jwks_url: must be https"]);
    check(&url("ftp://127.0.0.1/"), &["auth.jwks_url: must be https"]);
    let userinfo = "auth.jwks_url: must not hold a user name or a password: it is printed and logged";
    check(&url("https://name:word@issuer.example/"), &[userinfo]);
    check(&url("https://name@issuer.example/"), &[userinfo]);
    check(&url("keys"), &["auth.jwks_url: is not a URL: relative URL without a base"]);
    check(
        &AuthConfig::default(),
        &["auth.hs256_secret_file: one of it, public_key_file, jwks_file and jwks_url is needed"],
    );
    check(
        &AuthConfig { jwks_url: Some("https://a/".into()), ..hs_config() },
        &["auth.jwks_url: only one source of keys is allowed, and auth.hs256_secret is set too"],
    );
    // All faults at once.
    let faulty = AuthConfig {
        hs256_secret: Some(Secret::new(*b"short")),
        issuer: Some(String::new()),
        audience: Some(String::new()),
        cache_ttl: Duration::from_secs(61),
        claims: super::ClaimPointers { user: "user_id".into(), device: String::new(), ..Default::default() },
        signing_current: Some("a".into()),
        ..AuthConfig::default()
    };
    check(
        &faulty,
        &[
            "auth.signing_current: must be the id of one of auth.signing_keys",
            "auth.cache_ttl: must be at most 60 s",
            "auth.claims.user: must be a JSON pointer that starts with / and has at most 256 bytes",
            "auth.claims.device: must be a JSON pointer that starts with / and has at most 256 bytes",
            "auth.issuer: must not be empty; leave it out instead",
            "auth.audience: must not be empty; leave it out instead",
            "auth.hs256_secret: must be at least 32 bytes long, but is 5",
        ],
    );
}
