//! `[http]`, `[public]`, `[cors]`: where the server listens, what it calls itself, and who may read it from a browser.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use url::Url;

use super::settings::{Section, Settings};

/// `[http]`: the listeners and their limits.
#[derive(Debug, Clone)]
pub struct Http {
    /// The public listener, behind NGINX.
    pub listen: SocketAddr,
    /// The admin listener: health, metrics, maintenance. Never reachable from outside.
    pub admin_listen: SocketAddr,
    /// The longest request head.
    pub header_bytes_max: usize,
    /// The longest time from the opening of a connection, or the answer before, to the end of a request's head. NGINX
    /// closes idle connections after 30 s; if we did so first, a request could meet a closing one.
    pub header_timeout: Duration,
    /// The largest request body in bytes.
    pub body_max: u64,
    /// The most connections at once; further ones wait in the listener's backlog.
    pub connections_max: usize,
    /// How long requests in flight may take to finish after the signal to stop.
    pub drain: Duration,
    /// Whether pictures carry `Cache-Tag`.
    pub cache_tags: bool,
    /// Whether answers carry `Server-Timing`.
    pub server_timing: bool,
}

impl Http {
    pub(super) fn read(settings: &Settings) -> Self {
        let http = settings.section("http");
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let admin_doc = "The admin listener: health, metrics, maintenance; keep it unreachable from outside.";
        let read = Self {
            listen: http.address("listen", local(8081), "The public listener, behind NGINX."),
            admin_listen: http.address("admin_listen", local(8082), admin_doc),
            header_bytes_max: bytes_in_memory(&http, "header_bytes_max", "16KiB", "The longest request head."),
            header_timeout: http.duration(
                "header_timeout",
                "65s",
                "100ms"..="5m",
                "The longest time until a request's head is there, idle connections included: longer than NGINX keeps them.",
            ),
            body_max: http.bytes("body_max", "8MiB", "1KiB"..="1GiB", "The largest request body."),
            connections_max: http.integer("connections_max", 4096, 1..=1_000_000, "The most connections at once."),
            drain: http.duration("drain", "15s", "0s"..="10m", "How long requests may go on after the signal to stop."),
            cache_tags: http.flag(
                "cache_tags",
                false,
                "Whether pictures carry `Cache-Tag` for caches that purge by it.",
            ),
            server_timing: http.flag("server_timing", false, "Whether answers carry `Server-Timing`."),
        };
        if read.listen == read.admin_listen && read.listen.port() != 0 {
            http.fault("admin_listen", "must differ from listen");
        }
        read
    }
}

/// A head is parsed in memory: its bound is small.
fn bytes_in_memory(http: &Section<'_>, name: &str, default: &str, meaning: &str) -> usize {
    usize::try_from(http.bytes(name, default, "8KiB"..="1MiB", meaning)).unwrap_or(usize::MAX)
}

/// `[public]`: what stands in front of every listed path.
#[derive(Debug, Clone)]
pub struct Public {
    /// Scheme, host and perhaps port, without a trailing slash.
    pub host: Site,
    /// The path in front of `/{user_id}/…`; empty or `/x/y`.
    pub prefix: Prefix,
}

impl Public {
    pub(super) fn read(settings: &Settings) -> Self {
        let public = settings.section("public");
        let host_doc = "Scheme, host and port of listed URLs; also `VOD_THUMBNAIL_HOST`.";
        let prefix_doc = "Path in front of `/{user_id}/…`; empty, or `/x` or `/x/y` without a slash at its end.";
        Self {
            host: public.parsed("host", Site("http://localhost:8080".to_owned()), host_doc),
            prefix: public.parsed("prefix", Prefix(String::new()), prefix_doc),
        }
    }
}

/// `[cors]`: which pages may read answers from a browser.
#[derive(Debug, Clone)]
pub struct Cors {
    /// The pages' origins; `*` allows all; empty: none.
    pub origins: Vec<CorsOrigin>,
    /// How long a browser may remember a preflight.
    pub max_age: Duration,
}

impl Cors {
    pub(super) fn read(settings: &Settings) -> Self {
        let cors = settings.section("cors");
        let origins_doc = "Origins whose pages may read answers, such as `https://app.example.com`; `*` is any.";
        let max_age_doc = "How long a browser may remember a preflight.";
        Self {
            origins: cors.list("origins", &[], 100, origins_doc),
            max_age: cors.duration("max_age", "10m", "0s"..="1d", max_age_doc),
        }
    }
}

/// Scheme, host and port, as browsers compare origins: `https://thumbs.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site(String);

impl Site {
    /// Lower case, no default port, no slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Site {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let allowed = "must be http:// or https://, a host and perhaps a port, without path, query or user";
        let url = Url::parse(text).map_err(|_| allowed)?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let is_anonymous = url.username().is_empty() && url.password().is_none();
        // A browser's origin never has a star in it: such an entry would look like a rule and match nothing.
        let is_web = matches!(url.scheme(), "http" | "https") && !text.contains('*');
        if is_bare && is_anonymous && is_web { Ok(Self(url.origin().ascii_serialization())) } else { Err(allowed) }
    }
}

/// One entry of `cors.origins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigin {
    /// `*`
    Any,
    /// One site.
    Only(Site),
}

impl std::str::FromStr for CorsOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "*" => Ok(Self::Any),
            _ => text.parse().map(Self::Only).map_err(|problem: &str| format!("{problem}, or *")),
        }
    }
}

/// A path prefix: empty, or segments each with a slash in front.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Empty or `/x/y`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Prefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let allowed = "must be empty or /x or /x/y of A-Z a-z 0-9 . _ ~ -, without a slash at its end";
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-');
        let is_segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(is_plain);
        let is_path = text.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment));
        if (text.is_empty() || is_path) && text.len() <= 256 { Ok(Self(text.to_owned())) } else { Err(allowed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_origin(text: &str, expected: Option<&str>) {
        assert_eq!(text.parse::<Site>().ok().as_ref().map(Site::as_str), expected, "{text:?}");
    }

    #[test]
    fn origins() {
        check_origin("http://localhost:8080", Some("http://localhost:8080"));
        check_origin("https://Thumbs.Example.com/", Some("https://thumbs.example.com"));
        check_origin("https://thumbs.example.com:443", Some("https://thumbs.example.com"));
        check_origin("http://[::1]:80", Some("http://[::1]"));
        for wrong in
            ["", "localhost", "localhost:8080", "ftp://a", "https://a/b", "https://a?b", "https://a#", "https://u:p@a"]
        {
            check_origin(wrong, None);
        }
        assert_eq!("*".parse(), Ok(CorsOrigin::Any));
        assert!("https://*".parse::<CorsOrigin>().is_err());
    }

    fn check_prefix(text: &str, is_valid: bool) {
        assert_eq!(text.parse::<Prefix>().is_ok(), is_valid, "{text:?}");
    }

    #[test]
    fn prefixes() {
        check_prefix("", true);
        check_prefix("/x", true);
        check_prefix("/x/y-1", true);
        for wrong in ["/", "x", "/x/", "//x", "/x//y", "/../x", "/x y", "/x?y", "/{x}"] {
            check_prefix(wrong, false);
        }
    }
}
