//! Tiles of web maps, from pictures of red, green, blue and alpha in 8 bits each.
//!
//! [`sum_squares`] makes a picture coarser where it is finer than the finest zoom level,
//! [`resample`] puts it on the pixels of that level, [`halve`] makes the next coarser
//! level of a finer one, [`encode`] turns a level into PNG files. Colours count by their alpha:
//! what is transparent colours nothing, and a pixel without alpha is zero throughout.

mod encode;
mod halve;
mod resample;
mod shrink;

pub use encode::encode;
pub use halve::halve;
pub use resample::resample;
pub use shrink::{sum_squares, touched};

use crate::error::{Error, Result};
use crate::view::View3;

/// Red, green, blue and alpha.
pub type Rgba = [u8; 4];

/// The pixels of a picture in memory, row after row.
fn pixels<'a>(what: &'static str, view: View3<'a, u8>) -> Result<&'a [Rgba]> {
    let shape = view.shape();
    if shape[2] != 4 {
        return Err(Error::Shape {
            what,
            expected: vec![shape[0], shape[1], 4],
            found: shape.to_vec(),
        });
    }
    match view.as_contiguous() {
        Some(bytes) => Ok(bytes.as_chunks().0),
        None => Err(Error::Argument(format!(
            "{what} must be in C order without gaps (shape {shape:?})"
        ))),
    }
}
