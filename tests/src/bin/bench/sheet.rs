//! One benchmark's figures: medians of rounds, ratios with their goals, as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

/// What a ratio or a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("at least {least}"),
            Self::AtMost(most) => format!("at most {most}"),
        }
    }
}

#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    figures: Vec<f64>,
}

#[derive(Debug)]
struct Judged {
    name: String,
    value: f64,
    goal: Option<Goal>,
}

/// All figures of one benchmark.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    rows: Vec<Row>,
    judged: Vec<Judged>,
}

impl Sheet {
    /// Notes one round's figure.
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, figure: f64) {
        match self.rows.iter_mut().find(|row| row.name == name && row.unit == unit) {
            Some(row) => row.figures.push(figure),
            None => self.rows.push(Row { name: name.to_owned(), unit, figures: vec![figure] }),
        }
    }

    /// The median over the rounds; not a number where there were none.
    pub(crate) fn median(&self, name: &str, unit: &str) -> f64 {
        let row = self.rows.iter().find(|row| row.name == name && row.unit == unit);
        row.map_or(f64::NAN, |row| percentile(&row.figures, 0.5))
    }

    /// Notes a ratio, or another figure that there is a goal for.
    pub(crate) fn judge(&mut self, name: &str, value: f64, goal: Option<Goal>) {
        self.judged.push(Judged { name: name.to_owned(), value, goal });
    }

    /// Notes the ratio of two medians.
    pub(crate) fn ratio(&mut self, (name, to): (&str, &str), unit: &str, goal: Option<Goal>) {
        let ratio = self.median(name, unit) / self.median(to, unit);
        self.judge(&format!("{name} / {to}, {unit}"), ratio, goal);
    }

    fn table(&self) -> String {
        let mut text = String::new();
        for Row { name, unit, figures } in &self.rows {
            let (low, median, high) = (percentile(figures, 0.0), percentile(figures, 0.5), percentile(figures, 1.0));
            let spread = if figures.len() > 1 { format!("  ({low:.2} to {high:.2})") } else { String::new() };
            let _ = writeln!(text, "{median:12.2}  {name}, {unit}{spread}");
        }
        text.push('\n');
        for Judged { name, value, goal } in &self.judged {
            let verdict = goal.map_or(String::new(), |goal| {
                format!("  [{}: {}]", goal.text(), if goal.is_met(*value) { "met" } else { "MISSED" })
            });
            let _ = writeln!(text, "{value:12.3}  {name}{verdict}");
        }
        text
    }

    fn json(&self) -> Value {
        let row = |row: &Row| {
            let median = percentile(&row.figures, 0.5);
            json!({"name": row.name, "unit": row.unit, "median": median, "figures": row.figures})
        };
        let judged = |judged: &Judged| {
            let goal = judged.goal.map(Goal::text);
            json!({"name": judged.name, "value": judged.value, "goal": goal, "met": judged.goal.map(|goal| goal.is_met(judged.value))})
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        let judged: Vec<Value> = self.judged.iter().map(judged).collect();
        json!({"figures": rows, "ratios": judged})
    }

    /// Prints the table and writes `{name}.json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn publish(&self, place: &Path, name: &str) -> io::Result<()> {
        println!("\n{}", self.table());
        let file = place.join(format!("{name}.json"));
        std::fs::write(&file, serde_json::to_vec_pretty(&self.json())?)?;
        println!("written to {}", file.display());
        Ok(())
    }
}

/// The figure below which `share` of all lie; not a number where there is none.
pub(crate) fn percentile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list")]
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
