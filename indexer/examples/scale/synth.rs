//! Recordings that never were: those of a thousand cameras side by side, minute after minute, no two alike. The n-th is
//! the same in every run. Never takes anything anywhere.
//!
//! What a real one says at random is random here, or a compression would look better than it is: ids of users, cameras and
//! events, digests, lengths of keyframes (a tenth around 90 KB) and distances between them (a fifth around 800 KB).

use stills_indexer::catalog::Finished;
use stills_model::event::{Available, Event, EventKind, EventOrder};
use stills_model::id::{DeviceId, Timeline, UserId};
use stills_model::keyframe::{ByteRange, Codec, DecoderConfig, Keyframe, Orientation, Packaging};
use stills_model::keyframe_index::KeyframeIndex;
use stills_model::time::{DAY_MS, Timestamp};

use super::Outcome;

pub(super) const CAMERAS: u64 = 1000;
pub(super) const MINUTE_MS: i64 = 60_000;
/// Midnight of 2025-09-08.
const START_MS: i64 = 20_339 * DAY_MS;
/// Cameras of one user.
const CAMERAS_OF_USER: u64 = 20;
/// Kinds of cameras: those of one kind have the same parameter sets.
const KINDS: u64 = 16;
const KEYFRAMES: u32 = 30;

/// A stream of numbers without pattern (SplitMix64), told by what it is for and of which one.
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(purpose: u64, n: u64) -> Self {
        Self(purpose.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ n.wrapping_mul(0xA076_1D64_78BD_642F))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From `mean - spread` to `mean + spread`, all alike likely.
    fn around(&mut self, mean: u64, spread: u64) -> u64 {
        mean - spread + self.next() % (2 * spread + 1)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_le_bytes()[0])
    }
}

/// What the numbers are for.
mod purpose {
    pub(super) const USER: u64 = 1;
    pub(super) const DEVICE: u64 = 2;
    pub(super) const KIND: u64 = 3;
    pub(super) const RECORDING: u64 = 4;
}

/// The camera of the n-th recording.
pub(super) fn timeline(n: u64) -> Timeline {
    let camera = n % CAMERAS;
    let user = UserId::from_bytes(Noise::new(purpose::USER, camera / CAMERAS_OF_USER).bytes());
    Timeline { user, device: DeviceId::from_bytes(Noise::new(purpose::DEVICE, camera).bytes()) }
}

/// The start of the n-th recording: all cameras record at the same time, each with its own beginning of a minute.
pub(super) fn start(n: u64) -> Timestamp {
    let phase_ms = i64::try_from(Noise::new(purpose::DEVICE, n % CAMERAS).next() % 60_000).unwrap_or(0);
    Timestamp::from_ms(START_MS + phase_ms + i64::try_from(n / CAMERAS).unwrap_or(0) * MINUTE_MS)
}

/// The n-th recording: its event, and what its scan finds.
pub(super) fn recording(n: u64) -> Outcome<(Event, Finished)> {
    let (timeline, start, camera) = (timeline(n), start(n), n % CAMERAS);
    let mut noise = Noise::new(purpose::RECORDING, n);
    let (head, id) = (noise.bytes(), u128::from_le_bytes(noise.bytes()));
    let index = index(camera, &mut noise);
    let media_len = 6000 + index.keyframes.iter().map(|keyframe| keyframe.gop_bytes).sum::<u64>();
    // Told some seconds after its end, by one of a few recorders.
    let told = start.plus_ms(MINUTE_MS + i64::try_from(noise.around(3000, 2000)).unwrap_or(0));
    let order = EventOrder {
        time_ns: told.as_ms() * 1_000_000,
        source: format!("/recorder/eu-{}", camera / 100).into(),
        id: uuid(id).into(),
    };
    let at = jiff::Timestamp::from_millisecond(start.as_ms())?;
    let recording = format!("cam-{camera:04}-{}", at.strftime("%Y%m%dT%H%M%S"));
    let available = Available {
        device: timeline.device,
        recording: recording.parse().map_err(|_| "an id")?,
        start,
        end: Some(start.plus_ms(MINUTE_MS)),
        media_url: format!("s3://footage-eu/cam-{camera:04}/{}.mp4", at.strftime("%Y-%m-%d/%H-%M-%S")).into(),
        growing: false,
        expires_at: None,
        size: Some(media_len),
        etag: None,
        credentials_key: None,
    };
    let recording = available.recording.clone();
    let kind = EventKind::Available(Box::new(available));
    let event = Event { order: order.clone(), user: timeline.user, kind };
    Ok((event, Finished { timeline, recording, start, order, media_len, head, is_complete: true, index }))
}

/// As it is usually written: 8-4-4-4-12 digits.
fn uuid(id: u128) -> String {
    let digits = format!("{id:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

fn index(camera: u64, noise: &mut Noise) -> KeyframeIndex {
    let config = DecoderConfig {
        codec: Codec::H264,
        packaging: Packaging::Samples { prefix: vec![] },
        extradata: Noise::new(purpose::KIND, camera % KINDS).bytes::<45>().to_vec(),
        size: (1920, 1080),
        sample_aspect: (1, 1),
        orientation: Orientation::default(),
    };
    let mut offset = 48;
    let keyframe = |n: u32| {
        let (len, gop_bytes) = (noise.around(90_000, 9_000), noise.around(800_000, 160_000));
        let range = ByteRange { offset, len: u32::try_from(len).unwrap_or(0) };
        offset += gop_bytes;
        Keyframe { at_ms: i64::from(n) * 2000, config: 0, ranges: vec![range], gop_bytes }
    };
    KeyframeIndex {
        configs: vec![config],
        keyframes: (0..KEYFRAMES).map(keyframe).collect(),
        duration_ms: MINUTE_MS,
        resume: vec![],
    }
}
