//! What a keyframe costs at the least: the CPU time of libavcodec alone on the same bytes, one thread, default flags. For
//! `scripts/bench`, which compares the whole service with it.
//!
//! `floor decode FILE PASSES` prints one line a keyframe and pass: CPU time in microseconds. `floor render FILE PASSES`
//! prints the same for this crate's renderer, to a JPEG of 320x240, without any other process.

#![expect(unsafe_code, reason = "libavcodec is a C library")]
#![expect(clippy::print_stdout, reason = "it is a measuring program")]

use std::borrow::Cow;
use std::error::Error;
use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};
use std::time::Duration;

use ffmpeg_next::ffi;
use rustix::time::{ClockId, clock_gettime};
use stills_decoder::packets::packets;
use stills_decoder::parent;
use stills_decoder::render::Renderer;
use stills_decoder::scan::{Media, scan};
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::{Codec, DecoderConfig};
use stills_model::rendition::Rendition;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct OnDisk(File, u64);

impl Media for OnDisk {
    fn len(&self) -> u64 {
        self.1
    }

    fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; len as usize];
        let read = self.0.read_exact_at(&mut bytes, offset);
        read.map(|()| bytes).map_err(|error| Fault::new(FaultKind::Unreadable, error.to_string()))
    }
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, file, passes] = &arguments[..] else { return Err("usage: floor decode|render FILE PASSES".into()) };
    let file = File::open(file)?;
    let len = file.metadata()?.len();
    let mut media = OnDisk(file, len);
    let index = scan(&mut media, false, &[])?;
    let mut keyframes = Vec::new();
    for keyframe in &index.keyframes {
        let config = index.configs.get(usize::from(keyframe.config)).ok_or("a keyframe without a configuration")?;
        let pieces = keyframe.ranges.iter().map(|range| media.read(range.offset, range.len));
        let pieces = pieces.collect::<Result<Vec<_>, _>>()?;
        let packets = packets(&config.packaging, &pieces)?.into_iter().map(Cow::into_owned).collect::<Vec<_>>();
        keyframes.push((config, packets));
    }
    let config = index.configs.first().ok_or("no keyframe")?;
    let mut bare = Bare::open(config)?;
    if mode == "render" {
        // As the decoder program has it; libavcodec alone is measured with the C library's defaults.
        parent::keep_memory();
    }
    let mut renderer = Renderer::new();
    let thumb = [Rendition::thumb(320, 240).ok_or("a size")?];
    for _ in 0..passes.parse::<u32>()? {
        for (config, packets) in &keyframes {
            let began = cpu();
            match &**mode {
                "decode" => bare.decode(packets)?,
                "render" => drop(renderer.render(config, packets, &thumb)?),
                _ => return Err("the mode is decode or render".into()),
            }
            println!("{}", (cpu() - began).as_micros());
        }
    }
    Ok(())
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A decoder with FFmpeg's own defaults but for the one thread; open for as long as it is used.
struct Bare(NonNull<ffi::AVCodecContext>);

impl Bare {
    fn open(config: &DecoderConfig) -> Outcome<Self> {
        let name: &CStr = match config.codec {
            Codec::H264 => c"h264",
            Codec::Hevc => c"hevc",
            other => return Err(format!("{} is not measured", other.name()).into()),
        };
        // SAFETY: the name is a C string; the decoder is a static or null; the context is made here and not open yet
        // when its fields are set; the extradata is FFmpeg's own allocation with padding, freed with the context.
        unsafe {
            ffi::av_log_set_level(ffi::AV_LOG_QUIET);
            let codec = ffi::avcodec_find_decoder_by_name(name.as_ptr());
            let context = NonNull::new(ffi::avcodec_alloc_context3(codec)).ok_or("no memory")?;
            let fields = &mut *context.as_ptr();
            fields.thread_count = 1;
            let len = config.extradata.len();
            let padded = len + usize::try_from(ffi::AV_INPUT_BUFFER_PADDING_SIZE)?;
            fields.extradata = ffi::av_mallocz(padded).cast();
            ptr::copy_nonoverlapping(config.extradata.as_ptr(), fields.extradata, len);
            fields.extradata_size = i32::try_from(len)?;
            if ffi::avcodec_open2(fields, codec, ptr::null_mut()) < 0 {
                return Err("the decoder does not open".into());
            }
            Ok(Self(context))
        }
    }

    /// Decodes one keyframe, takes its picture and makes the decoder ready for another.
    fn decode(&mut self, packets: &[Vec<u8>]) -> Outcome<()> {
        let context = self.0.as_ptr();
        // SAFETY: the context is open; packet and frame are FFmpeg's own and freed here; a null packet ends the stream.
        let n_pictures = unsafe {
            for bytes in packets {
                let mut packet = ffi::av_packet_alloc();
                if packet.is_null() || ffi::av_new_packet(packet, i32::try_from(bytes.len())?) < 0 {
                    return Err("no memory".into());
                }
                ptr::copy_nonoverlapping(bytes.as_ptr(), (*packet).data, bytes.len());
                ffi::avcodec_send_packet(context, packet);
                ffi::av_packet_free(&raw mut packet);
            }
            ffi::avcodec_send_packet(context, ptr::null());
            let mut frame = ffi::av_frame_alloc();
            let mut n_pictures = 0;
            while ffi::avcodec_receive_frame(context, frame) == 0 {
                n_pictures += 1;
            }
            ffi::av_frame_free(&raw mut frame);
            ffi::avcodec_flush_buffers(context);
            n_pictures
        };
        if n_pictures == 1 { Ok(()) } else { Err(format!("{n_pictures} pictures of one keyframe").into()) }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let mut context = self.0.as_ptr();
        // SAFETY: made by avcodec_alloc_context3, freed once.
        unsafe { ffi::avcodec_free_context(&raw mut context) };
    }
}
