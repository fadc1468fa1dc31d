//! Bindings of `project` and `unproject`.

use geotessera_core::coords::{Crs, convert};
use pyo3::prelude::*;

use crate::array::{Input, Output};
use crate::error::to_py;

type Pair<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// Project longitudes and latitudes to x and y.
///
/// Parameters
/// ----------
/// lon, lat : ndarray of float64, shape (N,)
///     WGS84 degrees. Longitudes wrap; NaN for what is not on the globe.
/// epsg : int
///     UTM on WGS84 (32601 to 32660, 32701 to 32760), 4326 or 3857.
///
/// Returns
/// -------
/// x, y : ndarray of float64, shape (N,)
///     Within 1 µm of PROJ inside a UTM zone.
///
/// Raises
/// ------
/// ValueError
///     Lengths that differ, or an EPSG code of another system.
#[pyfunction]
pub fn project<'py>(
    py: Python<'py>,
    lon: &Bound<'py, PyAny>,
    lat: &Bound<'py, PyAny>,
    epsg: i64,
) -> PyResult<Pair<'py>> {
    let crs = Crs::from_epsg(epsg).map_err(to_py)?;
    both(py, ["lon", "lat"], [lon, lat], move |lon, lat| {
        crs.forward(lon, lat)
    })
}

/// Turn x and y back into longitudes and latitudes.
///
/// Parameters
/// ----------
/// x, y : ndarray of float64, shape (N,)
///     Coordinates in the system `epsg`; NaN for what lies outside it.
/// epsg : int
///     UTM on WGS84 (32601 to 32660, 32701 to 32760), 4326 or 3857.
///
/// Returns
/// -------
/// lon, lat : ndarray of float64, shape (N,)
///     WGS84 degrees; longitudes in [-180, 180].
///
/// Raises
/// ------
/// ValueError
///     Lengths that differ, or an EPSG code of another system.
#[pyfunction]
pub fn unproject<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    epsg: i64,
) -> PyResult<Pair<'py>> {
    let crs = Crs::from_epsg(epsg).map_err(to_py)?;
    both(py, ["x", "y"], [x, y], move |x, y| crs.inverse(x, y))
}

fn both<'py>(
    py: Python<'py>,
    names: [&'static str; 2],
    [a, b]: [&Bound<'py, PyAny>; 2],
    formula: impl Fn(f64, f64) -> (f64, f64) + Sync + Send,
) -> PyResult<Pair<'py>> {
    let a = Input::<f64>::take(names[0], a, &[1])?;
    let b = Input::<f64>::take(names[1], b, &[1])?;
    let mut out_a = Output::<f64>::fresh(py, "out", a.shape())?;
    let mut out_b = Output::<f64>::fresh(py, "out", a.shape())?;
    let (view_a, view_b) = (a.view()?, b.view()?);
    let (to_a, to_b) = (out_a.view()?, out_b.view()?);
    py.detach(|| convert(view_a, view_b, to_a, to_b, formula))
        .map_err(to_py)?;
    Ok((out_a.into_object(), out_b.into_object()))
}
