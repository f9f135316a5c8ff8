//! What is typed behind `stills-indexer check`, `rebuild` and `failures`.

use std::path::PathBuf;

use clap::Args;

/// `stills-indexer rebuild`
#[derive(Debug, Clone, Args)]
pub struct RebuildArguments {
    /// The configuration file; it names the data directory.
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// `stills-indexer check`
#[derive(Debug, Clone, Args)]
pub struct CheckArguments {
    /// The configuration file; it names the data directory.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Judge only whether a byte of a deleted recording's pictures is left.
    #[arg(long)]
    pub deleted: bool,
}

/// `stills-indexer failures`
#[derive(Debug, Clone, Args)]
pub struct FailuresArguments {
    /// The configuration file; it names the data directory.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Scan them again: at once where a server runs, else at the next start.
    #[arg(long)]
    pub retry: bool,
}
