//! Footage that many promises need, small and quick to make, and looks at pictures.

use e2e::footage::{Footage, Rate, Recipe, cached, look};
use e2e::harness::{Answer, START};

/// From the start to the end of some footage.
pub(crate) fn span(footage: &Footage) -> (i64, i64) {
    (footage.recipe.start_ms, footage.recipe.end_ms())
}

/// A minute that begins at `start_ms`: a frame a second, a keyframe every 2 s.
pub(crate) fn minute(start_ms: i64) -> Footage {
    let rate = Rate { frames: 1, seconds: 1 };
    let recipe = Recipe { width: 320, height: 240, rate, gop: 2, duration_ms: 60_000, start_ms, ..Recipe::default() };
    cached(&recipe).expect("footage")
}

/// The usual minute.
pub(crate) fn first_minute() -> Footage {
    minute(START)
}

/// The hour from the usual start: a frame every 5 s, a keyframe every 10 s.
pub(crate) fn hour() -> Footage {
    let rate = Rate { frames: 1, seconds: 5 };
    let recipe = Recipe { width: 320, height: 240, rate, gop: 2, duration_ms: 3_600_000, ..Recipe::default() };
    cached(&recipe).expect("footage")
}

/// Demands a picture of this size that shows this instant.
pub(crate) fn check_picture(answer: &Answer, (width, height): (u32, u32), clock_ms: i64) {
    let answer = answer.clone().expect(200);
    assert_eq!(answer.header("content-type"), "image/jpeg");
    let seen = look(&answer.body).expect("a JPEG");
    assert_eq!((seen.width, seen.height), (width, height));
    assert_eq!(seen.clock_ms, Some(clock_ms), "what the picture shows");
}
