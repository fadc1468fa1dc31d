//! Bindings of the chunk decoder, and what they share.

mod index;
mod points;
mod window;

pub use index::*;
pub use points::*;
pub use window::*;

use std::path::PathBuf;

use geotessera_core::Error;
use geotessera_core::blosc::{Compressor, Decoder};
use geotessera_core::chunks::{self as kernel, Form, Object, Span};
use geotessera_core::view::View2;
use numpy::{Element, PyArrayDescrMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::array::{Layout, dtype_of};
use crate::error::to_py;

/// Decode one chunk of anything.
///
/// Parameters
/// ----------
/// data : bytes
///     The chunk, compressed.
/// compressor : {"blosc", "zstd", "none"}
/// size : int
///     How many bytes it must come to.
///
/// Returns
/// -------
/// bytes
///
/// Raises
/// ------
/// ValueError
///     If it does not, or is damaged.
#[pyfunction]
pub fn decode_chunk<'py>(
    py: Python<'py>,
    data: PyBackedBytes,
    compressor: &str,
    size: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let compressor = parse_compressor(compressor)?;
    PyBytes::new_with(py, size, |out| {
        py.detach(|| Decoder::default().decode(compressor, &data, out))
            .map_err(|fault| PyValueError::new_err(kernel::reason(fault)))
    })
}

/// Paths or bytes, kept alive while the kernel runs.
enum Place {
    Path(PathBuf),
    Bytes(PyBackedBytes),
}

impl Place {
    fn take(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyBytes>() {
            return Ok(Self::Bytes(object.extract()?));
        }
        Ok(Self::Path(object.extract()?))
    }

    fn take_all(objects: &Bound<'_, PyAny>) -> PyResult<Vec<Self>> {
        objects
            .try_iter()?
            .map(|object| Self::take(&object?))
            .collect()
    }

    fn open(&self) -> Result<Object<'_>, Error> {
        match self {
            Self::Path(path) => Object::open(path),
            Self::Bytes(bytes) => Ok(Object::Bytes(bytes)),
        }
    }
}

fn parse_compressor(name: &str) -> PyResult<Compressor> {
    match name {
        "blosc" => Ok(Compressor::Blosc),
        "zstd" => Ok(Compressor::Zstd),
        "none" => Ok(Compressor::None),
        _ => Err(PyValueError::new_err(format!(
            "compressor must be 'blosc', 'zstd' or 'none', found {name:?}"
        ))),
    }
}

fn span(spans: &View2<'_, i64>, row: usize, first: usize) -> PyResult<Span> {
    let [object, offset, length] = [0, 1, 2].map(|at| spans.at([row, first + at]));
    let wrong = || {
        PyValueError::new_err(format!(
            "span {row}: object {object}, offset {offset}, length {length}"
        ))
    };
    Ok(Span {
        object: match object {
            -1 => None,
            _ => Some(usize::try_from(object).map_err(|_| wrong())?),
        },
        offset: u64::try_from(offset).map_err(|_| wrong())?,
        length: match length {
            -1 => None,
            _ => Some(u64::try_from(length).map_err(|_| wrong())?),
        },
    })
}

/// What is wrong with which chunk, or an exception for anything else.
fn outcome(result: Result<(), Error>) -> PyResult<Option<(usize, String)>> {
    match result {
        Ok(()) => Ok(None),
        Err(Error::Chunk { number, reason }) => Ok(Some((number, reason))),
        Err(error) => Err(to_py(error)),
    }
}

fn form<T>(shape: [usize; 3], layout: &str, compressor: &str, fill: T) -> PyResult<Form<T>> {
    Ok(Form {
        shape,
        bands_last: matches!(Layout::parse("layout", layout)?, Layout::Hwc),
        compressor: parse_compressor(compressor)?,
        fill,
    })
}

/// Whether an array is of int8, else it must be of float32.
fn is_int8(name: &str, array: &Bound<'_, PyAny>) -> PyResult<bool> {
    let dtype = dtype_of(name, array)?;
    Ok(dtype.is_equiv_to(&i8::get_dtype(array.py())))
}

fn open(places: &[Place]) -> Result<Vec<Object<'_>>, Error> {
    places.iter().map(Place::open).collect()
}

fn width(name: &str, table: &View2<'_, i64>, wanted: usize) -> PyResult<()> {
    let found = table.shape();
    if found[1] == wanted {
        return Ok(());
    }
    Err(PyValueError::new_err(format!(
        "{name} must have {wanted} columns, found shape {found:?}"
    )))
}

/// The shape of an array with `N` axes.
fn dims<const N: usize>(name: &str, array: &Bound<'_, PyAny>) -> PyResult<[usize; N]> {
    dtype_of(name, array)?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    shape.try_into().map_err(|found: Vec<usize>| {
        PyValueError::new_err(format!("{name} must have {N} dimensions, found {found:?}"))
    })
}
