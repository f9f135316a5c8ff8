//! With whose keys a place is read: the `[credentials.*]` of the configuration, by name or by the URL's beginning.
//!
//! A credential that names a `url_prefix` is used for URLs under it alone, even by name: a password must not be sent
//! to a host that a caller chose. Keys are never shown, and never leave this module but inside a store or a header.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use object_store::aws::{AmazonS3Builder, AwsCredentialProvider};
use object_store::azure::{AzureCredentialProvider, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GcpCredentialProvider, GoogleCloudStorageBuilder};
use object_store::{ObjectStore, RetryConfig, StaticCredentialProvider};
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::UserId;
use url::Url;

use super::connector::{Guarded, OwnIdentity};
use crate::config::Secret;
use crate::config::media::{Credential, StoreKind};

/// The name that a store is built for when only its identity is wanted.
const NO_BUCKET: &str = "identity";

/// All configured credentials, ready for use.
#[derive(Debug, Default)]
pub struct Credentials(BTreeMap<String, Arc<Held>>);

/// One of them.
#[derive(Debug)]
pub(super) struct Held {
    kind: StoreKind,
    /// Normalised as URLs are.
    url_prefix: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    identity: Identity,
    /// Who may name it.
    users: Vec<UserId>,
}

/// Who asks.
enum Identity {
    /// Nobody: what is public.
    None,
    S3(AwsCredentialProvider),
    Gs(GcpCredentialProvider),
    Az(String, AzureCredentialProvider),
    /// The account alone.
    AzPublic(String),
    /// The value of `Authorization`.
    Http(HeaderValue),
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Credentials {
    /// Builds them. Nothing is asked of the network yet.
    ///
    /// # Errors
    /// All faults, each naming its credential and never its keys.
    pub fn new(config: &BTreeMap<String, Credential>) -> Result<Self, Vec<String>> {
        let (mut all, mut faults) = (BTreeMap::new(), Vec::new());
        for (name, credential) in config {
            match Held::new(credential) {
                Ok(held) => drop(all.insert(name.clone(), Arc::new(held))),
                Err(wrong) => faults.push(format!("credentials.{name}: {wrong}")),
            }
        }
        if faults.is_empty() { Ok(Self(all)) } else { Err(faults) }
    }

    /// Those that a user may name: what a user does not know of is not used for what the user asks for either.
    pub(super) fn of_user(&self, user: UserId) -> Self {
        let own = self.0.iter().filter(|(_, held)| held.users.contains(&user));
        Self(own.map(|(name, held)| (name.clone(), Arc::clone(held))).collect())
    }

    /// Whether there is one of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// What reads this URL: the credential named, or that with the longest prefix of the URL.
    ///
    /// # Errors
    /// `Forbidden` when the named one is not there or not for this URL, and when an object store's URL has none.
    pub(super) fn choose(&self, url: &Url, name: Option<&str>) -> Result<Option<&Held>, Fault> {
        let forbidden = |detail: &str| Fault::new(FaultKind::Forbidden, detail);
        if let Some(name) = name {
            let held = self.0.get(name);
            let held = held.ok_or_else(|| forbidden("credentials_key names no credentials of the configuration"))?;
            let is_for = held.kind == kind_of(url) && held.url_prefix.as_ref().is_none_or(|prefix| covers(prefix, url));
            return if is_for { Ok(Some(held)) } else { Err(forbidden("these credentials are not for this URL")) };
        }
        let by_prefix = self.0.values().map(Arc::as_ref).filter(|held| held.kind == kind_of(url));
        let by_prefix = by_prefix.filter_map(|held| Some((held.url_prefix.as_ref()?, held)));
        let best = by_prefix.filter(|(prefix, _)| covers(prefix, url)).max_by_key(|(prefix, _)| prefix.len());
        match best {
            Some((_, held)) => Ok(Some(held)),
            None if kind_of(url) == StoreKind::Http => Ok(None),
            None => Err(forbidden("no credentials of the configuration have a url_prefix of this URL")),
        }
    }
}

fn kind_of(url: &Url) -> StoreKind {
    match url.scheme() {
        "s3" => StoreKind::S3,
        "gs" => StoreKind::Gs,
        "az" => StoreKind::Az,
        _ => StoreKind::Http,
    }
}

/// Whether the URL lies under the prefix: whole names alike, so that `s3://a` does not cover `s3://ab`.
fn covers(prefix: &str, url: &Url) -> bool {
    let rest = url.as_str().strip_prefix(prefix);
    rest.is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?']))
}

impl Held {
    fn new(config: &Credential) -> Result<Self, String> {
        // The URL parser's spelling of the host, where it makes one.
        let normalised = |prefix: &String| Url::parse(prefix).map_or_else(|_| prefix.clone(), Into::into);
        let identity = match config.kind {
            StoreKind::S3 => s3_identity(config)?,
            StoreKind::Gs => gs_identity(config)?,
            StoreKind::Az => az_identity(config)?,
            StoreKind::Http => http_identity(config)?,
        };
        let endpoint = config.endpoint.as_ref().map(|url| url.0.as_str().trim_end_matches('/').to_owned());
        let url_prefix = config.url_prefix.as_ref().map(normalised);
        let (region, users) = (config.region.clone(), config.users.clone());
        Ok(Self { kind: config.kind, url_prefix, endpoint, region, identity, users })
    }

    /// The value of `Authorization` for plain HTTP.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        match &self.identity {
            Identity::Http(value) => Some(value.clone()),
            _ => None,
        }
    }

    /// The store of one bucket (or container), reached through the guarded client.
    ///
    /// # Errors
    /// `Internal` when the crate refuses what was accepted at the start.
    pub(super) fn store(&self, bucket: &str, connector: Guarded) -> Result<Arc<dyn ObjectStore>, Fault> {
        let store = match self.kind {
            StoreKind::S3 => self.s3(bucket, connector),
            StoreKind::Gs => self.gs(bucket, connector),
            StoreKind::Az => self.az(bucket, connector),
            StoreKind::Http => return Err(Fault::new(FaultKind::Internal, "plain HTTP has no object store")),
        };
        store.map_err(|error| {
            tracing::warn!(%error, "an object store could not be set up");
            Fault::new(FaultKind::Internal, "the object store could not be set up")
        })
    }

    fn s3(&self, bucket: &str, connector: Guarded) -> object_store::Result<Arc<dyn ObjectStore>> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(self.region.as_deref().unwrap_or("us-east-1"))
            .with_http_connector(connector)
            .with_retry(once());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        builder = match &self.identity {
            Identity::S3(provider) => builder.with_credentials(Arc::clone(provider)),
            _ => builder.with_skip_signature(true),
        };
        Ok(Arc::new(builder.build()?))
    }

    fn gs(&self, bucket: &str, connector: Guarded) -> object_store::Result<Arc<dyn ObjectStore>> {
        let mut builder =
            GoogleCloudStorageBuilder::new().with_bucket_name(bucket).with_http_connector(connector).with_retry(once());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        builder = match &self.identity {
            Identity::Gs(provider) => builder.with_credentials(Arc::clone(provider)),
            _ => {
                let nobody = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
                builder.with_credentials(Arc::new(nobody)).with_skip_signature(true)
            }
        };
        Ok(Arc::new(builder.build()?))
    }

    fn az(&self, container: &str, connector: Guarded) -> object_store::Result<Arc<dyn ObjectStore>> {
        let mut builder = MicrosoftAzureBuilder::new()
            .with_container_name(container)
            .with_http_connector(connector)
            .with_retry(once());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        builder = match &self.identity {
            Identity::Az(account, provider) => builder.with_account(account).with_credentials(Arc::clone(provider)),
            Identity::AzPublic(account) => builder.with_account(account).with_skip_signature(true),
            _ => builder,
        };
        Ok(Arc::new(builder.build()?))
    }
}

/// Attempts are the guarded client's to make: the crate's own go on for minutes.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::from_secs(1), ..RetryConfig::default() }
}

/// A secret as text.
fn text(secret: &Secret) -> Result<&str, String> {
    std::str::from_utf8(secret.expose()).map_err(|_| "the secret is not text".to_owned())
}

/// What the crate says of a key it cannot use. Its text names fields and places, not the key.
fn unusable(error: &object_store::Error) -> String {
    format!("the credentials cannot be used: {error}")
}

fn s3_identity(config: &Credential) -> Result<Identity, String> {
    let builder = match (&config.access_key_id, &config.secret) {
        _ if config.is_instance => AmazonS3Builder::from_env(),
        (Some(id), Some(secret)) => AmazonS3Builder::new().with_access_key_id(id).with_secret_access_key(text(secret)?),
        _ => return Ok(Identity::None),
    };
    let region = config.region.as_deref().unwrap_or("us-east-1");
    let builder = builder.with_bucket_name(NO_BUCKET).with_region(region).with_http_connector(OwnIdentity::new()?);
    let store = builder.build().map_err(|error| unusable(&error))?;
    Ok(Identity::S3(Arc::clone(store.credentials())))
}

fn gs_identity(config: &Credential) -> Result<Identity, String> {
    let builder = match &config.secret {
        _ if config.is_instance => GoogleCloudStorageBuilder::from_env(),
        Some(secret) => GoogleCloudStorageBuilder::new().with_service_account_key(text(secret)?),
        None => return Ok(Identity::None),
    };
    let builder = builder.with_bucket_name(NO_BUCKET).with_http_connector(OwnIdentity::new()?);
    let store = builder.build().map_err(|error| unusable(&error))?;
    Ok(Identity::Gs(Arc::clone(store.credentials())))
}

fn az_identity(config: &Credential) -> Result<Identity, String> {
    let of_endpoint = || {
        let endpoint = config.endpoint.as_ref().ok_or("needs access_key_id (the account) or endpoint")?;
        let host = endpoint.0.host_str().unwrap_or_default();
        Ok::<_, String>(host.split('.').next().unwrap_or_default().to_owned())
    };
    let account = config.access_key_id.clone().map_or_else(of_endpoint, Ok)?;
    let builder = match &config.secret {
        _ if config.is_instance => MicrosoftAzureBuilder::from_env(),
        Some(secret) => MicrosoftAzureBuilder::new().with_access_key(text(secret)?),
        None => return Ok(Identity::AzPublic(account)),
    };
    let builder = builder.with_account(&account).with_container_name(NO_BUCKET);
    let store = builder.with_http_connector(OwnIdentity::new()?).build().map_err(|error| unusable(&error))?;
    Ok(Identity::Az(account, Arc::clone(store.credentials())))
}

fn http_identity(config: &Credential) -> Result<Identity, String> {
    if config.is_instance {
        return Err("plain HTTP has no identity of the machine".to_owned());
    }
    let Some(secret) = &config.secret else { return Ok(Identity::None) };
    if config.url_prefix.is_none() {
        return Err("needs url_prefix, or the secret could be sent to any host that a caller names".to_owned());
    }
    let value = match &config.access_key_id {
        Some(user) => format!("Basic {}", STANDARD.encode(format!("{user}:{}", text(secret)?))),
        None => format!("Bearer {}", text(secret)?),
    };
    let mut value = HeaderValue::from_str(&value).map_err(|_| "the secret holds characters that no header can")?;
    value.set_sensitive(true);
    Ok(Identity::Http(value))
}
