//! `stills-indexer`: the write path alone, without serving, and commands about what is stored. Arguments, configuration, logging, run, exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use stills_indexer::backfill::arguments::{BackfillArguments, WatchArguments};
use stills_indexer::backfill::run as backfill;
use stills_indexer::backfill::watch::{self as watching, WatchError};
use stills_indexer::clock::Clock;
use stills_indexer::config::{self, Config, Program};
use stills_indexer::maintain::arguments::{CheckArguments, FailuresArguments, RebuildArguments};
use stills_indexer::maintain::command::{self as maintain, Ended};
use stills_indexer::run::{Engine, RunError};
use stills_indexer::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The exit code of a run that a signal stopped and that can go on.
const EXIT_STOPPED: u8 = 130;

/// Thumbnails of recorded footage: the indexer alone.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Index and pre-render what the data directory has pending; no server may run on it at the same time.
    Run {
        /// The configuration file; conf.d/*.toml beside it and STILLS_… variables are read too.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Tell an origin of footage that is there already. Exit code 0: all taken, 1: some was not, 130: stopped.
    Backfill(BackfillArguments),
    /// Read everything that is stored and compare it, on the server that runs on the data or on the data itself.
    /// Exit code 0: nothing is wrong, 1: something is, 3: it could not be done.
    Check(CheckArguments),
    /// Make catalog and cache index anew from the journal and the stored pictures; media is not read again.
    /// Exit code 0: done, 1: done, and the journal is damaged, 3: it could not be done.
    Rebuild(RebuildArguments),
    /// List recordings that could not be indexed, with reasons, or have them scanned again.
    /// Exit code 0: there is none, or they are scanned again, 1: there are some, 3: it could not be done.
    Failures(FailuresArguments),
    /// Tell an origin of footage as a recorder writes and removes it, until stopped.
    Watch(WatchArguments),
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no runtime: {error}")),
    };
    match command {
        Command::Run { config } => configured(config.as_deref(), |config| {
            telemetry::start(config.log.level);
            runtime.block_on(run(config)).map(|()| ExitCode::SUCCESS).unwrap_or_else(|error| {
                tracing::error!(%error, "the indexer did not start");
                ExitCode::FAILURE
            })
        }),
        Command::Backfill(arguments) => configured(arguments.origin.config.as_deref(), |config| {
            runtime.block_on(run_backfill(&arguments, config)).unwrap_or_else(|error| failed(&error.to_string()))
        }),
        Command::Check(CheckArguments { config, deleted }) => configured(config.as_deref(), |config| {
            let (out, errors) = (&mut std::io::stdout(), &mut std::io::stderr());
            ended(runtime.block_on(maintain::check(config, deleted, out, errors)))
        }),
        Command::Rebuild(RebuildArguments { config }) => configured(config.as_deref(), |config| {
            let (out, errors) = (&mut std::io::stdout(), &mut std::io::stderr());
            ended(runtime.block_on(maintain::rebuild(config, out, errors)))
        }),
        Command::Failures(FailuresArguments { config, retry }) => configured(config.as_deref(), |config| {
            let (out, errors) = (&mut std::io::stdout(), &mut std::io::stderr());
            ended(runtime.block_on(maintain::failures(config, retry, out, errors)))
        }),
        Command::Watch(arguments) => configured(arguments.origin.config.as_deref(), |config| {
            telemetry::start(config.log.level);
            let watched = runtime.block_on(run_watch(&arguments, config));
            watched.map(|()| ExitCode::SUCCESS).unwrap_or_else(|error| failed(&error.to_string()))
        }),
    }
}

/// Reads the configuration for a command, or tells all that is wrong with it.
#[expect(clippy::print_stderr, reason = "faults go to the person who typed the command")]
fn configured(path: Option<&Path>, run: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    match Config::load(Program::Indexer, path, config::environment()) {
        Ok(config) => run(&config),
        Err(faults) => {
            eprintln!("{faults}");
            ExitCode::from(config::EXIT_CODE)
        }
    }
}

#[expect(clippy::print_stderr, reason = "faults go to the person who typed the command")]
fn failed(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}

fn ended(ended: Ended) -> ExitCode {
    ExitCode::from(ended as u8)
}

async fn run(config: &Config) -> Result<(), RunError> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let engine = Engine::start(config, Clock::system(), env!("CARGO_PKG_VERSION")).await?;
    tracing::info!("running");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    engine.stop().await;
    tracing::info!("stopped");
    Ok(())
}

async fn run_backfill(arguments: &BackfillArguments, config: &Config) -> Result<ExitCode, backfill::BackfillError> {
    let stop = stop_signal()?;
    let summary = backfill::run(arguments, config, &Clock::system(), stop).await?;
    match arguments.dry_run {
        // Its standard output is the events alone.
        true => backfill::report(&summary, std::io::stderr())?,
        false => backfill::report(&summary, std::io::stdout())?,
    }
    Ok(match summary.is_stopped {
        true => ExitCode::from(EXIT_STOPPED),
        false if summary.is_clean() => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn run_watch(arguments: &WatchArguments, config: &Config) -> Result<(), WatchError> {
    let stop = stop_signal()?;
    watching::run(arguments, &config.media.layouts, &Clock::system(), stop).await
}

/// Becomes true with the first signal; a second one ends the program at once.
fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        for is_second in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if is_second {
                std::process::exit(EXIT_STOPPED.into());
            }
            let _ = sender.send(true);
        }
    });
    Ok(receiver)
}
