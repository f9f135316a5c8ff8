//! The read path beside the frame rule, with everything real from the event to the picture: exact frames, posters, and
//! keyframes that do not stand alone.
//!
//! The decoder program is looked for beside the tests' own directory, so the workspace is built before the tests run.

mod ahead;
mod earlier;
mod exact;
mod fallback;
mod harness;
mod poster;
mod recovery;
mod shape;
