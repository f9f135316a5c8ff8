//! The path of an image, `/images/v1/image/{contentType}/{id}/{imageType}`: which image it is, and whether it is one that people
//! put or one that footage gives. Pure: knows no store and no handler.

use percent_encoding::percent_decode_str;
use stills_model::id::{RecordingId, Timeline};

/// What the path names, percent-encoding undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImagePath {
    /// `{contentType}`: defaults are configured by it.
    pub(crate) content_type: String,
    /// Which image.
    pub(crate) image: ImageOf,
}

/// Which image a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImageOf {
    /// One that is put and got.
    Put {
        /// `{id}`
        id: String,
        /// `{imageType}`
        image_type: String,
    },
    /// `Device/{user_id}.{device_id}/Latest`: the newest keyframe of a device.
    Latest(Timeline),
    /// `Recording/{user_id}.{device_id}.{recording_id}/Poster`: the first keyframe of a recording that shows something.
    Poster(Timeline, RecordingId),
    /// A path that cannot name an image, and why.
    Malformed(&'static str),
}

/// The longest part, in bytes.
const PART_LEN_MAX: usize = 256;

impl ImagePath {
    /// What every path begins with.
    pub(crate) const PREFIX: &'static str = "/images/v1/image/";

    /// The methods that it answers: what footage gives is not put.
    pub(crate) const fn allow(&self) -> &'static str {
        match self.image {
            ImageOf::Put { .. } | ImageOf::Malformed(_) => "GET, HEAD, PUT, DELETE, OPTIONS",
            ImageOf::Latest(_) | ImageOf::Poster(..) => "GET, HEAD, OPTIONS",
        }
    }

    /// Takes apart what stands behind the prefix, as it was sent; none where it has another number of parts.
    pub(crate) fn parse(rest: &str) -> Option<Self> {
        let mut parts = rest.split('/');
        let (content_type, id, image_type) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let parts = [content_type, id, image_type].map(decode);
        let [Some(content_type), Some(id), Some(image_type)] = parts else {
            let why = "contentType, id and imageType must each be 1 to 256 bytes of UTF-8 without control characters";
            return Some(Self { content_type: String::new(), image: ImageOf::Malformed(why) });
        };
        let image = match (content_type.as_str(), image_type.as_str()) {
            ("Device", "Latest") => timeline(&id).map(ImageOf::Latest).unwrap_or(ImageOf::Malformed(
                "the id of a device's latest image must be {user_id}.{device_id}, 24 hexadecimal digits each",
            )),
            ("Recording", "Poster") => poster(&id).unwrap_or(ImageOf::Malformed(
                "the id of a recording's poster must be {user_id}.{device_id}.{recording_id}",
            )),
            _ => ImageOf::Put { id, image_type },
        };
        Some(Self { content_type, image })
    }
}

fn decode(part: &str) -> Option<String> {
    let text = percent_decode_str(part).decode_utf8().ok()?;
    let is_plain = (1..=PART_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    is_plain.then(|| text.into_owned())
}

fn timeline(id: &str) -> Option<Timeline> {
    let (user, device) = id.split_once('.')?;
    Some(Timeline { user: user.parse().ok()?, device: device.parse().ok()? })
}

fn poster(id: &str) -> Option<ImageOf> {
    // The recording's own id may have dots.
    let (user, rest) = id.split_once('.')?;
    let (device, recording) = rest.split_once('.')?;
    let timeline = Timeline { user: user.parse().ok()?, device: device.parse().ok()? };
    Some(ImageOf::Poster(timeline, recording.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USER: &str = "627d8ca8297a3d00019e2abb";
    const DEVICE: &str = "627d911f7f58e4f344ca726c";

    /// The kind of image, and what it is of; `none` for another number of parts.
    fn check(rest: &str, expected: &str) {
        let rest = rest.replace("{u}", USER).replace("{d}", DEVICE);
        let found = match ImagePath::parse(&rest).map(|path| (path.content_type, path.image)) {
            None => "none".to_owned(),
            Some((content_type, ImageOf::Put { id, image_type })) => format!("put {content_type}|{id}|{image_type}"),
            Some((_, ImageOf::Latest(timeline))) => format!("latest {}", timeline.device),
            Some((_, ImageOf::Poster(timeline, recording))) => format!("poster {} {recording}", timeline.device),
            Some((_, ImageOf::Malformed(_))) => "malformed".to_owned(),
        };
        assert_eq!(found, expected, "{rest}");
    }

    proptest! {
        /// Whatever is put has a name of three plain parts, and spelling one otherwise names the same.
        #[test]
        fn every_spelling_of_a_part_is_the_same_part(part in "[^\\p{Cc}]{1,60}", mask in any::<u64>()) {
            let spelled: String = part.bytes().enumerate().map(|(n, byte)| {
                let is_plain = byte.is_ascii_alphanumeric() && mask >> (n % 64) & 1 == 0;
                if is_plain { char::from(byte).to_string() } else { format!("%{byte:02x}") }
            }).collect();
            let path = ImagePath::parse(&format!("{spelled}/{spelled}/{spelled}"));
            let image = ImageOf::Put { id: part.clone(), image_type: part.clone() };
            prop_assert_eq!(path, Some(ImagePath { content_type: part, image }));
        }

        #[test]
        fn any_bytes_are_a_path_or_none(rest in "[ -~]{0,80}") {
            let n_parts = rest.split('/').count();
            prop_assert_eq!(ImagePath::parse(&rest).is_some(), n_parts == 3);
        }
    }

    #[test]
    fn paths() {
        check("Show/4711/Poster", "put Show|4711|Poster");
        check("Show/a%2Fb/%C3%9Cber%20uns", "put Show|a/b|Über uns");
        check("Show/../Poster", "put Show|..|Poster");
        check("Device/{u}.{d}/Logo", &format!("put Device|{USER}.{DEVICE}|Logo"));
        check("device/x/latest", "put device|x|latest");
        check("Device/{u}.{d}/Latest", &format!("latest {DEVICE}"));
        check("D%65vice/{u}%2E{d}/Latest", &format!("latest {DEVICE}"));
        check("Recording/{u}.{d}.r-1/Poster", &format!("poster {DEVICE} r-1"));
        check("Recording/{u}.{d}.r.1.mp4/Poster", &format!("poster {DEVICE} r.1.mp4"));
        for malformed in [
            "Device/{u}/Latest",
            "Device/{u}.{d}.r-1/Latest",
            "Device/x/Latest",
            "Recording/{u}.{d}/Poster",
            "Recording/{u}.{d}./Poster",
            "Recording/{u}.{d}.a%20b/Poster",
            "Show//Poster",
            "Show/%ff/Poster",
            "Show/a%00b/Poster",
            &format!("Show/{}/Poster", "x".repeat(257)),
        ] {
            check(malformed, "malformed");
        }
        for other in ["Show/4711", "Show/4711/Poster/", "Show/4711/Poster/x", ""] {
            check(other, "none");
        }
    }
}
