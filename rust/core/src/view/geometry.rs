//! What every view says of its shape and strides, read-only or writable.

/// Implements it for a view, which has the fields `shape` and `strides`.
macro_rules! geometry {
    ($view:ident) => {
        impl<T, const N: usize> std::fmt::Debug for $view<'_, T, N> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(
                    f,
                    "{} {{ shape: {:?}, strides: {:?} }}",
                    stringify!($view),
                    self.shape,
                    self.strides
                )
            }
        }

        impl<T, const N: usize> $view<'_, T, N> {
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

            /// Whether the elements, of which there are some, are in C order without gaps.
            fn is_contiguous(&self) -> bool {
                let mut step = 1;
                (0..N).rev().all(|axis| {
                    let fits = self.shape[axis] <= 1 || self.strides[axis] == step;
                    step *= self.shape[axis] as isize;
                    fits
                })
            }

            /// Whether an index is inside the shape.
            #[inline(always)]
            fn holds(&self, index: [usize; N]) -> bool {
                index.iter().zip(self.shape).all(|(&i, len)| i < len)
            }
        }
    };
}

pub(super) use geometry;
