//! Binding of the dequantise kernel.

use geotessera_core::dequantize::{self as kernel, Level};
use pyo3::prelude::*;

use crate::array::{Input, Layout, Output, bands as read_bands};
use crate::error::to_py;

/// Return the instruction set that kernels use here: "scalar", "avx2", "avx512" or "neon".
#[pyfunction]
pub fn simd_level() -> &'static str {
    Level::best().name()
}

/// Multiply quantised values by their scales, bit for bit `float32(values) * float32(scales)`.
///
/// `scales` has one number a pixel, (H, W), or the shape of `values`; where it is NaN or
/// infinite, the result is NaN. `bands` selects zero-based bands, in its order. `layout` is
/// that of `values` (and of 3-D `scales`), `out_layout` that of the result. `out` is filled
/// and returned where it is given.
#[pyfunction]
#[pyo3(signature = (values, scales, *, bands=None, layout="hwc", out_layout=None, out=None))]
pub fn dequantize<'py>(
    py: Python<'py>,
    values: &Bound<'py, PyAny>,
    scales: &Bound<'py, PyAny>,
    bands: Option<&Bound<'py, PyAny>>,
    layout: &str,
    out_layout: Option<&str>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let layout = Layout::parse("layout", layout)?;
    let out_layout = out_layout.map_or(Ok(layout), |text| Layout::parse("out_layout", text))?;
    let values = Input::<i8>::take("values", values, &[3])?;
    let scales = Input::<f32>::take("scales", scales, &[2, 3])?;
    let q = values.view::<3>()?.permute(layout.to_pixels());
    let [rows, cols, count] = q.shape();
    let s = match scales.shape().len() {
        2 => scales
            .view::<2>()?
            .stretch("scales", count)
            .map_err(to_py)?,
        _ => scales.view::<3>()?.permute(layout.to_pixels()),
    };
    if s.shape() != q.shape() {
        let pixels = if scales.shape().len() == 2 {
            vec![rows, cols]
        } else {
            layout.shape(q.shape()).to_vec()
        };
        return Err(to_py(geotessera_core::Error::Shape {
            what: "scales",
            expected: pixels,
            found: scales.shape().to_vec(),
        }));
    }
    let bands = read_bands(bands, count)?;
    let wanted = bands.as_ref().map_or(count, Vec::len);
    let shape = out_layout.shape([rows, cols, wanted]);
    let mut out = Output::<f32>::take_or_fresh(py, "out", out, &shape)?;
    out.refuse_overlap(&[&values, &scales])?;
    let view = out.view::<3>()?.permute(out_layout.to_pixels());
    py.detach(|| kernel::dequantize(q, s, bands.as_deref(), view))
        .map_err(to_py)?;
    Ok(out.into_object())
}
