//! Where compressed bytes are: objects, spans of them, and the indexes of shards.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;

use crate::records::read_exact_at;
use crate::{Error, Result};

/// Where compressed chunks come from.
#[derive(Debug)]
pub enum Object<'a> {
    /// A file, and its size.
    File(File, u64),
    /// Bytes in memory.
    Bytes(&'a [u8]),
}

impl Object<'_> {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::Io {
            path: path.display().to_string(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok(Self::File(file, size))
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::File(_, size) => *size,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Bytes `start` to `start + length`, in `buffer` where they are not in memory already.
    pub(super) fn part<'b>(&'b self, start: u64, length: u64, buffer: &'b mut Vec<u8>) -> Read<'b> {
        if start
            .checked_add(length)
            .is_none_or(|end| end > self.size())
        {
            return Err(format!(
                "{length} bytes from byte {start} do not lie in an object of {}",
                self.size()
            ));
        }
        match self {
            Self::Bytes(bytes) => Ok(&bytes[start as usize..][..length as usize]),
            Self::File(file, _) => {
                // At most the file's size, which is checked above.
                let length = length as usize;
                if buffer.len() < length {
                    buffer.resize(length, 0);
                }
                match read_exact_at(file, &mut buffer[..length], start) {
                    Ok(()) => Ok(&buffer[..length]),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        Err(format!("the object ends before byte {start} + {length}"))
                    }
                    Err(error) => Err(format!("reading failed: {error}")),
                }
            }
        }
    }
}

pub(super) type Read<'a> = std::result::Result<&'a [u8], String>;

/// Where a chunk's bytes are; one that was never written has no object.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Which object; None where the chunk is all fill.
    pub object: Option<usize>,
    /// First byte.
    pub offset: u64,
    /// How many bytes; None for the object to its end.
    pub length: Option<u64>,
}

impl Span {
    pub(super) fn check(&self, objects: usize) -> Result<()> {
        match self.object {
            Some(object) if object >= objects => Err(Error::Argument(format!(
                "object {object} does not exist: there are {objects}"
            ))),
            _ => Ok(()),
        }
    }
}

/// The index of a shard: offset and length of each inner chunk, all ones where there is none.
///
/// # Errors
/// [`Error::Chunk`] where the object is too short or its checksum is another.
pub fn shard_index(
    object: &Object,
    at_end: bool,
    checked: bool,
    out: &mut [MaybeUninit<u64>],
) -> Result<()> {
    let wrong = |reason: String| Error::Chunk { number: 0, reason };
    let length = 16 * (out.len() as u64 / 2) + if checked { 4 } else { 0 };
    let Some(past) = object.size().checked_sub(length) else {
        return Err(wrong(format!(
            "its index of {length} bytes does not fit in {}",
            object.size()
        )));
    };
    let mut buffer = Vec::new();
    let bytes = object
        .part(if at_end { past } else { 0 }, length, &mut buffer)
        .map_err(wrong)?;
    let (entries, sum) = bytes.split_at(8 * out.len());
    if checked {
        let found = crc32c::crc32c(entries);
        if sum != found.to_le_bytes() {
            return Err(wrong(format!(
                "the CRC32C of its index is {found:08x}, not {sum:02x?} as stored"
            )));
        }
    }
    for (to, entry) in out.iter_mut().zip(entries.as_chunks::<8>().0) {
        to.write(u64::from_le_bytes(*entry));
    }
    Ok(())
}
