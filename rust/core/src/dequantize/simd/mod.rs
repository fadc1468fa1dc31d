//! Vector kernels over runs of lanes, one source for every instruction set.
//!
//! The generic loops are inlined into functions that enable the instruction set, so a
//! `Vector` method compiles to its one instruction there.

#[cfg(target_arch = "aarch64")]
pub mod arm;
#[cfg(target_arch = "x86_64")]
pub mod x86;

use super::scalar::{NAN, product};

/// Lanes that are neighbours in memory, for `pixels` pixels at fixed steps (in elements).
pub struct Run {
    pub q: *const i8,
    pub q_step: isize,
    pub scales: *const f32,
    pub scales_step: isize,
    pub out: *mut f32,
    pub out_step: isize,
    pub pixels: usize,
    pub lanes: usize,
    /// Write past the cache: for outputs that do not fit in it.
    pub stream: bool,
}

/// A kernel for one kind of run.
///
/// # Safety
/// The CPU has the kernel's instruction set, and all of the run's elements are valid:
/// `q` and `scales` to read, `out` to write, without overlap.
pub type Kernel = unsafe fn(&Run);

/// What an instruction set offers: one scale for all lanes, and a scale for each lane.
#[derive(Clone, Copy)]
pub struct Kernels {
    /// `scales` has one element a pixel.
    pub uniform: Kernel,
    /// `scales` has `lanes` neighbours a pixel.
    pub each: Kernel,
}

trait Vector: Copy {
    const WIDTH: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// Reads `WIDTH` int8 values as floats.
    unsafe fn widen(from: *const i8) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// NaN where a lane is NaN or infinite.
    unsafe fn valid(self) -> Self;
    /// The first `n` lanes of `self`, the others of `other`.
    unsafe fn splice(self, other: Self, n: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Stores past the cache; `to` is aligned to the vector.
    unsafe fn stream(self, to: *mut f32);
    /// Makes streamed stores visible before other threads are told that they happened.
    unsafe fn fence();
}

/// Dequantises `n` lanes, each with its own scale.
#[inline(always)]
unsafe fn tail_each(q: *const i8, scales: *const f32, out: *mut f32, n: usize) {
    for i in 0..n {
        // SAFETY: the caller's lanes are valid.
        unsafe { out.add(i).write(product(*q.add(i), *scales.add(i))) }
    }
}

/// Dequantises `n` lanes with one scale.
#[inline(always)]
unsafe fn tail_uniform(q: *const i8, scale: f32, out: *mut f32, n: usize) {
    for i in 0..n {
        // SAFETY: the caller's lanes are valid.
        unsafe { out.add(i).write(product(*q.add(i), scale)) }
    }
}

/// How many elements lie before the first vector boundary.
#[inline(always)]
fn head<V: Vector>(out: *mut f32, n: usize) -> usize {
    let past = (out as usize / size_of::<f32>()) % V::WIDTH;
    if past == 0 {
        0
    } else {
        (V::WIDTH - past).min(n)
    }
}

#[inline(always)]
unsafe fn each<V: Vector>(run: &Run) {
    // SAFETY: every access is to one of the run's lanes, which are valid; streamed stores
    // start at the boundary that `head` found.
    unsafe {
        for pixel in 0..run.pixels as isize {
            let q = run.q.offset(pixel * run.q_step);
            let scales = run.scales.offset(pixel * run.scales_step);
            let out = run.out.offset(pixel * run.out_step);
            let start = if run.stream {
                head::<V>(out, run.lanes)
            } else {
                0
            };
            tail_each(q, scales, out, start);
            let mut i = start;
            while i + V::WIDTH <= run.lanes {
                let value = V::widen(q.add(i)).mul(V::load(scales.add(i)).valid());
                if run.stream {
                    value.stream(out.add(i));
                } else {
                    value.store(out.add(i));
                }
                i += V::WIDTH;
            }
            tail_each(q.add(i), scales.add(i), out.add(i), run.lanes - i);
        }
        if run.stream {
            V::fence();
        }
    }
}

#[inline(always)]
unsafe fn uniform<V: Vector>(run: &Run) {
    let dense = run.lanes as isize;
    if run.stream && run.q_step == dense && run.out_step == dense && run.lanes >= V::WIDTH {
        // SAFETY: the caller's promise.
        return unsafe { uniform_stream::<V>(run) };
    }
    // SAFETY: every access is to one of the run's lanes, which are valid.
    unsafe {
        for pixel in 0..run.pixels as isize {
            let q = run.q.offset(pixel * run.q_step);
            let scale = *run.scales.offset(pixel * run.scales_step);
            let out = run.out.offset(pixel * run.out_step);
            let factor = V::splat(if scale.is_finite() { scale } else { NAN });
            let mut i = 0;
            while i + V::WIDTH <= run.lanes {
                V::widen(q.add(i)).mul(factor).store(out.add(i));
                i += V::WIDTH;
            }
            tail_uniform(q.add(i), scale, out.add(i), run.lanes - i);
        }
    }
}

/// `uniform` for pixels without gaps, as one stream of aligned vectors.
///
/// NumPy aligns arrays to 16 bytes, so whole vectors straddle pixels: such a vector takes
/// the scales of both. At least `WIDTH` lanes a pixel, so it never spans three.
#[inline(always)]
unsafe fn uniform_stream<V: Vector>(run: &Run) {
    let total = run.pixels * run.lanes;
    // SAFETY: every index is below `total` = pixels × lanes, and the pixels have no gaps;
    // streamed stores start at the boundary that `head` found.
    unsafe {
        let scale = |pixel: usize| {
            let scale = *run.scales.offset(pixel as isize * run.scales_step);
            if scale.is_finite() { scale } else { NAN }
        };
        if total == 0 {
            return;
        }
        let mut i = head::<V>(run.out, total);
        tail_uniform(run.q, scale(0), run.out, i);
        let (mut pixel, mut end) = (0, run.lanes);
        let mut factor = V::splat(scale(0));
        while i + V::WIDTH <= total {
            while i + V::WIDTH <= end {
                V::widen(run.q.add(i)).mul(factor).stream(run.out.add(i));
                i += V::WIDTH;
            }
            if i + V::WIDTH > total {
                break;
            }
            pixel += 1;
            let next = V::splat(scale(pixel));
            let mixed = factor.splice(next, end - i);
            V::widen(run.q.add(i)).mul(mixed).stream(run.out.add(i));
            i += V::WIDTH;
            end += run.lanes;
            factor = next;
        }
        // What is left is shorter than a vector, but may still straddle two pixels.
        while i < total {
            let n = (end.max(i) - i).min(total - i);
            tail_uniform(run.q.add(i), scale(pixel), run.out.add(i), n);
            i += n;
            if i >= end {
                pixel += 1;
                end += run.lanes;
            }
        }
        V::fence();
    }
}
