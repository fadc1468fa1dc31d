//! Binding of `group_by_tile`.

use geotessera_core::tiles;
use numpy::prelude::*;
use numpy::{PyArray1, PyArray2};
use pyo3::prelude::*;

use crate::array::Input;
use crate::error::to_py;

type Groups<'py> = (
    Bound<'py, PyArray2<i32>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
);

/// Group points by the 0.1° tile they belong to.
///
/// Parameters
/// ----------
/// points : ndarray of float64, shape (N, 2)
///     Longitude and latitude in WGS84 degrees. +180 is -180; latitude 90 belongs
///     to the last row of tiles.
///
/// Returns
/// -------
/// tiles : ndarray of int32, shape (T, 2)
///     Tile centres × 100, longitude then latitude, ascending.
/// order : ndarray of int64, shape (N,)
///     Rows of `points`, tile by tile and ascending inside each.
/// offsets : ndarray of int64, shape (T + 1,)
///     ``order[offsets[t]:offsets[t + 1]]`` are the rows of tile t.
///
/// Raises
/// ------
/// ValueError
///     A point that is not finite or not on the globe; the first one is named.
#[pyfunction]
pub fn group_by_tile<'py>(py: Python<'py>, points: &Bound<'py, PyAny>) -> PyResult<Groups<'py>> {
    let points = Input::<f64>::take("points", points, &[2])?;
    let view = points.view()?;
    let groups = py.detach(|| tiles::group_by_tile(view)).map_err(to_py)?;
    let count = groups.tiles.len();
    let tiles = PyArray1::from_vec(py, groups.tiles.into_flattened()).reshape([count, 2])?;
    Ok((
        tiles,
        PyArray1::from_vec(py, groups.order),
        PyArray1::from_vec(py, groups.offsets),
    ))
}
