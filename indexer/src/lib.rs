//! The library behind both programs: recording events in, keyframe indexes and thumbs out.

pub mod catalog;
pub mod clock;
pub mod config;
pub mod metrics;
pub mod telemetry;
