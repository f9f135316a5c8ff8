//! The library behind both programs: recording events in, keyframe indexes and thumbs out.

pub mod cache;
pub mod clock;
pub mod data_dir;
pub mod journal;
mod marker;
