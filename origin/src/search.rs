//! `GET /v1/thumbnails/search`: which thumbs a window has, by arithmetic on coverage. Never touches media.

use http::header::{self, HeaderName};
use http::request::Parts;
use stills_indexer::config::pictures::{PrerenderInterval, SearchUrls, Snap};
use stills_indexer::thumbs::{self, Outline};
use stills_model::coverage::Coverage;
use stills_model::grid::Grid;
use stills_model::id::{DeviceId, Timeline, UserId};
use stills_model::rendition::Rendition;
use stills_model::time::{DAY_MS, Span, Timestamp};

use crate::app::App;
use crate::auth::{Credentials, Scope, Target, Window, authorize};
use crate::query::Query;
use crate::reply::{Problem, Reply};
use crate::route::{Fault, check_window};

const TOTAL: HeaderName = HeaderName::from_static("x-total-count");
const PENDING: HeaderName = HeaderName::from_static("stills-pending");

/// The largest page.
const PAGE_SIZE_MAX: i64 = 1000;

/// A search whose parameters are within their limits.
#[derive(Debug, Clone)]
struct Search {
    timeline: Timeline,
    window: Span,
    rendition: Rendition,
    interval_ms: i64,
    page: i64,
    page_size: i64,
    signed: bool,
    urls: SearchUrls,
    snap: Snap,
}

/// Lists a page of the window's thumbs.
pub(crate) async fn get(app: &App, parts: &Parts) -> Result<Reply, Problem> {
    let credentials = Credentials::from_headers(&parts.headers)?;
    let identity = app.auth.authenticate(credentials, None).await?;
    let search = Search::parse(app, parts.uri.query().unwrap_or_default());
    let search = search.map_err(|faults| Problem::of_parameters(&faults))?;
    let window = Window { timeline: search.timeline, span: search.window };
    authorize(&identity, Scope::ThumbnailsRead, Target::Window(window))?;

    let (timeline, span, asked) = (search.timeline, search.window, app.engine.thumbs.moment());
    let Outline { coverage, n_pending } = app.engine.thumbs.outline(timeline, span).await?;
    let grid = Grid::new(&search.window, search.interval_ms, &coverage);
    let skip = u64::try_from((search.page - 1).saturating_mul(search.page_size)).unwrap_or(u64::MAX);
    let count = usize::try_from(search.page_size).unwrap_or(0);
    let instants: Vec<Timestamp> = grid.page(skip, count).collect();
    let shown: Vec<Timestamp> = instants.iter().map(|instant| search.snapped(app, &coverage, *instant)).collect();
    let body = search.body(app, &instants, &shown).await?;
    if !shown.is_empty() {
        let mut shown = shown;
        shown.sort_unstable();
        app.engine.pipeline.request_listed(search.timeline, search.rendition, shown);
    }

    let mut reply = Reply::ok("application/json", body)
        .with(header::CACHE_CONTROL, "private, no-cache")
        .with(TOTAL, &grid.len().to_string())
        .with(header::LINK, &search.links(app, parts.uri.query().unwrap_or_default(), grid.len()));
    // Of what is still being rebuilt nobody knows how much of it lies here.
    let n_pending = n_pending.max(usize::from(!app.engine.thumbs.is_whole_since(asked)));
    if n_pending > 0 {
        reply = reply.with(PENDING, &n_pending.to_string());
    }
    Ok(reply)
}

/// The page as it is written: a thousand entries that differ in little but their numbers.
struct Body(Vec<u8>);

/// What entries have in common: what stands before the offset, from the comma on, and what between the two numbers, before and
/// behind the picture's version.
struct Common {
    front: String,
    back: String,
    behind_version: String,
}

/// Stands for a version where it differs.
const VERSION: &str = "\0";

impl Common {
    /// Of URLs that are `front`, the offset, `back`. Hosts, prefixes and our own paths hold nothing that JSON escapes: they
    /// are checked where they come from.
    fn new(front: &str, back: &str) -> Self {
        let (back, behind_version) = back.split_once(VERSION).unwrap_or((back, ""));
        Self {
            front: format!(r#",{{"url":"{front}"#),
            back: back.to_owned(),
            behind_version: format!(r#"{behind_version}","timestamp":"#),
        }
    }
}

impl Body {
    /// What two long numbers and a version take, and the last bracket.
    const ENTRY_MARGIN: usize = 48;

    fn of(n_entries: usize, common: &Common) -> Self {
        let Common { front, back, behind_version } = common;
        let entry_len = front.len() + back.len() + behind_version.len() + Self::ENTRY_MARGIN;
        Self(Vec::with_capacity(n_entries * entry_len + 2))
    }

    fn push(&mut self, common: &Common, offset_ms: i64, version: &str, timestamp_ms: i64) {
        let offset = Digits::of(offset_ms);
        let timestamp = if timestamp_ms == offset_ms { offset } else { Digits::of(timestamp_ms) };
        self.0.extend_from_slice(common.front.as_bytes());
        self.0.extend_from_slice(offset.as_bytes());
        self.0.extend_from_slice(common.back.as_bytes());
        self.0.extend_from_slice(version.as_bytes());
        self.0.extend_from_slice(common.behind_version.as_bytes());
        self.0.extend_from_slice(timestamp.as_bytes());
        self.0.push(b'}');
    }

    fn finish(mut self) -> Vec<u8> {
        match self.0.first_mut() {
            // The first entry's comma.
            Some(first) => *first = b'[',
            None => self.0.push(b'['),
        }
        self.0.push(b']');
        self.0
    }
}

/// A number in decimal digits.
#[derive(Clone, Copy)]
struct Digits {
    text: [u8; 20],
    from: usize,
}

impl Digits {
    fn of(number: i64) -> Self {
        let mut digits = Self { text: [0; 20], from: 20 };
        let mut rest = number.unsigned_abs();
        loop {
            digits.put(b'0' + u8::try_from(rest % 10).unwrap_or(0));
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            digits.put(b'-');
        }
        digits
    }

    fn put(&mut self, byte: u8) {
        self.from = self.from.saturating_sub(1);
        self.text[self.from] = byte;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[self.from..]
    }
}

impl Search {
    fn parse(app: &App, query: &str) -> Result<Self, Vec<Fault>> {
        let config = app.config();
        let mut query = Query::parse(query);
        let user = query.required::<UserId>("user_id");
        let device = query.required::<DeviceId>("device_id");
        let start = query.timestamp("start_timestamp");
        let end = query.timestamp("end_timestamp");
        let rendition = query.required::<Rendition>("resolution");
        let interval_ms = query.integer("interval", None, 1000, DAY_MS);
        let page = query.integer("page", Some(1), 1, i64::MAX);
        let page_size = query.integer("page_size", Some(PAGE_SIZE_MAX), 1, PAGE_SIZE_MAX);
        let flag = [("true", true), ("false", false)];
        let signed = query.choice("signed", &flag).unwrap_or(false);
        let urls = query.choice("urls", &[("request", SearchUrls::Request), ("shared", SearchUrls::Shared)]);
        let snap = query.choice("snap", &[("off", Snap::Off), ("anchors", Snap::Anchors)]);
        let window = match start.zip(end).map(|(start, end)| check_window(start, end)) {
            Some(Ok(window)) => Some(window),
            Some(Err(faults)) => {
                faults.into_iter().for_each(|fault| query.fault(fault.parameter, fault.detail));
                None
            }
            None => None,
        };
        if let Some((window, interval_ms)) = window.zip(interval_ms)
            && interval_ms > window.len_ms()
        {
            query.fault("interval", "must be at most end_timestamp - start_timestamp");
        }
        if signed && !app.auth.can_sign() {
            query.fault("signed", "must be false: no signing key is configured");
        }
        query.finish()?;
        let all = (|| {
            Some(Self {
                timeline: Timeline { user: user?, device: device? },
                window: window?,
                rendition: rendition?,
                interval_ms: interval_ms?,
                page: page?,
                page_size: page_size?,
                signed,
                urls: urls.unwrap_or(config.search.urls),
                snap: snap.unwrap_or(config.search.snap),
            })
        })();
        // Whatever is missing has left a fault behind, so this is never empty-handed.
        all.ok_or_else(Vec::new)
    }

    /// The instant whose picture stands for `instant`: the nearest anchor where that is wished for and allowed.
    fn snapped(&self, app: &App, coverage: &Coverage, instant: Timestamp) -> Timestamp {
        if self.snap != Snap::Anchors {
            return instant;
        }
        let PrerenderInterval::Every(every) = app.config().prerender.interval else { return instant };
        let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        if self.interval_ms < every_ms.saturating_mul(2) {
            return instant;
        }
        let Some(stretch) = coverage.at(instant) else { return instant };
        let allowed = stretch.span.intersection(&self.window);
        let below = instant.as_ms().div_euclid(every_ms).saturating_mul(every_ms);
        let near = [below, below.saturating_add(every_ms)].map(Timestamp::from_ms);
        let inside = near.into_iter().filter(|anchor| allowed.is_some_and(|span| span.contains(*anchor)));
        inside.reduce(|a, b| stills_model::keyframe::nearer(instant, a, b)).unwrap_or(instant)
    }

    async fn body(&self, app: &App, instants: &[Timestamp], shown: &[Timestamp]) -> Result<Vec<u8>, Problem> {
        let timestamp_ms = |instant: &Timestamp| instant.since_ms(self.window.start);
        if self.urls == SearchUrls::Request {
            let signature = self.signature(app, &self.window);
            let common = Common::new(&self.front(app, &self.window), &self.back(None, &signature));
            let mut body = Body::of(instants.len(), &common);
            for (of, at) in instants.iter().zip(shown) {
                body.push(&common, at.since_ms(self.window.start), "", timestamp_ms(of));
            }
            return Ok(body.finish());
        }
        let Some((first, last)) = shown.iter().min().zip(shown.iter().max()) else { return Ok(b"[]".to_vec()) };
        let window = Span { start: *first, end: *last };
        let located = app.engine.thumbs.locate_all(self.timeline, window, shown.to_vec()).await?;
        let mut day = Day::of(self, app, *first);
        let mut body = Body::of(instants.len(), &day.with_version);
        for ((of, asked), located) in instants.iter().zip(shown).zip(located) {
            let located = located.as_ref().ok();
            // A keyframe that lies outside of its recording is not covered itself: the instant asked names it.
            let at = located.filter(|located| located.is_own_instant).map_or(*asked, |located| located.timestamp);
            if at.day().span() != day.span {
                day = Day::of(self, app, at);
            }
            let offset_ms = at.since_ms(day.span.start);
            match located.map(|located| thumbs::key_of(located, self.rendition).etag().prefix()) {
                Some(version) => body.push(&day.with_version, offset_ms, &version, timestamp_ms(of)),
                None => body.push(&day.without_version, offset_ms, "", timestamp_ms(of)),
            }
        }
        Ok(body.finish())
    }

    fn signature(&self, app: &App, span: &Span) -> String {
        let window = Window { timeline: self.timeline, span: *span };
        if self.signed { app.auth.sign(&window).unwrap_or_default() } else { String::new() }
    }

    /// A URL of this window up to its offset.
    fn front(&self, app: &App, span: &Span) -> String {
        let config = app.config();
        let Timeline { user, device } = self.timeline;
        let (start, end) = (span.start, span.end);
        let (host, prefix) = (&config.public.host, &config.public.prefix);
        format!("{host}{prefix}/{user}/{device}/{start}/{end}/1/false/thumb-")
    }

    /// A URL from its offset on.
    fn back(&self, version: Option<&str>, signature: &str) -> String {
        let Rendition { width, height, .. } = self.rendition;
        match (version, signature) {
            (None, "") => format!("-w{width}-h{height}.jpg"),
            (None, signature) => format!("-w{width}-h{height}.jpg?{signature}"),
            (Some(version), "") => format!("-w{width}-h{height}.jpg?v={version}"),
            (Some(version), signature) => format!("-w{width}-h{height}.jpg?v={version}&{signature}"),
        }
    }

    /// First, previous, next and last page, as an RFC 8288 header.
    fn links(&self, app: &App, query: &str, n_total: u64) -> String {
        let total = i64::try_from(n_total).unwrap_or(i64::MAX);
        let last = (total.saturating_add(self.page_size - 1) / self.page_size).max(1);
        let rest: Vec<&str> = query.split('&').filter(|part| !part.is_empty() && !part.starts_with("page=")).collect();
        let rest = rest.join("&");
        let link = |page: i64, rel: &str| {
            let host = &app.config().public.host;
            format!("<{host}/v1/thumbnails/search?{rest}&page={page}>; rel=\"{rel}\"")
        };
        let mut links = vec![link(1, "first")];
        if self.page > 1 {
            links.push(link((self.page - 1).min(last), "prev"));
        }
        if self.page < last {
            links.push(link(self.page + 1, "next"));
        }
        links.push(link(last, "last"));
        links.join(", ")
    }
}

/// What URLs have in common that are the same whatever window they were found in: the keyframe's own day.
struct Day {
    span: Span,
    with_version: Common,
    without_version: Common,
}

impl Day {
    /// The day of an instant.
    fn of(search: &Search, app: &App, instant: Timestamp) -> Self {
        let span = instant.day().span();
        let (front, signature) = (search.front(app, &span), search.signature(app, &span));
        let common = |version| Common::new(&front, &search.back(version, &signature));
        Self { span, with_version: common(Some(VERSION)), without_version: common(None) }
    }
}
