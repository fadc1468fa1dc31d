//! Bindings of the thread pool.

use geotessera_core::threads;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::error::to_py;

/// Return how many threads kernels run on.
///
/// That is `set_num_threads`'s last value, else the environment variable
/// GEOTESSERA_NUM_THREADS, else the number of CPUs that this process may use.
#[pyfunction]
pub fn num_threads() -> PyResult<usize> {
    threads::count().map_err(to_py)
}

/// Set how many threads kernels run on, from the next call on.
#[pyfunction]
pub fn set_num_threads(py: Python<'_>, count: &Bound<'_, PyAny>) -> PyResult<()> {
    let count = count.call_method0("__index__").map_err(|_| {
        PyTypeError::new_err(format!(
            "count must be an integer, found {}",
            count
                .get_type()
                .name()
                .map_or("object".into(), |name| name.to_string())
        ))
    })?;
    // What does not fit is out of range as well; 0 makes the core say so.
    match count
        .extract::<i64>()
        .ok()
        .and_then(|n| usize::try_from(n).ok())
    {
        Some(count) => py.detach(|| threads::set(count)).map_err(to_py),
        None => Err(PyValueError::new_err(format!(
            "the number of threads must be positive, found {count}"
        ))),
    }
}
