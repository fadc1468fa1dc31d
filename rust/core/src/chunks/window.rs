//! The chunks of a window.

use std::ops::Range;

use super::{Form, Job, Object, Span, Value, check_out, each};
use crate::dequantize::{self, SIDE, progression, transposed};
use crate::level::Level;
use crate::view::{View2, View3, ViewMut3, count};
use crate::{Error, Result};

/// Results of more elements are written past the cache.
const STREAM: usize = 1 << 22;

/// A chunk that goes to a cell, whose number is kept.
type CellJob<'a, U> = Job<(usize, ViewMut3<'a, U>)>;

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
