//! What a job's body asks for: read and checked as the original's schema says, the first fault in its words.

use serde_json::{Map, Value};
use stills_indexer::jobs::record::{CALLER_ID_LEN_MAX, Order, URL_LEN_MAX};
use url::Url;

/// The fields of an order.
const ORDER_FIELDS: [&str; 4] = ["video_url", "second", "webhook_url", "id"];

/// What `jobs/status` looks back when it is silent, and the furthest, in seconds.
const SINCE_USUAL_S: f64 = 600.0;
const SINCE_MAX_S: f64 = 1e10;

/// What is wrong with a body, as a sentence behind `Invalid request: `.
pub(super) type Wrong = String;

/// The body of `POST /v1/video/thumbnail`.
pub(super) fn read_order(body: &[u8]) -> Result<Order, Wrong> {
    let members = object(body)?;
    if !members.contains_key("video_url") {
        return Err("'video_url' is a required property".to_owned());
    }
    if let Some(other) = members.keys().find(|name| !ORDER_FIELDS.contains(&name.as_str())) {
        let other: String = other.chars().take(100).collect();
        return Err(format!("Additional properties are not allowed ('{other}' was unexpected)"));
    }
    let caller_id = text(&members, "id")?;
    if caller_id.is_some_and(|id| id.len() > CALLER_ID_LEN_MAX) {
        return Err(format!("id: at most {CALLER_ID_LEN_MAX} bytes are allowed"));
    }
    let video_url = uri(&members, "video_url")?.ok_or("'video_url' is a required property")?;
    Ok(Order {
        video_url: video_url.into(),
        second: number(&members, "second")?.unwrap_or(0.0),
        webhook_url: uri(&members, "webhook_url")?.map(Into::into),
        caller_id: caller_id.map(Into::into),
    })
}

/// The body of `POST /v1/toolkit/job/status`: the job asked for, as it was written.
pub(super) fn read_job_id(body: &[u8]) -> Result<String, Wrong> {
    let members = object(body)?;
    text(&members, "job_id")?.map(str::to_owned).ok_or_else(|| "'job_id' is a required property".to_owned())
}

/// The body of `POST /v1/toolkit/jobs/status`, which may be missing: how far to look back, in seconds.
pub(super) fn read_since(body: &[u8]) -> Result<f64, Wrong> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(SINCE_USUAL_S);
    }
    let since = number(&object(body)?, "since_seconds")?.unwrap_or(SINCE_USUAL_S);
    Ok(since.min(SINCE_MAX_S))
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Wrong> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err("the body must be a JSON object".to_owned()),
        Err(_) => Err("the body is not JSON".to_owned()),
    }
}

fn text<'m>(members: &'m Map<String, Value>, name: &str) -> Result<Option<&'m str>, Wrong> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("{name}: {} is not of type 'string'", shown(other))),
    }
}

fn number(members: &Map<String, Value>, name: &str) -> Result<Option<f64>, Wrong> {
    let Some(value) = members.get(name) else { return Ok(None) };
    match value.as_f64() {
        None => Err(format!("{name}: {} is not of type 'number'", shown(value))),
        Some(number) if number < 0.0 => Err(format!("{name}: {} is less than the minimum of 0", shown(value))),
        // -0 is 0.
        Some(number) => Ok(Some(number.abs())),
    }
}

fn uri<'m>(members: &'m Map<String, Value>, name: &str) -> Result<Option<&'m str>, Wrong> {
    let Some(text) = text(members, name)? else { return Ok(None) };
    if text.len() > URL_LEN_MAX {
        return Err(format!("{name}: at most {URL_LEN_MAX} bytes are allowed"));
    }
    if Url::parse(text).is_err() {
        return Err(format!("{name}: {} is not a 'uri'", shown(&Value::from(text))));
    }
    Ok(Some(text))
}

/// A value as it was written, cut where it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let cut: String = text.chars().take(100).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn orders() {
        let read = |body: Value| read_order(body.to_string().as_bytes()).expect("an order");
        let url = "https://media.example/film.mp4";
        let plain = Order { video_url: url.into(), second: 0.0, webhook_url: None, caller_id: None };
        assert_eq!(read(json!({"video_url": url})), plain);
        let all = json!({"video_url": url, "second": 1.5, "webhook_url": "https://c.example/", "id": "x"});
        let (webhook_url, caller_id) = (Some("https://c.example/".into()), Some("x".into()));
        assert_eq!(read(all), Order { second: 1.5, webhook_url, caller_id, ..plain.clone() });
        assert_eq!(read(json!({"video_url": url, "second": -0.0})), plain);
        assert_eq!(read(json!({"video_url": url, "second": 3, "id": ""})).second, 3.0);
    }

    #[test]
    fn the_first_fault_is_named() {
        let check = |body: Value, expected: &str| {
            assert_eq!(read_order(body.to_string().as_bytes()), Err(expected.to_owned()), "{body}");
        };
        let url = "https://media.example/film.mp4";
        check(json!({}), "'video_url' is a required property");
        check(json!({"other": 1}), "'video_url' is a required property");
        check(json!({"video_url": url, "other": 1}), "Additional properties are not allowed ('other' was unexpected)");
        check(json!({"video_url": ""}), "video_url: \"\" is not a 'uri'");
        check(json!({"video_url": "film.mp4"}), "video_url: \"film.mp4\" is not a 'uri'");
        check(json!({"video_url": null}), "video_url: null is not of type 'string'");
        check(json!({"video_url": 5}), "video_url: 5 is not of type 'string'");
        check(json!({"video_url": url, "second": "1"}), "second: \"1\" is not of type 'number'");
        check(json!({"video_url": url, "second": true}), "second: true is not of type 'number'");
        check(json!({"video_url": url, "second": -1}), "second: -1 is less than the minimum of 0");
        check(json!({"video_url": url, "webhook_url": ""}), "webhook_url: \"\" is not a 'uri'");
        check(json!({"video_url": url, "id": 7}), "id: 7 is not of type 'string'");
        check(json!({"video_url": url, "id": "x".repeat(513)}), "id: at most 512 bytes are allowed");
        check(
            json!({"video_url": format!("https://m.example/{}", "x".repeat(4096))}),
            "video_url: at most 4096 bytes are allowed",
        );
        check(json!([]), "the body must be a JSON object");
        for body in ["", "{", "x"] {
            assert_eq!(read_order(body.as_bytes()), Err("the body is not JSON".to_owned()), "{body}");
        }
    }

    #[test]
    fn questions_about_jobs() {
        let id = |body: &str| read_job_id(body.as_bytes());
        assert_eq!(id("{\"job_id\": \"x\"}"), Ok("x".to_owned()));
        assert_eq!(id("{}"), Err("'job_id' is a required property".to_owned()));
        assert_eq!(id("{\"job_id\": 1}"), Err("job_id: 1 is not of type 'string'".to_owned()));
        let since = |body: &str| read_since(body.as_bytes());
        assert_eq!(since(""), Ok(600.0));
        assert_eq!(since("{}"), Ok(600.0));
        assert_eq!(since("{\"since_seconds\": 5}"), Ok(5.0));
        assert_eq!(since("{\"since_seconds\": 1e300}"), Ok(SINCE_MAX_S));
        assert_eq!(since("{\"since_seconds\": -5}"), Err("since_seconds: -5 is less than the minimum of 0".to_owned()));
    }
}
