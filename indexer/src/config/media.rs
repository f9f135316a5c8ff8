//! `[media]`, `[fetch]`, `[credentials.*]`: which media may be opened, where it may be, and with whose keys.
//!
//! Syntax only; the decision about a URL belongs to the part that opens it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use stills_model::clip::Container;
use stills_model::id::UserId;

use super::auth::WebUrl;
use super::secret::Secret;
use super::settings::{Section, Settings};
use crate::layout::Layouts;

/// What stands for the caller's user id in roots and patterns.
pub const USER_PLACEHOLDER: &str = "{user_id}";

/// `[media]`: the media of recording events.
#[derive(Debug, Clone)]
pub struct Media {
    /// `file://` media must lie under one of these.
    pub roots: Vec<MediaRoot>,
    /// Which other URLs may be opened; empty: none.
    pub allow_urls: Vec<UrlPattern>,
    /// Networks that the address guard would refuse otherwise.
    pub allow_networks: Vec<Network>,
    /// A growing recording without an event for this long is complete.
    pub growing_idle: Duration,
    /// How media is read for scan and prerender.
    pub read: MediaRead,
    /// The most bytes of media read whole that lie on disk at once.
    pub whole_bytes_max: u64,
    /// What the names of files and objects tell.
    pub layouts: Layouts,
}

/// How media is read for scan and prerender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaRead {
    /// Only the ranges that are needed: local files.
    Ranges,
    /// Once, from end to end: object stores, where a request costs more than bytes.
    Whole,
}

impl Media {
    pub(super) fn read(settings: &Settings) -> Self {
        let media = settings.section("media");
        let roots_doc = "`file://` media must lie under one of these directories; `{user_id}` is the recording's user.";
        let urls_doc = "Regular expressions, from `^`, over the whole normalised media URL; `{user_id}` is the recording's \
                        user. An entry without it serves only callers with the scope `users:all`.";
        let idle_doc = "A growing recording without an event for this long is complete.";
        let read_doc = "Ranges suit local files; whole suits object stores, where a request costs more than bytes.";
        let whole_doc =
            "The most bytes of media read whole that lie in `data.dir` at once; what does not fit is read by ranges.";
        let ways = [("ranges", MediaRead::Ranges), ("whole", MediaRead::Whole)];
        Self {
            roots: media.list("roots", &[], 100, roots_doc),
            allow_urls: media.list("allow_urls", &[], 1000, urls_doc),
            allow_networks: networks(&media),
            growing_idle: media.duration("growing_idle", "10m", "1s"..="1d", idle_doc),
            read: media.choice("read", &ways, MediaRead::Ranges, read_doc),
            whole_bytes_max: media.bytes("whole_bytes_max", "4GiB", "0B"..="1024TiB", whole_doc),
            layouts: Layouts::read_settings(&media),
        }
    }
}

/// `[fetch]`: URLs that callers name. `file://` is never among them.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Which URLs may be fetched; empty: none.
    pub allow_urls: Vec<UrlPattern>,
    /// Networks that the address guard would refuse otherwise.
    pub allow_networks: Vec<Network>,
    /// The most bytes that may be read for one picture.
    pub bytes_max: u64,
    /// How long one picture may take, reading included.
    pub deadline: Duration,
    /// The slowest that a server may send, in bytes a second.
    pub rate_min: u64,
    /// Pictures of URLs that may be made at once; one more is refused.
    pub running_max: usize,
    /// The most bytes of memory for what is known of such media.
    pub index_bytes_max: u64,
    /// Containers that are read beside those of recordings.
    pub formats: Vec<Container>,
}

impl Fetch {
    pub(super) fn read(settings: &Settings) -> Self {
        let fetch = settings.section("fetch");
        let urls_doc =
            "Regular expressions, from `^`, over the whole normalised URL that a caller names; empty: all refused.";
        let bytes_doc = "The most bytes of media that may be read for one picture.";
        let deadline_doc = "How long one picture may take, reading included.";
        let rate_doc = "The slowest that a server may send, in bytes a second, after its first five seconds.";
        let running_doc = "Pictures of URLs that may be made at once; one more gets 503.";
        let formats_doc = "Containers that such media may have beside those of recordings; libav demuxes them.";
        let index_doc = "The most memory for what is known of such media, so that a second picture takes one request.";
        Self {
            allow_urls: fetch.list("allow_urls", &[], 1000, urls_doc),
            allow_networks: networks(&fetch),
            bytes_max: fetch.bytes("bytes_max", "256MiB", "1MiB"..="1TiB", bytes_doc),
            deadline: fetch.duration("deadline", "30s", "100ms"..="10m", deadline_doc),
            rate_min: fetch.bytes("rate_min", "16KiB", "0B"..="1GiB", rate_doc),
            running_max: fetch.integer("running_max", 16, 1..=10_000, running_doc),
            formats: fetch.list("formats", &["mxf", "mpeg", "flv", "avi"], 4, formats_doc),
            index_bytes_max: fetch.bytes("index_bytes_max", "64MiB", "0B"..="64GiB", index_doc),
        }
    }
}

fn networks(section: &Section<'_>) -> Vec<Network> {
    let meaning = "CIDR networks that the address guard would refuse otherwise, such as `127.0.0.0/8`.";
    section.list("allow_networks", &[], 1000, meaning)
}

/// `[credentials.<name>]`: how to reach a store.
#[derive(Debug, Clone)]
pub struct Credential {
    /// What kind of store.
    pub kind: StoreKind,
    /// Media whose URL begins with this uses it.
    pub url_prefix: Option<String>,
    /// The address of an S3-compatible service; absent: the kind's own.
    pub endpoint: Option<WebUrl>,
    /// The region to sign for.
    pub region: Option<String>,
    /// Who asks: S3 access key, Azure account, HTTP user.
    pub access_key_id: Option<String>,
    /// The secret that goes with it: S3 secret key, service account file, account key, HTTP password or token.
    pub secret: Option<Secret>,
    /// Whether the machine's own identity is used instead of a key.
    pub is_instance: bool,
    /// Who may name it in `credentials_key`.
    pub users: Vec<UserId>,
}

/// What kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// S3 and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    /// Plain HTTP with a user and password or a bearer token.
    Http,
}

/// The credentials by their names.
pub(super) fn credentials(settings: &Settings) -> BTreeMap<String, Credential> {
    settings.top().named("credentials", |_, section| Credential::read(section))
}

impl Credential {
    fn read(section: &Section<'_>) -> Option<Self> {
        let kind = section.required("kind", "What kind of store: `s3`, `gs`, `az` or `http`.");
        let users_doc = "The users who may name it in `credentials_key`; empty: nobody.";
        let auth_doc = "`instance` uses the machine's own identity instead of a key.";
        let secret_doc = "S3 secret key, service account JSON, account key, HTTP password or bearer token.";
        let read = Self {
            kind: kind.unwrap_or(StoreKind::S3),
            url_prefix: section.optional_text("url_prefix", "Media whose URL begins with this uses it."),
            endpoint: section.optional("endpoint", "The address of a compatible service; absent: the kind's own."),
            region: section.optional_text("region", "The region to sign for."),
            access_key_id: section.optional_text("access_key_id", "S3 access key, Azure account, HTTP user."),
            secret: section.secret("secret", 1, secret_doc),
            is_instance: section.choice("auth", &[("key", false), ("instance", true)], false, auth_doc),
            users: section.list("users", &[], 10_000, users_doc),
        };
        let has_secret = section.is_set("secret") || section.is_set("secret_file");
        if read.is_instance && (read.access_key_id.is_some() || has_secret) {
            section.fault("auth", "\"instance\" excludes access_key_id and secret_file");
        } else if read.access_key_id.is_some() && !has_secret {
            section.fault("access_key_id", "needs secret_file beside it");
        } else if has_secret && read.access_key_id.is_none() && matches!(kind, Some(StoreKind::S3 | StoreKind::Az)) {
            section.fault_of_section("secret_file needs access_key_id beside it");
        }
        if kind == Some(StoreKind::Http) && has_secret && read.url_prefix.is_none() {
            section.fault_of_section("an http secret needs url_prefix beside it, or it could be sent to any host");
        }
        if kind == Some(StoreKind::Az) && read.access_key_id.is_none() && read.endpoint.is_none() {
            section.fault_of_section("az needs access_key_id (the account) or endpoint");
        }
        if read.url_prefix.as_ref().is_some_and(|prefix| !prefix.contains("://")) {
            section.fault("url_prefix", "must begin with a scheme, such as \"s3://footage/\"");
        }
        kind.map(|_| read)
    }
}

impl FromStr for StoreKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let kinds = [("s3", Self::S3), ("gs", Self::Gs), ("az", Self::Az), ("http", Self::Http)];
        let found = kinds.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, kind)| kind).ok_or("must be one of \"s3\", \"gs\", \"az\", \"http\"")
    }
}

/// A directory that media may lie under, absolute, perhaps with `{user_id}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRoot(String);

impl MediaRoot {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MediaRoot {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.replace(USER_PLACEHOLDER, "").contains(['{', '}']) {
            return Err("only {user_id} may stand in braces");
        }
        let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        let path = Path::new(text);
        let is_good = path.is_absolute() && path.components().all(is_plain) && !text.contains('\0');
        if is_good { Ok(Self(text.to_owned())) } else { Err("must be an absolute directory without ..") }
    }
}

/// A regular expression over a whole URL, from its start, perhaps with `{user_id}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPattern(String);

impl UrlPattern {
    /// As written, with the placeholder.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names the user; one that does not serves only callers with the scope `users:all`.
    pub fn names_user(&self) -> bool {
        self.0.contains(USER_PLACEHOLDER)
    }
}

impl FromStr for UrlPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('^') {
            return Err("must begin with ^, or it would match in the middle of a URL".to_owned());
        }
        let sample = text.replace(USER_PLACEHOLDER, "000000000000000000000000");
        match regex::Regex::new(&sample) {
            Ok(_) => Ok(Self(text.to_owned())),
            // The last line of the error says what is wrong; those before it draw the pattern.
            Err(error) => {
                let error = error.to_string();
                Err(format!("not a regular expression: {}", error.lines().last().unwrap_or_default()))
            }
        }
    }
}

/// A CIDR network; a bare address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let net = text.parse::<IpNet>().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
        let net = net.map_err(|_| "must be a network such as \"127.0.0.0/8\" or \"fd00::/8\"")?;
        if net.trunc() == net { Ok(Self(net)) } else { Err("has bits set behind its prefix length") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr>(text: &str, is_valid: bool) {
        assert_eq!(text.parse::<T>().is_ok(), is_valid, "{text:?}");
    }

    #[test]
    fn roots() {
        for good in ["/srv/recordings/{user_id}", "/srv", "/", "/srv/{user_id}/x"] {
            check::<MediaRoot>(good, true);
        }
        for wrong in ["", "srv", "/srv/../etc", "/srv/{device_id}", "/srv/{user_id", "file:///srv"] {
            check::<MediaRoot>(wrong, false);
        }
    }

    #[test]
    fn patterns() {
        for good in ["^s3://footage/{user_id}/", "^https://a\\.example/", "^"] {
            check::<UrlPattern>(good, true);
        }
        for wrong in ["", "s3://footage/", "^(", "^s3://{device_id}/", "(^a)"] {
            check::<UrlPattern>(wrong, false);
        }
        assert!("^s3://a/{user_id}/".parse::<UrlPattern>().expect("pattern").names_user());
        assert!(!"^s3://a/".parse::<UrlPattern>().expect("pattern").names_user());
    }

    #[test]
    fn networks() {
        for good in ["127.0.0.0/8", "10.1.2.3/32", "10.1.2.3", "fd00::/8", "::1"] {
            check::<Network>(good, true);
        }
        for wrong in ["", "127.0.0.1/8", "10.0.0.0/33", "localhost", "10.0.0"] {
            check::<Network>(wrong, false);
        }
    }
}
