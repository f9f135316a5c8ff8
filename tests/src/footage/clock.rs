//! The machine-readable clock: the top 45 % of a picture is a grid of 16 by 5 black and white blocks, which hold 48 bits
//! of wall-clock milliseconds and their CRC-32C, row by row, the highest bit first.
//!
//! Positions are fractions of the picture, so that a picture can be scaled to any size and shape and still be read; at
//! 160x120 a block is 10 by 10.8 pixels, more than a JPEG block in each direction. A picture that was cropped, turned,
//! mirrored or damaged says nothing rather than something wrong: a block that is neither black nor white, or a wrong check
//! sum, is `None`.

use image::GrayImage;

/// Blocks across.
pub(super) const COLUMNS: usize = 16;
/// Blocks down.
pub(super) const ROWS: usize = 5;
/// Bits of milliseconds; the rest of the blocks are the check sum.
const TIME_BITS: usize = 48;
const BITS: usize = COLUMNS * ROWS;

/// The first instant that 48 bits cannot hold, in milliseconds.
pub(super) const CLOCK_END_MS: i64 = 1 << TIME_BITS;

/// The smallest picture that is read: below, a block is too small to survive JPEG.
pub const READABLE_MIN: (u32, u32) = (160, 120);

/// Below this difference of the brightest and the darkest block there is no clock.
const CONTRAST_MIN: u32 = 96;

/// What one look at a JPEG tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// The instant that the picture shows, wall-clock milliseconds, where it can be read.
    pub clock_ms: Option<i64>,
}

/// Decodes a JPEG and reads its clock.
///
/// # Errors
/// Bytes that are no JPEG.
pub fn look(jpeg: &[u8]) -> Result<Seen, image::ImageError> {
    let luma = image::load_from_memory_with_format(jpeg, image::ImageFormat::Jpeg)?.into_luma8();
    Ok(Seen { width: luma.width(), height: luma.height(), clock_ms: read_clock(&luma) })
}

/// The instant that a whole picture shows, wall-clock milliseconds; `None` where there is no undamaged clock.
/// Use `DynamicImage::to_luma8` for pictures in colour.
pub fn read_clock(luma: &GrayImage) -> Option<i64> {
    if luma.width() < READABLE_MIN.0 || luma.height() < READABLE_MIN.1 {
        return None;
    }
    let mut levels = [0u32; BITS];
    for (at, level) in levels.iter_mut().enumerate() {
        *level = block_level(luma, at % COLUMNS, at / COLUMNS);
    }
    let (dark, bright) = (*levels.iter().min()?, *levels.iter().max()?);
    let contrast = bright - dark;
    if contrast < CONTRAST_MIN {
        return None;
    }
    let mut word = 0u128;
    for level in levels {
        let share = (level - dark) * 100 / contrast;
        let is_white = match share {
            0..=35 => false,
            65..=100 => true,
            _ => return None,
        };
        word = word << 1 | u128::from(is_white);
    }
    let ms = u64::try_from(word >> (BITS - TIME_BITS)).ok()?;
    (word == word_of(ms)).then(|| ms.cast_signed())
}

/// Whether each block is white, row by row. `ms` is below [`CLOCK_END_MS`] and not negative.
pub(super) fn blocks(ms: i64) -> [bool; BITS] {
    let word = word_of(ms.cast_unsigned());
    std::array::from_fn(|at| word >> (BITS - 1 - at) & 1 == 1)
}

/// The horizontal pixels of a column of blocks in a picture that is `width` across.
pub(super) fn column(at: usize, width: usize) -> std::ops::Range<usize> {
    at * width / COLUMNS..(at + 1) * width / COLUMNS
}

/// The vertical pixels of a row of blocks in a picture that is `height` down: nine hundredths of it.
pub(super) fn row(at: usize, height: usize) -> std::ops::Range<usize> {
    at * height * 9 / 100..(at + 1) * height * 9 / 100
}

fn word_of(ms: u64) -> u128 {
    let check = crc32c::crc32c(&ms.to_be_bytes()[2..]);
    u128::from(ms) << (BITS - TIME_BITS) | u128::from(check)
}

/// The mean of the middle half of a block, away from its neighbours' ringing.
fn block_level(luma: &GrayImage, column_at: usize, row_at: usize) -> u32 {
    let middle = |whole: std::ops::Range<usize>| {
        let quarter = whole.len() / 4;
        whole.start + quarter..whole.end - quarter
    };
    let width = luma.width() as usize;
    let columns = middle(column(column_at, width));
    let (mut sum, mut n) = (0u32, 0u32);
    for y in middle(row(row_at, luma.height() as usize)) {
        for value in &luma.as_raw()[y * width..][columns.clone()] {
            sum += u32::from(*value);
            n += 1;
        }
    }
    sum / n.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drawn(white: &[bool; BITS], (width, height): (u32, u32)) -> GrayImage {
        let mut picture = GrayImage::from_pixel(width, height, image::Luma([90]));
        for (at, white) in white.iter().enumerate() {
            for y in row(at / COLUMNS, height as usize) {
                for x in column(at % COLUMNS, width as usize) {
                    picture.as_mut()[y * width as usize + x] = if *white { 235 } else { 16 };
                }
            }
        }
        picture
    }

    fn jpeg(picture: &GrayImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 80).encode_image(picture).expect("a JPEG");
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_instant_survives_any_size(ms in 0..CLOCK_END_MS, width in 160u32..700, height in 120u32..500) {
            let seen = look(&jpeg(&drawn(&blocks(ms), (width, height)))).expect("a JPEG");
            prop_assert_eq!(seen, Seen { width, height, clock_ms: Some(ms) });
        }

        #[test]
        fn wrong_blocks_are_noticed(
            ms in 0..CLOCK_END_MS,
            wrong in prop::collection::btree_set(0..BITS, 1..20),
        ) {
            let mut white = blocks(ms);
            for at in wrong {
                white[at] = !white[at];
            }
            prop_assert_eq!(read_clock(&drawn(&white, (320, 240))), None);
        }

        #[test]
        fn noise_says_nothing(seed: u64) {
            let mut state = seed | 1;
            let noise = GrayImage::from_fn(160, 120, |_, _| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                image::Luma([state.to_be_bytes()[0]])
            });
            prop_assert_eq!(read_clock(&noise), None);
        }
    }

    #[test]
    fn what_is_not_whole_says_nothing() {
        let whole = drawn(&blocks(1_757_371_980_123), (320, 240));
        assert_eq!(read_clock(&whole), Some(1_757_371_980_123));
        let check = |name: &str, picture: &GrayImage| assert_eq!(read_clock(picture), None, "{name}");
        check("turned", &image::imageops::rotate180(&whole));
        check("mirrored", &image::imageops::flip_horizontal(&whole));
        check("cropped", &image::imageops::crop_imm(&whole, 30, 0, 260, 240).to_image());
        check("flat", &GrayImage::from_pixel(320, 240, image::Luma([128])));
        check("too small", &image::imageops::thumbnail(&whole, 120, 90));
        let mut grey_block = whole.clone();
        for y in 0..24 {
            grey_block.as_mut()[y * 320..][..24].fill(128);
        }
        check("one block grey", &grey_block);
        let mut torn = whole.clone();
        torn.as_mut()[320 * 50..].fill(128);
        check("the lower part missing", &torn);
        assert!(look(&jpeg(&whole)[..40]).is_err(), "half a file is no picture");
    }
}
