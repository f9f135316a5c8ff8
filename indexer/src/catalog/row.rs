//! What the catalog remembers of a recording: its row, and the entry by which it is found by time.
//!
//! Stored forms, version 1: fields in the order of the structs, each form behind a version byte.

use stills_model::codec::{Malformed, Reader, Writer};
use stills_model::event::{Available, EventOrder};
use stills_model::fault::Fault;
use stills_model::id::RecordingId;
use stills_model::thumb::MediaId;
use stills_model::time::{Span, Timestamp};

const VERSION: u8 = 1;

/// The state of a recording as callers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Announced, not scanned yet.
    Pending = 0,
    /// Scanned and complete.
    Indexed = 1,
    /// Scanned so far; more will come.
    Growing = 2,
    /// Could not be scanned; the reason is kept.
    Failed = 3,
    /// Its media is no longer there; what is stored of it is still listed and served.
    Gone = 4,
    /// Deleted; kept only so that late events cannot bring it back.
    Deleted = 5,
}

impl State {
    const ALL: [Self; 6] = [Self::Pending, Self::Indexed, Self::Growing, Self::Failed, Self::Gone, Self::Deleted];

    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Indexed => "indexed",
            Self::Growing => "growing",
            Self::Failed => "failed",
            Self::Gone => "gone",
            Self::Deleted => "deleted",
        }
    }

    /// Of a row that has an `available`: whether that was removed, its media is gone, more of it will come (none: it was
    /// never scanned), and scanning it has failed for good.
    fn of(removed: bool, gone: bool, growing: Option<bool>, failed: bool) -> Self {
        match growing {
            _ if removed => Self::Deleted,
            _ if gone => Self::Gone,
            Some(true) => Self::Growing,
            Some(false) => Self::Indexed,
            None if failed => Self::Failed,
            None => Self::Pending,
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let byte = r.byte()?;
        Self::ALL.into_iter().find(|state| *state as u8 == byte).ok_or(Malformed("state"))
    }
}

/// What the last finished scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// Fingerprint of the media.
    pub media: MediaId,
    /// The stretch of coverage it gives.
    pub span: Span,
    /// How many keyframes are stored.
    pub n_keyframes: u32,
    /// More will come.
    pub growing: bool,
    /// Bytes in the media at the scan.
    pub media_len: u64,
    /// Where the media lay: byte ranges of the keyframe index are of this place, until another is scanned.
    pub media_url: Box<str>,
}

/// All that is known of one recording id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// The `available` with the greatest order.
    pub latest: Option<(EventOrder, Available)>,
    /// The `deleted` by recording id with the greatest order.
    pub deleted: Option<EventOrder>,
    /// Whether any delete hits `latest`, or its time is over.
    pub removed: bool,
    /// What the last finished scan found, of `latest` or of an `available` before it.
    pub indexed: Option<Indexed>,
    /// Whether `latest` still has to be scanned.
    pub to_scan: bool,
    /// Whether its anchors still have to be rendered.
    pub to_prerender: bool,
    /// Why the last scan of `latest` failed; while `to_scan` stands it will be tried again.
    pub fault: Option<Fault>,
    /// How many scans of `latest` failed.
    pub attempts: u32,
    /// The media was found missing after it had been indexed.
    pub gone: bool,
}

impl Row {
    /// The state as callers see it.
    pub fn state(&self) -> State {
        let growing = self.indexed.as_ref().map(|indexed| indexed.growing);
        let failed = self.fault.is_some() && !self.to_scan;
        State::of(self.removed || self.latest.is_none(), self.gone, growing, failed)
    }

    /// Whether nothing is known any more: the default, which is not stored.
    pub fn is_forgotten(&self) -> bool {
        self.latest.is_none() && self.deleted.is_none()
    }

    /// Whether it gives coverage.
    pub fn is_covering(&self) -> bool {
        self.indexed.is_some() && matches!(self.state(), State::Indexed | State::Growing | State::Gone)
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|expires_at| expires_at <= now)
    }

    /// When it is to disappear.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.latest.as_ref().and_then(|(_, available)| available.expires_at)
    }

    /// Whether the pipeline has something left to do: a scan, a prerender, watching a recording that grows, or
    /// looking for media that is gone.
    pub fn has_work(&self) -> bool {
        let growing = self.latest.as_ref().is_some_and(|(_, available)| available.growing);
        let is_waiting = self.to_scan || self.to_prerender || growing || self.gone;
        !self.removed && self.latest.is_some() && is_waiting
    }

    /// The stretch it covers, or announces while it covers none.
    pub fn span(&self) -> Option<Span> {
        match (&self.indexed, &self.latest) {
            (Some(indexed), _) => Some(indexed.span),
            (None, Some((_, available))) => available.announced(),
            (None, None) => None,
        }
    }

    /// What look-ups by time see of it.
    pub fn entry(&self, recording: &RecordingId) -> Option<Entry> {
        let indexed = self.indexed.as_ref();
        Some(Entry {
            recording: recording.clone(),
            span: self.span()?,
            state: self.state(),
            media: indexed.map_or(MediaId([0; 12]), |indexed| indexed.media),
            n_keyframes: indexed.map_or(0, |indexed| indexed.n_keyframes),
            expires_at: self.expires_at(),
        })
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(VERSION).byte(u8::from(self.latest.is_some()));
        if let Some((order, available)) = &self.latest {
            order.write(&mut w);
            available.write(&mut w);
        }
        w.byte(u8::from(self.deleted.is_some()));
        if let Some(order) = &self.deleted {
            order.write(&mut w);
        }
        w.byte(u8::from(self.removed)).byte(u8::from(self.indexed.is_some()));
        if let Some(indexed) = &self.indexed {
            w.raw(&indexed.media.0).signed(indexed.span.start.as_ms()).signed(indexed.span.len_ms());
            w.unsigned(indexed.n_keyframes.into()).byte(u8::from(indexed.growing)).unsigned(indexed.media_len);
            w.text(&indexed.media_url);
        }
        w.byte(u8::from(self.to_scan)).byte(u8::from(self.to_prerender)).byte(u8::from(self.fault.is_some()));
        if let Some(fault) = &self.fault {
            fault.write(&mut w);
        }
        w.unsigned(self.attempts.into()).byte(u8::from(self.gone));
        w.finish()
    }

    /// What [`Row::entry`] says of the row in a stored form; the rest is stepped over.
    pub fn skim(bytes: &[u8], recording: RecordingId) -> Result<Option<Entry>, Malformed> {
        let mut r = Reader::new(bytes);
        read_version(&mut r)?;
        let latest = if r.flag()? { Some((EventOrder::skip(&mut r)?, Available::skim(&mut r)?)) } else { None };
        if r.flag()? {
            EventOrder::skip(&mut r)?;
        }
        let removed = r.flag()?;
        let indexed = if r.flag()? {
            let (media, span, n_keyframes) = read_indexed(&mut r)?;
            let growing = r.flag()?;
            let _ = (r.unsigned()?, r.bytes()?);
            Some((media, span, n_keyframes, growing))
        } else {
            None
        };
        let (to_scan, _to_prerender) = (r.flag()?, r.flag()?);
        let is_faulty = r.flag()?;
        if is_faulty {
            Fault::read(&mut r)?;
        }
        let (_attempts, gone) = (r.unsigned_32()?, r.flag()?);
        r.end()?;
        let (announced, expires_at) = latest.map_or((None, None), |((), times)| times);
        let Some(span) = indexed.map(|(_, span, ..)| span).or(announced) else { return Ok(None) };
        let growing = indexed.map(|(.., growing)| growing);
        Ok(Some(Entry {
            recording,
            span,
            state: State::of(removed || latest.is_none(), gone, growing, is_faulty && !to_scan),
            media: indexed.map_or(MediaId([0; 12]), |(media, ..)| media),
            n_keyframes: indexed.map_or(0, |(_, _, n_keyframes, _)| n_keyframes),
            expires_at,
        }))
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        read_version(&mut r)?;
        let latest = if r.flag()? { Some((EventOrder::read(&mut r)?, Available::read(&mut r)?)) } else { None };
        let deleted = if r.flag()? { Some(EventOrder::read(&mut r)?) } else { None };
        let removed = r.flag()?;
        let indexed = if r.flag()? {
            let (media, span, n_keyframes) = read_indexed(&mut r)?;
            let (growing, media_len, media_url) = (r.flag()?, r.unsigned()?, r.text()?.into());
            Some(Indexed { media, span, n_keyframes, growing, media_len, media_url })
        } else {
            None
        };
        let to_scan = r.flag()?;
        let to_prerender = r.flag()?;
        let fault = if r.flag()? { Some(Fault::read(&mut r)?) } else { None };
        let (attempts, gone) = (r.unsigned_32()?, r.flag()?);
        let row = Self { latest, deleted, removed, indexed, to_scan, to_prerender, fault, attempts, gone };
        r.end()?;
        Ok(row)
    }
}

fn read_version(r: &mut Reader<'_>) -> Result<(), Malformed> {
    if r.byte()? == VERSION { Ok(()) } else { Err(Malformed("recording row version")) }
}

/// The first fields of an [`Indexed`].
fn read_indexed(r: &mut Reader<'_>) -> Result<(MediaId, Span, u32), Malformed> {
    let media = MediaId(r.array()?);
    let start = Timestamp::from_ms(r.signed()?);
    let span = Span::new(start, start.plus_ms(r.signed()?)).ok_or(Malformed("span"))?;
    Ok((media, span, r.unsigned_32()?))
}

/// What a look-up by time needs of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which recording.
    pub recording: RecordingId,
    /// What it covers, or announces.
    pub span: Span,
    /// Its state.
    pub state: State,
    /// Its media; meaningless before the first scan.
    pub media: MediaId,
    /// How many keyframes are stored of it.
    pub n_keyframes: u32,
    /// When it is to disappear.
    pub expires_at: Option<Timestamp>,
}

impl Entry {
    /// Whether it gives coverage.
    pub fn is_covering(&self) -> bool {
        match self.state {
            State::Indexed | State::Growing => true,
            // Once none of its pictures is stored any more it leaves.
            State::Gone => self.n_keyframes > 0,
            State::Pending | State::Failed | State::Deleted => false,
        }
    }

    /// Which of two recordings that cover the same instant is shown: the one that starts last, then the greater id.
    pub fn precedence(&self) -> (Timestamp, &RecordingId) {
        (self.span.start, &self.recording)
    }

    /// The stored form; start and recording id stand in the key.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(VERSION).signed(self.span.len_ms()).byte(self.state as u8).raw(&self.media.0);
        w.unsigned(self.n_keyframes.into()).optional_signed(self.expires_at.map(Timestamp::as_ms));
        w.finish()
    }

    /// Reads the stored form.
    pub fn decode(start: Timestamp, recording: RecordingId, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.byte()? != VERSION {
            return Err(Malformed("recording entry version"));
        }
        let span = Span::new(start, start.plus_ms(r.signed()?)).ok_or(Malformed("span"))?;
        let entry = Self {
            recording,
            span,
            state: State::read(&mut r)?,
            media: MediaId(r.array()?),
            n_keyframes: r.unsigned_32()?,
            expires_at: r.optional_signed()?.map(Timestamp::from_ms),
        };
        r.end()?;
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stills_model::fault::FaultKind;

    fn any_available() -> impl Strategy<Value = Available> {
        let len = prop::option::of(0..100_000i64);
        let texts = (prop::option::of("[a-z]{0,9}"), prop::option::of("[a-z]{0,9}"));
        let numbers = (0..i64::MAX / 2, len, prop::option::of(any::<i64>()), prop::option::of(any::<u64>()));
        (numbers, texts, any::<bool>()).prop_map(
            |((start, len, expires_at, size), (etag, credentials_key), growing)| {
                let start = Timestamp::from_ms(start);
                Available {
                    device: "627d911f7f58e4f344ca726c".parse().expect("id"),
                    recording: "r-1".parse().expect("id"),
                    start,
                    end: len.map(|len| start.plus_ms(len)),
                    media_url: "file:///footage/a.mp4".into(),
                    growing,
                    expires_at: expires_at.map(Timestamp::from_ms),
                    size,
                    etag: etag.map(Into::into),
                    credentials_key: credentials_key.map(Into::into),
                }
            },
        )
    }

    fn any_row() -> impl Strategy<Value = Row> {
        let order = || {
            let of = |(time_ns, id): (i64, String)| EventOrder { time_ns, source: "/a".into(), id: id.into() };
            (any::<i64>(), "[a-z]{0,9}").prop_map(of)
        };
        let indexed = (any::<[u8; 12]>(), 0..i64::MAX / 2, 0..100_000i64, any::<u32>(), any::<bool>(), any::<u64>());
        let indexed = indexed.prop_map(|(media, start, len, n_keyframes, growing, media_len)| {
            let start = Timestamp::from_ms(start);
            let span = Span { start, end: start.plus_ms(len) };
            Indexed { media: MediaId(media), span, n_keyframes, growing, media_len, media_url: "file:///b".into() }
        });
        let fault = Just(Fault::new(FaultKind::Unsupported, "no codec"));
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<u32>());
        let latest = prop::option::of((order(), any_available()));
        let all = (latest, prop::option::of(order()), prop::option::of(indexed), prop::option::of(fault), flags);
        all.prop_map(|(latest, deleted, indexed, fault, (removed, to_scan, to_prerender, gone, attempts))| Row {
            latest,
            deleted,
            removed,
            indexed,
            to_scan,
            to_prerender,
            fault,
            attempts,
            gone,
        })
    }

    proptest! {
        #[test]
        fn skimming_finds_what_reading_does(row in any_row()) {
            let (bytes, id) = (row.encode(), "r-2".parse::<RecordingId>().expect("id"));
            prop_assert_eq!(Row::decode(&bytes), Ok(row.clone()));
            prop_assert_eq!(Row::skim(&bytes, id.clone()), Ok(row.entry(&id)));
            for cut in 0..bytes.len() {
                prop_assert!(Row::skim(&bytes[..cut], id.clone()).is_err(), "{}", cut);
            }
        }
    }
}
