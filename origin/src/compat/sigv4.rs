//! Verifies requests that were signed as AWS Signature Version 4 says, in the `Authorization` header. Signs nothing,
//! knows no key, chooses no status, and takes neither presigned queries nor session tokens.
//!
//! 1. [`Signed::read`] reads who signed what and when, from the headers alone;
//! 2. [`Signed::check_scope`] refuses another service and a clock that is too far off;
//! 3. [`Signed::verify`] makes the canonical request anew, with the body's hash, and compares in constant time.
//!
//! Source: AWS, "Create a signed AWS API request". Paths are canonical as they were sent: none that is served needs
//! encoding.

use aws_lc_rs::{digest, hmac};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use stills_model::time::Timestamp;
use thiserror::Error;

/// How far the signer's clock may be off, as AWS has it.
pub(crate) const SKEW_MAX_MS: i64 = 5 * 60 * 1000;

/// Signed headers; an SDK signs about six.
const NAMES_MAX: usize = 64;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// Why a request counts as not signed. The text is public.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Refused {
    /// There is no `Authorization`.
    #[error(
        "the request is not signed: Authorization must be {ALGORITHM} with Credential, SignedHeaders and Signature"
    )]
    Missing,
    /// `Authorization` or `X-Amz-Date` cannot be understood.
    #[error("{0}")]
    Malformed(&'static str),
    /// Temporary credentials.
    #[error("X-Amz-Security-Token is not taken here: use an access key that is configured, without a session token")]
    SessionToken,
    /// What has to be signed is not.
    #[error("the header {0} must be among SignedHeaders")]
    NotSigned(String),
    /// Signed, and not there.
    #[error("the header {0} is signed and not there")]
    Absent(String),
    /// For another service.
    #[error("the request is signed for the service {0}, not for {1}")]
    Service(String, &'static str),
    /// The signer's clock is off.
    #[error("the signature is of {0} and the time here is {1}: they may be five minutes apart")]
    Skewed(jiff::Timestamp, jiff::Timestamp),
    /// The body is not the one that was signed.
    #[error("X-Amz-Content-Sha256 is not the SHA-256 of the body")]
    Body,
    /// The signature is another one.
    #[error("the signature does not match: check the secret access key")]
    Signature,
}

/// What a signature covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// Who signed, for what, and when, as the request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// The access key's id.
    pub(crate) access_key_id: String,
    /// `YYYYMMDD`
    date: String,
    region: String,
    service: String,
    /// Lower case, ascending.
    names: Vec<HeaderName>,
    signature: Vec<u8>,
    /// `YYYYMMDDTHHMMSSZ`
    at_text: String,
    at: Timestamp,
}

impl Signed {
    /// Reads what the headers say; nothing is verified yet.
    ///
    /// # Errors
    /// [`Refused`] where they say it wrongly or not at all.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Refused> {
        if headers.contains_key(SESSION_TOKEN) {
            return Err(Refused::SessionToken);
        }
        let authorization = only(headers, &header::AUTHORIZATION).ok_or(Refused::Missing)?;
        let fields = authorization.strip_prefix(ALGORITHM).filter(|rest| rest.starts_with(' '));
        let fields = fields.ok_or(Refused::Missing)?;
        let (mut credential, mut names, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or(Refused::Missing)?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut names,
                "Signature" => &mut signature,
                _ => return Err(Refused::Malformed("Authorization has a field that is not known")),
            };
            if slot.replace(value).is_some() {
                return Err(Refused::Malformed("Authorization has a field twice"));
            }
        }
        let ((credential, names), signature) = credential.zip(names).zip(signature).ok_or(Refused::Missing)?;
        let parts: Vec<&str> = credential.split('/').collect();
        let [id, date, region, service, "aws4_request"] = parts[..] else {
            return Err(Refused::Malformed(
                "Credential must be {access key id}/{date}/{region}/{service}/aws4_request",
            ));
        };
        let at_text = only(headers, &DATE).ok_or(Refused::Malformed("X-Amz-Date must be there, once"))?;
        let at = read_time(at_text).ok_or(Refused::Malformed("X-Amz-Date must be YYYYMMDDTHHMMSSZ"))?;
        if !at_text.starts_with(date) || date.len() != 8 {
            return Err(Refused::Malformed("the date in Credential must be that of X-Amz-Date"));
        }
        let signature = hex(signature).ok_or(Refused::Malformed("Signature must be 64 hexadecimal digits"))?;
        let names = read_names(names)?;
        check_names(&names, headers)?;
        Ok(Self {
            access_key_id: id.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            names,
            signature,
            at_text: at_text.to_owned(),
            at,
        })
    }

    /// Whether it was signed for `service`, in any region, about `now`.
    ///
    /// # Errors
    /// [`Refused::Service`], [`Refused::Skewed`].
    pub(crate) fn check_scope(&self, service: &'static str, now: Timestamp) -> Result<(), Refused> {
        if self.service != service {
            return Err(Refused::Service(self.service.clone(), service));
        }
        if self.at.since_ms(now).abs() > SKEW_MAX_MS {
            let shown = |at: Timestamp| jiff::Timestamp::from_second(at.as_ms() / 1000).unwrap_or_default();
            return Err(Refused::Skewed(shown(self.at), shown(now)));
        }
        Ok(())
    }

    /// Whether the request is the one that was signed with `secret`. The comparison takes the same time wherever two
    /// signatures differ.
    ///
    /// # Errors
    /// [`Refused::Body`], [`Refused::Absent`], [`Refused::Signature`].
    pub(crate) fn verify(&self, request: Request<'_>, secret: &[u8]) -> Result<(), Refused> {
        let body_hash = sha256_hex(request.body);
        if request.headers.contains_key(CONTENT_SHA256) && only(request.headers, &CONTENT_SHA256) != Some(&*body_hash) {
            return Err(Refused::Body);
        }
        let text = self.text_to_sign(&self.canonical(request, &body_hash)?);
        hmac::verify(&self.key(secret), text.as_bytes(), &self.signature).map_err(|_| Refused::Signature)
    }

    fn canonical(&self, request: Request<'_>, body_hash: &str) -> Result<Vec<u8>, Refused> {
        let query = canonical_query(request.query);
        let mut canonical = format!("{}\n{}\n{query}\n", request.method, request.path).into_bytes();
        for name in &self.names {
            let mut values = request.headers.get_all(name).iter().peekable();
            if values.peek().is_none() {
                return Err(Refused::Absent(name.to_string()));
            }
            let values: Vec<Vec<u8>> = values.map(trimmed).collect();
            canonical.extend_from_slice(name.as_str().as_bytes());
            canonical.push(b':');
            canonical.extend(values.join(&b','));
            canonical.push(b'\n');
        }
        let names: Vec<&str> = self.names.iter().map(HeaderName::as_str).collect();
        canonical.extend_from_slice(format!("\n{}\n{body_hash}", names.join(";")).as_bytes());
        Ok(canonical)
    }

    fn text_to_sign(&self, canonical: &[u8]) -> String {
        let Self { date, region, service, at_text, .. } = self;
        format!("{ALGORITHM}\n{at_text}\n{date}/{region}/{service}/aws4_request\n{}", sha256_hex(canonical))
    }

    /// The key of that day, region and service.
    fn key(&self, secret: &[u8]) -> hmac::Key {
        let mut key = [b"AWS4", secret].concat();
        for part in [&*self.date, &*self.region, &*self.service, "aws4_request"] {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes());
            key = tag.as_ref().to_vec();
        }
        hmac::Key::new(hmac::HMAC_SHA256, &key)
    }
}

/// The value of a header that is there exactly once and printable.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn read_names(list: &str) -> Result<Vec<HeaderName>, Refused> {
    let malformed = Refused::Malformed("SignedHeaders must be header names in lower case, ascending, joined by ;");
    let texts: Vec<&str> = list.split(';').collect();
    let is_ascending = texts.windows(2).all(|pair| pair[0] < pair[1]);
    let is_lower = !list.bytes().any(|b| b.is_ascii_uppercase());
    if texts.len() > NAMES_MAX || !is_ascending || !is_lower {
        return Err(malformed);
    }
    let names = texts.into_iter().map(|text| HeaderName::from_bytes(text.as_bytes()));
    names.collect::<Result<_, _>>().map_err(|_| malformed)
}

/// What a signature must cover: where it goes, when it was made, and everything else that is AWS's own.
fn check_names(names: &[HeaderName], headers: &HeaderMap) -> Result<(), Refused> {
    let own = headers.keys().filter(|name| name.as_str().starts_with("x-amz-"));
    let mut needed = [header::HOST, DATE].into_iter().chain(own.cloned());
    match needed.find(|name| !names.contains(name)) {
        Some(name) => Err(Refused::NotSigned(name.to_string())),
        None => Ok(()),
    }
}

/// Without white space at the ends, and with one space for each run of it.
fn trimmed(value: &HeaderValue) -> Vec<u8> {
    let words = value.as_bytes().split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

/// Sorted by name, then by value, each with its `=`; encoded as the client did.
fn canonical_query(query: &str) -> String {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let mut pairs: Vec<(&str, &str)> = parts.map(|part| part.split_once('=').unwrap_or((part, ""))).collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn read_time(text: &str) -> Option<Timestamp> {
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let zoned = civil.to_zoned(TimeZone::UTC).ok()?;
    (text.len() == 16).then(|| Timestamp::from_ms(zoned.timestamp().as_millisecond()))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    if text.len() == 64 { text.as_bytes().chunks_exact(2).map(byte).collect() } else { None }
}

fn sha256_hex(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    /// A signed request as AWS's test suite writes it: request line, headers, an empty line, the body.
    struct Sample {
        method: Method,
        target: String,
        headers: HeaderMap,
        body: String,
    }

    fn sample(target: &str, further: &[(&str, &str)], names: &str, signature: &str, body: &str) -> Sample {
        let authorization = format!(
            "{ALGORITHM} Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={names}, \
             Signature={signature}"
        );
        let mut headers = HeaderMap::new();
        let usual = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
        for (name, value) in usual.iter().chain(further).chain([&("authorization", &*authorization)]) {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("name");
            headers.append(name, HeaderValue::from_str(value).expect("value"));
        }
        let (method, target) = target.split_once(' ').expect("method and target");
        let method = method.parse().expect("method");
        Sample { method, target: target.to_owned(), headers, body: body.to_owned() }
    }

    impl Sample {
        fn verify(&self, secret: &[u8]) -> Result<(), Refused> {
            let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
            let (method, headers, body) = (&self.method, &self.headers, self.body.as_bytes());
            Signed::read(headers)?.verify(Request { method, path, query, headers, body }, secret)
        }
    }

    const VANILLA: &str = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";

    fn vanilla() -> Sample {
        sample("POST /", &[], "host;x-amz-date", VANILLA, "")
    }

    /// AWS's published test suite for Signature Version 4, with its one key, date, region and service.
    #[test]
    fn the_published_vectors() {
        let check = |target: &str, headers: &[(&str, &str)], names: &str, signature: &str, body: &str| {
            let sample = sample(target, headers, names, signature, body);
            assert_eq!(sample.verify(SECRET), Ok(()), "{target} {names}");
        };
        check("POST /", &[], "host;x-amz-date", VANILLA, "");
        check(
            "GET /",
            &[("My-Header1", "value2"), ("My-Header1", "value2"), ("My-Header1", "value1")],
            "host;my-header1;x-amz-date",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
            "",
        );
        check(
            "GET /",
            &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
            "host;my-header1;my-header2;x-amz-date",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            "",
        );
        check(
            "GET /",
            &[("My-Header1", "value4"), ("My-Header1", "value1"), ("My-Header1", "value3"), ("My-Header1", "value2")],
            "host;my-header1;x-amz-date",
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
            "",
        );
        check(
            "GET /?Param2=value2&Param1=value1",
            &[],
            "host;x-amz-date",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            "",
        );
        check(
            "GET /%E1%88%B4",
            &[],
            "host;x-amz-date",
            "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            "",
        );
        check(
            "POST /",
            &[("My-Header1", "value1")],
            "host;my-header1;x-amz-date",
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            "",
        );
        check(
            "POST /",
            &[
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("Content-Length", "13"),
                ("x-amz-content-sha256", "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"),
            ],
            "content-length;content-type;host;x-amz-content-sha256;x-amz-date",
            "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
            "Param1=value1",
        );
    }

    proptest::proptest! {
        /// Nothing that a header can hold is a panic, or signed.
        #[test]
        fn any_header_is_an_answer(fields in "[ -~]{0,80}", names in "[ -~]{0,40}", credential in "[ -~]{0,60}") {
            for text in [
                format!("{ALGORITHM} {fields}"),
                format!("{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={VANILLA}"),
                format!("{ALGORITHM} Credential=A/20150830/{credential}/s/aws4_request, SignedHeaders={names}, Signature={VANILLA}"),
            ] {
                let mut sample = vanilla();
                sample.headers.insert("authorization", HeaderValue::from_str(&text).expect("printable"));
                proptest::prop_assert!(sample.verify(SECRET).is_err(), "{}", text);
            }
        }
    }

    /// What was signed and what comes must be one and the same.
    #[test]
    fn any_change_is_refused() {
        let check = |change: &dyn Fn(&mut Sample)| {
            let mut sample = vanilla();
            change(&mut sample);
            assert_eq!(sample.verify(SECRET), Err(Refused::Signature));
        };
        assert_eq!(vanilla().verify(SECRET), Ok(()));
        assert_eq!(vanilla().verify(b"another"), Err(Refused::Signature));
        check(&|sample| sample.method = Method::GET);
        check(&|sample| sample.target = "/a".to_owned());
        check(&|sample| sample.target = "/?a=b".to_owned());
        check(&|sample| sample.body = " ".to_owned());
        check(&|sample| drop(sample.headers.insert("host", HeaderValue::from_static("another.example"))));
        check(&|sample| drop(sample.headers.insert("x-amz-date", HeaderValue::from_static("20150830T123601Z"))));
        let mut body = vanilla();
        body.headers.insert("x-amz-content-sha256", HeaderValue::from_static("UNSIGNED-PAYLOAD"));
        assert_eq!(body.verify(SECRET), Err(Refused::NotSigned("x-amz-content-sha256".to_owned())));
        let names = "host;x-amz-content-sha256;x-amz-date";
        let unsigned = sample("POST /", &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")], names, VANILLA, "");
        assert_eq!(unsigned.verify(SECRET), Err(Refused::Body));
        let absent = sample("POST /", &[], "host;x-amz-date;x-other", VANILLA, "");
        assert_eq!(absent.verify(SECRET), Err(Refused::Absent("x-other".to_owned())));
    }

    #[test]
    fn what_is_not_signed_as_it_should_be() {
        let check = |names: &str, headers: &[(&str, &str)], expected: Refused| {
            let read = Signed::read(&sample("POST /", headers, names, VANILLA, "").headers);
            assert_eq!(read, Err(expected), "{names}");
        };
        let order = Refused::Malformed("SignedHeaders must be header names in lower case, ascending, joined by ;");
        check("host", &[], Refused::NotSigned("x-amz-date".to_owned()));
        check("x-amz-date", &[], Refused::NotSigned("host".to_owned()));
        check("host;x-amz-date", &[("x-amz-target", "x")], Refused::NotSigned("x-amz-target".to_owned()));
        check("host;x-amz-date", &[("x-amz-security-token", "x")], Refused::SessionToken);
        check("x-amz-date;host", &[], order.clone());
        check("host;host;x-amz-date", &[], order.clone());
        check("Host;x-amz-date", &[], order.clone());
        check("host;;x-amz-date", &[], order);
        let malformed = |authorization: &str| {
            let mut headers = vanilla().headers;
            headers.insert("authorization", HeaderValue::from_str(authorization).expect("value"));
            Signed::read(&headers).expect_err(authorization)
        };
        for text in ["", "Bearer x", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential", "AWS4-HMAC-SHA256 Signature=00"]
        {
            assert_eq!(malformed(text), Refused::Missing, "{text}");
        }
        let good = vanilla().headers["authorization"].to_str().expect("text").to_owned();
        for (part, other) in [
            ("/20150830/", "/20150829/"),
            ("/20150830/", "//"),
            ("/aws4_request", ""),
            (VANILLA, "5d"),
            (VANILLA, &"g".repeat(64)),
            ("Signature=", "Credential=x, Signature="),
            ("Signature=", "Other=x, Signature="),
        ] {
            let refused = malformed(&good.replacen(part, other, 1));
            assert!(matches!(refused, Refused::Malformed(_)), "{part} {other}: {refused}");
        }
    }

    #[test]
    fn the_clock_and_the_service() {
        let signed = Signed::read(&vanilla().headers).expect("signed");
        let at = Timestamp::from_ms(1_440_938_160_000);
        assert_eq!(signed.at, at);
        for (off_ms, is_taken) in
            [(0, true), (SKEW_MAX_MS, true), (-SKEW_MAX_MS, true), (300_001, false), (-300_001, false)]
        {
            assert_eq!(signed.check_scope("service", at.plus_ms(off_ms)).is_ok(), is_taken, "{off_ms}");
        }
        let refused = signed.check_scope("service", at.plus_ms(400_000)).expect_err("skewed").to_string();
        assert!(refused.contains("2015-08-30T12:36:00Z") && refused.contains("2015-08-30T12:42:40Z"), "{refused}");
        assert!(matches!(signed.check_scope("kinesisvideo", at), Err(Refused::Service(..))));
        for wrong in
            ["20150830T123600", "2015-08-30T12:36:00Z", "20151330T123600Z", "20150830T123600Z ", "é0150830T12360Z"]
        {
            assert_eq!(read_time(wrong), None, "{wrong}");
        }
    }
}
