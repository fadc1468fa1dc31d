//! Windows of chunks.

use geotessera_core::chunks::{self as kernel, Piece};
use geotessera_core::view::View2;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::{Place, dims, form, is_int8, open, outcome, span, width};
use crate::array::{Input, Output, bands as read_bands};

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
