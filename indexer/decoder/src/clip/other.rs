//! The picture at one point of a container that libav reads: by the container's own index (MXF, AVI), or by halves over
//! its timestamps (program streams, FLV), which have none that can be relied on.

use stills_model::clip::{ClipPoint, ClipQuery, ClipShown, Container, KeyframeBytes};
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::DecoderConfig;

use super::demux::{Demuxer, Packet};
use super::kept::Kept;
use crate::bisect::{self, Seen, Walk};
use crate::frame::{Decoder, Picture};
use crate::render::Renderer;
use crate::scan::Media;

/// Packets at the start among which a video has to be.
const HEAD_PACKETS_MAX: usize = 500;

/// Pictures at the start that are looked at for the earliest one.
const FIRST_FRAMES: usize = 4;

/// The first stretch at the end that is looked at for the last time; it doubles up to the second.
const TAIL_LEN: u64 = 256 * 1024;
const TAIL_LEN_MAX: u64 = 16 * 1024 * 1024;

/// An index that names a place behind the point is asked for one this much earlier, in milliseconds; it doubles.
const STEP_MS: i64 = 20;

/// Bytes that are looked through at once for the start of a tag.
const SYNC_LEN: u32 = 64 * 1024;

/// Packets between a keyframe's place and the keyframe itself.
const STRAY_MAX: usize = 500;

/// Finds the picture.
pub(super) fn find(
    media: &mut Kept<'_>,
    container: Container,
    query: &ClipQuery,
    renderer: &mut Renderer,
) -> Result<ClipShown, Fault> {
    let first_tag = if container == Container::Flv { flv_header_len(media)? } else { 0 };
    let len = media.len();
    let mut clip = Clip::open(media, container, len, first_tag)?;
    let duration_ms = clip.duration_ms()?;
    let target_ms = match query.point {
        ClipPoint::Keyframe(percent) => percent.of_ms(duration_ms),
        ClipPoint::Exact(at_ms) => at_ms.clamp(0, duration_ms),
    };
    let target_ms = target_ms.saturating_add(clip.origin_ms);
    let key = clip.key(target_ms)?.ok_or_else(|| Fault::new(FaultKind::Damaged, "the media holds no keyframe"))?;
    let config = clip.config.clone();
    if matches!(query.point, ClipPoint::Exact(_)) {
        let (time_ms, picture) = clip.frame(&key, target_ms, query.frames_max)?;
        let pictures = renderer.show(&picture, &config, &query.renditions)?.pictures;
        let keyframe = KeyframeBytes::Ranges(Vec::new());
        return Ok(ClipShown { at_ms: time_ms - clip.origin_ms, config, keyframe, pictures });
    }
    let (at_ms, packets) = (key.time_ms - clip.origin_ms, vec![key.bytes]);
    let pictures = renderer.render(&config, &packets, &query.renditions)?.pictures;
    Ok(ClipShown { at_ms, config, keyframe: KeyframeBytes::Packets(packets), pictures })
}

/// A keyframe and where its packet is.
struct Key {
    at: Option<u64>,
    time_ms: i64,
    bytes: Vec<u8>,
}

struct Clip<'m> {
    demuxer: Demuxer<'m>,
    container: Container,
    config: DecoderConfig,
    len: u64,
    /// Where the first packet can be.
    first: u64,
    /// The time of the earliest picture.
    origin_ms: i64,
    /// The first keyframe met at the start.
    head: Option<Key>,
}

impl<'m> Clip<'m> {
    fn open(media: &'m mut Kept<'_>, container: Container, len: u64, first: u64) -> Result<Self, Fault> {
        let mut demuxer = Demuxer::open(media, container)?;
        let mut config = demuxer.video()?;
        let (mut earliest, mut head, mut n_frames) = (None, None, 0);
        for _ in 0..HEAD_PACKETS_MAX {
            let Some(packet) = demuxer.next()? else { break };
            if config.is_none() {
                config = demuxer.video()?;
            }
            let Some(time_ms) = packet.time_ms.filter(|_| demuxer.is_video(&packet)) else { continue };
            earliest = Some(earliest.map_or(time_ms, |earliest: i64| earliest.min(time_ms)));
            if head.is_none() && packet.is_key {
                head = Some(Key { at: packet.at, time_ms, bytes: packet.bytes });
            }
            n_frames += 1;
            if n_frames >= FIRST_FRAMES {
                break;
            }
        }
        let config = config.ok_or_else(|| Fault::new(FaultKind::Damaged, "the container names no video"))?;
        let origin_ms =
            earliest.ok_or_else(|| Fault::new(FaultKind::Damaged, "the video has no picture with a time"))?;
        Ok(Self { demuxer, container, config, len, first, origin_ms, head })
    }

    /// Whether keyframes are found by the container's index.
    fn has_index(&self) -> bool {
        matches!(self.container, Container::Mxf | Container::Avi)
    }

    /// As the container says, else by the last time near its end.
    fn duration_ms(&mut self) -> Result<i64, Fault> {
        if let Some(duration_ms) = self.demuxer.duration_ms() {
            return Ok(duration_ms);
        }
        let mut reach = TAIL_LEN;
        loop {
            let from = self.len.saturating_sub(reach).max(self.first);
            self.go_to(from)?;
            let mut latest = None;
            while let Some(packet) = self.demuxer.next()? {
                latest = packet.time_ms.max(latest);
            }
            if latest.is_some() || from == self.first || reach >= TAIL_LEN_MAX {
                return Ok((latest.unwrap_or(self.origin_ms) - self.origin_ms).max(0));
            }
            reach *= 2;
        }
    }

    fn key(&mut self, target_ms: i64) -> Result<Option<Key>, Fault> {
        if !self.has_index() {
            let found = bisect::at_or_before(self, target_ms)?;
            return Ok(found.map(|(_, key)| key));
        }
        let (mut asked_ms, mut step_ms) = (target_ms, STEP_MS);
        if !self.demuxer.go_to_ms(asked_ms)? {
            return self.key_from_the_start(target_ms);
        }
        loop {
            match self.next_key()? {
                Some(key) if key.time_ms <= target_ms => return Ok(Some(key)),
                _ if asked_ms <= self.origin_ms => break,
                _ => {}
            }
            asked_ms = (asked_ms - step_ms).max(self.origin_ms);
            step_ms *= 2;
            if !self.demuxer.go_to_ms(asked_ms)? {
                break;
            }
        }
        Ok(self.head.take())
    }

    /// Without an index all is read up to the point, as far as the limit on bytes allows.
    fn key_from_the_start(&mut self, target_ms: i64) -> Result<Option<Key>, Fault> {
        let mut best = self.head.take();
        while let Some(key) = self.next_key()? {
            if key.time_ms > target_ms {
                break;
            }
            best = Some(key);
        }
        Ok(best)
    }

    fn next_key(&mut self) -> Result<Option<Key>, Fault> {
        while let Some(Packet { at, time_ms, is_key, bytes, .. }) = self.demuxer.next()? {
            if let Some(time_ms) = time_ms.filter(|_| is_key) {
                return Ok(Some(Key { at, time_ms, bytes }));
            }
        }
        Ok(None)
    }

    /// Goes to where the next packet may be the keyframe.
    fn return_to(&mut self, key: &Key) -> Result<(), Fault> {
        match key.at.filter(|_| !self.has_index()) {
            Some(at) => self.go_to(at.saturating_sub(self.lead())),
            None if self.demuxer.go_to_ms(key.time_ms)? => Ok(()),
            None => Err(Fault::new(FaultKind::Damaged, "the container cannot be entered at its keyframe")),
        }
    }

    /// Bytes between where a packet begins and where its bytes do, at most.
    fn lead(&self) -> u64 {
        if self.container == Container::Flv { 64 } else { 0 }
    }

    /// The frame nearest to a time, of two equally near the later, and its own time.
    fn frame(&mut self, key: &Key, target_ms: i64, frames_max: u32) -> Result<(i64, Picture), Fault> {
        self.return_to(key)?;
        let mut decoder = Decoder::open_for_frames(&self.config)?;
        let mut nearest = Nearest { from_ms: key.time_ms, target_ms, left: frames_max, held: None };
        let (mut is_first, mut strays) = (true, 0);
        while let Some(packet) = self.demuxer.next()? {
            let is_key = packet.time_ms == Some(key.time_ms);
            if is_first && !is_key {
                strays += 1;
                if strays > STRAY_MAX {
                    break;
                }
                continue;
            }
            if let Some(time_ms) = packet.time_ms {
                decoder.feed(&packet.bytes, time_ms, is_first);
                is_first = false;
            }
            if let Some(found) = nearest.take_from(&mut decoder)? {
                return Ok(found);
            }
        }
        decoder.end();
        if let Some(found) = nearest.take_from(&mut decoder)? {
            return Ok(found);
        }
        nearest.held.ok_or_else(|| Fault::new(FaultKind::Damaged, "no frame at this point could be decoded"))
    }
}

/// Which of the frames that come in the order of presentation is nearest.
struct Nearest {
    from_ms: i64,
    target_ms: i64,
    left: u32,
    held: Option<(i64, Picture)>,
}

impl Nearest {
    /// Takes all frames that are ready; gives the nearest once it is decided.
    fn take_from(&mut self, decoder: &mut Decoder) -> Result<Option<(i64, Picture)>, Fault> {
        while let Some(picture) = decoder.next_picture()? {
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                let detail =
                    "the frame is more frames (decoders.exact_frames_max) behind its keyframe than are decoded";
                Fault::new(FaultKind::TooLarge, detail)
            })?;
            // Frames in front of the keyframe may lack what they refer to.
            let Some(time_ms) = picture.pts().filter(|time_ms| *time_ms >= self.from_ms) else { continue };
            if time_ms < self.target_ms {
                self.held = Some((time_ms, picture));
                continue;
            }
            let ahead = time_ms - self.target_ms;
            return Ok(match self.held.take() {
                Some(held) if self.target_ms - held.0 < ahead => Some(held),
                _ => Some((time_ms, picture)),
            });
        }
        Ok(None)
    }
}

impl Clip<'_> {
    /// The first tag of an FLV file at or behind `at`: one that its own size is repeated behind.
    fn tag(&mut self, at: u64) -> Result<u64, Fault> {
        const KINDS: [u8; 3] = [8, 9, 18];
        const HEADER_LEN: u64 = 11;
        let mut from = at;
        while from.saturating_add(HEADER_LEN) < self.len && from - at <= TAIL_LEN_MAX {
            let len = u32::try_from(self.len - from).unwrap_or(u32::MAX).min(SYNC_LEN);
            let bytes = self.demuxer.peek(from, len)?;
            let is_tag = |tag: &[u8]| matches!(tag, [kind, .., 0, 0, 0] if KINDS.contains(kind));
            for (place, tag) in bytes.windows(11).enumerate().filter(|(_, tag)| is_tag(tag)) {
                let size = tag[1..4].iter().fold(0u64, |size, byte| size << 8 | u64::from(*byte)) + HEADER_LEN;
                let begin = from + place as u64;
                if begin + size + 4 > self.len {
                    continue;
                }
                let repeated = self.demuxer.peek(begin + size, 4)?;
                if repeated.iter().fold(0u64, |size, byte| size << 8 | u64::from(*byte)) == size {
                    return Ok(begin);
                }
            }
            from += u64::from(len).saturating_sub(HEADER_LEN - 1).max(1);
        }
        Ok(self.len)
    }

    fn enter(&mut self, at: u64) -> Result<(), Fault> {
        let at = if self.container == Container::Flv { self.tag(at)? } else { at };
        if self.demuxer.go_to_byte(at)? {
            return Ok(());
        }
        Err(Fault::new(FaultKind::Damaged, "the container cannot be entered in the middle"))
    }
}

impl Walk for Clip<'_> {
    type Key = Key;

    fn len(&self) -> u64 {
        self.len
    }

    fn time_from(&mut self, at: u64) -> Result<Option<i64>, Fault> {
        self.go_to(at)?;
        while let Some(packet) = self.demuxer.next()? {
            if packet.time_ms.is_some() {
                return Ok(packet.time_ms);
            }
        }
        Ok(None)
    }

    fn go_to(&mut self, at: u64) -> Result<(), Fault> {
        self.enter(at.max(self.first))
    }

    fn next(&mut self) -> Result<Option<Seen<Key>>, Fault> {
        while let Some(Packet { at, time_ms, is_key, bytes, .. }) = self.demuxer.next()? {
            let Some(time_ms) = time_ms else { continue };
            let key = is_key.then_some(Key { at, time_ms, bytes });
            return Ok(Some(Seen { at: at.unwrap_or(0), time: time_ms, key }));
        }
        Ok(None)
    }
}

/// Where the first tag of an FLV file begins, behind the size of a tag before it that is none.
fn flv_header_len(media: &mut Kept<'_>) -> Result<u64, Fault> {
    if media.len() < 9 {
        return Err(Fault::new(FaultKind::Damaged, "the FLV file ends in its header"));
    }
    let head = media.read(5, 4)?;
    let len = head.iter().fold(0u64, |len, byte| len << 8 | u64::from(*byte));
    Ok(len.clamp(9, 4096) + 4)
}
