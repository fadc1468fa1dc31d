//! `geotessera._native`: the kernels of `geotessera-core` over NumPy arrays.

use pyo3::prelude::*;

mod error;

/// Kernels over NumPy arrays (private: use the functions of `geotessera`).
#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
