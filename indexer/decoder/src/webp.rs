//! WebP from planes, by libwebp: lossy, 4:2:0, limited-range BT.601, alpha kept exactly.

#![expect(unsafe_code, reason = "libwebp is a C library")]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

use libwebp_sys as raw;
use stills_model::fault::{Fault, FaultKind};

use crate::plane::Plane;

/// Effort, 0 to 6; the library's default is 4. Somebody waits for most pictures.
const METHOD: c_int = 2;

/// The picture as a WebP of `quality` 1 to 100. The second and third planes have half the first's size, rounded up; the
/// alpha has the first's.
pub(crate) fn encode(planes: &[Plane; 3], alpha: Option<&Plane>, quality: u8) -> Result<Vec<u8>, Fault> {
    let [luma, u, v] = planes;
    let half = (luma.width.div_ceil(2), luma.height.div_ceil(2));
    let is_half = [u, v].iter().all(|plane| (plane.width, plane.height) == half);
    let is_whole = alpha.is_none_or(|alpha| (alpha.width, alpha.height) == (luma.width, luma.height));
    if !is_half || !is_whole {
        return Err(fault("the planes do not fit together"));
    }
    let int = |side: usize| c_int::try_from(side).map_err(|_| fault("the picture is too large"));
    let (width, height, half_width) = (int(luma.width)?, int(luma.height)?, int(half.0)?);
    // The library changes what lies under transparent pixels, so it gets samples of its own.
    let mut samples = planes.clone().map(|plane| plane.samples);
    let mut alpha = alpha.map(|alpha| alpha.samples.clone());
    let mut bytes: Vec<u8> = Vec::new();

    let mut config = MaybeUninit::<raw::WebPConfig>::uninit();
    let mut picture = MaybeUninit::<raw::WebPPicture>::uninit();
    let version = raw::WEBP_ENCODER_ABI_VERSION.cast_signed();
    // SAFETY: both are set by the library, which says by its result whether it did.
    let (mut config, mut picture) = unsafe {
        let preset = raw::WebPPreset::WEBP_PRESET_DEFAULT;
        if raw::WebPConfigInitInternal(config.as_mut_ptr(), preset, f32::from(quality), version) == 0
            || raw::WebPPictureInitInternal(picture.as_mut_ptr(), version) == 0
        {
            return Err(fault("the library is of another version than its headers"));
        }
        (config.assume_init(), picture.assume_init())
    };
    config.method = METHOD;
    picture.use_argb = 0;
    (picture.width, picture.height) = (width, height);
    (picture.y_stride, picture.uv_stride) = (width, half_width);
    [picture.y, picture.u, picture.v] = samples.each_mut().map(|plane| plane.as_mut_ptr());
    picture.colorspace = raw::WebPEncCSP::WEBP_YUV420;
    if let Some(alpha) = &mut alpha {
        picture.colorspace = raw::WebPEncCSP::WEBP_YUV420A;
        (picture.a, picture.a_stride) = (alpha.as_mut_ptr(), width);
    }
    picture.writer = Some(append);
    picture.custom_ptr = (&raw mut bytes).cast::<c_void>();
    // SAFETY: the planes have the sizes that 4:2:0 at width x height demands (checked above) at the strides given, are
    // this function's own and outlive the call, as does what the writer appends to. The library owns nothing of the
    // picture, so there is nothing to free.
    let is_done = unsafe { raw::WebPEncode(&raw const config, &raw mut picture) } != 0;
    if is_done { Ok(bytes) } else { Err(fault(&format!("{:?}", picture.error_code))) }
}

/// Takes the next bytes; 0 would end the encoding.
unsafe extern "C" fn append(data: *const u8, len: usize, picture: *const raw::WebPPicture) -> c_int {
    // SAFETY: libwebp calls it with `len` bytes at `data` and with the picture that `encode` gave it, whose pointer is to
    // a vector that nobody else touches meanwhile.
    unsafe {
        let bytes = &mut *(*picture).custom_ptr.cast::<Vec<u8>>();
        bytes.extend_from_slice(std::slice::from_raw_parts(data, len));
    }
    1
}

fn fault(why: &str) -> Fault {
    Fault::new(FaultKind::Internal, format!("the WebP could not be made: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(width: usize, height: usize, [luma, u, v]: [u8; 3]) -> [Plane; 3] {
        let half = (width.div_ceil(2), height.div_ceil(2));
        [Plane::filled(width, height, luma), Plane::filled(half.0, half.1, u), Plane::filled(half.0, half.1, v)]
    }

    /// As another reader sees it.
    #[test]
    fn flat_colours_are_read_as_they_were_meant() {
        let check = |yuv, expected: [u8; 3]| {
            let webp = encode(&flat(33, 17, yuv), None, 98).expect("a picture");
            let decoded = image::load_from_memory_with_format(&webp, image::ImageFormat::WebP).expect("a WebP");
            assert!(!decoded.color().has_alpha());
            let decoded = decoded.to_rgb8();
            assert_eq!((decoded.width(), decoded.height()), (33, 17));
            for pixel in decoded.pixels() {
                let worst = pixel.0.iter().zip(expected).map(|(got, expected)| got.abs_diff(expected)).max();
                assert!(worst <= Some(3), "{yuv:?}: {pixel:?}");
            }
        };
        check([16, 128, 128], [0, 0, 0]);
        check([235, 128, 128], [255, 255, 255]);
        check([126, 128, 128], [128, 128, 128]);
        check([81, 90, 240], [255, 0, 0]);
        check([145, 54, 34], [0, 255, 0]);
        check([41, 240, 110], [0, 0, 255]);
    }

    #[test]
    fn alpha_is_kept_exactly() {
        let samples: Vec<u8> = (0..64u8 * 3).map(|n| n.wrapping_mul(37)).collect();
        let alpha = Plane { width: 16, height: 12, samples };
        let webp = encode(&flat(16, 12, [90, 128, 128]), Some(&alpha), 50).expect("a picture");
        let decoded = image::load_from_memory_with_format(&webp, image::ImageFormat::WebP).expect("a WebP").to_rgba8();
        assert!(decoded.pixels().map(|pixel| pixel.0[3]).eq(alpha.samples));
    }

    #[test]
    fn planes_of_the_wrong_size_are_refused() {
        let [luma, u, _] = flat(16, 16, [0; 3]);
        assert!(encode(&[luma.clone(), u.clone(), Plane::filled(8, 7, 0)], None, 80).is_err());
        let short = Plane::filled(16, 15, 0);
        assert!(encode(&[luma, u.clone(), u], Some(&short), 80).is_err());
    }
}
