//! The one error type of the crate.

use thiserror::Error;

/// What can be wrong with a kernel's input, said with the numbers that were found.
#[derive(Debug, Error)]
pub enum Error {
    /// Two arrays that must agree in shape do not.
    #[error("{what}: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// Which argument.
        what: &'static str,
        /// The shape the other arguments imply.
        expected: Vec<usize>,
        /// The shape that was passed.
        found: Vec<usize>,
    },
    /// A product of sizes does not fit the address space.
    #[error("{what}: shape {shape:?} is too large for this machine's address space")]
    TooLarge {
        /// Which argument.
        what: &'static str,
        /// The shape that was asked for.
        shape: Vec<usize>,
    },
    /// A band that the raster does not have.
    #[error("band {band} is out of range: the raster has bands 0 to {last}", last = .count.saturating_sub(1))]
    Band {
        /// The band that was asked for.
        band: i64,
        /// How many bands there are.
        count: usize,
    },
    /// Any other argument outside its domain.
    #[error("{0}")]
    Argument(String),
    /// Reading a file failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;
