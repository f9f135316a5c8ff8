//! The objects beneath a URL of an object store, in the order of their keys, from any key on. Reads no object.

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use stills_model::fault::{Fault, FaultKind};
use url::Url;

use super::client::Client;
use super::connector::{Guarded, fault_of};
use super::credentials::Credentials;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key behind the URL's path and a `/`.
    pub key: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written, Unix milliseconds.
    pub modified_ms: i64,
}

/// Lists what lies beneath `s3://bucket/prefix/` (or `gs`, `az`), whole names alike; with `after`, only what comes
/// behind that key, which need not exist any more. A page of a thousand is asked for as it is needed.
///
/// # Errors
/// `Forbidden` when no credentials are for the URL or its path cannot be one of objects; what goes wrong while it is
/// listed is in the stream, as its last item.
pub fn list(
    client: &Client,
    credentials: &Credentials,
    url: &Url,
    after: Option<&str>,
) -> Result<BoxStream<'static, Result<Listed, Fault>>, Fault> {
    let forbidden = |detail: &str| Fault::new(FaultKind::Forbidden, detail);
    if !matches!(url.scheme(), "s3" | "gs" | "az") {
        return Err(forbidden("only s3://, gs:// and az:// can be listed"));
    }
    let held = credentials.choose(url, None)?;
    let held = held.ok_or_else(|| forbidden("no credentials of the configuration have a url_prefix of this URL"))?;
    let prefix = Path::from_url_path(url.path()).map_err(|_| forbidden("the path cannot be one of objects"))?;
    let store = held.store(url.host_str().unwrap_or_default(), Guarded(client.clone()))?;
    let beneath = if prefix.as_ref().is_empty() { String::new() } else { format!("{prefix}/") };
    let objects = match after {
        None => store.list(Some(&prefix)),
        Some(after) => {
            let after = Path::parse(format!("{beneath}{after}")).map_err(|_| forbidden("no key can be like that"))?;
            store.list_with_offset(Some(&prefix), &after)
        }
    };
    let listed = objects.map_err(|error| fault_of(&error)).map_ok(move |object| Listed {
        key: object.location.as_ref().strip_prefix(&beneath).unwrap_or(object.location.as_ref()).to_owned(),
        size: object.size,
        modified_ms: object.last_modified.timestamp_millis(),
    });
    Ok(listed.boxed())
}
