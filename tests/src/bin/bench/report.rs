//! Figures by file and by what was measured: medians over the turns, ratios, a table and JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

/// What is measured of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// libavcodec alone on the same bytes, CPU milliseconds a keyframe.
    Floor,
    /// Our renderer without any other process, CPU milliseconds a thumb.
    Renderer,
    /// The whole service: CPU milliseconds a thumb of all its processes.
    Lazy,
    /// Of that, the server's own, without the decoders'.
    LazyServer,
    /// The same: milliseconds from the request to the answer.
    LazyWall,
    /// CPU milliseconds of the `ffmpeg` program.
    Ffmpeg,
    /// CPU milliseconds of `ffmpegthumbnailer`.
    Thumbnailer,
    /// PyAV, the file opened for each thumb: CPU milliseconds.
    PyavOpen,
    /// PyAV, the file kept open: CPU milliseconds.
    PyavKept,
    /// Thumbs that we prerender in a CPU second, one decoder.
    Prerender,
    /// The same of the `ffmpeg` program.
    PrerenderFfmpeg,
    /// Thumbs that we prerender in a second by the clock, one decoder.
    PrerenderWall,
    /// The same with two decoders.
    PrerenderWallTwo,
    /// The `ffmpeg` program's.
    PrerenderWallFfmpeg,
}

impl What {
    const ALL: [Self; 14] = [
        Self::Floor,
        Self::Renderer,
        Self::Lazy,
        Self::LazyServer,
        Self::LazyWall,
        Self::Ffmpeg,
        Self::Thumbnailer,
        Self::PyavOpen,
        Self::PyavKept,
        Self::Prerender,
        Self::PrerenderFfmpeg,
        Self::PrerenderWall,
        Self::PrerenderWallTwo,
        Self::PrerenderWallFfmpeg,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Floor => "decode alone, CPU ms",
            Self::Renderer => "our renderer alone, CPU ms",
            Self::Lazy => "lazy thumb, CPU ms",
            Self::LazyServer => "of that, the server, CPU ms",
            Self::LazyWall => "lazy thumb, wall ms",
            Self::Ffmpeg => "ffmpeg, CPU ms",
            Self::Thumbnailer => "ffmpegthumbnailer, CPU ms",
            Self::PyavOpen => "PyAV opening, CPU ms",
            Self::PyavKept => "PyAV kept open, CPU ms",
            Self::Prerender => "prerender, thumbs per CPU s",
            Self::PrerenderFfmpeg => "ffmpeg, thumbs per CPU s",
            Self::PrerenderWall => "prerender, thumbs/s",
            Self::PrerenderWallTwo => "two decoders, thumbs/s",
            Self::PrerenderWallFfmpeg => "ffmpeg, thumbs/s",
        }
    }
}

/// All figures.
#[derive(Debug, Default)]
pub(crate) struct Report {
    files: Vec<String>,
    figures: BTreeMap<(usize, What), Vec<f64>>,
    copies: Vec<(String, String)>,
}

impl Report {
    /// Notes one figure of a file.
    pub(crate) fn add(&mut self, file: &str, what: What, figure: f64) {
        let at = self.files.iter().position(|known| known == file).unwrap_or_else(|| {
            self.files.push(file.to_owned());
            self.files.len() - 1
        });
        self.figures.entry((at, what)).or_default().push(figure);
    }

    /// Notes that a file is a longer copy of another.
    pub(crate) fn is_copy(&mut self, file: &str, of: &str) {
        self.copies.push((file.to_owned(), of.to_owned()));
    }

    fn at(&self, file: usize, what: What, share: f64) -> Option<f64> {
        let mut figures = self.figures.get(&(file, what))?.clone();
        figures.sort_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a short list")]
        let place = ((figures.len() - 1) as f64 * share).round() as usize;
        figures.get(place).copied()
    }

    fn median(&self, file: usize, what: What) -> Option<f64> {
        self.at(file, what, 0.5)
    }

    fn ratio(&self, file: usize, what: What, to: What) -> Option<f64> {
        Some(self.median(file, what)? / self.median(file, to)?)
    }

    /// Each ratio that there is a goal for.
    fn ratios(&self) -> Vec<(String, f64)> {
        let mut found = Vec::new();
        for (at, file) in self.files.iter().enumerate() {
            for (what, to, name) in [
                (What::Renderer, What::Floor, "our renderer alone / decode alone, CPU"),
                (What::Lazy, What::Floor, "lazy / decode alone, CPU"),
                (What::Lazy, What::Ffmpeg, "lazy / ffmpeg, CPU"),
                (What::Lazy, What::Thumbnailer, "lazy / ffmpegthumbnailer, CPU"),
                (What::Lazy, What::PyavOpen, "lazy / PyAV opening, CPU"),
                (What::Lazy, What::PyavKept, "lazy / PyAV kept open, CPU"),
                (What::Prerender, What::PrerenderFfmpeg, "prerender / ffmpeg, thumbs per CPU s"),
                (What::PrerenderWallTwo, What::PrerenderWallFfmpeg, "prerender with two decoders / ffmpeg, thumbs/s"),
                (What::PrerenderWallTwo, What::PrerenderWall, "prerender with two decoders / with one, thumbs/s"),
            ] {
                found.extend(self.ratio(at, what, to).map(|ratio| (format!("{file}: {name}"), ratio)));
            }
        }
        for (file, of) in &self.copies {
            let place = |name: &String| self.files.iter().position(|known| known == name);
            let Some((file_at, of_at)) = place(file).zip(place(of)) else { continue };
            for (what, name) in [(What::Lazy, "CPU"), (What::LazyWall, "wall")] {
                let ratio = self.median(file_at, what).zip(self.median(of_at, what)).map(|(long, short)| long / short);
                found.extend(ratio.map(|ratio| (format!("{file} / {of}: lazy, {name}"), ratio)));
            }
        }
        found
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for (at, file) in self.files.iter().enumerate() {
            let _ = writeln!(text, "\n{file}");
            for what in What::ALL {
                let Some((median, p95)) = self.median(at, what).zip(self.at(at, what, 0.95)) else { continue };
                let count = self.figures.get(&(at, what)).map_or(0, Vec::len);
                let _ = writeln!(text, "  {:<30} median {median:8.2}  p95 {p95:8.2}  n {count}", what.name());
            }
        }
        let _ = writeln!(text, "\nratios of medians");
        for (name, ratio) in self.ratios() {
            let _ = writeln!(text, "  {ratio:6.3}  {name}");
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let figures = self.figures.iter().map(|((file, what), figures)| {
            let (median, p95) = (self.median(*file, *what), self.at(*file, *what, 0.95));
            json!({"file": self.files.get(*file), "what": what.name(), "median": median, "p95": p95, "figures": figures})
        });
        let ratios = self.ratios().into_iter().map(|(name, ratio)| json!({"name": name, "ratio": ratio}));
        json!({"figures": figures.collect::<Vec<_>>(), "ratios": ratios.collect::<Vec<_>>()})
    }
}
