//! The frame rule and the listing rule as the contract words them, by looking at everything: what a thumb must show and
//! what a search must list. Slow, plain, and sharing no code with what it judges.

/// One recording as it was announced, and the keyframes that its footage is known to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its id, which decides between recordings that start together.
    pub id: String,
    /// Wall clock of its start.
    pub start_ms: i64,
    /// Wall clock of its end, which it includes.
    pub end_ms: i64,
    /// Wall clock of its keyframes, in order.
    pub keyframes_ms: Vec<i64>,
}

/// A keyframe that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown<'r> {
    /// Of which recording.
    pub recording: &'r Recorded,
    /// Its wall clock.
    pub keyframe_ms: i64,
}

impl Recorded {
    fn covers(&self, instant_ms: i64) -> bool {
        (self.start_ms..=self.end_ms).contains(&instant_ms)
    }

    /// Milliseconds between this recording and a span; nought where they overlap.
    fn distance_ms(&self, (start_ms, end_ms): (i64, i64)) -> i64 {
        (self.start_ms - end_ms).max(start_ms - self.end_ms).max(0)
    }

    /// The keyframes that count: those inside its span, and where there is none the nearest to it.
    fn counted(&self) -> Vec<i64> {
        let outside_ms = |at_ms: i64| (self.start_ms - at_ms).max(at_ms - self.end_ms).max(0);
        let least = self.keyframes_ms.iter().map(|at_ms| outside_ms(*at_ms)).min();
        self.keyframes_ms.iter().copied().filter(|at_ms| Some(outside_ms(*at_ms)) == least).collect()
    }

    fn precedence(&self) -> (i64, &str) {
        (self.start_ms, &self.id)
    }
}

/// Which keyframe answers for an instant, or `None` where nothing is covered or the covered stretch has no keyframe.
/// `recordings` are the indexed ones of one device, in any order.
pub fn shown(recordings: &[Recorded], seam_max_ms: i64, asked_ms: i64) -> Option<Shown<'_>> {
    let stretch =
        stretches(recordings, seam_max_ms).into_iter().find(|(start, end)| (*start..=*end).contains(&asked_ms))?;
    let covering = recordings.iter().filter(|recording| recording.covers(asked_ms)).max_by_key(|r| r.precedence());
    let span = covering.map_or((asked_ms, asked_ms), |recording| (recording.start_ms, recording.end_ms));
    let touching = recordings.iter().filter(|recording| recording.distance_ms(span) <= seam_max_ms);
    nearest(touching, asked_ms).or_else(|| {
        // Candidates without any keyframe: whatever the stretch has.
        nearest(recordings.iter().filter(|recording| recording.distance_ms(stretch) == 0), asked_ms)
    })
}

/// The offsets that a search lists: every `start + k * interval` up to the end, where a keyframe can be shown.
pub fn listed(
    recordings: &[Recorded],
    seam_max_ms: i64,
    (start_ms, end_ms): (i64, i64),
    interval_ms: usize,
) -> Vec<i64> {
    let instants = (start_ms..=end_ms).step_by(interval_ms.max(1));
    let listed = instants.filter(|instant_ms| shown(recordings, seam_max_ms, *instant_ms).is_some());
    listed.map(|instant_ms| instant_ms - start_ms).collect()
}

/// Recordings joined where they are no further apart than a seam.
fn stretches(recordings: &[Recorded], seam_max_ms: i64) -> Vec<(i64, i64)> {
    let mut spans: Vec<(i64, i64)> = recordings.iter().map(|r| (r.start_ms, r.end_ms)).collect();
    spans.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (start, end) in spans {
        match joined.last_mut() {
            Some(last) if start - last.1 <= seam_max_ms => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}

/// The nearest keyframe; of two equally near the later; of two at one instant that of the recording that starts last,
/// then has the greater id.
fn nearest<'r>(recordings: impl Iterator<Item = &'r Recorded>, asked_ms: i64) -> Option<Shown<'r>> {
    let keyframes = recordings
        .flat_map(|recording| recording.counted().into_iter().map(move |keyframe_ms| Shown { recording, keyframe_ms }));
    keyframes.min_by(|a, b| {
        let distance = |shown: &Shown<'_>| (shown.keyframe_ms - asked_ms).abs();
        let later_first = || b.keyframe_ms.cmp(&a.keyframe_ms);
        let precedence_first = || b.recording.precedence().cmp(&a.recording.precedence());
        distance(a).cmp(&distance(b)).then_with(later_first).then_with(precedence_first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(id: &str, start_ms: i64, end_ms: i64, keyframes_ms: &[i64]) -> Recorded {
        Recorded { id: id.into(), start_ms, end_ms, keyframes_ms: keyframes_ms.to_vec() }
    }

    #[test]
    fn the_rule_by_example() {
        let all = [
            recording("a", 0, 10_000, &[0, 4000, 8000]),
            recording("b", 10_500, 20_000, &[10_500, 14_500]),
            recording("c", 30_000, 40_000, &[30_000, 36_000]),
            recording("d", 35_000, 45_000, &[35_000, 39_000]),
            recording("e", 60_000, 61_000, &[]),
            recording("f", 61_500, 70_000, &[61_500]),
            recording("g", 90_000, 91_000, &[]),
        ];
        let check = |asked_ms: i64, expected: Option<(&str, i64)>| {
            let found = shown(&all, 1000, asked_ms);
            assert_eq!(found.map(|s| (s.recording.id.as_str(), s.keyframe_ms)), expected, "{asked_ms}");
        };
        check(-1, None);
        check(1999, Some(("a", 0)));
        check(2000, Some(("a", 4000))); // of two equally near the later
        check(9500, Some(("b", 10_500))); // across a seam
        check(10_250, Some(("b", 10_500))); // inside the seam
        check(20_000, Some(("b", 14_500))); // both ends included
        check(20_001, None); // a gap
        check(35_600, Some(("c", 36_000))); // an overlap: the nearest of both
        check(45_000, Some(("d", 39_000)));
        check(60_000, Some(("f", 61_500))); // a recording without a keyframe: its neighbour's
        check(90_500, None); // a stretch without any
    }

    #[test]
    fn keyframes_outside_their_recording_count_only_alone() {
        let check = |keyframes_ms: &[i64], expected: i64| {
            let all = [recording("a", 1000, 2000, keyframes_ms)];
            assert_eq!(shown(&all, 0, 1900).map(|s| s.keyframe_ms), Some(expected));
        };
        check(&[1000, 2010], 1000);
        check(&[400, 2500], 2500);
        check(&[900, 2500], 900);
    }

    #[test]
    fn at_one_instant_the_later_recording_wins() {
        let all = [recording("b", 0, 5000, &[2000]), recording("a", 1000, 5000, &[2000])];
        assert_eq!(shown(&all, 0, 2000).map(|s| s.recording.id.as_str()), Some("a"));
        let all = [recording("b", 0, 5000, &[2000]), recording("a", 0, 5000, &[2000])];
        assert_eq!(shown(&all, 0, 2000).map(|s| s.recording.id.as_str()), Some("b"));
    }

    #[test]
    fn gaps_are_not_listed_and_ends_are() {
        let all = [recording("a", 0, 10_000, &[0]), recording("b", 20_000, 30_000, &[20_000])];
        assert_eq!(listed(&all, 1000, (0, 30_000), 5000), [0, 5000, 10_000, 20_000, 25_000, 30_000]);
        assert_eq!(listed(&all, 1000, (9000, 21_500), 6000), [0, 12_000]);
    }
}
