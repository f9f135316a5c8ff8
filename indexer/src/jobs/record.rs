//! A job: who ordered what, what came of it, and whom that is told. Its stored form is the whole job each time that
//! something of it changes; the greatest revision holds.
//!
//! Stored form 1: version (1 byte), until when it is needed (8 bytes, ms, big endian, so that nothing else need be
//! understood), then the fields in the order of [`Job::encode`].

use std::fmt;
use std::str::FromStr;

use stills_model::codec::{Malformed, Reader, Writer};
use stills_model::id::UserId;
use stills_model::time::Timestamp;

/// The kind of a job's journal entries.
pub const ENTRY_KIND: u8 = 1;

const VERSION: u8 = 1;

/// The longest `id` of a caller, in bytes.
pub const CALLER_ID_LEN_MAX: usize = 512;

/// The longest URL, in bytes.
pub const URL_LEN_MAX: usize = 4096;

/// A job's name: a UUID of version 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId([u8; 16]);

/// What a result's URL says beside the job's id, so that only who was told of it finds it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResultSecret([u8; 16]);

impl JobId {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> Result<Self, NoRandom> {
        let mut bytes = random()?;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Ok(Self(bytes))
    }
}

impl ResultSecret {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> Result<Self, NoRandom> {
        random().map(Self)
    }

    /// 32 hexadecimal digits in lower case.
    pub fn to_text(self) -> String {
        hex(&self.0)
    }
}

impl fmt::Debug for ResultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The system gives no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandom;

fn random() -> Result<[u8; 16], NoRandom> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let is_plain = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u128::from_str_radix(text, 16).ok().filter(|_| is_plain).map(u128::to_be_bytes)
}

/// `8-4-4-4-12` hexadecimal digits in lower case.
impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = hex(&self.0);
        write!(f, "{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
    }
}

/// The text names no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl FromStr for JobId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let id = unhex(&text.replace('-', "")).map(Self).ok_or(NotAnId)?;
        if id.to_string() == text { Ok(id) } else { Err(NotAnId) }
    }
}

impl FromStr for ResultSecret {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        unhex(text).map(Self).ok_or(NotAnId)
    }
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The media.
    pub video_url: Box<str>,
    /// Which point of it, in seconds, not negative.
    pub second: f64,
    /// Whom to tell.
    pub webhook_url: Option<Box<str>>,
    /// The caller's own name of the job.
    pub caller_id: Option<Box<str>>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Why there is no picture; public text.
    pub failure: Option<Box<str>>,
    /// When.
    pub finished_at: Timestamp,
    /// How long it ran, in milliseconds.
    pub run_ms: u64,
    /// How long it waited before that.
    pub queue_ms: u64,
    /// How many waited when it ended.
    pub queue_length: u64,
    /// Which process made it.
    pub pid: u32,
    /// Which queue it went through.
    pub queue_id: u64,
}

/// Whether the caller was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// There is nobody to tell, or nothing yet.
    None,
    /// Not yet: so many attempts failed, over this time in milliseconds.
    Due {
        /// Attempts that failed.
        attempts: u32,
        /// From the first moment that it could be told, not counting when nothing ran.
        tried_ms: u64,
    },
    /// Told.
    Delivered {
        /// Attempts, the last one included.
        attempts: u32,
    },
    /// Given up: a dead letter.
    Dead {
        /// Attempts that failed.
        attempts: u32,
        /// Why the last one failed; public text.
        reason: Box<str>,
    },
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Where its result is.
    pub secret: ResultSecret,
    /// Whose it is.
    pub user: UserId,
    /// What is wanted.
    pub order: Order,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Until when anyone may ask for it.
    pub needed_until: Timestamp,
    /// Counts its changes.
    pub revision: u32,
    /// None: it waits or runs.
    pub outcome: Option<Outcome>,
    /// Whether its caller was told.
    pub delivery: Delivery,
}

/// Whether a stored job may still be asked for: its result can be fetched, its status, or it is still to be done.
/// What cannot be read counts as needed.
pub fn is_needed(stored: &[u8], now: Timestamp) -> bool {
    let mut r = Reader::new(stored);
    match (r.byte(), r.array::<8>()) {
        (Ok(VERSION), Ok(until)) => i64::from_be_bytes(until) > now.as_ms(),
        _ => true,
    }
}

impl Job {
    /// Whether it ended with a picture.
    pub fn is_success(&self) -> bool {
        self.outcome.as_ref().is_some_and(|outcome| outcome.failure.is_none())
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(VERSION).raw(&self.needed_until.as_ms().to_be_bytes());
        w.raw(&self.id.0).raw(&self.secret.0).raw(self.user.as_bytes());
        let Order { video_url, second, webhook_url, caller_id } = &self.order;
        w.text(video_url).raw(&second.to_bits().to_be_bytes());
        w.optional_text(webhook_url.as_deref()).optional_text(caller_id.as_deref());
        w.signed(self.accepted_at.as_ms()).unsigned(self.revision.into());
        match &self.outcome {
            None => drop(w.byte(0)),
            Some(outcome) => {
                w.byte(1).optional_text(outcome.failure.as_deref()).signed(outcome.finished_at.as_ms());
                w.unsigned(outcome.run_ms).unsigned(outcome.queue_ms).unsigned(outcome.queue_length);
                w.unsigned(outcome.pid.into()).unsigned(outcome.queue_id);
            }
        }
        match &self.delivery {
            Delivery::None => drop(w.byte(0)),
            Delivery::Due { attempts, tried_ms } => drop(w.byte(1).unsigned((*attempts).into()).unsigned(*tried_ms)),
            Delivery::Delivered { attempts } => drop(w.byte(2).unsigned((*attempts).into())),
            Delivery::Dead { attempts, reason } => drop(w.byte(3).unsigned((*attempts).into()).text(reason)),
        }
        w.finish()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    pub fn decode(stored: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(stored);
        if r.byte()? != VERSION {
            return Err(Malformed("job version"));
        }
        let needed_until = Timestamp::from_ms(i64::from_be_bytes(r.array()?));
        let (id, secret) = (JobId(r.array()?), ResultSecret(r.array()?));
        let user = UserId::from_bytes(r.array()?);
        let order = Order {
            video_url: r.text()?.into(),
            second: f64::from_bits(u64::from_be_bytes(r.array()?)),
            webhook_url: r.optional_text()?.map(Into::into),
            caller_id: r.optional_text()?.map(Into::into),
        };
        let accepted_at = Timestamp::from_ms(r.signed()?);
        let revision = r.unsigned_32()?;
        let outcome = if r.flag()? { Some(read_outcome(&mut r)?) } else { None };
        let delivery = match r.byte()? {
            0 => Delivery::None,
            1 => Delivery::Due { attempts: r.unsigned_32()?, tried_ms: r.unsigned()? },
            2 => Delivery::Delivered { attempts: r.unsigned_32()? },
            3 => Delivery::Dead { attempts: r.unsigned_32()?, reason: r.text()?.into() },
            _ => return Err(Malformed("delivery")),
        };
        r.end()?;
        Ok(Self { id, secret, user, order, accepted_at, needed_until, revision, outcome, delivery })
    }
}

fn read_outcome(r: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    Ok(Outcome {
        failure: r.optional_text()?.map(Into::into),
        finished_at: Timestamp::from_ms(r.signed()?),
        run_ms: r.unsigned()?,
        queue_ms: r.unsigned()?,
        queue_length: r.unsigned()?,
        pid: r.unsigned_32()?,
        queue_id: r.unsigned()?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A job that was just accepted.
    pub(in crate::jobs) fn sample() -> Job {
        Job {
            id: JobId::random().expect("an id"),
            secret: ResultSecret::random().expect("a secret"),
            user: "627d8ca8297a3d00019e2abb".parse().expect("an id"),
            order: Order {
                video_url: "https://media.example/film.mp4".into(),
                second: 1.25,
                webhook_url: Some("https://caller.example/hook".into()),
                caller_id: Some("caller-1".into()),
            },
            accepted_at: Timestamp::from_ms(1000),
            needed_until: Timestamp::from_ms(2000),
            revision: 0,
            outcome: None,
            delivery: Delivery::None,
        }
    }

    pub(in crate::jobs) fn outcome(failure: Option<&str>) -> Outcome {
        let finished_at = Timestamp::from_ms(1500);
        let failure = failure.map(Into::into);
        Outcome { failure, finished_at, run_ms: 20, queue_ms: 3, queue_length: 1, pid: 7, queue_id: 9 }
    }

    #[test]
    fn jobs_survive_being_stored() {
        let check = |job: &Job| {
            let stored = job.encode();
            assert_eq!(Job::decode(&stored).as_ref(), Ok(job));
            for len in 0..stored.len() {
                assert!(Job::decode(&stored[..len]).is_err(), "cut at {len}");
            }
        };
        let plain = Order { webhook_url: None, caller_id: None, ..sample().order };
        check(&sample());
        check(&Job { order: plain, ..sample() });
        check(&Job { outcome: Some(outcome(None)), delivery: Delivery::Due { attempts: 3, tried_ms: 70 }, ..sample() });
        check(&Job { outcome: Some(outcome(Some("no"))), delivery: Delivery::Delivered { attempts: 1 }, ..sample() });
        check(&Job { delivery: Delivery::Dead { attempts: 30, reason: "silent".into() }, revision: 31, ..sample() });
    }

    proptest::proptest! {
        /// Whatever a disk gives back is a job or an error.
        #[test]
        fn any_bytes_are_an_answer(at in 0usize..200, byte: u8, tail: Vec<u8>) {
            let mut stored = sample().encode();
            let at = at % stored.len();
            stored[at] = byte;
            drop(Job::decode(&stored));
            drop(Job::decode(&tail));
            is_needed(&tail, Timestamp::from_ms(0));
        }
    }

    #[test]
    fn a_job_is_needed_until_its_time() {
        let stored = sample().encode();
        assert!(is_needed(&stored, Timestamp::from_ms(1999)));
        assert!(!is_needed(&stored, Timestamp::from_ms(2000)));
        assert!(is_needed(&[2, 0, 0], Timestamp::from_ms(5000)), "of a later release");
        assert!(is_needed(&[], Timestamp::from_ms(5000)));
    }

    #[test]
    fn ids_have_one_spelling() {
        let id = JobId::random().expect("an id");
        let text = id.to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "4"), "{text}");
        assert_eq!(text.parse(), Ok(id));
        for wrong in
            ["", &text.to_uppercase().replace(['0', '1', '2', '3'], "A"), &text.replace('-', ""), "../../etc/passwd"]
        {
            assert_eq!(wrong.parse::<JobId>(), Err(NotAnId), "{wrong}");
        }
        let secret = ResultSecret::random().expect("a secret");
        assert_eq!(secret.to_text().parse(), Ok(secret));
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!("A".repeat(32).parse::<ResultSecret>(), Err(NotAnId));
    }
}
