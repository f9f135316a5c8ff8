//! `GET /image`: one picture of a clip, media that the caller names by URL.
//!
//! 1. authorise, and find the user that the token speaks for; 2. check the parameters, where every fault is 400;
//! 3. get the picture; its body is the answer, which nobody may keep: the next one asks the media's place again.

use http::header::{self, HeaderName};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use stills_indexer::clips::{ClipError, ClipWanted};
use stills_model::clip::Percent;
use stills_model::rendition::{Fit, Format, Rendition};

use crate::app::App;
use crate::auth::{Caller, Credentials, Scope, Target, authorize};
use crate::query::Query;
use crate::reply::{Kind, Problem, Reply, content_type};
use crate::route::Fault;

const FRAME_OFFSET: HeaderName = HeaderName::from_static("stills-frame-offset");

/// What the query may hold.
const KNOWN: [&str; 6] = ["url", "format", "width", "height", "offset_percent", "credentials_key"];

/// (ours) Where the picture is when nothing is said: 10 percent in, behind most fades.
const DEFAULT_PERCENT: u8 = 10;

/// (ours) As of thumbs.
const QUALITY: u8 = 80;

/// (ours) The longest `credentials_key`.
const KEY_LEN_MAX: usize = 128;

/// Answers with the picture.
pub(crate) async fn get(app: &App, parts: &Parts) -> Result<Reply, Problem> {
    let identity = app.auth.authenticate(Credentials::from_image_headers(&parts.headers)?, None).await?;
    authorize(&identity, Scope::ImagesRead, Target::Nothing)?;
    let user = identity.caller().and_then(Caller::own_user).ok_or_else(nobody)?;
    let ask = Ask::read(parts.uri.query().unwrap_or_default());
    let ask = ask.map_err(|faults| Problem::of_parameters(&faults).of_kind(Kind::BadRequest))?;
    let wanted = ClipWanted { user, url: &ask.url, credentials_key: ask.credentials_key.as_deref() };
    let picture = app.engine.clips.picture(wanted, ask.at, ask.rendition).await?;
    let content_type = content_type(ask.rendition.format);
    let reply = Reply::ok(content_type, picture.body).with(header::CACHE_CONTROL, "private, no-store");
    Ok(reply.with(FRAME_OFFSET, &picture.at_ms.to_string()))
}

fn nobody() -> Problem {
    let detail = "the token must speak for one user: by its user claim, or by sub where that names several or all";
    Problem::new(Kind::InsufficientScope, detail)
}

impl From<ClipError> for Problem {
    fn from(error: ClipError) -> Self {
        match error {
            ClipError::Refused(detail) => Self::new(Kind::UrlNotAllowed, detail),
            ClipError::UnknownCredentials => Self::new(Kind::UnknownCredentials, error.to_string()),
            ClipError::Fault(fault) => fault.into(),
        }
    }
}

/// The checked parameters.
#[derive(Debug, PartialEq, Eq)]
struct Ask {
    url: String,
    credentials_key: Option<String>,
    at: Percent,
    rendition: Rendition,
}

impl Ask {
    fn read(query: &str) -> Result<Self, Vec<Fault>> {
        let (url, rest) = split(query);
        let mut query = Query::parse(&rest.join("&"));
        let url = match url {
            Ok(Some(url)) => Some(url),
            Ok(None) => {
                query.fault("url", "is required");
                None
            }
            Err(detail) => {
                query.fault("url", detail);
                None
            }
        };
        for name in query.others(&KNOWN) {
            let detail = format!("{name:?} is no parameter; a url with a query of its own is to be percent-encoded");
            query.fault("query", detail);
        }
        let format = query.choice("format", &[("jpeg", Format::Jpeg), ("png", Format::Png)]).unwrap_or(Format::Jpeg);
        let mut side = |name, max| query.integer(name, Some(0), 16, max).and_then(|side| u16::try_from(side).ok());
        let (width, height) = (side("width", 3840).unwrap_or(0), side("height", 2160).unwrap_or(0));
        let at = match query.optional("offset_percent").map(|text| text.parse::<Percent>()) {
            None => Percent::whole(DEFAULT_PERCENT),
            Some(Ok(at)) => at,
            Some(Err(error)) => {
                query.fault("offset_percent", error.to_string());
                Percent::START
            }
        };
        let credentials_key = query.optional("credentials_key");
        if credentials_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > KEY_LEN_MAX) {
            query.fault("credentials_key", format!("must be 1 to {KEY_LEN_MAX} bytes long"));
        }
        query.finish()?;
        let fit = if width > 0 && height > 0 { Fit::Stretch } else { Fit::Inside };
        let quality = if format == Format::Jpeg { QUALITY } else { 0 };
        let rendition = Rendition { width, height, fit, format, quality };
        Ok(Self { url: url.unwrap_or_default(), credentials_key, at, rendition })
    }
}

/// The URL, and the parameters beside it. A URL that was not encoded and has a query arrives in pieces: what follows
/// it and is no parameter of ours was part of it.
fn split(query: &str) -> (Result<Option<String>, &'static str>, Vec<&str>) {
    let (mut url, mut rest): (Option<String>, Vec<&str>) = (None, Vec::new());
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let name = part.split('=').next().unwrap_or_default();
        match &mut url {
            None if name == "url" => url = Some(part.split_once('=').map_or("", |(_, value)| value).to_owned()),
            Some(_) if name == "url" => return (Err("must be given once"), rest),
            Some(url) if url.contains('?') && !KNOWN.contains(&name) => {
                url.push('&');
                url.push_str(part);
            }
            _ => rest.push(part),
        }
    }
    (url.map(|url| decoded(&url)).transpose(), rest)
}

/// A URL as it was meant. One that arrived with its `?` was at most put through `encodeURI`, which touches no escapes
/// but their percent signs; any other one was encoded as a whole.
fn decoded(url: &str) -> Result<String, &'static str> {
    if url.contains('?') {
        return Ok(url.replace("%25", "%"));
    }
    let url = percent_decode_str(url).decode_utf8().map_err(|_| "must be UTF-8")?;
    Ok(url.replace(' ', "%20"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The URL, or the faulty parameters.
    fn check(query: &str, expected: Result<&str, &str>) {
        let found = Ask::read(query).map(|ask| ask.url);
        let found = found.map_err(|faults| faults.iter().map(|fault| fault.parameter).collect::<Vec<_>>().join(" "));
        assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{query}");
    }

    #[test]
    fn urls_whole_and_in_pieces() {
        check("url=https://a.example/1.mp4", Ok("https://a.example/1.mp4"));
        check("url=https%3A%2F%2Fa.example%2F1.mp4%3Fa%3D1%26b%3Dx%252By", Ok("https://a.example/1.mp4?a=1&b=x%2By"));
        check("url=https://a.example/b+c%20d.mp4", Ok("https://a.example/b+c%20d.mp4"));
        check("url=https://a.example/%252B.mp4", Ok("https://a.example/%2B.mp4"));
        // As it is, and through encodeURI.
        let whole = "https://a.example/1.mp4?a=x%2By&b&c=%2F&width=7";
        check("url=https://a.example/1.mp4?a=x%2By&b&c=%2F&width=70&d=1", Ok(&whole.replace("width=7", "d=1")));
        check("url=https://a.example/1.mp4?a=x%252By&b&c=%252F&d=1&width=70", Ok(&whole.replace("width=7", "d=1")));
        check("width=70&url=s3://b/1.mp4?x=1&format=png&y=2", Ok("s3://b/1.mp4?x=1&y=2"));
        // Nothing is put to a URL that has no query, or stands behind.
        check("url=https://a.example/1.mp4&a=1", Err("query"));
        check("a=1&url=https://a.example/1.mp4?b=2", Err("query"));
        check("url=https%3A%2F%2Fa.example%2F1.mp4%3Fa%3D1&b=2", Err("query"));
        check("url=https://a.example/%ff", Err("url"));
        check("url=https://a.example/1&url=https://a.example/2", Err("url"));
        check("", Err("url"));
        check("url", Ok(""));
    }

    #[test]
    fn every_fault_is_listed() {
        let query = |rest: &str| format!("url=s3://b/1.mp4&{rest}");
        for good in [
            "",
            "width=16",
            "width=3840&height=2160",
            "height=16",
            "format=png",
            "format=jpeg&offset_percent=0",
            "offset_percent=100",
            "offset_percent=33.3333333333",
            "credentials_key=a",
        ] {
            check(&query(good), Ok("s3://b/1.mp4"));
        }
        for (wrong, parameter) in [
            ("width=15", "width"),
            ("width=3841", "width"),
            ("width=", "width"),
            ("width=320.5", "width"),
            ("width=-320", "width"),
            ("height=15", "height"),
            ("height=2161", "height"),
            ("format=jpg", "format"),
            ("format=JPEG", "format"),
            ("offset_percent=101", "offset_percent"),
            ("offset_percent=-1", "offset_percent"),
            ("offset_percent=ten", "offset_percent"),
            ("offset_percent=", "offset_percent"),
            ("credentials_key=", "credentials_key"),
            ("width=20&width=20", "width"),
            ("Width=20", "query"),
            ("widht=20&higth=30", "query query"),
            ("width=0&height=0&format=gif&offset_percent=NaN", "format width height offset_percent"),
        ] {
            check(&query(wrong), Err(parameter));
        }
    }

    #[test]
    fn renditions() {
        let check = |query: &str, expected: (u16, u16, Fit, Format, u8)| {
            let Rendition { width, height, fit, format, quality } =
                Ask::read(&format!("url=s3://b/1&{query}")).expect("good").rendition;
            assert_eq!((width, height, fit, format, quality), expected, "{query}");
        };
        check("", (0, 0, Fit::Inside, Format::Jpeg, 80));
        check("width=320", (320, 0, Fit::Inside, Format::Jpeg, 80));
        check("height=240&format=png", (0, 240, Fit::Inside, Format::Png, 0));
        check("width=320&height=240", (320, 240, Fit::Stretch, Format::Jpeg, 80));
    }
}
