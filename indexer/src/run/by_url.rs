//! What callers name by URL, built from `[fetch]` and `[jobs]`: pictures of clips, and jobs. Starts nothing.

use std::sync::Arc;

use super::{RunError, STORE_CALLS_MAX, credentials};
use crate::clips::{Clips, ClipsConfig};
use crate::clock::Clock;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::jobs::webhook::Webhooks;
use crate::jobs::{self, Jobs, JobsConfig};
use crate::journal::{Journal, JournalConfig};
use crate::metrics::Metrics;
use crate::source::client::{Client, Pace};
use crate::source::fetch::Fetch;
use crate::source::guard::Guard;
use crate::source::policy::MediaPolicy;
use crate::threads::Threads;

/// Threads for the results of jobs, which are written and read whole.
const JOB_THREADS: usize = 2;

fn fetch_policy(config: &Config) -> Result<MediaPolicy, RunError> {
    let allow_urls = config.fetch.allow_urls.iter().map(|pattern| pattern.as_str().to_owned()).collect();
    MediaPolicy::of_fetch(allow_urls).map_err(|faults| RunError::Policy(faults.join("; ")))
}

/// Reads what callers name: rules, networks and pace of `[fetch]`, never those of `[media]`.
pub(super) fn fetch(config: &Config, threads: Arc<Threads>) -> Result<Fetch, RunError> {
    let policy = fetch_policy(config)?;
    let guard = Guard::new(config.fetch.allow_networks.iter().map(|network| network.0).collect());
    let pace = Pace { rate_min: config.fetch.rate_min, ..Pace::default() };
    let client = Client::paced(guard, pace).map_err(RunError::Network)?;
    Ok(Fetch::new(policy, client, credentials(config)?, threads))
}

/// The limits of clips.
pub(super) fn clips_config(config: &Config) -> ClipsConfig {
    let fetch = &config.fetch;
    ClipsConfig {
        bytes_max: fetch.bytes_max,
        deadline: fetch.deadline,
        running_max: fetch.running_max,
        index_bytes_max: fetch.index_bytes_max,
        containers: fetch.formats.iter().copied().collect(),
    }
}

/// Jobs of this data directory, with a journal, threads and a client of their own.
pub(super) fn jobs(
    config: &Config,
    data: &DataDir,
    clips: &Clips,
    clock: &Clock,
    metrics: &Arc<Metrics>,
) -> Result<Jobs, RunError> {
    // Nothing of a job makes room on a full disk.
    let journal_config = JournalConfig { reserve_bytes: 0, ..JournalConfig::default() };
    let (journal, report) = Journal::open(&data.jobs().join("journal"), journal_config)?;
    tracing::info!(?report, "the journal of jobs is open");
    let guard = Guard::new(config.fetch.allow_networks.iter().map(|network| network.0).collect());
    let client = Client::new(guard).map_err(RunError::Network)?;
    let webhooks = Webhooks::new(fetch_policy(config)?, client, config.jobs.webhook_secrets.clone());
    let threads = Threads::start("jobs", JOB_THREADS, STORE_CALLS_MAX)?;
    let (clips, clock, metrics) = (clips.clone(), clock.clone(), Arc::clone(metrics));
    let parts = jobs::Parts { journal, clips, webhooks, threads, clock, metrics };
    let jobs = &config.jobs;
    let config = JobsConfig { result_retention: jobs.result_retention, running_max: jobs.running_max };
    Ok(Jobs::open(parts, config, &data.jobs().join("results"))?)
}
