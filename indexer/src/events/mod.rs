//! Recording events as the outside writes them: CloudEvents 1.0 to [`Event`] and back, over any transport.
//!
//! The path of a request (HTTP, a JetStream message and backfill all take it):
//!
//! 1. [`cloudevents`] tells the mode from the content type and cuts the body into events;
//! 2. `envelope` reads each into loosely typed fields: borrowed, one pass, never failing on a wrong type;
//! 3. `rules` checks every field, collects all that is wrong, and makes the [`Event`];
//! 4. the caller's check (may this caller write for this user, may this media be read) has the last word;
//! 5. [`Parsed`] holds what is good and what is not. Whether one bad event refuses all is the caller's choice.
//!
//! [`notifications`] reads what object stores send instead, and goes on at 3. [`emit`] is the other direction. Nothing here reads a clock, does IO or knows HTTP.
//!
//! [`Event`]: stills_model::event::Event

pub mod cloudevents;
pub mod emit;
mod envelope;
mod headers;
pub mod notifications;
mod rejection;
mod rules;

pub use rejection::{Check, EVENTS_MAX, FAULTS_MAX, Objection, Parsed, Refused, Rejection};
