//! Recording events: what happened to footage, and the order in which events count.
//!
//! The state of everything is what results from applying all accepted events sorted by [`EventOrder`], in
//! whatever order they arrive. Three rules make that cheap: of one recording the `available` with the greatest
//! order holds as a whole; a delete hits it only if the delete's order is greater; a delete by range looks at
//! that `available` and at nothing else. So a row per recording and a list of deletes per device are enough.
//!
//! Stored form of an event, version 2: version, kind byte, order (time, source, packed id), user, kind's fields. What a
//! scan's result begins with stands here in the same order, so that a compression finds all of it at once. Version 1,
//! still read: version, order (time, source, id), user, kind byte, kind's fields.

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

    /// Appends the order in fewer bytes where the id is a UUID.
    pub fn write_packed(&self, writer: &mut Writer) {
        writer.signed(self.time_ns).text(&self.source).name(&self.id);
    }

    /// Takes off the reader what [`Self::write_packed`] wrote.
    pub fn read_packed(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { time_ns: reader.signed()?, source: reader.text()?.into(), id: reader.name()? })
    }

    /// Takes an order off the reader.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { time_ns: reader.signed()?, source: reader.text()?.into(), id: reader.text()?.into() })
    }

    /// Steps over an order.
    pub fn skip(reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let _ = (reader.signed()?, reader.bytes()?, reader.bytes()?);
        Ok(())
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

const VERSION: u8 = 2;

/// Kind bytes. Part of the stored form: only ever add.
mod kind {
    pub(super) const AVAILABLE: u8 = 0;
    pub(super) const RECORDING_DELETED: u8 = 1;
    pub(super) const RANGE_DELETED: u8 = 2;
    pub(super) const DEVICE_DELETED: u8 = 3;
    pub(super) const USER_DELETED: u8 = 4;
}

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
        w.byte(VERSION).byte(match &self.kind {
            EventKind::Available(_) => kind::AVAILABLE,
            EventKind::RecordingDeleted { .. } => kind::RECORDING_DELETED,
            EventKind::RangeDeleted { .. } => kind::RANGE_DELETED,
            EventKind::DeviceDeleted { .. } => kind::DEVICE_DELETED,
            EventKind::UserDeleted => kind::USER_DELETED,
        });
        self.order.write_packed(&mut w);
        w.raw(self.user.as_bytes());
        self.kind.write(&mut w);
        w.finish()
    }

    /// Reads the stored form of this version and all earlier ones.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let event = match r.byte()? {
            1 => {
                let (order, user) = (EventOrder::read(&mut r)?, UserId::read(&mut r)?);
                let kind = r.byte()?;
                Self { order, user, kind: EventKind::read(kind, &mut r)? }
            }
            VERSION => {
                let kind = r.byte()?;
                let (order, user) = (EventOrder::read_packed(&mut r)?, UserId::read(&mut r)?);
                Self { order, user, kind: EventKind::read(kind, &mut r)? }
            }
            _ => return Err(Malformed("event version")),
        };
        r.end()?;
        Ok(event)
    }
}

impl EventKind {
    /// Appends the fields, without the kind byte.
    fn write(&self, w: &mut Writer) {
        match self {
            Self::Available(available) => available.write(w),
            Self::RecordingDeleted { device, recording } => {
                w.raw(device.as_bytes()).text(recording.as_str());
            }
            Self::RangeDeleted { device, span } => {
                w.raw(device.as_bytes()).signed(span.start.as_ms()).signed(span.len_ms());
            }
            Self::DeviceDeleted { device } => {
                w.raw(device.as_bytes());
            }
            Self::UserDeleted => {}
        }
    }

    fn read(kind: u8, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match kind {
            kind::AVAILABLE => Self::Available(Box::new(Available::read(r)?)),
            kind::RECORDING_DELETED => {
                Self::RecordingDeleted { device: DeviceId::read(r)?, recording: RecordingId::read(r)? }
            }
            kind::RANGE_DELETED => {
                let device = DeviceId::read(r)?;
                let start = Timestamp::from_ms(r.signed()?);
                let span = Span::new(start, start.plus_ms(r.signed()?)).ok_or(Malformed("range"))?;
                Self::RangeDeleted { device, span }
            }
            kind::DEVICE_DELETED => Self::DeviceDeleted { device: DeviceId::read(r)? },
            kind::USER_DELETED => Self::UserDeleted,
            _ => return Err(Malformed("event kind")),
        })
    }
}

impl Available {
    /// The span it announces, once the end is known.
    pub fn span(&self) -> Option<Span> {
        self.end.and_then(|end| Span::new(self.start, end))
    }

    /// The span it announces, which is its start alone while the end is not known.
    pub fn announced(&self) -> Option<Span> {
        announced(self.start, self.end)
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

    /// Steps over all fields. Keeps what [`Self::announced`] says, and when it is to disappear.
    pub fn skim(r: &mut Reader<'_>) -> Result<(Option<Span>, Option<Timestamp>), Malformed> {
        let _ = (DeviceId::read(r)?, r.bytes()?);
        let start = Timestamp::from_ms(r.signed()?);
        let end = r.optional_signed()?.map(|len| start.plus_ms(len));
        let _ = (r.bytes()?, r.flag()?);
        let expires_at = r.optional_signed()?.map(Timestamp::from_ms);
        let _ = (r.optional_signed()?, r.optional_text()?, r.optional_text()?);
        Ok((announced(start, end), expires_at))
    }
}

fn announced(start: Timestamp, end: Option<Timestamp>) -> Option<Span> {
    end.and_then(|end| Span::new(start, end)).or(Span::new(start, start))
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
            assert_eq!(Event::decode(&event.encode()).as_ref(), Ok(&event));
            assert_eq!(Event::decode(&encode_1(&event)), Ok(event));
        }
    }

    /// What version 1 wrote.
    fn encode_1(event: &Event) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(1).signed(event.order.time_ns).text(&event.order.source).text(&event.order.id);
        w.raw(event.user.as_bytes()).byte(event.encode()[1]);
        event.kind.write(&mut w);
        w.finish()
    }

    #[test]
    fn version_1_is_read_byte_by_byte() {
        let mut bytes = vec![1, 2, 1, b's', 2, b'6', b'f'];
        bytes.extend([7; 12]);
        bytes.push(3);
        bytes.extend([8; 12]);
        let order = EventOrder { time_ns: 1, source: "s".into(), id: "6f".into() };
        let kind = EventKind::DeviceDeleted { device: DeviceId::from_bytes([8; 12]) };
        assert_eq!(Event::decode(&bytes), Ok(Event { order, user: UserId::from_bytes([7; 12]), kind }));
        assert_eq!(Event::decode(&[3]), Err(Malformed("event version")));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = Event::decode(&bytes);
        }
    }
}
