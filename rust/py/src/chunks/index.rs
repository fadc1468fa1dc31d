//! Indexes of shards.

use geotessera_core::chunks as kernel;
use geotessera_core::{Error, threads};
use pyo3::exceptions::PyFileNotFoundError;
use pyo3::prelude::*;

use super::Place;
use crate::array::Output;
use crate::error::to_py;

/// Read the indexes of shards.
///
/// Parameters
/// ----------
/// objects : sequence of path or bytes
///     Shards, or the bytes of their indexes.
/// entries : int
///     Inner chunks of a shard.
/// checked : bool
///     Whether a CRC32C follows the entries.
/// at_end : bool
///     Whether an index is at the end of its shard, else at the start.
///
/// Returns
/// -------
/// list
///     For each an ndarray of uint64 of shape (entries, 2), offset and length; or None where
///     there is no such file; or a str that says why it is damaged.
#[pyfunction]
#[pyo3(signature = (objects, entries, *, checked, at_end))]
pub fn shard_indexes<'py>(
    py: Python<'py>,
    objects: &Bound<'py, PyAny>,
    entries: usize,
    checked: bool,
    at_end: bool,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let places = Place::take_all(objects)?;
    let mut made = places
        .iter()
        .map(|_| Output::<u64>::fresh(py, "index", &[entries, 2]))
        .collect::<PyResult<Vec<_>>>()?;
    let mut results: Vec<Result<(), Error>> = places.iter().map(|_| Ok(())).collect();
    {
        let mut parts = Vec::with_capacity(places.len());
        for ((place, out), result) in places.iter().zip(&mut made).zip(&mut results) {
            // A fresh array has no gaps.
            let out = out.view::<2>()?.into_slice().unwrap_or_default();
            parts.push((place, out, result));
        }
        py.detach(|| {
            threads::for_each(parts, |(place, out, result)| {
                *result = place
                    .open()
                    .and_then(|object| kernel::shard_index(&object, at_end, checked, out));
            })
        })
        .map_err(to_py)?;
    }
    let convert = |(result, out): (Result<(), Error>, Output<'py, u64>)| match result {
        Ok(()) => Ok(out.into_object()),
        Err(Error::Chunk { reason, .. }) => Ok(reason.into_pyobject(py)?.into_any()),
        Err(error) => {
            let error = to_py(error);
            if error.is_instance_of::<PyFileNotFoundError>(py) {
                Ok(py.None().into_bound(py))
            } else {
                Err(error)
            }
        }
    };
    results.into_iter().zip(made).map(convert).collect()
}
