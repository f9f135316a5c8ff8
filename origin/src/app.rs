//! The composition root of the origin: builds every part from the configuration, serves, reloads, stops.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use stills_indexer::clock::Clock;
use stills_indexer::config::auth::{ScopeName, TokenKey};
use stills_indexer::config::{self, Config, Faults, Program};
use stills_indexer::run::{self, Engine, RunError};
use thiserror::Error;

use crate::auth::{Auth, AuthConfig, ClaimPointers, ConfigFault, ScopeSet, Secret, SecretSource};
use crate::compat::{jobs, kinesis};
use crate::server::{Limits, Server};
use crate::{ops, serve};

/// The version in metrics and the OpenAPI document.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is left of admin requests once nothing else runs; their answers take no time.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// The server could not be started.
#[derive(Debug, Error)]
pub enum AppError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(Faults),
    /// A key of `[auth]` cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Auth(Vec<ConfigFault>),
    /// A part behind the HTTP failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An address cannot be bound.
    #[error("{setting} = {address} cannot be bound: {error}")]
    Bind {
        /// The setting.
        setting: &'static str,
        /// Its value.
        address: std::net::SocketAddr,
        /// The system's reason.
        error: std::io::Error,
    },
}

/// What handlers work with.
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) auth: Auth,
    pub(crate) kinesis: kinesis::Room,
    config: ArcSwap<Config>,
    is_draining: AtomicBool,
    request_ids: AtomicU64,
    /// Tells request ids of this run from those of others.
    run_id: u32,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl App {
    /// The configuration in force; SIGHUP may replace it between two calls.
    pub(crate) fn config(&self) -> arc_swap::Guard<Arc<Config>> {
        self.config.load()
    }

    /// Whether the server is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// An id that no other request of this server has.
    pub(crate) fn next_request_id(&self) -> String {
        format!("{:08x}-{:08x}", self.run_id, self.request_ids.fetch_add(1, Ordering::Relaxed))
    }
}

/// The part of the configuration that decides who may do what.
fn auth_config(config: &Config) -> AuthConfig {
    let auth = &config.auth;
    let claims = ClaimPointers {
        user: auth.claims.user.to_string(),
        device: auth.claims.device.to_string(),
        scope: auth.claims.scope.to_string(),
    };
    let secret = |secret: &config::Secret| Secret::new(secret.expose());
    let scopes: Vec<&str> = auth.default_scopes.iter().map(ScopeName::as_str).collect();
    let mut built = AuthConfig {
        issuer: auth.issuer.clone(),
        audience: auth.audience.clone(),
        cache_ttl: auth.cache_ttl,
        default_scopes: ScopeSet::from_text(&scopes.join(" ")),
        claims,
        signing_keys: auth
            .signing_keys
            .iter()
            .map(|(id, key)| (id.clone(), SecretSource::Value(secret(key))))
            .collect(),
        signing_current: auth.signing_current.clone(),
        signed_ttl: auth.signed_ttl,
        signed_max_age: auth.signed_max_age,
        ..AuthConfig::default()
    };
    match &auth.key {
        Some(TokenKey::Secret(key)) => built.hs256_secret = Some(secret(key)),
        Some(TokenKey::PublicKey(file)) => built.public_key_file = Some(file.path.clone()),
        Some(TokenKey::JwksFile(file)) => built.jwks_file = Some(file.path.clone()),
        Some(TokenKey::JwksUrl(url)) => built.jwks_url = Some(url.to_string()),
        None => {}
    }
    built
}

/// A configuration that the loader and the key parser both accept.
///
/// # Errors
/// Every fault of whichever finds some first.
pub fn load(path: Option<&std::path::Path>) -> Result<Config, AppError> {
    let config = Config::load(Program::Origin, path, config::environment()).map_err(AppError::Config)?;
    Auth::new(&auth_config(&config), Clock::system()).map_err(AppError::Auth)?;
    run::credentials(&config)?;
    Ok(config)
}

/// What `stills-origin token` signs with: the configured secret and where claims stand.
pub fn minting(config: &Config) -> Option<(Secret, ClaimPointers, Option<String>, Option<String>)> {
    let built = auth_config(config);
    Some((built.hs256_secret?, built.claims, built.issuer, built.audience))
}

/// A running server.
#[derive(Debug)]
pub struct Running {
    app: Arc<App>,
    public: Server,
    admin: Server,
    path: Option<PathBuf>,
}

impl Running {
    /// Starts everything behind the HTTP, then listens.
    ///
    /// # Errors
    /// [`AppError`] names what failed; nothing is left running.
    pub async fn start(config: Config, path: Option<PathBuf>) -> Result<Self, AppError> {
        let clock = Clock::system();
        let auth = Auth::new(&auth_config(&config), clock.clone()).map_err(AppError::Auth)?;
        let mut engine = Engine::start(&config, clock.clone(), VERSION).await?;
        let host = config.public.host.as_str().to_owned();
        engine.start_jobs(Arc::new(move |job| jobs::envelope::done(&host, job).to_string()));
        let run_id = u32::try_from(clock.now().as_ms() & 0xffff_ffff).unwrap_or(0) ^ std::process::id();
        let (http, is_draining, request_ids) = (config.http.clone(), AtomicBool::new(false), AtomicU64::new(0));
        let config = ArcSwap::from_pointee(config);
        let kinesis = kinesis::Room::new();
        let app = Arc::new(App { engine, auth, kinesis, config, is_draining, request_ids, run_id });
        let limits = Limits {
            connections_max: http.connections_max,
            header_timeout: http.header_timeout,
            header_bytes_max: http.header_bytes_max,
        };
        let bound = |setting, address| move |error| AppError::Bind { setting, address, error };
        let serve_admin = {
            let app = Arc::clone(&app);
            move |request: http::Request<hyper::body::Incoming>| {
                let app = Arc::clone(&app);
                async move { ops::serve(&app, &request.into_parts().0).await }
            }
        };
        let admin = Server::start(http.admin_listen, limits, serve_admin).await;
        let admin = admin.map_err(bound("http.admin_listen", http.admin_listen))?;
        let serve_public = {
            let app = Arc::clone(&app);
            move |request| {
                let app = Arc::clone(&app);
                async move { serve::public(&app, request).await }
            }
        };
        let public = Server::start(http.listen, limits, serve_public).await;
        let public = public.map_err(bound("http.listen", http.listen))?;
        app.engine.note_admin(admin.address);
        tracing::info!(listen = %public.address, admin_listen = %admin.address, "listening");
        Ok(Self { app, public, admin, path })
    }

    /// Reads the configuration again and takes keys, credentials, origins and retention from it. A faulty one
    /// changes nothing.
    pub fn reload(&self) {
        let fresh = match Config::load(Program::Origin, self.path.as_deref(), config::environment()) {
            Ok(fresh) => fresh,
            Err(faults) => return tracing::error!(%faults, "the configuration is faulty; the old one stays in force"),
        };
        let refuse_keys = |faults: Vec<ConfigFault>| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            tracing::error!(faults = faults.join("; "), "the keys are faulty; the old configuration stays in force");
        };
        // Both are checked before either is taken.
        if let Err(faults) = Auth::new(&auth_config(&fresh), Clock::system()) {
            return refuse_keys(faults);
        }
        if let Err(error) = self.app.engine.set_credentials(&fresh) {
            return tracing::error!(%error, "the credentials are faulty; the old configuration stays in force");
        }
        if let Err(faults) = self.app.auth.reload(&auth_config(&fresh)) {
            return refuse_keys(faults);
        }
        self.app.engine.jobs.set_retention(fresh.jobs.result_retention);
        self.app.engine.jobs.set_webhook_secrets(fresh.jobs.webhook_secrets.clone());
        self.app.engine.pipeline.set_retention_days(fresh.retention.days.unwrap_or(0));
        // What was bound, opened or started by the old one stays as it is until a restart.
        let kept = Config {
            auth: fresh.auth,
            credentials: fresh.credentials,
            retention: fresh.retention,
            cors: fresh.cors,
            jobs: fresh.jobs,
            kinesis: fresh.kinesis,
            ..(**self.app.config()).clone()
        };
        self.app.config.store(Arc::new(kept));
        tracing::info!("the configuration was read again");
    }

    /// Stops: readiness fails, listening stops, requests in flight finish, state is flushed.
    pub async fn stop(self) {
        self.app.is_draining.store(true, Ordering::Relaxed);
        let grace = self.app.config().http.drain;
        self.public.drain(grace).await;
        self.admin.drain(ADMIN_DRAIN).await;
        match Arc::try_unwrap(self.app) {
            Ok(app) => app.engine.stop().await,
            // Only a bug: every connection has ended. The journal is durable without any flushing.
            Err(_) => tracing::error!("stopped with requests still running; the catalog is not flushed"),
        }
    }
}
