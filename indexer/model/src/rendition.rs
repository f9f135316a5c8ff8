//! Renditions: width, height, fit, format and quality of a picture.

use std::fmt;

use crate::codec::{Malformed, Reader, Writer};

/// How a picture meets a box of another shape. The discriminant is part of stored keys: only ever append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Fit {
    /// Exactly the asked size, shape be damned.
    Stretch = 0,
    /// Inside the box with the picture's own shape; the rendition's unset side (0) follows.
    Inside = 1,
    /// Exactly the asked size, the picture inside it in its own shape and padded: black, or transparent where the format
    /// can be. Both sides are set.
    Letterbox = 2,
}

/// The coding of the picture. The discriminant is part of stored keys: only ever append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Format {
    /// Baseline JPEG, 4:2:0, full-range BT.601.
    Jpeg = 0,
    /// 8-bit RGB PNG.
    Png = 1,
    /// Lossy WebP, 4:2:0, limited-range BT.601; with alpha where something is transparent.
    WebP = 2,
}

/// What a keyframe is made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rendition {
    /// Pixels across; 0 with [`Fit::Inside`]: as the height demands.
    pub width: u16,
    /// Pixels down; 0 with [`Fit::Inside`]: as the width demands.
    pub height: u16,
    /// How the source's shape meets the box.
    pub fit: Fit,
    /// The coding.
    pub format: Format,
    /// Quality of JPEG and WebP, 1 to 100; 0 for PNG.
    pub quality: u8,
}

impl Rendition {
    /// The widest thumb that the thumb path serves.
    pub const THUMB_WIDTH_MAX: u16 = 640;
    /// The highest thumb that the thumb path serves.
    pub const THUMB_HEIGHT_MAX: u16 = 480;
    /// Quality of every thumb.
    pub const THUMB_QUALITY: u8 = 80;

    /// A thumb: stretched JPEG. None when a side is 0 or over the maximum.
    pub fn thumb(width: u16, height: u16) -> Option<Self> {
        let fits = (1..=Self::THUMB_WIDTH_MAX).contains(&width) && (1..=Self::THUMB_HEIGHT_MAX).contains(&height);
        fits.then_some(Self { width, height, fit: Fit::Stretch, format: Format::Jpeg, quality: Self::THUMB_QUALITY })
    }

    /// Appends the seven bytes that name it in keys.
    pub fn write(&self, w: &mut Writer) {
        w.raw(&self.width.to_be_bytes()).raw(&self.height.to_be_bytes());
        w.byte(self.fit as u8).byte(self.format as u8).byte(self.quality);
    }

    /// Takes the seven bytes off the reader.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            width: u16::from_be_bytes(r.array()?),
            height: u16::from_be_bytes(r.array()?),
            fit: match r.byte()? {
                0 => Fit::Stretch,
                1 => Fit::Inside,
                2 => Fit::Letterbox,
                _ => return Err(Malformed("fit")),
            },
            format: match r.byte()? {
                0 => Format::Jpeg,
                1 => Format::Png,
                2 => Format::WebP,
                _ => return Err(Malformed("format")),
            },
            quality: r.byte()?,
        })
    }
}

/// `{width}x{height}`.
impl fmt::Display for Rendition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Parses a thumb rendition written `{w}x{h}`, without signs or leading zeros.
impl std::str::FromStr for Rendition {
    type Err = InvalidResolution;

    fn from_str(text: &str) -> Result<Self, InvalidResolution> {
        let side = |digits: &str| {
            let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
            if plain { digits.parse::<u16>().ok() } else { None }
        };
        let (width, height) = text.split_once('x').ok_or(InvalidResolution)?;
        let sides = side(width).zip(side(height)).ok_or(InvalidResolution)?;
        Self::thumb(sides.0, sides.1).ok_or(InvalidResolution)
    }
}

/// The text is not a thumb resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidResolution;

impl fmt::Display for InvalidResolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be {width}x{height}, 1 to 640 by 1 to 480, without leading zeros")
    }
}

impl std::error::Error for InvalidResolution {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, sides: Option<(u16, u16)>) {
        assert_eq!(text.parse::<Rendition>().ok().map(|r| (r.width, r.height)), sides, "{text:?}");
    }

    /// They are part of stored keys.
    #[test]
    fn every_fit_and_format_keeps_its_number() {
        for (fit, format, expected) in [
            (Fit::Stretch, Format::Jpeg, [1, 64, 0, 240, 0, 0, 80]),
            (Fit::Inside, Format::Png, [1, 64, 0, 240, 1, 1, 80]),
            (Fit::Letterbox, Format::WebP, [1, 64, 0, 240, 2, 2, 80]),
        ] {
            let rendition = Rendition { width: 320, height: 240, fit, format, quality: 80 };
            let mut w = Writer::new();
            rendition.write(&mut w);
            let stored = w.finish();
            assert_eq!(stored, expected);
            assert_eq!(Rendition::read(&mut Reader::new(&stored)), Ok(rendition));
        }
        assert!(Rendition::read(&mut Reader::new(&[1, 64, 0, 240, 3, 0, 80])).is_err());
        assert!(Rendition::read(&mut Reader::new(&[1, 64, 0, 240, 0, 3, 80])).is_err());
    }

    #[test]
    fn resolutions() {
        check("320x240", Some((320, 240)));
        check("640x480", Some((640, 480)));
        check("1x1", Some((1, 1)));
        check("641x480", None);
        check("480x640", None);
        check("0x240", None);
        check("0320x240", None);
        check("+320x240", None);
        check("320X240", None);
        check("320x240x1", None);
        check("320x", None);
        check("99999999999x1", None);
    }
}
