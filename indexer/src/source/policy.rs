//! Whether media may be read for a user, and where it lies: `media.roots` for `file://`, `media.allow_urls` for
//! the rest. Looks at text only; nothing here opens anything.
//!
//! **Trust.** A root or pattern that holds `{user_id}` opens, for each user, only what bears that user's id. One
//! without it opens the same to all, so it serves only trusted callers (scope `users:all`), who vouch for which
//! footage is whose. That is decided when an event is accepted, by [`MediaPolicy::check`] with the caller's trust.
//! What is stored afterwards does not say who sent it, so when media is opened [`MediaPolicy::check_stored`] asks
//! only whether the configuration, as it is now, would still allow it to a trusted caller: an operator who
//! narrows it closes footage at once, and a URL of another user's own root is refused whoever vouched for it.

use std::path::PathBuf;
use std::sync::Arc;

use moka::sync::Cache;
use regex::{Regex, RegexBuilder};
use stills_model::id::UserId;
use url::Url;

use super::spelling;

/// What stands for the user's id, in lower case.
const USER: &str = "{user_id}";

/// (ours) The most roots, and the most patterns: each is tried for each event.
const ENTRIES_MAX: usize = 64;

/// (ours) Users whose compiled patterns are kept.
const USERS_KEPT_MAX: u64 = 1024;

/// The largest compiled pattern, so that those kept take tens of megabytes at most.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// The `[media]` keys that decide.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyConfig {
    /// Absolute directories; `{user_id}` stands for the user.
    pub roots: Vec<String>,
    /// Regular expressions over the normalised URL, beginning with `^`; `{user_id}` stands for the user. They
    /// should go on past the host with a `/`, or hosts that merely begin alike match too.
    pub allow_urls: Vec<String>,
}

/// Where media lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A local file.
    File {
        /// A directory that the operator vouches for: the root up to the user's own part of it.
        root: PathBuf,
        /// The rest, relative, of plain names.
        beneath: PathBuf,
    },
    /// Somewhere on the network.
    Remote {
        /// Normalised.
        url: Url,
    },
}

/// The URL may not be read; the detail is public text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// What is wrong and what would be allowed.
    pub detail: String,
}

impl From<&'static str> for Refused {
    fn from(detail: &'static str) -> Self {
        Self { detail: detail.into() }
    }
}

/// The rules, checked and compiled.
#[derive(Debug)]
pub struct MediaPolicy {
    /// The section of the configuration that it is made of, for texts.
    section: &'static str,
    roots: Vec<Root>,
    /// Patterns without `{user_id}`.
    shared: Vec<Regex>,
    /// Patterns with it, as configured.
    templates: Vec<String>,
    /// The templates compiled for a user.
    by_user: Cache<UserId, Arc<[Regex]>>,
}

/// A root's names; `user_at` is the first that holds `{user_id}`.
#[derive(Debug)]
struct Root {
    names: Vec<String>,
    user_at: Option<usize>,
}

impl MediaPolicy {
    /// Checks and compiles the configuration.
    ///
    /// # Errors
    /// All faults, each naming its entry.
    pub fn new(config: PolicyConfig) -> Result<Self, Vec<String>> {
        Self::of_section("media", config)
    }

    /// The rules for URLs that callers name: the `allow_urls` of `[fetch]`, and never a file.
    ///
    /// # Errors
    /// As [`MediaPolicy::new`].
    pub fn of_fetch(allow_urls: Vec<String>) -> Result<Self, Vec<String>> {
        Self::of_section("fetch", PolicyConfig { roots: Vec::new(), allow_urls })
    }

    fn of_section(section: &'static str, config: PolicyConfig) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        for (key, entries) in [("roots", &config.roots), ("allow_urls", &config.allow_urls)] {
            if entries.len() > ENTRIES_MAX {
                faults.push(format!("{section}.{key}: at most {ENTRIES_MAX} entries"));
            }
        }
        let mut roots = Vec::new();
        for (i, text) in config.roots.iter().enumerate() {
            match Root::new(text) {
                Ok(root) => roots.push(root),
                Err(wrong) => faults.push(format!("{section}.roots[{i}] = {text:?}: {wrong}")),
            }
        }
        let (mut shared, mut templates) = (Vec::new(), Vec::new());
        for (i, text) in config.allow_urls.into_iter().enumerate() {
            match pattern(&text, UserId::from_bytes([0; 12])) {
                Ok(_) if text.contains(USER) => templates.push(text),
                Ok(regex) => shared.push(regex),
                Err(wrong) => faults.push(format!("{section}.allow_urls[{i}] = {text:?}: {wrong}")),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self { section, roots, shared, templates, by_user: Cache::new(USERS_KEPT_MAX) })
    }

    /// Whether a caller may name this URL for this user's footage. `trusted`: the caller may write for all users.
    ///
    /// # Errors
    /// Why not, for the pointer `/data/media_url`.
    pub fn check(&self, user: UserId, trusted: bool, media_url: &str) -> Result<Place, Refused> {
        let (scheme, rest) = spelling::scheme(media_url)?;
        match scheme.to_ascii_lowercase().as_str() {
            "file" if self.section == "fetch" => Err("a file is never fetched: name http, https, s3, gs or az".into()),
            "file" => self.file(user, trusted, media_url),
            known @ ("http" | "https" | "s3" | "gs" | "az") => {
                let url = remote(media_url, rest, known.starts_with("http"))?;
                if self.allows(user, trusted, url.as_str()) {
                    Ok(Place::Remote { url })
                } else {
                    let section = self.section;
                    let detail =
                        format!("the URL matches none of {section}.allow_urls that serve this user and caller");
                    Err(Refused { detail })
                }
            }
            _ => Err("the URL's scheme must be file, http, https, s3, gs or az".into()),
        }
    }

    /// Whether media of an accepted recording may be opened: see the module's text on trust.
    ///
    /// # Errors
    /// Why not.
    pub fn check_stored(&self, user: UserId, media_url: &str) -> Result<Place, Refused> {
        self.check(user, true, media_url)
    }

    fn file(&self, user: UserId, trusted: bool, media_url: &str) -> Result<Place, Refused> {
        let names = file_names(media_url)?;
        let id = user.to_string();
        let usable = self.roots.iter().filter(|root| trusted || root.user_at.is_some());
        let root = usable.filter(|root| root.holds(&names, &id)).max_by_key(|root| root.names.len());
        let Some(root) = root else {
            return Err("file:// media must lie under one of media.roots that serve this user and caller".into());
        };
        // A user may be able to write inside their own directory: from there on no link is followed.
        let (above, beneath) = names.split_at(root.user_at.map_or(root.names.len(), |at| at + 1));
        let root = std::iter::once("/").chain(above.iter().map(String::as_str)).collect();
        Ok(Place::File { root, beneath: beneath.iter().collect() })
    }

    fn allows(&self, user: UserId, trusted: bool, url: &str) -> bool {
        let matches = |regex: &Regex| regex.find(url).is_some_and(|found| found.start() == 0);
        if trusted && self.shared.iter().any(matches) {
            return true;
        }
        // They compiled for another id of the same length when the configuration was checked.
        let compile = || self.templates.iter().filter_map(|text| pattern(text, user).ok()).collect();
        !self.templates.is_empty() && self.by_user.get_with(user, compile).iter().any(matches)
    }
}

impl Root {
    fn new(text: &str) -> Result<Self, &'static str> {
        let names = text.strip_prefix('/').ok_or("must be an absolute path")?;
        let names: Vec<_> = names.strip_suffix('/').unwrap_or(names).split('/').map(str::to_owned).collect();
        if names == [""] {
            return Err("must not be the whole file system");
        }
        if names.iter().any(|name| name.is_empty() || name == "." || name == ".." || name.contains(char::is_control)) {
            return Err("must be written without ., .., doubled slashes and control characters");
        }
        if names.iter().any(|name| name.replace(USER, "").contains(['{', '}'])) {
            return Err("the only placeholder is {user_id}");
        }
        let user_at = names.iter().position(|name| name.contains(USER));
        Ok(Self { names, user_at })
    }

    /// Whether the path lies below this root of the user.
    fn holds(&self, names: &[String], id: &str) -> bool {
        let same = |(root, name): (&String, &String)| {
            if root.contains('{') { root.replace(USER, id) == *name } else { root == name }
        };
        names.len() > self.names.len() && self.names.iter().zip(names).all(same)
    }
}

/// The pattern for a user.
fn pattern(text: &str, user: UserId) -> Result<Regex, String> {
    if !text.starts_with('^') {
        return Err("must begin with ^, or it would match anywhere in a URL".into());
    }
    let text = text.replace(USER, &regex::escape(&user.to_string()));
    let compiled = RegexBuilder::new(&text).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build();
    compiled.map_err(|error| format!("is not a regular expression: {error}"))
}

/// The names of a `file://` URL's path, decoded.
fn file_names(media_url: &str) -> Result<Vec<String>, Refused> {
    const SHAPE: &str = "a local file is written file:///path, without host, query or fragment";
    let rest = media_url.strip_prefix("file://").ok_or(SHAPE)?;
    let path = rest.strip_prefix("localhost").unwrap_or(rest).strip_prefix('/').ok_or(SHAPE)?;
    if path.contains(['?', '#']) {
        return Err(SHAPE.into());
    }
    let names = path.split('/').map(spelling::name).collect::<Result<Vec<_>, _>>()?;
    // Two readings must agree: this one and the URL parser's.
    let parsed = Url::parse(media_url).ok().and_then(|url| url.to_file_path().ok());
    let own = PathBuf::from(format!("/{}", names.join("/")));
    if parsed.as_ref() == Some(&own) { Ok(names) } else { Err(SHAPE.into()) }
}

/// A network URL, normalised. `rest` is what follows `://`.
fn remote(media_url: &str, rest: &str, http: bool) -> Result<Url, Refused> {
    if rest.contains('#') {
        return Err("the URL must have no fragment".into());
    }
    let before_query = rest.split('?').next().unwrap_or(rest);
    let (authority, path) = before_query.split_once('/').ok_or("the URL must have a path")?;
    spelling::authority(authority)?;
    for segment in path.split('/') {
        // Empty segments are ordinary on web servers; object stores differ on them.
        if !(http && segment.is_empty()) {
            spelling::name(segment)?;
        }
    }
    let url = Url::parse(media_url).map_err(|_| "the URL cannot be parsed")?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("the URL must name a host or bucket".into());
    }
    Ok(url)
}

#[cfg(test)]
mod tests;
