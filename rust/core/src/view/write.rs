//! Views that are written.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::geometry::geometry;
use super::size::{contiguous, count, injective, inside, offset, reach};
use crate::error::{Error, Result};

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

// SAFETY: a mutable view is a `&mut [MaybeUninit<T>]` with strides.
unsafe impl<T: Send, const N: usize> Send for ViewMut<'_, T, N> {}
// SAFETY: a shared reference to a mutable view gives no access to elements.
unsafe impl<T: Sync, const N: usize> Sync for ViewMut<'_, T, N> {}

geometry!(ViewMut);

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

    /// The first element; dangling when the view is empty.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr
    }

    /// The same view, borrowed for a while.
    pub fn reborrow(&mut self) -> ViewMut<'_, T, N> {
        ViewMut {
            ptr: self.ptr,
            shape: self.shape,
            strides: self.strides,
            lifetime: PhantomData,
        }
    }

    /// The part with indices `range` along `axis`.
    ///
    /// # Panics
    /// When the range lies outside the axis.
    pub fn slice(self, axis: usize, range: Range<usize>) -> Self {
        let (_, tail) = self.split_at(axis, range.start);
        tail.split_at(axis, range.len()).0
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

    /// All elements as one slice, when they are in C order without gaps.
    pub fn into_slice(self) -> Option<&'a mut [MaybeUninit<T>]> {
        if self.is_empty() {
            return Some(&mut []);
        }
        // SAFETY: the elements are exactly this slice, and `self` had sole access for 'a.
        self.is_contiguous()
            .then(|| unsafe { std::slice::from_raw_parts_mut(self.ptr.cast(), self.len()) })
    }

    /// The address of an element.
    ///
    /// # Safety
    /// `index` is inside the shape.
    #[inline(always)]
    pub unsafe fn ptr_at(&mut self, index: [usize; N]) -> *mut T {
        debug_assert!(self.holds(index));
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
        assert!(
            self.holds(index),
            "index {index:?} is outside shape {:?}",
            self.shape
        );
        // SAFETY: checked above; `self` has sole access.
        unsafe { self.ptr_at(index).write(value) }
    }
}

impl<'a, T> ViewMut2<'a, T> {
    /// The same elements with a third axis of length one.
    pub fn deepen(self) -> ViewMut3<'a, T> {
        ViewMut {
            ptr: self.ptr,
            shape: [self.shape[0], self.shape[1], 1],
            strides: [self.strides[0], self.strides[1], 0],
            lifetime: PhantomData,
        }
    }

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

impl<T> ViewMut3<'_, T> {
    /// The bands of a pixel as a slice, when they are neighbours.
    ///
    /// # Panics
    /// When the pixel is outside the shape.
    #[inline]
    #[track_caller]
    pub fn pixel(&mut self, row: usize, col: usize) -> Option<&mut [MaybeUninit<T>]> {
        assert!(
            row < self.shape[0] && col < self.shape[1],
            "pixel ({row}, {col}) is outside shape {:?}",
            self.shape
        );
        if self.shape[2] == 0 {
            return Some(&mut []);
        }
        let dense = self.is_dense(2);
        // SAFETY: the pixel and band 0 exist; with stride 1 its bands are exactly this slice,
        // and pixels do not overlap.
        dense.then(|| unsafe {
            std::slice::from_raw_parts_mut(self.ptr_at([row, col, 0]).cast(), self.shape[2])
        })
    }
}
