//! Binding of `sample`.

use geotessera_core::coords::Crs;
use geotessera_core::grid::Grid;
use geotessera_core::sample::{Outputs, Sampler};
use geotessera_core::sparse::Present;
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;

use crate::array::{Extent, Input, Layout, Output};
use crate::error::to_py;
use crate::raster::{Raster, parse_method, parse_rule};

/// Copies the index: while the GIL is released other threads may write the array, and bounds
/// that were checked must stay true.
pub fn take_index(index: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
    let index = Input::<i64>::take("index", index, &[1])?;
    let view = index.view::<1>()?;
    // Checked while it is read: a wrong index must not cost its length in memory first.
    let mut rows = Vec::new();
    for at in 0..view.len() {
        let row = view.at([at]);
        let row = usize::try_from(row)
            .map_err(|_| PyValueError::new_err(format!("index {row} is negative")))?;
        if let Some(&last) = rows.last()
            && last >= row
        {
            return Err(PyValueError::new_err(format!(
                "index must be strictly increasing, found {last} before {row} at position {at}"
            )));
        }
        if rows.len() == rows.capacity() {
            rows.try_reserve((view.len() - at).min(1 << 20))
                .map_err(|error| PyMemoryError::new_err(error.to_string()))?;
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Sample a raster at points.
///
/// Parameters
/// ----------
/// values : ndarray of int8 or float32
///     Pixels, three axes in `layout` order; with `present` a list, (pixel, band).
/// scales : ndarray of float32 or None
///     (row, column), or (pixel,) of a list, or the shape of `values`; None for
///     float32 values.
/// transform : tuple of 6 float
///     North-up affine transform ``(a, 0, c, 0, e, f)`` from pixel corners to the
///     raster's CRS.
/// points : ndarray of float64, shape (N, 2)
///     x and y in the raster's CRS, or longitude and latitude in degrees when
///     `epsg` is given. What is not finite is outside.
/// epsg : int, optional
///     The raster's CRS: UTM on WGS84, 4326 or 3857.
/// index : ndarray of int64, optional
///     Strictly increasing rows of `points`, `out`, `status` and `pixels` that
///     belong to this raster. Other rows of given outputs stay as they are.
/// method : {"nearest", "bilinear"}
///     How a value between pixel centres is made.
/// rule : {"floor", "nearest"}
///     Which pixel owns a position: [i, i + 1), or the nearest centre, ties to the
///     first, up to half a pixel beyond the edge.
/// layout : {"hwc", "chw"}
///     Axis order of `values` and of scales with three axes.
/// bands : sequence of int, optional
///     Zero-based bands, any order, duplicates kept.
/// nodata : float, optional
///     The float32 value that means "no data" beside NaN.
/// land : ndarray of uint8, shape (H, W), optional
///     Landmask: where it is 0 the row is NaN and its status WATER. With `present`
///     also of the list's pixels, shape (n,).
/// out : ndarray of float32, shape (N, bands), optional
///     Where the values go; the bands of a row must be neighbours in memory. Calls
///     that write one `out` must not overlap in time.
/// status : ndarray of uint8, shape (N,), optional
///     Where the codes of `geotessera.types.Status` go.
/// pixels : ndarray of int32, shape (N, 2), optional
///     Gets row and column of the pixel that contains the point, -1 outside.
/// shape : tuple of 2 int, optional
///     With `present`: rows and columns of the raster.
/// present : ndarray of int64, shape (n,), optional
///     The listed pixels by flat number, row * columns + column, strictly
///     increasing; at least what `needed_pixels` names. The results are the same as
///     from the whole raster.
///
/// Returns
/// -------
/// values : ndarray of float32, shape (N, bands)
///     `out`, or a new array that is NaN in rows that `index` does not name.
/// status : ndarray of uint8, shape (N,)
///     `status`, or a new array that is OUTSIDE in rows that `index` does not name.
///
/// Raises
/// ------
/// ValueError
///     Shapes that disagree, a rotated transform, an unknown EPSG code, an index
///     that is not strictly increasing, outputs that are read-only or overlap, a
///     pixel that a point needs and `present` lacks.
/// TypeError
///     A wrong dtype.
/// geotessera.errors.BandError
///     A band that the raster does not have.
#[pyfunction]
#[pyo3(signature = (values, scales, transform, points, *, epsg=None, index=None, method="nearest",
    rule="floor", layout="hwc", bands=None, nodata=None, land=None, out=None, status=None,
    pixels=None, shape=None, present=None))]
#[allow(clippy::too_many_arguments)] // the contract of `_native.pyi`
pub fn sample<'py>(
    py: Python<'py>,
    values: &Bound<'py, PyAny>,
    scales: Option<&Bound<'py, PyAny>>,
    transform: [f64; 6],
    points: &Bound<'py, PyAny>,
    epsg: Option<i64>,
    index: Option<&Bound<'py, PyAny>>,
    method: &str,
    rule: &str,
    layout: &str,
    bands: Option<&Bound<'py, PyAny>>,
    nodata: Option<f64>,
    land: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    status: Option<&Bound<'py, PyAny>>,
    pixels: Option<&Bound<'py, PyAny>>,
    shape: Option<[usize; 2]>,
    present: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let raster = Raster::take(values, scales, nodata, present.is_some())?;
    let layout = Layout::parse("layout", layout)?;
    let (shape, numbers) = match (shape, present) {
        (None, None) => (None, None),
        (Some(shape), Some(present)) => (
            Some(shape),
            Some(Input::<i64>::take("present", present, &[1])?),
        ),
        _ => return Err(PyValueError::new_err("shape and present go together")),
    };
    let view = match numbers {
        None => raster.pixels(layout)?,
        Some(_) if layout == Layout::Hwc => raster.listed_pixels()?,
        Some(_) => return Err(PyValueError::new_err("layout 'chw' has no list of pixels")),
    };
    let points = Input::<f64>::take("points", points, &[2])?;
    let land = land
        .map(|land| {
            let axes: &[usize] = if numbers.is_some() { &[1, 2] } else { &[2] };
            Input::<u8>::take("land", land, axes)
        })
        .transpose()?;
    let listed_land = land.as_ref().filter(|land| land.shape().len() == 1);
    let whole_land = land.as_ref().filter(|land| land.shape().len() == 2);
    let bands = crate::array::bands(bands, view.shape()[2])?;
    let index = index.map(take_index).transpose()?;
    let sampler = Sampler {
        pixels: view,
        grid: Grid::from_affine(transform).map_err(to_py)?,
        method: parse_method(method)?,
        rule: parse_rule(rule)?,
        crs: epsg.map(Crs::from_epsg).transpose().map_err(to_py)?,
        bands: bands.as_deref(),
        land: whole_land.map(Input::view).transpose()?,
        present: match (shape, &numbers) {
            (Some(shape), Some(numbers)) => Some(Present {
                shape,
                numbers: numbers.view()?,
                land: listed_land.map(Input::view).transpose()?,
            }),
            _ => None,
        },
    };

    let rows = points.shape()[0];
    let width = bands.as_ref().map_or(view.shape()[2], Vec::len);
    let fill_values = out.is_none();
    let fill_status = status.is_none();
    let mut out = Output::<f32>::take_or_fresh(py, "out", out, &[rows, width])?;
    let mut status = Output::<u8>::take_or_fresh(py, "status", status, &[rows])?;
    let mut pixels = pixels
        .map(|p| Output::<i32>::take("pixels", p, &[rows, 2]))
        .transpose()?;
    let mut inputs = raster.extents();
    inputs.push(&points);
    inputs.extend(land.as_ref().map(|land| land as &dyn Extent));
    inputs.extend(numbers.as_ref().map(|numbers| numbers as &dyn Extent));
    out.refuse_overlap(&inputs)?;
    status.refuse_overlap(&inputs)?;
    status.refuse_overlap(&[&out])?;
    if let Some(pixels) = &pixels {
        pixels.refuse_overlap(&inputs)?;
        pixels.refuse_overlap(&[&out, &status])?;
    }
    let outputs = Outputs {
        values: out.view()?,
        status: status.view()?,
        pixels: pixels.as_mut().map(Output::view).transpose()?,
        fill_values,
        fill_status,
    };
    let points = points.view()?;
    py.detach(|| sampler.sample(points, index.as_deref(), outputs))
        .map_err(to_py)?;
    Ok((out.into_object(), status.into_object()))
}
