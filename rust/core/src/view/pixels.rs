//! The pixels of a raster: two kinds of numbers, one shape.

use super::View3;
use crate::error::{Error, Result};

/// The pixels of a raster, (row, column, band), as they are stored.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// Quantised: the value is `f32(q) * scale`.
    I8 {
        /// Quantised values.
        q: View3<'a, i8>,
        /// Scales; band stride zero where a pixel has one scale.
        scales: View3<'a, f32>,
    },
    /// Values as they are.
    F32 {
        /// Values.
        values: View3<'a, f32>,
        /// The value that means "no data", beside NaN.
        nodata: Option<f32>,
    },
}

impl<'a> Pixels<'a> {
    /// Quantised pixels; both views must have one shape.
    pub fn quantized(q: View3<'a, i8>, scales: View3<'a, f32>) -> Result<Self> {
        if q.shape() != scales.shape() {
            return Err(Error::Shape {
                what: "scales",
                expected: q.shape().to_vec(),
                found: scales.shape().to_vec(),
            });
        }
        Ok(Self::I8 { q, scales })
    }

    /// (rows, columns, bands).
    #[inline]
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::I8 { q, .. } => q.shape(),
            Self::F32 { values, .. } => values.shape(),
        }
    }
}

/// Checks zero-based bands against a raster of `count` bands.
pub fn check_bands(bands: &[usize], count: usize) -> Result<()> {
    match bands.iter().find(|&&band| band >= count) {
        None => Ok(()),
        Some(&band) => Err(Error::Band {
            band: i64::try_from(band).unwrap_or(i64::MAX),
            count,
        }),
    }
}
