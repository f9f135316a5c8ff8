//! Prometheus' text format, as a scraper reads it.

use std::collections::BTreeMap;

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name of its series.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// All samples of one scrape.
#[derive(Debug, Clone)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Reads a scrape.
    ///
    /// # Errors
    /// The line that is no sample and no comment.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(|line| sample(line).ok_or_else(|| line.to_owned())).collect::<Result<_, _>>().map(Self)
    }

    /// All of them.
    pub fn all(&self) -> &[Sample] {
        &self.0
    }

    /// The sum over all series of that name that carry these labels; nought where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            let has = |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|found| found == value);
            sample.name == name && labels.iter().all(has)
        };
        self.0.iter().filter(fits).map(|sample| sample.value).sum()
    }
}

/// `name{label="value",…} 1.5`, with `\\`, `\"` and `\n` in values.
fn sample(line: &str) -> Option<Sample> {
    let name_len = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_len);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(key.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then(|| Sample { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape() {
        let text = "# HELP a b\n# TYPE a counter\na_total{x=\"1\",y=\"a\\\"b,}\"} 2\na_total{x=\"2\"} 3.5\nb 7\n";
        let samples = Samples::parse(text).expect("samples");
        assert_eq!(samples.sum("a_total", &[]), 5.5);
        assert_eq!(samples.sum("a_total", &[("y", "a\"b,}")]), 2.0);
        assert_eq!(samples.sum("b", &[]), 7.0);
        assert_eq!(samples.sum("c", &[]), 0.0);
        for wrong in ["a", "a{", "a{x=1} 2", "a{x=\"1} 2", "a b", "a-b 1"] {
            assert_eq!(Samples::parse(wrong).expect_err("refused"), wrong);
        }
    }
}
