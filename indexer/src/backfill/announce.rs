//! The events that announce a file. The same file in the same state is the same event, whoever announces it, so that
//! whatever is sent twice is a duplicate.
//!
//! `time` is when the file was last written: a later change is a later event. The `id` says, in this order, what
//! decides between events of one instant: deleted after complete after growing, then the longer file.

use sha2::{Digest, Sha256};
use stills_model::event::{Available, Event, EventKind, EventOrder};

use super::place::Place;
use super::walk::Seen;
use crate::layout::Named;

/// The `source` of all events about files: the id names the file, so every place shares it.
pub const SOURCE: &str = "stills-files";

/// What is said of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// More will come.
    Growing = 0,
    /// It is complete.
    Whole = 1,
    /// It is gone.
    Deleted = 2,
}

/// The event that announces a file at `time_ns`, nanoseconds since 1970.
pub fn event(place: &Place, seen: &Seen, named: Named, phase: Phase, time_ns: i64) -> Event {
    let media_url = place.url_of(&seen.path);
    let mut digest = Sha256::new();
    digest.update(media_url.as_bytes());
    digest.update([0, phase as u8]);
    digest.update(seen.size.to_be_bytes());
    digest.update(time_ns.to_be_bytes());
    let hex: String = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let id = format!("{}-{:012x}-{hex}", phase as u8, seen.size);
    let Named { user, device, recording, start, end } = named;
    let kind = match phase {
        Phase::Deleted => EventKind::RecordingDeleted { device, recording },
        Phase::Growing | Phase::Whole => EventKind::Available(Box::new(Available {
            device,
            recording,
            start,
            // While it grows, the name's end is a promise that the scan cannot keep yet.
            end: end.filter(|_| phase == Phase::Whole),
            media_url: media_url.into(),
            growing: phase == Phase::Growing,
            expires_at: None,
            size: Some(seen.size),
            etag: None,
            credentials_key: None,
        })),
    };
    Event { order: EventOrder { time_ns, source: SOURCE.into(), id: id.into() }, user, kind }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use stills_model::id::{DeviceId, UserId};
    use stills_model::time::Timestamp;

    use super::*;

    fn announced(path: &str, size: u64, phase: Phase, time_ns: i64) -> EventOrder {
        let place = Place { root: "/srv".into(), url: "file:///srv/".into() };
        let named = Named {
            user: UserId::from_bytes([1; 12]),
            device: DeviceId::from_bytes([2; 12]),
            recording: "r".parse().expect("id"),
            start: Timestamp::from_ms(0),
            end: None,
        };
        let seen = Seen { path: PathBuf::from(path), size, modified_ns: time_ns };
        event(&place, &seen, named, phase, time_ns).order
    }

    #[test]
    fn events_of_one_file_come_in_order() {
        use Phase::{Deleted, Growing, Whole};
        let one = announced("a.mp4", 5, Whole, 7);
        assert_eq!(one, announced("a.mp4", 5, Whole, 7));
        assert_ne!(one.id, announced("b.mp4", 5, Whole, 7).id);
        let ordered =
            [(5, Growing, 7), (50, Growing, 7), (50, Whole, 7), (50, Deleted, 7), (1, Growing, 8), (1, Whole, 9)];
        let orders = ordered.map(|(size, phase, time)| announced("a.mp4", size, phase, time));
        assert!(orders.is_sorted_by(|a, b| a < b), "{orders:?}");
    }
}
