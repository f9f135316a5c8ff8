//! Exact frames: of all frames of a recording the ones nearest to given instants, by the presentation times that the
//! decoder gives with them, never by counting packets.
//!
//! 1. decoding starts at a keyframe at or before the earliest instant ([`crate::scan::samples`]);
//! 2. frames come in the order of presentation; the first one at or behind an instant decides it: that one, or the one
//!    before it where that is nearer. So one frame is held at a time, and one decode serves all instants;
//! 3. behind the last frame, that one answers for what is left.
//!
//! Frames that an edit list trims away, that are damaged, or that stand before the keyframe and may lack what they
//! refer to, answer only where there are no others. Everything is decoded in full quality, and bounded in frames.

use std::collections::HashSet;

use stills_model::exact::{ExactFrame, ExactQuery};
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::DecoderConfig;
use stills_model::rendition::Rendition;

use crate::frame::{Decoder, Picture};
use crate::render::Renderer;
use crate::scan::Media;
use crate::scan::samples::Samples;

/// Samples that may be fed for each frame allowed: two fields.
const SAMPLES_PER_FRAME: u64 = 2;

/// Samples beyond that: what decoders hold back.
const SAMPLES_SLACK: u64 = 64;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// For each instant, in the query's order.
    pub answers: Vec<Result<ExactFrame, Fault>>,
    /// How many frames were decoded for all of them.
    pub decoded: u32,
}

/// Finds the frames nearest to the query's instants (of two equally near the later) and shows them.
///
/// # Errors
/// A fault of the media or its container fails all; what fails for one instant is its answer: [`FaultKind::TooLarge`]
/// behind the most frames that may be decoded, [`FaultKind::Damaged`] where no frame could be decoded.
pub fn exact(media: &mut dyn Media, query: &ExactQuery, renderer: &mut Renderer) -> Result<Found, Fault> {
    let mut samples = Samples::new(media, query)?;
    let mut search = Search::new(query, renderer, samples.start_ms());
    let mut decoder: Option<(DecoderConfig, Decoder)> = None;
    let mut fed = 0u64;
    let fed_max = u64::from(query.frames_max) * SAMPLES_PER_FRAME + SAMPLES_SLACK;
    while !search.is_done() {
        let Some(sample) = samples.next()? else { break };
        fed += 1;
        if fed > fed_max {
            search.exhaust();
            break;
        }
        if !sample.presented {
            search.trimmed.insert(sample.pts);
        }
        if decoder.as_ref().is_none_or(|(config, _)| *config != sample.config) {
            if let Some((config, mut old)) = decoder.take() {
                old.end();
                search.drain(&mut old, &config, &samples)?;
            }
            let opened = Decoder::open_for_frames(&sample.config)?;
            decoder = Some((sample.config.clone(), opened));
            search.is_fresh = true;
        }
        let Some((config, decoder)) = &mut decoder else { break };
        for packet in &sample.packets {
            decoder.feed(packet, sample.pts, std::mem::take(&mut search.is_fresh));
            search.drain(decoder, config, &samples)?;
        }
    }
    if let Some((config, decoder)) = &mut decoder {
        decoder.end();
        search.drain(decoder, config, &samples)?;
    }
    Ok(search.finish())
}

/// A frame that may be an answer.
struct Candidate {
    at_ms: i64,
    picture: Picture,
    config: DecoderConfig,
    /// Made when it is the answer for the first time.
    made: Option<Result<ExactFrame, Fault>>,
}

impl Candidate {
    fn show(&mut self, renderer: &mut Renderer, renditions: &[Rendition]) -> Result<ExactFrame, Fault> {
        let (at_ms, picture, config) = (self.at_ms, &self.picture, &self.config);
        let make = || {
            let shown = renderer.show(picture, config, renditions)?;
            Ok(ExactFrame { at_ms, pictures: shown.pictures })
        };
        self.made.get_or_insert_with(make).clone()
    }
}

struct Search<'q, 'r> {
    query: &'q ExactQuery,
    renderer: &'r mut Renderer,
    from_ms: i64,
    /// Places of the instants, earliest instant first.
    order: Vec<usize>,
    /// How many of these are answered.
    n_answered: usize,
    answers: Vec<Option<Result<ExactFrame, Fault>>>,
    /// The last frame that may answer.
    good: Option<Candidate>,
    /// The last frame that answers only where there is no good one.
    poor: Option<Candidate>,
    trimmed: HashSet<i64>,
    decoded: u32,
    /// No packet was fed to the decoder yet.
    is_fresh: bool,
}

impl<'q, 'r> Search<'q, 'r> {
    fn new(query: &'q ExactQuery, renderer: &'r mut Renderer, from_ms: i64) -> Self {
        let mut order: Vec<usize> = (0..query.instants_ms.len()).collect();
        order.sort_by_key(|place| query.instants_ms.get(*place));
        let answers = vec![None; query.instants_ms.len()];
        let (good, poor, trimmed) = (None, None, HashSet::new());
        Self {
            query,
            renderer,
            from_ms,
            order,
            n_answered: 0,
            answers,
            good,
            poor,
            trimmed,
            decoded: 0,
            is_fresh: true,
        }
    }

    /// The earliest instant that is not answered.
    fn wanted_ms(&self) -> Option<i64> {
        self.order.get(self.n_answered).and_then(|place| self.query.instants_ms.get(*place)).copied()
    }

    fn is_done(&self) -> bool {
        self.wanted_ms().is_none()
    }

    fn answer(&mut self, answer: Result<ExactFrame, Fault>) {
        if let Some(slot) = self.order.get(self.n_answered).and_then(|place| self.answers.get_mut(*place)) {
            *slot = Some(answer);
        }
        self.n_answered += 1;
    }

    /// Takes all frames that are ready.
    fn drain(&mut self, decoder: &mut Decoder, config: &DecoderConfig, samples: &Samples<'_>) -> Result<(), Fault> {
        while !self.is_done() {
            let Some(picture) = decoder.next_picture()? else { break };
            if self.decoded >= self.query.frames_max {
                self.exhaust();
                break;
            }
            self.decoded += 1;
            // A frame whose time nobody told is nearest to nothing.
            let Some(pts) = picture.pts() else { continue };
            let at_ms = samples.ms(pts);
            let is_good = !picture.is_damaged() && !self.trimmed.contains(&pts) && at_ms >= self.from_ms;
            let candidate = Candidate { at_ms, picture, config: config.clone(), made: None };
            if is_good { self.offer(candidate) } else { self.poor = Some(candidate) }
        }
        Ok(())
    }

    /// Answers the instants that a frame decides, and holds it for later ones.
    fn offer(&mut self, mut frame: Candidate) {
        // Out of order: it would have answered for what is answered already.
        if self.good.as_ref().is_some_and(|held| held.at_ms > frame.at_ms) {
            return;
        }
        let renditions = &self.query.renditions;
        while let Some(wanted_ms) = self.wanted_ms().filter(|wanted_ms| *wanted_ms <= frame.at_ms) {
            let ahead = frame.at_ms.abs_diff(wanted_ms);
            let answer = match &mut self.good {
                Some(held) if wanted_ms.abs_diff(held.at_ms) < ahead => held.show(self.renderer, renditions),
                _ => frame.show(self.renderer, renditions),
            };
            self.answer(answer);
        }
        self.good = Some(frame);
    }

    /// No more frames may be decoded.
    fn exhaust(&mut self) {
        let max = self.query.frames_max;
        let detail = format!("the frame is over {max} frames (decoders.exact_frames_max) behind its keyframe");
        while !self.is_done() {
            self.answer(Err(Fault::new(FaultKind::TooLarge, &detail)));
        }
    }

    /// There are no more frames: the last one answers for what is left.
    fn finish(mut self) -> Found {
        let mut last = self.good.take().or_else(|| self.poor.take());
        while !self.is_done() {
            let answer = match &mut last {
                Some(frame) => frame.show(self.renderer, &self.query.renditions),
                None => Err(Fault::new(FaultKind::Damaged, "no frame at this instant could be decoded")),
            };
            self.answer(answer);
        }
        Found { answers: self.answers.into_iter().flatten().collect(), decoded: self.decoded }
    }
}
