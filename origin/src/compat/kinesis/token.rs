//! `NextToken`: which tick a page begins with, tied to the request that it continues. Opaque, in standard base64.
//!
//! Made with the caller's secret, so that any origin takes it, also after a restart, and nobody else can make one.
//!
//! Stored form 1: the version (1 byte), the tick (4 bytes, big endian), 16 bytes of HMAC-SHA256 over all that the
//! request asks for and the tick.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use stills_model::codec::Writer;
use stills_model::id::Timeline;

use super::ask::ImagesAsk;

/// The longest token that is read.
pub(super) const LEN_MAX: usize = 4096;

const VERSION: u8 = 1;
const TAG_LEN: usize = 16;

/// The token of the page that begins with tick `k`.
pub(super) fn make(secret: &[u8], timeline: &Timeline, ask: &ImagesAsk, k: u32) -> String {
    let mut token = vec![VERSION];
    token.extend(k.to_be_bytes());
    token.extend(tag(secret, timeline, ask, k));
    BASE64_STANDARD.encode(token)
}

/// The tick that a token names, where it was made for this very request.
pub(super) fn read(secret: &[u8], timeline: &Timeline, ask: &ImagesAsk, token: &str) -> Option<u32> {
    let token = BASE64_STANDARD.decode(token).ok()?;
    let (VERSION, rest) = token.split_first().map(|(version, rest)| (*version, rest))? else { return None };
    let (k, given) = rest.split_first_chunk::<4>()?;
    let k = u32::from_be_bytes(*k);
    let made = tag(secret, timeline, ask, k);
    aws_lc_rs::constant_time::verify_slices_are_equal(&made, given).ok().map(|()| k)
}

/// Over everything that decides what is on the pages; how long a page is may change from one to the next.
fn tag(secret: &[u8], timeline: &Timeline, ask: &ImagesAsk, k: u32) -> Vec<u8> {
    let mut w = Writer::new();
    w.raw(b"stills-next-token-v1").raw(&timeline.key()).text(ask.selector);
    w.signed(ask.start.as_ms()).signed(ask.end.as_ms()).signed(ask.interval_ms).unsigned(k.into());
    ask.rendition.write(&mut w);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &w.finish());
    tag.as_ref().iter().copied().take(TAG_LEN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stills_model::id::{DeviceId, UserId};
    use stills_model::rendition::{Fit, Format, Rendition};
    use stills_model::time::Timestamp;

    const SECRET: &[u8] = b"secret";

    fn timeline(device: &str) -> Timeline {
        let user: UserId = "627d8ca8297a3d00019e2abb".parse().expect("an id");
        let device: DeviceId = device.parse().expect("an id");
        Timeline { user, device }
    }

    fn front_door() -> Timeline {
        timeline("627d911f7f58e4f344ca726c")
    }

    fn ask() -> ImagesAsk {
        ImagesAsk {
            stream: "front-door".to_owned(),
            selector: "PRODUCER_TIMESTAMP",
            start: Timestamp::from_ms(0),
            end: Timestamp::from_ms(300_000),
            interval_ms: 200,
            rendition: Rendition { width: 0, height: 0, fit: Fit::Inside, format: Format::Jpeg, quality: 80 },
            max: 25,
            next_token: None,
        }
    }

    #[test]
    fn it_continues_its_own_request_alone() {
        let token = make(SECRET, &front_door(), &ask(), 25);
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
        assert!(token.bytes().all(is_plain), "{token}");
        let check = |secret: &[u8], timeline: Timeline, ask: &ImagesAsk, expected: Option<u32>| {
            assert_eq!(read(secret, &timeline, ask, &token), expected, "{timeline:?} {ask:?}");
        };
        check(SECRET, front_door(), &ask(), Some(25));
        check(SECRET, front_door(), &ImagesAsk { max: 3, ..ask() }, Some(25));
        check(b"another", front_door(), &ask(), None);
        check(SECRET, timeline("627d911f7f58e4f344ca726d"), &ask(), None);
        check(SECRET, front_door(), &ImagesAsk { start: Timestamp::from_ms(1), ..ask() }, None);
        check(SECRET, front_door(), &ImagesAsk { end: Timestamp::from_ms(299_999), ..ask() }, None);
        check(SECRET, front_door(), &ImagesAsk { interval_ms: 201, ..ask() }, None);
        check(SECRET, front_door(), &ImagesAsk { selector: "SERVER_TIMESTAMP", ..ask() }, None);
        let other = Rendition { quality: 81, ..ask().rendition };
        check(SECRET, front_door(), &ImagesAsk { rendition: other, ..ask() }, None);
    }

    #[test]
    fn nothing_else_is_a_token() {
        let token = make(SECRET, &front_door(), &ask(), 25);
        let raw = BASE64_STANDARD.decode(&token).expect("base64");
        for at in 0..raw.len() {
            let mut other = raw.clone();
            other[at] ^= 1;
            assert_eq!(read(SECRET, &front_door(), &ask(), &BASE64_STANDARD.encode(other)), None, "byte {at}");
        }
        for text in ["", "x", "AA==", &token[1..], &format!("{token}AAAA"), &token.replace('=', "-")] {
            if text != token {
                assert_eq!(read(SECRET, &front_door(), &ask(), text), None, "{text}");
            }
        }
    }
}
