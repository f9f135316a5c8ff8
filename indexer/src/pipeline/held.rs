//! Anchors at the edge of what is recorded, held back until the recording that follows has had time to come. Without that
//! every recording of a minute would render one picture more than is ever asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use stills_model::id::Timeline;
use stills_model::time::Timestamp;

/// Edges that are held back at once, of some hundred bytes each; what comes on top is rendered without waiting.
const HELD_MAX: usize = 50_000;

/// Instants of one timeline.
type Anchors = (Timeline, Arc<[Timestamp]>);

/// What is held back, in the order of its coming.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<VecDeque<(Timestamp, Anchors)>>);

impl Held {
    /// Holds the instants back until `due`. False: there is no room.
    pub(super) fn hold(&self, due: Timestamp, timeline: Timeline, instants: Vec<Timestamp>) -> bool {
        if instants.is_empty() {
            return true;
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = held.len() < HELD_MAX;
        if has_room {
            held.push_back((due, (timeline, instants.into())));
        }
        has_room
    }

    /// Takes what is due. Where the clock was set back, what came before that goes first all the same.
    pub(super) fn take_due(&self, now: Timestamp) -> Vec<Anchors> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n_due = held.iter().take_while(|(due, _)| *due <= now).count();
        held.drain(..n_due).map(|(_, anchors)| anchors).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        let id = "627d8ca8297a3d00019e2abb";
        Timeline { user: id.parse().expect("id"), device: id.parse().expect("id") }
    }

    #[test]
    fn what_is_due_goes_once() {
        let (held, at) = (Held::default(), Timestamp::from_ms);
        assert!(held.hold(at(10), timeline(), vec![at(1), at(2)]));
        assert!(held.hold(at(20), timeline(), vec![at(3)]));
        assert!(held.hold(at(20), timeline(), vec![]), "nothing takes no room");
        assert_eq!(held.take_due(at(9)), []);
        assert_eq!(held.take_due(at(19)), [(timeline(), [at(1), at(2)].into())]);
        assert_eq!(held.take_due(at(30)), [(timeline(), [at(3)].into())]);
        assert_eq!(held.take_due(at(30)), []);
    }

    #[test]
    fn there_is_room_for_so_many() {
        let (held, at) = (Held::default(), Timestamp::from_ms);
        assert!((0..HELD_MAX).all(|_| held.hold(at(1), timeline(), vec![at(0)])));
        assert!(!held.hold(at(1), timeline(), vec![at(0)]));
        assert_eq!(held.take_due(at(1)).len(), HELD_MAX);
        assert!(held.hold(at(1), timeline(), vec![at(0)]));
    }
}
