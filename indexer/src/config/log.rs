//! `[log]`: how much is told.

use tracing::Level;

use super::settings::Settings;

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// The least severe level that is written.
    pub level: Level,
}

impl Log {
    pub(super) fn read(settings: &Settings) -> Self {
        let levels = [
            ("error", Level::ERROR),
            ("warn", Level::WARN),
            ("info", Level::INFO),
            ("debug", Level::DEBUG),
            ("trace", Level::TRACE),
        ];
        let level_doc = "The least severe level that is written.";
        Self { level: settings.section("log").choice("level", &levels, Level::INFO, level_doc) }
    }
}
