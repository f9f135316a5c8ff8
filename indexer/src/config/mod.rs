//! The configuration: one file, `conf.d` beside it, the environment; checked as a whole before anything starts.
//!
//! 1. [`tree`] gathers what was given, each value with its origin;
//! 2. each section reads its own settings ([`http`], [`auth`], …) through the getters of [`values`];
//! 3. [`settings::Settings::finish`] tells every fault at once, unknown settings too.
//!
//! This file only composes. To add a section: a struct with a `read` in a file of its own, a field here, and
//! `UPDATE_REFERENCE=1 cargo test -p stills-indexer reference`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;

pub mod auth;
pub mod decoders;
pub mod fault;
pub mod http;
pub mod jobs;
pub mod log;
pub mod media;
pub mod pictures;
mod reference;
pub mod secret;
pub mod settings;
pub mod storage;
mod tree;
pub mod unit;
pub mod values;

pub use fault::{Fault, Faults};
pub use secret::Secret;
pub use tree::DEFAULT_PATH;

use settings::Settings;

/// The exit code of a program whose configuration is wrong (`EX_CONFIG`).
pub const EXIT_CODE: u8 = 78;

/// Who reads the configuration; it decides what must be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The server: it cannot be without a key for tokens.
    Origin,
    /// The indexer alone.
    Indexer,
}

/// All settings, checked. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is the section of its name")]
pub struct Config {
    pub http: http::Http,
    pub public: http::Public,
    pub auth: auth::Auth,
    pub data: storage::Data,
    pub cache: storage::Cache,
    pub retention: storage::Retention,
    pub prerender: pictures::Prerender,
    pub search: pictures::Search,
    pub coverage: pictures::Coverage,
    pub media: media::Media,
    pub fetch: media::Fetch,
    pub credentials: BTreeMap<String, media::Credential>,
    pub decoders: decoders::Decoders,
    pub cors: http::Cors,
    pub jobs: jobs::Jobs,
    pub kinesis: jobs::Kinesis,
    pub images: pictures::Images,
    pub log: log::Log,
}

impl Config {
    /// Reads and checks everything: `path` as given with `--config` (it must exist) or the default file (it may be
    /// missing), `conf.d/*.toml` beside it, and the environment ([`environment`], or a test's own).
    pub fn load(
        program: Program,
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Faults> {
        let settings = Settings::load(path, environment);
        let config = Self::read(program, &settings);
        settings.finish().map(|()| config)
    }

    fn read(program: Program, settings: &Settings) -> Self {
        Self {
            http: http::Http::read(settings),
            public: http::Public::read(settings),
            auth: auth::Auth::read(settings, program == Program::Origin),
            data: storage::Data::read(settings),
            cache: storage::Cache::read(settings),
            retention: storage::Retention::read(settings),
            prerender: pictures::Prerender::read(settings),
            search: pictures::Search::read(settings),
            coverage: pictures::Coverage::read(settings),
            media: media::Media::read(settings),
            fetch: media::Fetch::read(settings),
            credentials: media::credentials(settings),
            decoders: decoders::Decoders::read(settings),
            cors: http::Cors::read(settings),
            jobs: jobs::Jobs::read(settings),
            kinesis: jobs::Kinesis::read(settings),
            images: pictures::Images::read(settings),
            log: log::Log::read(settings),
        }
    }

    /// All settings with their defaults and meanings, as Markdown.
    pub fn reference() -> String {
        let settings = Settings::describing();
        Self::read(Program::Indexer, &settings);
        settings.reference()
    }
}

/// The environment as the loader takes it; what is not UTF-8 is no setting of ours.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |value: OsString| value.into_string().ok();
    std::env::vars_os().filter_map(move |(name, value)| Some((text(name)?, text(value)?)))
}

/// Checks a configuration and writes every fault on a line of its own. The program's exit code: 0 or [`EXIT_CODE`].
pub fn check(
    program: Program,
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    out: &mut impl io::Write,
) -> io::Result<u8> {
    match Config::load(program, path, environment) {
        Ok(_) => writeln!(out, "the configuration is valid").map(|()| 0),
        Err(faults) => writeln!(out, "{faults}").map(|()| EXIT_CODE),
    }
}

#[cfg(test)]
mod tests;
