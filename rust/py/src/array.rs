//! NumPy arrays in and out: checked views of arguments, uninitialised results.
//!
//! Arguments are refused with the argument's name and what was found; nothing is
//! converted or copied. Views hold rust-numpy's borrow while the GIL is released.

use std::ops::Range;

use geotessera_core::Error;
use geotessera_core::view::{self, View, ViewMut};
use numpy::npyffi::{NpyTypes, PY_ARRAY_API, get_type_object};
use numpy::prelude::*;
use numpy::{
    Element, PyArrayDescr, PyArrayDyn, PyReadonlyArrayDyn, PyReadwriteArrayDyn, PyUntypedArray,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use crate::error::{band_error, to_py};

/// Order of the axes in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// (rows, columns, bands)
    Hwc,
    /// (bands, rows, columns)
    Chw,
}

impl Layout {
    /// Reads `"hwc"` or `"chw"`.
    pub fn parse(name: &str, text: &str) -> PyResult<Self> {
        match text {
            "hwc" => Ok(Self::Hwc),
            "chw" => Ok(Self::Chw),
            _ => Err(PyValueError::new_err(format!(
                "{name} must be 'hwc' or 'chw', found {text:?}"
            ))),
        }
    }

    /// The permutation that makes an array of this layout (rows, columns, bands).
    pub fn to_pixels(self) -> [usize; 3] {
        match self {
            Self::Hwc => [0, 1, 2],
            Self::Chw => [1, 2, 0],
        }
    }

    /// The shape that (rows, columns, bands) has in this layout.
    pub fn shape(self, [rows, cols, bands]: [usize; 3]) -> [usize; 3] {
        match self {
            Self::Hwc => [rows, cols, bands],
            Self::Chw => [bands, rows, cols],
        }
    }
}

/// An array that a kernel reads.
pub struct Input<'py, T: Element> {
    name: &'static str,
    array: Bound<'py, PyArrayDyn<T>>,
    _borrow: Option<PyReadonlyArrayDyn<'py, T>>,
}

/// An array that a kernel writes.
pub struct Output<'py, T: Element> {
    name: &'static str,
    object: Bound<'py, PyAny>,
    array: Bound<'py, PyArrayDyn<T>>,
    _borrow: Option<PyReadwriteArrayDyn<'py, T>>,
}

/// Where an array's elements lie, in addresses; for the overlap check.
pub trait Extent {
    /// The name of the argument.
    fn name(&self) -> &'static str;
    /// First address and the address after the last; empty for an empty array.
    fn extent(&self) -> Range<usize>;
}

/// Checks type and number of axes, and makes a view that no other thread can reshape.
fn adopt<'py, T: Element>(
    name: &'static str,
    object: &Bound<'py, PyAny>,
    ndims: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let py = object.py();
    let untyped = object.cast::<PyUntypedArray>().map_err(|_| {
        PyTypeError::new_err(format!(
            "{name} must be a NumPy array, found {}",
            class_name(object)
        ))
    })?;
    let array = object.cast::<PyArrayDyn<T>>().map_err(|_| {
        PyTypeError::new_err(format!(
            "{name} must be an array of {}, found dtype {} and shape {:?}",
            T::get_dtype(py),
            untyped.dtype(),
            untyped.shape(),
        ))
    })?;
    if !ndims.contains(&array.ndim()) {
        let wanted: Vec<String> = ndims.iter().map(ToString::to_string).collect();
        return Err(PyValueError::new_err(format!(
            "{name} must have {} dimensions, found shape {:?}",
            wanted.join(" or "),
            array.shape(),
        )));
    }
    if !array.is_aligned() {
        return Err(PyValueError::new_err(format!(
            "{name} is not aligned in memory (shape {:?}); pass a copy",
            array.shape(),
        )));
    }
    // SAFETY: a null dtype keeps the array's own; the result is a new reference or null.
    unsafe {
        let view = PY_ARRAY_API.PyArray_View(
            py,
            array.as_array_ptr(),
            std::ptr::null_mut(),
            get_type_object(py, NpyTypes::PyArray_Type),
        );
        Ok(Bound::from_owned_ptr_or_err(py, view)?.cast_into_unchecked())
    }
}

/// Shape and element strides as arrays of the length that the kernel wants.
fn dims<T: Element, const N: usize>(
    name: &str,
    array: &Bound<'_, PyArrayDyn<T>>,
) -> PyResult<([usize; N], [isize; N])> {
    let wrong = || {
        PyValueError::new_err(format!(
            "{name} must have {N} dimensions, found {:?}",
            array.shape()
        ))
    };
    let shape: [usize; N] = array.shape().try_into().map_err(|_| wrong())?;
    let bytes: [isize; N] = array.strides().try_into().map_err(|_| wrong())?;
    let size = size_of::<T>() as isize;
    let mut strides = [0; N];
    for axis in 0..N {
        // An axis of one element may carry any stride; NumPy leaves it as it was made.
        if shape[axis] > 1 {
            if bytes[axis] % size != 0 {
                return Err(PyValueError::new_err(format!(
                    "{name}: strides {bytes:?} are not multiples of the item size {size}"
                )));
            }
            strides[axis] = bytes[axis] / size;
        }
    }
    Ok((shape, strides))
}

fn extent<T: Element>(array: &Bound<'_, PyArrayDyn<T>>) -> Range<usize> {
    let start = array.data() as usize;
    if array.shape().contains(&0) {
        return start..start;
    }
    let (mut low, mut high) = (start, start);
    for (&len, &stride) in array.shape().iter().zip(array.strides()) {
        let step = stride.wrapping_mul(len as isize - 1);
        let end = if step < 0 { &mut low } else { &mut high };
        *end = end.saturating_add_signed(step);
    }
    low..high.saturating_add(size_of::<T>())
}

/// Whether rust-numpy can track the array: it divides by the common divisor of the strides,
/// which is zero for an array of one repeated element.
fn trackable<T: Element>(array: &Bound<'_, PyArrayDyn<T>>) -> bool {
    !array.shape().contains(&0) && array.strides().iter().any(|&stride| stride != 0)
}

fn class_name(object: &Bound<'_, PyAny>) -> String {
    object
        .get_type()
        .name()
        .map_or("object".into(), |name| name.to_string())
}

impl<'py, T: Element> Input<'py, T> {
    /// Takes an argument with one of the given numbers of axes.
    pub fn take(name: &'static str, object: &Bound<'py, PyAny>, ndims: &[usize]) -> PyResult<Self> {
        let array = adopt::<T>(name, object, ndims)?;
        let borrow = trackable(&array)
            .then(|| array.try_readonly())
            .transpose()
            .map_err(|_| {
                PyValueError::new_err(format!("{name} is being written by another call"))
            })?;
        Ok(Self {
            name,
            array,
            _borrow: borrow,
        })
    }

    /// The array's shape.
    pub fn shape(&self) -> &[usize] {
        self.array.shape()
    }

    /// The array as a view with `N` axes.
    pub fn view<const N: usize>(&self) -> PyResult<View<'_, T, N>> {
        let (shape, strides) = dims(self.name, &self.array)?;
        // SAFETY: NumPy owns aligned, initialised memory for this shape; `self` keeps it alive
        // and borrowed. Python code that writes it meanwhile races as it would with NumPy.
        unsafe { View::from_raw(self.name, self.array.data(), shape, strides) }.map_err(to_py)
    }
}

impl<'py, T: Element> Output<'py, T> {
    /// Takes a writable argument of exactly this shape.
    pub fn take(name: &'static str, object: &Bound<'py, PyAny>, shape: &[usize]) -> PyResult<Self> {
        let array = adopt::<T>(name, object, &[shape.len()])?;
        if array.shape() != shape {
            return Err(to_py(Error::Shape {
                what: name,
                expected: shape.to_vec(),
                found: array.shape().to_vec(),
            }));
        }
        if !array.getattr("flags")?.getattr("writeable")?.is_truthy()? {
            return Err(PyValueError::new_err(format!("{name} is read-only")));
        }
        let borrow = trackable(&array)
            .then(|| array.try_readwrite())
            .transpose()
            .map_err(|_| {
                PyValueError::new_err(format!(
                    "{name} overlaps an input or is in use by another call"
                ))
            })?;
        Ok(Self {
            name,
            object: object.clone(),
            array,
            _borrow: borrow,
        })
    }

    /// Allocates an uninitialised C-contiguous array.
    ///
    /// NumPy allocates, because its large blocks ask for huge pages: faulting those in is
    /// several times faster than 4 KiB pages, and it is most of the cost of a fresh result.
    pub fn fresh(py: Python<'py>, name: &'static str, shape: &[usize]) -> PyResult<Self> {
        view::count::<T>(name, shape).map_err(to_py)?;
        let mut dims: Vec<isize> = shape.iter().map(|&len| len as isize).collect();
        // SAFETY: `dims` holds `shape.len()` lengths; a null result is an exception (out of
        // memory), which rust-numpy's own constructors would turn into a panic.
        let array: Bound<'py, PyArrayDyn<T>> = unsafe {
            let made = PY_ARRAY_API.PyArray_NewFromDescr(
                py,
                get_type_object(py, NpyTypes::PyArray_Type),
                T::get_dtype(py).into_dtype_ptr(),
                dims.len() as _,
                dims.as_mut_ptr(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                0,
                std::ptr::null_mut(),
            );
            Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked()
        };
        // Nobody else has seen the array: there is nothing to borrow.
        Ok(Self {
            name,
            object: array.clone().into_any(),
            array,
            _borrow: None,
        })
    }

    /// `out` where the caller gave one, else a fresh array.
    pub fn take_or_fresh(
        py: Python<'py>,
        name: &'static str,
        object: Option<&Bound<'py, PyAny>>,
        shape: &[usize],
    ) -> PyResult<Self> {
        match object {
            Some(object) => Self::take(name, object, shape),
            None => Self::fresh(py, name, shape),
        }
    }

    /// The array's shape.
    pub fn shape(&self) -> &[usize] {
        self.array.shape()
    }

    /// The array as a mutable view with `N` axes.
    pub fn view<const N: usize>(&mut self) -> PyResult<ViewMut<'_, T, N>> {
        let (shape, strides) = dims(self.name, &self.array)?;
        // SAFETY: NumPy owns aligned memory for this shape; `self` keeps it alive and borrowed
        // for writing, and the binding has refused overlap with its inputs.
        unsafe { ViewMut::from_raw(self.name, self.array.data(), shape, strides) }.map_err(to_py)
    }

    /// Refuses an output that shares memory with an input or another output.
    pub fn refuse_overlap(&self, others: &[&dyn Extent]) -> PyResult<()> {
        let mine = self.extent();
        for other in others {
            let theirs = other.extent();
            let empty = mine.is_empty() || theirs.is_empty();
            if !empty && mine.start < theirs.end && theirs.start < mine.end {
                return Err(PyValueError::new_err(format!(
                    "{} overlaps {} in memory",
                    self.name,
                    other.name()
                )));
            }
        }
        Ok(())
    }

    /// What the caller gave as `out`, or the fresh array.
    pub fn into_object(self) -> Bound<'py, PyAny> {
        self.object
    }
}

impl<T: Element> Extent for Input<'_, T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn extent(&self) -> Range<usize> {
        extent(&self.array)
    }
}

impl<T: Element> Extent for Output<'_, T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn extent(&self) -> Range<usize> {
        extent(&self.array)
    }
}

/// The dtype of an argument that may have several, or a `TypeError`.
pub fn dtype_of<'py>(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDescr>> {
    match object.cast::<PyUntypedArray>() {
        Ok(array) => Ok(array.dtype()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "{name} must be a NumPy array, found {}",
            class_name(object)
        ))),
    }
}

/// Reads zero-based bands of any integral type against a raster of `count` bands.
///
/// `True` is integral to Python, but a list of booleans is a mask in NumPy: refused.
pub fn bands(object: Option<&Bound<'_, PyAny>>, count: usize) -> PyResult<Option<Vec<usize>>> {
    let Some(object) = object else {
        return Ok(None);
    };
    let wrong = |found: &Bound<'_, PyAny>| {
        PyTypeError::new_err(format!(
            "bands must be a sequence of integers, found {}",
            class_name(found)
        ))
    };
    if object.is_instance_of::<PyString>() {
        return Err(wrong(object));
    }
    let mut found = Vec::new();
    for item in object.try_iter().map_err(|_| wrong(object))? {
        let item = item?;
        if item.is_instance_of::<PyBool>() {
            return Err(wrong(&item));
        }
        let index = item.call_method0("__index__").map_err(|_| wrong(&item))?;
        match index
            .extract::<i64>()
            .ok()
            .and_then(|band| usize::try_from(band).ok())
        {
            Some(band) if band < count => found.push(band),
            _ => {
                return Err(band_error(&format!(
                    "band {index} is out of range: the raster has {count} bands, counted from 0"
                )));
            }
        }
    }
    Ok(Some(found))
}
