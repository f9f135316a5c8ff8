//! JPEG from planes, by libjpeg-turbo. Baseline, 4:2:0, full-range BT.601 as JFIF has it.
//!
//! One restart interval is one row of blocks, and the tables are the standard's own for the quality: pictures of one
//! quality can so be put together on a sheet by moving their bytes, without decoding any.

#![expect(unsafe_code, reason = "restart intervals are not in turbojpeg's safe interface")]

use std::ffi::CStr;
use std::ptr::NonNull;

use stills_model::fault::{Fault, FaultKind};
use turbojpeg::raw;

use crate::plane::Plane;

/// A compressor, kept from picture to picture.
pub(crate) struct Encoder {
    handle: NonNull<std::ffi::c_void>,
    buffer: Vec<u8>,
}

impl Encoder {
    /// A compressor with the settings that all pictures share.
    pub(crate) fn new() -> Result<Self, Fault> {
        // SAFETY: null is checked for.
        let handle = unsafe { raw::tj3Init(raw::TJINIT_TJINIT_COMPRESS.cast_signed()) };
        let handle = NonNull::new(handle).ok_or_else(|| fault("no compressor"))?;
        let encoder = Self { handle, buffer: Vec::new() };
        encoder.set(raw::TJPARAM_TJPARAM_SUBSAMP, raw::TJSAMP_TJSAMP_420)?;
        encoder.set(raw::TJPARAM_TJPARAM_RESTARTROWS, 1)?;
        encoder.set(raw::TJPARAM_TJPARAM_NOREALLOC, 1)?;
        Ok(encoder)
    }

    /// The picture as a JPEG of `quality` 1 to 100. The second and third planes have half the first's size, rounded up.
    pub(crate) fn encode(&mut self, [luma, u, v]: &[Plane; 3], quality: u8) -> Result<Vec<u8>, Fault> {
        let half = (luma.width.div_ceil(2), luma.height.div_ceil(2));
        if [u, v].iter().any(|plane| (plane.width, plane.height) != half) {
            return Err(fault("the differences are not half the size"));
        }
        self.set(raw::TJPARAM_TJPARAM_QUALITY, i32::from(quality))?;
        // The compressor reads luma up to an even size.
        let padded = (luma.width % 2 == 1 || luma.height % 2 == 1).then(|| padded_to_even(luma));
        let planes = [padded.as_ref().unwrap_or(luma), u, v];
        let int = |side: usize| i32::try_from(side).map_err(|_| fault("the picture is too large"));
        let (width, height) = (int(luma.width)?, int(luma.height)?);
        let strides = [int(planes[0].width)?, int(u.width)?, int(v.width)?];
        // SAFETY: arithmetic alone.
        let len_max = unsafe { raw::tj3JPEGBufSize(width, height, raw::TJSAMP_TJSAMP_420) };
        if len_max == 0 {
            return Err(fault("the picture is too large"));
        }
        self.buffer.resize(usize::try_from(len_max).map_err(|_| fault("the picture is too large"))?, 0);
        let pointers = planes.map(|plane| plane.samples.as_ptr());
        let (mut out, mut len) = (self.buffer.as_mut_ptr(), len_max);
        // SAFETY: the planes have the sizes that 4:2:0 at width x height demands (luma even, differences half, checked
        // above) at the strides given; the buffer is as long as the library wants it and is never reallocated.
        let result = unsafe {
            raw::tj3CompressFromYUVPlanes8(
                self.handle.as_ptr(),
                pointers.as_ptr(),
                width,
                strides.as_ptr(),
                height,
                &raw mut out,
                &raw mut len,
            )
        };
        if result != 0 {
            return Err(self.last_fault());
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.buffer.get(..len).map(<[u8]>::to_vec).ok_or_else(|| fault("more bytes than announced"))
    }

    fn set(&self, parameter: raw::TJPARAM, value: i32) -> Result<(), Fault> {
        // SAFETY: the handle is valid while `self` lives.
        let result = unsafe { raw::tj3Set(self.handle.as_ptr(), parameter.cast_signed(), value) };
        if result == 0 { Ok(()) } else { Err(self.last_fault()) }
    }

    fn last_fault(&self) -> Fault {
        // SAFETY: the text is the handle's own and ended by a zero.
        let text = unsafe { CStr::from_ptr(raw::tj3GetErrorStr(self.handle.as_ptr())) };
        fault(&text.to_string_lossy())
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: made by tj3Init, destroyed once.
        unsafe { raw::tj3Destroy(self.handle.as_ptr()) };
    }
}

/// The plane with its last column and row repeated where that makes the side even.
fn padded_to_even(plane: &Plane) -> Plane {
    let (width, height) = (plane.width.next_multiple_of(2), plane.height.next_multiple_of(2));
    let mut samples = Vec::with_capacity(width * height);
    for row in plane.rows() {
        samples.extend_from_slice(row);
        samples.extend(row.last().filter(|_| width > plane.width));
    }
    if height > plane.height {
        samples.extend_from_within(width * (height - 2)..);
    }
    Plane { width, height, samples }
}

fn fault(why: &str) -> Fault {
    Fault::new(FaultKind::Internal, format!("the JPEG could not be made: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_row_is_a_restart_interval_and_sizes_are_kept() {
        let mut encoder = Encoder::new().expect("encoder");
        for (width, height) in [(320usize, 240usize), (1, 1), (33, 17), (16, 16), (641, 479)] {
            let half = Plane::filled(width.div_ceil(2), height.div_ceil(2), 90);
            let picture = [Plane::filled(width, height, 120), half.clone(), half];
            let jpeg = encoder.encode(&picture, 80).expect("a picture");
            let decoded = image::load_from_memory(&jpeg).expect("a JPEG").to_rgb8();
            assert_eq!((decoded.width() as usize, decoded.height() as usize), (width, height));
            let restarts = jpeg.windows(2).filter(|pair| pair[0] == 0xff && (0xd0..=0xd7).contains(&pair[1])).count();
            assert_eq!(restarts + 1, height.div_ceil(16), "{width}x{height}");
            let interval = jpeg.windows(6).find(|bytes| bytes.starts_with(&[0xff, 0xdd, 0, 4])).expect("DRI");
            assert_eq!(usize::from(interval[5]), width.div_ceil(16));
        }
    }

    #[test]
    fn tables_do_not_depend_on_the_picture() {
        let mut encoder = Encoder::new().expect("encoder");
        let mut header = |value: u8| {
            let samples = (0..=255u8).map(|n| n.wrapping_mul(value)).collect();
            let picture = [Plane { width: 16, height: 16, samples }, Plane::filled(8, 8, 1), Plane::filled(8, 8, 2)];
            let jpeg = encoder.encode(&picture, 80).expect("a picture");
            let scan = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]).expect("SOS");
            jpeg[..scan].to_vec()
        };
        assert_eq!(header(0), header(37));
    }

    #[test]
    fn planes_of_the_wrong_size_are_refused() {
        let picture = [Plane::filled(16, 16, 0), Plane::filled(8, 8, 0), Plane::filled(8, 7, 0)];
        assert!(Encoder::new().expect("encoder").encode(&picture, 80).is_err());
    }
}
