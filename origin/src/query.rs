//! Query parameters: decoded once, each taken at most once, every fault listed.

use percent_encoding::percent_decode_str;
use stills_model::time::{TIMESTAMP_MAX_MS, Timestamp};

use crate::route::Fault;

/// The parameters of one request and the faults found so far.
#[derive(Debug)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    faults: Vec<Fault>,
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        };
        Self { pairs: query.split('&').filter(|part| !part.is_empty()).map(pair).collect(), faults: Vec::new() }
    }

    pub(crate) fn fault(&mut self, name: &'static str, detail: impl Into<String>) {
        self.faults.push(Fault::new(name, detail));
    }

    /// The names that are none of `known`, in their order.
    pub(crate) fn others(&self, known: &[&str]) -> Vec<String> {
        self.pairs.iter().map(|(name, _)| name).filter(|name| !known.contains(&name.as_str())).cloned().collect()
    }

    /// The value of a parameter; twice is a fault.
    pub(crate) fn optional(&mut self, name: &'static str) -> Option<String> {
        let mut values = self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone());
        let value = values.next();
        if values.next().is_some() {
            drop(values);
            self.fault(name, "must be given once");
            return None;
        }
        value
    }

    /// A parameter that must be there and parse.
    pub(crate) fn required<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, name: &'static str) -> Option<T> {
        let n_faults = self.faults.len();
        let Some(value) = self.optional(name) else {
            if self.faults.len() == n_faults {
                self.fault(name, "is required");
            }
            return None;
        };
        value.parse().map_err(|error: T::Err| self.fault(name, error.to_string())).ok()
    }

    /// An integer of plain digits within `min` and `max`; a missing one is `default`, or a fault where there is none.
    pub(crate) fn integer(&mut self, name: &'static str, default: Option<i64>, min: i64, max: i64) -> Option<i64> {
        let n_faults = self.faults.len();
        let Some(value) = self.optional(name) else {
            if default.is_none() && self.faults.len() == n_faults {
                self.fault(name, "is required");
            }
            return default;
        };
        let is_plain = value.bytes().all(|b| b.is_ascii_digit());
        let parsed = value.parse().ok().filter(|value| is_plain && (min..=max).contains(value));
        if parsed.is_none() {
            self.fault(name, format!("must be an integer from {min} to {max}"));
        }
        parsed
    }

    pub(crate) fn timestamp(&mut self, name: &'static str) -> Option<Timestamp> {
        self.integer(name, None, 0, TIMESTAMP_MAX_MS).map(Timestamp::from_ms)
    }

    /// One of a few words, or nothing when it is missing.
    pub(crate) fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.optional(name)?;
        let found = words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.fault(name, format!("must be {}", words.join(" or ")));
        }
        found
    }

    /// Whether no fault was found so far.
    pub(crate) fn is_faultless(&self) -> bool {
        self.faults.is_empty()
    }

    /// Every fault, if there is any.
    pub(crate) fn finish(self) -> Result<(), Vec<Fault>> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_integer(query: &str, expected: Result<i64, &str>) {
        let mut parsed = Query::parse(query);
        let value = parsed.integer("page", Some(1), 1, 10);
        let found = parsed.finish().map(|()| value.unwrap_or(-1)).map_err(|faults| faults[0].detail.clone());
        assert_eq!(found, expected.map_err(str::to_owned), "{query}");
    }

    #[test]
    fn integers() {
        check_integer("", Ok(1));
        check_integer("page=7", Ok(7));
        check_integer("%70age=%37", Ok(7));
        check_integer("page=0", Err("must be an integer from 1 to 10"));
        check_integer("page=-1", Err("must be an integer from 1 to 10"));
        check_integer("page=+7", Err("must be an integer from 1 to 10"));
        check_integer("page=1.5", Err("must be an integer from 1 to 10"));
        check_integer("page=99999999999999999999", Err("must be an integer from 1 to 10"));
        check_integer("page=", Err("must be an integer from 1 to 10"));
        check_integer("page=1&page=2", Err("must be given once"));
    }
}
