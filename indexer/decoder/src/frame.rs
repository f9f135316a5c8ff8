//! Decoding: the packets of one keyframe to one picture, by libavcodec. Decoders only: no demuxer, no IO, no probing.
//!
//! All of FFmpeg that rendering touches is behind [`Decoder`] and [`Picture`]; what they hand out is checked and safe.
//! Decoders are found by name from a closed list, because the newest holes are in codecs that no camera uses.

#![expect(unsafe_code, reason = "libavcodec is a C library")]

use std::borrow::Cow;
use std::ffi::CStr;
use std::ptr::{self, NonNull};

use ffmpeg_next::ffi;
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::{Codec, DecoderConfig};

use crate::av1;
use crate::colour::{Colour, Matrix, Model};
use crate::plane::Component;

/// Most pixels in a picture. A 1.5 MB file can otherwise demand 436 MB; 8K video has 33 million.
const PIXELS_MAX: i64 = 64 << 20;

/// Longest side of a picture, in pixels.
const SIDE_MAX: usize = 16_384;

/// The decoders for a codec, by preference. Only these are ever opened.
fn decoder_names(codec: Codec) -> &'static [&'static CStr] {
    match codec {
        Codec::H264 => &[c"h264"],
        Codec::Hevc => &[c"hevc"],
        // FFmpeg's own "av1" needs hardware.
        Codec::Av1 => &[c"libdav1d", c"libaom-av1"],
        Codec::Vp8 => &[c"vp8"],
        Codec::Vp9 => &[c"vp9"],
        Codec::Mpeg4 => &[c"mpeg4"],
        Codec::Mjpeg => &[c"mjpeg"],
        Codec::Mpeg2 => &[c"mpeg2video"],
        Codec::ProRes => &[c"prores"],
        Codec::Dnxhd => &[c"dnxhd"],
    }
}

/// One open decoder. Kept between keyframes of one configuration: its buffers are then already there.
pub(crate) struct Decoder {
    config: DecoderConfig,
    context: NonNull<ffi::AVCodecContext>,
    size: (usize, usize),
}

impl Decoder {
    /// Opens the decoder that `config` names for single keyframes.
    pub(crate) fn open(config: &DecoderConfig) -> Result<Self, Fault> {
        Self::open_with(config, ffi::FF_COMPLIANCE_NORMAL)
    }

    /// Opens the decoder that `config` names for many frames in a row, which it gives in the order of presentation.
    pub(crate) fn open_for_frames(config: &DecoderConfig) -> Result<Self, Fault> {
        // Where H.264 does not say how far frames are reordered, strict decoders wait as long as the level allows;
        // others guess, and give frames out of order until they have guessed right.
        let strict = config.codec == Codec::H264;
        Self::open_with(config, if strict { ffi::FF_COMPLIANCE_STRICT } else { ffi::FF_COMPLIANCE_NORMAL })
    }

    /// One thread: frame threads make single keyframes slower.
    fn open_with(config: &DecoderConfig, compliance: i32) -> Result<Self, Fault> {
        let name = config.codec.name();
        // SAFETY: sets one integer.
        unsafe { ffi::av_log_set_level(ffi::AV_LOG_QUIET) };
        // SAFETY: the names are C strings; the result is a static or null.
        let find = |name: &&CStr| NonNull::new(unsafe { ffi::avcodec_find_decoder_by_name(name.as_ptr()) }.cast_mut());
        let Some(codec) = decoder_names(config.codec).iter().find_map(find) else {
            return Err(Fault::new(FaultKind::Unsupported, format!("this build of FFmpeg has no decoder for {name}")));
        };
        // SAFETY: `codec` is a registered decoder; null is checked for.
        let context = unsafe { ffi::avcodec_alloc_context3(codec.as_ptr()) };
        let context = NonNull::new(context).ok_or_else(out_of_memory)?;
        let mut decoder = Self { config: config.clone(), context, size: (0, 0) };
        // SAFETY: the context was made above and is not open yet: its fields may be set. The extradata is allocated by
        // FFmpeg's allocator, zeroed, with the padding that bit readers need, and is freed with the context.
        let opened = unsafe {
            let ctx = &mut *context.as_ptr();
            ctx.thread_count = 1;
            ctx.max_pixels = PIXELS_MAX;
            ctx.strict_std_compliance = compliance;
            ctx.flags |= ffi::AV_CODEC_FLAG_OUTPUT_CORRUPT.cast_signed();
            ctx.width = i32::try_from(config.size.0).unwrap_or(0);
            ctx.height = i32::try_from(config.size.1).unwrap_or(0);
            if !config.extradata.is_empty() {
                let len = config.extradata.len().min(DecoderConfig::EXTRADATA_MAX_BYTES);
                let data = ffi::av_mallocz(len + PADDING).cast::<u8>();
                if data.is_null() {
                    return Err(out_of_memory());
                }
                ptr::copy_nonoverlapping(config.extradata.as_ptr(), data, len);
                ctx.extradata = data;
                ctx.extradata_size = i32::try_from(len).unwrap_or(0);
            }
            ffi::avcodec_open2(ctx, codec.as_ptr(), ptr::null_mut())
        };
        if opened < 0 {
            let detail = format!("the {name} decoder refuses the recording's parameters: {}", error_text(opened));
            return Err(Fault::new(FaultKind::Damaged, detail));
        }
        // SAFETY: the context is open.
        let (width, height) = unsafe { ((*context.as_ptr()).width, (*context.as_ptr()).height) };
        decoder.size = (usize::try_from(width).unwrap_or(0), usize::try_from(height).unwrap_or(0));
        Ok(decoder)
    }

    /// Whether it was opened for `config`.
    pub(crate) fn is_for(&self, config: &DecoderConfig) -> bool {
        self.config == *config
    }

    /// The coded size that the configuration tells (parameter sets before container), or (0, 0). Never that of a
    /// picture decoded before: what a keyframe looks like must not depend on what was shown before it.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Decodes `packets`, all there is, to one picture: the first of one packet, the last whole one of several (a
    /// field pair gives one, gradual refresh is only whole at its end). A damaged picture is better than none.
    ///
    /// `skip_loop_filter` saves a tenth of the time; the difference is not seen once the picture is scaled down.
    pub(crate) fn decode(&mut self, packets: &[impl AsRef<[u8]>], skip_loop_filter: bool) -> Result<Picture, Fault> {
        // SAFETY: the context is open; decoders read this field when a packet is sent.
        unsafe {
            (*self.context.as_ptr()).skip_loop_filter =
                if skip_loop_filter { ffi::AVDiscard::AVDISCARD_ALL } else { ffi::AVDiscard::AVDISCARD_DEFAULT };
        }
        let mut choice = Choice { last: packets.len() > 1, picture: None, error: 0 };
        let mut first = true;
        for packet in packets {
            choice.note(self.send(packet.as_ref(), first, None));
            first = false;
            self.receive(&mut choice)?;
        }
        choice.note(self.end());
        let drained = self.receive(&mut choice);
        // SAFETY: the context is open; this makes it ready for another keyframe.
        unsafe { ffi::avcodec_flush_buffers(self.context.as_ptr()) };
        drained?;
        choice.picture.ok_or_else(|| no_picture(self.config.codec, choice.error))
    }

    /// Feeds the next packet of a stream, whose frame is presented at `pts`; `first` says that decoding starts with it.
    /// Then [`Self::next_picture`] until there is none. A packet that cannot be decoded gives no picture, no error.
    pub(crate) fn feed(&mut self, packet: &[u8], pts: i64, first: bool) {
        self.send(packet, first, Some(pts));
    }

    /// Says that no packet follows: what the decoder held back comes out.
    pub(crate) fn end(&mut self) -> i32 {
        // SAFETY: a null packet ends the stream; the context is open.
        unsafe { ffi::avcodec_send_packet(self.context.as_ptr(), ptr::null()) }
    }

    /// The next picture that is ready.
    pub(crate) fn next_picture(&mut self) -> Result<Option<Picture>, Fault> {
        Ok(self.take()?.ok())
    }

    /// Sends a copy of `packet`, behind the sequence header where an AV1 stream keeps it out of band.
    fn send(&mut self, packet: &[u8], first: bool, pts: Option<i64>) -> i32 {
        let packet = match self.config.codec {
            Codec::Av1 if first => av1::with_sequence_header(&self.config.extradata, packet),
            _ => Cow::Borrowed(packet),
        };
        let Ok(len) = i32::try_from(packet.len()) else { return ffi::AVERROR(ffi::EINVAL) };
        if len == 0 {
            return 0; // an empty packet would end the stream
        }
        // SAFETY: the packet is FFmpeg's own, of `len` bytes plus zeroed padding; it is freed on every way out, and
        // the decoder keeps its own reference to what it still needs.
        unsafe {
            let mut av_packet = ffi::av_packet_alloc();
            if av_packet.is_null() {
                return ffi::AVERROR(ffi::ENOMEM);
            }
            let mut result = ffi::av_new_packet(av_packet, len);
            if result == 0 {
                ptr::copy_nonoverlapping(packet.as_ptr(), (*av_packet).data, packet.len());
                if first || pts.is_none() {
                    (*av_packet).flags |= ffi::AV_PKT_FLAG_KEY;
                }
                (*av_packet).pts = pts.unwrap_or(ffi::AV_NOPTS_VALUE);
                result = ffi::avcodec_send_packet(self.context.as_ptr(), av_packet);
            }
            ffi::av_packet_free(&raw mut av_packet);
            result
        }
    }

    /// Takes all pictures that are ready.
    fn receive(&mut self, choice: &mut Choice) -> Result<(), Fault> {
        loop {
            match self.take()? {
                Ok(picture) => choice.offer(picture),
                Err(result) => {
                    if result != ffi::AVERROR(ffi::EAGAIN) {
                        choice.note(result);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// The next picture, or FFmpeg's number for why there is none.
    fn take(&mut self) -> Result<Result<Picture, i32>, Fault> {
        let picture = Picture::empty(self.config.codec)?;
        // SAFETY: both are valid; the frame is blank or overwritten.
        let result = unsafe { ffi::avcodec_receive_frame(self.context.as_ptr(), picture.frame.as_ptr()) };
        Ok(if result < 0 { Err(result) } else { Ok(picture) })
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: made by avcodec_alloc_context3, freed once.
        unsafe { ffi::avcodec_free_context(&raw mut context) };
    }
}

/// Which of the decoded pictures is shown.
struct Choice {
    last: bool,
    picture: Option<Picture>,
    error: i32,
}

impl Choice {
    fn note(&mut self, result: i32) {
        if result < 0 && result != ffi::AVERROR_EOF && self.error == 0 {
            self.error = result;
        }
    }

    fn offer(&mut self, picture: Picture) {
        let better = match &self.picture {
            None => true,
            Some(held) if self.last => held.is_damaged() || !picture.is_damaged(),
            Some(held) => held.is_damaged() && !picture.is_damaged(),
        };
        if better {
            self.picture = Some(picture);
        }
    }
}

/// A decoded picture.
pub(crate) struct Picture {
    frame: NonNull<ffi::AVFrame>,
    codec: Codec,
}

impl Picture {
    fn empty(codec: Codec) -> Result<Self, Fault> {
        // SAFETY: null is checked for.
        let frame = NonNull::new(unsafe { ffi::av_frame_alloc() }).ok_or_else(out_of_memory)?;
        Ok(Self { frame, codec })
    }

    fn frame(&self) -> &ffi::AVFrame {
        // SAFETY: valid while `self` lives. The enumerations in it are never read through this reference: see
        // `raw_enum`.
        unsafe { self.frame.as_ref() }
    }

    /// The time that was fed with it.
    pub(crate) fn pts(&self) -> Option<i64> {
        Some(self.frame().pts).filter(|pts| *pts != ffi::AV_NOPTS_VALUE)
    }

    pub(crate) fn is_damaged(&self) -> bool {
        let frame = self.frame();
        frame.flags & ffi::AV_FRAME_FLAG_CORRUPT != 0 || frame.decode_error_flags != 0
    }

    /// Width and height in pixels, cropped.
    pub(crate) fn size(&self) -> (usize, usize) {
        let frame = self.frame();
        (usize::try_from(frame.width).unwrap_or(0), usize::try_from(frame.height).unwrap_or(0))
    }

    /// Sample aspect ratio of the bitstream; (0, 0) where it says none.
    pub(crate) fn sample_aspect(&self) -> (u32, u32) {
        let ratio = self.frame().sample_aspect_ratio;
        (u32::try_from(ratio.num).unwrap_or(0), u32::try_from(ratio.den).unwrap_or(0))
    }

    fn descriptor(&self) -> Option<&'static ffi::AVPixFmtDescriptor> {
        let format = self.frame().format;
        if format < 0 {
            return None;
        }
        // SAFETY: called by its C signature, where the format is an int that is checked against the table.
        let desc = unsafe {
            let get: unsafe extern "C" fn(ffi::AVPixelFormat) -> *const ffi::AVPixFmtDescriptor =
                ffi::av_pix_fmt_desc_get;
            let get: unsafe extern "C" fn(i32) -> *const ffi::AVPixFmtDescriptor = std::mem::transmute(get);
            get(format)
        };
        // SAFETY: null or a static table entry.
        unsafe { desc.as_ref() }
    }

    /// How its numbers are colours, and the components: one of grey, or three.
    pub(crate) fn components(&self) -> Result<(Colour, Vec<Component<'_>>), Fault> {
        let desc = self.descriptor().ok_or_else(|| self.unsupported("unknown"))?;
        // SAFETY: pixel format names are static C strings.
        let name = unsafe { CStr::from_ptr(desc.name) }.to_str().unwrap_or("unknown");
        let flags = i32::try_from(desc.flags).unwrap_or(-1);
        let foreign = ffi::AV_PIX_FMT_FLAG_PAL
            | ffi::AV_PIX_FMT_FLAG_BITSTREAM
            | ffi::AV_PIX_FMT_FLAG_HWACCEL
            | ffi::AV_PIX_FMT_FLAG_BAYER
            | ffi::AV_PIX_FMT_FLAG_FLOAT;
        if flags & foreign != 0 || (flags & ffi::AV_PIX_FMT_FLAG_BE != 0 && desc.comp[0].depth > 8) {
            return Err(self.unsupported(name));
        }
        let (width, height) = self.size();
        if width == 0 || height == 0 || width > SIDE_MAX || height > SIDE_MAX {
            let detail = format!("a picture of {width}x{height} pixels; the longest side is {SIDE_MAX}");
            return Err(Fault::new(FaultKind::TooLarge, detail));
        }
        let model = match (desc.nb_components, flags & ffi::AV_PIX_FMT_FLAG_RGB != 0) {
            (..=2, _) => Model::Grey,
            (_, true) => Model::Rgb,
            (_, false) => Model::Yuv,
        };
        let count = if model == Model::Grey { 1 } else { 3 };
        let components = (0..count).map(|index| self.component(desc, index).ok_or_else(|| self.unsupported(name)));
        let components = components.collect::<Result<Vec<_>, _>>()?;
        // Formats called yuvj are full range by name; Motion JPEG is full range by definition.
        let full_range = name.starts_with("yuvj")
            || self.codec == Codec::Mjpeg
            || raw_enum(&raw const self.frame().color_range) == ffi::AVColorRange::AVCOL_RANGE_JPEG as i32;
        let matrix = Matrix::from_code(raw_enum(&raw const self.frame().colorspace), (width, height));
        Ok((Colour { model, full_range, matrix }, components))
    }

    /// One component as the descriptor lays it out; None where that does not fit the frame.
    fn component(&self, desc: &ffi::AVPixFmtDescriptor, index: usize) -> Option<Component<'_>> {
        let frame = self.frame();
        let comp = desc.comp.get(index)?;
        let plane = usize::try_from(comp.plane).ok()?;
        let (mut width, mut height) = self.size();
        if index > 0 {
            width = width.div_ceil(1 << desc.log2_chroma_w);
            height = height.div_ceil(1 << desc.log2_chroma_h);
        }
        let depth = u32::try_from(comp.depth).ok().filter(|depth| (8..=16).contains(depth))?;
        let step = usize::try_from(comp.step).ok()?;
        let offset = usize::try_from(comp.offset).ok()?;
        let shift = u32::try_from(comp.shift).ok().filter(|shift| shift + depth <= 16)?;
        let stride = usize::try_from(*frame.linesize.get(plane)?).ok()?;
        let row_len = (width - 1) * step + offset + if shift + depth > 8 { 2 } else { 1 };
        let data = *frame.data.get(plane)?;
        if data.is_null() || row_len > stride || step == 0 {
            return None;
        }
        let len = if self.holds(data, stride * height) { stride * height } else { stride * (height - 1) + row_len };
        // SAFETY: libavcodec fills `height` rows of at least the format's row length, `stride` apart, from `data` on;
        // the frame holds a reference to that buffer for as long as `self` is borrowed.
        let bytes = unsafe { std::slice::from_raw_parts(data, len) };
        Some(Component { bytes, stride, step, offset, shift, depth, width, height })
    }

    /// Whether one of the frame's buffers has `len` bytes from `data` on.
    fn holds(&self, data: *const u8, len: usize) -> bool {
        // SAFETY: each is null or a buffer that the frame holds a reference to.
        let mut buffers = self.frame().buf.iter().filter_map(|buffer| unsafe { buffer.as_ref() });
        buffers.any(|buffer| {
            let place = (data as usize).checked_sub(buffer.data as usize);
            place.is_some_and(|place| place.saturating_add(len) <= buffer.size)
        })
    }

    fn unsupported(&self, format: &str) -> Fault {
        let name = self.codec.name();
        Fault::new(FaultKind::Unsupported, format!("{name} pictures of the pixel format {format} are not shown"))
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        let mut frame = self.frame.as_ptr();
        // SAFETY: made by av_frame_alloc, freed once.
        unsafe { ffi::av_frame_free(&raw mut frame) };
    }
}

const PADDING: usize = ffi::AV_INPUT_BUFFER_PADDING_SIZE.cast_unsigned() as usize;

/// The number in a C enumeration. Decoders copy bytes of the bitstream there: not every value is one of Rust's.
pub(crate) fn raw_enum<T>(place: *const T) -> i32 {
    const { assert!(size_of::<T>() == size_of::<i32>()) };
    // SAFETY: the place is a field of a live frame, as large and as aligned as an int.
    unsafe { place.cast::<i32>().read() }
}

pub(crate) fn out_of_memory() -> Fault {
    Fault::new(FaultKind::TooLarge, "the decoder has no memory left")
}

/// What FFmpeg calls an error.
pub(crate) fn error_text(code: i32) -> String {
    let mut text = [0; 128];
    // SAFETY: the buffer's length is told; what is written is ended by a zero.
    let text = unsafe {
        ffi::av_strerror(code, text.as_mut_ptr(), text.len());
        CStr::from_ptr(text.as_ptr())
    };
    text.to_string_lossy().to_ascii_lowercase()
}

fn no_picture(codec: Codec, error: i32) -> Fault {
    let name = codec.name();
    if error == ffi::AVERROR(ffi::ENOMEM) {
        return out_of_memory();
    }
    // What libavcodec says of dimensions that it will not allocate.
    if error == ffi::AVERROR(ffi::EINVAL) {
        let detail =
            format!("the {name} keyframe could not be decoded: its size is over {PIXELS_MAX} pixels or senseless");
        return Fault::new(FaultKind::TooLarge, detail);
    }
    if error == ffi::AVERROR_PATCHWELCOME {
        return Fault::new(FaultKind::Unsupported, format!("this kind of {name} is not decoded here"));
    }
    let why = if error == 0 { "it holds no picture".to_owned() } else { error_text(error) };
    Fault::new(FaultKind::Damaged, format!("the {name} keyframe could not be decoded: {why}"))
}
