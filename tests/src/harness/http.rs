//! Asking over HTTP, without redirects, proxies or retries, and answers with the checks that many tests make.

use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use serde_json::Value;

/// A request that is being put together.
#[derive(Debug)]
pub struct Ask {
    client: Client,
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A whole answer.
#[derive(Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
    /// What was asked for, for messages.
    asked: String,
}

/// A client without redirects, proxies and retries.
///
/// # Panics
/// When it cannot be built.
pub fn client() -> Client {
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    client.retry(reqwest::retry::never()).timeout(super::wait::DEADLINE).build().expect("a client")
}

impl Ask {
    /// A request of `method` for `url`.
    pub fn new(client: &Client, method: Method, url: String) -> Self {
        Self { client: client.clone(), method, url, headers: Vec::new(), body: Vec::new() }
    }

    /// Adds a header; the same name twice sends it twice.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a bearer token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Sets the body and its type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    /// Sends it and gives the whole answer, or why there is none.
    ///
    /// # Errors
    /// As the client tells it: no connection, a broken answer.
    pub async fn attempt(self) -> Result<Answer, reqwest::Error> {
        let asked = format!("{} {}", self.method, self.url);
        let mut request = self.client.request(self.method, self.url);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        if !self.body.is_empty() {
            request = request.body(self.body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await?.to_vec(), asked })
    }

    /// Sends it and gives the whole answer.
    ///
    /// # Panics
    /// When there is none.
    pub async fn send(self) -> Answer {
        let asked = format!("{} {}", self.method, self.url);
        self.attempt().await.unwrap_or_else(|error| panic!("{asked}: {error:?}"))
    }
}

/// Without the rest of a long body.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]);
        write!(f, "{}: {} {:?} {:?}", self.asked, self.status, self.headers, body)
    }
}

impl Answer {
    /// A header's value; empty where it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A header's value as an integer.
    ///
    /// # Panics
    /// When it is none.
    pub fn number(&self, name: &str) -> i64 {
        self.header(name).parse().unwrap_or_else(|_| panic!("{name} is no integer in {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error}: {} {}", self.asked, self.status, self.text()))
    }

    /// Demands a status.
    ///
    /// # Panics
    /// When it is another.
    pub fn expect(self, status: u16) -> Self {
        let body = &self.body[..self.body.len().min(2000)];
        let body = String::from_utf8_lossy(body);
        assert_eq!(self.status, status, "{}: {:#?}\n{body}", self.asked, self.headers);
        self
    }

    /// Demands a problem of this status and kind, worded as RFC 9457 says, and gives its members.
    ///
    /// # Panics
    /// When it is anything else.
    pub fn problem(&self, status: u16, slug: &str) -> Value {
        self.clone().expect(status);
        let asked = &self.asked;
        assert_eq!(self.header("content-type"), "application/problem+json", "{asked}: {}", self.text());
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{slug}"), "{asked}: {problem}");
        assert_eq!(problem["status"], status, "{asked}: {problem}");
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{asked}: {member}: {problem}");
        }
        problem
    }
}
