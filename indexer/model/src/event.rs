//! Recording events: what happened to footage, and the order in which events count.
//!
//! The state of everything is what results from applying all accepted events sorted by [`EventOrder`], in
//! whatever order they arrive. Three rules make that cheap: of one recording the `available` with the greatest
//! order holds as a whole; a delete hits it only if the delete's order is greater; a delete by range looks at
//! that `available` and at nothing else. So a row per recording and a list of deletes per device are enough.
//!
//! Stored form of an event, version 1: version, order (time, source, id), user, kind byte, kind's fields.

use crate::codec::{Malformed, Reader, Writer};
use crate::id::{DeviceId, RecordingId, Timeline, UserId};
use crate::time::{Span, Timestamp};

/// When an event counts: by its `time`, then source, then id. Total, and the same on every machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventOrder {
    /// CloudEvents `time`, nanoseconds since the Unix epoch.
    pub time_ns: i64,
    /// CloudEvents `source`.
    pub source: Box<str>,
    /// CloudEvents `id`.
    pub id: Box<str>,
}

impl EventOrder {
    /// Appends the order.
    pub fn write(&self, writer: &mut Writer) {
        writer.signed(self.time_ns).text(&self.source).text(&self.id);
    }

    /// Takes an order off the reader.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { time_ns: reader.signed()?, source: reader.text()?.into(), id: reader.text()?.into() })
    }
}

/// One accepted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place among all events, and its identity (with the user) for 24 hours.
    pub order: EventOrder,
    /// Whose footage it is about.
    pub user: UserId,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// `recording.available`: footage can be read.
    Available(Box<Available>),
    /// `recording.deleted` with a recording id.
    RecordingDeleted {
        /// Whose camera.
        device: DeviceId,
        /// Which recording.
        recording: RecordingId,
    },
    /// `recording.deleted` by range: every recording of the device that lies wholly inside.
    RangeDeleted {
        /// Whose camera.
        device: DeviceId,
        /// The closed range.
        span: Span,
    },
    /// `device.deleted`.
    DeviceDeleted {
        /// Which camera.
        device: DeviceId,
    },
    /// `user.deleted`.
    UserDeleted,
}

/// What a recorder says of one recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    /// The camera.
    pub device: DeviceId,
    /// The recorder's name of it.
    pub recording: RecordingId,
    /// Wall clock of the earliest presented picture.
    pub start: Timestamp,
    /// Wall clock of the end; absent until the scan supplies it.
    pub end: Option<Timestamp>,
    /// Where the media lies.
    pub media_url: Box<str>,
    /// More will come under the same id.
    pub growing: bool,
    /// When the recording is to disappear.
    pub expires_at: Option<Timestamp>,
    /// The media's size in bytes, if the recorder knows it.
    pub size: Option<u64>,
    /// The media's entity tag, if the recorder knows it.
    pub etag: Option<Box<str>>,
    /// Which configured credentials read it.
    pub credentials_key: Option<Box<str>>,
}

const VERSION: u8 = 1;

impl Event {
    /// The device it is about; none when it is about the whole user.
    pub fn device(&self) -> Option<DeviceId> {
        match &self.kind {
            EventKind::Available(available) => Some(available.device),
            EventKind::RecordingDeleted { device, .. }
            | EventKind::RangeDeleted { device, .. }
            | EventKind::DeviceDeleted { device } => Some(*device),
            EventKind::UserDeleted => None,
        }
    }

    /// The timeline it is about; none when it is about the whole user.
    pub fn timeline(&self) -> Option<Timeline> {
        self.device().map(|device| Timeline { user: self.user, device })
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(VERSION);
        self.order.write(&mut w);
        w.raw(self.user.as_bytes());
        match &self.kind {
            EventKind::Available(available) => {
                w.byte(0);
                available.write(&mut w);
            }
            EventKind::RecordingDeleted { device, recording } => {
                w.byte(1).raw(device.as_bytes()).text(recording.as_str());
            }
            EventKind::RangeDeleted { device, span } => {
                w.byte(2).raw(device.as_bytes()).signed(span.start.as_ms()).signed(span.len_ms());
            }
            EventKind::DeviceDeleted { device } => {
                w.byte(3).raw(device.as_bytes());
            }
            EventKind::UserDeleted => {
                w.byte(4);
            }
        }
        w.finish()
    }

    /// Reads the stored form of this version and all earlier ones.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.byte()? != VERSION {
            return Err(Malformed("event version"));
        }
        let order = EventOrder::read(&mut r)?;
        let user = UserId::read(&mut r)?;
        let kind = match r.byte()? {
            0 => EventKind::Available(Box::new(Available::read(&mut r)?)),
            1 => EventKind::RecordingDeleted { device: DeviceId::read(&mut r)?, recording: RecordingId::read(&mut r)? },
            2 => {
                let device = DeviceId::read(&mut r)?;
                let start = Timestamp::from_ms(r.signed()?);
                let span = Span::new(start, start.plus_ms(r.signed()?)).ok_or(Malformed("range"))?;
                EventKind::RangeDeleted { device, span }
            }
            3 => EventKind::DeviceDeleted { device: DeviceId::read(&mut r)? },
            4 => EventKind::UserDeleted,
            _ => return Err(Malformed("event kind")),
        };
        r.end()?;
        Ok(Self { order, user, kind })
    }
}

impl Available {
    /// The span it announces, once the end is known.
    pub fn span(&self) -> Option<Span> {
        self.end.and_then(|end| Span::new(self.start, end))
    }

    /// Appends all fields.
    pub fn write(&self, w: &mut Writer) {
        w.raw(self.device.as_bytes()).text(self.recording.as_str());
        w.signed(self.start.as_ms()).optional_signed(self.end.map(|end| end.since_ms(self.start)));
        w.text(&self.media_url).byte(u8::from(self.growing));
        w.optional_signed(self.expires_at.map(Timestamp::as_ms));
        w.optional_signed(self.size.map(u64::cast_signed));
        w.optional_text(self.etag.as_deref()).optional_text(self.credentials_key.as_deref());
    }

    /// Takes all fields off the reader.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let device = DeviceId::read(r)?;
        let recording = RecordingId::read(r)?;
        let start = Timestamp::from_ms(r.signed()?);
        Ok(Self {
            device,
            recording,
            start,
            end: r.optional_signed()?.map(|len| start.plus_ms(len)),
            media_url: r.text()?.into(),
            growing: r.flag()?,
            expires_at: r.optional_signed()?.map(Timestamp::from_ms),
            size: r.optional_signed()?.map(i64::cast_unsigned),
            etag: r.optional_text()?.map(Into::into),
            credentials_key: r.optional_text()?.map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order() -> EventOrder {
        EventOrder { time_ns: 1_763_719_200_000_000_000, source: "/recorder/eu-1".into(), id: "6f".into() }
    }

    #[test]
    fn events_survive_their_stored_form() {
        let device: DeviceId = "627d911f7f58e4f344ca726c".parse().expect("id");
        let recording: RecordingId = "r-000123".parse().expect("id");
        let start = Timestamp::from_ms(1_757_371_980_000);
        let available = Available {
            device,
            recording: recording.clone(),
            start,
            end: Some(start.plus_ms(60_000)),
            media_url: "file:///srv/recordings/cam1/1757371980000.mp4".into(),
            growing: true,
            expires_at: None,
            size: Some(30_100_000),
            etag: Some("\"x\"".into()),
            credentials_key: None,
        };
        let span = Span::new(start, start).expect("span");
        for kind in [
            EventKind::Available(Box::new(available)),
            EventKind::RecordingDeleted { device, recording },
            EventKind::RangeDeleted { device, span },
            EventKind::DeviceDeleted { device },
            EventKind::UserDeleted,
        ] {
            let event = Event { order: order(), user: UserId::from_bytes([7; 12]), kind };
            assert_eq!(Event::decode(&event.encode()), Ok(event));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = Event::decode(&bytes);
        }
    }
}
