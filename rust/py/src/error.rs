//! The one mapping from kernel errors to Python exceptions.

use geotessera_core::Error;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyValueError};
use pyo3::prelude::*;

/// Turns a kernel error into the exception that Python callers expect.
pub fn to_py(error: Error) -> PyErr {
    match error {
        Error::Band { .. } => band_error(&error.to_string()),
        Error::Io {
            ref source,
            ref path,
        } => match source.raw_os_error() {
            Some(code) => PyOSError::new_err((code, source.to_string(), path.clone())),
            None => PyOSError::new_err(error.to_string()),
        },
        Error::Memory(_) => PyMemoryError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// `geotessera.errors.BandError`, which is both an `IndexError` and a `ValueError`.
pub fn band_error(message: &str) -> PyErr {
    Python::attach(|py| {
        let made = py
            .import("geotessera.errors")
            .and_then(|errors| errors.getattr("BandError"))
            .and_then(|class| class.call1((message,)));
        match made {
            Ok(value) => PyErr::from_value(value),
            Err(error) => error,
        }
    })
}

/// The same exception with a word before its message that says where it comes from.
pub fn within(py: Python<'_>, place: &str, error: PyErr) -> PyErr {
    let message = format!("{place}: {}", error.value(py));
    match error.get_type(py).call1((message,)) {
        Ok(value) => PyErr::from_value(value),
        Err(_) => error,
    }
}
