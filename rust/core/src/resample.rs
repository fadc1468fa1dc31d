//! Which pixels make a value, and with what weight.

use crate::coords::Crs;
use crate::grid::{Grid, PixelRule};

/// How a value between pixel centres is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The value of the pixel that contains the position.
    Nearest,
    /// The weighted mean of the four pixel centres around the position.
    Bilinear,
}

/// A pixel and its part in a value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tap {
    /// Row of the pixel.
    pub row: usize,
    /// Column of the pixel.
    pub col: usize,
    /// Weight, greater than zero; not normalised.
    pub weight: f64,
}

/// The pixels that make one value: those of a column of pixels and of a row, crossed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Footprint {
    row: Axis,
    col: Axis,
}

impl Footprint {
    /// The footprint of two axes.
    #[inline(always)]
    pub(crate) fn of(row: Axis, col: Axis) -> Self {
        Self { row, col }
    }

    /// Row and column of the pixel that contains the position.
    #[inline(always)]
    pub fn pixel(&self) -> (usize, usize) {
        (self.row.pixel, self.col.pixel)
    }

    /// One to four pixels in row-major order: inside the raster, of positive weight; the
    /// containing one is among them.
    #[inline(always)]
    pub fn taps(&self) -> impl Iterator<Item = Tap> + '_ {
        (0..4).filter_map(|corner| {
            let (row, wy) = self.row.taps[corner / 2];
            let (col, wx) = self.col.taps[corner % 2];
            let weight = wy * wx;
            (weight > 0.0).then_some(Tap { row, col, weight })
        })
    }

    /// Whether the containing pixel is the only one.
    #[inline(always)]
    pub fn is_single(&self) -> bool {
        self.row.is_single() && self.col.is_single()
    }

    /// (row, column) of every pixel that the value depends on, the containing one first.
    pub fn pixels(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let centre = self.pixel();
        let others = self.taps().map(|tap| (tap.row, tap.col));
        std::iter::once(centre).chain(others.filter(move |&at| at != centre))
    }
}

/// How positions become footprints: a raster's grid and the manner of reading it.
#[derive(Clone, Copy, Debug)]
pub struct Locator {
    /// (rows, columns) of the raster.
    pub shape: [usize; 2],
    /// Where its pixels are.
    pub grid: Grid,
    /// The raster's system when positions are longitude and latitude in degrees; None when they
    /// are in the raster's coordinates.
    pub crs: Option<Crs>,
    /// Which pixel owns a position.
    pub rule: PixelRule,
    /// Nearest or bilinear.
    pub method: Method,
}

impl Locator {
    /// Where a position lies on the raster; None outside it.
    #[inline(always)]
    pub fn locate(&self, x: f64, y: f64) -> Option<Footprint> {
        let [height, width] = self.shape;
        let (x, y) = match self.crs {
            None => (x, y),
            Some(crs) => {
                let (x, y) = crs.forward(x, y);
                match crs.period() {
                    Some(period) => (self.grid.unwrap_x(x, width, period), y),
                    None => (x, y),
                }
            }
        };
        let (u, v) = self.grid.pixel_coordinates(x, y);
        footprint(u, v, (height, width), self.rule, self.method)
    }
}

/// The footprint of pixel coordinates (u, v) in a raster of `height` × `width` pixels;
/// None outside it.
#[inline(always)]
pub fn footprint(
    u: f64,
    v: f64,
    (height, width): (usize, usize),
    rule: PixelRule,
    method: Method,
) -> Option<Footprint> {
    let col = Axis::of(u, width, rule, method)?;
    let row = Axis::of(v, height, rule, method)?;
    Some(Footprint { row, col })
}

/// A footprint along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis {
    /// The pixel that contains the position.
    pub pixel: usize,
    /// Two pixels and their weights; weight zero for what is outside or not needed.
    taps: [(usize, f64); 2],
}

impl Axis {
    /// The pixels of an axis with `size` pixels that make a value at `u`; None outside.
    #[inline(always)]
    pub fn of(u: f64, size: usize, rule: PixelRule, method: Method) -> Option<Self> {
        let pixel = rule.pixel(u, size)?;
        let taps = match method {
            Method::Nearest => [(pixel, 1.0), (pixel, 0.0)],
            Method::Bilinear => around(rule.clamp(u, size), size),
        };
        Some(Self { pixel, taps })
    }

    #[inline(always)]
    fn is_single(&self) -> bool {
        let [(_, first), (_, second)] = self.taps;
        first == 0.0 || second == 0.0
    }
}

/// The two pixels of an axis around `u` and their weights; weight zero outside.
#[inline(always)]
fn around(u: f64, size: usize) -> [(usize, f64); 2] {
    let base = (u - 0.5).floor();
    let part = (u - 0.5) - base;
    let first = if base >= 0.0 {
        (base as usize, 1.0 - part)
    } else {
        (0, 0.0)
    };
    let second = (base + 1.0) as usize;
    [
        first,
        if second < size {
            (second, part)
        } else {
            (0, 0.0)
        },
    ]
}
