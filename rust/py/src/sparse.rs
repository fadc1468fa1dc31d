//! Binding of `needed_pixels`.

use geotessera_core::coords::Crs;
use geotessera_core::grid::Grid;
use geotessera_core::resample::Locator;
use geotessera_core::sparse;
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::array::Input;
use crate::error::to_py;
use crate::raster::{parse_method, parse_rule};
use crate::sample::take_index;

/// Name the pixels that sampling some points may read.
///
/// Parameters
/// ----------
/// shape : tuple of 2 int
///     Rows and columns of the raster.
/// transform, points, epsg, index, method, rule
///     As for `sample`.
///
/// Returns
/// -------
/// ndarray of int64, shape (n,)
///     Sorted unique flat numbers, row * columns + column: the pixels that contain the
///     points and, for ``"bilinear"``, their neighbours of positive weight.
///
/// Raises
/// ------
/// ValueError
///     A rotated transform, an unknown EPSG code, an index out of range.
#[pyfunction]
#[pyo3(signature = (shape, transform, points, *, epsg=None, index=None, method="nearest",
    rule="floor"))]
#[allow(clippy::too_many_arguments)] // the contract of `_native.pyi`
pub fn needed_pixels<'py>(
    py: Python<'py>,
    shape: [usize; 2],
    transform: [f64; 6],
    points: &Bound<'py, PyAny>,
    epsg: Option<i64>,
    index: Option<&Bound<'py, PyAny>>,
    method: &str,
    rule: &str,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let points = Input::<f64>::take("points", points, &[2])?;
    let index = index.map(take_index).transpose()?;
    let locator = Locator {
        shape,
        grid: Grid::from_affine(transform).map_err(to_py)?,
        crs: epsg.map(Crs::from_epsg).transpose().map_err(to_py)?,
        rule: parse_rule(rule)?,
        method: parse_method(method)?,
    };
    let points = points.view()?;
    let found = py
        .detach(|| sparse::needed_pixels(points, index.as_deref(), &locator))
        .map_err(to_py)?;
    Ok(PyArray1::from_vec(py, found))
}
