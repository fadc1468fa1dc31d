//! Kernels for TESSERA embeddings: int8 values with a float32 scale a pixel.
//!
//! Slices in, slices out: no Python, no NumPy, no network. `view` is the only
//! place for size arithmetic; each kernel has one file.

pub mod blosc;
pub mod checksum;
pub mod chunks;
pub mod coords;
pub mod dequantize;
pub mod error;
mod gather;
pub mod grid;
pub mod lattice;
pub mod level;
pub mod lzw;
pub mod mosaic;
pub mod pca;
pub mod records;
pub mod resample;
pub mod sample;
pub mod sparse;
pub mod threads;
pub mod tiles;
pub mod utm;
pub mod view;
pub mod webtiles;

pub use error::{Error, Result};
