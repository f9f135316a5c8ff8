//! What Stills promises to the outside, one promise a file, against the real programs. Nothing here looks inside.

mod fixtures;

mod conditional;
mod frame_rule;
mod listing;
mod one_picture;
