//! A small origin: takes events over real HTTP, tells duplicates by their ids, and fails when it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What the origin does with the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Takes it, as it does with all when nothing is planned.
    Take,
    /// Answers with a status and perhaps `Retry-After`; takes nothing.
    Answer(u16, Option<u32>),
    /// Closes the connection; takes nothing.
    Drop,
    /// Takes it, and then closes the connection without an answer.
    TakeAndDrop,
    /// Takes it and never answers.
    TakeAndHold,
}

/// What happened so far.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Every event by its id, in the order of arrival.
    pub(crate) events: Vec<Value>,
    /// How often each id came.
    pub(crate) by_id: BTreeMap<String, usize>,
    /// Requests with events.
    pub(crate) n_posts: usize,
    /// When the first bytes of each came.
    pub(crate) at: Vec<Instant>,
    /// The `Authorization` of the last.
    pub(crate) authorization: String,
    /// Answers to the listing, in turn; the last one stays.
    pub(crate) listings: VecDeque<Value>,
    next: VecDeque<Next>,
    /// Events with this in their text are rejected.
    reject: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) url: String,
    shared: Arc<(Mutex<Taken>, Condvar)>,
}

impl Origin {
    pub(crate) fn start(next: &[Next]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let taken = Taken { next: next.iter().cloned().collect(), ..Taken::default() };
        let origin = Self { url, shared: Arc::new((Mutex::new(taken), Condvar::new())) };
        let serving = origin.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let origin = serving.clone();
                std::thread::spawn(move || origin.connection(&stream));
            }
        });
        origin
    }

    pub(crate) fn reject(&self, part: &str) {
        self.shared.0.lock().expect("lock").reject = Some(part.to_owned());
    }

    pub(crate) fn list(&self, states: &[&str]) {
        let recordings: Vec<Value> = states
            .iter()
            .map(|state| json!({"state": state, "reason": if *state == "failed" { "torn" } else { "" }}))
            .collect();
        let listing = json!({"coverage": [], "recordings": recordings});
        self.shared.0.lock().expect("lock").listings.push_back(listing);
    }

    /// What happened, read under the lock.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&Taken) -> T) -> T {
        read(&self.shared.0.lock().expect("lock"))
    }

    /// Waits until something has happened.
    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Taken) -> bool) {
        let (lock, changed) = &*self.shared;
        let guard = lock.lock().expect("lock");
        let (guard, waited) =
            changed.wait_timeout_while(guard, Duration::from_secs(60), |taken| !is_so(taken)).expect("lock");
        assert!(
            !waited.timed_out(),
            "waited for {what}; there are {} events: {:?}",
            guard.events.len(),
            guard.events.last()
        );
    }

    fn connection(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some((head, body)) = request(&mut reader) {
            let Some(answer) = self.answer(&head, &body) else { return };
            let mut writer = stream;
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    /// The answer; nothing closes the connection.
    fn answer(&self, head: &str, body: &str) -> Option<String> {
        let (lock, changed) = &*self.shared;
        let mut taken = lock.lock().expect("lock");
        if head.starts_with("GET") {
            let listing = match taken.listings.len() {
                0 => json!({"recordings": []}),
                1 => taken.listings[0].clone(),
                _ => taken.listings.pop_front().expect("one"),
            };
            return Some(response(200, "", &listing.to_string()));
        }
        assert!(head.starts_with("POST /v1/recordings/events HTTP/1.1"), "{head}");
        assert!(head.contains("content-type: application/x-ndjson") && head.contains("handling=lenient"), "{head}");
        taken.n_posts += 1;
        taken.at.push(Instant::now());
        let authorization = head.lines().find_map(|line| line.strip_prefix("authorization: "));
        taken.authorization = authorization.unwrap_or_default().to_owned();
        let next = taken.next.pop_front().unwrap_or(Next::Take);
        if let Next::Answer(status, retry_after) = next {
            let header = retry_after.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
            changed.notify_all();
            return Some(response(status, &header, "{\"detail\":\"as planned\"}"));
        }
        if next == Next::Drop {
            return None;
        }
        let (mut accepted, mut duplicates, mut rejected) = (0, 0, Vec::new());
        for (index, line) in body.lines().enumerate() {
            if taken.reject.as_ref().is_some_and(|part| line.contains(part.as_str())) {
                rejected.push(json!({"index": index, "pointer": "/data/media_url", "detail": "not here"}));
                continue;
            }
            let event: Value = serde_json::from_str(line).expect("an event a line");
            let id = event["id"].as_str().expect("id").to_owned();
            let n_before = *taken.by_id.entry(id).and_modify(|n| *n += 1).or_insert(1);
            accepted += 1;
            if n_before > 1 {
                duplicates += 1;
            } else {
                taken.events.push(event);
            }
        }
        changed.notify_all();
        drop(taken);
        match next {
            Next::TakeAndDrop => None,
            Next::TakeAndHold => loop {
                // Until the test ends, or the client is gone and so is this connection's use.
                std::thread::park();
            },
            _ => {
                let body = json!({"accepted": accepted, "duplicates": duplicates, "rejected": rejected});
                Some(response(202, "", &body.to_string()))
            }
        }
    }
}

fn response(status: u16, header: &str, body: &str) -> String {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{header}");
    format!("{head}content-length: {}\r\n\r\n{body}", body.len())
}

/// Head in lower-case header names, and body; nothing at the end of the connection.
fn request(reader: &mut impl BufRead) -> Option<(String, String)> {
    let (mut head, mut len) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        match line.split_once(": ").filter(|_| !head.is_empty()) {
            Some((name, value)) => {
                if name.eq_ignore_ascii_case("content-length") {
                    len = value.trim().parse().expect("length");
                }
                head += &format!("{}: {}\n", name.to_lowercase(), value.trim());
            }
            None => head += &line,
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).expect("text")))
}
