//! What an image is asked for: its box, from width, height and aspect, snapped to a standard ratio; format and locale.
//!
//! Ratios are compared as logarithms, which is to say by how many times one is the other: 1:2 and 2:1 are equally far from 1:1.
//! Done in whole numbers, so that of two equally near the one that was configured first wins, always.

use stills_indexer::config::pictures::Ratio;
use stills_model::rendition::{Fit, Format, Rendition};

use crate::query::Query;

/// The longest side of what is made: a 4K screen's width.
const SIDE_MAX: i64 = 4096;

/// The longest side of an aspect.
const ASPECT_MAX: u16 = 9999;

/// Quality of every picture.
const QUALITY: u8 = 80;

/// A picture whose shape differs from the box by no more than one part in this many fills it: 1080x606 is 16:9.
const TOLERANCE: u128 = 100;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    /// The standard ratio that the asked one snapped to.
    pub(super) ratio: Ratio,
    /// Width and height in pixels, of that ratio.
    pub(super) size: (u16, u16),
    /// JPEG or WebP.
    pub(super) format: Format,
    /// In lower case.
    pub(super) locale: Option<Box<str>>,
}

impl Ask {
    /// Reads the parameters; faults are left with the query.
    pub(super) fn read(query: &mut Query, ratios: &[Ratio]) -> Option<Self> {
        let format = query.choice("imageFormat", &[("webp", Format::WebP)]).unwrap_or(Format::Jpeg);
        let locale = locale(query);
        let side = |query: &mut Query, name| query.integer(name, Some(0), 1, SIDE_MAX).filter(|side| *side > 0);
        let (width, height) = (side(query, "width"), side(query, "height"));
        let aspect = aspect(query);
        let is_height_dominant =
            query.choice("dominantDimension", &[("width", false), ("height", true)]).unwrap_or(false);
        if !query.is_faultless() {
            return None;
        }
        let (ratio, size) = match (width, height, aspect) {
            (Some(width), _, Some(aspect)) => {
                let ratio = snap(aspect, ratios)?;
                (ratio, (width, across(width, ratio.width, ratio.height)))
            }
            (None, Some(height), Some(aspect)) => {
                let ratio = snap(aspect, ratios)?;
                (ratio, (across(height, ratio.height, ratio.width), height))
            }
            (Some(width), Some(height), None) => {
                let [across_asked, down_asked] = [width, height].map(|side| u16::try_from(side).unwrap_or(u16::MAX));
                let ratio = snap(Ratio { width: across_asked, height: down_asked }, ratios)?;
                let by_height = (across(height, ratio.height, ratio.width), height);
                let by_width = (width, across(width, ratio.width, ratio.height));
                (ratio, if is_height_dominant { by_height } else { by_width })
            }
            _ => {
                let name = if width.is_none() && height.is_none() { "width" } else { "aspect" };
                query.fault(name, "is needed: width and height, or one of them and aspect");
                return None;
            }
        };
        let [width, height] = [size.0, size.1].map(|side| u16::try_from(side).ok().filter(|_| side <= SIDE_MAX));
        if width.is_none() || height.is_none() {
            let name = if width.is_none() { "height" } else { "width" };
            query.fault(name, format!("makes the other side longer than {SIDE_MAX}"));
        }
        Some(Self { ratio, size: (width?, height?), format, locale })
    }

    /// How a picture of this shape is shown, and whether it fills the box.
    pub(super) fn rendition(&self, shape: (u32, u32)) -> (Rendition, bool) {
        let is_match = is_near(shape, self.ratio);
        let fit = if is_match { Fit::Stretch } else { Fit::Letterbox };
        let (width, height) = self.size;
        (Rendition { width, height, fit, format: self.format, quality: QUALITY }, is_match)
    }

    /// Whether portrait was asked of a landscape picture, or the other way. A square is neither.
    pub(super) fn is_against(&self, (width, height): (u32, u32)) -> bool {
        let Ratio { width: across, height: down } = self.ratio;
        (width < height && across > down) || (width > height && across < down)
    }
}

/// The `locale` parameter, in lower case.
pub(super) fn locale(query: &mut Query) -> Option<Box<str>> {
    let locale = query.optional("locale")?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !(1..=35).contains(&locale.len()) || !locale.bytes().all(allowed) {
        query.fault("locale", "must be 1 to 35 of A-Z a-z 0-9 - _, such as en or de-AT");
        return None;
    }
    Some(locale.to_ascii_lowercase().into())
}

fn aspect(query: &mut Query) -> Option<Ratio> {
    let text = query.optional("aspect")?;
    let side = |digits: &str| {
        let is_plain = !digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|side| is_plain && (1..=ASPECT_MAX).contains(side))
    };
    let sides = text.split_once('x').and_then(|(width, height)| side(width).zip(side(height)));
    if sides.is_none() {
        query.fault("aspect", format!("must be {{width}}x{{height}}, each 1 to {ASPECT_MAX}, such as 16x9"));
    }
    sides.map(|(width, height)| Ratio { width, height })
}

/// The other side for `side`, to the nearest pixel, at least 1.
fn across(side: i64, of: u16, other: u16) -> i64 {
    let (of, other) = (i64::from(of), i64::from(other));
    ((side * other * 2 + of) / (of * 2)).max(1)
}

/// By how many times one ratio is the other, at least once: a fraction of its larger to its smaller part.
fn times((width, height): (u32, u32), ratio: Ratio) -> (u128, u128) {
    let one = u128::from(width) * u128::from(ratio.height);
    let other = u128::from(height) * u128::from(ratio.width);
    (one.max(other), one.min(other))
}

fn is_near(shape: (u32, u32), ratio: Ratio) -> bool {
    let (larger, smaller) = times(shape, ratio);
    larger * TOLERANCE <= smaller * (TOLERANCE + 1)
}

/// The standard ratio nearest to `asked`; of two equally near the first. None only where there are none.
pub(super) fn snap(asked: Ratio, ratios: &[Ratio]) -> Option<Ratio> {
    let distance = |ratio: &Ratio| times((asked.width.into(), asked.height.into()), *ratio);
    ratios.iter().copied().reduce(|best, next| {
        let ((best_larger, best_smaller), (larger, smaller)) = (distance(&best), distance(&next));
        if larger * best_smaller < best_larger * smaller { next } else { best }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn standard() -> Vec<Ratio> {
        ["4:3", "16:9", "2:3", "3:4"].map(|text| text.parse().expect("a ratio")).into()
    }

    fn check_snap(asked: (u16, u16), expected: &str) {
        let snapped = snap(Ratio { width: asked.0, height: asked.1 }, &standard()).expect("there are some");
        assert_eq!(snapped, expected.parse().expect("a ratio"), "{asked:?}");
    }

    #[test]
    fn ratios_snap_to_the_nearest() {
        check_snap((160, 90), "16:9");
        check_snap((16, 9), "16:9");
        check_snap((1080, 606), "16:9");
        check_snap((1080, 960), "4:3");
        check_snap((480, 720), "2:3");
        check_snap((600, 800), "3:4");
        check_snap((640, 480), "4:3");
        check_snap((21, 9), "16:9");
        check_snap((9, 16), "2:3");
        check_snap((9999, 1), "16:9");
        check_snap((1, 9999), "2:3");
        // The middle between 4:3 and 16:9 is the root of their product, 1.5396, not their mean, 1.5556.
        check_snap((1539, 1000), "4:3");
        check_snap((1540, 1000), "16:9");
        // As near to 4:3 as to 3:4: the first.
        check_snap((100, 100), "4:3");
        let reversed: Vec<Ratio> = standard().into_iter().rev().collect();
        assert_eq!(snap(Ratio { width: 7, height: 7 }, &reversed), "3:4".parse().ok());
        assert_eq!(snap(Ratio { width: 7, height: 7 }, &[]), None);
    }

    proptest! {
        /// The rule against its definition.
        #[test]
        fn no_ratio_is_nearer_than_the_one_it_snaps_to(
            width in 1u16..9999, height in 1u16..9999,
            sides in proptest::collection::vec((1u16..100, 1u16..100), 1..8),
        ) {
            let ratios: Vec<Ratio> = sides.into_iter().map(|(width, height)| Ratio { width, height }).collect();
            let asked = Ratio { width, height };
            let log = |ratio: Ratio| (f64::from(ratio.width) / f64::from(ratio.height)).ln();
            let distance = |ratio: Ratio| (log(asked) - log(ratio)).abs();
            let snapped = snap(asked, &ratios).expect("there are some");
            prop_assert!(ratios.contains(&snapped));
            for ratio in &ratios {
                prop_assert!(distance(snapped) <= distance(*ratio) + 1e-9, "{snapped:?} for {asked:?}, not {ratio:?}");
            }
            // What is standard already stays.
            prop_assert_eq!(distance_of(snap(ratios[0], &ratios).expect("some"), ratios[0]), 0);
        }
    }

    fn distance_of(a: Ratio, b: Ratio) -> u32 {
        (u32::from(a.width) * u32::from(b.height)).abs_diff(u32::from(a.height) * u32::from(b.width))
    }

    /// The size, or the names of the faulty parameters.
    fn check(text: &str, expected: Result<(u16, u16), &str>) {
        let mut query = Query::parse(text);
        let ask = Ask::read(&mut query, &standard());
        let faults = query.finish().err().unwrap_or_default();
        let faults: Vec<&str> = faults.iter().map(|fault| fault.parameter).collect();
        let found =
            if faults.is_empty() { ask.map(|ask| ask.size).ok_or(String::new()) } else { Err(faults.join(" ")) };
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn sizes() {
        check("width=160&height=90", Ok((160, 90)));
        check("width=300&aspect=16x9", Ok((300, 169)));
        check("height=300&aspect=16x9", Ok((533, 300)));
        check("width=300&height=7&aspect=16x9", Ok((300, 169)));
        check("width=300&height=300", Ok((300, 225)));
        check("width=300&height=300&dominantDimension=height", Ok((400, 300)));
        check("width=300&height=300&dominantDimension=width", Ok((300, 225)));
        // Ignored beside an aspect.
        check("width=300&height=500&aspect=16x9&dominantDimension=height", Ok((300, 169)));
        check("width=300&aspect=178x100", Ok((300, 169)));
        check("width=90&height=160", Ok((90, 135)));
        check("width=1&aspect=16x9", Ok((1, 1)));
        check("width=4096&aspect=4x3&imageFormat=webp&locale=de-AT&unknown=1", Ok((4096, 3072)));
        for (text, faults) in [
            ("", "width"),
            ("width=300", "aspect"),
            ("height=300", "aspect"),
            ("aspect=16x9", "width"),
            ("width=0&height=90", "width"),
            ("width=4097&height=90", "width"),
            ("width=-1&height=90", "width"),
            ("width=1e2&height=90", "width"),
            ("width=300&aspect=16:9", "aspect"),
            ("width=300&aspect=0x9", "aspect"),
            ("width=300&aspect=16x", "aspect"),
            ("width=300&aspect=10000x9", "aspect"),
            ("width=300&aspect=+1x9", "aspect"),
            ("width=160&height=90&imageFormat=png", "imageFormat"),
            ("width=160&height=90&imageFormat=WEBP", "imageFormat"),
            ("width=160&height=90&imageFormat=jpeg", "imageFormat"),
            ("width=160&height=90&dominantDimension=both", "dominantDimension"),
            ("width=160&height=90&locale=", "locale"),
            ("width=160&height=90&locale=..%2Fx", "locale"),
            ("width=160&width=160&height=90", "width"),
            ("width=4096&aspect=2x3", "width"),
            ("height=4096&aspect=16x9", "height"),
        ] {
            check(text, Err(faults));
        }
    }

    #[test]
    fn shapes_fill_the_box_or_are_letterboxed() {
        let check = |ratio: &str, shape, is_match, is_against| {
            let ratio = ratio.parse().expect("a ratio");
            let ask = Ask { ratio, size: (160, 90), format: Format::Jpeg, locale: None };
            let (rendition, found) = ask.rendition(shape);
            assert_eq!((found, ask.is_against(shape)), (is_match, is_against), "{ratio:?} {shape:?}");
            assert_eq!(rendition.fit, if is_match { Fit::Stretch } else { Fit::Letterbox });
        };
        check("16:9", (1920, 1080), true, false);
        check("16:9", (1080, 606), true, false);
        check("16:9", (256, 144), true, false);
        check("16:9", (640, 480), false, false);
        check("16:9", (1920, 1100), false, false);
        check("16:9", (480, 720), false, true);
        check("2:3", (1920, 1080), false, true);
        check("2:3", (480, 720), true, false);
        check("2:3", (480, 480), false, false);
        check("16:9", (u32::MAX, 1), false, false);
        check("1:1", (1920, 1080), false, false);
    }
}
