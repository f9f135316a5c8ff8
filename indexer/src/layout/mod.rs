//! Whose recording a file or object is, and when it begins, told from its name alone: `[media.layout.<name>]`.
//!
//! 1. [`Layouts`] finds the layouts that are in charge of a media URL (`url_prefix`), and cuts the prefix off;
//! 2. [`Layout::read`] matches the rest, percent-decoded, as a whole against the pattern with its named groups;
//! 3. [`local_time`] makes an instant of the time groups, in the layout's time zone;
//! 4. [`recording_id`] makes a stable id of the path: the same file has the same id whoever announces it.
//!
//! Ready patterns are in [`recorder`], the settings in [`section`]. Nothing here opens a file or reads a clock.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use regex::{Captures, Regex};
use stills_model::id::{DeviceId, RecordingId, UserId};
use stills_model::time::Timestamp;
use thiserror::Error;

pub mod local_time;
mod recorder;
mod recording_id;
mod section;
pub mod spelling;

use local_time::{TimeFormat, Zone};

/// How the files of one recorder are named.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Media URLs that begin with it are named like this; absent: whatever folder backfill is given.
    pub url_prefix: Option<String>,
    /// Matches the whole path behind the prefix.
    pattern: Regex,
    time: TimeFormat,
    zone: Zone,
    /// Whose footage it is where the pattern does not tell.
    user: Option<UserId>,
    /// Which camera it is where the pattern does not tell.
    device: Option<DeviceId>,
    /// The recorder's names of its cameras.
    devices: BTreeMap<String, DeviceId>,
}

/// What a name tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Whose footage it is.
    pub user: UserId,
    /// Which camera.
    pub device: DeviceId,
    /// Stable: derived from the path behind the prefix.
    pub recording: RecordingId,
    /// When it begins.
    pub start: Timestamp,
    /// When it ends, where the name says so.
    pub end: Option<Timestamp>,
}

/// A name does not tell what is needed; the text is public.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unnamed {
    /// No layout is in charge, or no pattern matches: most likely not a recording at all.
    #[error("matches no pattern of media.layout")]
    NoMatch,
    /// A pattern matches and what its groups hold is wrong.
    #[error("[media.layout.{layout}] {detail}")]
    Wrong {
        /// The layout's name.
        layout: String,
        /// Which group, and what is allowed.
        detail: String,
    },
}

/// All layouts by name.
#[derive(Debug, Clone, Default)]
pub struct Layouts(pub BTreeMap<String, Layout>);

impl Layouts {
    /// The layouts without all but one of them.
    pub fn only(&self, name: &str) -> Option<Self> {
        self.0.get(name).map(|layout| Self(BTreeMap::from([(name.to_owned(), layout.clone())])))
    }

    /// Whether a layout is in charge of this URL by its `url_prefix`.
    pub fn covers(&self, url: &str) -> bool {
        self.0.values().any(|layout| layout.url_prefix.as_ref().is_some_and(|prefix| url.starts_with(prefix.as_str())))
    }

    /// Reads a media URL. Layouts are tried in the order of their names; the first that matches counts.
    ///
    /// `place_url` is what layouts without an `url_prefix` are relative to, ending in `/`; without one they are not
    /// tried. `written` is when the file was last written: it tells which of two equal local times is meant.
    ///
    /// # Errors
    /// [`Unnamed`].
    pub fn read(&self, url: &str, place_url: Option<&str>, written: Option<Timestamp>) -> Result<Named, Unnamed> {
        for (name, layout) in &self.0 {
            let prefix = layout.url_prefix.as_deref().or(place_url);
            let Some(rest) = prefix.and_then(|prefix| url.strip_prefix(prefix)) else { continue };
            let Ok(path) = percent_decode_str(rest).decode_utf8() else { continue };
            if let Some(outcome) = layout.read(path.trim_start_matches('/'), written) {
                return outcome.map_err(|detail| Unnamed::Wrong { layout: name.clone(), detail });
            }
        }
        Err(Unnamed::NoMatch)
    }
}

impl Layout {
    /// Reads a path, decoded and relative to the prefix; nothing when the pattern does not match.
    fn read(&self, path: &str, written: Option<Timestamp>) -> Option<Result<Named, String>> {
        let groups = self.pattern.captures(path)?;
        Some(self.named(path, &groups, written))
    }

    fn named(&self, path: &str, groups: &Captures<'_>, written: Option<Timestamp>) -> Result<Named, String> {
        let group = |name: &str| groups.name(name).map(|found| found.as_str());
        let user = match group("user_id") {
            Some(text) => text.parse().map_err(|wrong| format!("user_id {text:?} {wrong}"))?,
            None => self.user.ok_or("the name tells no user_id, and the layout has none")?,
        };
        let device = match group("device_id") {
            Some(text) => self.device_named(text)?,
            None => self.device.ok_or("the name tells no device_id, and the layout has none")?,
        };
        let recording = match group("recording_id") {
            Some(text) => text.parse().map_err(|wrong| format!("recording_id {text:?} {wrong}"))?,
            None => recording_id::of_path(path),
        };
        let start = self.time.start(groups, &self.zone, written)?;
        let end = self.time.end(groups, &self.zone, start)?;
        Ok(Named { user, device, recording, start, end })
    }

    fn device_named(&self, text: &str) -> Result<DeviceId, String> {
        match self.devices.get(text) {
            Some(device) => Ok(*device),
            None => {
                text.parse().map_err(|_| format!("device {text:?} is neither in `devices` nor 24 hexadecimal digits"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
