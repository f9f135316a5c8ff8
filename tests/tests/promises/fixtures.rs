//! Footage that many promises need, small and quick to make, and looks at pictures.

use e2e::footage::{Codec, Container, Footage, Rate, Recipe, cached, cached_all, look};
pub(crate) use e2e::harness::dice::Dice;
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

/// Six short files that differ in everything a file can differ in, each with instants of its own.
pub(crate) fn assorted() -> Vec<Footage> {
    let usual = Recipe { width: 320, height: 240, duration_ms: 30_000, ..Recipe::default() };
    let rate = |frames, seconds| Rate { frames, seconds };
    let recipes = [
        Recipe { rate: rate(2, 1), gop: 4, ..usual.clone() },
        Recipe { rate: rate(4, 1), gop: 12, b_frames: 2, ..usual.clone() },
        Recipe { rate: rate(5, 2), gop: 7, container: Container::MpegTs, has_audio: true, ..usual.clone() },
        Recipe { rate: rate(5, 1), gop: 17, b_frames: 3, container: Container::FragmentedMp4, ..usual.clone() },
        Recipe { rate: rate(2, 1), gop: 10, codec: Codec::Hevc, container: Container::Mkv, ..usual.clone() },
        Recipe { rate: rate(30_000, 1001), gop: 100, container: Container::Mp4MoovAtEnd, duration_ms: 12_000, ..usual },
    ];
    let hours = (0..).map(|n| START + n * 3_600_000);
    let recipes: Vec<Recipe> =
        recipes.into_iter().zip(hours).map(|(recipe, start_ms)| Recipe { start_ms, ..recipe }).collect();
    cached_all(&recipes).expect("footage")
}

/// Whether NGINX answered from its store, as it says itself.
pub(crate) fn is_hit(answer: &Answer) -> bool {
    answer.header("cache-status").starts_with("nginx; hit")
}
