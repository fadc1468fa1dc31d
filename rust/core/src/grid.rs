//! Where the pixels of a raster are: affine transform and pixel coordinates.

use crate::{Error, Result};

/// Which pixel owns a position between pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelRule {
    /// Pixel i owns [i, i + 1): the tiles' rule.
    Floor,
    /// The nearest pixel centre, ties to the first (west, north) pixel; positions up to
    /// half a pixel beyond the edge belong to the edge pixel: the Zarr stores' rule.
    Nearest,
}

impl PixelRule {
    /// The pixel of an axis with `size` pixels that owns pixel coordinate `u`.
    #[inline]
    pub fn pixel(self, u: f64, size: usize) -> Option<usize> {
        let end = size as f64;
        match self {
            Self::Floor if u >= 0.0 && u < end => Some(u as usize),
            Self::Nearest if u >= -0.5 && u <= end + 0.5 && size > 0 => {
                Some(((u - 1.0).ceil().max(0.0) as usize).min(size - 1))
            }
            _ => None,
        }
    }

    /// `u` moved onto the raster where the rule accepts positions beyond its edge.
    #[inline]
    pub(crate) fn clamp(self, u: f64, size: usize) -> f64 {
        match self {
            Self::Floor => u,
            Self::Nearest => u.clamp(0.0, size as f64),
        }
    }
}

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First row.
    pub row: usize,
    /// First column.
    pub col: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Window {
    /// Whether it has no pixel.
    pub fn is_empty(&self) -> bool {
        self.height == 0 || self.width == 0
    }

    /// Whether it ends at or before this row and column.
    pub fn is_inside(&self, [height, width]: [usize; 2]) -> bool {
        let end =
            |first: usize, len: usize, size| first.checked_add(len).is_some_and(|e| e <= size);
        end(self.row, self.height, height) && end(self.col, self.width, width)
    }
}

/// A north-up grid: its upper-left corner and the size of a pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    x0: f64,
    y0: f64,
    px: f64,
    py: f64,
}

impl Grid {
    /// The grid of an affine transform `(a, b, c, d, e, f)`:
    /// x = a·column + b·row + c and y = d·column + e·row + f.
    ///
    /// # Errors
    /// [`Error::Argument`] for a transform that is rotated, flipped, degenerate or not finite.
    pub fn from_affine(transform: [f64; 6]) -> Result<Self> {
        let [a, b, c, d, e, f] = transform;
        let north_up = b == 0.0 && d == 0.0 && a > 0.0 && e < 0.0;
        if !(north_up && transform.iter().all(|v| v.is_finite())) {
            return Err(Error::Argument(format!(
                "transform {transform:?}: rotated or flipped rasters are not supported; expected \
                 (a, 0, c, 0, e, f) with a > 0 and e < 0, all finite"
            )));
        }
        Ok(Self {
            x0: c,
            y0: f,
            px: a,
            py: -e,
        })
    }

    /// Pixel coordinates (u to the east, v to the south) from the upper-left corner.
    #[inline]
    pub fn pixel_coordinates(&self, x: f64, y: f64) -> (f64, f64) {
        ((x - self.x0) / self.px, (self.y0 - y) / self.py)
    }

    /// The place of pixel coordinates: the way back from `pixel_coordinates`.
    #[inline]
    pub fn position(&self, u: f64, v: f64) -> (f64, f64) {
        (self.x0 + self.px * u, self.y0 - self.py * v)
    }

    /// `x` shifted by whole periods to within half a period of the raster's middle.
    ///
    /// A position that is there already keeps every bit.
    #[inline]
    pub fn unwrap_x(&self, x: f64, width: usize, period: f64) -> f64 {
        let middle = self.x0 + self.px * width as f64 / 2.0;
        let turns = ((x - middle) / period + 0.5).floor();
        if turns == 0.0 { x } else { x - turns * period }
    }
}
