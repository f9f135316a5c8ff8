//! What is typed behind `stills-indexer backfill` and `watch`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::walk::Order;
use crate::config::unit::parse_duration;

/// Where events go, and with which right.
#[derive(Debug, Clone, Args)]
pub struct OriginArguments {
    /// The configuration file; only its [media.layout] counts here. conf.d/*.toml beside it and STILLS_… variables too.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The origin that is told.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub origin: String,
    /// A file with a bearer token that may write recordings (and read them, for --wait); read for each request.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Only this layout of [media.layout]; otherwise the first that matches, by name.
    #[arg(long, value_name = "NAME")]
    pub layout: Option<String>,
    /// Where to remember how far it came; otherwise a file of its own in $XDG_STATE_HOME/stills.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// What the origin calls the folder, where that is not its own path: file:///srv/recordings/
    #[arg(long, value_name = "URL")]
    pub media_url: Option<String>,
    /// A file that was not written for this long is complete.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub settled: Duration,
}

/// `stills-indexer backfill`
#[derive(Debug, Clone, Args)]
pub struct BackfillArguments {
    /// Folders with footage.
    #[arg(required = true, value_name = "PLACE")]
    pub places: Vec<String>,
    /// Where events go.
    #[command(flatten)]
    pub origin: OriginArguments,
    /// In which order names are walked, directory by directory.
    #[arg(long, value_enum, default_value = "newest")]
    pub order: Order,
    /// List what would be sent and what does not match; send nothing, remember nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Forget how far an earlier run came.
    #[arg(long)]
    pub restart: bool,
    /// Wait until the origin has indexed what it was told.
    #[arg(long)]
    pub wait: bool,
    /// The origin's admin listener, to show what is indexed and rendered meanwhile.
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
}

/// `stills-indexer watch`
#[derive(Debug, Clone, Args)]
pub struct WatchArguments {
    /// The folder that a recorder writes to.
    #[arg(value_name = "DIR")]
    pub place: String,
    /// Where events go.
    #[command(flatten)]
    pub origin: OriginArguments,
    /// How often a file that is being written is told anew.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub growing_every: Duration,
    /// Look at everything this often instead of listening to the kernel; always so, every 5s, on network mounts.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub poll: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "must be a duration such as 500ms, 10s or 5m".to_owned())
}
