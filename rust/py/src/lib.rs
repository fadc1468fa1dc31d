//! `geotessera._native`: the kernels of `geotessera-core` over NumPy arrays.

use pyo3::prelude::*;

mod array;
mod dequantize;
mod error;
mod threads;

/// Kernels over NumPy arrays (private: use the functions of `geotessera`).
#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_function(wrap_pyfunction!(dequantize::dequantize, m)?)?;
    m.add_function(wrap_pyfunction!(dequantize::simd_level, m)?)?;
    m.add_function(wrap_pyfunction!(threads::num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(threads::set_num_threads, m)?)?;
    Ok(())
}
