//! What is wrong with a request of events, and where. Never quotes more of the input than its position.

use serde::Serialize;
use stills_model::event::Event;

/// The most events in one request. (ours) A hundred a request already reaches full speed; this bounds memory and answer.
pub const EVENTS_MAX: usize = 10_000;

/// Faults listed in full. (ours) Beyond, only the first fault of each event is kept, so that every bad event is still named.
pub const FAULTS_MAX: usize = 1_000;

/// One fault of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// JSON pointer into the structured form of the event; empty for the event as a whole. Binary mode uses the
    /// same pointers (`/id` for the header `ce-id`).
    pub pointer: &'static str,
    /// What is wrong and what is allowed, as public text.
    pub detail: String,
}

impl Objection {
    /// A fault at a place.
    pub fn new(pointer: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer, detail: detail.into() }
    }
}

/// One fault and the event it belongs to, as answers list it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// Which event of the request, from 0; blank lines are not counted.
    pub index: usize,
    /// See [`Objection::pointer`].
    pub pointer: &'static str,
    /// See [`Objection::detail`].
    pub detail: String,
}

/// What a caller adds to the rules: whether this event may be taken. Asked only about events without other faults.
pub type Check<'a> = dyn Fn(&Event) -> Result<(), Objection> + 'a;

/// A request of events, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// The good events with their place in the request, in order.
    pub events: Vec<(usize, Event)>,
    /// All faults of the others, in order; several may share an index.
    pub rejected: Vec<Rejection>,
}

impl Parsed {
    /// Adds the outcome of one event.
    pub(super) fn push(&mut self, index: usize, outcome: Result<Event, Vec<Objection>>) {
        match outcome {
            Ok(event) => self.events.push((index, event)),
            Err(objections) => {
                let kept = if self.rejected.len() < FAULTS_MAX { objections.len() } else { 1 };
                let rejections = objections.into_iter().take(kept);
                self.rejected.extend(rejections.map(|o| Rejection { index, pointer: o.pointer, detail: o.detail }));
            }
        }
    }

    /// A request whose body could not be cut into events at all.
    pub(super) fn malformed(detail: String) -> Self {
        Self { events: Vec::new(), rejected: vec![Rejection { index: 0, pointer: "", detail }] }
    }
}

/// The request as a whole is refused, in lenient handling too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// 415: not one of the shapes that are read.
    #[error(
        "unsupported media type: send application/cloudevents+json, application/cloudevents-batch+json, \
         application/x-ndjson, or application/json with ce-* headers, in UTF-8"
    )]
    UnsupportedMediaType,
    /// 413: more than [`EVENTS_MAX`] events.
    #[error("too many events: at most {EVENTS_MAX} in one request")]
    TooManyEvents,
}
