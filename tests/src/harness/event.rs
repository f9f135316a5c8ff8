//! Recording events as a recorder words them. Each has an id of its own and is later than those made before it.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::{DEVICE, OTHER_DEVICE, USER};

/// The media types of the four ways to send events.
pub mod media_type {
    /// One event.
    pub const ONE: &str = "application/cloudevents+json";
    /// A list.
    pub const BATCH: &str = "application/cloudevents-batch+json";
    /// One a line.
    pub const LINES: &str = "application/x-ndjson";
}

/// A user's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Camera {
    /// Whose it is, 24 hexadecimal digits.
    pub user: String,
    /// Which one, 24 hexadecimal digits.
    pub device: String,
}

impl Camera {
    /// This user's device.
    pub fn of(user: &str, device: &str) -> Self {
        Self { user: user.to_owned(), device: device.to_owned() }
    }

    /// The usual one.
    pub fn first() -> Self {
        Self::of(USER, DEVICE)
    }

    /// Another one of the same user.
    pub fn second() -> Self {
        Self::of(USER, OTHER_DEVICE)
    }

    /// A user's device by number, for tests that need many.
    pub fn numbered(n: u32) -> Self {
        Self::of(USER, &format!("{n:024x}"))
    }
}

/// An event of this type.
pub fn event(kind: &str, data: &Value) -> Value {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let (minutes, ms) = (n / 60_000, n % 60_000);
    let time = format!("2026-01-01T{:02}:{:02}:{:02}.{:03}Z", minutes / 60 % 24, minutes % 60, ms / 1000, ms % 1000);
    json!({
        "specversion": "1.0", "id": format!("{}-{n}", std::process::id()), "source": "/tests",
        "type": kind, "time": time, "datacontenttype": "application/json", "data": data,
    })
}

/// Footage is there.
pub fn available(camera: &Camera, id: &str, (start, end): (i64, i64), media_url: &str) -> Value {
    event(
        "recording.available",
        &json!({
            "user_id": camera.user, "device_id": camera.device, "recording_id": id,
            "start_timestamp": start, "end_timestamp": end, "media_url": media_url, "growing": false,
        }),
    )
}

/// A recording goes.
pub fn deleted(camera: &Camera, id: &str) -> Value {
    event("recording.deleted", &json!({"user_id": camera.user, "device_id": camera.device, "recording_id": id}))
}

/// All recordings that lie in a range go.
pub fn range_deleted(camera: &Camera, (start, end): (i64, i64)) -> Value {
    let Camera { user, device } = camera;
    let data = json!({"user_id": user, "device_id": device, "start_timestamp": start, "end_timestamp": end});
    event("recording.deleted", &data)
}

/// A device goes.
pub fn device_deleted(camera: &Camera) -> Value {
    event("device.deleted", &json!({"user_id": camera.user, "device_id": camera.device}))
}

/// A user goes.
pub fn user_deleted(user: &str) -> Value {
    event("user.deleted", &json!({"user_id": user}))
}
