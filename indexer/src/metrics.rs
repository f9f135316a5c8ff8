//! Metrics: what is counted and timed, in Prometheus' text format.
//!
//! Names carry base units (`_seconds`, `_bytes`) and `_total` for counters. Every label value is `&'static str` or a
//! status code: an id of a user, device or recording cannot become a label, so the number of series is bounded.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use stills_model::fault::FaultKind;

/// The type of what [`Metrics::encode`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds in seconds for requests and renders: from a picture out of memory (well under 1 ms) over a render
/// (about 25 ms) to the deadlines.
const FAST_BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Upper bounds in seconds for scans, which read a whole recording, perhaps over a network.
const SLOW_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type RouteAndStatus = (Labels<1>, [(&'static str, u16); 1]);
type Histograms = Family<Labels<1>, Histogram, Buckets>;

/// Makes the histograms of a family.
#[derive(Debug, Clone)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// Where a picture was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheTier {
    /// In memory.
    Hot,
    /// In the volumes.
    Disk,
}

/// Everything that is counted. Gauges and plain counters are fields; what has labels has a method.
#[derive(Debug)]
#[expect(missing_docs, reason = "each public field says what it is where it is registered")]
pub struct Metrics {
    registry: Registry,
    http_requests: Family<RouteAndStatus, Counter>,
    http_durations: Histograms,
    renders: Family<Labels<2>, Counter>,
    render_durations: Histograms,
    render_fallbacks: Family<Labels<1>, Counter>,
    scans: Family<Labels<1>, Counter>,
    scan_duration: Histogram,
    scan_leaps: Counter,
    cache_requests: Family<Labels<2>, Counter>,
    /// The same counters by tier, hits first: without a look-up for each picture.
    cache_counters: [[Counter; 2]; 2],
    events: Family<Labels<1>, Counter>,
    pub cache_bytes: Gauge<u64, AtomicU64>,
    pub images: Gauge<u64, AtomicU64>,
    pub images_bytes: Gauge<u64, AtomicU64>,
    pub cache_oldest_age: Gauge,
    pub cache_evicted: Counter,
    pub cache_evicted_unread: Counter,
    pub cache_copied: Counter,
    pub decoder_running: Gauge,
    pub decoder_queued: Gauge,
    pub decoder_crashes: Counter,
    pub decoder_deadlines: Counter,
    pub journal_bytes: Gauge<u64, AtomicU64>,
    pub journal_entries: Counter,
    pub journal_syncs: Counter,
    pub journal_sync_failures: Counter,
    pub pipeline_backlog: Gauge,
    jobs: Family<Labels<1>, Counter>,
    webhooks: Family<Labels<1>, Counter>,
    pub jobs_waiting: Gauge,
    pub jobs_running: Gauge,
    pub webhooks_due: Gauge,
    pub webhooks_dead: Gauge,
    pub retired: Counter,
    recoveries: Family<Labels<1>, Counter>,
    pub disk_free: Gauge<u64, AtomicU64>,
    pub disk_well: Gauge,
    pub catalog_whole: Gauge,
}

impl Metrics {
    /// Registers everything under `stills_`; `version` is the running program's.
    pub fn new(version: &'static str) -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("stills"),
            http_requests: Family::default(),
            http_durations: Family::new_with_constructor(Buckets(&FAST_BUCKETS)),
            renders: Family::default(),
            render_durations: Family::new_with_constructor(Buckets(&FAST_BUCKETS)),
            render_fallbacks: Family::default(),
            scans: Family::default(),
            scan_duration: Histogram::new(SLOW_BUCKETS),
            scan_leaps: Counter::default(),
            cache_requests: Family::default(),
            cache_counters: Default::default(),
            events: Family::default(),
            cache_bytes: Gauge::default(),
            images: Gauge::default(),
            images_bytes: Gauge::default(),
            cache_oldest_age: Gauge::default(),
            cache_evicted: Counter::default(),
            cache_evicted_unread: Counter::default(),
            cache_copied: Counter::default(),
            decoder_running: Gauge::default(),
            decoder_queued: Gauge::default(),
            decoder_crashes: Counter::default(),
            decoder_deadlines: Counter::default(),
            journal_bytes: Gauge::default(),
            journal_entries: Counter::default(),
            journal_syncs: Counter::default(),
            journal_sync_failures: Counter::default(),
            pipeline_backlog: Gauge::default(),
            jobs: Family::default(),
            webhooks: Family::default(),
            jobs_waiting: Gauge::default(),
            jobs_running: Gauge::default(),
            webhooks_due: Gauge::default(),
            webhooks_dead: Gauge::default(),
            retired: Counter::default(),
            recoveries: Family::default(),
            disk_free: Gauge::default(),
            disk_well: Gauge::default(),
            catalog_whole: Gauge::default(),
        };
        metrics.registered(version)
    }

    fn registered(mut self, version: &'static str) -> Self {
        let build: Family<Labels<1>, Gauge> = Family::default();
        build.get_or_create(&[("version", version)]).set(1);
        let r = &mut self.registry;
        r.register("build_info", "The running program; always 1", build);
        r.register("http_requests", "Answered requests", self.http_requests.clone());
        let name = "http_request_duration_seconds";
        r.register(name, "From a request's head to the end of its answer", self.http_durations.clone());
        r.register("renders", "Renders that ended", self.renders.clone());
        r.register("render_duration_seconds", "Renders, with reading and waiting", self.render_durations.clone());
        let help = "Keyframes that could not be decoded alone, and whether decoding from the one before showed them";
        r.register("render_fallbacks", help, self.render_fallbacks.clone());
        r.register("scans", "Scans of recordings that ended", self.scans.clone());
        r.register("scan_duration_seconds", "Scans of recordings", self.scan_duration.clone());
        let help = "Leaps of a transport stream's clock, behind which pictures follow one another; the log tells where";
        r.register("scan_leaps", help, self.scan_leaps.clone());
        r.register("cache_requests", "Pictures looked for in a cache", self.cache_requests.clone());
        r.register("cache_bytes", "Pictures on disk", self.cache_bytes.clone());
        r.register("images", "Images that were put", self.images.clone());
        r.register("images_bytes", "Images that were put, on disk", self.images_bytes.clone());
        let help = "How far back the pictures on disk reach: the age of the oldest volume";
        r.register("cache_oldest_age_seconds", help, self.cache_oldest_age.clone());
        r.register("cache_evicted_pictures", "Pictures dropped for the budget", self.cache_evicted.clone());
        let help = "Of the pictures dropped for the budget, those rendered ahead that nobody had looked at";
        r.register("cache_evicted_unread", help, self.cache_evicted_unread.clone());
        let help = "Pictures kept at an eviction because they had been read lately";
        r.register("cache_copied_pictures", help, self.cache_copied.clone());
        r.register("events", "Recording events", self.events.clone());
        r.register("decoder_running", "Decoders at work", self.decoder_running.clone());
        r.register("decoder_queued", "Requests that wait for a decoder", self.decoder_queued.clone());
        r.register("decoder_crashes", "Decoders that died on media", self.decoder_crashes.clone());
        r.register("decoder_deadlines", "Decoders that were stopped at a deadline", self.decoder_deadlines.clone());
        r.register("journal_bytes", "Journal files on disk", self.journal_bytes.clone());
        r.register("journal_entries", "Entries made durable", self.journal_entries.clone());
        r.register("journal_syncs", "Calls of fdatasync on entries", self.journal_syncs.clone());
        r.register(
            "journal_sync_failures",
            "Files given up after a failed fdatasync",
            self.journal_sync_failures.clone(),
        );
        r.register("pipeline_backlog", "Recordings that wait to be indexed", self.pipeline_backlog.clone());
        r.register("jobs", "Jobs that ended", self.jobs.clone());
        r.register("jobs_waiting", "Jobs in the queue", self.jobs_waiting.clone());
        r.register("jobs_running", "Jobs at work", self.jobs_running.clone());
        r.register("webhooks", "Attempts to tell the receiver of a job", self.webhooks.clone());
        r.register("webhooks_due", "Receivers that are still to be told", self.webhooks_due.clone());
        r.register("webhooks_dead", "Receivers that were given up, of jobs that are known", self.webhooks_dead.clone());
        r.register("retired_recordings", "Recordings removed because they are past retention", self.retired.clone());
        r.register("recoveries", "Stores closed and opened anew because they failed", self.recoveries.clone());
        r.register("disk_free_bytes", "Room on the data directory's disk", self.disk_free.clone());
        let help = "1, or 0 while the disk is full, read-only or failing and events are refused";
        r.register("disk_well", help, self.disk_well.clone());
        let help = "1, or 0 while the catalog is being filled from the journal";
        r.register("catalog_whole", help, self.catalog_whole.clone());
        for store in ["catalog", "cache"] {
            let _ = self.recoveries.get_or_create(&[("store", store)]);
        }
        // A series that is 0 from the start lets a rate be computed of its first event too.
        for (tier, counters) in ["hot", "disk"].into_iter().zip(&mut self.cache_counters) {
            for (outcome, counter) in ["hit", "miss"].into_iter().zip(counters) {
                *counter = self.cache_requests.get_or_create(&[("tier", tier), ("outcome", outcome)]).clone();
            }
        }
        self
    }

    /// One answered request. `route` is the name of a route, never a path.
    pub fn http_request(&self, route: &'static str, status: u16, took: Duration) {
        self.http_requests.get_or_create(&([("route", route)], [("status", status)])).inc();
        self.http_durations.get_or_create(&[("route", route)]).observe(took.as_secs_f64());
    }

    /// One render that ended. `class` is who waited for it, such as `interactive` or `prerender`.
    pub fn render(&self, class: &'static str, outcome: Result<(), FaultKind>, took: Duration) {
        self.renders.get_or_create(&[("class", class), ("outcome", outcome_label(outcome))]).inc();
        self.render_durations.get_or_create(&[("class", class)]).observe(took.as_secs_f64());
    }

    /// One keyframe that could not be decoded alone, and how decoding from the one before it ended.
    pub fn render_fallback(&self, outcome: Result<(), FaultKind>) {
        self.render_fallbacks.get_or_create(&[("outcome", outcome_label(outcome))]).inc();
    }

    /// One scan that ended.
    pub fn scan(&self, outcome: Result<(), FaultKind>, took: Duration) {
        self.scans.get_or_create(&[("outcome", outcome_label(outcome))]).inc();
        self.scan_duration.observe(took.as_secs_f64());
    }

    /// Leaps of a recording's clock that a scan bridged.
    pub fn scan_leaps(&self, count: u64) {
        self.scan_leaps.inc_by(count);
    }

    /// One look into a cache.
    pub fn cache_request(&self, tier: CacheTier, is_hit: bool) {
        let [hot, disk] = &self.cache_counters;
        let [hit, miss] = match tier {
            CacheTier::Hot => hot,
            CacheTier::Disk => disk,
        };
        let counter = if is_hit { hit } else { miss };
        counter.inc();
    }

    /// One store (`catalog`, `cache`) that was opened anew while running.
    pub fn recovery(&self, store: &'static str) {
        self.recoveries.get_or_create(&[("store", store)]).inc();
    }

    /// Recording events with one outcome (`new`, `duplicate`).
    pub fn events(&self, outcome: &'static str, count: u64) {
        self.events.get_or_create(&[("outcome", outcome)]).inc_by(count);
    }

    /// One job that ended.
    pub fn job(&self, is_success: bool) {
        let outcome = if is_success { "ok" } else { "failed" };
        self.jobs.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// One attempt to tell a receiver (`delivered`, `failed`, `dead`).
    pub fn webhook(&self, outcome: &'static str) {
        self.webhooks.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// All series as text of [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode_registry(&mut text, &self.registry);
        plain_text_format(&text)
    }
}

/// From OpenMetrics, which the registry writes, to the older text format, which every scraper reads: there a
/// counter's `HELP` and `TYPE` carry the name of its samples, with `_total`.
fn plain_text_format(open_metrics: &str) -> String {
    let counters: Vec<&str> =
        open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let described = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        let name = described.and_then(|rest| rest.split(' ').next()).filter(|name| counters.contains(name));
        match name {
            Some(name) => text.push_str(&line.replacen(name, &format!("{name}_total"), 1)),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

fn outcome_label(outcome: Result<(), FaultKind>) -> &'static str {
    match outcome {
        Ok(()) => "ok",
        Err(FaultKind::Unsupported) => "unsupported",
        Err(FaultKind::Damaged) => "damaged",
        Err(FaultKind::Gone) => "gone",
        Err(FaultKind::Unreadable) => "unreadable",
        Err(FaultKind::Changed) => "changed",
        Err(FaultKind::Forbidden) => "forbidden",
        Err(FaultKind::Deadline) => "deadline",
        Err(FaultKind::Crashed) => "crashed",
        Err(FaultKind::TooLarge) => "too_large",
        Err(FaultKind::Busy) => "busy",
        Err(FaultKind::Internal) => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn check(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
    }

    #[test]
    fn what_happened_is_told() {
        let metrics = Metrics::new("1.2.3");
        metrics.http_request("thumb", 200, Duration::from_millis(3));
        metrics.http_request("thumb", 200, Duration::from_millis(30));
        metrics.http_request("search", 422, Duration::from_millis(1));
        metrics.render("interactive", Ok(()), Duration::from_millis(25));
        metrics.render("prerender", Err(FaultKind::TooLarge), Duration::from_millis(25));
        metrics.render_fallback(Ok(()));
        metrics.scan(Err(FaultKind::Gone), Duration::from_secs(2));
        metrics.cache_request(CacheTier::Hot, true);
        metrics.cache_request(CacheTier::Disk, false);
        metrics.events("new", 3);
        metrics.decoder_running.inc();
        metrics.decoder_crashes.inc();
        metrics.cache_bytes.set(1 << 40);
        metrics.pipeline_backlog.set(5);
        let text = metrics.encode();
        for line in [
            "stills_build_info{version=\"1.2.3\"} 1",
            "stills_http_requests_total{route=\"thumb\",status=\"200\"} 2",
            "stills_http_requests_total{route=\"search\",status=\"422\"} 1",
            "stills_http_request_duration_seconds_bucket{le=\"0.005\",route=\"thumb\"} 1",
            "stills_http_request_duration_seconds_bucket{le=\"+Inf\",route=\"thumb\"} 2",
            "stills_renders_total{class=\"interactive\",outcome=\"ok\"} 1",
            "stills_renders_total{class=\"prerender\",outcome=\"too_large\"} 1",
            "stills_render_fallbacks_total{outcome=\"ok\"} 1",
            "stills_scans_total{outcome=\"gone\"} 1",
            "stills_scan_duration_seconds_sum 2.0",
            "stills_cache_requests_total{tier=\"hot\",outcome=\"hit\"} 1",
            "stills_cache_requests_total{tier=\"hot\",outcome=\"miss\"} 0",
            "stills_cache_requests_total{tier=\"disk\",outcome=\"miss\"} 1",
            "stills_events_total{outcome=\"new\"} 3",
            "stills_decoder_running 1",
            "stills_decoder_crashes_total 1",
            "stills_decoder_deadlines_total 0",
            "stills_cache_bytes 1099511627776",
            "stills_pipeline_backlog 5",
        ] {
            check(&text, line);
        }
    }

    /// The rules of the text format that scrapers rely on.
    #[test]
    fn every_sample_belongs_to_a_typed_name() {
        let metrics = Metrics::new("1");
        metrics.http_request("thumb", 200, Duration::ZERO);
        let text = metrics.encode();
        let mut types = BTreeMap::new();
        let mut names = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("type");
                assert!(types.insert(name, kind).is_none(), "{name} twice");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                assert!(name.ends_with("_seconds") || kind != "histogram", "{line}");
                check(&text, text.lines().find(|l| l.starts_with(&format!("# HELP {name} "))).expect("help"));
            } else if !line.starts_with('#') {
                names.insert(line.split(['{', ' ']).next().expect("name"));
            }
        }
        for name in names {
            let parts = ["_bucket", "_sum", "_count"].into_iter().find_map(|part| name.strip_suffix(part));
            assert!(
                types.contains_key(name) || parts.is_some_and(|name| types.get(name) == Some(&"histogram")),
                "{name}"
            );
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT") && text.ends_with('\n'), "{text}");
    }
}
