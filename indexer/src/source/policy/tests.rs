//! What is allowed, and above all what is not: every spelling that was ever used to get out of a directory.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbb";

fn user(id: &str) -> UserId {
    id.parse().expect("id")
}

fn config(roots: &[&str], allow_urls: &[&str]) -> PolicyConfig {
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    PolicyConfig { roots: owned(roots), allow_urls: owned(allow_urls) }
}

/// A root of each kind, and patterns of each kind. `A` and `B` in URLs below stand for the users' ids.
fn policy() -> &'static MediaPolicy {
    static POLICY: LazyLock<MediaPolicy> = LazyLock::new(build);
    &POLICY
}

fn build() -> MediaPolicy {
    let roots = ["/srv/rec/{user_id}", "/srv/by-{user_id}/media/", "/mnt/archive"];
    let patterns = [
        "^s3://footage/{user_id}/",
        "^https://media\\.example\\.com/{user_id}/[^?]*$",
        "^https://vault\\.example\\.com/|^gs://vault/",
        "^az://{user_id}/x",
    ];
    MediaPolicy::new(config(&roots, &patterns)).expect("policy")
}

fn spelled(url: &str) -> String {
    url.replace("{A}", A).replace("{B}", B)
}

fn check_file(url: &str, trusted: bool, root: &str, beneath: &str) {
    let place = policy().check(user(A), trusted, &spelled(url));
    assert_eq!(place, Ok(Place::File { root: spelled(root).into(), beneath: beneath.into() }), "{url:?}");
}

#[test]
fn files_under_a_root() {
    check_file("file:///srv/rec/{A}/1.mp4", false, "/srv/rec/{A}", "1.mp4");
    check_file("file:///srv/rec/{A}/1.mp4", true, "/srv/rec/{A}", "1.mp4");
    check_file("file://localhost/srv/rec/{A}/1.mp4", false, "/srv/rec/{A}", "1.mp4");
    check_file("file:///srv/rec/{A}/cam%201/caf%C3%A9.mp4", false, "/srv/rec/{A}", "cam 1/café.mp4");
    check_file("file:///srv/rec/{A}/café;a=b,c:d@e.mp4", false, "/srv/rec/{A}", "café;a=b,c:d@e.mp4");
    check_file("file:///srv/%72ec/{A}/.a/..x%25.mp4".replace("..x", "x").as_str(), false, "/srv/rec/{A}", ".a/x%.mp4");
    check_file("file:///srv/by-{A}/media/1.mp4", false, "/srv/by-{A}", "media/1.mp4");
    check_file("file:///mnt/archive/{B}/1.mp4", true, "/mnt/archive", &spelled("{B}/1.mp4"));
}

fn check_remote(url: &str, trusted: bool, normalised: &str) {
    let place = policy().check(user(A), trusted, &spelled(url));
    let shown = place.map(|place| match place {
        Place::Remote { url } => url.to_string(),
        Place::File { .. } => "a file".into(),
    });
    assert_eq!(shown, Ok(spelled(normalised)), "{url:?}");
}

#[test]
fn urls_that_match() {
    check_remote("s3://footage/{A}/cam/1.mp4", false, "s3://footage/{A}/cam/1.mp4");
    check_remote("S3://footage/{A}/cam/1.mp4", false, "s3://footage/{A}/cam/1.mp4");
    check_remote("https://MEDIA.example.com:443/{A}/1.mp4", false, "https://media.example.com/{A}/1.mp4");
    check_remote("https://media.example.com/{A}//1.mp4", false, "https://media.example.com/{A}//1.mp4");
    check_remote("https://vault.example.com/1.mp4?sig=a/../b", true, "https://vault.example.com/1.mp4?sig=a/../b");
    check_remote("gs://vault/1.mp4", true, "gs://vault/1.mp4");
    check_remote("az://{A}/x.mp4", false, "az://{A}/x.mp4");
}

/// Refused to A even when the caller is trusted: not a matter of trust but of the way it is written.
const HOSTILE: &[&str] = &[
    // Not a URL, or none with a place.
    "",
    " ",
    "1.mp4",
    "/srv/rec/{A}/1.mp4",
    "//srv/rec/{A}/1.mp4",
    "file:",
    "file:/srv/rec/{A}/1.mp4",
    "file:srv/rec/{A}/1.mp4",
    "file://",
    "file:///",
    "file:////",
    "://srv/rec/{A}/1.mp4",
    // Dot segments, plain and dressed up.
    "file:///srv/rec/{A}/../{B}/1.mp4",
    "file:///srv/rec/{A}/./1.mp4",
    "file:///srv/rec/{A}/../{A}/1.mp4",
    "file:///srv/rec/{A}/cam/../../{B}/1.mp4",
    "file:///srv/rec/{A}/%2e%2e/{B}/1.mp4",
    "file:///srv/rec/{A}/%2E%2E/{B}/1.mp4",
    "file:///srv/rec/{A}/.%2e/{B}/1.mp4",
    "file:///srv/rec/{A}/%2e./{B}/1.mp4",
    "file:///srv/rec/{A}/%2e/1.mp4",
    "file:///srv/rec/{A}/%252e%252e/{B}/1.mp4",
    "file:///srv/rec/{A}/..;/{B}/1.mp4",
    "file:///srv/rec/{A}/..;x=y/{B}/1.mp4",
    "file:///srv/rec/{A}/.../{B}/1.mp4",
    "file:///srv/rec/{A}/..%20/{B}/1.mp4",
    "file:///srv/rec/{A}/%20../{B}/1.mp4",
    "file:///srv/rec/{A}/..%09/{B}/1.mp4",
    "file:///srv/rec/{A}/..%00/{B}/1.mp4",
    "file:///srv/rec/{A}/..%2f{B}/1.mp4",
    "file:///srv/rec/{A}/..%2F..%2F..%2Fetc%2Fpasswd",
    "file:///srv/rec/{A}/..%5c{B}%5c1.mp4",
    "file:///srv/rec/{A}/..%252f{B}/1.mp4",
    "file:///srv/rec/{A}/..",
    "file:///srv/rec/{A}/%c0%ae%c0%ae/{B}/1.mp4",
    "file:///srv/rec/{A}/%e0%80%ae%e0%80%ae/{B}/1.mp4",
    "file:///srv/rec/{A}/\u{ff0e}\u{ff0e}/{B}/1.mp4",
    "file:///srv/rec/{A}/%EF%BC%8E%EF%BC%8E/{B}/1.mp4",
    "file:///srv/rec/{A}/\u{2025}/{B}/1.mp4",
    "file:///srv/rec/{A}/..\u{ff0f}{B}\u{2215}1.mp4",
    "file:///srv/rec/{A}/.\u{200b}./{B}/1.mp4",
    "file:///../srv/rec/{A}/1.mp4",
    "file:///srv/../srv/rec/{A}/1.mp4",
    // Separators.
    "file:///srv/rec/{A}//1.mp4",
    "file:///srv//rec/{A}/1.mp4",
    "file:////srv/rec/{A}/1.mp4",
    "file:///srv/rec/{A}\\1.mp4",
    "file:///srv/rec/{A}\\..\\{B}\\1.mp4",
    "file:\\\\\\srv\\rec\\{A}\\1.mp4",
    "file:///srv/rec/{A}/cam%2f1.mp4",
    "file:///srv/rec/{A}%2f1.mp4",
    "file:///srv%2frec%2f{A}%2f1.mp4",
    "file:///srv/rec/{A}/cam%5c1.mp4",
    "file:///srv/rec/{A}/cam/",
    // Bytes that end, hide or break a name.
    "file:///srv/rec/{A}/1.mp4%00.jpg",
    "file:///srv/rec/{A}/1.mp4\0",
    "file:///srv/rec/{A}/1\n.mp4",
    "file:///srv/rec/{A}/1%0a.mp4",
    "file:///srv/rec/{A}/1.mp4 ",
    " file:///srv/rec/{A}/1.mp4",
    "\tfile:///srv/rec/{A}/1.mp4",
    "fi\tle:///srv/rec/{A}/1.mp4",
    "file:///srv/rec/{A}/1.\u{85}mp4",
    "file:///srv/rec/{A}/%ff.mp4",
    "file:///srv/rec/{A}/1.mp4.",
    "file:///srv/rec/{A}/cam./1.mp4",
    "file:///srv/rec/{A}/1.mp4%20",
    "file:///srv/rec/{A}/a b.mp4",
    "file:///srv/rec/{A}/a%2525.mp4",
    // Hosts, queries, fragments, letter case, drive letters.
    "file://host/srv/rec/{A}/1.mp4",
    "file://127.0.0.1/srv/rec/{A}/1.mp4",
    "file://localhost.evil.net/srv/rec/{A}/1.mp4",
    "file://localhost:80/srv/rec/{A}/1.mp4",
    "file://LOCALHOST/srv/rec/{A}/1.mp4",
    "file://user@localhost/srv/rec/{A}/1.mp4",
    "file://%6cocalhost/srv/rec/{A}/1.mp4",
    "file://\u{ff4c}ocalhost/srv/rec/{A}/1.mp4",
    "file://./srv/rec/{A}/1.mp4",
    "file://../srv/rec/{A}/1.mp4",
    "FILE:///srv/rec/{A}/1.mp4",
    "File:///srv/rec/{A}/1.mp4",
    "FILE:///etc/passwd",
    "file:///srv/rec/{A}/1.mp4?x",
    "file:///srv/rec/{A}/1.mp4?",
    "file:///srv/rec/{A}/1.mp4#t=1",
    "file:///srv/rec/{A}/1.mp4?/../../{B}",
    "file:///C|/srv/rec/{A}/1.mp4",
    "file:///C:/srv/rec/{A}/1.mp4",
    // Other places.
    "file:///etc/passwd",
    "file:///srv/rec/{B}/1.mp4",
    "file:///srv/rec/1.mp4",
    "file:///srv/rec/{A}",
    "file:///srv/rec/{A}/",
    "file:///srv/rec/{A}x/1.mp4",
    "file:///srv/rec/x{A}/1.mp4",
    "file:///srv/rec/AAAAAAAAAAAAAAAAAAAAAAAA/1.mp4",
    "file:///srv/rec/%7Buser_id%7D/1.mp4",
    "file:///srv/rec/{user_id}/1.mp4",
    "file:///srv/REC/{A}/1.mp4",
    "file:///srv/by-{A}/1.mp4",
    "file:///srv/by-{A}/media",
    "file:///srv/by-{B}/media/1.mp4",
    "file:///mnt/archive",
    "file:///mnt/archive/",
    "file:///mnt/archived/1.mp4",
    "file:///proc/self/environ",
    "file:///dev/sda",
    // Other schemes.
    "ftp://footage/{A}/1.mp4",
    "concat:/srv/rec/{A}/1.mp4",
    "subfile://srv/rec/{A}/1.mp4",
    "data:video/mp4;base64,AA==",
    "javascript://x/{A}",
    "jar:file:///srv/rec/{A}/1.mp4",
    "view-source:file:///srv/rec/{A}/1.mp4",
    "filesystem:///x",
    // Network places.
    "s3://footage/{B}/1.mp4",
    "s3://footage/{A}",
    "s3://footage/{A}/../{B}/1.mp4",
    "s3://footage/{A}/%2e%2e/{B}/1.mp4",
    "s3://footage/{A}/..%2f{B}/1.mp4",
    "s3://footage/{A}/%252e%252e/{B}/1.mp4",
    "s3://footage/{A}//1.mp4",
    "s3://footage",
    "s3:///footage/{A}/1.mp4",
    "s3://key:secret@footage/{A}/1.mp4",
    "s3://foot%61ge/{A}/1.mp4",
    "s3://footage/{A}/1.mp4#x",
    "s3://evil/s3://footage/{A}/1.mp4",
    "s3://evil/?s3://footage/{A}/1.mp4",
    "s3://footage.evil/{A}/1.mp4",
    "https://media.example.com@evil.net/{A}/1.mp4",
    "https://media.example.com.evil.net/{A}/1.mp4",
    "https://evil.net/https://media.example.com/{A}/1.mp4",
    "https://evil.net\\@media.example.com/{A}/1.mp4",
    "https://media.example.com\\.evil.net/{A}/1.mp4",
    "https://media.example.com/{A}/1.mp4?x=1",
    "https:///{A}/1.mp4",
    "https://media.example.com:444/{A}/1.mp4",
    "http://media.example.com/{A}/1.mp4",
    "https:media.example.com/{A}/1.mp4",
    "https://mediaxexample.com/{A}/1.mp4",
    "https://media.example.com/{A}%2f1.mp4",
    "https://media.example.com%2f/{A}/1.mp4",
    "https://media\u{3002}example\u{3002}com/{A}/1.mp4",
    "https://vault.example.com.evil.net/1.mp4",
    "gs://vault",
    "s3://x/^gs://vault/",
    "az://{B}/x.mp4",
    "az://{A}",
    "HTTPS://[::1/{A}/1.mp4",
];

#[test]
fn hostile_spellings_are_refused_to_everyone() {
    let policy = policy();
    assert!(HOSTILE.len() >= 60);
    for url in HOSTILE {
        for trusted in [false, true] {
            let url = spelled(url);
            let refused = policy.check(user(A), trusted, &url).expect_err(&url);
            assert!(!refused.detail.contains("/srv"), "{refused}");
        }
    }
    let long = format!("file:///srv/rec/{A}/{}1.mp4", "x/".repeat(2100));
    assert!(policy.check(user(A), true, &long).is_err());
}

#[test]
fn entries_without_a_user_serve_trusted_callers_only() {
    let policy = policy();
    for url in ["file:///mnt/archive/1.mp4", "https://vault.example.com/1.mp4", "gs://vault/1.mp4"] {
        assert!(policy.check(user(A), true, url).is_ok(), "{url}");
        assert!(policy.check(user(A), false, url).is_err(), "{url}");
        assert!(policy.check_stored(user(A), url).is_ok(), "{url}");
    }
    assert!(policy.check_stored(user(A), &spelled("file:///srv/rec/{A}/1.mp4")).is_ok());
    assert!(policy.check_stored(user(A), &spelled("file:///srv/rec/{B}/1.mp4")).is_err());
}

#[test]
fn of_nested_roots_the_longest_counts() {
    let policy =
        MediaPolicy::new(config(&["/srv", "/srv/{user_id}", "/srv/{user_id}/in/{user_id}"], &[])).expect("policy");
    let place = |trusted, url: &str| policy.check(user(A), trusted, &spelled(url)).ok();
    let file =
        |root: &str, beneath: &str| Some(Place::File { root: spelled(root).into(), beneath: spelled(beneath).into() });
    assert_eq!(place(true, "file:///srv/{A}/1.mp4"), file("/srv/{A}", "1.mp4"));
    assert_eq!(place(false, "file:///srv/{A}/in/{A}/1.mp4"), file("/srv/{A}", "in/{A}/1.mp4"));
    // The operator gave everything below /srv to trusted callers, other users' directories included.
    assert_eq!(place(true, "file:///srv/{B}/1.mp4"), file("/srv", "{B}/1.mp4"));
    assert_eq!(place(false, "file:///srv/{B}/1.mp4"), None);
}

#[test]
fn nothing_configured_allows_nothing() {
    let policy = MediaPolicy::new(PolicyConfig::default()).expect("policy");
    assert!(policy.check(user(A), true, "file:///srv/1.mp4").is_err());
    assert!(policy.check(user(A), true, "https://example.com/1.mp4").is_err());
}

fn check_config(roots: &[&str], allow_urls: &[&str], expected: &[&str]) {
    let faults = MediaPolicy::new(config(roots, allow_urls)).map(|_| ()).err().unwrap_or_default();
    let named = faults.iter().zip(expected).all(|(fault, start)| fault.starts_with(start));
    assert!(named && faults.len() == expected.len(), "{roots:?} {allow_urls:?}: {faults:?}");
}

#[test]
fn faults_of_the_configuration_are_all_named() {
    check_config(&["/srv/", "/srv/{user_id}/a"], &["^s3://a/", "^(https?)://b/{user_id}/"], &[]);
    let bad = ["", "srv", "/", "//", "/srv//x", "/srv/../x", "/srv/./x", "/srv/{user}/x", "/srv/{user_id/x", "/a\0b"];
    for root in bad {
        check_config(&["/ok", root], &[], &["media.roots[1]"]);
    }
    for pattern in ["", "s3://a/", "^(", "^a{user_id", "^\\p{L}{1000}{1000}", " ^s3://a/"] {
        check_config(&[], &["^ok", pattern], &["media.allow_urls[1]"]);
    }
    check_config(&["x"], &["x", "^ok", "^["], &["media.roots[0]", "media.allow_urls[0]", "media.allow_urls[2]"]);
    check_config(&["/srv"; ENTRIES_MAX + 1], &[], &["media.roots: at most"]);
}

proptest! {
    /// Whatever is written after the root: what comes out is plain names beneath it.
    #[test]
    fn what_is_allowed_is_beneath_the_root(tail in "([a-z0-9./%;\\\\~ ]|%2e|%2f|%5c|%00|%25|\\.\\.|/\\.\\./|\\PC){0,24}") {
        let policy = policy();
        if let Ok(place) = policy.check(user(A), false, &format!("file:///srv/rec/{A}/{tail}")) {
            let Place::File { root, beneath } = place else { return Err(TestCaseError::fail("not a file")) };
            prop_assert_eq!(root, PathBuf::from(format!("/srv/rec/{A}")));
            prop_assert!(beneath.components().next().is_some());
            prop_assert!(beneath.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            prop_assert!(!beneath.to_string_lossy().contains(['\\', '\0']));
        }
    }

    /// Every path of plain names is reached, as it is.
    #[test]
    fn plain_names_are_allowed(names in prop::collection::vec("[A-Za-z0-9_~-][A-Za-z0-9 ._~+=-]{0,20}[A-Za-z0-9_-]", 1..5)) {
        let path = names.join("/");
        let url = format!("file:///srv/rec/{A}/{}", path.replace(' ', "%20"));
        let place = policy().check(user(A), false, &url);
        prop_assert_eq!(place, Ok(Place::File { root: format!("/srv/rec/{A}").into(), beneath: path.into() }));
    }

    #[test]
    fn garbage_never_panics(url in "\\PC{0,60}", trusted: bool) {
        prop_assert!(policy().check(user(A), trusted, &url).is_err());
    }

    #[test]
    fn one_users_pattern_never_serves_another(ours: [u8; 12], theirs: [u8; 12]) {
        let policy = policy();
        let url = format!("s3://footage/{}/1.mp4", UserId::from_bytes(theirs));
        let allowed = policy.check(UserId::from_bytes(ours), false, &url).is_ok();
        prop_assert_eq!(allowed, ours == theirs);
        prop_assert!(policy.check(UserId::from_bytes(theirs), false, &url).is_ok());
    }
}
