//! Where sampled rows go, and why they hold what they hold.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::view::{ViewMut, ViewMut2};

/// Why a row holds what it holds: the codes of `geotessera.types.Status`.
pub mod status {
    /// The pixel holds an embedding.
    pub const VALID: u8 = 0;
    /// The landmask says water.
    pub const WATER: u8 = 1;
    /// The pixel holds no embedding.
    pub const NODATA: u8 = 2;
    /// The raster does not cover the point.
    pub const OUTSIDE: u8 = 3;
}

/// Where the results go.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// (points, bands); bands next to each other.
    pub values: ViewMut2<'a, f32>,
    /// (points,): a code of [`status`].
    pub status: ViewMut<'a, u8, 1>,
    /// (points, 2): row and column of the containing pixel, −1 outside.
    pub pixels: Option<ViewMut2<'a, i32>>,
    /// Whether values of rows that no point belongs to are set to NaN; else they stay.
    pub fill_values: bool,
    /// Whether the status of such rows is set to OUTSIDE; else it stays.
    pub fill_status: bool,
}

impl Outputs<'_> {
    pub(super) fn split_at(self, row: usize) -> (Self, Self) {
        let (values, values_tail) = self.values.split_at(0, row);
        let (status, status_tail) = self.status.split_at(0, row);
        let (pixels, pixels_tail) = match self.pixels.map(|pixels| pixels.split_at(0, row)) {
            Some((head, tail)) => (Some(head), Some(tail)),
            None => (None, None),
        };
        let tail = Self {
            values: values_tail,
            status: status_tail,
            pixels: pixels_tail,
            ..self
        };
        let head = Self {
            values,
            status,
            pixels,
            ..tail
        };
        (head, tail)
    }

    /// The values of a row; the check in [`Sampler::check`] made rows dense.
    #[inline(always)]
    pub(super) fn row(&mut self, row: usize) -> &mut [MaybeUninit<f32>] {
        self.values.row(row).unwrap_or_default()
    }

    /// Sets rows that no point belongs to.
    pub(super) fn fill(&mut self, rows: Range<usize>) {
        for row in rows {
            if self.fill_values {
                self.row(row).fill(MaybeUninit::new(f32::NAN));
            }
            if self.fill_status {
                self.status.set([row], status::OUTSIDE);
            }
        }
    }

    #[inline(always)]
    pub(super) fn blank(&mut self, row: usize, code: u8) {
        self.row(row).fill(MaybeUninit::new(f32::NAN));
        self.status.set([row], code);
    }
}
