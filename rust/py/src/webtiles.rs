//! Bindings of `resample_picture`, `halve_picture`, `sum_squares` and `encode_tiles`.

use geotessera_core::error::Error;
use geotessera_core::webtiles;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::array::{Input, Output};
use crate::error::to_py;
use crate::raster::parse_method;

/// Put a picture on another grid.
///
/// Parameters
/// ----------
/// source : ndarray of uint8, shape (h, w, 4)
///     Red, green, blue, alpha; C order.
/// nodes : ndarray of float64, shape (n, m, 2)
///     Positions in the source, in pixels from its left and upper edges, at the corners of every
///     `step`-th pixel of `out`; NaN where there is none. In between they are interpolated.
/// step : int
///     Pixels of `out` from one node to the next.
/// out : ndarray of uint8, shape (rows, columns, 4)
///     Filled; zero where the source has no visible pixel. Rows must be without gaps.
/// method : {"nearest", "bilinear"}
///     Bilinear values are weighted by distance and alpha.
///
/// Raises
/// ------
/// ValueError
///     Shapes that do not fit, an unknown method.
#[pyfunction]
#[pyo3(signature = (source, nodes, step, out, *, method="bilinear"))]
pub fn resample_picture<'py>(
    py: Python<'py>,
    source: &Bound<'py, PyAny>,
    nodes: &Bound<'py, PyAny>,
    step: usize,
    out: &Bound<'py, PyAny>,
    method: &str,
) -> PyResult<()> {
    let source = Input::<u8>::take("source", source, &[3])?;
    let nodes = Input::<f64>::take("nodes", nodes, &[3])?;
    let shape = out.getattr("shape")?.extract::<[usize; 3]>()?;
    let mut out = Output::<u8>::take("out", out, &shape)?;
    out.refuse_overlap(&[&source, &nodes])?;
    let method = parse_method(method)?;
    let (source, nodes, out) = (source.view::<3>()?, nodes.view::<3>()?, out.view::<3>()?);
    py.detach(|| webtiles::resample(source, nodes, step, method, out))
        .map_err(to_py)
}

/// Return a picture of half the size: the means of 2 × 2 pixels, weighted by their alpha.
///
/// Parameters
/// ----------
/// pixels : ndarray of uint8, shape (2 h, 2 w, 4)
///     Red, green, blue, alpha; C order.
///
/// Returns
/// -------
/// ndarray of uint8, shape (h, w, 4)
#[pyfunction]
pub fn halve_picture<'py>(
    py: Python<'py>,
    pixels: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let pixels = Input::<u8>::take("pixels", pixels, &[3])?;
    let shape = pixels.shape();
    let mut out = Output::<u8>::fresh(py, "out", &[shape[0] / 2, shape[1] / 2, 4])?;
    let (source, target) = (pixels.view::<3>()?, out.view::<3>()?);
    py.detach(|| webtiles::halve(source, target))
        .map_err(to_py)?;
    Ok(out.into_object())
}

/// Return what means of squares of pixels are made of: sums, each colour multiplied by alpha.
///
/// Parameters
/// ----------
/// pixels : ndarray of uint8, shape (h, w, 4)
///     Red, green, blue, alpha; C order. It may be a part of a larger picture: sums of parts
///     add up.
/// times : int
///     Side of a square in pixels.
/// row, col : int
///     Which pixel of a square the first one is.
///
/// Returns
/// -------
/// ndarray of uint64, shape (rows, columns, 4)
///     A square each that the pixels touch.
#[pyfunction]
#[pyo3(signature = (pixels, times, row=0, col=0))]
pub fn sum_squares<'py>(
    py: Python<'py>,
    pixels: &Bound<'py, PyAny>,
    times: usize,
    row: usize,
    col: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let pixels = Input::<u8>::take("pixels", pixels, &[3])?;
    let shape = pixels.shape();
    let [rows, cols] = webtiles::touched([shape[0], shape[1]], times, [row, col]).map_err(to_py)?;
    let mut out = Output::<u64>::fresh(py, "out", &[rows, cols, 4])?;
    let (source, target) = (pixels.view::<3>()?, out.view::<3>()?);
    py.detach(|| webtiles::sum_squares(source, times, [row, col], target))
        .map_err(to_py)?;
    Ok(out.into_object())
}

/// Return the PNG files of the square tiles of a picture, row by row.
///
/// Parameters
/// ----------
/// pixels : ndarray of uint8, shape (h, w, 4)
///     Red, green, blue, alpha; C order; h and w are multiples of `side`.
/// side : int
///     Pixels of a side of a tile.
///
/// Returns
/// -------
/// list of bytes or None
///     None for a tile without a visible pixel; RGB where all pixels are opaque, else RGBA.
#[pyfunction]
#[pyo3(signature = (pixels, side=256))]
pub fn encode_tiles<'py>(
    py: Python<'py>,
    pixels: &Bound<'py, PyAny>,
    side: usize,
) -> PyResult<Bound<'py, PyList>> {
    let pixels = Input::<u8>::take("pixels", pixels, &[3])?;
    let picture = pixels.view::<3>()?;
    let tiles = py
        .detach(|| webtiles::encode(picture, side))
        .map_err(|error: Error| to_py(error))?;
    let tiles = tiles.into_iter();
    PyList::new(
        py,
        tiles.map(|tile| tile.map(|bytes| PyBytes::new(py, &bytes))),
    )
}
