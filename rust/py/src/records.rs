//! Binding of `read_records`.

use std::path::PathBuf;

use geotessera_core::records::Records;
use pyo3::prelude::*;

use crate::array::{Input, Output};
use crate::error::to_py;

/// Read records of one size from a file by their numbers.
///
/// Parameters
/// ----------
/// path : path
///     The file.
/// offset : int
///     Bytes before record 0.
/// record_bytes : int
///     Size of a record.
/// numbers : ndarray of int64, shape (n,)
///     Which records, strictly increasing; neighbours are read together.
/// size : int, optional
///     What the file's size must be.
///
/// Returns
/// -------
/// ndarray of uint8, shape (n, record_bytes)
///
/// Raises
/// ------
/// OSError
///     A file that cannot be read, is not of `size`, or ends before a record does.
/// ValueError
///     Numbers that are negative or not increasing.
#[pyfunction]
#[pyo3(signature = (path, offset, record_bytes, numbers, *, size=None))]
pub fn read_records<'py>(
    py: Python<'py>,
    path: PathBuf,
    offset: u64,
    record_bytes: usize,
    numbers: &Bound<'py, PyAny>,
    size: Option<u64>,
) -> PyResult<Bound<'py, PyAny>> {
    let numbers = Input::<i64>::take("numbers", numbers, &[1])?;
    let mut out = Output::<u8>::fresh(py, "out", &[numbers.shape()[0], record_bytes])?;
    let records = Records {
        path: &path,
        offset,
        record: record_bytes,
        size,
    };
    let view = numbers.view()?;
    // A fresh array has no gaps.
    let bytes = out.view::<2>()?.into_slice().unwrap_or_default();
    py.detach(|| records.read(view, bytes)).map_err(to_py)?;
    Ok(out.into_object())
}
