//! Control grids: coordinates known at some places of a target grid, and between them.

use crate::grid::Window;
use crate::view::View3;
use crate::{Error, Result};

/// Coordinates at the nodes of a coarse grid over the pixels of a target grid.
///
/// Node (i, j) lies at the pixel *corner* (row + i·step, col + j·step) of the whole target
/// grid, so that a pixel's coordinates do not depend on which part of the grid is made.
#[derive(Clone, Copy, Debug)]
pub struct Lattice<'a> {
    /// Row of the first nodes, a multiple of `step`.
    pub row: usize,
    /// Column of the first nodes, a multiple of `step`.
    pub col: usize,
    /// Pixels from one node to the next.
    pub step: usize,
    /// (rows of nodes, columns of nodes, 2): x and y.
    pub nodes: View3<'a, f64>,
}

impl Lattice<'_> {
    /// Checks that the lattice is one and covers a window of the target grid.
    ///
    /// # Errors
    /// [`Error::Argument`] and [`Error::Shape`], with what was found.
    pub fn check(&self, window: Window) -> Result<()> {
        let [down, across, axes] = self.nodes.shape();
        if axes != 2 {
            return Err(Error::Shape {
                what: "lattice nodes",
                expected: vec![down, across, 2],
                found: vec![down, across, axes],
            });
        }
        let anchored = |first: usize| first.checked_rem(self.step) == Some(0);
        if !(anchored(self.row) && anchored(self.col)) {
            return Err(Error::Argument(format!(
                "lattice: row {} and col {} must be multiples of its step, which is {}",
                self.row, self.col, self.step
            )));
        }
        let covers = |first: usize, nodes: usize, start: usize, len: usize| {
            let last = nodes
                .checked_sub(1)
                .and_then(|n| n.checked_mul(self.step))
                .and_then(|n| n.checked_add(first));
            first <= start && last.is_some_and(|last| last >= start.saturating_add(len))
        };
        let covered = covers(self.row, down, window.row, window.height)
            && covers(self.col, across, window.col, window.width);
        if covered || window.is_empty() {
            return Ok(());
        }
        Err(Error::Argument(format!(
            "lattice of {down} x {across} nodes, {} pixels apart from row {} and column {} on, does \
             not cover {window:?}",
            self.step, self.row, self.col
        )))
    }

    /// Writes x and y of the centres of pixels (`row`, `col`…), interpolated bilinearly.
    ///
    /// The window that [`Lattice::check`] was asked about holds the pixels.
    pub fn line(&self, row: usize, col: usize, xs: &mut [f64], ys: &mut [f64]) {
        let (i, down) = self.split(row - self.row);
        let node = |j: usize, axis: usize| {
            let (above, below) = (self.nodes.at([i, j, axis]), self.nodes.at([i + 1, j, axis]));
            above + (below - above) * down
        };
        let mut cell = None;
        let mut ends = [[0.0; 2]; 2];
        for (k, (x, y)) in xs.iter_mut().zip(ys).enumerate() {
            let (j, right) = self.split(col - self.col + k);
            if cell != Some(j) {
                cell = Some(j);
                ends = [0, 1].map(|axis| [node(j, axis), node(j + 1, axis)]);
            }
            [*x, *y] = ends.map(|[left, end]| left + (end - left) * right);
        }
    }

    /// x and y of the centre of one pixel.
    pub fn at(&self, row: usize, col: usize) -> (f64, f64) {
        let (mut x, mut y) = ([0.0], [0.0]);
        self.line(row, col, &mut x, &mut y);
        (x[0], y[0])
    }

    /// (west, south, east, north) of the nodes round a window: interpolation stays between them.
    pub fn bounds(&self, window: Window) -> [f64; 4] {
        let nodes = |pixels: usize, len: usize| {
            pixels / self.step..=(pixels + len.saturating_sub(1)) / self.step + 1
        };
        let mut bounds = [
            f64::INFINITY,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NEG_INFINITY,
        ];
        for i in nodes(window.row - self.row, window.height) {
            for j in nodes(window.col - self.col, window.width) {
                // A NaN leaves the bounds as they are.
                let [x, y] = [0, 1].map(|axis| self.nodes.at([i, j, axis]));
                let [west, south, east, north] = bounds;
                bounds = [west.min(x), south.min(y), east.max(x), north.max(y)];
            }
        }
        bounds
    }

    /// The node before the centre of a pixel, and how far it is from there to the next.
    #[inline]
    fn split(&self, pixels: usize) -> (usize, f64) {
        let part = (pixels % self.step) as f64 + 0.5;
        (pixels / self.step, part / self.step as f64)
    }
}
