//! A picture on another grid, nearest or bilinear.

use std::mem::MaybeUninit;

use crate::error::{Error, Result};
use crate::resample::Method;
use crate::threads;
use crate::view::{View3, ViewMut3};

use super::{Rgba, pixels};

/// Output rows of one task: 16 rows of 512 pixels take about 0.1 ms.
const ROWS: usize = 16;

/// Steps between two pixels that bilinear weights know; four of their products fit 32 bits.
const STEPS: f64 = 1024.0;

struct Picture<'a> {
    pixels: &'a [Rgba],
    height: usize,
    width: usize,
}

/// Fills `out`, (rows, columns, 4), with the pixels of `source` at the places of `nodes`.
///
/// `nodes`, (rows, columns, 2), are positions in the source: u from its left and v from its
/// upper edge, in pixels, at the corners of every `step`-th pixel of `out` from its first on;
/// between them positions are interpolated. Where there is no position (NaN), outside the
/// source, and where the source's pixel under a place is transparent, the result is zero.
/// Bilinear values are means weighted by distance and alpha; neighbours that are outside or
/// transparent are left out.
///
/// # Errors
/// [`Error::Shape`] where the sizes do not fit, [`Error::Argument`] for arrays with gaps.
pub fn resample(
    source: View3<'_, u8>,
    nodes: View3<'_, f64>,
    step: usize,
    method: Method,
    out: ViewMut3<'_, u8>,
) -> Result<()> {
    let [height, width, _] = source.shape();
    let [rows, cols, bands] = out.shape();
    if step == 0 {
        return Err(Error::Argument("step must be positive, found 0".into()));
    }
    let needed = [rows.div_ceil(step) + 1, cols.div_ceil(step) + 1, 2];
    let enough = nodes.shape()[0] >= needed[0] && nodes.shape()[1] >= needed[1];
    if !enough || nodes.shape()[2] != 2 {
        return Err(Error::Shape {
            what: "nodes",
            expected: needed.to_vec(),
            found: nodes.shape().to_vec(),
        });
    }
    if bands != 4 {
        return Err(Error::Shape {
            what: "out",
            expected: vec![rows, cols, 4],
            found: out.shape().to_vec(),
        });
    }
    let picture = Picture {
        pixels: pixels("source", source)?,
        height,
        width,
    };
    if out.is_empty() {
        return Ok(()); // it may have any number of rows
    }
    let gaps = || Error::Argument("out must have no gaps between the pixels of a row".into());
    let mut lines = Vec::with_capacity(rows);
    for (row, line) in out.chunks(0, 1).into_iter().enumerate() {
        lines.push((row, line.into_slice().ok_or_else(gaps)?));
    }
    let parts: Vec<_> = lines.chunks_mut(ROWS).collect();
    threads::for_each(parts, |part| {
        for (row, line) in part {
            let pixels = line.as_chunks_mut::<4>().0;
            for (segment, pixels) in pixels.chunks_mut(step).enumerate() {
                let (start, end) = ends(&nodes, *row, segment, step);
                picture.fill(start, end, step, method, pixels);
            }
        }
    })
}

/// Positions of the centres of a row where a cell of the lattice begins and ends.
fn ends(nodes: &View3<'_, f64>, row: usize, segment: usize, step: usize) -> ([f64; 2], [f64; 2]) {
    let (at, down) = (row / step, ((row % step) as f64 + 0.5) / step as f64);
    let place = |col: usize| {
        [0, 1].map(|axis| {
            let (upper, lower) = (nodes.at([at, col, axis]), nodes.at([at + 1, col, axis]));
            upper + (lower - upper) * down
        })
    };
    (place(segment), place(segment + 1))
}

impl Picture<'_> {
    fn fill(
        &self,
        start: [f64; 2],
        end: [f64; 2],
        step: usize,
        method: Method,
        out: &mut [[MaybeUninit<u8>; 4]],
    ) {
        let du = (end[0] - start[0]) / step as f64;
        let dv = (end[1] - start[1]) / step as f64;
        for (at, pixel) in out.iter_mut().enumerate() {
            let along = at as f64 + 0.5;
            let (u, v) = (start[0] + du * along, start[1] + dv * along);
            *pixel = self.at(u, v, method).map(MaybeUninit::new);
        }
    }

    #[inline]
    fn at(&self, u: f64, v: f64, method: Method) -> Rgba {
        // False for NaN, too.
        if !(u >= 0.0 && v >= 0.0 && u < self.width as f64 && v < self.height as f64) {
            return [0; 4];
        }
        let own = self.pixels[v as usize * self.width + u as usize];
        if own[3] == 0 {
            return [0; 4];
        }
        match method {
            Method::Nearest => own,
            Method::Bilinear => self.bilinear(u, v),
        }
    }

    #[inline]
    fn bilinear(&self, u: f64, v: f64) -> Rgba {
        // Half a pixel more than the position of the base pixel, never negative: `as` floors.
        let (across, down) = (u + 0.5, v + 0.5);
        let (right, below) = (across as usize, down as usize);
        let x = ((across - right as f64) * STEPS) as u32;
        let y = ((down - below as f64) * STEPS) as u32;
        let (full, half) = (STEPS as u32, (STEPS * STEPS / 2.0) as u32);
        let weights = [
            (full - x) * (full - y),
            x * (full - y),
            (full - x) * y,
            x * y,
        ];
        if right > 0 && below > 0 && right < self.width && below < self.height {
            let base = (below - 1) * self.width + right - 1;
            let upper = &self.pixels[base..base + 2];
            let lower = &self.pixels[base + self.width..base + self.width + 2];
            let four = [upper[0], upper[1], lower[0], lower[1]];
            if four.iter().all(|pixel| pixel[3] == 255) {
                let colour = |band: usize| {
                    let sum: u32 = (0..4).map(|i| weights[i] * u32::from(four[i][band])).sum();
                    ((sum + half) >> 20) as u8
                };
                return [colour(0), colour(1), colour(2), 255];
            }
        }
        self.weighted(right, below, weights)
    }

    /// The mean of those of four pixels that are there and visible.
    #[cold]
    fn weighted(&self, right: usize, below: usize, weights: [u32; 4]) -> Rgba {
        let (mut sums, mut alphas, mut seen) = ([0u64; 3], 0u64, 0u64);
        for (at, weight) in weights.into_iter().enumerate() {
            // One more than the column and the row.
            let (col, row) = (right + at % 2, below + at / 2);
            if col == 0 || row == 0 || col > self.width || row > self.height {
                continue;
            }
            let pixel = self.pixels[(row - 1) * self.width + col - 1];
            if pixel[3] == 0 {
                continue;
            }
            let by_alpha = u64::from(weight) * u64::from(pixel[3]);
            seen += u64::from(weight);
            alphas += by_alpha;
            for band in 0..3 {
                sums[band] += by_alpha * u64::from(pixel[band]);
            }
        }
        if alphas == 0 {
            return [0; 4];
        }
        let [red, green, blue] = sums.map(|sum| ((sum + alphas / 2) / alphas) as u8);
        [red, green, blue, ((alphas + seen / 2) / seen) as u8]
    }
}
