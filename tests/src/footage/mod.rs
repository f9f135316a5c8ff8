//! Footage with a clock in every picture, made by the FFmpeg program from frames that are painted here.
//!
//! 1. A [`Recipe`] says everything about a file: codec, container, rate, keyframe distance, first instant.
//! 2. [`make`] paints its frames ([`paint`]) and pipes them to `ffmpeg`; [`cached`] does so once per recipe.
//! 3. [`read_clock`] reads the instant back from any picture of it, whatever its size.
//! 4. [`rule`] says which keyframe a thumb must show, by looking at all of them.
//!
//! Nothing here uses the code under test to judge it: the arithmetic of instants is done anew.

pub mod clock;
mod glyphs;
mod make;
mod paint;
mod recipe;
pub mod rule;

pub use clock::{Seen, look, read_clock};
pub use make::{Footage, cached, cached_all, make, make_all, shelf};
pub use recipe::{Codec, Container, PixelFormat, Rate, Recipe};
pub use rule::{Recorded, Shown};
