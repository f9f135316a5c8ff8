//! Routes are data: a closed enum and one pure parser. Knows no handler, no status and no configuration but the prefix.

use stills_indexer::jobs::record::{JobId, ResultSecret};
use stills_model::id::{DeviceId, Timeline, UserId};
use stills_model::rendition::Rendition;
use stills_model::time::{DAY_MS, Span, TIMESTAMP_MAX_MS, Timestamp};

use crate::image_path::ImagePath;

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// One thumb.
    Thumb(ThumbPath),
    /// `GET /v1/thumbnails/search`
    Search,
    /// `POST /v1/recordings/events`
    Events,
    /// `GET /v1/recordings`
    Recordings,
    /// `GET /v1/devices`
    Devices,
    /// `POST /v1/video/thumbnail`
    Job,
    /// `POST /v1/toolkit/job/status`
    JobStatus,
    /// `POST /v1/toolkit/jobs/status`
    JobsStatus,
    /// `GET /v1/jobs/{job_id}/{secret}.jpg`
    JobResult(JobId, ResultSecret),
    /// `POST /getDataEndpoint`
    KinesisEndpoint,
    /// `POST /getImages`
    KinesisImages,
    /// `GET /image`
    Image,
    /// `GET|PUT|DELETE /images/v1/image/{contentType}/{id}/{imageType}`
    Images(ImagePath),
    /// `GET /auth`, asked by NGINX alone
    AuthCheck,
    /// `GET /openapi.json`
    OpenApi,
    /// `GET /problems/{slug}`
    Problem(String),
    /// Anything else
    Unknown,
}

/// A thumb's path, spelled as the pattern allows; its numbers are checked by [`ThumbPath::window`] and
/// [`ThumbPath::ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ThumbPath {
    /// Whose camera.
    pub(crate) timeline: Timeline,
    start: Digits,
    end: Digits,
    offset: Digits,
    width: Digits,
    height: Digits,
}

/// Decimal digits; none when they pass what 63 bits hold.
type Digits = Option<i64>;

/// A thumb's path with its numbers inside the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThumbAsk {
    pub(crate) instant: Timestamp,
    pub(crate) rendition: Rendition,
}

/// A number of a path or query that is outside its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The parameter's name.
    pub(crate) parameter: &'static str,
    /// What is wrong and what is allowed.
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(parameter: &'static str, detail: impl Into<String>) -> Self {
        Self { parameter, detail: detail.into() }
    }
}

impl Route {
    /// The route of a raw path (as sent, still percent-encoded: no valid path needs encoding).
    pub(crate) fn parse(prefix: &str, path: &str) -> Self {
        match path {
            "/v1/thumbnails/search" => return Self::Search,
            "/v1/recordings/events" => return Self::Events,
            "/v1/recordings" => return Self::Recordings,
            "/v1/devices" => return Self::Devices,
            "/v1/video/thumbnail" => return Self::Job,
            "/v1/toolkit/job/status" => return Self::JobStatus,
            "/v1/toolkit/jobs/status" => return Self::JobsStatus,
            "/getDataEndpoint" => return Self::KinesisEndpoint,
            "/getImages" => return Self::KinesisImages,
            "/image" => return Self::Image,
            "/auth" => return Self::AuthCheck,
            "/openapi.json" => return Self::OpenApi,
            _ => {}
        }
        if let Some(slug) = path.strip_prefix("/problems/") {
            return Self::Problem(slug.to_owned());
        }
        if let Some(job) = path.strip_prefix("/v1/jobs/") {
            return job_result(job).unwrap_or(Self::Unknown);
        }
        if let Some(rest) = path.strip_prefix(ImagePath::PREFIX) {
            return ImagePath::parse(rest).map_or(Self::Unknown, Self::Images);
        }
        path.strip_prefix(prefix).and_then(ThumbPath::parse).map_or(Self::Unknown, Self::Thumb)
    }

    /// The methods it answers, as `Allow` lists them.
    pub(crate) const fn allow(&self) -> &'static str {
        match self {
            Self::Events
            | Self::Job
            | Self::JobStatus
            | Self::JobsStatus
            | Self::KinesisEndpoint
            | Self::KinesisImages => "POST, OPTIONS",
            Self::AuthCheck => "GET, HEAD",
            Self::Images(path) => path.allow(),
            Self::Unknown => "",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// The label in metrics and logs.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Thumb(_) => "thumb",
            Self::Search => "search",
            Self::Events => "events",
            Self::Recordings => "recordings",
            Self::Devices => "devices",
            Self::Job => "job",
            Self::JobStatus => "job-status",
            Self::JobsStatus => "jobs-status",
            Self::JobResult(..) => "job-result",
            Self::KinesisEndpoint => "kinesis-endpoint",
            Self::KinesisImages => "kinesis-images",
            Self::Image => "image",
            Self::Images(_) => "images",
            Self::AuthCheck => "auth",
            Self::OpenApi => "openapi",
            Self::Problem(_) => "problem",
            Self::Unknown => "unknown",
        }
    }
}

/// `{job_id}/{secret}.jpg`
fn job_result(rest: &str) -> Option<Route> {
    let (id, secret) = rest.strip_suffix(".jpg")?.split_once('/')?;
    Some(Route::JobResult(id.parse().ok()?, secret.parse().ok()?))
}

/// Nothing where it is anything but one or more decimal digits.
fn digits(text: &str) -> Option<Digits> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = text.trim_start_matches('0');
    Some(if significant.is_empty() { Some(0) } else { significant.parse().ok() })
}

impl ThumbPath {
    fn parse(path: &str) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let user: UserId = parts.next()?.parse().ok()?;
        let device: DeviceId = parts.next()?.parse().ok()?;
        let (start, end) = (digits(parts.next()?)?, digits(parts.next()?)?);
        let ("1", "false") = (parts.next()?, parts.next()?) else { return None };
        let name = parts.next()?.strip_prefix("thumb-")?.strip_suffix(".jpg")?;
        let (offset, size) = name.split_once("-w")?;
        let (width, height) = size.split_once("-h")?;
        let (offset, width, height) = (digits(offset)?, digits(width)?, digits(height)?);
        let timeline = Timeline { user, device };
        parts.next().is_none().then_some(Self { timeline, start, end, offset, width, height })
    }

    /// The window, if its numbers are within the limits; also what a signature opens.
    pub(crate) fn window(&self) -> Result<Span, Vec<Fault>> {
        let timestamp = |name: &'static str, value: Digits| match value {
            Some(ms) if ms <= TIMESTAMP_MAX_MS => Ok(Timestamp::from_ms(ms)),
            _ => Err(vec![Fault::new(name, format!("must be at most {TIMESTAMP_MAX_MS}"))]),
        };
        let (start, end) = match (timestamp("start_timestamp", self.start), timestamp("end_timestamp", self.end)) {
            (Ok(start), Ok(end)) => (start, end),
            (start, end) => return Err([start.err(), end.err()].into_iter().flatten().flatten().collect()),
        };
        check_window(start, end)
    }

    /// What is asked for, if all numbers are within the limits; else every fault.
    pub(crate) fn ask(&self) -> Result<ThumbAsk, Vec<Fault>> {
        let mut faults = Vec::new();
        let window = self.window().map_err(|found| faults.extend(found)).ok();
        let side = |value: Digits| value.and_then(|side| u16::try_from(side).ok()).unwrap_or(u16::MAX);
        let rendition = Rendition::thumb(side(self.width), side(self.height));
        if rendition.is_none() {
            let (width, height) = (Rendition::THUMB_WIDTH_MAX, Rendition::THUMB_HEIGHT_MAX);
            faults.push(Fault::new("size", format!("must be 1 to {width} by 1 to {height} pixels")));
        }
        let length_ms = window.map_or(DAY_MS, |window| window.len_ms());
        let offset = self.offset.filter(|offset| *offset <= length_ms);
        if offset.is_none() {
            faults.push(Fault::new("offset", format!("must be at most {length_ms}, the length of the window")));
        }
        match (window, rendition, offset) {
            (Some(window), Some(rendition), Some(offset)) => {
                Ok(ThumbAsk { instant: window.start.plus_ms(offset), rendition })
            }
            _ => Err(faults),
        }
    }
}

/// A window's two rules: its end is not before its start, and it is a day long at most.
pub(crate) fn check_window(start: Timestamp, end: Timestamp) -> Result<Span, Vec<Fault>> {
    let fault = |detail: &str| Err(vec![Fault::new("end_timestamp", detail)]);
    match Span::new(start, end) {
        None => fault("must not be before start_timestamp"),
        Some(span) if span.len_ms() > DAY_MS => fault("must be at most 86400000 ms after start_timestamp"),
        Some(span) => Ok(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "627d8ca8297a3d00019e2abb";
    const DEVICE: &str = "627d911f7f58e4f344ca726c";

    /// `ok`, the faulty parameters, or `none` for another route.
    fn check(path: &str, expected: &str) {
        let path = path.replace("{u}", USER).replace("{d}", DEVICE);
        let found = match Route::parse("", &path) {
            Route::Thumb(thumb) => match thumb.ask() {
                Ok(_) => "ok".to_owned(),
                Err(faults) => faults.iter().map(|fault| fault.parameter).collect::<Vec<_>>().join(" "),
            },
            _ => "none".to_owned(),
        };
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn thumbs() {
        check("/{u}/{d}/0/1000/1/false/thumb-0-w320-h240.jpg", "ok");
        check("/627D8CA8297A3D00019E2ABB/{d}/000/1000/1/false/thumb-01000-w0320-h240.jpg", "ok");
        check("/{u}/{d}/0/1000/1/false/thumb-1001-w320-h240.jpg", "offset");
        check("/{u}/{d}/0/86400000/1/false/thumb-86400000-w640-h480.jpg", "ok");
        check("/{u}/{d}/0/86400001/1/false/thumb-0-w640-h480.jpg", "end_timestamp");
        check("/{u}/{d}/5/4/1/false/thumb-0-w640-h480.jpg", "end_timestamp");
        check("/{u}/{d}/0/1000/1/false/thumb-0-w641-h0.jpg", "size");
        check("/{u}/{d}/0/1000/1/false/thumb-0-w65856-h240.jpg", "size");
        check("/{u}/{d}/99999999999999999999/1000/1/false/thumb-0-w1-h1.jpg", "start_timestamp");
        check("/{u}/{d}/0/1000/1/false/thumb-99999999999999999999-w1-h481.jpg", "size offset");
        for other in [
            "/{u}/{d}/0/1000/2/false/thumb-0-w1-h1.jpg",
            "/{u}/{d}/0/1000/1/true/thumb-0-w1-h1.jpg",
            "/{u}/{d}/0/1000/1/false/thumb--1-w1-h1.jpg",
            "/{u}/{d}/0/1000/1/false/thumb-+1-w1-h1.jpg",
            "/{u}/{d}/0/1000/1/false/thumb-1-w1-h1.JPG",
            "/{u}/{d}/0/1000/1/false/thumb-1-w1-h1.jpg/",
            "/{u}/{d}/0/1000/1/false/thumb-%31-w1-h1.jpg",
            "//{u}/{d}/0/1000/1/false/thumb-1-w1-h1.jpg",
            "/{u}/{d}x/0/1000/1/false/thumb-1-w1-h1.jpg",
            "/x/{u}/{d}/0/1000/1/false/thumb-1-w1-h1.jpg",
            "{u}/{d}/0/1000/1/false/thumb-1-w1-h1.jpg",
            "/{u}/{d}//1000/1/false/thumb-1-w1-h1.jpg",
            "/{u}/{d}/0/1000/1/false/thumb--w1-h1.jpg",
            "/{u}/{d}/0/1000/1/false/thumb-1-w1-h1-h1.jpg",
            "/{u}/{d}/0/1000/1/false/thumb-1-w-w1-h1.jpg",
            "/{u}/{d}/0/1000/1/false/thumb-1-w1-h.jpg",
            "/{u}/{d}/0/1000/1/false/thumb-1-h1-w1.jpg",
            "/{u}/{d}/0/1\u{661}/1/false/thumb-1-w1-h1.jpg",
        ] {
            check(other, "none");
        }
    }

    #[test]
    fn the_others() {
        let check = |path: &str, name: &str| assert_eq!(Route::parse("/cam", path).name(), name, "{path}");
        check("/v1/thumbnails/search", "search");
        check("/v1/thumbnails/search/", "unknown");
        check("/v1/recordings", "recordings");
        check("/v1/video/thumbnail", "job");
        check("/v1/toolkit/job/status", "job-status");
        check("/v1/toolkit/jobs/status", "jobs-status");
        let (id, secret) = ("00112233-4455-4677-8899-aabbccddeeff", "00112233445566778899aabbccddeeff");
        check(&format!("/v1/jobs/{id}/{secret}.jpg"), "job-result");
        check(&format!("/v1/jobs/{id}/{}.jpg", secret.to_uppercase()), "unknown");
        check(&format!("/v1/jobs/{id}/{secret}.png"), "unknown");
        check(&format!("/v1/jobs/../{secret}.jpg"), "unknown");
        check("/getDataEndpoint", "kinesis-endpoint");
        check("/getImages", "kinesis-images");
        check("/getimages", "unknown");
        check("/image", "image");
        check("/image/", "unknown");
        check("/images/v1/image/Show/4711/Poster", "images");
        check("/images/v1/image/Show/4711", "unknown");
        check("/problems/gap", "problem");
        check(&format!("/cam/{USER}/{DEVICE}/0/1/1/false/thumb-0-w1-h1.jpg"), "thumb");
        check(&format!("/{USER}/{DEVICE}/0/1/1/false/thumb-0-w1-h1.jpg"), "unknown");
        check("/", "unknown");
    }
}
