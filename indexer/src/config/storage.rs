//! `[data]`, `[cache]`, `[retention]`: where things are kept, how much of them and how long.

use std::path::PathBuf;

use super::settings::Settings;

/// `[data]`
#[derive(Debug, Clone)]
pub struct Data {
    /// The directory of journal, catalog, cache and uploads; one owning process at a time.
    pub dir: PathBuf,
    /// Bytes that have to be free on its disk; with less, events are refused and nothing is rendered ahead.
    pub free_min: u64,
}

impl Data {
    pub(super) fn read(settings: &Settings) -> Self {
        let dir_doc = "The directory of journal, catalog, cache and uploads; one process owns it.";
        let free_doc = "What has to be free on its disk; with less, deletes are taken and other events refused.";
        let data = settings.section("data");
        let free_min = data.bytes("free_min", "256MiB", "0B"..="1TiB", free_doc);
        Self { dir: data.path("dir", "/var/lib/stills", dir_doc), free_min }
    }
}

/// `[cache]`: sizes in bytes.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Pictures on disk; beyond it whole volumes go, oldest first.
    pub max_bytes: u64,
    /// Pictures in memory.
    pub hot_bytes: u64,
    /// The size at which a volume is closed.
    pub volume_bytes: u64,
}

impl Cache {
    pub(super) fn read(settings: &Settings) -> Self {
        let cache = settings.section("cache");
        let volume_doc = "The size at which a volume is closed and the next begins.";
        let read = Self {
            max_bytes: cache.bytes("max_bytes", "20GiB", "4MiB"..="4096TiB", "The most pictures on disk."),
            hot_bytes: cache.bytes("hot_bytes", "256MiB", "0B"..="1TiB", "The most pictures in memory."),
            volume_bytes: cache.bytes("volume_bytes", "128MiB", "1MiB"..="1GiB", volume_doc),
        };
        // Eviction drops whole volumes, never the one that is written.
        if read.volume_bytes > read.max_bytes / 2 {
            cache.fault("volume_bytes", "must be at most half of max_bytes");
        }
        read
    }
}

/// `[retention]`
#[derive(Debug, Clone)]
pub struct Retention {
    /// The age in days at which a recording goes; absent: when an event says so.
    pub days: Option<u32>,
}

impl Retention {
    pub(super) fn read(settings: &Settings) -> Self {
        let days_doc = "The age in days at which recordings go; absent: only when an event says so.";
        Self { days: settings.section("retention").optional_integer("days", 1..=36_500, days_doc) }
    }
}
