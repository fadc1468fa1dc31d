//! Kernels for TESSERA embeddings: int8 values with a float32 scale a pixel.
//!
//! Slices in, slices out: no Python, no NumPy, no network. `view` is the only
//! place for size arithmetic; each kernel has one file.

pub mod error;
pub mod threads;
pub mod view;

pub use error::{Error, Result};
