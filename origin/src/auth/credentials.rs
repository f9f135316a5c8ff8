//! Finds the one credential of a request. Reads it, never believes it: that is [`super::Auth::authenticate`].

use std::fmt;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::error::AuthError;
use super::token::TOKEN_MAX_BYTES;

/// The header that `/image` takes the same token in.
const IMAGE_TOKEN_HEADER: &str = "x-rasp-auth-token";

/// An unverified credential.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credentials<'r> {
    /// A token, from `Authorization: Bearer`.
    Bearer(&'r str),
    /// A signed window's part of the query.
    Signed(SignedParts<'r>),
}

/// The three query parameters of a signed URL, as they stand in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignedParts<'r> {
    /// `expires`: Unix seconds.
    pub expires: &'r str,
    /// `key`: the id of the signing key.
    pub key: &'r str,
    /// `signature`: base64url without padding.
    pub signature: &'r str,
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(…)",
            Self::Signed(_) => "Signed(…)",
        })
    }
}

impl fmt::Debug for SignedParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedParts(…)")
    }
}

impl<'r> Credentials<'r> {
    /// For routes that take a token only. The query is not looked at: it may hold parameters of these names.
    ///
    /// # Errors
    /// [`AuthError::Missing`], [`AuthError::Malformed`], or [`AuthError::TwoCredentials`] for two headers.
    pub fn from_headers(headers: &'r HeaderMap) -> Result<Self, AuthError> {
        bearer(headers)?.map(Self::Bearer).ok_or(AuthError::Missing)
    }

    /// For pictures, storyboards and playlists, and for `/auth` with the original URI's query: a token or a signature.
    ///
    /// The query is taken as it was sent. Names and values of signed URLs need no percent-encoding, and encoded ones
    /// are not understood, so that one credential has one spelling.
    ///
    /// # Errors
    /// [`AuthError::Missing`], [`AuthError::Malformed`], or [`AuthError::TwoCredentials`] for a token beside a signature.
    pub fn from_headers_or_query(headers: &'r HeaderMap, query: Option<&'r str>) -> Result<Self, AuthError> {
        let signed = Signed::find(query.unwrap_or_default());
        if headers.contains_key(AUTHORIZATION) && signed.any() {
            return Err(AuthError::TwoCredentials);
        }
        if signed.any() { signed.parts().map(Self::Signed) } else { Self::from_headers(headers) }
    }

    /// For `/image`: a token in `Authorization: Bearer` or, bare, in `x-rasp-auth-token`.
    ///
    /// # Errors
    /// As [`Self::from_headers`]; [`AuthError::TwoCredentials`] also for both headers.
    pub fn from_image_headers(headers: &'r HeaderMap) -> Result<Self, AuthError> {
        let mut values = headers.get_all(IMAGE_TOKEN_HEADER).iter();
        let Some(value) = values.next() else {
            return Self::from_headers(headers);
        };
        if values.next().is_some() || headers.contains_key(AUTHORIZATION) {
            return Err(AuthError::TwoCredentials);
        }
        let token = value.to_str().map_err(|_| AuthError::Malformed(NOT_A_TOKEN))?;
        Ok(Self::Bearer(token_text(token)?))
    }
}

const NOT_A_TOKEN: &str = "The Authorization header must be Bearer and one token";

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(AuthError::TwoCredentials);
    }
    let malformed = AuthError::Malformed(NOT_A_TOKEN);
    let (scheme, token) = value.to_str().map_err(|_| malformed)?.split_once(' ').ok_or(malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed);
    }
    token_text(token.trim_start_matches(' ')).map(Some)
}

/// Lets through only what a JWT is written with, so that lists and stray bytes end here.
fn token_text(token: &str) -> Result<&str, AuthError> {
    if token.len() > TOKEN_MAX_BYTES {
        return Err(AuthError::Malformed("The token is longer than 8 KiB"));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if token.is_empty() || !token.bytes().all(allowed) {
        return Err(AuthError::Malformed(NOT_A_TOKEN));
    }
    Ok(token)
}

/// What a query holds of a signature: per parameter the first value and how often it is there.
#[derive(Default)]
struct Signed<'r> {
    expires: Found<'r>,
    key: Found<'r>,
    signature: Found<'r>,
}

type Found<'r> = (Option<&'r str>, usize);

impl<'r> Signed<'r> {
    fn find(query: &'r str) -> Self {
        let mut signed = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let found = match name {
                "expires" => &mut signed.expires,
                "key" => &mut signed.key,
                "signature" => &mut signed.signature,
                _ => continue,
            };
            found.0.get_or_insert(value);
            found.1 += 1;
        }
        signed
    }

    fn any(&self) -> bool {
        self.expires.1 + self.key.1 + self.signature.1 > 0
    }

    fn parts(&self) -> Result<SignedParts<'r>, AuthError> {
        match (self.expires, self.key, self.signature) {
            ((Some(expires), 1), (Some(key), 1), (Some(signature), 1)) => Ok(SignedParts { expires, key, signature }),
            _ => Err(AuthError::Malformed("A signed URL needs expires, key and signature, each exactly once")),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const SIGNED: &str = "expires=1&key=a&signature=s";

    fn headers(fields: &[(&str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().expect("header name");
            headers.append(name, HeaderValue::from_bytes(value).expect("header value"));
        }
        headers
    }

    fn check(fields: &[(&str, &[u8])], query: Option<&str>, expected: &str) {
        let headers = headers(fields);
        let found = match Credentials::from_headers_or_query(&headers, query) {
            Ok(Credentials::Bearer(token)) => format!("token {token}"),
            Ok(Credentials::Signed(parts)) => format!("{} {} {}", parts.expires, parts.key, parts.signature),
            Err(AuthError::Malformed(_)) => "malformed".into(),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(found, expected, "{fields:?} {query:?}");
    }

    #[test]
    fn bearer_headers() {
        for good in [b"Bearer a.b-c_d".as_slice(), b"bearer a.b-c_d", b"BEARER a.b-c_d", b"Bearer   a.b-c_d"] {
            check(&[("authorization", good)], None, "token a.b-c_d");
        }
        let malformed: [&[u8]; 18] = [
            b"",
            b"Bearer",
            b"Bearer ",
            b"Bearera.b.c",
            b"Bearer\ta.b.c",
            b" Bearer a.b.c",
            b"Bearer a.b.c ",
            b"Bearer a.b.c, Bearer d.e.f",
            b"Bearer a.b.c,d.e.f",
            b"Bearer a.b.c d",
            b"Bearer a.b.c=",
            b"Bearer \"a.b.c\"",
            b"Bearer a.b.\xc3\xa9",
            b"Bearer a+b/c",
            b"Basic YTpi",
            b"Basic YTpi, Bearer a.b.c",
            b"a.b.c",
            b"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE",
        ];
        for value in malformed {
            check(&[("authorization", value)], None, "malformed");
        }
        let long = [b"Bearer ".as_slice(), &[b'a'; TOKEN_MAX_BYTES + 1]].concat();
        check(&[("authorization", &long)], None, "malformed");
        check(&[], None, "Missing");
        check(&[("authorization", b"Bearer a"), ("authorization", b"Bearer a")], None, "TwoCredentials");
        check(&[("authorization", b"Bearer a"), ("authorization", b"Basic b")], None, "TwoCredentials");
        check(&[("x-rasp-auth-token", b"a.b.c")], None, "Missing");
        check(&[("proxy-authorization", b"Bearer a.b.c"), ("cookie", b"token=a.b.c")], None, "Missing");
    }

    #[test]
    fn signed_queries() {
        check(&[], Some(SIGNED), "1 a s");
        check(&[], Some("v=abc&signature=s&key=a&expires=1&x"), "1 a s");
        check(&[], Some("expires=%31&key=a&signature=s=="), "%31 a s==");
        for malformed in [
            "expires=1",
            "key=a",
            "signature=s",
            "signature",
            "expires=1&key=a",
            "key=a&signature=s",
            "expires=1&signature=s",
            "expires=1&key=a&signature=s&signature=s",
            "expires=1&expires=2&key=a&signature=s",
            "expires=1&key=a&key=b&signature=s",
            "expires=1&key=a&Signature=s",
            "expires=1;key=a;signature=s",
        ] {
            check(&[], Some(malformed), "malformed");
        }
        for missing in ["", "v=1", "Expires=1&Key=a&Signature=s", "%65xpires=1", "access_token=a.b.c", "token=a.b.c"] {
            check(&[], Some(missing), "Missing");
        }
        check(&[("authorization", b"Bearer a.b.c")], Some("v=1"), "token a.b.c");
        for query in [SIGNED, "signature=s", "key=", "expires"] {
            check(&[("authorization", b"Bearer a.b.c")], Some(query), "TwoCredentials");
            check(&[("authorization", b"Basic YTpi")], Some(query), "TwoCredentials");
        }
    }

    #[test]
    fn routes_without_signatures_ignore_the_query_and_image_takes_its_own_header() {
        let check = |fields: &[(&str, &[u8])], from_headers: &str, from_image: &str| {
            let headers = headers(fields);
            let shown = |found: Result<Credentials<'_>, AuthError>| match found {
                Ok(Credentials::Bearer(token)) => token.to_owned(),
                Ok(Credentials::Signed(_)) => "signed".into(),
                Err(AuthError::Malformed(_)) => "malformed".into(),
                Err(error) => format!("{error:?}"),
            };
            assert_eq!(shown(Credentials::from_headers(&headers)), from_headers, "{fields:?}");
            assert_eq!(shown(Credentials::from_image_headers(&headers)), from_image, "{fields:?}");
        };
        check(&[], "Missing", "Missing");
        check(&[("authorization", b"Bearer a.b.c")], "a.b.c", "a.b.c");
        check(&[("x-rasp-auth-token", b"a.b.c")], "Missing", "a.b.c");
        check(&[("x-rasp-auth-token", b"Bearer a.b.c")], "Missing", "malformed");
        check(&[("x-rasp-auth-token", b"")], "Missing", "malformed");
        check(&[("x-rasp-auth-token", b"a\xff")], "Missing", "malformed");
        check(&[("x-rasp-auth-token", b"a"), ("x-rasp-auth-token", b"a")], "Missing", "TwoCredentials");
        check(&[("x-rasp-auth-token", b"a"), ("authorization", b"Bearer a")], "a", "TwoCredentials");
    }

    #[test]
    fn credentials_are_never_printed() {
        let parts = SignedParts { expires: "1", key: "a", signature: "sesame" };
        let printed = format!("{:?} {:?} {parts:?}", Credentials::Bearer("sesame"), Credentials::Signed(parts));
        assert!(!printed.contains("sesame"), "{printed}");
    }
}
