//! `GET /v1/recordings` and `GET /v1/devices`: what is recorded, in which state, and where something moved.

use http::header::{self, HeaderName};
use http::request::Parts;
use serde_json::{Value, json};
use stills_indexer::catalog::{Catalog, CatalogError, Device, Listed, RecordingsPage};
use stills_model::coverage::Coverage;
use stills_model::id::{DeviceId, Timeline, UserId};
use stills_model::time::{DAY_MS, Span, Timestamp};

use crate::app::App;
use crate::auth::{Credentials, Scope, Target, authorize};
use crate::query::Query;
use crate::reply::{Problem, Reply};
use crate::route::Fault;

const TOTAL: HeaderName = HeaderName::from_static("x-total-count");

/// The longest window of a listing.
const WINDOW_MAX_MS: i64 = 31 * DAY_MS;

/// The largest page.
const PAGE_SIZE_MAX: i64 = 1000;

/// Buckets of activity in one answer: 31 days of half-hours, a day of minutes.
const BUCKETS_MAX: i64 = 1500;

/// A listing whose parameters are within their limits.
#[derive(Debug, Clone, Copy)]
struct Listing {
    timeline: Timeline,
    window: Span,
    page: i64,
    page_size: i64,
    /// The width of an activity bucket.
    activity_ms: Option<i64>,
}

/// Lists coverage and recordings of a device.
pub(crate) async fn get(app: &App, parts: &Parts) -> Result<Reply, Problem> {
    let identity = app.auth.authenticate(Credentials::from_headers(&parts.headers)?, None).await?;
    let listing = Listing::parse(parts.uri.query().unwrap_or_default());
    let listing = listing.map_err(|faults| Problem::of_parameters(&faults))?;
    authorize(&identity, Scope::RecordingsRead, Target::Device(listing.timeline))?;
    let (coverage, page, activity) = app.engine.thumbs.ask(move |catalog| listing.read(catalog)).await?;

    let within = coverage.clipped(&listing.window);
    let spans: Vec<Value> = within
        .stretches()
        .iter()
        .map(
            |stretch| json!({"start_timestamp": stretch.span.start.as_ms(), "end_timestamp": stretch.span.end.as_ms()}),
        )
        .collect();
    let mut body = json!({
        "coverage": spans,
        "recordings": page.recordings.iter().map(recording).collect::<Vec<Value>>(),
    });
    if let (Some(bucket_ms), Some(values)) = (listing.activity_ms, activity) {
        body["activity"] = json!({
            "bucket_ms": bucket_ms,
            "start_timestamp": listing.window.start.as_ms(),
            "values": values,
        });
    }
    Ok(Reply::ok("application/json", body.to_string())
        .with(header::CACHE_CONTROL, "private, no-cache")
        .with(TOTAL, &page.n_total.to_string()))
}

fn recording(listed: &Listed) -> Value {
    let Listed { recording, span, row } = listed;
    json!({
        "recording_id": recording.as_str(),
        "start_timestamp": span.start.as_ms(),
        "end_timestamp": span.end.as_ms(),
        "state": row.state().name(),
        "reason": row.fault.as_ref().map(|fault| &fault.detail),
        "keyframes": row.indexed.as_ref().map_or(0, |indexed| indexed.n_keyframes),
    })
}

impl Listing {
    fn parse(query: &str) -> Result<Self, Vec<Fault>> {
        let mut query = Query::parse(query);
        let user = query.required::<UserId>("user_id");
        let device = query.required::<DeviceId>("device_id");
        let start = query.timestamp("start_timestamp");
        let end = query.timestamp("end_timestamp");
        let page = query.integer("page", Some(1), 1, i64::MAX);
        let page_size = query.integer("page_size", Some(PAGE_SIZE_MAX), 1, PAGE_SIZE_MAX);
        let window = start.zip(end).and_then(|(start, end)| Span::new(start, end));
        match window {
            None if start.is_some() && end.is_some() => {
                query.fault("end_timestamp", "must not be before start_timestamp");
            }
            Some(window) if window.len_ms() > WINDOW_MAX_MS => {
                query.fault("end_timestamp", "must be at most 31 days after start_timestamp");
            }
            _ => {}
        }
        let activity_ms = activity(&mut query, window);
        query.finish()?;
        let all = (|| {
            let timeline = Timeline { user: user?, device: device? };
            Some(Self { timeline, window: window?, page: page?, page_size: page_size?, activity_ms })
        })();
        all.ok_or_else(Vec::new)
    }

    #[expect(clippy::type_complexity, reason = "the three parts of one answer")]
    fn read(self, catalog: &Catalog) -> Result<(Coverage, RecordingsPage, Option<Vec<Option<f64>>>), CatalogError> {
        let coverage = catalog.coverage(&self.timeline, &self.window)?;
        let skip = usize::try_from((self.page - 1).saturating_mul(self.page_size)).unwrap_or(usize::MAX);
        let count = usize::try_from(self.page_size).unwrap_or(0);
        let page = catalog.recordings(&self.timeline, &self.window, skip, count)?;
        let activity = match self.activity_ms {
            None => None,
            Some(bucket_ms) => {
                let bytes = catalog.activity(&self.timeline, &self.window, bucket_ms)?;
                Some(relative(&bytes))
            }
        };
        Ok((coverage, page, activity))
    }
}

/// `activity=60s`: whole seconds, minutes or hours; at most [`BUCKETS_MAX`] buckets in the window.
fn activity(query: &mut Query, window: Option<Span>) -> Option<i64> {
    let text = query.optional("activity")?;
    let unit_ms = match text.as_bytes().last() {
        Some(b's') => 1000,
        Some(b'm') => 60_000,
        Some(b'h') => 3_600_000,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let bucket_ms = number.and_then(|digits| digits.parse::<i64>().ok()).and_then(|n| n.checked_mul(unit_ms));
    let bucket_ms = bucket_ms.filter(|ms| (1000..=DAY_MS).contains(ms));
    match (bucket_ms, window) {
        (None, _) => query.fault("activity", "must be a width of 1s to 24h, such as 60s"),
        (Some(bucket_ms), Some(window)) if window.len_ms() / bucket_ms >= BUCKETS_MAX => {
            query.fault("activity", "must be wider: at most 1500 buckets fit in one answer");
        }
        _ => {}
    }
    bucket_ms
}

/// Bytes a second of each bucket relative to the usual (the median) of the window; null where nothing is recorded.
fn relative(rates: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut known: Vec<f64> = rates.iter().flatten().copied().collect();
    known.sort_by(f64::total_cmp);
    let Some(usual) = known.get(known.len() / 2).copied().filter(|usual| *usual > 0.0) else {
        return rates.to_vec();
    };
    rates.iter().map(|rate| rate.map(|rate| (rate / usual * 1000.0).round() / 1000.0)).collect()
}

/// Lists the devices of a user that the token may see.
pub(crate) async fn devices(app: &App, parts: &Parts) -> Result<Reply, Problem> {
    let identity = app.auth.authenticate(Credentials::from_headers(&parts.headers)?, None).await?;
    let mut query = Query::parse(parts.uri.query().unwrap_or_default());
    let user = query.required::<UserId>("user_id");
    query.finish().map_err(|faults| Problem::of_parameters(&faults))?;
    let Some(user) = user else { return Err(Problem::of_parameters(&[])) };
    authorize(&identity, Scope::RecordingsRead, Target::SomeDevices(user))?;
    let devices = app.engine.thumbs.ask(move |catalog| catalog.devices(user)).await?;
    let may_see =
        |device: &&Device| authorize(&identity, Scope::RecordingsRead, Target::Device(device.timeline)).is_ok();
    let ms = Timestamp::as_ms;
    let list: Vec<Value> = devices
        .iter()
        .filter(may_see)
        .map(|device| {
            json!({
                "device_id": device.timeline.device.to_string(),
                "first_timestamp": ms(device.first),
                "last_timestamp": ms(device.last),
            })
        })
        .collect();
    Ok(Reply::ok("application/json", Value::Array(list).to_string()).with(header::CACHE_CONTROL, "private, no-cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_is_relative_to_the_usual() {
        assert_eq!(relative(&[Some(100.0), None, Some(200.0), Some(100.0)]), [Some(1.0), None, Some(2.0), Some(1.0)]);
        assert_eq!(relative(&[None, Some(0.0)]), [None, Some(0.0)]);
    }

    fn check(activity_text: &str, expected: Result<Option<i64>, &str>) {
        let mut query = Query::parse(activity_text);
        let window = Span::new(Timestamp::from_ms(0), Timestamp::from_ms(DAY_MS));
        let found = activity(&mut query, window);
        let found = query.finish().map(|()| found).map_err(|faults| faults[0].detail.clone());
        assert_eq!(found, expected.map_err(str::to_owned), "{activity_text}");
    }

    #[test]
    fn activity_widths() {
        check("", Ok(None));
        check("activity=60s", Ok(Some(60_000)));
        check("activity=5m", Ok(Some(300_000)));
        check("activity=1s", Err("must be wider: at most 1500 buckets fit in one answer"));
        for wrong in
            ["activity=", "activity=s", "activity=60", "activity=0s", "activity=-1s", "activity=25h", "activity=é"]
        {
            check(wrong, Err("must be a width of 1s to 24h, such as 60s"));
        }
    }
}
