//! Strided views of arrays that somebody else owns, and all arithmetic on sizes.
//!
//! A view may be non-contiguous: strides are in elements and may be negative, and
//! in a read-only view zero. Kernels see pixels as (row, column, band), whatever
//! the order in memory: the caller permutes. Every constructor proves that shape
//! and strides stay inside memory and inside `isize`, so no kernel checks again.

mod geometry;
mod pixels;
mod read;
mod size;
mod write;

pub use pixels::{Pixels, check_bands};
pub use read::{View, View1, View2, View3};
pub use size::{contiguous, count};
pub use write::{ViewMut, ViewMut2, ViewMut3};
