//! The reference: one element at a time, any strides.

use crate::view::{View3, ViewMut3};

/// The NaN that an invalid scale gives, always with these bits.
pub const NAN: f32 = f32::from_bits(0x7fc0_0000);

/// One value: a scale that is NaN or infinite makes it NaN; an overflow stays infinite.
#[inline(always)]
pub fn product(q: i8, scale: f32) -> f32 {
    if scale.is_finite() {
        f32::from(q) * scale
    } else {
        NAN
    }
}

/// Dequantises a block; all three views have one shape.
pub fn block(q: View3<i8>, scales: View3<f32>, out: &mut ViewMut3<f32>) {
    let [rows, cols, bands] = out.shape();
    assert!(q.shape() == out.shape() && scales.shape() == out.shape());
    for row in 0..rows {
        for col in 0..cols {
            for band in 0..bands {
                let index = [row, col, band];
                // SAFETY: the index is inside `out`'s shape, which all three share.
                unsafe {
                    let value = product(q.get_unchecked(index), scales.get_unchecked(index));
                    out.ptr_at(index).write(value);
                }
            }
        }
    }
}
