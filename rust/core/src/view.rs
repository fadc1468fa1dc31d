//! Strided views of arrays that somebody else owns, and all arithmetic on sizes.
//!
//! A view may be non-contiguous: strides are in elements and may be negative, and
//! in a read-only view zero. Kernels see pixels as (row, column, band), whatever
//! the order in memory: the caller permutes. Every constructor proves that shape
//! and strides stay inside memory and inside `isize`, so no kernel checks again.

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::error::{Error, Result};

/// A read-only strided view.
pub struct View<'a, T, const N: usize> {
    ptr: *const T,
    shape: [usize; N],
    strides: [isize; N],
    lifetime: PhantomData<&'a [T]>,
}

/// One lane of an array.
pub type View1<'a, T> = View<'a, T, 1>;
/// One number a pixel: (row, column).
pub type View2<'a, T> = View<'a, T, 2>;
/// Pixels with bands: (row, column, band).
pub type View3<'a, T> = View<'a, T, 3>;

/// A strided view that is written only; no two of its elements share memory.
pub struct ViewMut<'a, T, const N: usize> {
    ptr: *mut T,
    shape: [usize; N],
    strides: [isize; N],
    lifetime: PhantomData<&'a mut [MaybeUninit<T>]>,
}

/// Writable rows of numbers.
pub type ViewMut2<'a, T> = ViewMut<'a, T, 2>;
/// Writable pixels with bands: (row, column, band).
pub type ViewMut3<'a, T> = ViewMut<'a, T, 3>;

// SAFETY: a view is a `&[T]` with strides.
unsafe impl<T: Sync, const N: usize> Send for View<'_, T, N> {}
// SAFETY: as above.
unsafe impl<T: Sync, const N: usize> Sync for View<'_, T, N> {}
// SAFETY: a mutable view is a `&mut [MaybeUninit<T>]` with strides.
unsafe impl<T: Send, const N: usize> Send for ViewMut<'_, T, N> {}
// SAFETY: a shared reference to a mutable view gives no access to elements.
unsafe impl<T: Sync, const N: usize> Sync for ViewMut<'_, T, N> {}

impl<T, const N: usize> Clone for View<'_, T, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const N: usize> Copy for View<'_, T, N> {}

impl<T, const N: usize> fmt::Debug for View<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "View {{ shape: {:?}, strides: {:?} }}",
            self.shape, self.strides
        )
    }
}

impl<T, const N: usize> fmt::Debug for ViewMut<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ViewMut {{ shape: {:?}, strides: {:?} }}",
            self.shape, self.strides
        )
    }
}

/// How many elements an array of `shape` has, when `T`s of that number can be addressed.
pub fn count<T>(what: &'static str, shape: &[usize]) -> Result<usize> {
    let limit = isize::MAX as usize / size_of::<T>().max(1);
    // An axis of length zero makes the array empty, however long the others are.
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1usize, |n, &len| n.checked_mul(len))
        .filter(|&n| n <= limit)
        .ok_or_else(|| Error::TooLarge {
            what,
            shape: shape.to_vec(),
        })
}

/// The strides of a C-contiguous array, in elements.
pub fn contiguous<T, const N: usize>(what: &'static str, shape: [usize; N]) -> Result<[isize; N]> {
    count::<T>(what, &shape)?;
    let mut strides = [0; N];
    let mut step = 1isize;
    for axis in (0..N).rev() {
        strides[axis] = step;
        // Saturates only in an empty array, whose strides are never used.
        step = step.saturating_mul(isize::try_from(shape[axis]).unwrap_or(isize::MAX));
    }
    Ok(strides)
}

/// The lowest and the highest element offset, or `None` when there is no element.
fn reach<T, const N: usize>(
    what: &'static str,
    shape: [usize; N],
    strides: [isize; N],
) -> Result<Option<(isize, isize)>> {
    let too_large = || Error::TooLarge {
        what,
        shape: shape.to_vec(),
    };
    if count::<T>(what, &shape)? == 0 {
        return Ok(None);
    }
    let (mut low, mut high) = (0isize, 0isize);
    for (&len, stride) in shape.iter().zip(strides) {
        let last = isize::try_from(len - 1).map_err(|_| too_large())?;
        let offset = last.checked_mul(stride).ok_or_else(too_large)?;
        let end = if offset < 0 { &mut low } else { &mut high };
        *end = end.checked_add(offset).ok_or_else(too_large)?;
    }
    let bytes = high.checked_sub(low).and_then(|n| n.checked_add(1));
    match bytes.and_then(|n| n.checked_mul(size_of::<T>().max(1) as isize)) {
        Some(_) => Ok(Some((low, high))),
        None => Err(too_large()),
    }
}

/// Whether no two indices meet at one element: each stride steps over all smaller ones.
///
/// Sufficient, not necessary; true of every slice and transpose of an ordinary array.
fn injective<const N: usize>(shape: [usize; N], strides: [isize; N]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut axes: Vec<(usize, usize)> = shape
        .iter()
        .zip(strides)
        .filter(|&(&len, _)| len > 1)
        .map(|(&len, stride)| (stride.unsigned_abs(), len))
        .collect();
    axes.sort_unstable();
    let mut covered = 0usize;
    axes.iter().all(|&(stride, len)| {
        let clear = stride > covered;
        covered = covered.saturating_add(stride.saturating_mul(len - 1));
        clear
    })
}

/// Checks that the elements at `offset` + reach lie in a slice of `len` elements.
fn inside<T, const N: usize>(
    what: &'static str,
    len: usize,
    offset: usize,
    shape: [usize; N],
    strides: [isize; N],
) -> Result<()> {
    let Some((low, high)) = reach::<T, N>(what, shape, strides)? else {
        return Ok(());
    };
    let first = offset.checked_add_signed(low);
    let last = offset.checked_add_signed(high);
    match (first, last) {
        (Some(_), Some(last)) if last < len => Ok(()),
        _ => Err(Error::Argument(format!(
            "{what}: shape {shape:?} with strides {strides:?} from element {offset} does not fit \
             {len} elements"
        ))),
    }
}

/// Where the element at `index` lies; the constructors proved that this does not overflow.
#[inline(always)]
fn offset<const N: usize>(index: [usize; N], strides: [isize; N]) -> isize {
    let mut sum = 0;
    for axis in 0..N {
        sum += index[axis] as isize * strides[axis];
    }
    sum
}

impl<'a, T, const N: usize> View<'a, T, N> {
    /// A C-contiguous view of a whole slice.
    pub fn new(what: &'static str, data: &'a [T], shape: [usize; N]) -> Result<Self> {
        if count::<T>(what, &shape)? != data.len() {
            return Err(Error::Shape {
                what,
                expected: shape.to_vec(),
                found: vec![data.len()],
            });
        }
        Self::strided(what, data, 0, shape, contiguous::<T, N>(what, shape)?)
    }

    /// A view whose first element is `data[offset]`.
    pub fn strided(
        what: &'static str,
        data: &'a [T],
        offset: usize,
        shape: [usize; N],
        strides: [isize; N],
    ) -> Result<Self> {
        inside::<T, N>(what, data.len(), offset, shape, strides)?;
        Ok(Self {
            ptr: data.as_ptr().wrapping_add(offset),
            shape,
            strides,
            lifetime: PhantomData,
        })
    }

    /// A view of foreign memory.
    ///
    /// # Safety
    /// `ptr` is aligned, and every element that `shape` and `strides` reach from it is
    /// initialised, inside one allocation and not written during `'a`. An empty array
    /// may have any pointer.
    pub unsafe fn from_raw(
        what: &'static str,
        ptr: *const T,
        shape: [usize; N],
        strides: [isize; N],
    ) -> Result<Self> {
        reach::<T, N>(what, shape, strides)?;
        Ok(Self {
            ptr,
            shape,
            strides,
            lifetime: PhantomData,
        })
    }

    /// Length of each axis.
    #[inline]
    pub fn shape(&self) -> [usize; N] {
        self.shape
    }

    /// Elements from one index to the next, for each axis.
    #[inline]
    pub fn strides(&self) -> [isize; N] {
        self.strides
    }

    /// How many elements there are (the constructors proved that this fits).
    pub fn len(&self) -> usize {
        if self.is_empty() {
            0
        } else {
            self.shape.iter().product()
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The first element; dangling when the view is empty.
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self.ptr
    }

    /// Whether consecutive indices along `axis` are neighbours in memory.
    #[inline]
    pub fn is_dense(&self, axis: usize) -> bool {
        self.strides[axis] == 1 || self.shape[axis] <= 1
    }

    /// The same elements with the axes in another order, as `numpy.transpose`.
    ///
    /// # Panics
    /// When `axes` is not a permutation: a bug of the caller, never input.
    pub fn permute(self, axes: [usize; N]) -> Self {
        let mut seen = [false; N];
        axes.iter().for_each(|&axis| seen[axis] = true);
        assert!(seen.iter().all(|&s| s), "{axes:?} is not a permutation");
        Self {
            shape: axes.map(|axis| self.shape[axis]),
            strides: axes.map(|axis| self.strides[axis]),
            ..self
        }
    }

    /// The part with indices `range` along `axis`.
    ///
    /// # Panics
    /// When the range lies outside the axis.
    pub fn slice(mut self, axis: usize, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.shape[axis]);
        if range.start < self.shape[axis] {
            // Inside the array, or inside an empty one, whose pointer is never read.
            self.ptr = self
                .ptr
                .wrapping_offset((range.start as isize).wrapping_mul(self.strides[axis]));
        }
        self.shape[axis] = range.len();
        self
    }

    /// The elements `start`, `start + step`, … along `axis`, `len` of them; `step` may be zero
    /// or negative.
    ///
    /// # Panics
    /// When one of them lies outside the axis.
    pub fn stepped(mut self, axis: usize, start: usize, step: isize, len: usize) -> Self {
        let count = self.shape[axis];
        if len > 0 {
            let last = (len as isize - 1)
                .checked_mul(step)
                .and_then(|n| start.checked_add_signed(n));
            assert!(start < count && last.is_some_and(|n| n < count));
            self = self.slice(axis, start..count);
        }
        self.shape[axis] = len;
        // Wraps only where len <= 1, where the stride is never used.
        self.strides[axis] = self.strides[axis].wrapping_mul(step);
        self
    }

    /// The address of an element.
    ///
    /// # Safety
    /// `index` is inside the shape.
    #[inline(always)]
    pub unsafe fn ptr_at(&self, index: [usize; N]) -> *const T {
        debug_assert!(index.iter().zip(self.shape).all(|(&i, len)| i < len));
        // SAFETY: the constructor proved that the element is inside the allocation.
        unsafe { self.ptr.offset(offset(index, self.strides)) }
    }

    /// An element, unchecked.
    ///
    /// # Safety
    /// `index` is inside the shape.
    #[inline(always)]
    pub unsafe fn get_unchecked(&self, index: [usize; N]) -> T
    where
        T: Copy,
    {
        // SAFETY: by the caller's promise; the elements are initialised.
        unsafe { *self.ptr_at(index) }
    }

    /// An element, or `None` outside the shape.
    #[inline]
    pub fn get(&self, index: [usize; N]) -> Option<T>
    where
        T: Copy,
    {
        let inside = index.iter().zip(self.shape).all(|(&i, len)| i < len);
        // SAFETY: checked in the line above.
        inside.then(|| unsafe { self.get_unchecked(index) })
    }

    /// An element.
    ///
    /// # Panics
    /// When `index` is outside the shape.
    #[inline]
    #[track_caller]
    pub fn at(&self, index: [usize; N]) -> T
    where
        T: Copy,
    {
        match self.get(index) {
            Some(value) => value,
            None => panic!("index {index:?} is outside shape {:?}", self.shape),
        }
    }
}

impl<'a, T> View1<'a, T> {
    /// The lane as a slice, when its elements are neighbours.
    #[inline]
    pub fn as_slice(&self) -> Option<&'a [T]> {
        if self.is_empty() {
            return Some(&[]);
        }
        // SAFETY: the view's elements are initialised and, with stride 1, exactly this slice.
        self.is_dense(0)
            .then(|| unsafe { std::slice::from_raw_parts(self.ptr, self.shape[0]) })
    }
}

impl<'a, T> View2<'a, T> {
    /// One lane along the second axis.
    ///
    /// # Panics
    /// When `row` is outside the shape.
    #[inline]
    #[track_caller]
    pub fn row(&self, row: usize) -> View1<'a, T> {
        assert!(
            row < self.shape[0],
            "row {row} is outside shape {:?}",
            self.shape
        );
        View {
            ptr: self
                .ptr
                .wrapping_offset((row as isize).wrapping_mul(self.strides[0])),
            shape: [self.shape[1]],
            strides: [self.strides[1]],
            lifetime: PhantomData,
        }
    }

    /// The same number for each of `bands` bands: a third axis of stride zero.
    pub fn stretch(&self, what: &'static str, bands: usize) -> Result<View3<'a, T>> {
        let shape = [self.shape[0], self.shape[1], bands];
        count::<T>(what, &shape)?;
        let strides = [self.strides[0], self.strides[1], 0];
        Ok(View {
            ptr: self.ptr,
            shape,
            strides,
            lifetime: PhantomData,
        })
    }
}

impl<'a, T> View3<'a, T> {
    /// The bands of one pixel.
    ///
    /// # Panics
    /// When the pixel is outside the shape.
    #[inline]
    #[track_caller]
    pub fn pixel(&self, row: usize, col: usize) -> View1<'a, T> {
        let inside = row < self.shape[0] && col < self.shape[1];
        assert!(
            inside,
            "pixel ({row}, {col}) is outside shape {:?}",
            self.shape
        );
        let [down, right, band] = self.strides;
        let step = (row as isize)
            .wrapping_mul(down)
            .wrapping_add((col as isize).wrapping_mul(right));
        View {
            ptr: self.ptr.wrapping_offset(step),
            shape: [self.shape[2]],
            strides: [band],
            lifetime: PhantomData,
        }
    }
}

impl<'a, T, const N: usize> ViewMut<'a, T, N> {
    /// A C-contiguous view of a whole slice.
    pub fn new(
        what: &'static str,
        data: &'a mut [MaybeUninit<T>],
        shape: [usize; N],
    ) -> Result<Self> {
        if count::<T>(what, &shape)? != data.len() {
            return Err(Error::Shape {
                what,
                expected: shape.to_vec(),
                found: vec![data.len()],
            });
        }
        Self::strided(what, data, 0, shape, contiguous::<T, N>(what, shape)?)
    }

    /// A view whose first element is `data[offset]`; overlapping elements are refused.
    pub fn strided(
        what: &'static str,
        data: &'a mut [MaybeUninit<T>],
        offset: usize,
        shape: [usize; N],
        strides: [isize; N],
    ) -> Result<Self> {
        inside::<T, N>(what, data.len(), offset, shape, strides)?;
        let ptr = data.as_mut_ptr().cast::<T>().wrapping_add(offset);
        // SAFETY: the slice is borrowed mutably for 'a and the elements lie in it.
        unsafe { Self::from_raw(what, ptr, shape, strides) }
    }

    /// A view of foreign memory; overlapping elements are refused.
    ///
    /// # Safety
    /// `ptr` is aligned, and every element that `shape` and `strides` reach from it is
    /// inside one allocation, and neither read nor written by anyone else during `'a`.
    /// An empty array may have any pointer.
    pub unsafe fn from_raw(
        what: &'static str,
        ptr: *mut T,
        shape: [usize; N],
        strides: [isize; N],
    ) -> Result<Self> {
        reach::<T, N>(what, shape, strides)?;
        if !injective(shape, strides) {
            return Err(Error::Argument(format!(
                "{what}: elements of shape {shape:?} with strides {strides:?} share memory and \
                 cannot be written"
            )));
        }
        Ok(Self {
            ptr,
            shape,
            strides,
            lifetime: PhantomData,
        })
    }

    /// Length of each axis.
    #[inline]
    pub fn shape(&self) -> [usize; N] {
        self.shape
    }

    /// Elements from one index to the next, for each axis.
    #[inline]
    pub fn strides(&self) -> [isize; N] {
        self.strides
    }

    /// How many elements there are (the constructors proved that this fits).
    pub fn len(&self) -> usize {
        if self.is_empty() {
            0
        } else {
            self.shape.iter().product()
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The first element; dangling when the view is empty.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr
    }

    /// Whether consecutive indices along `axis` are neighbours in memory.
    #[inline]
    pub fn is_dense(&self, axis: usize) -> bool {
        self.strides[axis] == 1 || self.shape[axis] <= 1
    }

    /// The same elements with the axes in another order, as `numpy.transpose`.
    ///
    /// # Panics
    /// When `axes` is not a permutation: a bug of the caller, never input.
    pub fn permute(self, axes: [usize; N]) -> Self {
        let mut seen = [false; N];
        axes.iter().for_each(|&axis| seen[axis] = true);
        assert!(seen.iter().all(|&s| s), "{axes:?} is not a permutation");
        Self {
            shape: axes.map(|axis| self.shape[axis]),
            strides: axes.map(|axis| self.strides[axis]),
            ..self
        }
    }

    /// Two disjoint parts: before index `mid` of `axis`, and from it on.
    ///
    /// # Panics
    /// When `mid` is past the end.
    pub fn split_at(self, axis: usize, mid: usize) -> (Self, Self) {
        assert!(mid <= self.shape[axis]);
        let mut tail = Self { ..self };
        if mid < tail.shape[axis] {
            tail.ptr = tail
                .ptr
                .wrapping_offset((mid as isize).wrapping_mul(tail.strides[axis]));
        }
        tail.shape[axis] -= mid;
        let mut head = self;
        head.shape[axis] = mid;
        (head, tail)
    }

    /// Disjoint parts of at most `size` indices of `axis` each, in order.
    ///
    /// # Panics
    /// When `size` is zero.
    pub fn chunks(self, axis: usize, size: usize) -> Vec<Self> {
        assert!(size > 0);
        let mut parts = Vec::with_capacity(self.shape[axis].div_ceil(size));
        let mut rest = self;
        while rest.shape[axis] > size {
            let (head, tail) = rest.split_at(axis, size);
            parts.push(head);
            rest = tail;
        }
        if rest.shape[axis] > 0 {
            parts.push(rest);
        }
        parts
    }

    /// The address of an element.
    ///
    /// # Safety
    /// `index` is inside the shape.
    #[inline(always)]
    pub unsafe fn ptr_at(&mut self, index: [usize; N]) -> *mut T {
        debug_assert!(index.iter().zip(self.shape).all(|(&i, len)| i < len));
        // SAFETY: the constructor proved that the element is inside the allocation.
        unsafe { self.ptr.offset(offset(index, self.strides)) }
    }

    /// Writes an element.
    ///
    /// # Panics
    /// When `index` is outside the shape.
    #[inline]
    #[track_caller]
    pub fn set(&mut self, index: [usize; N], value: T) {
        let inside = index.iter().zip(self.shape).all(|(&i, len)| i < len);
        assert!(inside, "index {index:?} is outside shape {:?}", self.shape);
        // SAFETY: checked in the line above; `self` has sole access.
        unsafe { self.ptr_at(index).write(value) }
    }
}

impl<T> ViewMut2<'_, T> {
    /// One row as a slice, when its elements are neighbours.
    ///
    /// # Panics
    /// When `row` is outside the shape.
    #[inline]
    #[track_caller]
    pub fn row(&mut self, row: usize) -> Option<&mut [MaybeUninit<T>]> {
        assert!(
            row < self.shape[0],
            "row {row} is outside shape {:?}",
            self.shape
        );
        if self.shape[1] == 0 {
            return Some(&mut []);
        }
        let dense = self.is_dense(1);
        // SAFETY: row and column 0 exist; with stride 1 the row is exactly this slice, and
        // rows do not overlap.
        dense.then(|| unsafe {
            std::slice::from_raw_parts_mut(self.ptr_at([row, 0]).cast(), self.shape[1])
        })
    }
}

/// The pixels of a raster, (row, column, band), as they are stored.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// Quantised: the value is `f32(q) * scale`.
    I8 {
        /// Quantised values.
        q: View3<'a, i8>,
        /// Scales; band stride zero where a pixel has one scale.
        scales: View3<'a, f32>,
    },
    /// Values as they are.
    F32 {
        /// Values.
        values: View3<'a, f32>,
        /// The value that means "no data", beside NaN.
        nodata: Option<f32>,
    },
}

impl<'a> Pixels<'a> {
    /// Quantised pixels; both views must have one shape.
    pub fn quantized(q: View3<'a, i8>, scales: View3<'a, f32>) -> Result<Self> {
        if q.shape() != scales.shape() {
            return Err(Error::Shape {
                what: "scales",
                expected: q.shape().to_vec(),
                found: scales.shape().to_vec(),
            });
        }
        Ok(Self::I8 { q, scales })
    }

    /// (rows, columns, bands).
    #[inline]
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::I8 { q, .. } => q.shape(),
            Self::F32 { values, .. } => values.shape(),
        }
    }
}

/// Checks zero-based bands against a raster of `count` bands.
pub fn check_bands(bands: &[usize], count: usize) -> Result<()> {
    match bands.iter().find(|&&band| band >= count) {
        None => Ok(()),
        Some(&band) => Err(Error::Band {
            band: i64::try_from(band).unwrap_or(i64::MAX),
            count,
        }),
    }
}
