//! Some pixels of a raster: which ones a set of points needs, and a list instead of a raster.

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use crate::resample::{Footprint, Locator};
use crate::view::{View1, View2, count};
use crate::{Error, Result, threads};

/// Points one task locates; fewer never leave the calling thread.
const CHUNK: usize = 16 * 1024;

/// Which pixels of a raster a list holds, by flat number: row · width + column.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    /// (rows, columns) of the whole raster.
    pub shape: [usize; 2],
    /// The pixels' numbers, strictly increasing.
    pub numbers: View1<'a, i64>,
    /// The pixels' landmask: 0 is water.
    pub land: Option<View1<'a, u8>>,
}

impl Present<'_> {
    /// Where a pixel is in the list.
    #[inline]
    pub fn find(&self, row: usize, col: usize) -> Option<usize> {
        let wanted = number(self.shape, row, col);
        let (mut low, mut high) = (0, self.numbers.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.numbers.at([middle]) < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (self.numbers.get([low]) == Some(wanted)).then_some(low)
    }

    /// Checks that the numbers are strictly increasing pixels of the raster.
    pub fn check(&self) -> Result<()> {
        let end = count::<u8>("shape", &self.shape)?;
        let mut before = -1;
        for at in 0..self.numbers.len() {
            let found = self.numbers.at([at]);
            if found <= before || usize::try_from(found).is_ok_and(|found| found >= end) {
                return Err(Error::Argument(format!(
                    "present must be strictly increasing pixel numbers below {end}, found {found} \
                     at position {at}"
                )));
            }
            before = found;
        }
        Ok(())
    }

    /// Checks that every pixel that a footprint reads is in the list.
    pub(crate) fn check_holds(&self, footprint: &Footprint) -> Result<()> {
        let absent = footprint
            .pixels()
            .find(|&(row, col)| self.find(row, col).is_none());
        match absent {
            None => Ok(()),
            Some((row, col)) => Err(Error::Argument(format!(
                "present lacks pixel ({row}, {col}), number {}, which the points need",
                number(self.shape, row, col)
            ))),
        }
    }
}

#[inline]
fn number([_, width]: [usize; 2], row: usize, col: usize) -> i64 {
    // Fits: the size of the raster was checked.
    (row * width + col) as i64
}

/// The pixels that sampling `points` may read, as sorted, unique flat numbers.
///
/// # Errors
/// [`Error::Shape`] for points that are not pairs, [`Error::TooLarge`] for a raster without
/// numbers, [`Error::Argument`] for an index out of range.
pub fn needed_pixels(
    points: View2<'_, f64>,
    index: Option<&[usize]>,
    locator: &Locator,
) -> Result<Vec<i64>> {
    let [rows, axes] = points.shape();
    if axes != 2 {
        return Err(Error::Shape {
            what: "points",
            expected: vec![rows, 2],
            found: vec![rows, axes],
        });
    }
    count::<u8>("shape", &locator.shape)?;
    if let Some(row) = index.and_then(|index| index.iter().find(|&&row| row >= rows)) {
        return Err(Error::Argument(format!(
            "index {row} is out of range: there are {rows} points"
        )));
    }
    let items = index.map_or(rows, <[usize]>::len);
    let locate = |items: std::ops::Range<usize>| {
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            let row = index.map_or(item, |index| index[item]);
            if let Some(footprint) = locator.locate(points.at([row, 0]), points.at([row, 1])) {
                let pixels = footprint.pixels();
                found.extend(pixels.map(|(row, col)| number(locator.shape, row, col)));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    };
    if items <= CHUNK {
        return Ok(locate(0..items));
    }
    threads::install(|| {
        let starts: Vec<usize> = (0..items).step_by(CHUNK).collect();
        let parts: Vec<Vec<i64>> = starts
            .into_par_iter()
            .with_max_len(1)
            .map(|first| locate(first..items.min(first + CHUNK)))
            .collect();
        let mut all = parts.concat();
        all.par_sort_unstable();
        all.dedup();
        all
    })
}
