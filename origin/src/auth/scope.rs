//! What a token may do: a closed list of scopes. Never decides for whom; that is [`super::access`].

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// One permission, as tokens name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `thumbnails:read`: search, thumbs, storyboards and playlists.
    ThumbnailsRead,
    /// `recordings:write`: recording events.
    RecordingsWrite,
    /// `recordings:read`: coverage, recordings and devices.
    RecordingsRead,
    /// `images:read`: single images of any URL and stored images.
    ImagesRead,
    /// `images:write`: storing images.
    ImagesWrite,
    /// `users:all`: every other scope of the token counts for every user.
    UsersAll,
}

const ALL: [Scope; 6] = [
    Scope::ThumbnailsRead,
    Scope::RecordingsWrite,
    Scope::RecordingsRead,
    Scope::ImagesRead,
    Scope::ImagesWrite,
    Scope::UsersAll,
];

impl Scope {
    /// The name in tokens, in `WWW-Authenticate` and in signed text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ThumbnailsRead => "thumbnails:read",
            Self::RecordingsWrite => "recordings:write",
            Self::RecordingsRead => "recordings:read",
            Self::ImagesRead => "images:read",
            Self::ImagesWrite => "images:write",
            Self::UsersAll => "users:all",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no scope; its message lists those there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownScope;

impl fmt::Display for UnknownScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be one of")?;
        ALL.iter().try_for_each(|scope| write!(f, " {scope}"))
    }
}

impl std::error::Error for UnknownScope {}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// No scope at all.
    pub const EMPTY: Self = Self(0);

    /// Whether the scope is in it.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// The scopes in it, in the order of [`Scope`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        ALL.into_iter().filter(move |scope| self.has(*scope))
    }

    /// From names set apart by spaces. Unknown names are ignored: issuers give one token many audiences' scopes.
    pub fn from_text(text: &str) -> Self {
        text.split(' ').filter_map(|name| name.parse().ok()).collect()
    }

    /// From a claim: names set apart by spaces, or an array of names. Nothing when it is neither.
    pub(super) fn from_claim(claim: &Value) -> Option<Self> {
        match claim {
            Value::String(text) => Some(Self::from_text(text)),
            Value::Array(names) => {
                names.iter().try_fold(Self::EMPTY, |set, name| Some(set.with(name.as_str()?.parse().ok())))
            }
            _ => None,
        }
    }

    fn with(self, scope: Option<Scope>) -> Self {
        scope.map_or(self, |scope| Self(self.0 | 1 << scope as u8))
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::EMPTY, |set, scope| set.with(Some(scope)))
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Scope::as_str).collect();
        f.write_str(&names.join(" "))
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(claim: &Value, expected: Option<&str>) {
        let set = ScopeSet::from_claim(claim).map(|set| set.to_string());
        assert_eq!(set.as_deref(), expected, "{claim}");
    }

    #[test]
    fn claims() {
        check(&json!("thumbnails:read"), Some("thumbnails:read"));
        check(&json!("users:all thumbnails:read openid"), Some("thumbnails:read users:all"));
        check(&json!(["images:write", "images:read", "images:read"]), Some("images:read images:write"));
        check(&json!("  recordings:read  "), Some("recordings:read"));
        check(&json!(""), Some(""));
        check(&json!([]), Some(""));
        check(&json!("Thumbnails:read"), Some(""));
        check(&json!("thumbnails:read,recordings:read"), Some(""));
        check(&json!(["thumbnails:read recordings:read"]), Some(""));
        check(&json!(["thumbnails:read", 1]), None);
        check(&json!({"thumbnails:read": true}), None);
        check(&json!(null), None);
        check(&json!(true), None);
    }

    #[test]
    fn every_scope_parses_back() {
        for scope in ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            assert!(ScopeSet::from_iter([scope]).has(scope));
            assert_eq!(ScopeSet::from_iter([scope]).iter().count(), 1);
        }
    }
}
