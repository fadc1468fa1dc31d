//! Which 0.1° tile a point belongs to, and points in the order of their tiles.

use rayon::prelude::*;

use crate::error::zeros;
use crate::view::View2;
use crate::{Error, Result, threads};

/// Cells of 0.1° from −180° to 180°, and half as many from pole to pole.
const LON_CELLS: i32 = 3600;
const LAT_CELLS: i32 = 1800;
/// A sortable number is a cell's column (12 bits), its row (11 bits) and the point's row.
const POINT_BITS: u32 = 41;
const NORTH_BITS: u32 = 11;
/// Places that one sorting pass may write to; more than these miss the first-level cache.
const PLACES: usize = 4096;
const CHUNK: usize = 1 << 15;

/// Points in the order of their tiles.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Centre × 100 of each tile, longitude then latitude, ascending.
    pub tiles: Vec<[i32; 2]>,
    /// Rows of the points: tile by tile, ascending inside each.
    pub order: Vec<i64>,
    /// Where each tile's rows begin in `order`, and the end.
    pub offsets: Vec<i64>,
}

/// The cells of longitude and latitude, counted from the south-west corner of the globe.
///
/// The published rule `round(floor(v · 10) / 10 + 0.05, 2)` in IEEE doubles is
/// floor(v · 10) with the same rounding of the product; the rest only makes a centre of it.
/// +180° is −180°, and the north pole belongs to the last row.
#[inline]
pub(crate) fn cell(lon: f64, lat: f64) -> Option<(i32, i32)> {
    // Written so that NaN fails.
    if !(lon.abs() <= 180.0 && lat.abs() <= 90.0) {
        return None;
    }
    let east = (lon * 10.0).floor() as i32 + LON_CELLS / 2;
    let north = (lat * 10.0).floor() as i32 + LAT_CELLS / 2;
    Some((
        if east == LON_CELLS { 0 } else { east },
        north.min(LAT_CELLS - 1),
    ))
}

/// (floor of ten longitudes, of ten latitudes) of a cell as `cell` counts it: its other name.
#[inline]
pub(crate) fn tenths((east, north): (i32, i32)) -> [i32; 2] {
    [east - LON_CELLS / 2, north - LAT_CELLS / 2]
}

/// Groups points (longitude, latitude in degrees) by tile.
///
/// # Errors
/// [`Error::Argument`] that names the first point that is not on the globe.
pub fn group_by_tile(points: View2<'_, f64>) -> Result<Groups> {
    let [count, axes] = points.shape();
    if axes != 2 {
        return Err(Error::Shape {
            what: "points",
            expected: vec![count, 2],
            found: vec![count, axes],
        });
    }
    if count as u64 >= 1 << POINT_BITS {
        return Err(Error::TooLarge {
            what: "points",
            shape: vec![count, 2],
        });
    }
    let mut keys = zeros::<u64>(count)?;
    let seen = threads::install(|| {
        keys.par_chunks_mut(CHUNK)
            .enumerate()
            .map(|(chunk, keys)| locate(points, chunk * CHUNK, keys))
            .reduce(Seen::default, Seen::merge)
    })?;
    if let Some(row) = seen.bad {
        let (lon, lat) = (points.at([row, 0]), points.at([row, 1]));
        return Err(Error::Argument(format!(
            "point {row} (longitude {lon}, latitude {lat}) is out of bounds: longitudes lie in \
             [-180, 180] and latitudes in [-90, 90], both finite"
        )));
    }
    Ok(collect(sorted(keys, &seen)?))
}

/// What a pass over points found: the box of their cells, and the first bad row.
struct Seen {
    east: (usize, usize),
    north: (usize, usize),
    bad: Option<usize>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            east: (usize::MAX, 0),
            north: (usize::MAX, 0),
            bad: None,
        }
    }
}

impl Seen {
    fn merge(self, other: Self) -> Self {
        let join = |a: (usize, usize), b: (usize, usize)| (a.0.min(b.0), a.1.max(b.1));
        Self {
            east: join(self.east, other.east),
            north: join(self.north, other.north),
            bad: self.bad.into_iter().chain(other.bad).min(),
        }
    }
}

fn east_of(key: u64) -> usize {
    (key >> (POINT_BITS + NORTH_BITS)) as usize
}

fn north_of(key: u64) -> usize {
    (key >> POINT_BITS) as usize & ((1 << NORTH_BITS) - 1)
}

/// Writes cell and row of each point.
fn locate(points: View2<'_, f64>, first: usize, keys: &mut [u64]) -> Seen {
    let mut seen = Seen::default();
    for (row, key) in (first..).zip(keys) {
        let Some((east, north)) = cell(points.at([row, 0]), points.at([row, 1])) else {
            seen.bad = seen.bad.or(Some(row));
            continue;
        };
        *key = ((east as u64) << NORTH_BITS | north as u64) << POINT_BITS | row as u64;
        let (east, north) = (east as usize, north as usize);
        seen.east = (seen.east.0.min(east), seen.east.1.max(east));
        seen.north = (seen.north.0.min(north), seen.north.1.max(north));
    }
    seen
}

/// Sorts by cell; stable, so that rows stay ascending. One pass where the box of the cells is
/// small, else one for each axis.
fn sorted(mut keys: Vec<u64>, seen: &Seen) -> Result<Vec<u64>> {
    if keys.is_empty() {
        return Ok(keys);
    }
    let (west, columns) = (seen.east.0, seen.east.1 - seen.east.0 + 1);
    let (south, rows) = (seen.north.0, seen.north.1 - seen.north.0 + 1);
    let mut other = zeros(keys.len())?;
    if columns * rows <= PLACES {
        let place = |key| (east_of(key) - west) * rows + north_of(key) - south;
        distribute(&keys, &mut other, columns * rows, place);
        return Ok(other);
    }
    distribute(&keys, &mut other, rows, |key| north_of(key) - south);
    distribute(&other, &mut keys, columns, |key| east_of(key) - west);
    Ok(keys)
}

/// Writes the keys in the order of their places: a counting sort.
fn distribute(from: &[u64], to: &mut [u64], places: usize, place: impl Fn(u64) -> usize) {
    let mut starts = vec![0usize; places];
    from.iter().for_each(|&key| starts[place(key)] += 1);
    let mut sum = 0;
    for start in &mut starts {
        (sum, *start) = (sum + *start, sum);
    }
    for &key in from {
        let start = &mut starts[place(key)];
        to[*start] = key;
        *start += 1;
    }
}

fn collect(keys: Vec<u64>) -> Groups {
    let mut groups = Groups::default();
    let mut last = None;
    for (at, &key) in keys.iter().enumerate() {
        let cell = key >> POINT_BITS;
        if last != Some(cell) {
            last = Some(cell);
            let (east, north) = (east_of(key) as i32, north_of(key) as i32);
            groups.tiles.push([
                (east - LON_CELLS / 2) * 10 + 5,
                (north - LAT_CELLS / 2) * 10 + 5,
            ]);
            groups.offsets.push(at as i64);
        }
    }
    groups.offsets.push(keys.len() as i64);
    // The standard library collects in place: fresh pages would be a third of the whole cost.
    groups.order = keys
        .into_iter()
        .map(|key| (key & ((1 << POINT_BITS) - 1)) as i64)
        .collect();
    groups
}
