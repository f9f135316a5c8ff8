//! `[prerender]`, `[search]`, `[coverage]`, `[images]`: which pictures are made ahead and how they are listed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use stills_model::id::UserId;
use stills_model::rendition::Rendition;

use super::settings::Settings;
use super::unit::parse_duration;

/// `[prerender]`
#[derive(Debug, Clone)]
pub struct Prerender {
    /// Which keyframes are rendered ahead.
    pub interval: PrerenderInterval,
    /// In which renditions.
    pub renditions: Vec<Rendition>,
    /// When, for all users but those in `users`.
    pub policy: PrerenderPolicy,
    /// When, for single users.
    pub users: BTreeMap<UserId, PrerenderPolicy>,
}

/// When a user's pictures are rendered ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrerenderPolicy {
    /// As soon as a recording is indexed; and what a search lists.
    All,
    /// What a search lists: somebody is about to look at it.
    Viewed,
    /// Never: when a picture is asked for.
    None,
}

impl std::str::FromStr for PrerenderPolicy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "all" => Ok(Self::All),
            "viewed" => Ok(Self::Viewed),
            "none" => Ok(Self::None),
            _ => Err("must be \"all\", \"viewed\" or \"none\""),
        }
    }
}

impl fmt::Display for PrerenderPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Viewed => "viewed",
            Self::None => "none",
        })
    }
}

impl Prerender {
    pub(super) fn read(settings: &Settings) -> Self {
        let prerender = settings.section("prerender");
        let default = PrerenderInterval::Every(Duration::from_secs(10));
        let interval_doc = "Which keyframes are rendered ahead: one per 1s to 1d, `every-keyframe`, or `off`.";
        let renditions_doc = "The sizes that are rendered ahead, 1 to 640 by 1 to 480.";
        let policy_doc = "When: `all` as soon as it is indexed (an edge where a recording may follow 10 min later), `viewed` when a search lists it, `none` when it is asked for.";
        let users_doc = "User id to the policy for that user, where it differs.";
        let named: BTreeMap<String, PrerenderPolicy> = prerender.map("users", users_doc);
        let mut users = BTreeMap::new();
        for (id, policy) in named {
            match id.parse::<UserId>() {
                Ok(user) => drop(users.insert(user, policy)),
                Err(_) => prerender.fault("users", "its keys must be user ids, 24 hexadecimal digits each"),
            }
        }
        Self {
            policy: prerender.parsed("policy", PrerenderPolicy::All, policy_doc),
            users,
            interval: prerender.parsed("interval", default, interval_doc),
            renditions: prerender.list("renditions", &["320x240"], 16, renditions_doc),
        }
    }
}

/// Which keyframes are rendered ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrerenderInterval {
    /// None.
    Off,
    /// All.
    EveryKeyframe,
    /// Those that the frame rule gives at epoch-aligned multiples of this.
    Every(Duration),
}

impl fmt::Display for PrerenderInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::EveryKeyframe => f.write_str("every-keyframe"),
            Self::Every(interval) if interval.subsec_millis() == 0 => write!(f, "{}s", interval.as_secs()),
            Self::Every(interval) => write!(f, "{}ms", interval.as_millis()),
        }
    }
}

impl std::str::FromStr for PrerenderInterval {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
        match text {
            "off" => Ok(Self::Off),
            "every-keyframe" => Ok(Self::EveryKeyframe),
            _ => parse_duration(text)
                .filter(|interval| range.contains(interval))
                .map(Self::Every)
                .ok_or("must be a duration from 1s to 1d, or \"every-keyframe\", or \"off\""),
        }
    }
}

/// `[search]`: what a request's own parameters override.
#[derive(Debug, Clone)]
pub struct Search {
    /// The form of listed URLs.
    pub urls: SearchUrls,
    /// Whether listed URLs name the nearest anchor.
    pub snap: Snap,
}

/// The form of listed URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchUrls {
    /// Start and end as the request has them.
    Request,
    /// Start and end of the keyframe's day: one URL per picture.
    Shared,
}

/// Which keyframe a listed URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snap {
    /// The one nearest to the instant.
    Off,
    /// The anchor nearest to the instant.
    Anchors,
}

impl Search {
    pub(super) fn read(settings: &Settings) -> Self {
        let search = settings.section("search");
        let urls = [("request", SearchUrls::Request), ("shared", SearchUrls::Shared)];
        let urls_doc = "URLs with the request's start and end, or one URL per picture that all windows share.";
        let snap_doc = "Whether listed URLs name the nearest prerendered picture instead of the nearest keyframe.";
        Self {
            urls: search.choice("urls", &urls, SearchUrls::Request, urls_doc),
            snap: search.choice("snap", &[("off", Snap::Off), ("anchors", Snap::Anchors)], Snap::Off, snap_doc),
        }
    }
}

/// `[coverage]`
#[derive(Debug, Clone)]
pub struct Coverage {
    /// Recordings no further apart than this are one coverage.
    pub seam_max: Duration,
}

impl Coverage {
    pub(super) fn read(settings: &Settings) -> Self {
        let seam_doc = "Recordings no further apart than this are one coverage.";
        Self { seam_max: settings.section("coverage").duration("seam_max", "1s", "0s"..="1h", seam_doc) }
    }
}

/// `[images]`: images that users put.
#[derive(Debug, Clone)]
pub struct Images {
    /// Whether put images are served without a token; the built-in kinds never are.
    pub public: bool,
    /// The largest image in bytes.
    pub body_max: u64,
    /// The most pixels of an image.
    pub pixels_max: u64,
    /// All images together, in bytes.
    pub max_bytes: u64,
    /// Pictures of images in memory, in bytes.
    pub hot_bytes: u64,
    /// The locales to fall back to, best first.
    pub locales: Vec<String>,
    /// The shapes that asked ratios snap to.
    pub ratios: Vec<Ratio>,
    /// The image shown for a content type where there is none.
    pub defaults: BTreeMap<String, PathBuf>,
}

impl Images {
    pub(super) fn read(settings: &Settings) -> Self {
        let images = settings.section("images");
        let public_doc = "Whether put images are served without a token; the built-in kinds never are.";
        let ratios_doc = "The shapes, `width:height`, that asked ratios snap to.";
        let defaults_doc = "Content type to the file of the image shown where there is none.";
        let read = Self {
            public: images.flag("public", false, public_doc),
            body_max: images.bytes("body_max", "10MiB", "1KiB"..="32MiB", "The largest image that may be put."),
            pixels_max: images.integer("pixels_max", 40_000_000, 1..=100_000_000, "The most pixels of an image."),
            max_bytes: images.bytes("max_bytes", "10GiB", "1MiB"..="1024TiB", "The most bytes of all images."),
            hot_bytes: images.bytes("hot_bytes", "64MiB", "0B"..="1TiB", "The most pictures of images in memory."),
            locales: images.list("locales", &[], 100, "The locales to fall back to, best first; then none."),
            ratios: images.list("ratios", &["4:3", "16:9", "2:3", "3:4"], 100, ratios_doc),
            defaults: images.map("defaults", defaults_doc),
        };
        if read.ratios.is_empty() {
            images.fault("ratios", "must have at least one");
        }
        read
    }
}

/// A standard shape, width to height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    /// At least 1.
    pub width: u16,
    /// At least 1.
    pub height: u16,
}

impl std::str::FromStr for Ratio {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let side = |digits: &str| digits.parse::<u16>().ok().filter(|&side| side > 0);
        let sides = text.split_once(':').and_then(|(width, height)| side(width).zip(side(height)));
        sides.map(|(width, height)| Self { width, height }).ok_or("must be {width}:{height}, such as \"16:9\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_interval(text: &str, expected: Option<PrerenderInterval>) {
        let parsed = text.parse::<PrerenderInterval>().ok();
        assert_eq!(parsed, expected, "{text:?}");
        if let Some(interval) = parsed {
            assert_eq!(interval.to_string().parse(), Ok(interval), "{text:?}");
        }
    }

    #[test]
    fn intervals() {
        check_interval("off", Some(PrerenderInterval::Off));
        check_interval("every-keyframe", Some(PrerenderInterval::EveryKeyframe));
        check_interval("10s", Some(PrerenderInterval::Every(Duration::from_secs(10))));
        check_interval("1500ms", Some(PrerenderInterval::Every(Duration::from_millis(1500))));
        for wrong in ["", "Off", "10", "999ms", "2d", "0s"] {
            check_interval(wrong, None);
        }
    }

    #[test]
    fn ratios() {
        assert_eq!("16:9".parse(), Ok(Ratio { width: 16, height: 9 }));
        for wrong in ["", "16", "16x9", "0:9", "16:0", "-1:2"] {
            assert!(wrong.parse::<Ratio>().is_err(), "{wrong:?}");
        }
    }
}
