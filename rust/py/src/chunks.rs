//! Bindings of the chunk decoder.

use std::path::PathBuf;

use geotessera_core::blosc::{Compressor, Decoder};
use geotessera_core::chunks::{self as kernel, Form, Object, Piece, Points, Span};
use geotessera_core::view::View2;
use geotessera_core::{Error, threads};
use numpy::{Element, PyArrayDescrMethods};
use pyo3::exceptions::{PyFileNotFoundError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::array::{Input, Layout, Output, bands as read_bands, dtype_of};
use crate::error::to_py;

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

/// Fill the cells of a window with the pixels of chunks.
///
/// Parameters
/// ----------
/// objects : sequence of path or bytes
///     Where compressed chunks are.
/// spans : ndarray of int64, shape (n, 4)
///     For each chunk its cell (row by row of the grid of chunks over the window), its object
///     (-1: never written), its first byte and how many (-1: to the end).
/// shape : (rows, columns, bands)
///     Of a chunk.
/// layout : {"chw", "hwc"}
///     Axes of a chunk.
/// compressor : {"blosc", "zstd", "none"}
/// fill : float
///     What was never written.
/// origin : (row, column)
///     Where the window starts in its first chunk.
/// out : ndarray of int8 or float32, shape (rows, columns, bands)
///     Cells without a span stay as they are.
/// bands : sequence of int, optional
///     Which ones, in the order wanted.
/// scales : ndarray of float32, shape (rows, columns), optional
///     Dequantises int8 chunks to float32.
///
/// Returns
/// -------
/// (int, str) or None
///     The position of a chunk that cannot be decoded, and why.
#[pyfunction]
#[pyo3(signature = (objects, spans, *, shape, layout, compressor, fill, origin, out, bands=None, scales=None))]
#[expect(clippy::too_many_arguments, reason = "Python's keywords")]
pub fn decode_window(
    py: Python<'_>,
    objects: &Bound<'_, PyAny>,
    spans: &Bound<'_, PyAny>,
    shape: [usize; 3],
    layout: &str,
    compressor: &str,
    fill: f32,
    origin: [usize; 2],
    out: &Bound<'_, PyAny>,
    bands: Option<&Bound<'_, PyAny>>,
    scales: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<(usize, String)>> {
    let places = Place::take_all(objects)?;
    let spans = Input::<i64>::take("spans", spans, &[2])?;
    let bands = read_bands(bands, shape[2])?;
    let bands = bands.as_deref();
    let table = spans.view::<2>()?;
    let pieces = pieces(&table)?;
    let scales = scales
        .map(|scales| Input::<f32>::take("scales", scales, &[2]))
        .transpose()?;
    let size = dims::<3>("out", out)?;
    if is_int8("out", out)? {
        let form = form(shape, layout, compressor, fill as i8)?;
        let mut out = Output::<i8>::take("out", out, &size)?;
        let view = out.view::<3>()?;
        return outcome(py.detach(|| {
            let objects = open(&places)?;
            kernel::window(&form, &objects, &pieces, origin, bands, view)
        }));
    }
    let mut out = Output::<f32>::take("out", out, &size)?;
    let Some(scales) = scales else {
        let form = form(shape, layout, compressor, fill)?;
        let view = out.view::<3>()?;
        return outcome(py.detach(|| {
            let objects = open(&places)?;
            kernel::window(&form, &objects, &pieces, origin, bands, view)
        }));
    };
    out.refuse_overlap(&[&scales])?;
    let form = form(shape, layout, compressor, fill as i8)?;
    let factors = scales.view::<2>()?;
    let view = out.view::<3>()?;
    outcome(py.detach(|| {
        let objects = open(&places)?;
        kernel::window_floats(&form, &objects, &pieces, origin, bands, factors, view)
    }))
}

/// Write single pixels of chunks to rows of an array.
///
/// Parameters
/// ----------
/// objects
///     As in `decode_window`.
/// spans : ndarray of int64, shape (n, 3)
///     For each chunk its object (-1: never written), its first byte and how many (-1: to the
///     end).
/// starts : ndarray of int64, shape (n + 1,)
///     Each chunk's first point.
/// pixels, rows : ndarray of int64, shape (points,)
///     Each point's pixel in its chunk (row * columns + column), and its row of `out`; no row
///     twice.
/// out : ndarray of int8 or float32, shape (rows, bands)
/// scales : ndarray of float32, shape (rows,), optional
///     Dequantises int8 chunks to float32.
/// shape, layout, compressor, fill, bands
///     As in `decode_window`.
///
/// Returns
/// -------
/// (int, str) or None
///     The position of a chunk that cannot be decoded, and why.
#[pyfunction]
#[pyo3(signature = (objects, spans, starts, pixels, rows, *, shape, layout, compressor, fill, out, bands=None, scales=None))]
#[expect(clippy::too_many_arguments, reason = "Python's keywords")]
pub fn decode_points(
    py: Python<'_>,
    objects: &Bound<'_, PyAny>,
    spans: &Bound<'_, PyAny>,
    starts: &Bound<'_, PyAny>,
    pixels: &Bound<'_, PyAny>,
    rows: &Bound<'_, PyAny>,
    shape: [usize; 3],
    layout: &str,
    compressor: &str,
    fill: f32,
    out: &Bound<'_, PyAny>,
    bands: Option<&Bound<'_, PyAny>>,
    scales: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<(usize, String)>> {
    let places = Place::take_all(objects)?;
    let spans = Input::<i64>::take("spans", spans, &[2])?;
    let starts = Input::<i64>::take("starts", starts, &[1])?;
    let pixels = Input::<i64>::take("pixels", pixels, &[1])?;
    let rows = Input::<i64>::take("rows", rows, &[1])?;
    let bands = read_bands(bands, shape[2])?;
    let bands = bands.as_deref();
    let table = spans.view::<2>()?;
    width("spans", &table, 3)?;
    let spans: Vec<Span> = (0..table.shape()[0])
        .map(|row| span(&table, row, 0))
        .collect::<PyResult<_>>()?;
    let points = Points {
        spans: &spans,
        starts: starts.view()?,
        pixels: pixels.view()?,
        rows: rows.view()?,
    };
    let scales = scales
        .map(|scales| Input::<f32>::take("scales", scales, &[1]))
        .transpose()?;
    let size = dims::<2>("out", out)?;
    if is_int8("out", out)? {
        let form = form(shape, layout, compressor, fill as i8)?;
        let mut out = Output::<i8>::take("out", out, &size)?;
        let view = out.view::<2>()?;
        return outcome(py.detach(|| {
            let objects = open(&places)?;
            kernel::points(&form, &objects, points, bands, view)
        }));
    }
    let mut out = Output::<f32>::take("out", out, &size)?;
    let Some(scales) = scales else {
        let form = form(shape, layout, compressor, fill)?;
        let view = out.view::<2>()?;
        return outcome(py.detach(|| {
            let objects = open(&places)?;
            kernel::points(&form, &objects, points, bands, view)
        }));
    };
    out.refuse_overlap(&[&scales])?;
    let form = form(shape, layout, compressor, fill as i8)?;
    let factors = scales.view::<1>()?;
    let view = out.view::<2>()?;
    outcome(py.detach(|| {
        let objects = open(&places)?;
        kernel::points_floats(&form, &objects, points, bands, factors, view)
    }))
}

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

fn pieces(table: &View2<'_, i64>) -> PyResult<Vec<Piece>> {
    width("spans", table, 4)?;
    let piece = |row| {
        let cell = table.at([row, 0]);
        Ok(Piece {
            cell: usize::try_from(cell)
                .map_err(|_| PyValueError::new_err(format!("span {row}: cell {cell}")))?,
            span: span(table, row, 1)?,
        })
    };
    (0..table.shape()[0]).map(piece).collect()
}

/// The shape of an array with `N` axes.
fn dims<const N: usize>(name: &str, array: &Bound<'_, PyAny>) -> PyResult<[usize; N]> {
    dtype_of(name, array)?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    shape.try_into().map_err(|found: Vec<usize>| {
        PyValueError::new_err(format!("{name} must have {N} dimensions, found {found:?}"))
    })
}
