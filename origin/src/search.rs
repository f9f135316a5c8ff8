//! `GET /v1/thumbnails/search`: which thumbs a window has, by arithmetic on coverage. Never touches media.

use std::fmt::Write;

use http::header::{self, HeaderName};
use http::request::Parts;
use stills_indexer::catalog::Located;
use stills_indexer::config::pictures::{PrerenderInterval, SearchUrls, Snap};
use stills_indexer::thumbs;
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

/// One entry: the instant asked, and the URL that shows it.
struct Entry {
    timestamp_ms: i64,
    url: String,
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
    let (coverage, n_pending) = app
        .engine
        .thumbs
        .ask(move |catalog| Ok((catalog.coverage(&timeline, &span)?, catalog.n_pending(&timeline, &span)?)))
        .await?;
    let grid = Grid::new(&search.window, search.interval_ms, &coverage);
    let skip = u64::try_from((search.page - 1).saturating_mul(search.page_size)).unwrap_or(u64::MAX);
    let count = usize::try_from(search.page_size).unwrap_or(0);
    let instants: Vec<Timestamp> = grid.page(skip, count).collect();
    let shown: Vec<Timestamp> = instants.iter().map(|instant| search.snapped(app, &coverage, *instant)).collect();
    let entries = search.entries(app, &instants, &shown).await?;
    if !shown.is_empty() {
        let mut shown = shown;
        shown.sort_unstable();
        app.engine.pipeline.request_listed(search.timeline, search.rendition, shown);
    }

    let mut reply = Reply::ok("application/json", render(&entries))
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

fn render(entries: &[Entry]) -> String {
    let mut body = String::with_capacity(entries.len() * 160 + 2);
    body.push('[');
    for (n, Entry { timestamp_ms, url }) in entries.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        // Hosts, prefixes and our own paths hold nothing that JSON escapes: they are checked where they come from.
        let _ = write!(body, r#"{comma}{{"url":"{url}","timestamp":{timestamp_ms}}}"#);
    }
    body.push(']');
    body
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
        let PrerenderInterval::Every(every) = app.config().prerender.interval else { return instant };
        let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        if self.snap != Snap::Anchors || self.interval_ms < every_ms.saturating_mul(2) {
            return instant;
        }
        let Some(stretch) = coverage.at(instant) else { return instant };
        let allowed = stretch.span.intersection(&self.window);
        let below = instant.as_ms().div_euclid(every_ms).saturating_mul(every_ms);
        let near = [below, below.saturating_add(every_ms)].map(Timestamp::from_ms);
        let inside = near.into_iter().filter(|anchor| allowed.is_some_and(|span| span.contains(*anchor)));
        inside.reduce(|a, b| stills_model::keyframe::nearer(instant, a, b)).unwrap_or(instant)
    }

    async fn entries(&self, app: &App, instants: &[Timestamp], shown: &[Timestamp]) -> Result<Vec<Entry>, Problem> {
        let timestamp_ms = |instant: &Timestamp| instant.since_ms(self.window.start);
        if self.urls == SearchUrls::Request {
            let signature = self.signature(app, &self.window);
            let url = |at: &Timestamp| self.url(app, &self.window, at.since_ms(self.window.start), None, &signature);
            let entries = instants.iter().zip(shown);
            return Ok(entries.map(|(of, at)| Entry { timestamp_ms: timestamp_ms(of), url: url(at) }).collect());
        }
        let Some((first, last)) = shown.iter().min().zip(shown.iter().max()) else { return Ok(Vec::new()) };
        let window = Span { start: *first, end: *last };
        let located = app.engine.thumbs.locate_all(self.timeline, window, shown.to_vec()).await?;
        let mut urls = SharedUrls { search: self, app, signed_day: None };
        let entries = instants.iter().zip(shown).zip(located);
        Ok(entries
            .map(|((of, at), located)| Entry {
                timestamp_ms: timestamp_ms(of),
                url: urls.url(*at, located.ok().as_ref()),
            })
            .collect())
    }

    fn signature(&self, app: &App, span: &Span) -> String {
        let window = Window { timeline: self.timeline, span: *span };
        if self.signed { app.auth.sign(&window).unwrap_or_default() } else { String::new() }
    }

    fn url(&self, app: &App, span: &Span, offset_ms: i64, version: Option<&str>, signature: &str) -> String {
        let config = app.config();
        let Timeline { user, device } = self.timeline;
        let (start, end) = (span.start, span.end);
        let Rendition { width, height, .. } = self.rendition;
        let (host, prefix) = (&config.public.host, &config.public.prefix);
        let mut url =
            format!("{host}{prefix}/{user}/{device}/{start}/{end}/1/false/thumb-{offset_ms}-w{width}-h{height}.jpg");
        let version = version.map(|version| format!("v={version}"));
        let query: Vec<&str> =
            version.as_deref().into_iter().chain((!signature.is_empty()).then_some(signature)).collect();
        if !query.is_empty() {
            url.push('?');
            url.push_str(&query.join("&"));
        }
        url
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

/// URLs that are the same whatever window they were found in: the keyframe's own day and instant.
struct SharedUrls<'a> {
    search: &'a Search,
    app: &'a App,
    /// The signature of the day that the last URL lay in.
    signed_day: Option<(Span, String)>,
}

impl SharedUrls<'_> {
    /// The shared URL of the keyframe that answers for `asked`.
    fn url(&mut self, asked: Timestamp, located: Option<&Located>) -> String {
        // A keyframe that lies outside of its recording is not covered itself: the instant asked names it.
        let at = located.map_or(asked, |located| if located.is_own_instant { located.timestamp } else { asked });
        let day = at.day().span();
        let signature = match &self.signed_day {
            Some((known, signature)) if *known == day => signature.clone(),
            _ => {
                let signature = self.search.signature(self.app, &day);
                self.signed_day = Some((day, signature.clone()));
                signature
            }
        };
        let version = located.map(|located| thumbs::key_of(located, self.search.rendition).etag().prefix());
        self.search.url(self.app, &day, at.since_ms(day.start), version.as_deref(), &signature)
    }
}
