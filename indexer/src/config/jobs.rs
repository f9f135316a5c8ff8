//! `[jobs]` and `[kinesis]`: the interfaces with access keys of their own, each key with its user.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use stills_model::id::{DeviceId, UserId};

use super::secret::Secret;
use super::settings::{Section, Settings};

/// Secrets that sign at once: an old one and a new one, with room for a mistake.
const WEBHOOK_SECRETS_MAX: usize = 8;

/// `[jobs]`
#[derive(Debug, Clone)]
pub struct Jobs {
    /// The most waiting asynchronous jobs; 0: no limit of its own.
    pub max_queue_length: u32,
    /// Who may call.
    pub api_keys: Vec<ApiKey>,
    /// How long a result can be fetched.
    pub result_retention: Duration,
    /// Jobs at work at once in the background.
    pub running_max: usize,
    /// What webhooks are signed with, the newest first; none: they are not signed.
    pub webhook_secrets: Vec<WebhookSecret>,
}

/// `[[jobs.api_keys]]`
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// SHA-256 of the key, so that the configuration does not open anything.
    pub sha256: Sha256Digest,
    /// Whose jobs they are.
    pub user_id: UserId,
}

impl Jobs {
    pub(super) fn read(settings: &Settings) -> Self {
        let jobs = settings.section("jobs");
        let queue_doc = "The most waiting asynchronous jobs, 0 is unlimited; also `MAX_QUEUE_LENGTH`.";
        let retention_doc = "How long a job's result can be fetched.";
        let read = Self {
            max_queue_length: jobs.integer("max_queue_length", 0, 0..=10_000_000, queue_doc),
            result_retention: jobs.duration("result_retention", "30d", "1h"..="3650d", retention_doc),
            running_max: jobs.integer("running_max", 2, 1..=1000, "Jobs at work at once in the background."),
            webhook_secrets: webhook_secrets(&jobs),
            api_keys: jobs.tables("api_keys", ApiKey::read),
        };
        if let Some(twice) = first_repeated(read.api_keys.iter().map(|key| key.sha256.to_string())) {
            jobs.fault("api_keys", &format!("the key with sha256 {twice} stands there twice"));
        }
        read
    }
}

fn webhook_secrets(jobs: &Section<'_>) -> Vec<WebhookSecret> {
    let doc = "What webhooks are signed with as Standard Webhooks says: `whsec_` and base64 of 24 to 64 bytes; several, \
               separated by white space, sign each. Without it they are not signed.";
    let Some(secret) = jobs.secret("webhook_secret", 1, doc) else { return Vec::new() };
    let text = String::from_utf8_lossy(secret.expose()).into_owned();
    let read: Result<Vec<WebhookSecret>, &str> = text.split_whitespace().map(str::parse).collect();
    match read {
        Ok(secrets) if (1..=WEBHOOK_SECRETS_MAX).contains(&secrets.len()) => secrets,
        Ok(_) => {
            jobs.fault("webhook_secret_file", "must hold 1 to 8 secrets");
            Vec::new()
        }
        Err(wrong) => {
            jobs.fault("webhook_secret_file", wrong);
            Vec::new()
        }
    }
}

impl ApiKey {
    fn read(section: &Section<'_>) -> Option<Self> {
        let sha256 = section.required("sha256", "SHA-256 of the key, 64 hexadecimal digits.");
        let user_id = section.required("user_id", "The user whose jobs they are.");
        Some(Self { sha256: sha256?, user_id: user_id? })
    }
}

/// `[kinesis]`
#[derive(Debug, Clone)]
pub struct Kinesis {
    /// Who may call.
    pub access_keys: Vec<AccessKey>,
    /// Stream name to device; a device id is its own name too.
    pub streams: BTreeMap<String, DeviceId>,
}

/// `[[kinesis.access_keys]]`
#[derive(Debug, Clone)]
pub struct AccessKey {
    /// The access key id.
    pub id: AccessKeyId,
    /// The secret access key.
    pub secret: Secret,
    /// Whose footage it opens.
    pub user_id: UserId,
}

impl Kinesis {
    pub(super) fn read(settings: &Settings) -> Self {
        let kinesis = settings.section("kinesis");
        let read = Self {
            streams: kinesis.map("streams", "Stream name to device id; a device id is its own name too."),
            access_keys: kinesis.tables("access_keys", AccessKey::read),
        };
        if let Some(twice) = first_repeated(read.access_keys.iter().map(|key| key.id.0.clone())) {
            kinesis.fault("access_keys", &format!("the id {twice} stands there twice"));
        }
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        for name in read.streams.keys() {
            if !(1..=256).contains(&name.len()) || !name.bytes().all(is_plain) {
                kinesis.table("streams").fault(name, "a stream's name must be 1 to 256 of A-Z a-z 0-9 _ . -");
            }
        }
        read
    }
}

impl AccessKey {
    fn read(section: &Section<'_>) -> Option<Self> {
        let id = section.required("id", "The access key id.");
        let secret = section.secret("secret", 1, "The secret access key.");
        let user_id = section.required("user_id", "The user whose footage it opens.");
        if !section.is_set("secret") && !section.is_set("secret_file") {
            section.fault("secret_file", "missing");
        }
        Some(Self { id: id?, secret: secret?, user_id: user_id? })
    }
}

fn first_repeated(values: impl Iterator<Item = String>) -> Option<String> {
    let mut seen = std::collections::BTreeSet::new();
    values.into_iter().find(|value| !seen.insert(value.clone()))
}

/// A SHA-256 digest written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256Digest(pub [u8; 32]);

/// Lower case.
impl std::fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Sha256Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let wrong = "must be 64 hexadecimal digits";
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        let mut digest = [0; 32];
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| wrong)?;
        }
        Ok(Self(digest))
    }
}

/// A secret that signs webhooks; shown as `***`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSecret(Secret);

impl WebhookSecret {
    /// The bytes, for the one who signs.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

impl std::str::FromStr for WebhookSecret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let bytes = text.strip_prefix("whsec_").and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
        let bytes = bytes.filter(|bytes| (24..=64).contains(&bytes.len()));
        bytes.map(|bytes| Self(Secret::exact(&bytes))).ok_or("must be whsec_ and base64 of 24 to 64 bytes")
    }
}

/// The id of an access key: `[A-Za-z0-9_]{1,128}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKeyId(String);

impl AccessKeyId {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for AccessKeyId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let is_id = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if is_id { Ok(Self(text.to_owned())) } else { Err("must be 1 to 128 of A-Z a-z 0-9 _") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhook_secrets() {
        let check = |text: &str, is_one: bool| assert_eq!(text.parse::<WebhookSecret>().is_ok(), is_one, "{text}");
        check("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true);
        check("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false);
        check("whsec_AAAA", false);
        check("whsec_!", false);
        check(&format!("whsec_{}", "A".repeat(88)), false);
        let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().expect("a secret");
        assert_eq!((secret.expose().len(), format!("{secret:?}").contains("***")), (24, true));
    }

    #[test]
    fn digests() {
        let text = "0A".repeat(32);
        let digest: Sha256Digest = text.parse().expect("digest");
        assert_eq!(digest, Sha256Digest([10; 32]));
        assert_eq!(digest.to_string(), text.to_lowercase());
        for wrong in ["", "0a", &"0g".repeat(32), &"0a".repeat(33), &"é".repeat(32)] {
            assert!(wrong.parse::<Sha256Digest>().is_err(), "{wrong:?}");
        }
    }
}
