//! The library behind both programs: recording events in, keyframe indexes and thumbs out.

pub mod clock;
pub mod decode;
