//! What is wrong with a configuration: every fault at once, each with its setting, value, origin and what is allowed.
//!
//! Nothing secret is ever put into a fault: values of secrets and of unknown settings are left out.

use std::fmt;
use std::sync::Arc;

/// The longest value, in characters, that a fault shows.
const SHOWN_CHARS_MAX: usize = 120;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file and the line in it, counted from 1.
    File {
        /// The path as it was opened.
        path: Arc<str>,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Variable(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Section and key, `http.listen`; empty when a file as a whole is meant.
    pub setting: String,
    /// The value as written, `***` for a secret; absent where none was given or where it must not be shown.
    pub value: Option<String>,
    /// Where it was given, if it was.
    pub origin: Option<Origin>,
    /// What is wrong and what is allowed.
    pub problem: String,
}

/// `[auth] cache_ttl = "10x" (stills.toml:14): not a duration; …`, always one line.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.setting.rsplit_once('.') {
            Some((section, key)) => write!(f, "[{section}] {key}")?,
            None if self.setting.is_empty() => {}
            None => write!(f, "[{}]", self.setting)?,
        }
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        match (&self.origin, self.setting.is_empty()) {
            (Some(origin), true) => write!(f, "{origin}: ")?,
            (Some(origin), false) => write!(f, " ({origin}): ")?,
            (None, true) => {}
            (None, false) => f.write_str(": ")?,
        }
        f.write_str(&self.problem)
    }
}

/// All that is wrong, in the order of the settings. Never empty where it is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

/// One fault a line.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A value as a fault shows it: escaped, bounded, and without the user information of a URL.
pub(super) fn shown(text: &str, quoted: bool) -> String {
    let mut visible = without_user_information(text);
    if let Some((cut, _)) = visible.char_indices().nth(SHOWN_CHARS_MAX) {
        visible.truncate(cut);
        visible.push('…');
    }
    if quoted { format!("{visible:?}") } else { visible.escape_debug().to_string() }
}

/// `https://name:password@host` becomes `https://***@host`.
pub(crate) fn without_user_information(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority_len = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_len].rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fault: &Fault, expected: &str) {
        assert_eq!(fault.to_string(), expected);
    }

    #[test]
    fn one_line_each() {
        let origin = Some(Origin::File { path: "stills.toml".into(), line: 14 });
        let value = Some(shown("10x", true));
        let mut fault = Fault { setting: "auth.cache_ttl".into(), value, origin, problem: "not a duration".into() };
        check(&fault, r#"[auth] cache_ttl = "10x" (stills.toml:14): not a duration"#);
        fault.origin = Some(Origin::Variable("STILLS_AUTH__CACHE_TTL".into()));
        check(&fault, r#"[auth] cache_ttl = "10x" (STILLS_AUTH__CACHE_TTL): not a duration"#);
        fault.value = None;
        fault.origin = None;
        check(&fault, "[auth] cache_ttl: not a duration");
        fault.setting = "auth".into();
        check(&fault, "[auth]: not a duration");
        fault.setting.clear();
        fault.origin = Some(Origin::File { path: "a.toml".into(), line: 1 });
        check(&fault, "a.toml:1: not a duration");
    }

    fn check_shown(text: &str, expected: &str) {
        assert_eq!(shown(text, false), expected, "{text:?}");
    }

    #[test]
    fn values_are_escaped_bounded_and_bare_of_passwords() {
        check_shown("a\nb", "a\\nb");
        check_shown(&"é".repeat(200), &format!("{}…", "é".repeat(SHOWN_CHARS_MAX)));
        check_shown("https://me:pass@host/x@y", "https://***@host/x@y");
        check_shown("https://host/x@y", "https://host/x@y");
        check_shown("https://me:p@ss@host", "https://***@host");
    }
}
