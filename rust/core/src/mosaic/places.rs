//! Where the pixels of a block are, in every coordinate system that a source asks for.

use crate::coords::Crs;
use crate::grid::Window;
use crate::resample::{Axis, Footprint, footprint};
use crate::tiles;
use crate::utm::{Parallel, wrap_degrees};

use super::Mosaic;
use super::systems::{System, Systems};

/// Which cells of the tile grid own the pixels of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Owners {
    /// No source here has a cell.
    Nobody,
    /// This cell owns all.
    One([i32; 2]),
    /// More than one cell, or none at some pixels.
    Many,
}

/// Degrees of longitude and latitude that a block may span, and the latitude up to which, for
/// nine of its places to say where all of it is in another projection.
const SPAN: f64 = 1.0;
const FAR: f64 = 85.0;

/// Two coordinates of the pixels of a line.
struct Line {
    row: Option<usize>,
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Line {
    fn new(width: usize) -> Self {
        Self {
            row: None,
            x: vec![0.0; width],
            y: vec![0.0; width],
        }
    }

    /// Whether the line must be computed for this row; says no the next time.
    fn is_stale(&mut self, row: usize) -> bool {
        self.row.replace(row) != Some(row)
    }
}

/// The places of one line of a block after the other, each computed when it is asked for.
pub(super) struct Places<'t, 'a> {
    mosaic: &'t Mosaic<'a>,
    systems: &'t Systems<'a>,
    window: Window,
    row: usize,
    lonlat: Line,
    others: Vec<Line>,
    /// Of sources in the target's own system: what each column needs of them.
    columns: Vec<Vec<Option<Axis>>>,
    owners: Owners,
}

impl<'t, 'a> Places<'t, 'a> {
    pub fn new(mosaic: &'t Mosaic<'a>, systems: &'t Systems<'a>, window: Window) -> Self {
        let lines = systems.all.iter().map(|system| match system {
            System::Same => Line::new(0),
            _ => Line::new(window.width),
        });
        Self {
            mosaic,
            systems,
            window,
            row: window.row,
            lonlat: Line::new(window.width),
            others: lines.collect(),
            columns: vec![Vec::new(); mosaic.sources.len()],
            owners: Owners::Nobody,
        }
    }

    /// Goes to a row of the target grid.
    pub fn go(&mut self, row: usize) {
        self.row = row;
    }

    /// Whether pixels of the line have owners that differ.
    pub fn has_many_owners(&self) -> bool {
        self.owners == Owners::Many
    }

    /// Finds out who owns the block, given the sources that may touch it.
    ///
    /// A block whose rim lies in one cell lies in it: the projections are continuous.
    pub fn owners(&mut self, near: &[usize]) -> Owners {
        let sources = self.mosaic.sources;
        if near.iter().all(|&number| sources[number].cell.is_none()) {
            return self.owners;
        }
        let Window {
            row,
            col,
            height,
            width,
        } = self.window;
        let (bottom, right) = (row + height - 1, col + width - 1);
        let corners = [(row, col), (row, right), (bottom, col), (bottom, right)];
        let across = (col..=right).flat_map(|at| [(row, at), (bottom, at)]);
        let down = (row..=bottom).flat_map(|at| [(at, col), (at, right)]);
        let mut rim = corners.into_iter().chain(across).chain(down);
        let owner = self.cell_at(row, col);
        self.owners = match owner {
            Some(cell) if rim.all(|(row, col)| self.cell_at(row, col) == owner) => {
                Owners::One(cell)
            }
            _ => Owners::Many,
        };
        self.owners
    }

    /// The cell of the tile grid that owns each pixel of the line.
    pub fn cells(&mut self, cells: &mut [Option<[i32; 2]>]) {
        self.lonlat();
        let Line { x: lon, y: lat, .. } = &self.lonlat;
        for (k, cell) in cells.iter_mut().enumerate() {
            *cell = cell_of(lon[k], lat[k]);
        }
    }

    /// Whether a source may touch the block; when in doubt, yes.
    pub fn is_near(&mut self, number: usize) -> bool {
        let source = &self.mosaic.sources[number];
        if let System::Same = self.systems.all[self.systems.of[number]] {
            let Window {
                row,
                col,
                height,
                width,
            } = self.window;
            let size = source.shape[0] as f64;
            let v = |row: usize| source.grid.pixel_coordinates(0.0, self.center(row, 0).1).1;
            if v(row + height - 1) < -1.0 || v(row) > size + 1.0 {
                return false;
            }
            let columns = (col..col + width).map(|col| self.column(number, col));
            let columns: Vec<_> = columns.collect();
            let near = columns.iter().any(Option::is_some);
            self.columns[number] = columns;
            return near;
        }
        let [height, width] = source.shape.map(|size| size as f64);
        let Some([west, south, east, north]) = self.bounds(self.systems.of[number]) else {
            return true;
        };
        let (left, top) = source.grid.pixel_coordinates(west, north);
        let (right, bottom) = source.grid.pixel_coordinates(east, south);
        left <= width + 1.0 && right >= -1.0 && top <= height + 1.0 && bottom >= -1.0
    }

    /// Gives `take` the footprints that the line's pixels have on a source, if `wants` them.
    #[inline(always)]
    pub fn locate(
        &mut self,
        number: usize,
        wants: impl Fn(usize) -> bool,
        mut take: impl FnMut(usize, Footprint),
    ) {
        let source = &self.mosaic.sources[number];
        let method = self.mosaic.method;
        let [height, width] = source.shape;
        let system = self.systems.of[number];
        if let System::Same = self.systems.all[system] {
            let (_, y) = self.center(self.row, 0);
            let (_, v) = source.grid.pixel_coordinates(0.0, y);
            let Some(row) = Axis::of(v, height, source.rule, method) else {
                return;
            };
            for (j, column) in self.columns[number].iter().enumerate() {
                if let Some(column) = column
                    && wants(j)
                {
                    take(j, Footprint::of(row, *column));
                }
            }
            return;
        }
        self.line(system);
        let period = self.period(system);
        let Line { x, y, .. } = &self.others[system];
        for (j, (&x, &y)) in x.iter().zip(y).enumerate() {
            if !wants(j) {
                continue;
            }
            let x = match period {
                Some(period) => source.grid.unwrap_x(x, width, period),
                None => x,
            };
            let (u, v) = source.grid.pixel_coordinates(x, y);
            if let Some(found) = footprint(u, v, (height, width), source.rule, method) {
                take(j, found);
            }
        }
    }

    /// x and y of the centre of a pixel, in the target's system.
    #[inline(always)]
    fn center(&self, row: usize, col: usize) -> (f64, f64) {
        let (u, v) = (col as f64 + 0.5, row as f64 + 0.5);
        self.mosaic.target.grid.position(u, v)
    }

    /// What a column of the target needs of a source in the target's own system.
    fn column(&self, number: usize, col: usize) -> Option<Axis> {
        let source = &self.mosaic.sources[number];
        let [_, width] = source.shape;
        let (x, _) = self.center(0, col);
        let x = match self.period(self.systems.of[number]) {
            Some(period) => source.grid.unwrap_x(x, width, period),
            None => x,
        };
        let (u, _) = source.grid.pixel_coordinates(x, 0.0);
        Axis::of(u, width, source.rule, self.mosaic.method)
    }

    /// How far round the globe is in a system's x.
    fn period(&self, system: usize) -> Option<f64> {
        match self.systems.all[system] {
            System::Same => self.mosaic.target.crs.and_then(|crs| crs.period()),
            System::Crs(crs) => crs.period(),
            System::Lattice(_) => None,
        }
    }

    /// Computes the line's x and y in a system that is not the target's.
    fn line(&mut self, system: usize) {
        if !self.others[system].is_stale(self.row) {
            return;
        }
        match self.systems.all[system] {
            System::Same => {}
            System::Crs(crs) => {
                self.lonlat();
                let Line { x: lon, y: lat, .. } = &self.lonlat;
                let Line { x, y, .. } = &mut self.others[system];
                let mut parallel = (f64::NAN, Parallel::new(f64::NAN));
                for (k, (x, y)) in x.iter_mut().zip(y).enumerate() {
                    (*x, *y) = match crs {
                        // Rows of a geographic or Mercator grid are parallels.
                        Crs::Utm(utm) => {
                            if lat[k] != parallel.0 {
                                parallel = (lat[k], Parallel::new(lat[k]));
                            }
                            utm.forward_on(&parallel.1, lon[k])
                        }
                        _ => crs.forward(lon[k], lat[k]),
                    };
                }
            }
            System::Lattice(lattice) => {
                let Line { x, y, .. } = &mut self.others[system];
                lattice.line(self.row, self.window.col, x, y);
            }
        }
    }

    fn lonlat(&mut self) {
        if !self.lonlat.is_stale(self.row) {
            return;
        }
        let (row, first) = (self.row, self.window.col);
        let target = &self.mosaic.target;
        let Line { x: lon, y: lat, .. } = &mut self.lonlat;
        match (target.crs, target.lonlat) {
            (Some(crs), _) => {
                for (k, (lon, lat)) in lon.iter_mut().zip(lat).enumerate() {
                    let (u, v) = ((first + k) as f64 + 0.5, row as f64 + 0.5);
                    let (x, y) = target.grid.position(u, v);
                    (*lon, *lat) = crs.inverse(x, y);
                }
            }
            (None, Some(lattice)) => lattice.line(row, first, lon, lat),
            (None, None) => {}
        }
    }

    fn cell_at(&self, row: usize, col: usize) -> Option<[i32; 2]> {
        let (lon, lat) = self.lonlat_at(row, col);
        cell_of(lon, lat)
    }

    fn lonlat_at(&self, row: usize, col: usize) -> (f64, f64) {
        let target = &self.mosaic.target;
        match (target.crs, target.lonlat) {
            (Some(crs), _) => {
                let (x, y) = self.center(row, col);
                crs.inverse(x, y)
            }
            (None, Some(lattice)) => lattice.at(row, col),
            (None, None) => (f64::NAN, f64::NAN),
        }
    }

    /// (west, south, east, north) of a box that holds the block's pixel centres in a system;
    /// None where it is not known.
    fn bounds(&self, system: usize) -> Option<[f64; 4]> {
        match self.systems.all[system] {
            System::Same => None,
            System::Lattice(lattice) => Some(lattice.bounds(self.window)),
            System::Crs(crs) if crs.period().is_some() => None,
            System::Crs(crs) => {
                let Window {
                    row,
                    col,
                    height,
                    width,
                } = self.window;
                let thirds = |first: usize, len: usize| [first, first + len / 2, first + len - 1];
                let mut lonlat = [[f64::INFINITY, f64::NEG_INFINITY]; 2];
                let mut xy = lonlat;
                for row in thirds(row, height) {
                    for col in thirds(col, width) {
                        let (lon, lat) = self.lonlat_at(row, col);
                        let (x, y) = crs.forward(lon, lat);
                        if !(x.is_finite() && y.is_finite()) {
                            return None;
                        }
                        stretch(&mut lonlat, lon, lat);
                        stretch(&mut xy, x, y);
                    }
                }
                let [[west, east], [south, north]] = lonlat;
                let small = east - west <= SPAN && north - south <= SPAN;
                if !small || north.abs().max(south.abs()) > FAR {
                    return None;
                }
                let [[west, east], [south, north]] = xy;
                let room = (east - west).max(north - south);
                Some([west - room, south - room, east + room, north + room])
            }
        }
    }
}

fn cell_of(lon: f64, lat: f64) -> Option<[i32; 2]> {
    tiles::cell(wrap_degrees(lon), lat).map(tiles::tenths)
}

/// Stretches ranges of x and y to hold a place.
fn stretch(ranges: &mut [[f64; 2]; 2], x: f64, y: f64) {
    for ([low, high], value) in ranges.iter_mut().zip([x, y]) {
        (*low, *high) = (low.min(value), high.max(value));
    }
}
