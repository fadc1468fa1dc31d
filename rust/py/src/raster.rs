//! Rasters as arguments: values with or without scales, and how they are read.

use geotessera_core::grid::PixelRule;
use geotessera_core::resample::Method;
use geotessera_core::view::Pixels;
use numpy::{PyArrayDescrMethods, dtype};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::array::{Extent, Input, Layout, dtype_of};
use crate::error::to_py;

/// The pixels as they came.
pub enum Raster<'py> {
    I8(Input<'py, i8>, Input<'py, f32>),
    F32(Input<'py, f32>, Option<f32>),
}

impl<'py> Raster<'py> {
    /// Takes values and scales; of a list of pixels where `listed`.
    pub fn take(
        values: &Bound<'py, PyAny>,
        scales: Option<&Bound<'py, PyAny>>,
        nodata: Option<f64>,
        listed: bool,
    ) -> PyResult<Self> {
        let (axes, of_scales): (&[usize], &[usize]) = if listed {
            (&[2], &[1, 2])
        } else {
            (&[3], &[2, 3])
        };
        let found = dtype_of("values", values)?;
        if found.is_equiv_to(&dtype::<i8>(values.py())) {
            let scales =
                scales.ok_or_else(|| PyValueError::new_err("int8 values need their scales"))?;
            if nodata.is_some() {
                return Err(PyValueError::new_err(
                    "nodata goes with float32 values; int8 values say it with their scales",
                ));
            }
            let scales = Input::take("scales", scales, of_scales)?;
            return Ok(Self::I8(Input::take("values", values, axes)?, scales));
        }
        if found.is_equiv_to(&dtype::<f32>(values.py())) {
            if scales.is_some() {
                return Err(PyValueError::new_err(
                    "float32 values are dequantised already: scales must be None",
                ));
            }
            // The value is compared in float32, as it was written.
            let nodata = nodata.map(|value| value as f32);
            return Ok(Self::F32(Input::take("values", values, axes)?, nodata));
        }
        Err(PyTypeError::new_err(format!(
            "values must be an array of int8 or float32, found dtype {found}"
        )))
    }

    /// The pixels as (row, column, band).
    pub fn pixels(&self, layout: Layout) -> PyResult<Pixels<'_>> {
        let axes = layout.to_pixels();
        match self {
            Self::I8(values, scales) => {
                let q = values.view::<3>()?.permute(axes);
                let scales = match scales.shape().len() {
                    2 => scales.view::<2>()?.stretch("scales", q.shape()[2]),
                    _ => Ok(scales.view::<3>()?.permute(axes)),
                };
                Pixels::quantized(q, scales.map_err(to_py)?).map_err(to_py)
            }
            Self::F32(values, nodata) => {
                let values = values.view::<3>()?.permute(axes);
                Ok(Pixels::F32 {
                    values,
                    nodata: *nodata,
                })
            }
        }
    }

    /// A list of pixels as a raster of one column.
    pub fn listed_pixels(&self) -> PyResult<Pixels<'_>> {
        match self {
            Self::I8(values, scales) => {
                let q = values.view::<2>()?.column();
                let scales = match scales.shape().len() {
                    1 => {
                        let column = scales.view::<1>()?.column();
                        column.stretch("scales", q.shape()[2]).map_err(to_py)?
                    }
                    _ => scales.view::<2>()?.column(),
                };
                Pixels::quantized(q, scales).map_err(to_py)
            }
            Self::F32(values, nodata) => Ok(Pixels::F32 {
                values: values.view::<2>()?.column(),
                nodata: *nodata,
            }),
        }
    }

    /// The arrays, for the overlap check.
    pub fn extents(&self) -> Vec<&dyn Extent> {
        match self {
            Self::I8(values, scales) => vec![values, scales],
            Self::F32(values, _) => vec![values],
        }
    }
}

/// Reads `"nearest"` or `"bilinear"`.
pub fn parse_method(text: &str) -> PyResult<Method> {
    match text {
        "nearest" => Ok(Method::Nearest),
        "bilinear" => Ok(Method::Bilinear),
        _ => Err(PyValueError::new_err(format!(
            "method must be 'nearest' or 'bilinear', found {text:?}"
        ))),
    }
}

/// Reads `"floor"` or `"nearest"`.
pub fn parse_rule(text: &str) -> PyResult<PixelRule> {
    match text {
        "floor" => Ok(PixelRule::Floor),
        "nearest" => Ok(PixelRule::Nearest),
        _ => Err(PyValueError::new_err(format!(
            "rule must be 'floor' or 'nearest', found {text:?}"
        ))),
    }
}
