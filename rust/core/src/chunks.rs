//! Pixels out of compressed chunks: a window of them, or single ones, dequantised on the way.
//!
//! Each chunk is read and decoded once, by the thread that then writes its pixels while they are
//! in its cache: bit planes to bytes, bands together, int8 to float32. Beside the result, memory
//! is needed for a chunk a thread.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::blosc::{Compressor, Decoder, Fault};
use crate::dequantize::{self, SIDE, progression, transposed};
use crate::level::Level;
use crate::records::read_exact_at;
use crate::view::{View1, View2, View3, ViewMut2, ViewMut3, check_bands, count};
use crate::{Error, Result, threads};

/// Bytes that one task decodes: waking a thread costs as much as decoding a few chunks of scales.
const TASK: usize = 1 << 17;

/// Results of more elements are written past the cache.
const STREAM: usize = 1 << 22;

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

    fn size(&self) -> u64 {
        match self {
            Self::File(_, size) => *size,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Bytes `start` to `start + length`, in `buffer` where they are not in memory already.
    fn part<'b>(&'b self, start: u64, length: u64, buffer: &'b mut Vec<u8>) -> Read<'b> {
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

type Read<'a> = std::result::Result<&'a [u8], String>;

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

/// What all chunks of an array have in common.
#[derive(Clone, Copy, Debug)]
pub struct Form<T> {
    /// (rows, columns, bands) of a chunk.
    pub shape: [usize; 3],
    /// Whether bands are the last axis, else the first.
    pub bands_last: bool,
    /// How chunks are compressed.
    pub compressor: Compressor,
    /// What was never written.
    pub fill: T,
}

/// A number that chunks hold.
///
/// # Safety
/// Any bytes are one, and it is aligned to four bytes or fewer.
pub unsafe trait Value: Copy + Send + Sync {}

// SAFETY: any byte is an i8.
unsafe impl Value for i8 {}
// SAFETY: any four bytes are an f32.
unsafe impl Value for f32 {}

/// The numbers that `words` hold in memory, of which the first `count` are wanted.
fn values<T: Value>(words: &[u32], count: usize) -> &[T] {
    assert!(count * size_of::<T>() <= size_of_val(words));
    // SAFETY: the words are as long and as aligned, and any bytes are a `T`.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), count) }
}

/// What a thread keeps from chunk to chunk.
#[derive(Default)]
struct Scratch {
    decoder: Decoder,
    compressed: Vec<u8>,
    chunk: Vec<u32>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    /// Decodes a chunk into `self.chunk`.
    fn load<T: Value>(
        &mut self,
        form: &Form<T>,
        objects: &[Object],
        span: Span,
    ) -> std::result::Result<(), String> {
        let count: usize = form.shape.iter().product();
        let size = count * size_of::<T>();
        let words = size.div_ceil(4);
        let more = words.saturating_sub(self.chunk.len());
        if self.chunk.try_reserve_exact(more).is_err() {
            return Err(format!("there is no memory for its {size} bytes"));
        }
        self.chunk.resize(words, 0);
        let Some(object) = span.object else {
            // SAFETY: as in `values`; the words are borrowed mutably.
            let all: &mut [T] =
                unsafe { std::slice::from_raw_parts_mut(self.chunk.as_mut_ptr().cast(), count) };
            all.fill(form.fill);
            return Ok(());
        };
        // SAFETY: any bytes are words, and words are bytes.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.chunk.as_mut_ptr().cast(), size) };
        let object = &objects[object];
        let length = span
            .length
            .unwrap_or_else(|| object.size().saturating_sub(span.offset));
        // A hostile index may name a whole file; no compressor makes more of a chunk than this.
        if length > (size + size / 64 + (1 << 16)) as u64 {
            return Err(format!("{length} compressed bytes for a chunk of {size}"));
        }
        let data = object.part(span.offset, length, &mut self.compressed)?;
        self.decoder
            .decode(form.compressor, data, bytes)
            .map_err(reason)?;
        if cfg!(target_endian = "big") && size_of::<T>() == 4 {
            self.chunk
                .iter_mut()
                .for_each(|word| *word = word.swap_bytes());
        }
        Ok(())
    }
}

/// How the reason starts where a chunk is sound, but compressed in a way that is unknown here.
pub const FOREIGN: &str = "unsupported: ";

/// A fault in words.
pub fn reason(fault: Fault) -> String {
    match fault {
        Fault::Damaged(why) => why,
        Fault::Foreign(_) => format!("{FOREIGN}{fault}"),
    }
}

impl<T: Value> Form<T> {
    fn check(&self) -> Result<()> {
        if count::<T>("shape", &self.shape)? == 0 {
            return Err(Error::Argument(format!(
                "chunks of shape {:?} hold nothing",
                self.shape
            )));
        }
        Ok(())
    }

    /// A decoded chunk as (row, column, band).
    fn view<'a>(&self, values: &'a [T]) -> Result<View3<'a, T>> {
        let [rows, cols, bands] = self.shape;
        if self.bands_last {
            return View3::new("chunk", values, self.shape);
        }
        Ok(View3::new("chunk", values, [bands, rows, cols])?.permute([1, 2, 0]))
    }
}

/// A chunk to be decoded, and where its pixels go.
struct Job<D> {
    number: usize,
    span: Span,
    to: D,
}

/// A chunk that goes to a cell, whose number is kept.
type CellJob<'a, U> = Job<(usize, ViewMut3<'a, U>)>;

/// Decodes chunks in parallel and hands each to `work`.
fn each<T: Value, D: Send>(
    form: &Form<T>,
    objects: &[Object],
    jobs: Vec<Job<D>>,
    work: impl Fn(View3<T>, D) -> Result<()> + Send + Sync,
) -> Result<()> {
    let size: usize = form.shape.iter().product();
    let together = (TASK / (size * size_of::<T>())).max(1);
    let mut tasks = Vec::with_capacity(jobs.len().div_ceil(together));
    let mut jobs = jobs.into_iter().peekable();
    while jobs.peek().is_some() {
        tasks.push(jobs.by_ref().take(together).collect::<Vec<_>>());
    }
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let stop = AtomicBool::new(false);
    threads::for_each(tasks, |task| {
        // Taken, not borrowed: a thread that waits inside `work` may be given another task.
        let mut scratch = SCRATCH.take().unwrap_or_default();
        for Job { number, span, to } in task {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let done = scratch
                .load(form, objects, span)
                .map_err(|reason| Error::Chunk { number, reason })
                .and_then(|()| work(form.view(values(&scratch.chunk, size))?, to));
            if let Err(error) = done {
                stop.store(true, Ordering::Relaxed);
                if let Ok(mut failed) = failed.lock() {
                    failed.get_or_insert(error);
                }
            }
        }
        SCRATCH.set(Some(scratch));
    })?;
    match failed.into_inner() {
        Ok(Some(error)) => Err(error),
        _ => Ok(()),
    }
}

/// A part of a window that one chunk fills.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Which cell of the grid of chunks over the window, row by row.
    pub cell: usize,
    /// Where the chunk is.
    pub span: Span,
}

/// How chunks lie over a window.
struct Cells {
    shape: [usize; 2],
    origin: [usize; 2],
    window: [usize; 2],
}

impl Cells {
    fn new<T: Value>(form: &Form<T>, origin: [usize; 2], window: [usize; 2]) -> Result<Self> {
        form.check()?;
        let [rows, cols, _] = form.shape;
        if origin[0] >= rows || origin[1] >= cols {
            return Err(Error::Argument(format!(
                "origin {origin:?} does not lie in a chunk of {rows} x {cols} pixels"
            )));
        }
        // Arithmetic below is on numbers of pixels that exist in memory.
        count::<u8>("out", &window)?;
        Ok(Self {
            shape: [rows, cols],
            origin,
            window,
        })
    }

    /// How many chunks lie along an axis.
    fn along(&self, axis: usize) -> usize {
        (self.origin[axis] + self.window[axis]).div_ceil(self.shape[axis])
    }

    /// The pixels of a cell along an axis: in its chunk, and from where on in the window.
    fn part(&self, axis: usize, number: usize) -> (Range<usize>, usize) {
        let first = number * self.shape[axis];
        let from = first.max(self.origin[axis]);
        let to = (first + self.shape[axis]).min(self.origin[axis] + self.window[axis]);
        (from - first..to - first, from - self.origin[axis])
    }

    /// Rows and columns of a cell in its chunk, and in the window.
    fn place(&self, cell: usize) -> ([Range<usize>; 2], [Range<usize>; 2]) {
        let along = self.along(1);
        let parts = [self.part(0, cell / along), self.part(1, cell % along)];
        let [inside, here] = [0, 1].map(|side| {
            parts.clone().map(|(range, start)| {
                if side == 0 {
                    range
                } else {
                    start..start + range.len()
                }
            })
        });
        (inside, here)
    }

    /// The window's pixels, cell by cell.
    fn cut<'a, U>(&self, out: ViewMut3<'a, U>) -> Vec<Option<ViewMut3<'a, U>>> {
        let split = |view: ViewMut3<'a, U>, axis: usize| {
            let first = (self.shape[axis] - self.origin[axis]).min(self.window[axis]);
            let (head, tail) = view.split_at(axis, first);
            let mut parts = vec![head];
            parts.extend(tail.chunks(axis, self.shape[axis]));
            parts
        };
        let rows = split(out, 0).into_iter();
        rows.flat_map(|row| split(row, 1).into_iter().map(Some))
            .collect()
    }

    /// A job for each piece; no two have one cell.
    fn jobs<'a, U>(
        &self,
        pieces: &[Piece],
        objects: usize,
        out: ViewMut3<'a, U>,
    ) -> Result<Vec<CellJob<'a, U>>> {
        if out.is_empty() {
            return Ok(Vec::new());
        }
        let mut cells = self.cut(out);
        let job = |(number, piece): (usize, &Piece)| {
            piece.span.check(objects)?;
            let to = cells.get_mut(piece.cell).and_then(Option::take);
            let to = to.ok_or_else(|| {
                Error::Argument(format!(
                    "cell {} does not exist, or is named twice: there are {} x {}",
                    piece.cell,
                    self.along(0),
                    self.along(1)
                ))
            })?;
            Ok(Job {
                number,
                span: piece.span,
                to: (piece.cell, to),
            })
        };
        pieces.iter().enumerate().map(job).collect()
    }
}

impl Span {
    fn check(&self, objects: usize) -> Result<()> {
        match self.object {
            Some(object) if object >= objects => Err(Error::Argument(format!(
                "object {object} does not exist: there are {objects}"
            ))),
            _ => Ok(()),
        }
    }
}

fn check_out<T>(form: &Form<T>, bands: Option<&[usize]>, found: usize) -> Result<()> {
    let count = form.shape[2];
    check_bands(bands.unwrap_or_default(), count)?;
    let wanted = bands.map_or(count, <[usize]>::len);
    if found != wanted {
        return Err(Error::Shape {
            what: "bands of out",
            expected: vec![wanted],
            found: vec![found],
        });
    }
    Ok(())
}

/// Fills the cells of a window with the pixels of chunks, as they are.
///
/// `origin` is where the window starts in its first chunk; cells without a piece stay.
///
/// # Errors
/// [`Error::Chunk`] for the first chunk that cannot be read or decoded; [`Error::Argument`],
/// [`Error::Shape`] or [`Error::Band`] for arguments that do not fit each other.
pub fn window<T: Value>(
    form: &Form<T>,
    objects: &[Object],
    pieces: &[Piece],
    origin: [usize; 2],
    bands: Option<&[usize]>,
    out: ViewMut3<T>,
) -> Result<()> {
    let [rows, cols, found] = out.shape();
    check_out(form, bands, found)?;
    let cells = Cells::new(form, origin, [rows, cols])?;
    let jobs = cells.jobs(pieces, objects.len(), out)?;
    each(form, objects, jobs, |chunk, (cell, out)| {
        let ([rows, cols], _) = cells.place(cell);
        copy(chunk.slice(0, rows).slice(1, cols), bands, out);
        Ok(())
    })
}

/// Fills the cells of a window with dequantised pixels; `scales` are those of the window.
///
/// # Errors
/// As [`window`].
pub fn window_floats(
    form: &Form<i8>,
    objects: &[Object],
    pieces: &[Piece],
    origin: [usize; 2],
    bands: Option<&[usize]>,
    scales: View2<f32>,
    out: ViewMut3<f32>,
) -> Result<()> {
    let [rows, cols, found] = out.shape();
    check_out(form, bands, found)?;
    if scales.shape() != [rows, cols] {
        return Err(Error::Shape {
            what: "scales",
            expected: vec![rows, cols],
            found: scales.shape().to_vec(),
        });
    }
    let cells = Cells::new(form, origin, [rows, cols])?;
    let (stream, level) = (out.len() > STREAM, Level::best());
    let steps = bands.and_then(progression);
    let jobs = cells.jobs(pieces, objects.len(), out)?;
    each(form, objects, jobs, |chunk, (cell, out)| {
        let ([rows, cols], [down, right]) = cells.place(cell);
        let chunk = chunk.slice(0, rows).slice(1, cols);
        let scales = scales.slice(0, down).slice(1, right);
        let scales = scales.stretch("scales", chunk.shape()[2])?;
        match steps {
            // Evenly spaced bands are a view of the chunk.
            Some((start, step)) => {
                let wanted = out.shape()[2];
                let chunk = chunk.stepped(2, start, step, wanted);
                let scales = scales.stepped(2, start, 0, wanted);
                dequantize::pixels(level, chunk, scales, None, out, stream);
            }
            None => dequantize::pixels(level, chunk, scales, bands, out, stream),
        }
        Ok(())
    })
}

/// Copies pixels; the views have one size, and `bands` are those of `chunk`.
fn copy<T: Value>(chunk: View3<T>, bands: Option<&[usize]>, mut out: ViewMut3<T>) {
    let [rows, cols, count] = out.shape();
    let squares = bands.is_none()
        && size_of::<T>() == 1
        && count >= SIDE
        && cols >= SIDE
        && chunk.strides()[1] == 1
        && out.is_dense(2);
    if squares {
        return transpose(chunk, out);
    }
    let all: Vec<usize> = (0..count).collect();
    let bands = bands.unwrap_or(&all);
    // The inner loop runs along what is dense in both, else along what is in the result.
    if chunk.strides()[1] == 1 && out.is_dense(1) && !(out.is_dense(2) && count > 1) {
        for (to, &band) in bands.iter().enumerate() {
            for row in 0..rows {
                for col in 0..cols {
                    // SAFETY: all are inside the shapes, which are checked by the caller.
                    unsafe {
                        let value = chunk.get_unchecked([row, col, band]);
                        out.ptr_at([row, col, to]).write(value);
                    }
                }
            }
        }
        return;
    }
    for row in 0..rows {
        for col in 0..cols {
            for (to, &band) in bands.iter().enumerate() {
                // SAFETY: as above.
                unsafe {
                    let value = chunk.get_unchecked([row, col, band]);
                    out.ptr_at([row, col, to]).write(value);
                }
            }
        }
    }
}

/// `copy` of bytes whose columns are neighbours to where their bands are, in squares.
fn transpose<T: Value>(chunk: View3<T>, mut out: ViewMut3<T>) {
    let [rows, cols, count] = out.shape();
    let starts = |len: usize| (0..len).step_by(SIDE).map(move |at| at.min(len - SIDE));
    for row in 0..rows {
        for col in starts(cols) {
            for band in starts(count) {
                let mut block = [[0i8; SIDE]; SIDE];
                for (at, line) in block.iter_mut().enumerate() {
                    // SAFETY: sixteen neighbouring columns of bytes are inside the chunk.
                    *line = unsafe {
                        chunk
                            .ptr_at([row, col, band + at])
                            .cast::<[i8; SIDE]>()
                            .read()
                    };
                }
                for (at, line) in transposed(block).into_iter().enumerate() {
                    // SAFETY: sixteen neighbouring bands of bytes are inside the result.
                    unsafe {
                        out.ptr_at([row, col + at, band])
                            .cast::<[i8; SIDE]>()
                            .write(line)
                    };
                }
            }
        }
    }
}

/// One pixel that is wanted, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Points<'a> {
    /// Where each chunk is.
    pub spans: &'a [Span],
    /// The first point of each chunk, and how many points there are.
    pub starts: View1<'a, i64>,
    /// Each point's pixel in its chunk: row * columns + column.
    pub pixels: View1<'a, i64>,
    /// Each point's row of the result; none twice.
    pub rows: View1<'a, i64>,
}

impl Points<'_> {
    /// A job for each chunk, with its pixels and their rows of the result.
    fn jobs<'a, T: Value, U>(
        &self,
        form: &Form<T>,
        objects: usize,
        out: ViewMut2<'a, U>,
    ) -> Result<Vec<Job<Vec<Target<'a, U>>>>> {
        form.check()?;
        let wrong = |what: String| Err(Error::Argument(what));
        let points = self.pixels.len();
        if self.rows.len() != points || self.starts.len() != self.spans.len() + 1 {
            return wrong(format!(
                "{} spans with {} starts, {points} pixels with {} rows",
                self.spans.len(),
                self.starts.len(),
                self.rows.len()
            ));
        }
        let limit = form.shape[0] * form.shape[1];
        let mut rows: Vec<_> = out.chunks(0, 1).into_iter().map(Some).collect();
        let mut jobs = Vec::with_capacity(self.spans.len());
        for (number, &span) in self.spans.iter().enumerate() {
            span.check(objects)?;
            let ends = [number, number + 1].map(|at| usize::try_from(self.starts.at([at])));
            let [Ok(start), Ok(end)] = ends else {
                return wrong("starts must not be negative".into());
            };
            if start > end || end > points {
                return wrong(format!("starts {start} and {end} of {points} points"));
            }
            let mut to = Vec::with_capacity(end - start);
            for at in start..end {
                let (pixel, row) = (self.pixels.at([at]), self.rows.at([at]));
                let pixel = usize::try_from(pixel).unwrap_or(usize::MAX);
                let slot = usize::try_from(row).ok().and_then(|row| rows.get_mut(row));
                match slot.and_then(Option::take) {
                    Some(out) if pixel < limit => to.push(Target {
                        pixel,
                        row: row as usize,
                        out,
                    }),
                    _ => {
                        return wrong(format!(
                            "point {at}: pixel {pixel} of {limit}, row {row} of {}, or twice",
                            rows.len()
                        ));
                    }
                }
            }
            jobs.push(Job { number, span, to });
        }
        Ok(jobs)
    }
}

/// A pixel of a chunk, and the row that it goes to.
struct Target<'a, U> {
    pixel: usize,
    row: usize,
    out: ViewMut2<'a, U>,
}

/// Writes single pixels of chunks to rows of the result, as they are.
///
/// # Errors
/// As [`window`].
pub fn points<T: Value>(
    form: &Form<T>,
    objects: &[Object],
    points: Points,
    bands: Option<&[usize]>,
    out: ViewMut2<T>,
) -> Result<()> {
    check_out(form, bands, out.shape()[1])?;
    let jobs = points.jobs(form, objects.len(), out)?;
    each(form, objects, jobs, |chunk, targets| {
        targets
            .into_iter()
            .for_each(|one| spread(chunk, bands, one, |value| value));
        Ok(())
    })
}

/// Writes single pixels of chunks to rows of the result, dequantised; a scale each row.
///
/// # Errors
/// As [`window`].
pub fn points_floats(
    form: &Form<i8>,
    objects: &[Object],
    points: Points,
    bands: Option<&[usize]>,
    scales: View1<f32>,
    out: ViewMut2<f32>,
) -> Result<()> {
    check_out(form, bands, out.shape()[1])?;
    if scales.len() != out.shape()[0] {
        return Err(Error::Shape {
            what: "scales",
            expected: vec![out.shape()[0]],
            found: vec![scales.len()],
        });
    }
    let jobs = points.jobs(form, objects.len(), out)?;
    each(form, objects, jobs, |chunk, targets| {
        for one in targets {
            let scale = scales.at([one.row]);
            spread(chunk, bands, one, |value| dequantize::product(value, scale));
        }
        Ok(())
    })
}

/// Writes the bands of one pixel.
fn spread<T: Value, U>(
    chunk: View3<T>,
    bands: Option<&[usize]>,
    to: Target<U>,
    value: impl Fn(T) -> U,
) {
    let Target { pixel, mut out, .. } = to;
    let width = chunk.shape()[1];
    let lane = chunk.pixel(pixel / width, pixel % width);
    let count = out.shape()[1];
    let mut each = |at: usize, band: usize| {
        // SAFETY: `check_out` saw that the bands are the chunk's and as many as the result's.
        unsafe { out.ptr_at([0, at]).write(value(lane.get_unchecked([band]))) }
    };
    match bands {
        None => (0..count).for_each(|band| each(band, band)),
        Some(bands) => bands
            .iter()
            .enumerate()
            .for_each(|(at, &band)| each(at, band)),
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
