//! A picture that NGINX has, under an authorisation that NGINX has, is shown to whoever may see it and to nobody else.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::harness::stills::{Search, thumb};
use e2e::harness::token::{self, Key, claims_with, now_s};
use e2e::harness::{
    Answer, Ask, Camera, DEVICE, OTHER_DEVICE, OTHER_USER, START, Setup, Stills, USER, raw, signed, wait,
};
use reqwest::Method;
use serde_json::json;

use crate::fixtures::{check_picture, first_minute, is_hit, span};

/// A server with a picture in NGINX's store, and a yes to the owner and to the right signature beside it.
struct Warm {
    stills: Stills,
    window: (i64, i64),
    target: String,
    signature: String,
}

async fn warm() -> Warm {
    let stills = Setup::new().nginx().set("auth.cache_ttl", "\"60s\"").start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let window = span(&minute);
    let target = thumb(&camera, window, 20_000);
    let signature = signed::Window::new(USER, DEVICE, window.0, window.1).query();
    for _ in 0..2 {
        stills.get(&target).await.expect(200);
        stills.ask(Method::GET, &format!("{target}?{signature}")).send().await.expect(200);
    }
    Warm { stills, window, target, signature }
}

impl Warm {
    fn ask(&self, query: &str) -> Ask {
        self.stills.ask(Method::GET, &format!("{}{query}", self.target))
    }

    /// Through NGINX and past it.
    async fn both(&self, token: Option<&str>, query: &str) -> [Answer; 2] {
        let target = format!("{}{query}", self.target);
        let asks = [self.stills.ask(Method::GET, &target), self.stills.ask_origin(Method::GET, &target)];
        let [a, b] = asks.map(|ask| match token {
            Some(token) => ask.header("authorization", token).send(),
            None => ask.send(),
        });
        [a.await, b.await]
    }
}

/// Demands a refusal that tells nothing of the picture.
fn check_refused(name: &str, answer: &Answer, status: u16) {
    let (slug, error) = match status {
        401 => ("invalid-token", "Bearer error=\"invalid_token\""),
        _ => ("insufficient-scope", "Bearer error=\"insufficient_scope\""),
    };
    assert_eq!(answer.status, status, "{name}: {answer:?}");
    answer.problem(status, slug);
    assert!(answer.header("www-authenticate").starts_with(error), "{name}: {answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store", "{name}");
    assert_eq!((answer.header("etag"), answer.header("stills-frame-timestamp")), ("", ""), "{name}");
}

#[tokio::test]
async fn the_second_fetch_is_answered_by_nginx_alone() {
    let Warm { stills, target, signature, .. } = warm().await;
    let before = (stills.requests("thumb").await, stills.requests("auth").await);
    for _ in 0..5 {
        let answer = stills.get(&target).await;
        check_picture(&answer, (320, 240), START + 20_000);
        assert!(is_hit(&answer), "{answer:?}");
        let answer = stills.ask(Method::GET, &format!("{target}?{signature}")).send().await;
        check_picture(&answer, (320, 240), START + 20_000);
        assert!(is_hit(&answer), "{answer:?}");
    }
    assert_eq!((stills.requests("thumb").await, stills.requests("auth").await), before);
}

#[tokio::test]
async fn tokens_that_may_see_it() {
    let warm = warm().await;
    let scope = "thumbnails:read";
    let good = [
        ("a list of users", claims_with(scope, &json!({"user_id": [OTHER_USER, USER]}))),
        ("the subject is the user", claims_with(scope, &json!({"user_id": null, "sub": USER}))),
        ("upper case", claims_with(scope, &json!({"user_id": USER.to_uppercase()}))),
        ("its own device", claims_with(scope, &json!({"device_id": DEVICE}))),
        ("a list of devices", claims_with(scope, &json!({"device_id": [OTHER_DEVICE, DEVICE]}))),
        ("a list of scopes", claims_with("", &json!({"scope": ["images:read", scope]}))),
        ("everybody's footage", claims_with("thumbnails:read users:all", &json!({"user_id": null}))),
        ("within the leeway", claims_with(scope, &json!({"exp": now_s() - 10}))),
        ("a clock that is a little ahead", claims_with(scope, &json!({"nbf": now_s() + 10}))),
    ];
    for (name, claims) in good {
        let token = format!("Bearer {}", token::hs256(&claims));
        let [through, direct] = warm.both(Some(&token), "").await;
        assert!(is_hit(&through), "{name}: {through:?}");
        check_picture(&through, (320, 240), START + 20_000);
        check_picture(&direct, (320, 240), START + 20_000);
    }
}

#[tokio::test]
async fn tokens_that_may_not() {
    let warm = warm().await;
    let scope = "thumbnails:read";
    let token = |changes: serde_json::Value| format!("Bearer {}", token::hs256(&claims_with(scope, &changes)));
    let owner = warm.stills.owner();
    let (head, rest) = owner.split_once('.').expect("a token");
    let (claims, signature) = rest.split_once('.').expect("a token");
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let richer = part(claims_with(scope, &json!({"user_id": OTHER_USER})));
    let changed: String = signature.chars().rev().collect();
    let refused = [
        ("no token", String::new(), 401),
        ("an empty one", "Bearer ".to_owned(), 401),
        ("another scheme", "Basic dXNlcjpwYXNz".to_owned(), 401),
        ("no scheme", owner.to_owned(), 401),
        ("two in one header", format!("Bearer {owner}, Bearer {owner}"), 401),
        ("no token at all", "Bearer x".to_owned(), 401),
        ("half a token", format!("Bearer {head}.{claims}"), 401),
        ("another signature", format!("Bearer {head}.{claims}.{changed}"), 401),
        ("another's claims", format!("Bearer {head}.{richer}.{signature}"), 401),
        ("unsigned", format!("Bearer {}.{claims}.", part(json!({"alg": "none", "typ": "JWT"}))), 401),
        ("another secret", format!("Bearer {}", Key::hs256(&"x".repeat(32)).sign(&token::claims(scope))), 401),
        ("expired", token(json!({"exp": now_s() - 60})), 401),
        ("without an end", token(json!({"exp": null})), 401),
        ("not yet", token(json!({"nbf": now_s() + 600})), 401),
        ("another user", token(json!({"user_id": OTHER_USER})), 403),
        ("no user", token(json!({"user_id": null})), 403),
        ("an empty list of users", token(json!({"user_id": []})), 403),
        ("another device", token(json!({"device_id": OTHER_DEVICE})), 403),
        ("an empty list of devices", token(json!({"device_id": []})), 403),
        ("no scope", token(json!({"scope": null})), 403),
        ("another scope", token(json!({"scope": "recordings:read images:read"})), 403),
        ("everybody, but for nothing", token(json!({"scope": "users:all", "user_id": null})), 403),
    ];
    for (name, token, status) in refused {
        let token = Some(token.as_str()).filter(|token| !token.is_empty());
        for answer in warm.both(token, "").await {
            check_refused(name, &answer, status);
        }
    }
    // Nothing of this has taken anything from the one who may.
    assert!(is_hit(&warm.stills.get(&warm.target).await.expect(200)));
}

#[tokio::test]
async fn signatures_that_do_not_open_it() {
    let warm = warm().await;
    let (start, end) = warm.window;
    let right = signed::Window::new(USER, DEVICE, start, end);
    let hour = 3600;
    let others = [
        ("another start", signed::Window { start: start + 1, ..right.clone() }),
        ("another end", signed::Window { end: end + 1, ..right.clone() }),
        ("another user", signed::Window { user: OTHER_USER, ..right.clone() }),
        ("another device", signed::Window { device: OTHER_DEVICE, ..right.clone() }),
        ("another scope", signed::Window { scope: "recordings:read", ..right.clone() }),
        ("expired", signed::Window { expires: now_s() / hour * hour, ..right.clone() }),
        ("too far ahead", signed::Window { expires: (now_s() / hour + 24 * 9) * hour, ..right.clone() }),
        ("an unknown key", signed::Window { key: "k2", ..right.clone() }),
        ("another secret", signed::Window { secret: b"signing-secret-0123456789abcdef-012345678x", ..right.clone() }),
    ];
    let mut refused: Vec<(&str, String)> = others.map(|(name, window)| (name, window.query())).to_vec();
    let [expires, key, signature] = [0, 1, 2].map(|n| warm.signature.split('&').nth(n).expect("a part"));
    let later = signed::Window { expires: right.expires + hour, ..right.clone() }.query();
    let later_expires = later.split('&').next().expect("a part");
    let (name, text) = signature.split_once('=').expect("a value");
    let changed: String = text.chars().rev().collect();
    refused.extend([
        ("another end of life", format!("{later_expires}&{key}&{signature}")),
        ("changed", format!("{expires}&{key}&{name}={changed}")),
        ("cut off", format!("{expires}&{key}&{name}={}", &text[..42])),
        ("longer", format!("{}=", warm.signature)),
        ("without a signature", format!("{expires}&{key}")),
        ("without a key", format!("{expires}&{signature}")),
        ("without an end of life", format!("{key}&{signature}")),
        ("two signatures", format!("{}&{signature}", warm.signature)),
        ("two keys", format!("{}&key=k2", warm.signature)),
        ("a second key without a value", format!("key&{}", warm.signature)),
        ("a second end of life behind a parameter", format!("expires&v=1&{}", warm.signature)),
        ("encoded names", format!("{expires}&{key}&signatur%65={text}")),
    ]);
    for (name, query) in refused {
        for answer in warm.both(None, &format!("?{query}")).await {
            check_refused(name, &answer, 401);
        }
    }
    // Two credentials are none, though each is good.
    let owner = format!("Bearer {}", warm.stills.owner());
    for answer in warm.both(Some(&owner), &format!("?{}", warm.signature)).await {
        check_refused("token and signature", &answer, 401);
    }
    assert!(is_hit(&warm.ask(&format!("?{}", warm.signature)).send().await.expect(200)));
}

#[tokio::test]
async fn a_signature_opens_its_window_and_nothing_else() {
    let Warm { stills, window, signature, .. } = warm().await;
    let camera = Camera::first();
    let ask = |target: &str| {
        let separator = if target.contains('?') { '&' } else { '?' };
        stills.ask(Method::GET, &format!("{target}{separator}{signature}")).send()
    };
    for offset in [0, 30_000, 60_000] {
        ask(&thumb(&camera, window, offset)).await.expect(200);
    }
    ask(&thumb(&camera, window, 0).replace("w320", "w100")).await.expect(200);
    let shifted = (window.0 + 1, window.1);
    check_refused("another window", &ask(&thumb(&camera, shifted, 0)).await, 401);
    check_refused("another device", &ask(&thumb(&Camera::second(), window, 0)).await, 401);
    check_refused("a search", &ask(&Search::new(&camera, window, 10_000).target()).await, 401);
    let devices = format!("/v1/devices?user_id={USER}");
    check_refused("devices", &ask(&devices).await, 401);
}

#[tokio::test]
async fn listed_urls_are_signed_when_wanted() {
    let Warm { stills, window, .. } = warm().await;
    let search = Search::new(&Camera::first(), window, 20_000).with("signed=true");
    for search in [search.clone(), search.with("urls=shared")] {
        let entries = stills.list(&search).await;
        assert_eq!(entries.len(), 4);
        for entry in entries {
            stills.ask(Method::GET, &entry.target).send().await.expect(200);
            let (bare, _) = entry.target.split_once('?').expect("a query");
            check_refused("without its signature", &stills.ask(Method::GET, bare).send().await, 401);
        }
    }
}

#[tokio::test]
async fn two_authorization_headers_are_refused() {
    let Warm { stills, target, .. } = warm().await;
    let owner = stills.owner();
    let line = format!("Authorization: Bearer {owner}\r\n");
    let request = |lines: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n{lines}Connection: close\r\n\r\n");
    for address in [stills.address(), stills.origin_address()] {
        assert_eq!(raw::exchange(address, request(&line)).await.status, 200);
        let answer = raw::exchange(address, request(&line.repeat(2))).await;
        assert!([400, 401].contains(&answer.status), "{answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
}

#[tokio::test]
async fn an_authorisation_ends_with_its_credential() {
    let Warm { stills, target, .. } = warm().await;
    // With the leeway of 30 s it lives for another 3 s.
    let ends_s = now_s() + 3;
    let token = token::hs256(&claims_with("thumbnails:read", &json!({"exp": ends_s - 30})));
    stills.get_as(&token, &target).await.expect(200);
    stills.get_as(&token, &target).await.expect(200);
    wait::until("the token is over", async || stills.get_as(&token, &target).await.status == 401).await;
    assert!(now_s() <= ends_s + 1, "{} s too long", now_s() - ends_s);
}

#[tokio::test]
async fn no_credential_is_written_anywhere() {
    let Warm { stills, window, target, signature } = warm().await;
    let narrow = token::hs256(&claims_with("thumbnails:read", &json!({"device_id": DEVICE})));
    stills.get_as(&narrow, &target).await.expect(200);
    stills.get_as(&token::with_scope("images:read"), &target).await.expect(403);
    // What names a secret in its path is not logged by it, whatever the rest looks like.
    let job_secret = "s3cr3ts3cr3ts3cr3t";
    let thumb_like = target.trim_start_matches('/');
    stills.get(&format!("/v1/jobs/j-1/{job_secret}.jpg/{thumb_like}")).await.expect(404);
    stills.ask(Method::POST, &format!("{target}?{signature}")).send().await.expect(405);
    let mark = thumb(&Camera::first(), window, 59_999);
    stills.ask(Method::GET, &format!("{mark}?{signature}x")).send().await.expect(401);
    stills.get_as(&narrow, &mark).await.expect(200);
    let written = |folder: &str| stills.nginx().files(folder);
    wait::until("the access log is written", async || {
        written("").iter().any(|(path, bytes)| path.ends_with("access.log") && find(bytes, mark.as_bytes()))
    })
    .await;
    let refused = wait::some("what NGINX refused itself is logged", async || {
        let (_, log) = written("").into_iter().find(|(path, _)| path.ends_with("access.log"))?;
        let log = String::from_utf8_lossy(&log).into_owned();
        log.lines().find(|line| line.contains("\"status\":405")).map(str::to_owned)
    })
    .await;
    for said in ["\"method\":\"POST\"", "\"credential\":\"signed\""] {
        assert!(refused.contains(said), "{refused}");
    }
    assert!(written("cache-auth").len() >= 3 && written("cache-pictures").len() >= 2);

    let text = signature.split("signature=").nth(1).expect("a signature");
    let signature_of = |token: &str| token.rsplit('.').next().unwrap_or_default().to_owned();
    let claims_of = |token: &str| token.split('.').nth(1).unwrap_or_default().to_owned();
    let secrets = [
        text.to_owned(),
        signature_of(stills.owner()),
        claims_of(stills.owner()),
        signature_of(&narrow),
        claims_of(&narrow),
        job_secret.to_owned(),
        token::SECRET.to_owned(),
        String::from_utf8_lossy(signed::SECRET).into_owned(),
    ];
    let logged = [stills.log(), stills.nginx().lines()].concat().join("\n");
    let mut places = written("");
    places.retain(|(path, _)| !path.ends_with("site.conf"));
    places.push(("what the programs said".into(), logged.into_bytes()));
    for (path, bytes) in places {
        for secret in &secrets {
            assert!(!find(&bytes, secret.as_bytes()), "a credential in {}", path.display());
        }
    }
}

fn find(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|part| part == needle)
}

#[tokio::test]
async fn what_is_nginx_own_question_is_not_answered_outside() {
    let Warm { stills, .. } = warm().await;
    for path in ["/auth", "/livez", "/readyz", "/metrics", "/.stills-auth", "/.stills-problem"] {
        let answer = stills.get(path).await;
        answer.problem(404, "not-found");
    }
    // And what a client says about epochs and original addresses is not believed.
    let other = thumb(&Camera::of(OTHER_USER, DEVICE), (START, START + 60_000), 0);
    let answer = stills.ask(Method::GET, &other).bearer(stills.owner()).header("x-original-uri", "/").send().await;
    check_refused("another's picture", &answer, 403);
}
