//! What Stills promises to the outside, one promise a file, against the real programs. Nothing here looks inside.

mod fixtures;
mod image_fixtures;

mod breaking;
mod conditional;
mod crash;
mod deletion;
mod errors;
mod frame_rule;
mod full_disk;
mod guard;
mod http;
mod image;
mod image_boxes;
mod image_credentials;
mod image_matrix;
mod image_put;
mod jobs;
mod keys;
mod kinesis;
mod listing;
mod maintenance;
mod network_media;
mod one_picture;
mod operations;
mod order;
mod read_only_disk;
mod retention;
mod spellings;
mod states;
mod taking_events;
mod webhooks;
