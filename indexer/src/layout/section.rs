//! `[media.layout.<name>]`: the settings of a layout, checked as a whole.

use regex::{Regex, RegexBuilder};

use super::local_time::{MOMENT_PARTS, RepeatedHour, TimeFormat, Zone, ZoneName};
use super::recorder::{self, RECORDERS, Recorder, USER_FOLDER};
use super::{Layout, Layouts};
use crate::config::settings::Section;

/// The largest compiled pattern.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// What a pattern may name beside the parts of a time.
const GROUPS: [&str; 6] = ["user_id", "device_id", "recording_id", "time", "end", "duration"];

impl Layouts {
    /// The table `layout` of `[media]`.
    pub(crate) fn read_settings(media: &Section<'_>) -> Self {
        Self(media.named("layout", |_, section| Layout::read_settings(section)))
    }
}

impl Layout {
    fn read_settings(section: &Section<'_>) -> Option<Self> {
        let names = RECORDERS.map(|recorder| format!("`{}`", recorder.name)).join(", ");
        let recorder_doc = format!("A ready pattern, instead of one's own: {names}.");
        let pattern_doc = "Regular expression over the whole path behind `url_prefix` (or behind the folder that backfill \
                           walks), with the groups `user_id`, `device_id`, and `time` or `year`, `month`, `day`, `hour`, \
                           `minute`, `second`, `fraction`; perhaps `end` or `duration` (seconds), and `recording_id`.";
        let format_doc = "How `time` and `end` are written: `epoch_ms`, `epoch_s`, or like `%Y-%m-%d_%H-%M-%S`.";
        let zone_doc = "The zone of the recorder's clock: `Europe/Berlin`, `UTC`, or a fixed `+01:00`. A name in the hour \
                        that summer time skips is refused.";
        let hour_doc =
            "Which instant is meant in the hour that summer time repeats; `written` goes by the file's time.";
        let prefix_doc = "Media URLs that begin with it are named like this, `s3://footage/`; absent: backfill only.";
        let hours =
            [("written", RepeatedHour::Written), ("earlier", RepeatedHour::Earlier), ("later", RepeatedHour::Later)];
        let recorder = section.optional::<Name>("recorder", &recorder_doc).map(|Name(recorder)| recorder);
        let pattern = section.optional::<Pattern>("pattern", pattern_doc);
        let format = section.optional::<TimeFormat>("time_format", format_doc);
        let zone = section.optional::<ZoneName>("time_zone", zone_doc);
        let repeated_hour = section.choice("repeated_hour", &hours, RepeatedHour::Written, hour_doc);
        let url_prefix = section.optional_text("url_prefix", prefix_doc);
        let user = section.optional("user_id", "Whose footage it is, where the pattern does not tell.");
        let device = section.optional("device_id", "Which device it is, where the pattern does not tell.");
        let devices = section.map("devices", "The recorder's names of its cameras, each with its device id.");
        if url_prefix.as_ref().is_some_and(|prefix| !prefix.contains("://") || !prefix.ends_with('/')) {
            section.fault("url_prefix", "must begin with a scheme and end with a slash, such as \"s3://footage/\"");
        }
        let pattern = match (pattern, recorder) {
            (Some(_), Some(_)) => {
                section.fault("recorder", "give either recorder or pattern, not both");
                return None;
            }
            (Some(Pattern(pattern)), None) => pattern,
            (None, Some(recorder)) => ready(recorder)?,
            (None, None) => {
                if !section.is_set("recorder") && !section.is_set("pattern") {
                    section.fault_of_section("recorder or pattern is missing");
                }
                return None;
            }
        };
        let ready_format = recorder.and_then(|recorder| recorder.time_format?.parse().ok());
        let ready_zone = recorder.and_then(|recorder| recorder.time_zone?.parse().ok());
        let time = time_format(section, &pattern, format.or(ready_format))?;
        let is_local = !matches!(time, TimeFormat::EpochMs | TimeFormat::EpochSeconds);
        let zone = zone.or(ready_zone).or_else(|| if is_local { None } else { "UTC".parse().ok() });
        if zone.is_none() && !section.is_set("time_zone") {
            section.fault("time_zone", "missing: names with local times need the zone of the recorder's clock");
        }
        let has = |name| pattern.capture_names().flatten().any(|group| group == name);
        for (key, is_given) in [("user_id", user.is_some()), ("device_id", device.is_some())] {
            if !is_given && !section.is_set(key) && !has(key) {
                section.fault(key, "missing: neither this setting nor the pattern tells it");
            }
        }
        let ZoneName(zone) = zone?;
        Some(Self { url_prefix, pattern, time, zone: Zone { zone, repeated_hour }, user, device, devices })
    }
}

fn ready(recorder: &Recorder) -> Option<Regex> {
    compiled(&format!("{USER_FOLDER}{}", recorder.pattern)).ok()
}

/// How the groups tell the time: a format for `time`, or parts.
fn time_format(section: &Section<'_>, pattern: &Regex, format: Option<TimeFormat>) -> Option<TimeFormat> {
    let has = |name: &str| pattern.capture_names().flatten().any(|group| group == name);
    let n_parts = MOMENT_PARTS.iter().filter(|part| has(part)).count();
    let is_complete = ["year", "month", "day", "hour"].iter().all(|part| has(part));
    match (format, has("time")) {
        (Some(format), true) if n_parts == 0 => Some(format),
        (None, false) if is_complete && !has("end") => Some(TimeFormat::Parts),
        (None, true) => {
            if !section.is_set("time_format") {
                section.fault("time_format", "missing: says how the group `time` is written");
            }
            None
        }
        _ => {
            let needed = "needs either the group `time` with a time_format, or the groups `year`, `month`, `day`, `hour` \
                          without one (and then `duration` instead of `end`)";
            section.fault("pattern", needed);
            None
        }
    }
}

/// A recorder by name.
struct Name(&'static Recorder);

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || RECORDERS.map(|recorder| format!("\"{}\"", recorder.name)).join(", ");
        recorder::named(text).map(Self).ok_or_else(|| format!("must be one of {}", names()))
    }
}

/// A pattern of one's own.
struct Pattern(Regex);

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pattern = compiled(text)?;
        let known = |name: &&str| GROUPS.contains(name) || MOMENT_PARTS.contains(name);
        match pattern.capture_names().flatten().find(|name| !known(name)) {
            Some(name) => {
                Err(format!("unknown group {name}; there are {}, {}", GROUPS.join(", "), MOMENT_PARTS.join(", ")))
            }
            None => Ok(Self(pattern)),
        }
    }
}

/// Matches the whole path or not at all.
fn compiled(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(&format!("^(?:{text})$")).size_limit(PATTERN_BYTES_MAX).build();
    built.map_err(|error| {
        let error = error.to_string();
        format!("not a regular expression: {}", error.lines().last().unwrap_or_default())
    })
}
