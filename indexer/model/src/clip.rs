//! Clips: media that callers name by URL. Points in them, and the containers that only clips may have.

use std::fmt;
use std::str::FromStr;

/// A share of a clip's length: 0 to 100 percent, kept in millionths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

/// Millionths in one percent.
const ONE: u32 = 1_000_000;

impl Percent {
    /// The beginning.
    pub const START: Self = Self(0);
    /// The end.
    pub const END: Self = Self(100 * ONE);

    /// A whole number of percent; what is over 100 is 100.
    pub fn whole(percent: u8) -> Self {
        Self(u32::from(percent) * ONE).min(Self::END)
    }

    /// The point in milliseconds of something `duration_ms` long, rounded down.
    pub fn of_ms(self, duration_ms: i64) -> i64 {
        let ms = i128::from(duration_ms) * i128::from(self.0) / i128::from(Self::END.0);
        i64::try_from(ms).unwrap_or(i64::MAX)
    }
}

/// Plain decimal digits with a fraction, if any; digits behind the sixth of the fraction are left out.
impl FromStr for Percent {
    type Err = InvalidPercent;

    fn from_str(text: &str) -> Result<Self, InvalidPercent> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_plain(whole) || !is_plain(fraction) {
            return Err(InvalidPercent);
        }
        let whole: u32 = whole.parse().map_err(|_| InvalidPercent)?;
        let millionths = format!("{fraction:0<6.6}").parse::<u32>().map_err(|_| InvalidPercent)?;
        let is_over = whole > 100 || whole == 100 && fraction.bytes().any(|b| b != b'0');
        if is_over { Err(InvalidPercent) } else { Ok(Self(whole * ONE + millionths)) }
    }
}

/// The text is not a percentage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPercent;

impl fmt::Display for InvalidPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a number from 0 to 100, such as 12.5")
    }
}

impl std::error::Error for InvalidPercent {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<u32>) {
        assert_eq!(text.parse::<Percent>().ok().map(|percent| percent.0), expected, "{text:?}");
    }

    #[test]
    fn percentages() {
        check("0", Some(0));
        check("10", Some(10 * ONE));
        check("12.5", Some(12_500_000));
        check("0.000001", Some(1));
        check("99.9999999", Some(99_999_999));
        check("100", Some(100 * ONE));
        check("100.000", Some(100 * ONE));
        check("007.50", Some(7_500_000));
        for wrong in
            ["", ".", "1.", ".5", "100.0000001", "101", "-1", "+1", "1e1", "1,5", "NaN", "inf", "99999999999", "1.2.3"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn points() {
        let check = |percent: &str, duration_ms: i64, expected: i64| {
            let percent: Percent = percent.parse().expect("percent");
            assert_eq!(percent.of_ms(duration_ms), expected);
        };
        check("0", 60_000, 0);
        check("10", 60_000, 6_000);
        check("33.333333", 60_000, 19_999);
        check("100", 60_000, 60_000);
        check("100", i64::MAX, i64::MAX);
        check("50", 0, 0);
        assert_eq!((Percent::whole(10), Percent::whole(255)), (Percent(10 * ONE), Percent::END));
    }
}
