//! Why a caller is turned away: closed kinds with public text. Never holds a token, a signature or a key, and never
//! chooses an HTTP status: [`Refusal`] says of which kind it is, the reply chooses.

use std::fmt;

use super::scope::Scope;

/// The three ways to be turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody proved who asks: 401.
    Unauthenticated,
    /// Whoever asks may not: 403.
    Forbidden,
    /// We cannot tell for now, because no verification key could be fetched: 503.
    Unavailable,
}

/// Why a credential was refused, or does not suffice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthError {
    /// No credential in the request.
    Missing,
    /// The credential cannot be read; the text says what of it.
    Malformed(&'static str),
    /// More than one credential in the request.
    TwoCredentials,
    /// Its time is over.
    Expired,
    /// Its time has not come, or ends further ahead than is allowed.
    NotYetValid,
    /// The signature is not of this text and key.
    BadSignature,
    /// The token names another algorithm than the key it must be signed with has.
    WrongAlgorithm,
    /// No configured key has the id it names, or none fits without one.
    UnknownKey,
    /// `iss` is not the configured issuer.
    WrongIssuer,
    /// `aud` does not hold the configured audience.
    WrongAudience,
    /// The credential is good but lacks this scope.
    InsufficientScope(Scope),
    /// The credential is good but for other users.
    WrongUser,
    /// The credential is good but for other devices.
    WrongDevice,
    /// The verification keys could not be fetched and none are known.
    KeysUnavailable,
}

impl AuthError {
    /// Of which kind the refusal is.
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::InsufficientScope(_) | Self::WrongUser | Self::WrongDevice => Refusal::Forbidden,
            Self::KeysUnavailable => Refusal::Unavailable,
            _ => Refusal::Unauthenticated,
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750 section 3), where there is one.
    pub fn www_authenticate(&self) -> Option<String> {
        match (self.refusal(), self) {
            (Refusal::Unavailable, _) => None,
            (Refusal::Forbidden, Self::InsufficientScope(scope)) => Some(format!(
                r#"Bearer error="insufficient_scope", scope="{scope}", error_description="{}""#,
                self.description()
            )),
            (Refusal::Forbidden, _) => {
                Some(format!(r#"Bearer error="insufficient_scope", error_description="{}""#, self.description()))
            }
            (Refusal::Unauthenticated, _) => {
                Some(format!(r#"Bearer error="invalid_token", error_description="{}""#, self.description()))
            }
        }
    }

    /// One sentence for people; without quotes or backslashes, so that it may stand in a quoted string.
    pub const fn description(&self) -> &'static str {
        match self {
            Self::Missing => "A bearer token or a signed URL is required",
            Self::Malformed(what) => what,
            Self::TwoCredentials => "Exactly one credential is allowed",
            Self::Expired => "The credential has expired",
            Self::NotYetValid => "The credential is not valid at this time",
            Self::BadSignature => "The signature does not match",
            Self::WrongAlgorithm => "The token is signed with an algorithm that its key does not have",
            Self::UnknownKey => "The credential is signed with an unknown key",
            Self::WrongIssuer => "The token is from another issuer",
            Self::WrongAudience => "The token is for another audience",
            Self::InsufficientScope(_) => "The credential lacks the scope for this",
            Self::WrongUser => "The credential is not for this user",
            Self::WrongDevice => "The credential is not for this device",
            Self::KeysUnavailable => "The verification keys cannot be fetched at present",
        }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}

impl std::error::Error for AuthError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: AuthError, refusal: Refusal, header: Option<&str>) {
        assert_eq!(error.refusal(), refusal, "{error:?}");
        assert_eq!(error.www_authenticate().as_deref(), header, "{error:?}");
    }

    #[test]
    fn challenges() {
        check(
            AuthError::Missing,
            Refusal::Unauthenticated,
            Some(r#"Bearer error="invalid_token", error_description="A bearer token or a signed URL is required""#),
        );
        check(
            AuthError::Expired,
            Refusal::Unauthenticated,
            Some(r#"Bearer error="invalid_token", error_description="The credential has expired""#),
        );
        check(
            AuthError::InsufficientScope(Scope::ImagesRead),
            Refusal::Forbidden,
            Some(concat!(
                r#"Bearer error="insufficient_scope", scope="images:read", "#,
                r#"error_description="The credential lacks the scope for this""#
            )),
        );
        check(
            AuthError::WrongUser,
            Refusal::Forbidden,
            Some(r#"Bearer error="insufficient_scope", error_description="The credential is not for this user""#),
        );
        check(AuthError::KeysUnavailable, Refusal::Unavailable, None);
    }
}
