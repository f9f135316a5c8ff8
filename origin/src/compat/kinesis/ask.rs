//! What the two calls ask for: JSON bodies read and checked, every fault named. Knows no footage.

use serde_json::{Map, Value};
use stills_model::rendition::{Fit, Format, Rendition};
use stills_model::time::{TIMESTAMP_MAX_MS, Timestamp};

use super::token;
use crate::reply::{AwsError, Exception};

/// The longest stretch of time of one call.
const SPAN_MAX_MS: i64 = 300_000;

/// The shortest and the usual distance of two ticks.
const INTERVAL_MIN_MS: i64 = 200;
const INTERVAL_USUAL_MS: i64 = 3000;

/// What callers may ask for on a page, and what is given.
const RESULTS_MAX: i64 = 100;
pub(super) const PAGE_LEN_MAX: usize = 25;

const WIDTH_MAX: i64 = 3840;
const HEIGHT_MAX: i64 = 2160;
const QUALITY_USUAL: u8 = 80;
const STREAM_NAME_LEN_MAX: usize = 256;
const ARN_LEN_MAX: usize = 1024;

/// What may be asked of a data endpoint elsewhere; here it is `GET_IMAGES` alone.
const API_NAMES: [&str; 7] = [
    "PUT_MEDIA",
    "GET_MEDIA",
    "LIST_FRAGMENTS",
    "GET_MEDIA_FOR_FRAGMENT_LIST",
    "GET_HLS_STREAMING_SESSION_URL",
    "GET_DASH_STREAMING_SESSION_URL",
    "GET_CLIP",
];

/// Pictures of a stream at even distances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImagesAsk {
    /// The stream's name.
    pub(super) stream: String,
    pub(super) selector: &'static str,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) interval_ms: i64,
    pub(super) rendition: Rendition,
    /// The most entries of this page.
    pub(super) max: usize,
    pub(super) next_token: Option<String>,
}

impl ImagesAsk {
    pub(super) fn read(body: &[u8]) -> Result<Self, AwsError> {
        let mut fields = Fields::read(body)?;
        let stream = fields.stream();
        let selector = fields.choice("ImageSelectorType", &["PRODUCER_TIMESTAMP", "SERVER_TIMESTAMP"]);
        let (start, end) = (fields.time("StartTimestamp"), fields.time("EndTimestamp"));
        if let Some((start, end)) = start.zip(end) {
            if end < start {
                fields.fault("EndTimestamp must not be before StartTimestamp");
            } else if end.since_ms(start) > SPAN_MAX_MS {
                fields.fault("EndTimestamp must be at most 300 seconds after StartTimestamp");
            }
        }
        let interval_ms = fields.integer("SamplingInterval", INTERVAL_MIN_MS, i32::MAX.into());
        let format = fields.choice("Format", &["JPEG", "PNG"]);
        let quality = fields.quality();
        let width = fields.integer("WidthPixels", 1, WIDTH_MAX);
        let height = fields.integer("HeightPixels", 1, HEIGHT_MAX);
        let max = fields.integer("MaxResults", 1, RESULTS_MAX);
        let next_token = fields.text("NextToken");
        if next_token.as_ref().is_some_and(|token| !(1..=token::LEN_MAX).contains(&token.len())) {
            fields.fault(format!("NextToken must have 1 to {} characters", token::LEN_MAX));
        }
        fields.finish()?;
        if width.is_some() && height.is_none() {
            let detail = "WidthPixels needs HeightPixels beside it; HeightPixels alone keeps the shape";
            return Err(AwsError::new(Exception::Validation, detail));
        }
        // Everything that is required is there: what is missing was a fault.
        let required = stream.zip(selector).zip(start.zip(end)).zip(format);
        let (((stream, selector), (start, end)), format) = required.ok_or_else(internal)?;
        Ok(Self {
            stream,
            selector,
            start,
            end,
            interval_ms: interval_ms.unwrap_or(INTERVAL_USUAL_MS),
            rendition: rendition(width, height, format, quality),
            max: max.and_then(|max| usize::try_from(max).ok()).map_or(PAGE_LEN_MAX, |max| max.min(PAGE_LEN_MAX)),
            next_token,
        })
    }

    /// How many ticks there are: every `start + k * interval` that is not past the end.
    pub(super) fn n_ticks(&self) -> usize {
        usize::try_from(self.end.since_ms(self.start) / self.interval_ms + 1).unwrap_or(0)
    }

    /// The instant of a tick.
    pub(super) fn tick(&self, k: usize) -> Timestamp {
        self.start.plus_ms(self.interval_ms.saturating_mul(i64::try_from(k).unwrap_or(i64::MAX)))
    }
}

/// The stream whose data endpoint is asked for.
pub(super) fn read_endpoint(body: &[u8]) -> Result<String, AwsError> {
    let mut fields = Fields::read(body)?;
    let stream = fields.stream();
    match fields.text("APIName").as_deref() {
        Some("GET_IMAGES") => {}
        Some(other) if API_NAMES.contains(&other) => {
            fields.fault(format!("APIName {other} is not offered here; GET_IMAGES is"));
        }
        Some(_) => fields.fault("APIName must be GET_IMAGES"),
        None => fields.fault("APIName is required: GET_IMAGES"),
    }
    fields.finish()?;
    stream.ok_or_else(internal)
}

/// What a missing value is that was not a fault either: a bug of ours.
fn internal() -> AwsError {
    AwsError::new(Exception::InternalFailure, "the request could not be read")
}

fn rendition(width: Option<i64>, height: Option<i64>, format: &str, quality: u8) -> Rendition {
    let side = |side: Option<i64>| side.and_then(|side| u16::try_from(side).ok()).unwrap_or(0);
    let fit = if width.is_some() { Fit::Stretch } else { Fit::Inside };
    let (format, quality) = if format == "PNG" { (Format::Png, 0) } else { (Format::Jpeg, quality) };
    Rendition { width: side(width), height: side(height), fit, format, quality }
}

/// The members of a body, and what is wrong with them.
struct Fields {
    members: Map<String, Value>,
    faults: Vec<String>,
}

impl Fields {
    fn read(body: &[u8]) -> Result<Self, AwsError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self { members, faults: Vec::new() }),
            _ => Err(AwsError::new(Exception::InvalidArgument, "the body must be a JSON object")),
        }
    }

    fn fault(&mut self, detail: impl Into<String>) {
        self.faults.push(detail.into());
    }

    fn finish(self) -> Result<(), AwsError> {
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(AwsError::new(Exception::InvalidArgument, self.faults.join("; ")))
    }

    /// A member that is there; null is not.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            _ => {
                self.fault(format!("{name} must be a string"));
                None
            }
        }
    }

    /// A required member with a few allowed values.
    fn choice(&mut self, name: &str, words: &[&'static str]) -> Option<&'static str> {
        let n_faults = self.faults.len();
        let text = self.text(name);
        let found = text.and_then(|text| words.iter().copied().find(|word| *word == text));
        if found.is_none() && self.faults.len() == n_faults {
            self.fault(format!("{name} is required: {}", words.join(" or ")));
        }
        found
    }

    fn integer(&mut self, name: &str, min: i64, max: i64) -> Option<i64> {
        let value = self.take(name)?;
        let integer = value.as_i64().filter(|integer| (min..=max).contains(integer));
        if integer.is_none() {
            self.fault(format!("{name} must be an integer from {min} to {max}"));
        }
        integer
    }

    /// A required instant in epoch seconds, fractions allowed, to the millisecond.
    fn time(&mut self, name: &str) -> Option<Timestamp> {
        let Some(value) = self.take(name) else {
            self.fault(format!("{name} is required: a number of seconds since 1970"));
            return None;
        };
        let at = value.as_f64().and_then(timestamp);
        if at.is_none() {
            self.fault(format!("{name} must be a number of seconds from 0 to {}", TIMESTAMP_MAX_MS / 1000));
        }
        at
    }

    /// `FormatConfig`: at most the one entry that there is.
    fn quality(&mut self) -> u8 {
        match self.take("FormatConfig") {
            None => QUALITY_USUAL,
            Some(Value::Object(config)) => self.quality_in(&config),
            Some(_) => {
                self.fault("FormatConfig must be an object");
                QUALITY_USUAL
            }
        }
    }

    fn quality_in(&mut self, config: &Map<String, Value>) -> u8 {
        if let Some(other) = config.keys().find(|key| *key != "JPEGQuality") {
            let other: String = other.chars().take(STREAM_NAME_LEN_MAX).collect();
            self.fault(format!("FormatConfig has JPEGQuality alone, not {other}"));
        }
        let Some(value) = config.get("JPEGQuality") else { return QUALITY_USUAL };
        let digits = value.as_str().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let quality = digits.and_then(|digits| digits.parse().ok()).filter(|quality| (1..=100).contains(quality));
        if quality.is_none() {
            self.fault("JPEGQuality must be a string that holds an integer from 1 to 100");
        }
        quality.unwrap_or(QUALITY_USUAL)
    }

    /// The stream's name, from either of the two ways to say it.
    fn stream(&mut self) -> Option<String> {
        let n_faults = self.faults.len();
        match (self.text("StreamName"), self.text("StreamARN")) {
            (Some(name), None) => {
                if !is_name(&name) {
                    self.fault("StreamName must be 1 to 256 of A-Z a-z 0-9 _ . -");
                }
                Some(name)
            }
            (None, Some(arn)) => {
                let name = name_in(&arn).map(str::to_owned);
                if name.is_none() {
                    let form = "arn:{partition}:kinesisvideo:{region}:{account}:stream/{name}/{number}";
                    self.fault(format!("StreamARN must be {form}"));
                }
                name
            }
            _ => {
                if self.faults.len() == n_faults {
                    self.fault("one of StreamName and StreamARN is required, and not both");
                }
                None
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=STREAM_NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

/// The stream's name in its ARN, whatever region and account it says.
fn name_in(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", partition, "kinesisvideo", region, account, resource] = parts[..] else { return None };
    let mut resource = resource.split('/');
    let (Some("stream"), Some(name), Some(number), None) =
        (resource.next(), resource.next(), resource.next(), resource.next())
    else {
        return None;
    };
    let is_plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_arn = arn.len() <= ARN_LEN_MAX && is_plain(partition) && is_plain(region);
    (is_arn && is_number(account) && is_number(number) && is_name(name)).then_some(name)
}

#[expect(clippy::cast_possible_truncation, reason = "checked to be within 0 and what 48 bits hold")]
fn timestamp(seconds: f64) -> Option<Timestamp> {
    let ms = (seconds * 1000.0).round();
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let max = TIMESTAMP_MAX_MS as f64;
    // Not for what is no number.
    (0.0..=max).contains(&ms).then(|| Timestamp::from_ms(ms as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn usual() -> Value {
        json!({
            "StreamName": "front-door", "ImageSelectorType": "PRODUCER_TIMESTAMP", "Format": "JPEG",
            "StartTimestamp": 1_757_371_980.123, "EndTimestamp": 1_757_372_040,
        })
    }

    /// The usual request with other members.
    fn with(others: &Value) -> Value {
        let mut body = usual();
        for (name, value) in others.as_object().expect("an object") {
            body[name] = value.clone();
        }
        body
    }

    fn read(others: &Value) -> Result<ImagesAsk, AwsError> {
        ImagesAsk::read(with(others).to_string().as_bytes())
    }

    #[test]
    fn what_is_silent_has_its_usual_value() {
        let ask = read(&json!({})).expect("read");
        assert_eq!((ask.start.as_ms(), ask.end.as_ms()), (1_757_371_980_123, 1_757_372_040_000));
        assert_eq!((ask.interval_ms, ask.max, ask.next_token), (3000, 25, None));
        let source = Rendition { width: 0, height: 0, fit: Fit::Inside, format: Format::Jpeg, quality: 80 };
        assert_eq!(ask.rendition, source);
    }

    #[test]
    fn sizes_formats_and_qualities() {
        let check = |others: Value, width: u16, height: u16, fit: Fit, format: Format, quality: u8| {
            let found = read(&others).expect("read").rendition;
            assert_eq!(found, Rendition { width, height, fit, format, quality }, "{others}");
        };
        check(json!({"WidthPixels": 3840, "HeightPixels": 2160}), 3840, 2160, Fit::Stretch, Format::Jpeg, 80);
        check(json!({"HeightPixels": 1}), 0, 1, Fit::Inside, Format::Jpeg, 80);
        check(json!({"Format": "PNG", "FormatConfig": {"JPEGQuality": "3"}}), 0, 0, Fit::Inside, Format::Png, 0);
        check(json!({"FormatConfig": {"JPEGQuality": "100"}}), 0, 0, Fit::Inside, Format::Jpeg, 100);
        check(json!({"WidthPixels": null, "FormatConfig": {}}), 0, 0, Fit::Inside, Format::Jpeg, 80);
    }

    #[test]
    fn pages_are_at_most_25_long() {
        let check = |others: Value, max: usize| assert_eq!(read(&others).expect("read").max, max, "{others}");
        check(json!({"MaxResults": 1}), 1);
        check(json!({"MaxResults": 25}), 25);
        check(json!({"MaxResults": 26}), 25);
        check(json!({"MaxResults": 100}), 25);
    }

    #[test]
    fn streams_by_name_and_by_arn() {
        let check = |others: Value, expected: Option<&str>| {
            let mut body = usual();
            body.as_object_mut().expect("an object").remove("StreamName");
            for (name, value) in others.as_object().expect("an object") {
                body[name] = value.clone();
            }
            let found = ImagesAsk::read(body.to_string().as_bytes()).ok().map(|ask| ask.stream);
            assert_eq!(found.as_deref(), expected, "{others}");
        };
        let arn = "arn:aws:kinesisvideo:eu-west-1:123456789012:stream/a.b_c-D/1600000000000";
        check(json!({"StreamName": "a.b_c-D"}), Some("a.b_c-D"));
        check(json!({"StreamARN": arn}), Some("a.b_c-D"));
        check(json!({"StreamARN": arn.replace("aws:", "aws-cn:")}), Some("a.b_c-D"));
        check(json!({}), None);
        check(json!({"StreamName": "a", "StreamARN": arn}), None);
        check(json!({"StreamName": ""}), None);
        check(json!({"StreamName": "a/b"}), None);
        check(json!({"StreamName": 7}), None);
        check(json!({"StreamName": "a".repeat(257)}), None);
        for (part, other) in
            [("stream/", "channel/"), ("/1600000000000", ""), ("123456789012", "x"), ("kinesisvideo", "s3")]
        {
            check(json!({"StreamARN": arn.replace(part, other)}), None);
        }
    }

    #[test]
    fn every_fault_is_named() {
        let check = |others: Value, kind: Exception, parts: &[&str]| {
            let error = read(&others).expect_err("refused");
            assert_eq!(error.exception, kind, "{others}: {error:?}");
            for part in parts {
                assert!(error.message.contains(part), "{part} of {others}: {error:?}");
            }
        };
        use Exception::{InvalidArgument, Validation};
        check(json!({"WidthPixels": 10}), Validation, &["HeightPixels"]);
        check(
            json!({"WidthPixels": 3841, "HeightPixels": 0}),
            InvalidArgument,
            &["WidthPixels must be", "HeightPixels"],
        );
        check(json!({"SamplingInterval": 199}), InvalidArgument, &["SamplingInterval must be an integer from 200"]);
        check(json!({"SamplingInterval": 200.5}), InvalidArgument, &["SamplingInterval"]);
        check(json!({"SamplingInterval": "3000"}), InvalidArgument, &["SamplingInterval"]);
        check(json!({"MaxResults": 101}), InvalidArgument, &["MaxResults must be an integer from 1 to 100"]);
        check(json!({"MaxResults": 0}), InvalidArgument, &["MaxResults"]);
        check(json!({"Format": "GIF"}), InvalidArgument, &["Format is required: JPEG or PNG"]);
        check(
            json!({"Format": null, "ImageSelectorType": "X"}),
            InvalidArgument,
            &["Format is", "ImageSelectorType is"],
        );
        check(json!({"FormatConfig": {"JPEGQuality": "0"}}), InvalidArgument, &["JPEGQuality"]);
        check(json!({"FormatConfig": {"JPEGQuality": "101"}}), InvalidArgument, &["JPEGQuality"]);
        check(json!({"FormatConfig": {"JPEGQuality": 80}}), InvalidArgument, &["JPEGQuality must be a string"]);
        check(json!({"FormatConfig": {"Other": "1"}}), InvalidArgument, &["Other"]);
        check(json!({"FormatConfig": 1}), InvalidArgument, &["FormatConfig"]);
        check(json!({"StartTimestamp": 1_757_372_041}), InvalidArgument, &["before"]);
        check(json!({"StartTimestamp": 1_757_371_739.999}), InvalidArgument, &["300 seconds"]);
        check(json!({"StartTimestamp": "2025-09-08T22:53:00Z"}), InvalidArgument, &["StartTimestamp must be a number"]);
        check(
            json!({"StartTimestamp": null, "EndTimestamp": -1}),
            InvalidArgument,
            &["StartTimestamp is", "EndTimestamp must"],
        );
        check(json!({"EndTimestamp": 1e300}), InvalidArgument, &["EndTimestamp"]);
        check(json!({"NextToken": ""}), InvalidArgument, &["NextToken"]);
        assert!(read(&json!({"StartTimestamp": 1_757_371_740})).is_ok(), "300 s exactly");
        for body in ["", "[]", "{", "\"x\"", "\u{feff}{}"] {
            assert!(ImagesAsk::read(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn ticks_reach_the_end_and_not_beyond() {
        let check = |start: f64, end: f64, interval: i64, n: usize, last: i64| {
            let others = json!({"StartTimestamp": start, "EndTimestamp": end, "SamplingInterval": interval});
            let ask = read(&others).expect("read");
            assert_eq!((ask.n_ticks(), ask.tick(n - 1).as_ms()), (n, last), "{others}");
        };
        check(10.0, 10.0, 3000, 1, 10_000);
        check(10.0, 12.999, 3000, 1, 10_000);
        check(10.0, 13.0, 3000, 2, 13_000);
        check(0.0, 300.0, 200, 1501, 300_000);
    }

    proptest::proptest! {
        /// Any number is read as an instant within bounds, or named as a fault.
        #[test]
        fn any_time_is_an_answer(start in proptest::num::f64::ANY, end in proptest::num::f64::ANY, interval: i64) {
            let read = read(&json!({"StartTimestamp": start, "EndTimestamp": end, "SamplingInterval": interval}));
            if let Ok(ask) = read {
                let n = ask.n_ticks();
                proptest::prop_assert!((1..=1501).contains(&n));
                proptest::prop_assert!(ask.tick(n - 1) <= ask.end && ask.tick(n) > ask.end);
            }
        }
    }

    #[test]
    fn endpoints() {
        let check = |api: Value, expected: Result<&str, &str>| {
            let body = json!({"StreamName": "front-door", "APIName": api}).to_string();
            match (read_endpoint(body.as_bytes()), expected) {
                (Ok(found), Ok(name)) => assert_eq!(found, name),
                (Err(error), Err(part)) => assert!(error.message.contains(part), "{error:?}"),
                (found, _) => panic!("{api}: {found:?}"),
            }
        };
        check(json!("GET_IMAGES"), Ok("front-door"));
        check(json!("GET_CLIP"), Err("GET_CLIP is not offered"));
        check(json!("get_images"), Err("must be GET_IMAGES"));
        check(json!(null), Err("required"));
    }
}
