//! Single pixels of chunks.

use geotessera_core::chunks::{self as kernel, Points, Span};
use pyo3::prelude::*;

use super::{Place, dims, form, is_int8, open, outcome, span, width};
use crate::array::{Input, Output, bands as read_bands};

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
