//! How bright and how varied a small picture is. Looks at samples that are there anyway: nearly free.

use stills_model::wire::Luma;

use crate::plane::Plane;

/// Of full-range luma.
pub(crate) fn of_luma(luma: &Plane) -> Luma {
    of_samples(luma.samples.iter().map(|sample| u32::from(*sample)))
}

/// Of limited-range luma, 16 to 235.
pub(crate) fn of_limited_luma(luma: &Plane) -> Luma {
    of_samples(luma.samples.iter().map(|sample| (u32::from((*sample).clamp(16, 235)) - 16) * 255 / 219))
}

/// Of red, green and blue, by the weights of BT.601.
pub(crate) fn of_rgb([red, green, blue]: &[Plane; 3]) -> Luma {
    let weighed = red.samples.iter().zip(&green.samples).zip(&blue.samples).map(|((red, green), blue)| {
        (77 * u32::from(*red) + 150 * u32::from(*green) + 29 * u32::from(*blue) + 128) >> 8
    });
    of_samples(weighed)
}

fn of_samples(samples: impl Iterator<Item = u32>) -> Luma {
    let (mut count, mut sum, mut squares) = (0u64, 0u64, 0u64);
    for sample in samples {
        count += 1;
        sum += u64::from(sample);
        squares += u64::from(sample * sample);
    }
    let count = count.max(1);
    // E[x^2] - E[x]^2 in whole numbers.
    let (wide, total) = (u128::from(count), u128::from(sum));
    let variance = (u128::from(squares) * wide).saturating_sub(total * total) / (wide * wide);
    let variance = u64::try_from(variance).unwrap_or(u64::MAX);
    let byte = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
    Luma { mean: byte((sum + count / 2) / count), deviation: byte(variance.isqrt()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(samples: &[u8]) -> Plane {
        Plane { width: samples.len(), height: 1, samples: samples.to_vec() }
    }

    #[test]
    fn means_and_deviations() {
        let check = |samples: &[u8], mean, deviation| {
            assert_eq!(of_luma(&plane(samples)), Luma { mean, deviation }, "{samples:?}");
            let rgb = [plane(samples), plane(samples), plane(samples)];
            assert_eq!(of_rgb(&rgb), Luma { mean, deviation }, "{samples:?}");
        };
        check(&[0; 9], 0, 0);
        check(&[128; 9], 128, 0);
        check(&[255; 9], 255, 0);
        check(&[0, 255], 128, 127);
        check(&[10, 20, 30], 20, 8);
        check(&[], 0, 0);
        assert_eq!(of_limited_luma(&plane(&[0, 16])), Luma { mean: 0, deviation: 0 });
        assert_eq!(of_limited_luma(&plane(&[235, 255])), Luma { mean: 255, deviation: 0 });
        assert_eq!(of_limited_luma(&plane(&[16, 235])), Luma { mean: 128, deviation: 127 });
        assert_eq!(of_rgb(&[plane(&[0]), plane(&[255]), plane(&[0])]).mean, 149);
    }
}
