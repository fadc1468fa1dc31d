//! Views that are read.

use std::marker::PhantomData;
use std::ops::Range;

use super::geometry::geometry;
use super::size::{contiguous, count, inside, offset, reach};
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

// SAFETY: a view is a `&[T]` with strides.
unsafe impl<T: Sync, const N: usize> Send for View<'_, T, N> {}
// SAFETY: as above.
unsafe impl<T: Sync, const N: usize> Sync for View<'_, T, N> {}

impl<T, const N: usize> Clone for View<'_, T, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const N: usize> Copy for View<'_, T, N> {}

geometry!(View);

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

    /// The first element; dangling when the view is empty.
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self.ptr
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

    /// All elements as one slice, when they are in C order without gaps.
    pub fn as_contiguous(&self) -> Option<&'a [T]> {
        if self.is_empty() {
            return Some(&[]);
        }
        // SAFETY: the elements are initialised and exactly this slice.
        self.is_contiguous()
            .then(|| unsafe { std::slice::from_raw_parts(self.ptr, self.len()) })
    }

    /// The address of an element.
    ///
    /// # Safety
    /// `index` is inside the shape.
    #[inline(always)]
    pub unsafe fn ptr_at(&self, index: [usize; N]) -> *const T {
        debug_assert!(self.holds(index));
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
        // SAFETY: checked right here.
        self.holds(index)
            .then(|| unsafe { self.get_unchecked(index) })
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
    /// The lane as a raster of one column.
    pub fn column(&self) -> View2<'a, T> {
        View {
            ptr: self.ptr,
            shape: [self.shape[0], 1],
            strides: [self.strides[0], 0],
            lifetime: PhantomData,
        }
    }

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
    /// Rows of bands as a raster of one column.
    pub fn column(&self) -> View3<'a, T> {
        View {
            ptr: self.ptr,
            shape: [self.shape[0], 1, self.shape[1]],
            strides: [self.strides[0], 0, self.strides[1]],
            lifetime: PhantomData,
        }
    }

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
