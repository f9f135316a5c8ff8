//! Program tables (ISO/IEC 13818-1 2.4.4): which packets carry the video, and how it is coded.

use stills_model::keyframe::Codec;

use super::super::bytes::Bytes;
use super::packet::Packet;

/// The longest section of these tables, with its head.
const SECTION_LEN_MAX: usize = 1024;

/// Programs of one file that are looked at.
const PROGRAMS_MAX: usize = 64;

/// A stream of video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Video {
    pub(super) pid: u16,
    pub(super) codec: Codec,
}

/// Follows the tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// PIDs that carry tables, and the section that is being put together on each; the first one is the list of programs.
    sections: Vec<(u16, Vec<u8>)>,
    /// The table that named the video; others are not asked again.
    chosen: Option<u16>,
    /// A kind of video that is not decoded here.
    pub(super) unsupported: Option<&'static str>,
}

impl Tables {
    /// Takes any packet; gives the video that a table in it names.
    pub(super) fn take(&mut self, packet: &Packet<'_>) -> Option<Video> {
        if self.sections.is_empty() {
            self.sections.push((0, Vec::new()));
        }
        let (_, section) = self.sections.iter_mut().find(|(pid, _)| *pid == packet.pid)?;
        let mut payload = packet.payload;
        if packet.starts {
            let (&pointer, rest) = payload.split_first()?;
            payload = rest.get(usize::from(pointer)..)?;
            section.clear();
        } else if section.is_empty() {
            return None;
        }
        section.extend_from_slice(payload);
        section.truncate(SECTION_LEN_MAX);
        let len = 3 + usize::from(Bytes::new(section.get(1..)?).u16()? & 0xfff);
        let whole = section.get(..len)?.to_vec();
        section.clear();
        self.section(packet.pid, &whole)
    }

    fn section(&mut self, pid: u16, section: &[u8]) -> Option<Video> {
        // A damaged table is better than none, but none to change one's mind for.
        if crc(section) != 0 && (self.chosen.is_some() || pid == 0 && self.sections.len() > 1) {
            return None;
        }
        let (table, body) = (*section.first()?, section.get(8..section.len().checked_sub(4)?)?);
        match table {
            0 if pid == 0 => {
                self.programs(body);
                None
            }
            2 if self.chosen.is_none_or(|chosen| chosen == pid) => {
                let video = self.streams(body)?;
                self.chosen = Some(pid);
                Some(video)
            }
            _ => None,
        }
    }

    fn programs(&mut self, body: &[u8]) {
        for entry in body.chunks_exact(4) {
            let mut fields = Bytes::new(entry);
            let (Some(number), Some(pid)) = (fields.u16(), fields.u16()) else { continue };
            let pid = pid & 0x1fff;
            let known = self.sections.iter().any(|(known, _)| *known == pid);
            if number != 0 && !known && self.sections.len() <= PROGRAMS_MAX {
                self.sections.push((pid, Vec::new()));
            }
        }
        // The list is the truth: a table that it no longer names is not asked any more.
        let named = |chosen: u16| body.chunks_exact(4).any(|entry| entry[2..] == (chosen | 0xe000).to_be_bytes());
        self.chosen = self.chosen.filter(|chosen| named(*chosen));
    }

    fn streams(&mut self, body: &[u8]) -> Option<Video> {
        let mut fields = Bytes::new(body);
        fields.skip(2)?;
        let info = fields.u16()? & 0xfff;
        fields.skip(info.into())?;
        while let (Some(kind), Some(pid), Some(len)) = (fields.u8(), fields.u16(), fields.u16()) {
            let descriptors = fields.take(usize::from(len & 0xfff))?;
            match codec(kind, descriptors) {
                Some(Ok(codec)) => return Some(Video { pid: pid & 0x1fff, codec }),
                Some(Err(name)) => self.unsupported = Some(name),
                None => {}
            }
        }
        None
    }
}

/// The codec of a stream type (ISO/IEC 13818-1 table 2-34); nothing for what is not video.
fn codec(kind: u8, descriptors: &[u8]) -> Option<Result<Codec, &'static str>> {
    Some(match kind {
        0x1b => Ok(Codec::H264),
        0x24 => Ok(Codec::Hevc),
        0x02 => Ok(Codec::Mpeg2),
        0x10 => Ok(Codec::Mpeg4),
        0x01 => Err("MPEG-1 Video"),
        0x21 => Err("JPEG 2000"),
        0x33 => Err("VVC"),
        0x42 | 0xd2 | 0xd4 => Err("AVS"),
        0xd1 => Err("Dirac"),
        0xea => Err("VC-1"),
        0x06 => match registration(descriptors)? {
            b"HEVC" => Ok(Codec::Hevc),
            b"AV01" => Err("AV1"),
            _ => return None,
        },
        _ => return None,
    })
}

/// The format identifier of a registration descriptor.
fn registration(descriptors: &[u8]) -> Option<&[u8; 4]> {
    let mut fields = Bytes::new(descriptors);
    loop {
        let (tag, len) = (fields.u8()?, fields.u8()?);
        let content = fields.take(len.into())?;
        if tag == 5 {
            return content.first_chunk();
        }
    }
}

/// CRC-32 of MPEG-2: 0 over a section with its check sum.
fn crc(section: &[u8]) -> u32 {
    section.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section with its check sum.
    fn section(table: u8, body: &[u8]) -> Vec<u8> {
        let len = u8::try_from(5 + body.len() + 4).expect("short");
        let mut section = [&[table, 0xb0, len, 0, 1, 0xc1, 0, 0][..], body].concat();
        let sum = crc(&section);
        section.extend(sum.to_be_bytes());
        section
    }

    fn take(tables: &mut Tables, pid: u16, section: &[u8]) -> Option<Video> {
        let payload = [&[0][..], section].concat();
        let (head, tail) = payload.split_at(payload.len() / 2);
        let first = tables.take(&Packet { pid, starts: true, scrambled: false, payload: head });
        first.or(tables.take(&Packet { pid, starts: false, scrambled: false, payload: tail }))
    }

    #[test]
    fn the_video_is_found_and_followed() {
        let mut tables = Tables::default();
        let pmt = |kind, pid: u8| section(2, &[0xe1, 0, 0xf0, 0, 0x0f, 0xe1, 9, 0xf0, 0, kind, 0xe1, pid, 0xf0, 0]);
        assert_eq!(take(&mut tables, 0x20, &pmt(0x1b, 0)), None, "not named by the list of programs");
        assert_eq!(take(&mut tables, 0, &section(0, &[0, 0, 0xe0, 0x10, 0, 1, 0xe0, 0x20])), None);
        let video = |pid, codec| Some(Video { pid, codec });
        assert_eq!(take(&mut tables, 0x20, &pmt(0xea, 0)), None);
        assert_eq!(tables.unsupported, Some("VC-1"));
        assert_eq!(take(&mut tables, 0x20, &pmt(0x1b, 0)), video(0x100, Codec::H264));
        assert_eq!(take(&mut tables, 0x20, &pmt(0x24, 1)), video(0x101, Codec::Hevc));
        let mut broken = pmt(0x02, 2);
        broken[5] ^= 8;
        assert_eq!(take(&mut tables, 0x20, &broken), None);
        let named = section(2, &[0xe1, 0, 0xf0, 0, 6, 0xe1, 3, 0xf0, 6, 5, 4, b'H', b'E', b'V', b'C']);
        assert_eq!(take(&mut tables, 0x20, &named), video(0x103, Codec::Hevc));
    }
}
