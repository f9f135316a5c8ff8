//! `stills-indexer`: the write path alone, without serving. Arguments, configuration, logging, run, exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use stills_indexer::clock::Clock;
use stills_indexer::config::{self, Config, Program};
use stills_indexer::run::{Engine, RunError};
use stills_indexer::telemetry;
use tokio::signal::unix::{SignalKind, signal};

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
}

#[expect(clippy::print_stderr, reason = "faults go to the person who typed the command")]
fn main() -> ExitCode {
    let Command::Run { config: path } = Arguments::parse().command;
    let config = match Config::load(Program::Indexer, path.as_deref(), config::environment()) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(config::EXIT_CODE);
        }
    };
    telemetry::start(config.log.level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the indexer did not start");
            ExitCode::FAILURE
        }
    }
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
