//! `stills-origin`: arguments, configuration, logging, run, exit code. Nothing else.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use stills_indexer::clock::Clock;
use stills_indexer::config::{self, unit};
use stills_indexer::run::RunError;
use stills_indexer::telemetry;
use stills_model::id::{DeviceId, UserId};
use stills_origin::app::{self, AppError, Running};
use stills_origin::auth::{Minting, ScopeSet, mint};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Thumbnails of recorded footage: the HTTP origin.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve {
        /// The configuration file; conf.d/*.toml beside it and STILLS_… variables are read too.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Sign a token for development with the configured HS256 secret.
    Token {
        /// The configuration file.
        #[arg(long)]
        config: Option<PathBuf>,
        /// A user whose footage the token may touch; may be repeated.
        #[arg(long)]
        user_id: Vec<UserId>,
        /// A device the token is narrowed to; may be repeated.
        #[arg(long)]
        device_id: Vec<DeviceId>,
        /// What the token may do, separated by spaces.
        #[arg(long, default_value = "thumbnails:read recordings:read")]
        scope: String,
        /// How long it lives.
        #[arg(long, default_value = "1h", value_parser = duration)]
        ttl: Duration,
    },
    /// Check the configuration and name every fault; exit code 78 if there is one.
    CheckConfig {
        /// The configuration file.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    unit::parse_duration(text).ok_or("write a number with ms, s, m, h or d")
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve { config } => serve(config),
        Command::Token { config, user_id, device_id, scope, ttl } => token(
            config.as_deref(),
            Minting {
                users: user_id,
                devices: device_id,
                scopes: ScopeSet::from_text(&scope),
                ttl,
                ..Minting::default()
            },
        ),
        Command::CheckConfig { config } => check_config(config.as_deref()),
    }
}

#[expect(clippy::print_stderr, reason = "faults of a command go to the person who typed it")]
fn fail(error: &AppError) -> ExitCode {
    eprintln!("{error}");
    match error {
        AppError::Config(_) | AppError::Auth(_) | AppError::Run(RunError::Credentials(_)) => {
            ExitCode::from(config::EXIT_CODE)
        }
        _ => ExitCode::FAILURE,
    }
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn check_config(path: Option<&Path>) -> ExitCode {
    match app::load(path) {
        Ok(_) => {
            println!("the configuration is valid");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command's answer")]
fn token(path: Option<&Path>, minting: Minting) -> ExitCode {
    let config = match app::load(path) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    let Some((secret, claims, issuer, audience)) = app::minting(&config) else {
        eprintln!("tokens are signed here only with auth.hs256_secret_file; another key is configured");
        return ExitCode::FAILURE;
    };
    match mint(&secret, &Minting { claims, issuer, audience, ..minting }, Clock::system().now()) {
        Ok(token) => {
            println!("{token}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn serve(path: Option<PathBuf>) -> ExitCode {
    let config = match app::load(path.as_deref()) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    telemetry::start(config.log.level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(config, path));
    // Whatever still blocks a thread (a replay that was interrupted) is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the server did not start");
            fail(&error)
        }
    }
}

async fn run(config: config::Config, path: Option<PathBuf>) -> Result<(), AppError> {
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = signals else {
        return Err(AppError::Run(std::io::Error::other("signals cannot be received").into()));
    };
    let running = tokio::select! {
        running = Running::start(config, path) => running?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => running.reload(),
        }
    }
    tracing::info!("stopping");
    tokio::select! {
        () = running.stop() => tracing::info!("stopped"),
        _ = terminate.recv() => tracing::warn!("stopped at once by a second signal"),
        _ = interrupt.recv() => tracing::warn!("stopped at once by a second signal"),
    }
    Ok(())
}
