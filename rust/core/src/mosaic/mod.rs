//! Many rasters on one grid: at every pixel the first raster that holds an embedding there.
//!
//! Every pixel is computed from the transforms of the whole target grid and of the whole
//! rasters, never of the parts at hand: so neither the window, nor the blocks, nor the threads
//! change a bit. This file says what is asked and checks it; `block` does it, `places` knows
//! where pixels are, `write` what is written.

mod block;
mod places;
mod systems;
mod write;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::coords::Crs;
use crate::grid::{Grid, PixelRule, Window};
use crate::lattice::Lattice;
use crate::level::Level;
use crate::resample::Method;
use crate::view::{Pixels, ViewMut2, check_bands};
use crate::{Error, Result, threads};

use block::{Block, Task};
use write::How;
pub use write::Values;

/// Rows and columns that one task makes.
const BLOCK: [usize; 2] = [64, 128];
/// Outputs of more elements are written past the cache.
const STREAM: usize = 1 << 22;
/// Positions up to here, and half of one, are exact in a double.
const LAST: usize = 1 << 50;

/// How the places of the target's pixels become coordinates of a raster.
#[derive(Clone, Copy, Debug)]
pub enum Position<'a> {
    /// Raster and target have one coordinate system.
    Same,
    /// Through longitude and latitude, exactly.
    Crs(Crs),
    /// Interpolated.
    Lattice(Lattice<'a>),
}

/// A raster, or a window of it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The pixels of `window`.
    pub pixels: Pixels<'a>,
    /// Which pixels of the raster `pixels` are.
    pub window: Window,
    /// (rows, columns) of the whole raster.
    pub shape: [usize; 2],
    /// Where the whole raster is.
    pub grid: Grid,
    /// How to get there from the target.
    pub position: Position<'a>,
    /// The cell of the tile grid that the raster was made for: (⌊10 · longitude⌋,
    /// ⌊10 · latitude⌋). There it comes first.
    pub cell: Option<[i32; 2]>,
    /// Which pixel owns a position.
    pub rule: PixelRule,
}

/// The grid that is filled, and the part of it that is made now.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The whole grid.
    pub grid: Grid,
    /// What is made now.
    pub window: Window,
    /// Its coordinate system, where the kernels know the formula.
    pub crs: Option<Crs>,
    /// Longitude and latitude where they do not; not wrapped inside the lattice.
    pub lonlat: Option<Lattice<'a>>,
}

/// Rasters in order of precedence, the grid they go to, and how.
#[derive(Clone, Copy, Debug)]
pub struct Mosaic<'a> {
    /// In order of precedence.
    pub sources: &'a [Source<'a>],
    /// The grid.
    pub target: Target<'a>,
    /// Nearest or bilinear.
    pub method: Method,
    /// Zero-based bands, in any order, duplicates allowed; None for all.
    pub bands: Option<&'a [usize]>,
}

/// Where the results go.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// The pixels.
    pub values: Values<'a>,
    /// (rows, columns): the index of the source that a pixel came from, −1 for none.
    pub origin: Option<ViewMut2<'a, i16>>,
}

impl<'a> Outputs<'a> {
    fn split_at(self, axis: usize, mid: usize) -> (Self, Self) {
        let (values, values_tail) = self.values.split_at(axis, mid);
        let (origin, origin_tail) = match self.origin.map(|o| o.split_at(axis, mid)) {
            Some((head, tail)) => (Some(head), Some(tail)),
            None => (None, None),
        };
        let tail = Self {
            values: values_tail,
            origin: origin_tail,
        };
        (Self { values, origin }, tail)
    }
}

impl Mosaic<'_> {
    /// Fills `out`, and counts the pixels that hold an embedding.
    ///
    /// # Errors
    /// [`Error::Shape`] where shapes disagree, [`Error::Band`] for a band that the rasters do not
    /// have, [`Error::Argument`] for sources that do not go together and where a pixel of a raster
    /// is needed that its window does not hold; what `out` holds then is undefined.
    pub fn render(&self, out: Outputs<'_>) -> Result<usize> {
        self.render_with(Level::best(), out)
    }

    /// `render` with a given instruction set.
    ///
    /// # Errors
    /// As for `render`, and [`Error::Argument`] for a level that this CPU does not have.
    pub fn render_with(&self, level: Level, out: Outputs<'_>) -> Result<usize> {
        if !level.is_here() {
            return Err(Error::Argument(format!("this CPU has no {}", level.name())));
        }
        self.check(&out)?;
        let systems = &systems::systems(self);
        let how = How {
            level,
            stream: out.values.is_dense() && out.values.count() > STREAM,
        };
        let valid = AtomicUsize::new(0);
        let first_error = Mutex::new(None);
        let blocks = self.blocks(out).into_iter().enumerate().collect();
        threads::for_each(blocks, |(number, block)| {
            let task = Task {
                mosaic: self,
                systems,
                how,
                block,
            };
            match level.run(task) {
                Ok(count) => {
                    valid.fetch_add(count, Ordering::Relaxed);
                }
                Err(error) => {
                    let mut first = first_error.lock().unwrap_or_else(PoisonError::into_inner);
                    if first.as_ref().is_none_or(|&(before, _)| number < before) {
                        *first = Some((number, error));
                    }
                }
            }
        })?;
        match first_error
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
        {
            Some((_, error)) => Err(error),
            None => Ok(valid.into_inner()),
        }
    }

    fn blocks<'o>(&self, out: Outputs<'o>) -> Vec<Block<'o>> {
        let Window {
            row,
            col,
            height,
            width,
        } = self.target.window;
        let mut blocks = Vec::new();
        let mut rest = out;
        for top in (0..height).step_by(BLOCK[0]) {
            let rows = BLOCK[0].min(height - top);
            let (mut line, tail) = rest.split_at(0, rows);
            rest = tail;
            for left in (0..width).step_by(BLOCK[1]) {
                let cols = BLOCK[1].min(width - left);
                let (out, tail) = line.split_at(1, cols);
                line = tail;
                let window = Window {
                    row: row + top,
                    col: col + left,
                    height: rows,
                    width: cols,
                };
                blocks.push(Block { window, out });
            }
        }
        blocks
    }

    fn check(&self, out: &Outputs<'_>) -> Result<()> {
        let window = self.target.window;
        if !window.is_inside([LAST, LAST]) {
            return Err(Error::TooLarge {
                what: "window",
                shape: vec![window.row, window.col, window.height, window.width],
            });
        }
        let shape = |what, expected: &[usize], found: &[usize]| {
            if expected == found {
                return Ok(());
            }
            Err(Error::Shape {
                what,
                expected: expected.to_vec(),
                found: found.to_vec(),
            })
        };
        let size = [window.height, window.width];
        let bands = self.check_sources()?;
        if let (Some(bands), Some(count)) = (self.bands, bands) {
            check_bands(bands, count)?;
        }
        let depth = self.bands.map(<[usize]>::len).or(bands);
        let [_, _, found] = out.values.shape();
        let expected = [size[0], size[1], depth.unwrap_or(found)];
        shape("out", &expected, &out.values.shape())?;
        out.values.check(self)?;
        if let Some(origin) = &out.origin {
            shape("origin", &size, &origin.shape())?;
            if self.sources.len() > i16::MAX as usize {
                return Err(Error::TooLarge {
                    what: "origin (int16)",
                    shape: vec![self.sources.len()],
                });
            }
        }
        Ok(())
    }

    /// Checks each source, and gives the number of bands that all have.
    fn check_sources(&self) -> Result<Option<usize>> {
        let Target {
            window,
            crs,
            lonlat,
            ..
        } = self.target;
        if let Some(lattice) = lonlat {
            lattice.check(window)?;
        }
        let mut bands = None;
        for (number, source) in self.sources.iter().enumerate() {
            let error = |text: String| Error::Argument(format!("source {number}: {text}"));
            let wrong = |text| Err(error(text));
            let [height, width, count] = source.pixels.shape();
            if [height, width] != [source.window.height, source.window.width] {
                return wrong(format!(
                    "its window is {} x {} pixels, but its values have shape ({height}, {width})",
                    source.window.height, source.window.width
                ));
            }
            if !(source.window.is_inside(source.shape) || source.window.is_empty()) {
                return wrong(format!(
                    "{:?} is not inside the raster of shape {:?}",
                    source.window, source.shape
                ));
            }
            if source.shape.iter().any(|&size| size > LAST) {
                return wrong(format!("a raster of shape {:?} is too large", source.shape));
            }
            match bands {
                None => bands = Some(count),
                Some(first) if first == count => {}
                Some(first) => {
                    return wrong(format!("it has {count} bands, but source 0 has {first}"));
                }
            }
            match source.position {
                Position::Lattice(lattice) => {
                    lattice.check(window).map_err(|e| error(e.to_string()))?
                }
                Position::Crs(_) if crs.is_none() && lonlat.is_none() => {
                    return wrong(
                        "its position is an EPSG code, which needs the target's own EPSG code or \
                         a lattice of longitudes and latitudes"
                            .into(),
                    );
                }
                _ => {}
            }
            if source.cell.is_some() && crs.is_none() && lonlat.is_none() {
                return wrong(
                    "it has a cell, which needs the target's EPSG code or a lattice of longitudes \
                     and latitudes"
                        .into(),
                );
            }
        }
        Ok(bands)
    }
}
