//! Webhooks: signed as Standard Webhooks says, sent through the guarded client, to nowhere that `[fetch]` does not allow.
//! Sends once; when to send again is [`super::deliver`]'s.
//!
//! Source: standardwebhooks.com, "Standard Webhooks specification": the headers `webhook-id`, `webhook-timestamp` and
//! `webhook-signature`, the latter `v1,` and base64 of HMAC-SHA256 over id, timestamp and body joined by dots; several
//! signatures, one for each secret, are separated by a space. Secrets are base64 behind `whsec_`.

use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method};
use stills_model::fault::FaultKind;
use stills_model::id::UserId;
use stills_model::time::Timestamp;
use url::Url;

use super::record::JobId;
use crate::config::jobs::WebhookSecret;
use crate::source::client::{Ask, Client};
use crate::source::policy::{MediaPolicy, Place, Refused};

/// How long a receiver may take for one attempt, redirects included.
const ATTEMPT_MAX: Duration = Duration::from_secs(20);

/// Sends to receivers.
#[derive(Debug)]
pub struct Webhooks {
    policy: MediaPolicy,
    client: Client,
    secrets: ArcSwap<Vec<WebhookSecret>>,
}

/// Why an attempt failed; public text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failed {
    /// It may be otherwise later.
    ForNow(String),
    /// Trying again is not wanted or not allowed.
    ForGood(String),
}

impl Webhooks {
    /// Where `policy` (that of `[fetch]`) allows, through `client`, signed with each of `secrets`.
    pub fn new(policy: MediaPolicy, client: Client, secrets: Vec<WebhookSecret>) -> Self {
        Self { policy, client, secrets: ArcSwap::from_pointee(secrets) }
    }

    /// Signs with other secrets from now on.
    pub(super) fn set_secrets(&self, secrets: Vec<WebhookSecret>) {
        self.secrets.store(secrets.into());
    }

    /// Whether a user may have this URL told, as far as its text says.
    ///
    /// # Errors
    /// Why not; public text.
    pub fn check(&self, user: UserId, url: &str) -> Result<(), Refused> {
        self.place(user, url).map(|_| ())
    }

    fn place(&self, user: UserId, url: &str) -> Result<Url, Refused> {
        match self.policy.check(user, true, url)? {
            Place::Remote { url } if matches!(url.scheme(), "http" | "https") => {
                let checked = self.client.check_url(&url);
                checked.map_err(|refused| Refused { detail: refused.to_string() }).map(|()| url)
            }
            _ => Err("a webhook's URL must be http or https".into()),
        }
    }

    /// Sends a body once. `now` is what the receiver checks against its own clock.
    pub(super) async fn send(
        &self,
        user: UserId,
        url: &str,
        id: JobId,
        body: Bytes,
        now: Timestamp,
    ) -> Result<(), Failed> {
        let url = self.place(user, url).map_err(|refused| Failed::ForGood(refused.detail))?;
        let headers = headers(&self.secrets.load(), id, &body, now);
        let ask = Ask { method: Method::POST, url, headers, credentials: None, body };
        let may_lead_to = |next: &Url| self.place(user, next.as_str()).is_ok();
        let sent = tokio::time::timeout(ATTEMPT_MAX, self.client.send(ask, Some(&may_lead_to))).await;
        let Ok(sent) = sent else { return Err(Failed::ForNow("the receiver took too long".to_owned())) };
        match sent {
            Ok(answer) if answer.status().is_success() => Ok(()),
            // 410: the receiver wants no more of them.
            Ok(answer) if answer.status().as_u16() == 410 => {
                Err(Failed::ForGood("the receiver is gone (410)".to_owned()))
            }
            Ok(answer) => Err(Failed::ForNow(format!("the receiver answered {}", answer.status().as_u16()))),
            Err(fault) if fault.kind == FaultKind::Forbidden => Err(Failed::ForGood(fault.detail)),
            // Worded for media there.
            Err(fault) => Err(Failed::ForNow(fault.detail.replace("media's server", "receiver"))),
        }
    }
}

fn headers(secrets: &[WebhookSecret], id: JobId, body: &[u8], now: Timestamp) -> HeaderMap {
    let (id, seconds) = (format!("job_{id}"), (now.as_ms() / 1000).to_string());
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("webhook-id", &id);
    set("webhook-timestamp", &seconds);
    if !secrets.is_empty() {
        let signatures = secrets.iter().map(|secret| signature(secret, &id, &seconds, body));
        set("webhook-signature", &signatures.collect::<Vec<_>>().join(" "));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

fn signature(secret: &WebhookSecret, id: &str, seconds: &str, body: &[u8]) -> String {
    let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose()));
    for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
        signing.update(part);
    }
    format!("v1,{}", BASE64_STANDARD.encode(signing.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own example.
    #[test]
    fn the_published_signature() {
        let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().expect("a secret");
        let body = br#"{"test": 2432232314}"#;
        let made = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body);
        assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_secret_signs() {
        let secret = |text: &str| text.parse::<WebhookSecret>().expect("a secret");
        let (old, new) =
            (secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), secret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"));
        let id = JobId::random().expect("an id");
        let at = Timestamp::from_ms(1_614_265_330_999);
        let made = headers(&[new.clone(), old.clone()], id, b"{}", at);
        let text = |name: &str| made.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let name = format!("job_{id}");
        assert_eq!((text("webhook-id"), text("webhook-timestamp")), (name.clone(), "1614265330".to_owned()));
        let both = [&new, &old].map(|secret| signature(secret, &name, "1614265330", b"{}")).join(" ");
        assert_eq!(text("webhook-signature"), both);
        assert!(headers(&[], id, b"{}", at).get("webhook-signature").is_none());
    }
}
