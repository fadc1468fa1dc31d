//! Pixels out of compressed chunks: a window of them, or single ones, dequantised on the way.
//!
//! Each chunk is read and decoded once, by the thread that then writes its pixels while they are
//! in its cache: bit planes to bytes, bands together, int8 to float32. Beside the result, memory
//! is needed for a chunk a thread.

mod object;
mod points;
mod window;

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::blosc::{Compressor, Decoder, Fault};
use crate::view::{View3, check_bands, count};
use crate::{Error, Result, threads};

pub use object::{Object, Span, shard_index};
pub use points::{Points, points, points_floats};
pub use window::{Piece, window, window_floats};

/// Bytes that one task decodes: waking a thread costs as much as decoding a few chunks of scales.
const TASK: usize = 1 << 17;

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
