//! A column of integers in few bytes: what they have in common once, then what differs in as many bits as most need.
//!
//! Form: a byte with the width (0 to 64 bits) and, if what is in brackets follows, its highest bit; the least value;
//! \[the unit that all differences from the least are multiples of, the count of exceptions\]; each difference in units,
//! its low bits, `width` of them, packed from the lowest bit of the first byte on; \[per exception: how many values
//! stand between it and the one before, and the bits beyond the width\]. A column without values takes no bytes.
//!
//! Reading is total. What it allocates is bounded by the count that the caller asks for, not by the input: a column of
//! equal values takes two bytes however long it is.

use crate::codec::{Malformed, Reader, Writer};

/// In the first byte: unit and exceptions follow.
const EXTENDED: u8 = 0x80;
/// The widest value; also how many widths there are beside 0.
const WIDTH_MAX: u8 = 64;

/// Appends `values`. Any values are taken; few bytes they need when they are near to each other.
pub fn write(w: &mut Writer, values: &[i64]) {
    let Some(&least) = values.iter().min() else { return };
    // The true difference of any two fits 64 bits without a sign.
    let above: Vec<u64> = values.iter().map(|value| value.wrapping_sub(least).cast_unsigned()).collect();
    let unit = above.iter().fold(0, |unit, &difference| gcd(difference, unit)).max(1);
    let units: Vec<u64> = above.iter().map(|difference| difference / unit).collect();
    let width = best_width(&units);
    let high = |value: u64| value.checked_shr(width.into()).unwrap_or(0);
    let n_exceptions = units.iter().filter(|&&value| high(value) > 0).count() as u64;
    let is_extended = unit > 1 || n_exceptions > 0;
    w.byte(if is_extended { width | EXTENDED } else { width }).signed(least);
    if is_extended {
        w.unsigned(unit).unsigned(n_exceptions);
    }
    w.raw(&pack(&units, width));
    let mut between = 0u64;
    for value in units {
        if high(value) > 0 {
            w.unsigned(between).unsigned(high(value));
            between = 0;
        } else {
            between += 1;
        }
    }
}

/// Reads `count` values.
///
/// # Errors
/// When the bytes are not such a column.
pub fn read(r: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, Malformed> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let first = r.byte()?;
    let (width, is_extended) = (first & !EXTENDED, first & EXTENDED > 0);
    if width > WIDTH_MAX {
        return Err(Malformed("width of a column"));
    }
    let least = r.signed()?;
    let (unit, n_exceptions) = if is_extended { (r.unsigned()?, r.unsigned()?) } else { (1, 0) };
    let packed = r.raw(packed_len(count, width).ok_or(Malformed("length of a column"))?)?;
    let mut units = unpack(packed, width, count);
    let mut at = 0usize;
    for n in 0..n_exceptions {
        let between = usize::try_from(r.unsigned()?).map_err(|_| Malformed("exception of a column"))?;
        at = at.checked_add(between).and_then(|at| at.checked_add(usize::from(n > 0))).unwrap_or(count);
        let value = units.get_mut(at).ok_or(Malformed("exception of a column"))?;
        // What is shifted out was never written.
        *value |= r.unsigned()?.checked_shl(width.into()).unwrap_or(0);
    }
    Ok(units.into_iter().map(|value| least.wrapping_add(unit.wrapping_mul(value).cast_signed())).collect())
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn bits(value: u64) -> u8 {
    // At most 64.
    u8::try_from(u64::BITS - value.leading_zeros()).unwrap_or(WIDTH_MAX)
}

/// The width at which the column is shortest: what does not fit is an exception of two bytes or more.
fn best_width(values: &[u64]) -> u8 {
    let mut n_of_bits = [0u64; WIDTH_MAX as usize + 1];
    for &value in values {
        n_of_bits[usize::from(bits(value))] += 1;
    }
    // Only widths that are just enough for some value; of equally good ones the widest: it has the fewest exceptions.
    let occupied: Vec<(u8, u64)> = (0..=WIDTH_MAX).zip(n_of_bits).filter(|(_, n)| *n > 0).collect();
    let cost = |width: u8| {
        let wider = occupied.iter().filter(|(bits, _)| *bits > width);
        let exceptions = wider.map(|(bits, n)| n * (8 + 8 * u64::from(bits - width).div_ceil(7)));
        values.len() as u64 * u64::from(width) + exceptions.sum::<u64>()
    };
    occupied.iter().rev().map(|(width, _)| *width).min_by_key(|width| cost(*width)).unwrap_or(0)
}

fn packed_len(count: usize, width: u8) -> Option<usize> {
    Some(count.checked_mul(usize::from(width))?.div_ceil(8))
}

/// The low bits of each value.
fn pack(values: &[u64], width: u8) -> Vec<u8> {
    let mut packed = Vec::new();
    // Fewer than eight bits wait for the rest of their byte.
    let (mut waiting, mut n_waiting) = (0u128, 0u32);
    for &value in values {
        waiting |= u128::from(value & mask(width)) << n_waiting;
        n_waiting += u32::from(width);
        while n_waiting >= 8 {
            packed.push(waiting.to_le_bytes()[0]);
            waiting >>= 8;
            n_waiting -= 8;
        }
    }
    if n_waiting > 0 {
        packed.push(waiting.to_le_bytes()[0]);
    }
    packed
}

/// `packed` has the length that `count` values need.
fn unpack(packed: &[u8], width: u8, count: usize) -> Vec<u64> {
    let mask = mask(width);
    let value = |n: usize| {
        let bit = n * usize::from(width);
        let rest = &packed[(bit / 8).min(packed.len())..];
        // Up to 56 bits and the seven in front of them lie in one load; others, and those at the end, take a longer way.
        let window = match rest.first_chunk::<8>() {
            Some(chunk) if width <= 56 => u64::from_le_bytes(*chunk) >> (bit % 8),
            _ => wide(rest, bit % 8),
        };
        window & mask
    };
    (0..count).map(value).collect()
}

/// The 64 bits from bit `from` (0 to 7) of `bytes` on; zeros behind their end.
fn wide(bytes: &[u8], from: usize) -> u64 {
    let mut window = [0; 16];
    let len = bytes.len().min(9);
    window[..len].copy_from_slice(&bytes[..len]);
    let [low, high] = [0, 8].map(|at| window[at..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk)));
    if from == 0 { low } else { low >> from | high << (64 - from) }
}

fn mask(width: u8) -> u64 {
    u64::MAX.checked_shr(u32::from(WIDTH_MAX - width)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(values: &[i64]) -> Vec<u8> {
        let mut w = Writer::new();
        write(&mut w, values);
        w.finish()
    }

    fn check(values: &[i64], len: usize) {
        let bytes = written(values);
        let mut r = Reader::new(&bytes);
        assert_eq!(read(&mut r, values.len()).as_deref(), Ok(values));
        assert_eq!((r.end(), bytes.len()), (Ok(()), len), "{values:?}");
    }

    #[test]
    fn few_bytes() {
        check(&[], 0);
        check(&[0], 2);
        check(&[0; 128], 2);
        check(&[2000; 29], 3);
        // Four bits each.
        check(&[100, 101, 115, 107], 1 + 2 + 2);
        // Multiples of 188, three bits each.
        check(&[188_000, 188_188, 188_000 + 7 * 188, 188_000], 1 + 3 + 2 + 1 + 2);
        // One exception instead of 19 bits for each.
        let mut steps = vec![2000; 30];
        steps[7] = 500_001;
        check(&steps, 1 + 2 + 4 + 2);
        steps[21] = 500_002;
        assert!(written(&steps).len() <= 16);
    }

    #[test]
    fn extremes() {
        for width in 0..=64u32 {
            let top = u64::MAX.checked_shr(64 - width).unwrap_or(0).cast_signed();
            let values = [0, top, top / 3, 1.min(top), top, 0, 0, top, top];
            let bytes = written(&values);
            assert_eq!(read(&mut Reader::new(&bytes), values.len()), Ok(values.to_vec()), "width {width}");
        }
        check(&[i64::MIN, i64::MAX], 1 + 10 + 11 + 1);
    }

    #[test]
    fn what_is_no_column_is_refused() {
        let check = |bytes: &[u8], count: usize, what: &'static str| {
            assert_eq!(read(&mut Reader::new(bytes), count), Err(Malformed(what)), "{bytes:?}");
        };
        check(&[], 1, "end");
        check(&[65, 0], 1, "width of a column");
        check(&[8, 0, 1], 2, "length");
        check(&[64, 0], usize::MAX, "length of a column");
        // An exception behind the last value.
        check(&[EXTENDED, 0, 1, 1, 2, 1], 2, "exception of a column");
        check(&[EXTENDED, 0, 1, 2, 1, 1, 0, 1], 2, "exception of a column");
    }

    proptest! {
        #[test]
        fn all_values_survive(values: Vec<i64>) {
            let bytes = written(&values);
            prop_assert_eq!(read(&mut Reader::new(&bytes), values.len()), Ok(values));
        }

        #[test]
        fn values_with_outliers_survive(
            shift in 0u32..60,
            raw in prop::collection::vec((any::<i64>(), prop::bool::weighted(0.05)), 0..300),
        ) {
            let values: Vec<i64> = raw.iter().map(|&(v, out)| if out { v } else { (v & 0xfff) << shift }).collect();
            let bytes = written(&values);
            prop_assert_eq!(read(&mut Reader::new(&bytes), values.len()), Ok(values));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, count in 0usize..10_000) {
            let _ = read(&mut Reader::new(&bytes), count);
        }
    }
}
