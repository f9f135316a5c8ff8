//! `GET /image` of objects in a store: with credentials that the user may name, for what these are for, and asked again
//! each time.

use e2e::harness::bucket::{Bucket, KEY, SECRET};
use e2e::harness::token::{self, claims_with};
use e2e::harness::{Answer, OTHER_USER, Setup, Stills, USER, wait};
use rustix::process::Signal;
use serde_json::json;

use crate::fixtures::{check_picture, first_minute};

fn credentials(setup: Setup, name: &str, bucket: &Bucket, more: &[(&str, String)]) -> Setup {
    let key = |key: &str| format!("credentials.{name}.{key}");
    let text = |value: &str| format!("\"{value}\"");
    let usual = [("kind", text("s3")), ("endpoint", text(bucket.endpoint())), ("access_key_id", text(KEY))];
    usual.iter().chain(more).fold(setup, |setup, (name, value)| setup.set(&key(name), value))
}

async fn image(stills: &Stills, token: &str, url: &str, more: &str) -> Answer {
    stills.get_as(token, &format!("/image?url={url}&width=320&offset_percent=50{more}")).await
}

#[tokio::test]
async fn nobody_reaches_what_is_anothers() {
    let (bucket, footage) = (Bucket::start().await, first_minute());
    let bytes = std::fs::read(&footage.path).expect("footage");
    for path in
        [format!("footage/{USER}/film.mp4"), format!("footage/{OTHER_USER}/film.mp4"), "footage/film.mp4".into()]
    {
        bucket.put(&path, &bytes).await;
    }
    let secrets = tempfile::tempdir().expect("a directory");
    let file = |name: &str, secret: &str| {
        let path = secrets.path().join(name);
        std::fs::write(&path, secret).expect("a secret");
        format!("\"{}\"", path.display())
    };
    let (right, wrong) = (file("right", SECRET), file("wrong", "another-secret-0123456789"));
    let own = [
        ("secret_file", right.clone()),
        ("users", format!("[\"{USER}\"]")),
        ("url_prefix", format!("\"s3://footage/{USER}/\"")),
    ];
    // As a recorder's: good for everything, and named by nobody.
    let recorder = [("secret_file", right), ("url_prefix", "\"s3://footage/\"".to_owned())];
    let stale = [("secret_file", wrong), ("users", format!("[\"{USER}\", \"{OTHER_USER}\"]"))];
    let setup = Setup::new()
        .set("fetch.allow_urls", "[\"^s3://footage/{user_id}/\", \"^s3://footage/film\"]")
        .set("fetch.allow_networks", "[\"127.0.0.0/8\"]")
        .set("media.allow_urls", "[\"^s3://footage/\"]")
        .set("media.allow_networks", "[\"127.0.0.0/8\"]");
    let setup = credentials(setup, "mine", &bucket, &own);
    let setup = credentials(setup, "recorder", &bucket, &recorder);
    let mut stills = credentials(setup, "stale", &bucket, &stale).start().await;
    let owner = token::with_scope("images:read");
    let other = token::hs256(&claims_with("images:read", &json!({"user_id": OTHER_USER})));
    let (mine, theirs) = (format!("s3://footage/{USER}/film.mp4"), format!("s3://footage/{OTHER_USER}/film.mp4"));
    let shared = "s3://footage/film.mp4";
    let shows = footage.recipe.start_ms + 30_000;
    for more in ["&credentials_key=mine", ""] {
        check_picture(&image(&stills, &owner, &mine, more).await, (320, 240), shows);
    }
    for (token, url, more, status, slug) in [
        // Another user's footage, with whatever credentials.
        (&other, &mine, "", 403, "url-not-allowed"),
        (&other, &mine, "&credentials_key=mine", 403, "url-not-allowed"),
        (&owner, &theirs, "&credentials_key=mine", 403, "url-not-allowed"),
        // Another user's credentials, and those of nobody, are not there.
        (&other, &theirs, "&credentials_key=mine", 404, "unknown-credentials"),
        (&other, &theirs, "&credentials_key=recorder", 404, "unknown-credentials"),
        (&owner, &mine, "&credentials_key=recorder", 404, "unknown-credentials"),
        (&owner, &mine, "&credentials_key=nothing", 404, "unknown-credentials"),
        // Nor are they used unnamed.
        (&other, &theirs, "", 403, "url-not-allowed"),
        (&owner, &shared.to_owned(), "", 403, "url-not-allowed"),
        // One's own are for their own URLs.
        (&owner, &shared.to_owned(), "&credentials_key=mine", 403, "url-not-allowed"),
        // The store itself refuses.
        (&owner, &mine, "&credentials_key=stale", 502, "media-unreadable"),
        (&owner, &format!("{mine}x"), "", 404, "media-gone"),
    ] {
        let answer = image(&stills, token, url, more).await;
        let problem = answer.problem(status, slug).to_string();
        assert!(!problem.contains("127.0.0.1") && !problem.contains(SECRET), "{url}{more}: {problem}");
    }
    // What is known of an object does not outlive it, nor the right to name its credentials.
    check_picture(&image(&stills, &owner, &mine, "").await, (320, 240), shows);
    bucket.put(&format!("footage/{USER}/film.mp4"), b"something else").await;
    image(&stills, &owner, &mine, "").await.problem(415, "not-decodable");
    bucket.remove(&format!("footage/{USER}/film.mp4")).await;
    image(&stills, &owner, &mine, "").await.problem(404, "media-gone");
    bucket.put(&format!("footage/{USER}/film.mp4"), &bytes).await;
    check_picture(&image(&stills, &owner, &mine, "&credentials_key=mine").await, (320, 240), shows);
    stills.home_mut().set("credentials.mine.users", &format!("[\"{OTHER_USER}\"]"));
    stills.origin().signal(Signal::HUP);
    wait::until("the credentials are another's", async || {
        image(&stills, &owner, &mine, "&credentials_key=mine").await.status == 404
    })
    .await;
    image(&stills, &owner, &mine, "").await.problem(403, "url-not-allowed");
}
