//! Binding of the LZW compressor.

use geotessera_core::lzw;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::Bytes;
use crate::error::to_py;

/// Compress bytes as TIFF's LZW does.
///
/// Parameters
/// ----------
/// data : buffer
///     Any C-contiguous buffer.
///
/// Returns
/// -------
/// bytes
///     What a block of a TIFF with compression 5 holds.
///
/// Raises
/// ------
/// MemoryError
///     There is not enough memory for the result.
#[pyfunction]
#[pyo3(signature = (data, /))]
pub fn encode_lzw<'py>(py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let data = Bytes::take(data)?;
    let bytes = data.as_slice();
    let made = py.detach(|| lzw::encode(bytes)).map_err(to_py)?;
    Ok(PyBytes::new(py, &made))
}
