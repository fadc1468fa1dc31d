//! Where the pixels of a block are, in every coordinate system that a source asks for.

use crate::coords::Crs;
use crate::grid::Window;
use crate::lattice::Lattice;
use crate::tiles;
use crate::utm::wrap_degrees;
use crate::view::View3;

use super::{Mosaic, Position, Target};

/// A coordinate system that sources share: computed once for a line of pixels.
#[derive(Clone, Copy, Debug)]
pub(super) enum System<'a> {
    /// The target's own.
    Same,
    /// Through longitude and latitude.
    Crs(Crs),
    /// Interpolated.
    Lattice(Lattice<'a>),
}

impl System<'_> {
    fn is(&self, other: &Self) -> bool {
        let key = |nodes: &View3<'_, f64>| (nodes.as_ptr(), nodes.shape(), nodes.strides());
        match (self, other) {
            (Self::Same, Self::Same) => true,
            (Self::Crs(a), Self::Crs(b)) => a == b,
            (Self::Lattice(a), Self::Lattice(b)) => {
                (a.row, a.col, a.step) == (b.row, b.col, b.step) && key(&a.nodes) == key(&b.nodes)
            }
            _ => false,
        }
    }
}

/// The distinct systems, and which one each source has.
pub(super) struct Systems<'a> {
    pub all: Vec<System<'a>>,
    pub of: Vec<usize>,
}

pub(super) fn systems<'a>(mosaic: &Mosaic<'a>) -> Systems<'a> {
    let mut all: Vec<System<'a>> = Vec::new();
    let of = mosaic.sources.iter().map(|source| {
        let system = match source.position {
            Position::Same => System::Same,
            Position::Crs(crs) if mosaic.target.crs == Some(crs) => System::Same,
            Position::Crs(crs) => System::Crs(crs),
            Position::Lattice(lattice) => System::Lattice(lattice),
        };
        all.iter()
            .position(|known| known.is(&system))
            .unwrap_or_else(|| {
                all.push(system);
                all.len() - 1
            })
    });
    let of = of.collect();
    Systems { all, of }
}

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
pub(super) struct Places<'a> {
    target: Target<'a>,
    systems: &'a [System<'a>],
    col: usize,
    row: usize,
    own: Line,
    lonlat: Line,
    others: Vec<Line>,
}

impl<'a> Places<'a> {
    pub fn new(target: Target<'a>, systems: &'a [System<'a>], window: Window) -> Self {
        Self {
            target,
            systems,
            col: window.col,
            row: window.row,
            own: Line::new(window.width),
            lonlat: Line::new(window.width),
            others: systems.iter().map(|_| Line::new(window.width)).collect(),
        }
    }

    /// Goes to a row of the target grid.
    pub fn go(&mut self, row: usize) {
        self.row = row;
    }

    /// How far round the globe is in a system's x.
    pub fn period(&self, system: usize) -> Option<f64> {
        match self.systems[system] {
            System::Same => self.target.crs.and_then(|crs| crs.period()),
            System::Crs(crs) => crs.period(),
            System::Lattice(_) => None,
        }
    }

    /// x and y of the line's pixel centres in a system.
    pub fn xy(&mut self, system: usize) -> (&[f64], &[f64]) {
        let line = match self.systems[system] {
            System::Same => {
                self.own();
                &self.own
            }
            System::Crs(crs) => {
                if self.others[system].is_stale(self.row) {
                    self.lonlat();
                    let Line { x: lon, y: lat, .. } = &self.lonlat;
                    let Line { x, y, .. } = &mut self.others[system];
                    for (k, (x, y)) in x.iter_mut().zip(y).enumerate() {
                        (*x, *y) = crs.forward(lon[k], lat[k]);
                    }
                }
                &self.others[system]
            }
            System::Lattice(lattice) => {
                let line = &mut self.others[system];
                if line.is_stale(self.row) {
                    lattice.line(self.row, self.col, &mut line.x, &mut line.y);
                }
                line
            }
        };
        (&line.x, &line.y)
    }

    /// The cell of the tile grid that owns each pixel of the line.
    pub fn cells(&mut self, cells: &mut [Option<[i32; 2]>]) {
        self.lonlat();
        let Line { x: lon, y: lat, .. } = &self.lonlat;
        for (k, cell) in cells.iter_mut().enumerate() {
            *cell = tiles::cell(wrap_degrees(lon[k]), lat[k]).map(tiles::tenths);
        }
    }

    fn own(&mut self) {
        if self.own.is_stale(self.row) {
            for (k, (x, y)) in self.own.x.iter_mut().zip(&mut self.own.y).enumerate() {
                let (u, v) = ((self.col + k) as f64 + 0.5, self.row as f64 + 0.5);
                (*x, *y) = self.target.grid.position(u, v);
            }
        }
    }

    fn lonlat(&mut self) {
        if !self.lonlat.is_stale(self.row) {
            return;
        }
        if let Some(crs) = self.target.crs {
            self.own();
            let Line { x, y, .. } = &self.own;
            let Line { x: lon, y: lat, .. } = &mut self.lonlat;
            for (k, (lon, lat)) in lon.iter_mut().zip(lat).enumerate() {
                (*lon, *lat) = crs.inverse(x[k], y[k]);
            }
        } else if let Some(lattice) = self.target.lonlat {
            let line = &mut self.lonlat;
            lattice.line(self.row, self.col, &mut line.x, &mut line.y);
        }
    }
}
