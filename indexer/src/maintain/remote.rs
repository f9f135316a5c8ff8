//! Chores on a server that runs, over its admin listener: the address stands in its data directory.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method, redirect};
use serde::de::DeserializeOwned;
use url::Url;

use super::{Failures, Status};

/// The file in the data directory with the address of the admin listener.
pub const ADDRESS_FILE: &str = "admin";

/// How long one request may take; all of them are answered at once.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// A running server's admin listener.
#[derive(Debug, Clone)]
pub struct Remote {
    client: Client,
    base: Url,
}

impl Remote {
    /// The server whose data directory this is.
    ///
    /// # Errors
    /// When it has no admin listener, as `stills-indexer run`.
    pub fn of(data_dir: &Path) -> Result<Self, String> {
        let path = data_dir.join(ADDRESS_FILE);
        let address = std::fs::read_to_string(&path).map_err(|_| {
            let dir = data_dir.display();
            format!("{dir} is in use by a program without an admin listener; stop it first")
        })?;
        let base = Url::parse(&format!("http://{}", address.trim())).map_err(|error| error.to_string())?;
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(REQUEST_MAX).build();
        Ok(Self { client: client.map_err(|error| error.to_string())?, base })
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, target: &str) -> Result<T, String> {
        let url = self.base.join(target).map_err(|error| error.to_string())?;
        let failed = |error: reqwest::Error| format!("the server's admin listener at {}: {error}", self.base);
        let answer = self.client.request(method, url).send().await.map_err(failed)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(failed)?;
        if !status.is_success() {
            let detail = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
            let detail = detail["detail"].as_str().unwrap_or("no reason given").to_owned();
            return Err(format!("the server answered {status}: {detail}"));
        }
        serde_json::from_slice(&body).map_err(|error| format!("the server's answer is not understood: {error}"))
    }

    /// Begins a chore, `rebuild` or `check`.
    ///
    /// # Errors
    /// The server is not there, or another chore is under way.
    pub async fn begin(&self, chore: &str) -> Result<Status, String> {
        self.ask(Method::POST, &format!("/{chore}")).await
    }

    /// How far the chore is.
    ///
    /// # Errors
    /// The server is not there.
    pub async fn status(&self) -> Result<Status, String> {
        self.ask(Method::GET, "/chores").await
    }

    /// Some recordings that were set aside; with `is_retry` they are scanned again.
    ///
    /// # Errors
    /// The server is not there or cannot look them up.
    pub async fn failures(&self, after: Option<&str>, is_retry: bool) -> Result<Failures, String> {
        let method = if is_retry { Method::POST } else { Method::GET };
        self.ask(method, &format!("/failures?after={}", after.unwrap_or_default())).await
    }
}
