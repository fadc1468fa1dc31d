//! Single pixels of chunks.

use super::{Form, Job, Object, Span, Value, check_out, each};
use crate::dequantize;
use crate::view::{View1, View3, ViewMut2};
use crate::{Error, Result};

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
