//! One block of the target grid: which source a pixel comes from, and its bands.

use std::mem::MaybeUninit;

use crate::gather::Reader;
use crate::grid::Window;
use crate::resample::{Footprint, Method, footprint};
use crate::{Error, Result};

use super::places::{Places, Systems};
use super::write::{Values, copy, fill};
use super::{Mosaic, Outputs, Source};

/// A part of the window and of the outputs.
pub(super) struct Block<'a> {
    pub window: Window,
    pub out: Outputs<'a>,
}

impl Block<'_> {
    /// Makes the block, and counts its valid pixels.
    pub fn run(mut self, mosaic: &Mosaic<'_>, systems: &Systems<'_>) -> Result<usize> {
        let Window {
            row, height, width, ..
        } = self.window;
        let mut places = Places::new(mosaic.target, &systems.all, self.window);
        let mut pending = vec![true; width];
        let mut cells = vec![None; width];
        let [_, _, depth] = self.out.values.shape();
        let mut scratch = vec![0.0; 4 * depth];
        let mut line = vec![MaybeUninit::uninit(); depth];
        let owned = mosaic.sources.iter().any(|source| source.cell.is_some());
        let mut valid = 0;
        for i in 0..height {
            places.go(row + i);
            pending.fill(true);
            if owned {
                places.cells(&mut cells);
            }
            let owners = mosaic
                .sources
                .iter()
                .enumerate()
                .filter(|(_, s)| s.cell.is_some());
            let turns = owners
                .map(|(k, source)| (k, source.cell))
                .chain((0..mosaic.sources.len()).map(|k| (k, None)));
            for (k, cell) in turns {
                let source = &mosaic.sources[k];
                let system = systems.of[k];
                let period = places.period(system);
                let (xs, ys) = places.xy(system);
                let reader = Reader {
                    pixels: source.pixels,
                    bands: mosaic.bands,
                };
                for j in 0..width {
                    if !pending[j] || (cell.is_some() && cells[j] != cell) {
                        continue;
                    }
                    let Some(found) = source.locate(xs[j], ys[j], period, mosaic.method) else {
                        continue;
                    };
                    source
                        .check_holds(&found)
                        .map_err(|at| source.lacks(k, at))?;
                    let [r, c] = [found.row - source.window.row, found.col - source.window.col];
                    if !reader.is_valid([r, c]) {
                        continue;
                    }
                    pending[j] = false;
                    valid += 1;
                    if let Some(origin) = &mut self.out.origin {
                        origin.set([i, j], k as i16);
                    }
                    match &mut self.out.values {
                        Values::F32(out) => {
                            let dense = out.is_dense(2);
                            let to = match out.pixel(i, j) {
                                Some(to) => to,
                                None => &mut line[..],
                            };
                            match mosaic.method {
                                Method::Nearest => {
                                    reader.load([r, c], to);
                                }
                                Method::Bilinear => {
                                    let place = |row: usize, col: usize| {
                                        Some([row - source.window.row, col - source.window.col])
                                    };
                                    reader.blend(&found, place, &mut scratch, to);
                                }
                            }
                            if !dense {
                                for (k, value) in line.iter().enumerate() {
                                    // SAFETY: written in the lines above.
                                    out.set([i, j, k], unsafe { value.assume_init() });
                                }
                            }
                        }
                        Values::I8 { q, scales } => {
                            let crate::view::Pixels::I8 {
                                q: from,
                                scales: factors,
                            } = source.pixels
                            else {
                                continue;
                            };
                            copy(from.pixel(r, c), mosaic.bands, q, [i, j]);
                            if scales.shape()[2] == 1 {
                                let band = mosaic.bands.and_then(|b| b.first()).copied();
                                let band = band.unwrap_or(0);
                                scales.set([i, j, 0], factors.at([r, c, band]));
                            } else {
                                copy(factors.pixel(r, c), mosaic.bands, scales, [i, j]);
                            }
                        }
                    }
                }
            }
            for j in (0..width).filter(|&j| pending[j]) {
                if let Some(origin) = &mut self.out.origin {
                    origin.set([i, j], -1);
                }
                match &mut self.out.values {
                    Values::F32(out) => fill(f32::NAN, out, [i, j]),
                    Values::I8 { q, scales } => {
                        fill(0, q, [i, j]);
                        fill(f32::INFINITY, scales, [i, j]);
                    }
                }
            }
        }
        Ok(valid)
    }
}

impl Source<'_> {
    /// Where a place lies on the raster; None outside it.
    #[inline(always)]
    fn locate(&self, x: f64, y: f64, period: Option<f64>, method: Method) -> Option<Footprint> {
        let [height, width] = self.shape;
        let x = match period {
            Some(period) => self.grid.unwrap_x(x, width, period),
            None => x,
        };
        let (u, v) = self.grid.pixel_coordinates(x, y);
        footprint(u, v, (height, width), self.rule, method)
    }

    /// Checks that the window holds all pixels of a footprint; else which it lacks.
    #[inline(always)]
    fn check_holds(&self, found: &Footprint) -> std::result::Result<(), (usize, usize)> {
        let Window {
            row,
            col,
            height,
            width,
        } = self.window;
        let holds =
            |r: usize, c: usize| r.wrapping_sub(row) < height && c.wrapping_sub(col) < width;
        match found.pixels().find(|&(r, c)| !holds(r, c)) {
            None => Ok(()),
            Some(at) => Err(at),
        }
    }

    fn lacks(&self, number: usize, (row, col): (usize, usize)) -> Error {
        Error::Argument(format!(
            "source {number}: pixel ({row}, {col}) of the raster is needed, but its window holds \
             only {:?}",
            self.window
        ))
    }
}
