//! Bindings of the kernels of principal components.

use geotessera_core::error::{reserved, zeros};
use geotessera_core::pca as kernel;
use geotessera_core::{Error, Result};
use pyo3::prelude::*;

use crate::array::{Extent, Input, Layout, Output};
use crate::error::to_py;
use crate::raster::Raster;

/// Upper halves that the rank of a float32 number may have.
const RANKS: usize = 1 << 16;

/// The numbers of a small array, in C order.
///
/// One number that is repeated may look like more than there is memory: an error, not the end.
fn gathered<T: numpy::Element + Copy>(input: &Input<'_, T>) -> PyResult<Vec<T>> {
    let view = match *input.shape() {
        [_] => input.view::<1>()?.column(),
        _ => input.view::<2>()?,
    };
    let [rows, cols] = if view.is_empty() {
        [0; 2]
    } else {
        view.shape()
    };
    let mut made = reserved(view.len()).map_err(to_py)?;
    made.extend((0..rows).flat_map(|row| (0..cols).map(move |col| view.at([row, col]))));
    Ok(made)
}

fn check_shape(what: &'static str, found: &[usize], expected: &[usize]) -> PyResult<()> {
    if found == expected {
        return Ok(());
    }
    Err(to_py(Error::Shape {
        what,
        expected: expected.to_vec(),
        found: found.to_vec(),
    }))
}

/// Return (count, sums, products) of the pixels that are finite in every band.
///
/// Sums are of x - origin, float64 (B,), products of its outer product with itself, (B, B).
/// `origin`, float32 (B,), should lie near the mean; zero by default. Blocks of 256 pixels are
/// summed in float32. The result does not depend on the number of threads.
#[pyfunction]
#[pyo3(signature = (values, scales=None, nodata=None, layout="hwc", origin=None))]
pub fn moments<'py>(
    py: Python<'py>,
    values: &Bound<'py, PyAny>,
    scales: Option<&Bound<'py, PyAny>>,
    nodata: Option<f64>,
    layout: &str,
    origin: Option<&Bound<'py, PyAny>>,
) -> PyResult<(u64, Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let layout = Layout::parse("layout", layout)?;
    let raster = Raster::take(values, scales, nodata, false)?;
    let pixels = raster.pixels(layout)?;
    let bands = pixels.shape()[2];
    let origin = match origin {
        Some(origin) => gathered(&Input::<f32>::take("origin", origin, &[1])?)?,
        None => zeros(bands).map_err(to_py)?,
    };
    let made = py
        .detach(|| kernel::moments(pixels, &origin))
        .map_err(to_py)?;
    let mut sums = Output::<f64>::fresh(py, "sums", &[bands])?;
    let mut products = Output::<f64>::fresh(py, "products", &[bands, bands])?;
    copy(&made.sums, sums.view::<1>()?.into_slice());
    copy(&made.products, products.view::<2>()?.into_slice());
    Ok((made.count, sums.into_object(), products.into_object()))
}

fn copy(from: &[f64], into: Option<&mut [std::mem::MaybeUninit<f64>]>) {
    for (slot, &value) in into.into_iter().flatten().zip(from) {
        slot.write(value);
    }
}

/// Return scores, float32 (H, W, K): bands times `weights` (K, B), plus `offsets` (K,).
///
/// They are NaN where any band is not finite. Weights are float64 with 29 bits each; products
/// and sums are float64, whatever the CPU. `out` is filled and returned where it is given.
#[pyfunction]
#[pyo3(signature = (values, scales, weights, offsets, nodata=None, layout="hwc", out=None))]
#[allow(clippy::too_many_arguments)] // the arguments of Python's function
pub fn project_bands<'py>(
    py: Python<'py>,
    values: &Bound<'py, PyAny>,
    scales: Option<&Bound<'py, PyAny>>,
    weights: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    nodata: Option<f64>,
    layout: &str,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let layout = Layout::parse("layout", layout)?;
    let raster = Raster::take(values, scales, nodata, false)?;
    let pixels = raster.pixels(layout)?;
    let [rows, cols, bands] = pixels.shape();
    let weights = Input::<f64>::take("weights", weights, &[2])?;
    let offsets = Input::<f64>::take("offsets", offsets, &[1])?;
    let components = offsets.shape()[0];
    check_shape("weights", weights.shape(), &[components, bands])?;
    let (weights, offsets) = (gathered(&weights)?, gathered(&offsets)?);
    let mut out = Output::<f32>::take_or_fresh(py, "out", out, &[rows, cols, components])?;
    out.refuse_overlap(&raster.extents())?;
    let view = out.view::<3>()?;
    py.detach(|| kernel::project(pixels, &weights, &offsets, view))
        .map_err(to_py)?;
    Ok(out.into_object())
}

/// Count scores, float32 (H, W, K), by their ranks among all float32 numbers; NaN are left out.
///
/// Without `rows`, the upper 16 bits of the ranks: `counts` is int64 (K, 65536) and added to.
/// With `rows`, int32 (K, 65536), the lower 16 bits of those whose upper bits have a row there
/// that is not negative, less the lowest `dropped`: `counts` is (K, rows, 65536 >> dropped).
#[pyfunction]
#[pyo3(signature = (scores, counts, rows=None, dropped=0))]
pub fn tally_scores<'py>(
    py: Python<'py>,
    scores: &Bound<'py, PyAny>,
    counts: &Bound<'py, PyAny>,
    rows: Option<&Bound<'py, PyAny>>,
    dropped: u32,
) -> PyResult<()> {
    let scores = Input::<f32>::take("scores", scores, &[3])?;
    let components = scores.shape()[2];
    let rows = rows
        .map(|rows| {
            let rows = Input::<i32>::take("rows", rows, &[2])?;
            check_shape("rows", rows.shape(), &[components, RANKS])?;
            gathered(&rows)
        })
        .transpose()?;
    let view = scores.view::<3>()?;
    // What is counted into is read too, so that it must be initialised: it is taken as an input
    // first.
    let shape = Input::<i64>::take("counts", counts, &[2, 3])?
        .shape()
        .to_vec();
    if shape[0] != components {
        return Err(to_py(Error::Argument(format!(
            "counts of {} components, scores of {components}",
            shape[0]
        ))));
    }
    let mut counts = Output::<i64>::take("counts", counts, &shape)?;
    counts.refuse_overlap(&[&scores as &dyn Extent])?;
    let each: usize = shape[1..].iter().product();
    // Before there is a list a component: of counts that take no memory there may be any number.
    if rows.is_none() && each != RANKS {
        check_shape("counts", &shape, &[components, RANKS])?;
    }
    let flat = match shape.len() {
        2 => counts.view::<2>()?.into_slice(),
        _ => counts.view::<3>()?.into_slice(),
    };
    let Some(flat) = flat else {
        return Err(to_py(Error::Argument("counts must be in C order".into())));
    };
    // SAFETY: an array that Python made is initialised.
    let flat = unsafe { &mut *(std::ptr::from_mut(flat) as *mut [i64]) };
    let ranks = match &rows {
        Some(rows) => kernel::Ranks::Lower { rows, dropped },
        None => kernel::Ranks::Upper,
    };
    py.detach(|| -> Result<()> {
        let mut lists: Vec<&mut [i64]> = match each {
            0 => (0..components).map(|_| &mut [] as &mut [i64]).collect(),
            _ => flat.chunks_exact_mut(each).collect(),
        };
        kernel::tally(view, ranks, &mut lists)
    })
    .map_err(to_py)
}

/// Return levels, uint8 (H, W, K): how many of its component's thresholds a score reaches.
///
/// `thresholds` is float32 (K, 255), ascending. NaN reaches none.
#[pyfunction]
#[pyo3(signature = (scores, thresholds, out=None))]
pub fn stretch_scores<'py>(
    py: Python<'py>,
    scores: &Bound<'py, PyAny>,
    thresholds: &Bound<'py, PyAny>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let scores = Input::<f32>::take("scores", scores, &[3])?;
    let thresholds = Input::<f32>::take("thresholds", thresholds, &[2])?;
    let shape = [scores.shape()[2], kernel::LEVELS - 1];
    check_shape("thresholds", thresholds.shape(), &shape)?;
    let thresholds = gathered(&thresholds)?;
    let mut out = Output::<u8>::take_or_fresh(py, "out", out, scores.shape())?;
    out.refuse_overlap(&[&scores as &dyn Extent])?;
    let (view, to) = (scores.view::<3>()?, out.view::<3>()?);
    py.detach(|| kernel::levels(view, &thresholds, to))
        .map_err(to_py)?;
    Ok(out.into_object())
}
