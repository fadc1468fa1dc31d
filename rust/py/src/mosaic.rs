//! Binding of `mosaic`.

use geotessera_core::coords::Crs;
use geotessera_core::grid::{Grid, PixelRule, Window};
use geotessera_core::lattice::Lattice;
use geotessera_core::mosaic::{Mosaic, Outputs, Position, Source, Target, Values};
use numpy::{PyArrayDescrMethods, dtype};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::array::{Extent, Input, Layout, Output, dtype_of};
use crate::error::{to_py, within};
use crate::raster::{Raster, parse_method, parse_rule};

/// `geotessera.types.Lattice` as it came.
struct Nodes<'py> {
    row: usize,
    col: usize,
    step: usize,
    nodes: Input<'py, f64>,
}

impl<'py> Nodes<'py> {
    fn take(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let count = |name: &str| {
            let found: i64 = object.getattr(name)?.extract()?;
            usize::try_from(found).map_err(|_| {
                PyValueError::new_err(format!(
                    "lattice: {name} must not be negative, found {found}"
                ))
            })
        };
        Ok(Self {
            row: count("row")?,
            col: count("col")?,
            step: count("step")?,
            nodes: Input::take("nodes", &object.getattr("nodes")?, &[3])?,
        })
    }

    fn lattice(&self) -> PyResult<Lattice<'_>> {
        Ok(Lattice {
            row: self.row,
            col: self.col,
            step: self.step,
            nodes: self.nodes.view()?,
        })
    }
}

/// How a source's coordinates come about.
enum Place<'py> {
    Same,
    Crs(Crs),
    Nodes(Nodes<'py>),
}

impl<'py> Place<'py> {
    fn take(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = object.cast::<PyString>() {
            if text.to_str()? == "same" {
                return Ok(Self::Same);
            }
        } else if let Ok(epsg) = object.extract::<i64>() {
            return Ok(Self::Crs(Crs::from_epsg(epsg).map_err(to_py)?));
        } else if object.hasattr("nodes")? {
            return Ok(Self::Nodes(Nodes::take(object)?));
        }
        Err(PyValueError::new_err(format!(
            "position must be 'same', an EPSG code or a Lattice, found {}",
            object.repr()?
        )))
    }
}

/// `geotessera.types.MosaicSource` as it came.
struct Taken<'py> {
    raster: Raster<'py>,
    layout: Layout,
    window: Window,
    shape: [usize; 2],
    grid: Grid,
    place: Place<'py>,
    cell: Option<[i32; 2]>,
    rule: PixelRule,
}

impl<'py> Taken<'py> {
    fn take(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let get = |name| object.getattr(name);
        let scales = get("scales")?;
        Ok(Self {
            raster: Raster::take(
                &get("values")?,
                Some(&scales).filter(|scales| !scales.is_none()),
                get("nodata")?.extract()?,
                false,
            )?,
            layout: Layout::parse("layout", get("layout")?.cast::<PyString>()?.to_str()?)?,
            window: window(&get("window")?)?,
            shape: sizes("shape", &get("shape")?)?,
            grid: Grid::from_affine(get("transform")?.extract()?).map_err(to_py)?,
            place: Place::take(&get("position")?)?,
            cell: get("cell")?.extract()?,
            rule: parse_rule(get("rule")?.cast::<PyString>()?.to_str()?)?,
        })
    }

    fn source(&self) -> PyResult<Source<'_>> {
        Ok(Source {
            pixels: self.raster.pixels(self.layout)?,
            window: self.window,
            shape: self.shape,
            grid: self.grid,
            position: match &self.place {
                Place::Same => Position::Same,
                Place::Crs(crs) => Position::Crs(*crs),
                Place::Nodes(nodes) => Position::Lattice(nodes.lattice()?),
            },
            cell: self.cell,
            rule: self.rule,
        })
    }

    fn extents(&self) -> Vec<&dyn Extent> {
        let mut extents = self.raster.extents();
        if let Place::Nodes(nodes) = &self.place {
            extents.push(&nodes.nodes);
        }
        extents
    }
}

/// Reads whole numbers that are not negative.
fn sizes<const N: usize>(name: &str, object: &Bound<'_, PyAny>) -> PyResult<[usize; N]> {
    let found: [i64; N] = object.extract()?;
    if found.iter().any(|&size| size < 0) {
        return Err(PyValueError::new_err(format!(
            "{name} must not be negative, found {found:?}"
        )));
    }
    Ok(found.map(|size| size as usize))
}

fn window(object: &Bound<'_, PyAny>) -> PyResult<Window> {
    let [row, col, height, width] = sizes("window", object)?;
    Ok(Window {
        row,
        col,
        height,
        width,
    })
}

/// The array that the pixels go to.
enum Written<'py> {
    F32(Output<'py, f32>),
    I8(Output<'py, i8>, Output<'py, f32>),
}

impl<'py> Written<'py> {
    fn take(
        out: &Bound<'py, PyAny>,
        scales: Option<&Bound<'py, PyAny>>,
        layout: Layout,
        pixels: [usize; 3],
    ) -> PyResult<Self> {
        let shape = layout.shape(pixels);
        let found = dtype_of("out", out)?;
        if found.is_equiv_to(&dtype::<i8>(out.py())) {
            let scales = scales
                .ok_or_else(|| PyValueError::new_err("int8 out needs out_scales beside it"))?;
            let [height, width, _] = pixels;
            let flat = scales.getattr("ndim")?.extract::<usize>()? == 2;
            let of_scales = if flat {
                vec![height, width]
            } else {
                shape.to_vec()
            };
            let scales = Output::take("out_scales", scales, &of_scales)?;
            return Ok(Self::I8(Output::take("out", out, &shape)?, scales));
        }
        if found.is_equiv_to(&dtype::<f32>(out.py())) {
            if scales.is_some() {
                return Err(PyValueError::new_err(
                    "float32 out is dequantised: out_scales must be None",
                ));
            }
            return Ok(Self::F32(Output::take("out", out, &shape)?));
        }
        Err(PyTypeError::new_err(format!(
            "out must be an array of float32 or int8, found dtype {found}"
        )))
    }

    fn view(&mut self, layout: Layout) -> PyResult<Values<'_>> {
        let axes = layout.to_pixels();
        Ok(match self {
            Self::F32(out) => Values::F32(out.view::<3>()?.permute(axes)),
            Self::I8(out, scales) => Values::I8 {
                q: out.view::<3>()?.permute(axes),
                scales: if scales.shape().len() == 2 {
                    scales.view::<2>()?.deepen()
                } else {
                    scales.view::<3>()?.permute(axes)
                },
            },
        })
    }

    fn refuse_overlap(&self, inputs: &[&dyn Extent]) -> PyResult<()> {
        match self {
            Self::F32(out) => out.refuse_overlap(inputs),
            Self::I8(out, scales) => {
                out.refuse_overlap(inputs)?;
                scales.refuse_overlap(inputs)?;
                scales.refuse_overlap(&[out])
            }
        }
    }

    fn extents(&self) -> Vec<&dyn Extent> {
        match self {
            Self::F32(out) => vec![out],
            Self::I8(out, scales) => vec![out, scales],
        }
    }
}

/// Put many rasters on one grid: at each pixel the first that holds an embedding there.
///
/// Parameters
/// ----------
/// sources : sequence of MosaicSource
///     The rasters in order of precedence (see `geotessera.types.MosaicSource`). Where
///     a source's cell owns a pixel's centre, that source is tried before all others.
/// transform : tuple of 6 float
///     North-up affine transform of the whole target grid.
/// window : tuple of 4 int
///     Row, column, height and width of the part of the grid that is made now; no
///     pixel depends on it.
/// epsg : int or None
///     The target's CRS: UTM on WGS84, 4326 or 3857; None for any other.
/// lonlat : Lattice, optional
///     Longitude and latitude of the target's pixels; where `epsg` is None and a source
///     has a cell or an EPSG code for its position.
/// method : {"nearest", "bilinear"}
///     How a value between pixel centres is made.
/// bands : sequence of int, optional
///     Zero-based bands, any order, duplicates kept.
/// out : ndarray of float32 or int8, shape (height, width, bands)
///     Where the pixels go, axes in `out_layout` order; any strides. float32 is
///     dequantised, NaN where there is nothing. int8 goes with `out_scales`, nearest
///     only, 0 and +inf where there is nothing.
/// out_scales : ndarray of float32, optional
///     Scales of int8 `out`: (height, width), or the shape of `out` where a source has
///     a scale for each band.
/// out_layout : {"hwc", "chw"}
///     Axis order of `out` and of `out_scales` with three axes.
/// origin : ndarray of int16, shape (height, width), optional
///     Gets the index of the source that each pixel came from, -1 for none.
///
/// Returns
/// -------
/// int
///     How many pixels hold an embedding.
///
/// Raises
/// ------
/// ValueError
///     Shapes that disagree, sources that do not go together, an unknown EPSG code, a
///     rotated transform, a lattice that does not cover the window, outputs that are
///     read-only or overlap, a needed pixel that lies in a raster but not in its window.
/// TypeError
///     A wrong dtype.
/// geotessera.errors.BandError
///     A band that the sources do not have.
#[pyfunction]
#[pyo3(signature = (sources, transform, window, *, epsg, out, lonlat=None, method="nearest",
    bands=None, out_scales=None, out_layout="hwc", origin=None))]
#[allow(clippy::too_many_arguments)] // the contract of `_native.pyi`
pub fn mosaic<'py>(
    py: Python<'py>,
    sources: &Bound<'py, PyAny>,
    transform: [f64; 6],
    window: &Bound<'py, PyAny>,
    epsg: Option<i64>,
    out: &Bound<'py, PyAny>,
    lonlat: Option<&Bound<'py, PyAny>>,
    method: &str,
    bands: Option<&Bound<'py, PyAny>>,
    out_scales: Option<&Bound<'py, PyAny>>,
    out_layout: &str,
    origin: Option<&Bound<'py, PyAny>>,
) -> PyResult<usize> {
    let mut taken = Vec::new();
    for (number, source) in sources.try_iter()?.enumerate() {
        let place = |error| within(py, &format!("source {number}"), error);
        taken.push(Taken::take(&source?).map_err(place)?);
    }
    let mut views = Vec::with_capacity(taken.len());
    for (number, source) in taken.iter().enumerate() {
        let place = |error| within(py, &format!("source {number}"), error);
        views.push(source.source().map_err(place)?);
    }
    let lonlat = lonlat.map(Nodes::take).transpose()?;
    let target = Target {
        grid: Grid::from_affine(transform).map_err(to_py)?,
        window: self::window(window)?,
        crs: epsg.map(Crs::from_epsg).transpose().map_err(to_py)?,
        lonlat: lonlat.as_ref().map(Nodes::lattice).transpose()?,
    };

    let layout = Layout::parse("out_layout", out_layout)?;
    let count = views.first().map(|source| source.pixels.shape()[2]);
    let bands = crate::array::bands(bands, count.unwrap_or(usize::MAX))?;
    let depth = match (&bands, count) {
        (Some(bands), _) => bands.len(),
        (None, Some(count)) => count,
        // Without a source there is nothing but gaps, as deep as `out` is.
        (None, None) => depth_of(out, layout)?,
    };
    let Window { height, width, .. } = target.window;
    let mut out = Written::take(out, out_scales, layout, [height, width, depth])?;
    let mut origin = origin
        .map(|origin| Output::<i16>::take("origin", origin, &[height, width]))
        .transpose()?;
    let mut inputs: Vec<&dyn Extent> = taken.iter().flat_map(Taken::extents).collect();
    inputs.extend(lonlat.as_ref().map(|lattice| &lattice.nodes as &dyn Extent));
    out.refuse_overlap(&inputs)?;
    if let Some(origin) = &origin {
        origin.refuse_overlap(&inputs)?;
        origin.refuse_overlap(&out.extents())?;
    }

    let mosaic = Mosaic {
        sources: &views,
        target,
        method: parse_method(method)?,
        bands: bands.as_deref(),
    };
    let outputs = Outputs {
        values: out.view(layout)?,
        origin: origin.as_mut().map(Output::view).transpose()?,
    };
    py.detach(|| mosaic.render(outputs)).map_err(to_py)
}

fn depth_of(out: &Bound<'_, PyAny>, layout: Layout) -> PyResult<usize> {
    let shape: Vec<usize> = out.getattr("shape")?.extract()?;
    let axis = if layout == Layout::Hwc { 2 } else { 0 };
    shape.get(axis).copied().ok_or_else(|| {
        PyValueError::new_err(format!("out must have 3 dimensions, found shape {shape:?}"))
    })
}
