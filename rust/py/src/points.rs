//! `points_array`: what people write as points, as an array.

use numpy::prelude::*;
use numpy::{PyArray1, PyArray2, PyUntypedArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyFloat, PyList, PyString, PyTuple};

/// Turn a sequence of (longitude, latitude) pairs into an array.
///
/// Parameters
/// ----------
/// points : iterable of pairs, or ndarray of shape (N, 2)
///     Pairs are tuples, lists, array rows or other sequences of two numbers, which may
///     be text. A float64 array is returned as it is.
///
/// Returns
/// -------
/// ndarray of float64, shape (N, 2)
///
/// Raises
/// ------
/// ValueError
///     A row that is not a pair of numbers; the first one is named.
#[pyfunction]
pub fn points_array<'py>(points: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(array) = points.cast::<PyUntypedArray>()
        && let Some(done) = from_array(array)?
    {
        return Ok(done);
    }
    if is_text(points) {
        return Err(PyValueError::new_err(format!(
            "points must be pairs of longitude and latitude, found {}",
            describe(points)
        )));
    }
    // Lists and tuples are read by position: they may change while an element's `__float__`
    // runs, and their length is asked for at each step.
    let mut flat = Vec::new();
    if let Ok(list) = points.cast::<PyList>() {
        flat.reserve(2 * list.len());
        let mut row = 0;
        while row < list.len() {
            flat.extend(pair(&list.get_item(row)?, row)?);
            row += 1;
        }
    } else if let Ok(tuple) = points.cast::<PyTuple>() {
        flat.reserve(2 * tuple.len());
        for (row, point) in tuple.iter_borrowed().enumerate() {
            flat.extend(pair(&point, row)?);
        }
    } else {
        let points = points.try_iter().map_err(|_| {
            PyValueError::new_err(format!(
                "points must be pairs of longitude and latitude, found {}",
                describe(points)
            ))
        })?;
        for (row, point) in points.enumerate() {
            flat.extend(pair(&point?, row)?);
        }
    }
    let count = flat.len() / 2;
    let made: Bound<'py, PyArray2<f64>> =
        PyArray1::from_vec(points.py(), flat).reshape([count, 2])?;
    Ok(made.into_any())
}

/// An array as float64; None for one of objects or of text, which is read row by row.
fn from_array<'py>(array: &Bound<'py, PyUntypedArray>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let dtype = array.dtype();
    if matches!(dtype.kind(), b'O' | b'U') {
        return Ok(None);
    }
    if array.shape() == [0] {
        let none: Bound<'py, PyArray2<f64>> = PyArray2::zeros(array.py(), [0, 2], false);
        return Ok(Some(none.into_any()));
    }
    if array.ndim() != 2 || array.shape()[1] != 2 || !matches!(dtype.kind(), b'f' | b'i' | b'u') {
        return Err(PyValueError::new_err(format!(
            "points must be an array of numbers of shape (N, 2), longitude and latitude; found \
             dtype {dtype} and shape {:?}",
            array.shape()
        )));
    }
    let numpy = array.py().import("numpy")?;
    // Masked values become NaN; without this they would become what lies under the mask.
    let source = if array.hasattr("filled")? {
        let floats = array.call_method1("astype", ("float64",))?;
        floats.call_method1("filled", (f64::NAN,))?
    } else {
        array.as_any().clone()
    };
    // Native byte order and alignment as well; the array itself where it has all of it.
    let flags = pyo3::types::PyDict::new(array.py());
    flags.set_item("dtype", "=f8")?;
    flags.set_item("requirements", "A")?;
    Ok(Some(numpy.call_method(
        "require",
        (source,),
        Some(&flags),
    )?))
}

/// The two numbers of a row.
fn pair(point: &Bound<'_, PyAny>, row: usize) -> PyResult<[f64; 2]> {
    if let Ok(tuple) = point.cast_exact::<PyTuple>() {
        if tuple.len() == 2 {
            return Ok([
                number(&*tuple.get_borrowed_item(0)?, point, row)?,
                number(&*tuple.get_borrowed_item(1)?, point, row)?,
            ]);
        }
        return Err(not_a_pair(point, row));
    }
    if let Ok(list) = point.cast_exact::<PyList>()
        && list.len() == 2
    {
        let (lon, lat) = (list.get_item(0)?, list.get_item(1)?);
        return Ok([number(&lon, point, row)?, number(&lat, point, row)?]);
    }
    if let Ok(array) = point.cast_exact::<PyArray1<f64>>()
        && let Ok(values) = array.try_readonly()
        && let Ok(&[lon, lat]) = values.as_slice()
    {
        return Ok([lon, lat]);
    }
    if is_text(point) || !is_sequence(point) {
        return Err(not_a_pair(point, row));
    }
    let mut found = [0.0; 2];
    let mut count = 0;
    for value in point.try_iter().map_err(|_| not_a_pair(point, row))? {
        if count == 2 {
            return Err(not_a_pair(point, row));
        }
        found[count] = number(&value?, point, row)?;
        count += 1;
    }
    if count == 2 {
        Ok(found)
    } else {
        Err(not_a_pair(point, row))
    }
}

#[inline]
fn number(value: &Bound<'_, PyAny>, point: &Bound<'_, PyAny>, row: usize) -> PyResult<f64> {
    if let Ok(float) = value.cast_exact::<PyFloat>() {
        return Ok(float.value());
    }
    if value.is_instance_of::<PyBool>() {
        return Err(not_a_pair(point, row));
    }
    // The fields of a row that `csv.reader` reads.
    let found = if value.is_instance_of::<PyString>() {
        value
            .py()
            .get_type::<PyFloat>()
            .call1((value,))
            .and_then(|float| float.extract())
    } else {
        value.extract::<f64>()
    };
    found.map_err(|cause| {
        let error = not_a_pair(point, row);
        error.set_cause(value.py(), Some(cause));
        error
    })
}

/// Text and bytes are sequences as well, of characters and of small integers.
fn is_text(object: &Bound<'_, PyAny>) -> bool {
    object.is_instance_of::<PyString>()
        || object.is_instance_of::<PyBytes>()
        || object.is_instance_of::<PyByteArray>()
}

/// Whether positions mean something: true for array rows, false for sets and mappings.
fn is_sequence(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive; the function only looks at its type.
    unsafe { pyo3::ffi::PySequence_Check(object.as_ptr()) == 1 }
}

fn not_a_pair(point: &Bound<'_, PyAny>, row: usize) -> PyErr {
    PyValueError::new_err(format!(
        "point {row} must be a pair of numbers (longitude, latitude), found {}",
        describe(point)
    ))
}

/// The object as text, shortened; its type where that fails.
fn describe(object: &Bound<'_, PyAny>) -> String {
    let class = || {
        object
            .get_type()
            .name()
            .map_or_else(|_| "object".into(), |name| name.to_string())
    };
    match object.repr() {
        Ok(text) => {
            let text = text.to_string_lossy();
            match text.char_indices().nth(80) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text.into_owned(),
            }
        }
        Err(_) => class(),
    }
}
