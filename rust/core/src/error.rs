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
    /// Memory for intermediate results that the system does not give.
    #[error("not enough memory for {0} bytes of intermediate results: pass fewer points at a time")]
    Memory(usize),
    /// A band that the raster does not have.
    #[error("band {band} is out of range: the raster has bands 0 to {last}", last = .count.saturating_sub(1))]
    Band {
        /// The band that was asked for.
        band: i64,
        /// How many bands there are.
        count: usize,
    },
    /// A chunk that cannot be read or decoded.
    #[error("chunk {number}: {reason}")]
    Chunk {
        /// Its number in the list that was passed.
        number: usize,
        /// What is wrong with it.
        reason: String,
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

/// A vector of `count` zeros, or [`Error::Memory`]; `vec!` would end the process.
///
/// # Errors
/// [`Error::Memory`] where the system does not give the memory.
pub fn zeros<T: Clone + Default>(count: usize) -> Result<Vec<T>> {
    let mut made = reserved(count)?;
    made.resize(count, T::default());
    Ok(made)
}

/// An empty vector with room for `count` items, or [`Error::Memory`].
///
/// # Errors
/// [`Error::Memory`] where the system does not give the memory.
pub fn reserved<T>(count: usize) -> Result<Vec<T>> {
    let mut made = Vec::new();
    made.try_reserve_exact(count)
        .map_err(|_| Error::Memory(count.saturating_mul(size_of::<T>())))?;
    Ok(made)
}
