//! PNG from three planes of red, green and blue.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use stills_model::fault::{Fault, FaultKind};

use crate::plane::Plane;

/// The picture as an 8-bit RGB PNG.
pub(crate) fn encode([red, green, blue]: &[Plane; 3]) -> Result<Vec<u8>, Fault> {
    let pixels = red.samples.iter().zip(&green.samples).zip(&blue.samples);
    let pixels: Vec<u8> = pixels.flat_map(|((&red, &green), &blue)| [red, green, blue]).collect();
    let side = |side: usize| u32::try_from(side).map_err(|error| fault(&error));
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Adaptive)
        .write_image(&pixels, side(red.width)?, side(red.height)?, ExtendedColorType::Rgb8)
        .map_err(|error| fault(&error))?;
    Ok(png)
}

fn fault(why: &dyn std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Internal, format!("the PNG could not be made: {why}"))
}
