//! What the origin makes of what it was told: its metrics, and the states of recordings one by one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use stills_model::event::{Event, EventKind};
use stills_model::id::Timeline;
use stills_model::time::{DAY_MS, Timestamp};

use super::post::{Origin, PostError};
use super::progress::Made;

/// The longest window of the origin's listing.
const WINDOW_MS: i64 = 31 * DAY_MS;

/// The largest page of it.
const PAGE_SIZE: u64 = 1000;

/// Between two looks at a window that has something pending.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest metrics that are read.
const METRICS_LEN_MAX: usize = 4 * 1024 * 1024;

/// The metrics of an origin's admin listener, counted from the first look on.
#[derive(Debug)]
pub struct Metrics {
    client: reqwest::Client,
    url: String,
    first: Option<Made>,
}

impl Metrics {
    /// Of the admin listener at a URL.
    pub fn new(admin: &str) -> Self {
        let url = format!("{}/metrics", admin.trim_end_matches('/'));
        Self { client: reqwest::Client::new(), url, first: None }
    }

    /// What was made since the first look; nothing while it cannot be asked.
    pub async fn look(&mut self) -> Option<Made> {
        let response = self.client.get(&self.url).timeout(Duration::from_secs(2)).send().await.ok()?;
        let text = response.error_for_status().ok()?.text().await.ok()?;
        if text.len() > METRICS_LEN_MAX {
            return None;
        }
        let now = read_metrics(&text);
        let first = *self.first.get_or_insert(now);
        Some(Made {
            indexed: now.indexed.saturating_sub(first.indexed),
            failed: now.failed.saturating_sub(first.failed),
            rendered: now.rendered.saturating_sub(first.rendered),
            backlog: now.backlog,
        })
    }
}

fn read_metrics(text: &str) -> Made {
    let mut made = Made::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<u64>() else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let is_ok = labels.contains("outcome=\"ok\"");
        match name {
            "stills_scans_total" if is_ok => made.indexed += value,
            "stills_scans_total" => made.failed += value,
            "stills_renders_total" if is_ok => made.rendered += value,
            "stills_pipeline_backlog" => made.backlog = value,
            _ => {}
        }
    }
    made
}

/// The devices that a run told of, and from when to when: bounded by the number of devices.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<Timeline, (Timestamp, Timestamp)>);

/// What became of the recordings of what was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Recordings by their state.
    pub states: BTreeMap<String, u64>,
    /// Why some failed, each reason with how many.
    pub reasons: BTreeMap<String, u64>,
}

/// One page of the origin's listing.
#[derive(Debug, Deserialize)]
struct Page {
    recordings: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    state: String,
    reason: Option<String>,
}

impl Told {
    /// Remembers whose and when.
    pub fn add(&mut self, event: &Event) {
        let EventKind::Available(available) = &event.kind else { return };
        let timeline = Timeline { user: event.user, device: available.device };
        let (first, last) = self.0.entry(timeline).or_insert((available.start, available.start));
        *first = (*first).min(available.start);
        *last = (*last).max(available.start);
    }

    /// Waits until nothing of it is pending, window by window. `waiting` is told how many are, each time.
    ///
    /// # Errors
    /// The origin's.
    pub async fn wait(&self, origin: &Origin, mut waiting: impl FnMut(u64)) -> Result<Settled, PostError> {
        let mut total = Settled::default();
        for (timeline, (first, last)) in &self.0 {
            let mut start = *first;
            while start <= *last {
                let end = start.plus_ms(WINDOW_MS).min(*last);
                let settled = loop {
                    let settled = look(origin, timeline, start, end).await?;
                    let n_pending = settled.states.get("pending").copied().unwrap_or(0);
                    if n_pending == 0 {
                        break settled;
                    }
                    waiting(n_pending);
                    tokio::time::sleep(PAUSE).await;
                };
                total.add(settled);
                start = end.plus_ms(1);
            }
        }
        Ok(total)
    }
}

impl Settled {
    fn add(&mut self, other: Self) {
        for (state, count) in other.states {
            *self.states.entry(state).or_default() += count;
        }
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }
}

async fn look(origin: &Origin, timeline: &Timeline, start: Timestamp, end: Timestamp) -> Result<Settled, PostError> {
    let mut settled = Settled::default();
    for page in 1.. {
        let query = [
            ("user_id", timeline.user.to_string()),
            ("device_id", timeline.device.to_string()),
            ("start_timestamp", start.to_string()),
            ("end_timestamp", end.to_string()),
            ("page", page.to_string()),
            ("page_size", PAGE_SIZE.to_string()),
        ];
        let value = origin.get("v1/recordings", &query).await?;
        let listed = serde_json::from_value::<Page>(value);
        let listed = listed.map_err(|error| PostError::GivenUp(format!("the listing cannot be read: {error}")))?;
        let n_listed = listed.recordings.len() as u64;
        for one in listed.recordings {
            if one.state == "failed" {
                *settled.reasons.entry(one.reason.unwrap_or_default()).or_default() += 1;
            }
            *settled.states.entry(one.state).or_default() += 1;
        }
        if n_listed < PAGE_SIZE {
            break;
        }
    }
    Ok(settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read() {
        let text = "# TYPE stills_scans_total counter\n\
                    stills_scans_total{outcome=\"ok\"} 41\n\
                    stills_scans_total{outcome=\"unreadable\"} 2\n\
                    stills_renders_total{class=\"prerender\",outcome=\"ok\"} 7\n\
                    stills_renders_total{class=\"interactive\",outcome=\"ok\"} 3\n\
                    stills_renders_total{class=\"interactive\",outcome=\"deadline\"} 9\n\
                    stills_pipeline_backlog 5\nstills_cache_bytes x\n";
        assert_eq!(read_metrics(text), Made { indexed: 41, failed: 2, rendered: 10, backlog: 5 });
    }
}
