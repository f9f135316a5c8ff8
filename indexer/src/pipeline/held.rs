//! Anchors at the edge of what is recorded, held back until the recording that follows has had time to come. Without that
//! every recording of a minute would render one picture more than is ever asked for.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use stills_model::id::Timeline;
use stills_model::time::Timestamp;

/// Edges that are held back at once, of some hundred bytes each; what comes on top is rendered without waiting.
const HELD_MAX: usize = 50_000;

/// Instants of one timeline.
type Anchors = (Timeline, Arc<[Timestamp]>);

/// What is held back.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// In the order of its coming.
    due: VecDeque<(Timestamp, Anchors)>,
    all: HashSet<Anchors>,
}

impl Held {
    /// Holds the instants back until `due`, or until they are due already. False: there is no room.
    pub(super) fn hold(&self, due: Timestamp, timeline: Timeline, instants: Vec<Timestamp>) -> bool {
        if instants.is_empty() {
            return true;
        }
        let anchors: Anchors = (timeline, instants.into());
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.all.contains(&anchors) {
            return true;
        }
        let has_room = waiting.due.len() < HELD_MAX;
        if has_room {
            waiting.all.insert(anchors.clone());
            waiting.due.push_back((due, anchors));
        }
        has_room
    }

    /// Takes what is due. Where the clock was set back, what came before that goes first all the same.
    pub(super) fn take_due(&self, now: Timestamp) -> Vec<Anchors> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n_due = waiting.due.iter().take_while(|(due, _)| *due <= now).count();
        let taken: Vec<Anchors> = waiting.due.drain(..n_due).map(|(_, anchors)| anchors).collect();
        for anchors in &taken {
            waiting.all.remove(anchors);
        }
        taken
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
        assert!(held.hold(at(25), timeline(), vec![at(3)]), "it waits already");
        assert!(held.hold(at(20), timeline(), vec![]), "nothing takes no room");
        assert_eq!(held.take_due(at(9)), []);
        assert_eq!(held.take_due(at(19)), [(timeline(), [at(1), at(2)].into())]);
        assert_eq!(held.take_due(at(30)), [(timeline(), [at(3)].into())]);
        assert_eq!(held.take_due(at(30)), []);
    }

    #[test]
    fn there_is_room_for_so_many() {
        let (held, at) = (Held::default(), Timestamp::from_ms);
        assert!((0..).take(HELD_MAX).all(|ms| held.hold(at(1), timeline(), vec![at(ms)])));
        assert!(!held.hold(at(1), timeline(), vec![at(-1)]));
        assert!(held.hold(at(1), timeline(), vec![at(0)]), "it waits already");
        assert_eq!(held.take_due(at(1)).len(), HELD_MAX);
        assert!(held.hold(at(1), timeline(), vec![at(-1)]));
    }
}
