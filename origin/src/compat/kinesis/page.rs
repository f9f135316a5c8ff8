//! One page of pictures: every tick in order, as a picture or as the reason why there is none.
//!
//! 1. all ticks are looked up at once;
//! 2. a tick near a keyframe shows it: cached, shared with everybody else who shows it;
//! 3. the others show exact frames; those that follow each other share a decode, as many as fit into memory;
//! 4. the page ends where it is full, or where it has taken long, and the next one goes on there.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use stills_indexer::catalog::{Located, Missing};
use stills_indexer::decode::Class;
use stills_indexer::thumbs::{ThumbError, Thumbs};
use stills_model::fault::FaultKind;
use stills_model::rendition::{Format, Rendition};
use stills_model::time::{Span, Timestamp};

use super::Stream;
use super::ask::{ImagesAsk, PAGE_LEN_MAX};
use crate::app::App;
use crate::reply::AwsError;

/// The longest picture, in characters of base64.
const CONTENT_LEN_MAX: usize = 6_291_456;

/// The longest page, in characters of base64.
const PAGE_CONTENT_LEN_MAX: usize = 16 * 1024 * 1024;

/// After this the page ends with what it has: SDKs wait 60 s for an answer, and the exact frames under way may take
/// `decoders.exact_deadline` more.
const PAGE_TIME_MAX: Duration = Duration::from_secs(20);

/// Ticks less than a second apart show a keyframe only when it is this near: one frame at 25 a second.
const NEAR_MAX_MS: i64 = 40;

/// Pictures that are decoded ahead, in bytes.
const AHEAD_BYTES_MAX: usize = 12 * 1024 * 1024;

/// A page that is made.
#[derive(Debug)]
pub(super) struct Page {
    /// The entries, joined by commas.
    entries: String,
    n_entries: usize,
    content_len: usize,
    /// The tick that the next page begins with.
    pub(super) next: Option<usize>,
}

impl Page {
    /// The whole answer.
    pub(super) fn into_body(self, next_token: Option<&str>) -> String {
        let mut body = self.entries;
        body.insert_str(0, "{\"Images\":[");
        body.push(']');
        if let Some(token) = next_token {
            // Base64 needs no escapes.
            let _ = write!(body, ",\"NextToken\":\"{token}\"");
        }
        body.push('}');
        body
    }

    /// Adds a tick's entry; whether there was room.
    fn push(&mut self, tick: Timestamp, entry: &Entry) -> bool {
        let shown = match entry {
            Entry::Picture(body) if base64_len(body.len()) <= CONTENT_LEN_MAX => Ok(body),
            Entry::Picture(_) | Entry::MediaError => Err("MEDIA_ERROR"),
            Entry::NoMedia => Err("NO_MEDIA"),
        };
        let len = shown.map_or(0, |body| base64_len(body.len()));
        if self.content_len + len > PAGE_CONTENT_LEN_MAX {
            return false;
        }
        let comma = if self.n_entries == 0 { "" } else { "," };
        let (seconds, ms) = (tick.as_ms() / 1000, tick.as_ms() % 1000);
        // Writing to memory does not fail.
        let _ = write!(self.entries, "{comma}{{\"TimeStamp\":{seconds}.{ms:03},");
        match shown {
            Ok(body) => {
                self.entries.push_str("\"ImageContent\":\"");
                BASE64_STANDARD.encode_string(body, &mut self.entries);
                self.entries.push_str("\"}");
            }
            Err(error) => {
                let _ = write!(self.entries, "\"Error\":\"{error}\"}}");
            }
        }
        self.n_entries += 1;
        self.content_len += len;
        true
    }
}

const fn base64_len(len: usize) -> usize {
    len.div_ceil(3) * 4
}

/// What a tick shows.
#[derive(Debug, Clone)]
enum Entry {
    Picture(Bytes),
    NoMedia,
    MediaError,
}

/// How a tick is answered.
#[derive(Debug, Clone)]
enum Plan {
    /// By a keyframe.
    Keyframe(Located),
    /// By the frame nearest to it.
    Exact,
    /// At once.
    Known(Entry),
}

/// Makes the page that begins with tick `first`. It has at least one entry.
///
/// # Errors
/// When the decoders are busy or the store cannot answer before there is one.
pub(super) async fn make(app: &App, stream: &Stream, ask: &ImagesAsk, first: usize) -> Result<Page, AwsError> {
    let began = Instant::now();
    let (thumbs, end) = (&app.engine.thumbs, ask.n_ticks().min(first.saturating_add(ask.max)));
    let ticks: Vec<Timestamp> = (first..end).map(|k| ask.tick(k)).collect();
    let plans = plans(app, stream, ask, &ticks).await?;
    let mut exact = ExactFrames { thumbs, stream, rendition: ask.rendition, ready: BTreeMap::new(), largest: None };
    let mut page = Page { entries: String::new(), n_entries: 0, content_len: 0, next: None };
    let mut done = 0;
    for (place, (tick, plan)) in ticks.iter().zip(&plans).enumerate() {
        if page.n_entries > 0 && began.elapsed() > PAGE_TIME_MAX {
            break;
        }
        let shown = match plan {
            Plan::Known(entry) => Ok(entry.clone()),
            Plan::Keyframe(located) => keyframe(thumbs, stream, located, ask.rendition).await,
            Plan::Exact => exact.at(place, &ticks, &plans).await,
        };
        let entry = match shown {
            Ok(entry) => entry,
            // What is there is given; whoever asks for the rest asks a moment later.
            Err(_) if page.n_entries > 0 => break,
            Err(error) => return Err(error.into()),
        };
        if !page.push(*tick, &entry) {
            break;
        }
        done = place + 1;
    }
    page.next = Some(first + done).filter(|next| *next < ask.n_ticks());
    Ok(page)
}

async fn plans(app: &App, stream: &Stream, ask: &ImagesAsk, ticks: &[Timestamp]) -> Result<Vec<Plan>, ThumbError> {
    let (Some(start), Some(end)) = (ticks.first(), ticks.last()) else { return Ok(Vec::new()) };
    let window = Span { start: *start, end: *end };
    let asked = app.engine.thumbs.moment();
    let located = app.engine.thumbs.locate_all(stream.timeline, window, ticks.to_vec()).await?;
    if located.iter().any(Result::is_err) && !app.engine.thumbs.is_whole_since(asked) {
        return Err(ThumbError::Rebuilding);
    }
    let now = app.engine.clock.now();
    let plan = |located| match located {
        Ok(Located { expires_at: Some(expires_at), .. }) if expires_at <= now => Plan::Known(Entry::NoMedia),
        Ok(located) if located.distance_ms().abs() <= near_ms(ask.interval_ms) => Plan::Keyframe(located),
        Ok(_) => Plan::Exact,
        Err(missing) => Plan::Known(entry_of(&missing, stream)),
    };
    Ok(located.into_iter().map(plan).collect())
}

/// How far from a tick a keyframe may lie that stands for it.
const fn near_ms(interval_ms: i64) -> i64 {
    let half_ms = interval_ms / 2;
    if interval_ms < 1000 && half_ms > NEAR_MAX_MS { NEAR_MAX_MS } else { half_ms }
}

/// Whether nothing is recorded there, or something that cannot be shown.
fn entry_of(missing: &Missing, stream: &Stream) -> Entry {
    match missing {
        Missing::Gap { .. } | Missing::Deleted => Entry::NoMedia,
        // Said of a recording, it has no picture.
        Missing::NotRecorded if stream.is_recorded => Entry::MediaError,
        Missing::NotRecorded => Entry::NoMedia,
        Missing::NotIndexed | Missing::Failed(_) => Entry::MediaError,
    }
}

/// A tick's entry, or the error that is not the tick's own.
fn entry(shown: Result<Bytes, ThumbError>, stream: &Stream) -> Result<Entry, ThumbError> {
    match shown {
        Ok(body) => Ok(Entry::Picture(body)),
        Err(ThumbError::Missing(missing)) => Ok(entry_of(&missing, stream)),
        Err(ThumbError::Fault(fault)) if fault.kind != FaultKind::Busy => Ok(Entry::MediaError),
        Err(error) => Err(error),
    }
}

async fn keyframe(
    thumbs: &Thumbs,
    stream: &Stream,
    located: &Located,
    rendition: Rendition,
) -> Result<Entry, ThumbError> {
    let picture = thumbs.picture(located, rendition, Class::Interactive).await;
    entry(picture.map(|picture| picture.body), stream)
}

/// Exact frames, decoded some ticks ahead.
struct ExactFrames<'a> {
    thumbs: &'a Thumbs,
    stream: &'a Stream,
    rendition: Rendition,
    /// By the place of their tick.
    ready: BTreeMap<usize, Result<Bytes, ThumbError>>,
    /// The largest so far, in bytes.
    largest: Option<usize>,
}

impl ExactFrames<'_> {
    /// The entry of the tick at `place`.
    async fn at(&mut self, place: usize, ticks: &[Timestamp], plans: &[Plan]) -> Result<Entry, ThumbError> {
        if !self.ready.contains_key(&place) {
            self.decode(place, ticks, plans).await;
        }
        let shown = self.ready.remove(&place).unwrap_or(Err(ThumbError::Busy));
        entry(shown, self.stream)
    }

    /// Decodes the frames of the tick at `place` and of as many as fit behind it.
    async fn decode(&mut self, place: usize, ticks: &[Timestamp], plans: &[Plan]) {
        let asked =
            ticks.iter().zip(plans).enumerate().skip(place).filter(|(_, (_, plan))| matches!(plan, Plan::Exact));
        let asked: Vec<(usize, Timestamp)> =
            asked.map(|(place, (tick, _))| (place, *tick)).take(n_ahead(self.rendition, self.largest)).collect();
        let instants = asked.iter().map(|(_, tick)| *tick).collect();
        let pictures = self.thumbs.exact(self.stream.timeline, instants, self.rendition, Class::Interactive).await;
        for ((place, _), picture) in asked.into_iter().zip(pictures) {
            let picture = picture.map(|picture| picture.body);
            let len = picture.as_ref().map_or(0, Bytes::len);
            self.largest = Some(self.largest.unwrap_or(0).max(len)).filter(|largest| *largest > 0);
            self.ready.insert(place, picture);
        }
    }
}

/// How many exact frames are decoded at once: by the largest picture that the page has, else by what the size asked for
/// can take; of the source's own size, which is not known, one.
fn n_ahead(rendition: Rendition, largest: Option<usize>) -> usize {
    let (width, height) = (usize::from(rendition.width), usize::from(rendition.height));
    // PNG is hardly more than its samples; a JPEG of the highest quality is about a byte for each pixel.
    let each = match rendition.format {
        Format::Png | Format::WebP => 3,
        Format::Jpeg => 1,
    };
    let likely = match (largest, width * height) {
        (Some(largest), _) => largest.saturating_mul(2),
        (None, 0) => AHEAD_BYTES_MAX,
        (None, pixels) => pixels.saturating_mul(each),
    };
    (AHEAD_BYTES_MAX / likely.max(1)).clamp(1, PAGE_LEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use stills_model::rendition::Fit;

    fn empty() -> Page {
        Page { entries: String::new(), n_entries: 0, content_len: 0, next: None }
    }

    #[test]
    fn a_page_on_the_wire() {
        let mut page = empty();
        assert!(page.push(Timestamp::from_ms(1_757_371_980_005), &Entry::Picture(Bytes::from_static(b"\xff\xd8"))));
        assert!(page.push(Timestamp::from_ms(1_757_371_983_000), &Entry::NoMedia));
        assert!(page.push(Timestamp::from_ms(7), &Entry::MediaError));
        let body: Value = serde_json::from_str(&page.into_body(Some("AB=="))).expect("json");
        let images = json!([
            {"TimeStamp": 1_757_371_980.005, "ImageContent": "/9g="},
            {"TimeStamp": 1_757_371_983.0, "Error": "NO_MEDIA"},
            {"TimeStamp": 0.007, "Error": "MEDIA_ERROR"},
        ]);
        assert_eq!(body, json!({"Images": images, "NextToken": "AB=="}));
        assert_eq!(empty().into_body(None), "{\"Images\":[]}");
    }

    #[test]
    fn pictures_and_pages_have_a_largest_size() {
        let picture = |len: usize| Entry::Picture(Bytes::from(vec![0; len]));
        let most = CONTENT_LEN_MAX / 4 * 3;
        let mut page = empty();
        let tick = Timestamp::from_ms(0);
        assert!(page.push(tick, &picture(most)) && page.push(tick, &picture(most)));
        assert!(page.push(tick, &picture(most + 1)), "an error in place of a picture that is too large");
        assert_eq!(page.content_len, 2 * CONTENT_LEN_MAX);
        let left = (PAGE_CONTENT_LEN_MAX - page.content_len) / 4 * 3;
        assert!(!page.push(tick, &picture(left + 1)));
        assert!(page.push(tick, &picture(left)));
        assert!(page.push(tick, &Entry::NoMedia));
        let body: Value = serde_json::from_str(&page.into_body(None)).expect("json");
        let errors: Vec<_> = (0..5).map(|n| body["Images"][n]["Error"].as_str()).collect();
        assert_eq!(errors, [None, None, Some("MEDIA_ERROR"), None, Some("NO_MEDIA")]);
    }

    #[test]
    fn keyframes_stand_for_ticks_that_are_near() {
        let check = |interval_ms: i64, near: i64| assert_eq!(near_ms(interval_ms), near, "{interval_ms}");
        check(200, 40);
        check(999, 40);
        check(1000, 500);
        check(3000, 1500);
    }

    #[test]
    fn what_is_decoded_ahead_fits_into_memory() {
        let check = |width: u16, height: u16, format: Format, largest: Option<usize>, expected: usize| {
            let rendition = Rendition { width, height, fit: Fit::Inside, format, quality: 0 };
            assert_eq!(n_ahead(rendition, largest), expected, "{width}x{height} {format:?} {largest:?}");
        };
        check(640, 360, Format::Jpeg, None, 25);
        check(1920, 1080, Format::Png, None, 2);
        check(3840, 2160, Format::Png, None, 1);
        check(0, 0, Format::Jpeg, None, 1);
        check(0, 0, Format::Png, Some(3 << 20), 2);
        check(0, 0, Format::Jpeg, Some(100_000), 25);
        check(0, 0, Format::Jpeg, Some(40 << 20), 1);
    }
}
