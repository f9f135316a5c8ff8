//! Ready patterns: how recorders that many people run name their files when nothing else is configured.
//!
//! Each is relative to the recorder's own folder of recordings, and may be preceded by a folder per user whose name
//! is the user's id. The camera is the folder's name; `devices` of the layout says which device that is.

/// What a layout takes from `recorder = "…"`.
#[derive(Debug)]
pub(super) struct Recorder {
    /// As written in the setting.
    pub(super) name: &'static str,
    /// Behind an optional folder per user.
    pub(super) pattern: &'static str,
    /// How the group `time` is written; absent where the parts have groups of their own.
    pub(super) time_format: Option<&'static str>,
    /// The zone where the recorder always writes in one; absent: the machine's, which only the operator knows.
    pub(super) time_zone: Option<&'static str>,
}

/// A folder per user, where there is one.
pub(super) const USER_FOLDER: &str = "(?:(?P<user_id>[0-9a-fA-F]{24})/)?";

pub(super) const RECORDERS: [Recorder; 4] = [
    // Frigate 0.12 and later: recordings/YYYY-MM-DD/HH/{camera}/MM.SS.mp4, in UTC.
    Recorder {
        name: "frigate",
        pattern: r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})/(?P<hour>\d{2})/(?P<device_id>[^/]+)/(?P<minute>\d{2})\.(?P<second>\d{2})\.mp4",
        time_format: None,
        time_zone: Some("UTC"),
    },
    // MediaMTX: recordings/%path/%Y-%m-%d_%H-%M-%S-%f, in the machine's zone; a path may have slashes.
    Recorder {
        name: "mediamtx",
        pattern: r"(?P<device_id>.+)/(?P<time>\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}-\d{6})\.(?:mp4|ts)",
        time_format: Some("%Y-%m-%d_%H-%M-%S-%f"),
        time_zone: None,
    },
    // {camera}/YYYY/MM/DD/HH-MM-SS.mp4, what many scripts around FFmpeg write; `.`, `_`, `:` and nothing do for `-`.
    Recorder {
        name: "folders",
        pattern: r"(?P<device_id>[^/]+)/(?P<year>\d{4})/(?P<month>\d{2})/(?P<day>\d{2})/(?P<hour>\d{2})[-._:]?(?P<minute>\d{2})[-._:]?(?P<second>\d{2})\.(?:mp4|m4v|mov|mkv|ts|webm|avi)",
        time_format: None,
        time_zone: None,
    },
    // {device}/{milliseconds since 1970}.mp4.
    Recorder {
        name: "epoch",
        pattern: r"(?P<device_id>[^/]+)/(?P<time>\d{12,14})\.(?:mp4|m4v|mov|mkv|ts|webm|avi)",
        time_format: Some("epoch_ms"),
        time_zone: Some("UTC"),
    },
];

/// The recorder of that name.
pub(super) fn named(name: &str) -> Option<&'static Recorder> {
    RECORDERS.iter().find(|recorder| recorder.name == name)
}
