//! NEON, which every 64-bit ARM CPU has.

use std::arch::aarch64::*;

use super::{Kernels, NAN, Run, Vector, each, uniform};

const INFINITY: u32 = 0x7f80_0000;

impl Vector for float32x4_t {
    const WIDTH: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: NEON is part of the architecture, as in all methods below.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's four floats.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn widen(from: *const i8) -> Self {
        // SAFETY: the caller's four bytes.
        unsafe {
            let bytes = vcreate_s8(u64::from(from.cast::<u32>().read_unaligned()));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
        }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: NEON, see `splat`.
        unsafe { vmulq_f32(self, other) }
    }

    #[inline(always)]
    unsafe fn valid(self) -> Self {
        // SAFETY: NEON, see `splat`.
        unsafe {
            let magnitude = vreinterpretq_u32_f32(vabsq_f32(self));
            let finite = vcltq_u32(magnitude, vdupq_n_u32(INFINITY));
            vbslq_f32(finite, self, vdupq_n_f32(NAN))
        }
    }

    #[inline(always)]
    unsafe fn splice(self, other: Self, n: usize) -> Self {
        // SAFETY: NEON, see `splat`; the array has four elements.
        unsafe {
            let lane = vld1q_u32([0u32, 1, 2, 3].as_ptr());
            vbslq_f32(vcltq_u32(lane, vdupq_n_u32(n as u32)), self, other)
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's four floats.
        unsafe { vst1q_f32(to, self) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // Stable Rust has no non-temporal store for ARM.
        // SAFETY: the caller's four floats.
        unsafe { self.store(to) }
    }

    #[inline(always)]
    unsafe fn fence() {}
}

unsafe fn uniform_neon(run: &Run) {
    // SAFETY: the caller's promise.
    unsafe { uniform::<float32x4_t>(run) }
}

unsafe fn each_neon(run: &Run) {
    // SAFETY: the caller's promise.
    unsafe { each::<float32x4_t>(run) }
}

/// Kernels for every 64-bit ARM CPU.
pub const NEON: Kernels = Kernels {
    uniform: uniform_neon,
    each: each_neon,
};
