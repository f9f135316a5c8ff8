//! Paints the frames of a recipe as planar 4:2:0 in limited range: the clock above, date and label below it, and
//! coloured bars that move under them, so that pictures differ and colours can be judged.
//!
//! Between two frames only what changed is painted again, by whole rows: an unoptimised build must keep up with the
//! fastest encoder.

use std::ops::Range;

use super::recipe::Recipe;
use super::{clock, glyphs};

const BLACK: u8 = 16;
const WHITE: u8 = 235;
const GREY: u8 = 128;

/// Luma and the two chroma values of the bars: 75 % bars of limited-range BT.601.
const BARS: [[u8; 3]; 8] = [
    [180, 128, 128],
    [162, 44, 142],
    [131, 156, 44],
    [112, 72, 58],
    [84, 184, 198],
    [65, 100, 212],
    [35, 212, 114],
    [48, 128, 128],
];

/// Pixels that the bars move from frame to frame.
const STEP: usize = 4;

/// Holds one frame and makes the next one of it.
pub(super) struct Painter<'r> {
    recipe: &'r Recipe,
    width: usize,
    height: usize,
    /// Luma, then the two chroma planes of half the size each way.
    frame: Vec<u8>,
    /// Twice the bars in a row, per plane: a row of the picture is cut out of it.
    bars: [Vec<u8>; 3],
}

impl<'r> Painter<'r> {
    /// The size must be even, which the recipe's check has seen to.
    pub(super) fn new(recipe: &'r Recipe) -> Self {
        let (width, height) = (recipe.width as usize, recipe.height as usize);
        let mut frame = vec![BLACK; width * height];
        frame.resize(width * height * 3 / 2, GREY);
        let bars = [0, 1, 2].map(|plane| {
            let width = if plane == 0 { width } else { width / 2 };
            (0..2 * width).map(|x| BARS[x % width * BARS.len() / width][plane]).collect()
        });
        let mut painter = Self { recipe, width, height, frame, bars };
        let label_rows = painter.rows(60, 70);
        painter.text(&recipe.label, label_rows);
        painter
    }

    /// Frame `n` of the recipe.
    pub(super) fn paint(&mut self, n: i64) -> &[u8] {
        let instant_ms = self.recipe.instant_ms(n);
        self.clock(instant_ms);
        let date_rows = self.rows(46, 58);
        self.text(&date(instant_ms), date_rows);
        self.scroll(n);
        &self.frame
    }

    /// From which to which row, in hundredths of the height; even, so that chroma agrees.
    fn rows(&self, from: usize, to: usize) -> Range<usize> {
        let even = |share: usize| self.height * share / 200 * 2;
        even(from)..even(to)
    }

    fn clock(&mut self, instant_ms: i64) {
        let white = clock::blocks(instant_ms);
        let mut line = vec![BLACK; self.width];
        for (at, blocks) in white.chunks(clock::COLUMNS).enumerate() {
            for (column, white) in blocks.iter().enumerate() {
                line[clock::column(column, self.width)].fill(if *white { WHITE } else { BLACK });
            }
            for y in clock::row(at, self.height) {
                self.frame[y * self.width..][..self.width].copy_from_slice(&line);
            }
        }
    }

    /// Writes one line of letters as large as the rows and the width allow; what does not fit is cut off.
    fn text(&mut self, text: &str, rows: Range<usize>) {
        let across = text.chars().count().max(1) * (glyphs::WIDTH + 1);
        let point = (rows.len() / glyphs::HEIGHT).min(self.width / across).max(1);
        let mut line = vec![BLACK; self.width];
        for dot_row in 0..glyphs::HEIGHT {
            line.fill(BLACK);
            for (at, letter) in text.chars().enumerate() {
                for (dot, column) in glyphs::columns(letter).into_iter().enumerate() {
                    let start = (at * (glyphs::WIDTH + 1) + dot) * point;
                    if column >> dot_row & 1 == 1 && start + point <= self.width {
                        line[start..][..point].fill(WHITE);
                    }
                }
            }
            for y in (rows.start + dot_row * point..).take(point).filter(|y| *y < rows.end) {
                self.frame[y * self.width..][..self.width].copy_from_slice(&line);
            }
        }
    }

    fn scroll(&mut self, n: i64) {
        let rows = self.rows(72, 100);
        let shift = usize::try_from(n).unwrap_or(0) * STEP % self.width / 2 * 2;
        let luma_len = self.width * self.height;
        let (half_width, chroma_len) = (self.width / 2, luma_len / 4);
        for y in rows.clone() {
            self.frame[y * self.width..][..self.width].copy_from_slice(&self.bars[0][shift..][..self.width]);
        }
        for (plane, bars) in self.bars[1..].iter().enumerate() {
            for y in rows.start / 2..rows.end / 2 {
                let at = luma_len + plane * chroma_len + y * half_width;
                self.frame[at..][..half_width].copy_from_slice(&bars[shift / 2..][..half_width]);
            }
        }
    }
}

/// What people read: UTC to the millisecond.
fn date(instant_ms: i64) -> String {
    let instant = jiff::Timestamp::from_millisecond(instant_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    instant.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_tell_their_instant_and_differ() {
        let recipe = Recipe { label: "gate 1".into(), ..Recipe::default() };
        let mut painter = Painter::new(&recipe);
        let first = painter.paint(0).to_vec();
        let second = painter.paint(1).to_vec();
        for (n, frame) in [&first, &second].into_iter().enumerate() {
            let luma = image::GrayImage::from_raw(640, 360, frame[..640 * 360].to_vec()).expect("a plane");
            assert_eq!(clock::read_clock(&luma), Some(recipe.start_ms + 80 * n as i64));
        }
        assert_ne!(first[640 * 300..640 * 301], second[640 * 300..640 * 301], "the bars move");
        let (least, most) =
            first[640 * 360..].iter().fold((u8::MAX, 0), |(a, b), value| (a.min(*value), b.max(*value)));
        assert!(least < 60 && most > 200, "there are colours");
    }

    #[test]
    fn dates_are_civil() {
        assert_eq!(date(1_757_371_980_080), "2025-09-08 22:53:00.080");
    }
}
