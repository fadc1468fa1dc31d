//! Compressed chunks: blosc 1 (zstd, lz4), plain zstd, or none at all.
//!
//! libblosc is not used: its decoder costs 128 µs for a published chunk of 131,072 bytes, zstd
//! with a reused context and the shuffles of this crate 75; a chunk of scales costs 19 µs there,
//! because a context is made in each call, and 4 here. libzstd stays C: the decoder in pure
//! Rust, ruzstd, takes five to six times as long.
//!
//! Whatever the bytes say, nothing is read or written outside them.

mod shuffle;

use thiserror::Error;
use zstd_safe::DCtx;

pub use shuffle::Shuffles;

/// Bytes of blosc's header.
const HEADER: usize = 16;
/// Streams of fewer bytes are not split, nor those of wider elements.
const MIN_STREAM: usize = 128;
const MAX_STREAMS: usize = 16;

/// How the bytes of a chunk are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressor {
    /// Not at all.
    None,
    /// One frame, or several.
    Zstd,
    /// Blosc, format 1 or 2.
    Blosc,
}

/// Why a chunk cannot be decoded.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// It is not what a writer makes.
    #[error("{0}")]
    Damaged(String),
    /// It is blosc's, but compressed by something that this crate does not know.
    #[error("blosc's {0} is not decoded here")]
    Foreign(&'static str),
}

fn damaged<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Damaged(why.into()))
}

/// Decodes chunks one after another, with memory that is made once.
pub struct Decoder {
    zstd: DCtx<'static>,
    streams: Vec<u8>,
    shuffles: Shuffles,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(Shuffles::default())
    }
}

impl Decoder {
    /// A decoder with given shuffles; they differ in speed alone.
    pub fn new(shuffles: Shuffles) -> Self {
        Self {
            zstd: DCtx::create(),
            streams: Vec::new(),
            shuffles,
        }
    }

    /// Decodes `data`, which must come to exactly `out.len()` bytes.
    ///
    /// # Errors
    /// [`Fault`]; `out` then holds nothing that counts.
    pub fn decode(
        &mut self,
        compressor: Compressor,
        data: &[u8],
        out: &mut [u8],
    ) -> Result<(), Fault> {
        match compressor {
            Compressor::None if data.len() == out.len() => {
                out.copy_from_slice(data);
                Ok(())
            }
            Compressor::None => {
                damaged(format!("{} bytes, {} were expected", data.len(), out.len()))
            }
            Compressor::Zstd => self.unzstd(data, out),
            Compressor::Blosc => self.unblosc(data, out),
        }
    }

    fn unzstd(&mut self, data: &[u8], out: &mut [u8]) -> Result<(), Fault> {
        match self.zstd.decompress(out, data) {
            Ok(found) if found == out.len() => Ok(()),
            Ok(found) => damaged(format!(
                "zstd made {found} bytes, {} were expected",
                out.len()
            )),
            Err(code) => damaged(format!("zstd: {}", zstd_safe::get_error_name(code))),
        }
    }

    fn unblosc(&mut self, data: &[u8], out: &mut [u8]) -> Result<(), Fault> {
        let header = Header::read(data)?;
        if header.nbytes != out.len() {
            return damaged(format!(
                "blosc announces {} bytes, {} were expected",
                header.nbytes,
                out.len()
            ));
        }
        if out.is_empty() {
            return Ok(());
        }
        if header.copied() {
            let Some(raw) = data.get(HEADER..HEADER + out.len()) else {
                return damaged("blosc's copied bytes end early");
            };
            out.copy_from_slice(raw);
            return Ok(());
        }
        header.check()?;
        let mut streams = std::mem::take(&mut self.streams);
        let mut decode = || {
            for (number, block) in out.chunks_mut(header.blocksize).enumerate() {
                let start = word(data, HEADER + 4 * number)?;
                if header.shuffled(block.len()) {
                    if streams.len() < block.len() {
                        streams.resize(block.len(), 0);
                    }
                    let streams = &mut streams[..block.len()];
                    self.block(&header, data, start, streams)?;
                    header.unshuffle(self.shuffles, streams, block);
                } else {
                    self.block(&header, data, start, block)?;
                }
            }
            Ok(())
        };
        let result = decode();
        self.streams = streams;
        result
    }

    /// Decompresses the streams of a block, still shuffled.
    fn block(
        &mut self,
        header: &Header,
        data: &[u8],
        start: usize,
        out: &mut [u8],
    ) -> Result<(), Fault> {
        let size = out.len() / header.streams(out.len());
        let mut at = start;
        for stream in out.chunks_exact_mut(size) {
            let length = word(data, at)?;
            at = at.saturating_add(4);
            let end = at.saturating_add(length);
            let Some(bytes) = data.get(at..end) else {
                return damaged(format!(
                    "a stream of {length} bytes from byte {at} does not fit in {}",
                    data.len()
                ));
            };
            at = end;
            if length == size {
                stream.copy_from_slice(bytes);
                continue;
            }
            match header.format() {
                Format::Zstd => self.unzstd(bytes, stream)?,
                Format::Lz4 => match lz4_flex::block::decompress_into(bytes, stream) {
                    Ok(found) if found == stream.len() => {}
                    Ok(found) => {
                        return damaged(format!(
                            "lz4 made {found} bytes, {} were expected",
                            stream.len()
                        ));
                    }
                    Err(error) => return damaged(format!("lz4: {error}")),
                },
                Format::Foreign(name) => return Err(Fault::Foreign(name)),
            }
        }
        Ok(())
    }
}

/// A 32-bit number of blosc's, as a size: negative ones are past any end.
fn word(data: &[u8], at: usize) -> Result<usize, Fault> {
    match data.get(at..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => Ok(u32::from_le_bytes(*bytes) as usize),
        None => damaged(format!("{} bytes end before byte {at}", data.len())),
    }
}

enum Format {
    Lz4,
    Zstd,
    Foreign(&'static str),
}

/// Blosc's header: <https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst>.
struct Header {
    flags: u8,
    typesize: usize,
    nbytes: usize,
    blocksize: usize,
}

impl Header {
    fn read(data: &[u8]) -> Result<Self, Fault> {
        let Some(&[version, _, flags, typesize, ..]) = data.first_chunk::<HEADER>() else {
            return damaged(format!("{} bytes are no blosc chunk", data.len()));
        };
        let size = word(data, 12)?;
        if !matches!(version, 1 | 2) || size != data.len() {
            return damaged(format!(
                "blosc of format {version} and {size} bytes, found {} bytes",
                data.len()
            ));
        }
        Ok(Self {
            flags,
            typesize: usize::from(typesize),
            nbytes: word(data, 4)?,
            blocksize: word(data, 8)?,
        })
    }

    fn check(&self) -> Result<(), Fault> {
        if self.typesize == 0 || self.blocksize == 0 {
            return damaged("blosc elements or blocks of no bytes");
        }
        match self.format() {
            Format::Foreign(name) => Err(Fault::Foreign(name)),
            _ => Ok(()),
        }
    }

    fn copied(&self) -> bool {
        self.flags & 2 != 0
    }

    fn format(&self) -> Format {
        match self.flags >> 5 {
            1 => Format::Lz4,
            4 => Format::Zstd,
            0 => Format::Foreign("blosclz"),
            2 => Format::Foreign("snappy"),
            3 => Format::Foreign("zlib"),
            _ => Format::Foreign("unknown compressor"),
        }
    }

    /// How many streams a block of so many bytes is compressed as.
    fn streams(&self, block: usize) -> usize {
        let whole = block == self.blocksize;
        let split = self.flags & 0x10 == 0
            && whole
            && self.typesize <= MAX_STREAMS
            && block / self.typesize >= MIN_STREAM
            && block.is_multiple_of(self.typesize);
        if split { self.typesize } else { 1 }
    }

    fn bits(&self, block: usize) -> bool {
        self.flags & 4 != 0 && block >= self.typesize && (block / self.typesize).is_multiple_of(8)
    }

    fn bytes(&self) -> bool {
        self.flags & 1 != 0 && self.typesize > 1
    }

    fn shuffled(&self, block: usize) -> bool {
        self.bytes() || self.bits(block)
    }

    fn unshuffle(&self, shuffles: Shuffles, from: &[u8], to: &mut [u8]) {
        if self.bytes() {
            shuffles.unshuffle_bytes(self.typesize, from, to);
        } else {
            shuffles.unshuffle_bits(self.typesize, from, to);
        }
    }
}
