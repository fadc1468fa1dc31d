//! AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::{Kernels, NAN, Run, Vector, each, uniform};

const INFINITY: i32 = 0x7f80_0000;

impl Vector for __m256 {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: inlined only where AVX2 is enabled, as in all methods below.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's eight floats.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn widen(from: *const i8) -> Self {
        // SAFETY: the caller's eight bytes.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: AVX2, see `splat`.
        unsafe { _mm256_mul_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn valid(self) -> Self {
        // SAFETY: AVX2, see `splat`.
        unsafe {
            let magnitude =
                _mm256_and_si256(_mm256_castps_si256(self), _mm256_set1_epi32(i32::MAX));
            let finite = _mm256_cmpgt_epi32(_mm256_set1_epi32(INFINITY), magnitude);
            _mm256_blendv_ps(_mm256_set1_ps(NAN), self, _mm256_castsi256_ps(finite))
        }
    }

    #[inline(always)]
    unsafe fn splice(self, other: Self, n: usize) -> Self {
        // SAFETY: AVX2, see `splat`.
        unsafe {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let first = _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lane);
            _mm256_blendv_ps(other, self, _mm256_castsi256_ps(first))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's eight floats.
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: the caller's eight floats, aligned.
        unsafe { _mm256_stream_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() }
    }
}

impl Vector for __m512 {
    const WIDTH: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: inlined only where AVX-512 F is enabled, as in all methods below.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's sixteen floats.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn widen(from: *const i8) -> Self {
        // SAFETY: the caller's sixteen bytes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: AVX-512 F, see `splat`.
        unsafe { _mm512_mul_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn valid(self) -> Self {
        // SAFETY: AVX-512 F, see `splat`.
        unsafe {
            let magnitude =
                _mm512_and_si512(_mm512_castps_si512(self), _mm512_set1_epi32(i32::MAX));
            let finite = _mm512_cmplt_epi32_mask(magnitude, _mm512_set1_epi32(INFINITY));
            _mm512_mask_blend_ps(finite, _mm512_set1_ps(NAN), self)
        }
    }

    #[inline(always)]
    unsafe fn splice(self, other: Self, n: usize) -> Self {
        // SAFETY: AVX-512 F, see `splat`; `n` is below 16.
        unsafe { _mm512_mask_blend_ps((1u16 << n).wrapping_sub(1), other, self) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's sixteen floats.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: the caller's sixteen floats, aligned.
        unsafe { _mm512_stream_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() }
    }
}

#[target_feature(enable = "avx2")]
unsafe fn uniform_avx2(run: &Run) {
    // SAFETY: the caller's promise; AVX2 is enabled here.
    unsafe { uniform::<__m256>(run) }
}

#[target_feature(enable = "avx2")]
unsafe fn each_avx2(run: &Run) {
    // SAFETY: the caller's promise; AVX2 is enabled here.
    unsafe { each::<__m256>(run) }
}

#[target_feature(enable = "avx512f")]
unsafe fn uniform_avx512(run: &Run) {
    // SAFETY: the caller's promise; AVX-512 F is enabled here.
    unsafe { uniform::<__m512>(run) }
}

#[target_feature(enable = "avx512f")]
unsafe fn each_avx512(run: &Run) {
    // SAFETY: the caller's promise; AVX-512 F is enabled here.
    unsafe { each::<__m512>(run) }
}

/// Kernels for CPUs with AVX2.
pub const AVX2: Kernels = Kernels {
    uniform: uniform_avx2,
    each: each_avx2,
};
/// Kernels for CPUs with AVX-512 F.
pub const AVX512: Kernels = Kernels {
    uniform: uniform_avx512,
    each: each_avx512,
};
