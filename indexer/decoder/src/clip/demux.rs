//! libav's demuxers, opened by their full names from a closed list: bytes come from [`Media`], packets go out. Nothing is
//! probed, nothing is decoded, and no demuxer can open anything else.
//!
//! All of libavformat that this program touches is behind [`Demuxer`]; what it hands out is checked and safe.

#![expect(unsafe_code, reason = "libavformat is a C library")]

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{self, NonNull};

use ffmpeg_next::ffi;
use stills_model::clip::Container;
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::{Codec, DecoderConfig, Orientation, Packaging};

use crate::frame::{error_text, out_of_memory, raw_enum};
use crate::scan::Media;

/// Bytes that libavformat reads at once: media is read ahead of it already.
const BUFFER_LEN: usize = 16 * 1024;

/// Streams of one file; real files have two to ten.
const STREAMS_MAX: c_int = 64;

/// Bytes that may be read to find out what a stream holds.
const PROBE_LEN: i64 = 1024 * 1024;

/// The full name of a container's demuxer.
const fn name(container: Container) -> &'static CStr {
    match container {
        Container::Mxf => c"mxf",
        Container::Mpeg => c"mpeg",
        Container::Flv => c"flv",
        Container::Avi => c"avi",
    }
}

/// What the demuxer reads from.
struct Source<'m> {
    media: &'m mut dyn Media,
    at: u64,
    /// What the media's place said; the demuxer only learns that there is nothing.
    fault: Option<Fault>,
}

unsafe extern "C" fn read(opaque: *mut c_void, buffer: *mut u8, len: c_int) -> c_int {
    // SAFETY: `opaque` is the `Source` that lives as long as the demuxer, and libavformat is in no other call of it.
    let source = unsafe { &mut *opaque.cast::<Source<'_>>() };
    let left = source.media.len().saturating_sub(source.at);
    let wanted = u32::try_from(len).unwrap_or(0).min(u32::try_from(left).unwrap_or(u32::MAX));
    if wanted == 0 {
        return ffi::AVERROR_EOF;
    }
    if source.fault.is_some() {
        return ffi::AVERROR(ffi::EIO);
    }
    match source.media.read(source.at, wanted) {
        Ok(bytes) if bytes.len() == wanted as usize => {
            // SAFETY: the buffer has room for `len` bytes, and these are no more.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), buffer, bytes.len()) };
            source.at += u64::from(wanted);
            c_int::try_from(wanted).unwrap_or(0)
        }
        Ok(_) => ffi::AVERROR(ffi::EIO),
        Err(fault) => {
            source.fault = Some(fault);
            ffi::AVERROR(ffi::EIO)
        }
    }
}

unsafe extern "C" fn seek(opaque: *mut c_void, offset: i64, whence: c_int) -> i64 {
    // SAFETY: as in `read`.
    let source = unsafe { &mut *opaque.cast::<Source<'_>>() };
    let len = i64::try_from(source.media.len()).unwrap_or(i64::MAX);
    let at = i64::try_from(source.at).unwrap_or(i64::MAX);
    let to = match whence & !ffi::AVSEEK_FORCE {
        ffi::AVSEEK_SIZE => return len,
        ffi::SEEK_SET => Some(offset),
        ffi::SEEK_CUR => at.checked_add(offset),
        ffi::SEEK_END => len.checked_add(offset),
        _ => None,
    };
    match to.and_then(|to| u64::try_from(to).ok()) {
        Some(to) => {
            source.at = to;
            to.cast_signed()
        }
        None => i64::from(ffi::AVERROR(ffi::EINVAL)),
    }
}

/// A packet of the video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    /// Which stream it is of.
    stream: c_int,
    /// Where it begins in the file, where the demuxer says so.
    pub(super) at: Option<u64>,
    /// When it is shown (or, where the container says no more, decoded), in milliseconds of the container's clock.
    pub(super) time_ms: Option<i64>,
    /// Whether decoding can start with it.
    pub(super) is_key: bool,
    /// What a decoder is fed.
    pub(super) bytes: Vec<u8>,
}

/// An open demuxer.
pub(super) struct Demuxer<'m> {
    context: NonNull<ffi::AVFormatContext>,
    io: NonNull<ffi::AVIOContext>,
    source: NonNull<Source<'m>>,
    packet: NonNull<ffi::AVPacket>,
    /// The stream that is shown, once it is known.
    video: Option<c_int>,
}

impl<'m> Demuxer<'m> {
    /// Reads what the container says at its beginning.
    pub(super) fn open(media: &'m mut dyn Media, container: Container) -> Result<Self, Fault> {
        let source = Box::into_raw(Box::new(Source { media, at: 0, fault: None }));
        // SAFETY: buffer, IO, context and packet are made by FFmpeg's allocators; each is freed on every way out, by the
        // drop of what is made here or before that where it fails. `source` lives as long as the IO that refers to it.
        unsafe {
            let demuxer = match Self::allocate(source) {
                Ok(demuxer) => demuxer,
                Err(fault) => {
                    drop(Box::from_raw(source));
                    return Err(fault);
                }
            };
            let format = ffi::av_find_input_format(name(container).as_ptr());
            if format.is_null() {
                return Err(Fault::new(FaultKind::Unsupported, "this build of FFmpeg does not read this container"));
            }
            let mut options = ptr::null_mut();
            for (key, value) in [(c"format_whitelist", name(container)), (c"protocol_whitelist", c"none")] {
                ffi::av_dict_set(&raw mut options, key.as_ptr(), value.as_ptr(), 0);
            }
            let mut context = demuxer.context.as_ptr();
            let opened = ffi::avformat_open_input(&raw mut context, c"".as_ptr(), format, &raw mut options);
            ffi::av_dict_free(&raw mut options);
            if opened < 0 {
                // A context that cannot be opened is freed by the call that failed.
                let fault = demuxer.fault_of(opened);
                let mut demuxer = demuxer;
                demuxer.free(false);
                std::mem::forget(demuxer);
                return Err(fault);
            }
            Ok(demuxer)
        }
    }

    /// # Safety
    /// `source` is from a box and lives as long as what is made here.
    unsafe fn allocate(source: *mut Source<'m>) -> Result<Self, Fault> {
        // SAFETY: null is checked for; what was made before a failure is freed.
        unsafe {
            ffi::av_log_set_level(ffi::AV_LOG_QUIET);
            let buffer = ffi::av_malloc(BUFFER_LEN).cast::<u8>();
            let len = c_int::try_from(BUFFER_LEN).unwrap_or(0);
            let io = ffi::avio_alloc_context(buffer, len, 0, source.cast(), Some(read), None, Some(seek));
            let mut context = ffi::avformat_alloc_context();
            let mut packet = ffi::av_packet_alloc();
            let made = (NonNull::new(context), NonNull::new(io), NonNull::new(source), NonNull::new(packet));
            let (Some(some_context), Some(some_io), Some(source), Some(some_packet)) = made else {
                ffi::av_packet_free(&raw mut packet);
                ffi::avformat_free_context(context);
                context = ptr::null_mut();
                let _ = context;
                if io.is_null() {
                    ffi::av_free(buffer.cast());
                } else {
                    free_io(io);
                }
                return Err(out_of_memory());
            };
            let ctx = &mut *some_context.as_ptr();
            ctx.pb = io;
            ctx.flags |= ffi::AVFMT_FLAG_CUSTOM_IO;
            ctx.max_streams = STREAMS_MAX;
            ctx.probesize = PROBE_LEN;
            ctx.format_probesize = c_int::try_from(PROBE_LEN).unwrap_or(c_int::MAX);
            Ok(Self { context: some_context, io: some_io, source, packet: some_packet, video: None })
        }
    }

    /// Why a call failed: what the media's place said, else what FFmpeg calls it.
    fn fault_of(&self, code: c_int) -> Fault {
        // SAFETY: the source lives as long as this, and no call into libavformat is under way.
        let source = unsafe { &mut *self.source.as_ptr() };
        let told = || Fault::new(FaultKind::Damaged, format!("the container cannot be read: {}", error_text(code)));
        source.fault.take().unwrap_or_else(told)
    }

    /// The video that is shown, with what decodes it; nothing while its packets have not told.
    ///
    /// # Errors
    /// [`FaultKind::Unsupported`] when all that is there is not decoded here.
    pub(super) fn video(&mut self) -> Result<Option<DecoderConfig>, Fault> {
        let mut foreign = None;
        for index in 0..self.streams() {
            let Some((codec, config)) = self.stream_config(index) else { continue };
            match config {
                Some(config) => {
                    self.choose(index);
                    return Ok(Some(config));
                }
                None => foreign = codec.or(foreign),
            }
        }
        match foreign {
            Some(codec) => {
                let detail = format!("the video codec '{codec}' is not decoded here");
                Err(Fault::new(FaultKind::Unsupported, detail))
            }
            None => Ok(None),
        }
    }

    fn streams(&self) -> u32 {
        // SAFETY: the context is open.
        unsafe { (*self.context.as_ptr()).nb_streams }
    }

    fn stream(&self, index: u32) -> Option<&ffi::AVStream> {
        // SAFETY: the context is open; it has as many streams as it says, each with parameters.
        unsafe {
            let context = &*self.context.as_ptr();
            if index >= context.nb_streams || context.streams.is_null() {
                return None;
            }
            (*context.streams.add(index as usize)).as_ref()
        }
    }

    /// Of a video stream: the name of a codec that is not decoded here, or the configuration of one that is; both
    /// nothing while the codec is not known.
    fn stream_config(&self, index: u32) -> Option<(Option<String>, Option<DecoderConfig>)> {
        let stream = self.stream(index)?;
        // SAFETY: a stream's parameters live as long as it.
        let parameters = unsafe { stream.codecpar.as_ref() }?;
        let is_video = raw_enum(&raw const parameters.codec_type) == ffi::AVMediaType::AVMEDIA_TYPE_VIDEO as i32;
        if !is_video || stream.disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0 {
            return None;
        }
        let id = raw_enum(&raw const parameters.codec_id);
        let Some(codec) = codec_of(id) else {
            return Some((codec_name(id), None));
        };
        let len = usize::try_from(parameters.extradata_size).unwrap_or(0);
        let extradata = if parameters.extradata.is_null() || len > DecoderConfig::EXTRADATA_MAX_BYTES {
            Vec::new()
        } else {
            // SAFETY: the parameters own that many bytes there.
            unsafe { std::slice::from_raw_parts(parameters.extradata, len) }.to_vec()
        };
        let side = |side: c_int| u32::try_from(side).unwrap_or(0);
        let ratio = [stream.sample_aspect_ratio, parameters.sample_aspect_ratio];
        let ratio = ratio.into_iter().map(|ratio| (side(ratio.num), side(ratio.den))).find(|(x, y)| *x > 0 && *y > 0);
        let config = DecoderConfig {
            codec,
            packaging: Packaging::Samples { prefix: Vec::new() },
            extradata,
            size: (side(parameters.width), side(parameters.height)),
            sample_aspect: ratio.unwrap_or((0, 0)),
            orientation: Orientation::default(),
        };
        Some((None, Some(config)))
    }

    /// Packets of other streams need not be put together.
    fn choose(&mut self, video: u32) {
        self.video = c_int::try_from(video).ok();
        for index in 0..self.streams() {
            // SAFETY: as in `stream`; `discard` is the caller's to set.
            unsafe {
                let stream = *(*self.context.as_ptr()).streams.add(index as usize);
                if index != video && !stream.is_null() {
                    (*stream).discard = ffi::AVDiscard::AVDISCARD_ALL;
                }
            }
        }
    }

    /// The next packet of the video; before one was chosen, of any stream. Nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<Packet>, Fault> {
        loop {
            // SAFETY: context and packet are valid; the packet is blank, and is emptied before the next call.
            let result = unsafe { ffi::av_read_frame(self.context.as_ptr(), self.packet.as_ptr()) };
            if result < 0 {
                // SAFETY: the source lives as long as this.
                let has_fault = unsafe { (*self.source.as_ptr()).fault.is_some() };
                return if result == ffi::AVERROR_EOF && !has_fault { Ok(None) } else { Err(self.fault_of(result)) };
            }
            let taken = self.taken();
            // SAFETY: as above.
            unsafe { ffi::av_packet_unref(self.packet.as_ptr()) };
            if let Some(packet) = taken {
                return Ok(Some(packet));
            }
        }
    }

    fn taken(&self) -> Option<Packet> {
        // SAFETY: a packet was just read into it.
        let packet = unsafe { self.packet.as_ref() };
        if self.video.is_some_and(|video| video != packet.stream_index) {
            return None;
        }
        let len = usize::try_from(packet.size).unwrap_or(0);
        let bytes = if packet.data.is_null() || len == 0 {
            Vec::new()
        } else {
            // SAFETY: the packet owns that many bytes there.
            unsafe { std::slice::from_raw_parts(packet.data, len) }.to_vec()
        };
        let ticks = [packet.pts, packet.dts].into_iter().find(|ticks| *ticks != ffi::AV_NOPTS_VALUE);
        let index = u32::try_from(packet.stream_index).ok()?;
        Some(Packet {
            stream: packet.stream_index,
            at: u64::try_from(packet.pos).ok(),
            time_ms: ticks.and_then(|ticks| self.to_ms(index, ticks)),
            is_key: packet.flags & ffi::AV_PKT_FLAG_KEY != 0,
            bytes,
        })
    }

    fn to_ms(&self, index: u32, ticks: i64) -> Option<i64> {
        let base = self.stream(index)?.time_base;
        let (num, den) = (i128::from(base.num.max(1)), i128::from(base.den.max(1)));
        i64::try_from((i128::from(ticks) * num * 2000 + den).div_euclid(2 * den)).ok()
    }

    /// Whether a packet, perhaps read before the video was known, is of it.
    pub(super) fn is_video(&self, packet: &Packet) -> bool {
        self.video == Some(packet.stream)
    }

    /// Bytes of the file, past libavformat.
    pub(super) fn peek(&mut self, at: u64, len: u32) -> Result<Vec<u8>, Fault> {
        // SAFETY: the source lives as long as this, and no call into libavformat is under way.
        let source = unsafe { &mut *self.source.as_ptr() };
        source.media.read(at, len)
    }

    /// How long the video is as the container says, in milliseconds.
    pub(super) fn duration_ms(&self) -> Option<i64> {
        let index = u32::try_from(self.video?).ok()?;
        let ticks = self.stream(index)?.duration;
        let own = (ticks != ffi::AV_NOPTS_VALUE && ticks > 0).then(|| self.to_ms(index, ticks)).flatten();
        // SAFETY: the context is open.
        let whole = unsafe { (*self.context.as_ptr()).duration };
        let whole = (whole != ffi::AV_NOPTS_VALUE && whole > 0).then_some(whole / 1000);
        own.or(whole).filter(|duration_ms| *duration_ms > 0)
    }

    /// Goes to the keyframe at or before a time by the container's index; false where there is none.
    pub(super) fn go_to_ms(&mut self, time_ms: i64) -> Result<bool, Fault> {
        let Some(video) = self.video else { return Ok(false) };
        let Some(base) = u32::try_from(video).ok().and_then(|index| self.stream(index)).map(|s| s.time_base) else {
            return Ok(false);
        };
        let (num, den) = (i128::from(base.num.max(1)), i128::from(base.den.max(1)));
        let ticks = (i128::from(time_ms) * den).div_euclid(1000 * num);
        let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
        self.go(video, ticks, ffi::AVSEEK_FLAG_BACKWARD)
    }

    /// Goes to a byte; what begins there or behind comes next. False where the demuxer cannot.
    pub(super) fn go_to_byte(&mut self, at: u64) -> Result<bool, Fault> {
        self.go(-1, i64::try_from(at).unwrap_or(i64::MAX), ffi::AVSEEK_FLAG_BYTE)
    }

    fn go(&mut self, stream: c_int, to: i64, flags: c_int) -> Result<bool, Fault> {
        // SAFETY: the context is open, and the stream is one of its own or none.
        let result = unsafe { ffi::av_seek_frame(self.context.as_ptr(), stream, to, flags) };
        // SAFETY: the source lives as long as this.
        let has_fault = unsafe { (*self.source.as_ptr()).fault.is_some() };
        if has_fault { Err(self.fault_of(result)) } else { Ok(result >= 0) }
    }

    fn free(&mut self, has_context: bool) {
        let (mut context, mut packet) = (self.context.as_ptr(), self.packet.as_ptr());
        // SAFETY: all were made by `allocate` and are freed once, the IO after the context that uses it and the source after
        // the IO.
        unsafe {
            ffi::av_packet_free(&raw mut packet);
            if has_context {
                ffi::avformat_close_input(&raw mut context);
            }
            free_io(self.io.as_ptr());
            drop(Box::from_raw(self.source.as_ptr()));
        }
    }
}

impl Drop for Demuxer<'_> {
    fn drop(&mut self) {
        self.free(true);
    }
}

/// # Safety
/// `io` was made by `avio_alloc_context` and is used by nothing any more.
unsafe fn free_io(io: *mut ffi::AVIOContext) {
    // SAFETY: libavformat may have replaced the buffer; the one that is there is its own.
    unsafe {
        let mut io = io;
        ffi::av_free((*io).buffer.cast());
        (*io).buffer = ptr::null_mut();
        ffi::avio_context_free(&raw mut io);
    }
}

/// Which of our codecs a number of FFmpeg's stands for.
fn codec_of(id: i32) -> Option<Codec> {
    use ffi::AVCodecID as Id;
    let known = [
        (Id::AV_CODEC_ID_H264, Codec::H264),
        (Id::AV_CODEC_ID_HEVC, Codec::Hevc),
        (Id::AV_CODEC_ID_MPEG4, Codec::Mpeg4),
        (Id::AV_CODEC_ID_MJPEG, Codec::Mjpeg),
        (Id::AV_CODEC_ID_MPEG2VIDEO, Codec::Mpeg2),
        // Its decoder reads the older form too.
        (Id::AV_CODEC_ID_MPEG1VIDEO, Codec::Mpeg2),
        (Id::AV_CODEC_ID_PRORES, Codec::ProRes),
        (Id::AV_CODEC_ID_DNXHD, Codec::Dnxhd),
    ];
    known.into_iter().find(|(known, _)| *known as i32 == id).map(|(_, codec)| codec)
}

/// What people call a codec that is not decoded here; nothing for one that is not known yet.
fn codec_name(id: i32) -> Option<String> {
    use ffi::AVCodecID as Id;
    let unknown = [Id::AV_CODEC_ID_NONE as i32, Id::AV_CODEC_ID_PROBE as i32];
    if unknown.contains(&id) {
        return None;
    }
    // SAFETY: called by its C signature, where the codec is an int; the result is a static C string.
    let name = unsafe {
        let get: unsafe extern "C" fn(Id) -> *const std::ffi::c_char = ffi::avcodec_get_name;
        let get: unsafe extern "C" fn(i32) -> *const std::ffi::c_char = std::mem::transmute(get);
        CStr::from_ptr(get(id))
    };
    Some(name.to_string_lossy().into_owned())
}
