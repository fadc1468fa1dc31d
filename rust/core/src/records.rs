//! Records of one size, read from a file by their numbers: what is wanted and nothing else.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use crate::view::{View1, count};
use crate::{Error, Result, threads};

/// Records one task reads. A read of the page cache takes 0.4 µs, so that fewer are done before
/// another thread has woken up.
const CHUNK: usize = 512;

/// A file of records of one size after a header.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    /// The file.
    pub path: &'a Path,
    /// Bytes before the first record.
    pub offset: u64,
    /// Bytes of a record.
    pub record: usize,
    /// What the file's size must be; None for anything that holds the records.
    pub size: Option<u64>,
}

impl Records<'_> {
    /// Reads the records `numbers`, strictly increasing, one after another into `out`.
    ///
    /// Neighbours are read together.
    ///
    /// # Errors
    /// [`Error::Argument`] for numbers that are negative or not increasing, [`Error::Shape`] for
    /// an output of another size, [`Error::Io`] where the file is not what `size` says, ends
    /// early or cannot be read; `out` then holds nothing that counts, but is initialised.
    pub fn read(&self, numbers: View1<'_, i64>, out: &mut [MaybeUninit<u8>]) -> Result<()> {
        let wanted = [numbers.len(), self.record];
        if count::<u8>("out", &wanted)? != out.len() {
            return Err(Error::Shape {
                what: "out",
                expected: wanted.to_vec(),
                found: vec![out.len()],
            });
        }
        // A copy: the caller's array may change while it is read.
        let numbers: Vec<u64> = (0..numbers.len())
            .map(|at| {
                let number = numbers.at([at]);
                u64::try_from(number)
                    .map_err(|_| Error::Argument(format!("record {number} is negative")))
            })
            .collect::<Result<_>>()?;
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(Error::Argument(format!(
                "numbers must be strictly increasing, found {} before {}",
                pair[0], pair[1]
            )));
        }
        out.fill(MaybeUninit::new(0));
        // SAFETY: every byte was initialised in the line above.
        let out = unsafe { &mut *(std::ptr::from_mut(out) as *mut [u8]) };
        let file = File::open(self.path).map_err(|e| self.failed(e))?;
        if let Some(size) = self.size {
            let found = file.metadata().map_err(|e| self.failed(e))?.len();
            if found != size {
                let what = format!("it changed while it was open: {found} bytes, not {size}");
                return Err(self.failed(io::Error::new(ErrorKind::InvalidData, what)));
            }
        }
        if self.record == 0 {
            return Ok(());
        }
        let parts = numbers
            .chunks(CHUNK)
            .zip(out.chunks_mut(CHUNK * self.record));
        let error = Mutex::new(None);
        threads::for_each(parts.collect(), |(numbers, out)| {
            if let Err(found) = self.read_part(&file, numbers, out)
                && let Ok(mut error) = error.lock()
            {
                *error = Some(found);
            }
        })?;
        match error.into_inner() {
            Ok(Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn read_part(&self, file: &File, numbers: &[u64], mut out: &mut [u8]) -> Result<()> {
        for run in runs(numbers) {
            let first = numbers[run.start];
            let (here, rest) = out.split_at_mut(run.len() * self.record);
            out = rest;
            let start = first
                .checked_mul(self.record as u64)
                .and_then(|n| n.checked_add(self.offset))
                .ok_or_else(|| Error::Argument(format!("record {first} is past any file's end")))?;
            read_exact_at(file, here, start).map_err(|error| {
                self.failed(match error.kind() {
                    ErrorKind::UnexpectedEof => {
                        let what = format!("it ends inside or before records {run:?} of the list, from byte {start}");
                        io::Error::new(ErrorKind::UnexpectedEof, what)
                    }
                    _ => error,
                })
            })?;
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Io {
            path: self.path.display().to_string(),
            source,
        }
    }
}

/// The positions of neighbouring numbers, run after run.
fn runs(numbers: &[u64]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    numbers.chunk_by(|a, b| a + 1 == *b).map(move |run| {
        let start = at;
        at += run.len();
        start..at
    })
}

#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Windows moves the file's position, which nobody uses.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;

    while !buffer.is_empty() {
        match file.seek_read(buffer, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
