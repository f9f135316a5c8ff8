//! From the 33-bit clock of MPEG-TS to time that goes on: wraps are undone, long jumps are bridged.

use stills_model::codec::{Malformed, Reader, Writer};

pub(super) const WRAP: u64 = 1 << 33;

/// Jumps longer than this, either way, are a new start of the clock and not a pause.
const JUMP_MAX: i64 = 10 * 90_000;

/// How long a picture is taken to last until two have been seen.
const FRAME_START: i64 = 3600;

/// Follows the decoding times of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clock {
    /// The last decoding time as it was written, and in time that goes on.
    last: Option<(u64, i64)>,
    /// The usual distance between two pictures.
    frame: i64,
}

impl Clock {
    pub(super) const fn new() -> Self {
        Self { last: None, frame: FRAME_START }
    }

    /// Ticks that a picture lasts.
    pub(super) const fn frame(&self) -> i64 {
        self.frame
    }

    /// By how much the next picture's time leaps from the one before; nothing where it is followed.
    pub(super) fn leap(&self, pts: Option<u64>, dts: Option<u64>) -> Option<i64> {
        let step = distance(self.last?.0, dts.or(pts)?);
        (step.abs() > JUMP_MAX).then_some(step)
    }

    /// The presentation time of the next picture, in time that goes on. One without times follows the one before.
    pub(super) fn place(&mut self, pts: Option<u64>, dts: Option<u64>) -> i64 {
        let (raw, time) = match (dts.or(pts), self.last) {
            (Some(raw), None) => (raw, raw.cast_signed()),
            (None, None) => (0, 0),
            (Some(raw), Some((last_raw, last))) => {
                let step = distance(last_raw, raw);
                if (1..=90_000).contains(&step) {
                    self.frame = step;
                }
                (raw, last + if step.abs() > JUMP_MAX { self.frame } else { step })
            }
            (None, Some((raw, last))) => ((raw + self.frame.unsigned_abs()) % WRAP, last + self.frame),
        };
        self.last = Some((raw, time));
        let ahead = pts.map_or(0, |pts| distance(raw, pts));
        time + if ahead.abs() > JUMP_MAX { 0 } else { ahead }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        let (raw, time) = self.last.unwrap_or((WRAP, 0));
        w.unsigned(raw).signed(time).signed(self.frame);
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (raw, time, frame) = (r.unsigned()?, r.signed()?, r.signed()?);
        // A day of ticks is below 2^33; far above it sums could overflow.
        if raw > WRAP || time.unsigned_abs() > 1 << 60 || !(1..=90_000).contains(&frame) {
            return Err(Malformed("clock"));
        }
        Ok(Self { last: (raw < WRAP).then_some((raw, time)), frame })
    }
}

/// From `a` to `b` the shorter way round.
fn distance(a: u64, b: u64) -> i64 {
    let ahead = (b.wrapping_sub(a) % WRAP).cast_signed();
    if ahead >= WRAP.cast_signed() / 2 { ahead - WRAP.cast_signed() } else { ahead }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(times: &[(u64, u64)], expected: &[i64]) {
        let mut clock = Clock::new();
        let found: Vec<i64> = times.iter().map(|(pts, dts)| clock.place(Some(*pts), Some(*dts))).collect();
        assert_eq!(found, expected, "{times:?}");
        let mut w = Writer::new();
        clock.write(&mut w);
        assert_eq!(Clock::read(&mut Reader::new(&w.finish())), Ok(clock));
    }

    #[test]
    fn wraps_and_jumps() {
        check(&[(100, 100), (3700, 3700)], &[100, 3700]);
        let last = WRAP - 1800;
        check(&[(last, last), (1800, 1800)], &[last.cast_signed(), last.cast_signed() + 3600]);
        // Picture order across the wrap.
        check(&[(last + 3600 - WRAP, last), (last, last + 100)], &[last.cast_signed() + 3600, last.cast_signed()]);
        // A clock that starts again, or leaps by hours, goes on with one picture.
        check(
            &[(9_000_000, 9_000_000), (9_003_000, 9_003_000), (0, 0), (3000, 3000)],
            &[9_000_000, 9_003_000, 9_006_000, 9_009_000],
        );
        check(&[(0, 0), (3000, 3000), (900_000_000, 900_000_000)], &[0, 3000, 6000]);
        // A pause of up to ten seconds is one.
        check(&[(0, 0), (900_000, 900_000)], &[0, 900_000]);
        check(&[(0, 0), (900_001, 900_001)], &[0, 3600]);
        let mut clock = Clock::new();
        assert_eq!(clock.leap(Some(900_001), None), None);
        clock.place(Some(900_000), None);
        let leaps = [0, 1_800_000, 1_800_001].map(|pts| clock.leap(Some(pts), None));
        assert_eq!(leaps, [None, None, Some(900_001)]);
        assert_eq!(clock.leap(Some(900_000), Some(WRAP - 2)), Some(-900_002));
    }

    #[test]
    fn pictures_without_times_follow_the_one_before() {
        let mut clock = Clock::new();
        clock.place(Some(0), None);
        clock.place(Some(3000), None);
        assert_eq!(clock.place(None, None), 6000);
        assert_eq!(clock.place(Some(9000), None), 9000);
    }
}
