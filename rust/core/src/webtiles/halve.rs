//! The next coarser level: each pixel is the mean of four, weighted by their alpha.

use std::mem::MaybeUninit;

use crate::error::{Error, Result};
use crate::threads;
use crate::view::{View3, ViewMut3};

use super::{Rgba, pixels};

/// Output rows of one task: 32 rows of 1024 pixels take about 0.1 ms.
const ROWS: usize = 32;

/// Writes the means of 2 × 2 pixels of `source`, of even size, to `out` of half of it.
///
/// # Errors
/// [`Error::Shape`] where the sizes do not fit, [`Error::Argument`] for arrays with gaps.
pub fn halve(source: View3<'_, u8>, out: ViewMut3<'_, u8>) -> Result<()> {
    let [height, width, _] = out.shape();
    let expected = [2 * height, 2 * width, 4];
    if source.shape() != expected || out.shape()[2] != 4 {
        return Err(Error::Shape {
            what: "pixels",
            expected: expected.to_vec(),
            found: source.shape().to_vec(),
        });
    }
    let source = pixels("pixels", source)?;
    let out = out
        .into_slice()
        .ok_or_else(|| Error::Argument("out must be in C order without gaps".into()))?;
    if out.is_empty() {
        return Ok(());
    }
    let parts: Vec<_> = source
        .chunks(4 * width * ROWS)
        .zip(out.chunks_mut(4 * width * ROWS))
        .collect();
    threads::for_each(parts, |(source, out)| {
        let (two_rows, row) = (4 * width, 4 * width);
        for (pair, row) in source.chunks_exact(two_rows).zip(out.chunks_exact_mut(row)) {
            let (upper, lower) = pair.split_at(2 * width);
            let quads = upper
                .as_chunks::<2>()
                .0
                .iter()
                .zip(lower.as_chunks::<2>().0);
            for ((a, b), pixel) in quads.zip(row.as_chunks_mut::<4>().0) {
                *pixel = mean([a[0], a[1], b[0], b[1]]).map(MaybeUninit::new);
            }
        }
    })
}

#[inline]
fn mean(four: [Rgba; 4]) -> Rgba {
    let alpha: u32 = four.iter().map(|pixel| u32::from(pixel[3])).sum();
    if alpha == 4 * 255 {
        let colour = |band: usize| {
            let sum: u32 = four.iter().map(|pixel| u32::from(pixel[band])).sum();
            ((sum + 2) / 4) as u8
        };
        return [colour(0), colour(1), colour(2), 255];
    }
    let mean = ((alpha + 2) / 4) as u8;
    if mean == 0 {
        return [0; 4];
    }
    let colour = |band: usize| {
        let weigh = |pixel: &Rgba| u32::from(pixel[band]) * u32::from(pixel[3]);
        let sum: u32 = four.iter().map(weigh).sum();
        ((sum + alpha / 2) / alpha) as u8
    };
    [colour(0), colour(1), colour(2), mean]
}
