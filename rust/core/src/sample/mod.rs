//! Values at points: nearest or bilinear, from quantised or float pixels.

mod outputs;

use std::ops::Range;

use crate::coords::Crs;
use crate::gather::Reader;
use crate::grid::{Grid, PixelRule};
use crate::level::{Level, Work};
use crate::resample::{Footprint, Locator, Method};
use crate::sparse::Present;
use crate::view::{Pixels, View2, check_bands};
use crate::{Error, Result, threads};

pub use outputs::{Outputs, status};

/// Points one task works off: enough to pay for the task, few enough to balance. 512 KiB of
/// output with 128 bands.
const CHUNK: usize = 1024;
/// Points located before the first of them is read, so that their cache misses overlap.
const GROUP: usize = 32;

/// A raster and the manner in which to sample it.
#[derive(Clone, Copy, Debug)]
pub struct Sampler<'a> {
    /// The pixels.
    pub pixels: Pixels<'a>,
    /// Where they are.
    pub grid: Grid,
    /// Nearest or bilinear.
    pub method: Method,
    /// Which pixel owns a position.
    pub rule: PixelRule,
    /// The raster's system when points are longitude and latitude in degrees; None when points
    /// are in the raster's coordinates.
    pub crs: Option<Crs>,
    /// Zero-based bands, in any order, duplicates allowed; None for all.
    pub bands: Option<&'a [usize]>,
    /// A landmask of the raster's shape: 0 is water.
    pub land: Option<View2<'a, u8>>,
    /// Where `pixels` are a list, (pixels, 1, bands): which ones; None where they are the raster.
    pub present: Option<Present<'a>>,
}

/// A run of output rows and the points that belong to them.
struct Part<'a> {
    /// Positions in the index, or rows where there is none.
    items: Range<usize>,
    /// The first output row of the part.
    base: usize,
    out: Outputs<'a>,
}

/// A part to work off.
struct Task<'t, 'a> {
    sampler: &'t Sampler<'a>,
    points: View2<'t, f64>,
    index: Option<&'t [usize]>,
    part: Part<'t>,
}

impl Work for Task<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.sampler.run(self.points, self.index, self.part);
    }
}

/// Checks that `index` is strictly increasing and below `rows`.
fn check_index(index: &[usize], rows: usize) -> Result<()> {
    if let Some(at) = index.windows(2).position(|pair| pair[0] >= pair[1]) {
        return Err(Error::Argument(format!(
            "index must be strictly increasing, found {} before {} at position {}",
            index[at],
            index[at + 1],
            at + 1
        )));
    }
    match index.last() {
        Some(&last) if last >= rows => Err(Error::Argument(format!(
            "index {last} is out of range: there are {rows} points"
        ))),
        _ => Ok(()),
    }
}

impl<'a> Sampler<'a> {
    /// Samples the raster at `points` (x and y, or longitude and latitude) into rows of `out`.
    ///
    /// `index` lists the rows of `points` and `out` that belong to this raster; None means all.
    ///
    /// # Errors
    /// [`Error::Shape`] where shapes disagree, [`Error::Band`] for a band the raster does not
    /// have, [`Error::Argument`] for an index that is not strictly increasing or out of range, or
    /// where a list of pixels lacks one that a point needs; nothing is written then.
    pub fn sample(
        &self,
        points: View2<'_, f64>,
        index: Option<&[usize]>,
        out: Outputs<'_>,
    ) -> Result<()> {
        self.check(points, &out)?;
        let rows = points.shape()[0];
        if let Some(index) = index {
            check_index(index, rows)?;
        }
        self.check_present(points, index)?;
        let items = index.map_or(rows, <[usize]>::len);
        let row_of = |item: usize| index.map_or(item, |index| index[item]);
        // Cut the outputs where chunks of the index begin: provably disjoint parts.
        let mut parts = Vec::with_capacity(items / CHUNK + 1);
        let (mut first, mut base, mut rest) = (0, 0, out);
        while items - first > CHUNK {
            let cut = row_of(first + CHUNK);
            let (out, tail) = rest.split_at(cut - base);
            parts.push(Part {
                items: first..first + CHUNK,
                base,
                out,
            });
            (first, base, rest) = (first + CHUNK, cut, tail);
        }
        parts.push(Part {
            items: first..items,
            base,
            out: rest,
        });
        // AVX-512 gains nothing: the work waits for memory.
        let level = if Level::Avx2.is_here() {
            Level::Avx2
        } else {
            Level::Scalar
        };
        threads::for_each(parts, |part| {
            level.run(Task {
                sampler: self,
                points,
                index,
                part,
            });
        })
    }

    /// (rows, columns) of the raster, of which `pixels` may be a part.
    #[inline(always)]
    fn shape(&self) -> [usize; 2] {
        let [height, width, _] = self.pixels.shape();
        self.present.map_or([height, width], |list| list.shape)
    }

    #[inline(always)]
    fn reader(&self) -> Reader<'a> {
        Reader {
            pixels: self.pixels,
            bands: self.bands,
        }
    }

    #[inline(always)]
    fn locator(&self) -> Locator {
        Locator {
            shape: self.shape(),
            grid: self.grid,
            crs: self.crs,
            rule: self.rule,
            method: self.method,
        }
    }

    /// Checks that a list of pixels is in order and holds all that the points need.
    ///
    /// Locating twice costs a tenth of fetching a pixel, and an incomplete list writes nothing.
    fn check_present(&self, points: View2<'_, f64>, index: Option<&[usize]>) -> Result<()> {
        let Some(present) = self.present else {
            return Ok(());
        };
        present.check()?;
        let locator = self.locator();
        let items = index.map_or(points.shape()[0], <[usize]>::len);
        (0..items).try_for_each(|item| {
            let row = index.map_or(item, |index| index[item]);
            match locator.locate(points.at([row, 0]), points.at([row, 1])) {
                Some(footprint) => present.check_holds(&footprint),
                None => Ok(()),
            }
        })
    }

    fn check(&self, points: View2<'_, f64>, out: &Outputs<'_>) -> Result<()> {
        let [height, width] = self.shape();
        let [stored, across, count] = self.pixels.shape();
        let [rows, axes] = points.shape();
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
        shape("points", &[rows, 2], &[rows, axes])?;
        if let Some(land) = self.land {
            shape("land", &[height, width], &land.shape())?;
        }
        if let Some(present) = self.present {
            shape("present", &[stored, across], &[present.numbers.len(), 1])?;
            if let Some(land) = present.land {
                shape("land", &[stored], &land.shape())?;
            }
        }
        let bands = match self.bands {
            Some(bands) => {
                check_bands(bands, count)?;
                bands.len()
            }
            None => count,
        };
        shape("out", &[rows, bands], &out.values.shape())?;
        shape("status", &[rows], &out.status.shape())?;
        if !out.values.is_dense(1) && !out.values.is_empty() {
            return Err(Error::Argument(format!(
                "out: the bands of a row must be neighbours in memory, found strides {:?}",
                out.values.strides()
            )));
        }
        if let Some(pixels) = &out.pixels {
            shape("pixels", &[rows, 2], &pixels.shape())?;
            if height.max(width) > i32::MAX as usize {
                return Err(Error::TooLarge {
                    what: "pixels (int32)",
                    shape: vec![height, width],
                });
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn run(&self, points: View2<'_, f64>, index: Option<&[usize]>, part: Part<'_>) {
        let Part {
            items,
            base,
            mut out,
        } = part;
        let mut scratch = match self.method {
            Method::Nearest => Vec::new(),
            Method::Bilinear => vec![0.0; 4 * out.values.shape()[1]],
        };
        let row_of = |item: usize| index.map_or(item, |index| index[item]) - base;
        let locator = self.locator();
        let mut found = [None; GROUP];
        let mut done = 0;
        for first in items.clone().step_by(GROUP) {
            let group = first..items.end.min(first + GROUP);
            for (item, found) in group.clone().zip(&mut found) {
                let row = base + row_of(item);
                *found = locator.locate(points.at([row, 0]), points.at([row, 1]));
                if let Some(footprint) = found {
                    self.prefetch(footprint);
                }
            }
            for (item, found) in group.zip(&found) {
                let row = row_of(item);
                out.fill(done..row);
                done = row + 1;
                self.emit(found.as_ref(), row, &mut out, &mut scratch);
            }
        }
        out.fill(done..out.status.len());
    }

    /// Asks for the memory that `emit` will read: points are scattered, so that every one of
    /// them misses the caches.
    #[inline(always)]
    fn prefetch(&self, footprint: &Footprint) {
        if self.present.is_some() {
            return; // a list was written a moment ago
        }
        let reader = self.reader();
        for tap in footprint.taps() {
            reader.prefetch([tap.row, tap.col]);
        }
    }

    /// Writes one row.
    #[inline(always)]
    fn emit(
        &self,
        found: Option<&Footprint>,
        row: usize,
        out: &mut Outputs<'_>,
        scratch: &mut [f32],
    ) {
        if let Some(pixels) = &mut out.pixels {
            let at = found.map_or([-1, -1], |f| {
                let (row, col) = f.pixel();
                [row as i32, col as i32]
            });
            pixels.set([row, 0], at[0]);
            pixels.set([row, 1], at[1]);
        }
        let Some(found) = found else {
            return out.blank(row, status::OUTSIDE);
        };
        let (at, across) = found.pixel();
        if self.is_water(at, across) {
            return out.blank(row, status::WATER);
        }
        let valid = match self.method {
            Method::Nearest => self
                .place(at, across)
                .and_then(|at| self.reader().load(at, out.row(row)))
                .is_some(),
            Method::Bilinear => {
                let place = |row, col| self.place(row, col);
                self.reader().blend(found, place, scratch, out.row(row))
            }
        };
        if valid {
            out.status.set([row], status::VALID);
        } else {
            out.blank(row, status::NODATA);
        }
    }

    #[inline(always)]
    fn is_water(&self, row: usize, col: usize) -> bool {
        let land = match self.present {
            Some(Present {
                land: Some(land), ..
            }) => self.place(row, col).map(|[at, _]| land.at([at])),
            _ => self.land.map(|land| land.at([row, col])),
        };
        land == Some(0)
    }

    /// Where a pixel of the raster is in `pixels`.
    #[inline(always)]
    fn place(&self, row: usize, col: usize) -> Option<[usize; 2]> {
        match &self.present {
            None => Some([row, col]),
            Some(present) => present.find(row, col).map(|at| [at, 0]),
        }
    }
}
