//! C += XᵀX for a panel X: the upper triangle, tile by tile, each tile in registers.

use super::panel::Panel;
use crate::level::Level;

/// Adds the products of one tile: rows from `i` and columns from `j` of C.
///
/// # Safety
/// The CPU has the instructions; `panel` holds `n` lanes of `stride` numbers and `c` has
/// `stride` rows of `stride`, both aligned to 64 bytes; the tile lies inside C, and `j` is a
/// multiple of the tile's columns.
type Tile = unsafe fn(panel: *const f32, stride: usize, n: usize, at: [usize; 2], c: *mut f32);

/// How tiles are made.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    rows: usize,
    cols: usize,
    tile: Tile,
}

impl Kernel {
    /// The fastest for an instruction set.
    pub fn of(level: Level) -> Self {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if level.is_here() => x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 if level.is_here() && std::is_x86_feature_detected!("fma") => x86::AVX2,
            _ => PORTABLE,
        }
    }

    /// Adds the products of the first `n` pixels to the upper triangle of `c`, which has
    /// `stride` rows of `stride`; what is below the diagonal is undefined.
    pub fn add(&self, panel: &Panel, n: usize, c: &mut [f32]) {
        let (stride, bands) = (panel.stride, panel.bands);
        assert!(panel.values().len() >= n * stride && c.len() == stride * stride);
        assert!(c.as_ptr().addr().is_multiple_of(64));
        for j in (0..bands).step_by(self.cols) {
            for i in (0..bands.min(j + self.cols)).step_by(self.rows) {
                // SAFETY: `of` proved the instructions; rows and columns of tiles divide the
                // padding, so that the tile is inside C; the panel is aligned as `c` is.
                unsafe {
                    (self.tile)(panel.values().as_ptr(), stride, n, [i, j], c.as_mut_ptr());
                }
            }
        }
    }
}

const ROWS: usize = 4;
const COLS: usize = 16;

/// Without fused multiplication and addition, in vectors that every CPU has.
const PORTABLE: Kernel = Kernel {
    rows: ROWS,
    cols: COLS,
    tile: portable,
};

unsafe fn portable(panel: *const f32, stride: usize, n: usize, [i, j]: [usize; 2], c: *mut f32) {
    // SAFETY: by the caller's promise.
    let panel = unsafe { std::slice::from_raw_parts(panel, n * stride) };
    let tile: [*mut f32; ROWS] = std::array::from_fn(|r| c.wrapping_add((i + r) * stride + j));
    // SAFETY: as above.
    let mut sums = tile.map(|from| unsafe { from.cast::<[f32; COLS]>().read() });
    for lane in panel.chunks_exact(stride) {
        let left: &[f32; ROWS] = lane[i..].first_chunk().expect("inside the padding");
        let right: &[f32; COLS] = lane[j..].first_chunk().expect("inside the padding");
        for (sums, a) in sums.iter_mut().zip(left) {
            for (sum, b) in sums.iter_mut().zip(right) {
                *sum += a * b;
            }
        }
    }
    for (to, sums) in tile.into_iter().zip(sums) {
        // SAFETY: as above.
        unsafe { to.cast::<[f32; COLS]>().write(sums) };
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Kernel;

    /// 8 × 32: 16 of 32 registers hold sums, enough to hide the latency of two FMA units, and
    /// a pixel's 10 loads take less time than its 16 multiplications.
    pub const AVX512: Kernel = Kernel {
        rows: 8,
        cols: 32,
        tile: avx512,
    };

    /// 4 × 16: 8 of 16 registers hold sums.
    pub const AVX2: Kernel = Kernel {
        rows: 4,
        cols: 16,
        tile: avx2,
    };

    #[target_feature(enable = "avx512f")]
    unsafe fn avx512(panel: *const f32, stride: usize, n: usize, [i, j]: [usize; 2], c: *mut f32) {
        // SAFETY: the caller's promise: lanes of the panel, and a tile of C, both aligned.
        unsafe {
            let tile = c.add(i * stride + j);
            let mut sums = [[_mm512_setzero_ps(); 2]; 8];
            for (r, sums) in sums.iter_mut().enumerate() {
                sums[0] = _mm512_load_ps(tile.add(r * stride));
                sums[1] = _mm512_load_ps(tile.add(r * stride + 16));
            }
            for pixel in 0..n {
                let lane = panel.add(pixel * stride);
                let right = [
                    _mm512_load_ps(lane.add(j)),
                    _mm512_load_ps(lane.add(j + 16)),
                ];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let left = _mm512_set1_ps(*lane.add(i + r));
                    sums[0] = _mm512_fmadd_ps(left, right[0], sums[0]);
                    sums[1] = _mm512_fmadd_ps(left, right[1], sums[1]);
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                _mm512_store_ps(tile.add(r * stride), sums[0]);
                _mm512_store_ps(tile.add(r * stride + 16), sums[1]);
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2(panel: *const f32, stride: usize, n: usize, [i, j]: [usize; 2], c: *mut f32) {
        // SAFETY: as above.
        unsafe {
            let tile = c.add(i * stride + j);
            let mut sums = [[_mm256_setzero_ps(); 2]; 4];
            for (r, sums) in sums.iter_mut().enumerate() {
                sums[0] = _mm256_load_ps(tile.add(r * stride));
                sums[1] = _mm256_load_ps(tile.add(r * stride + 8));
            }
            for pixel in 0..n {
                let lane = panel.add(pixel * stride);
                let right = [_mm256_load_ps(lane.add(j)), _mm256_load_ps(lane.add(j + 8))];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let left = _mm256_set1_ps(*lane.add(i + r));
                    sums[0] = _mm256_fmadd_ps(left, right[0], sums[0]);
                    sums[1] = _mm256_fmadd_ps(left, right[1], sums[1]);
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                _mm256_store_ps(tile.add(r * stride), sums[0]);
                _mm256_store_ps(tile.add(r * stride + 8), sums[1]);
            }
        }
    }
}
