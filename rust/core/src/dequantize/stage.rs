//! Lanes that are not neighbours in memory: gathered first, some at a time.

use super::choose;
use super::simd::{Kernels, Run};
use crate::view::{View3, ViewMut3};

/// Lanes that are gathered at a time where they are not neighbours in memory.
const STAGE: usize = 128;

/// Inner positions that are gathered at a time; `transpose` takes squares of this side.
pub(crate) const SIDE: usize = 16;

/// Runs over (outer, inner, lane) where the lanes of `q` or `scales` must be gathered first.
///
/// `picks` says which of `q`'s lanes become `out`'s; they are in range.
pub(super) fn staged(
    kernels: Kernels,
    q: View3<i8>,
    scales: View3<f32>,
    picks: Option<&[usize]>,
    mut out: ViewMut3<f32>,
    stream: bool,
) {
    let [outer, inner, lanes] = out.shape();
    let step = scales.strides()[2];
    let kernel = choose(kernels, step);
    let (mut values, mut factors) = ([[0i8; STAGE]; SIDE], [[0f32; STAGE]; SIDE]);
    let mut index = [0; STAGE];
    for (start, n) in spans(lanes, STAGE) {
        for (i, lane) in index[..n].iter_mut().enumerate() {
            *lane = picks.map_or(start + i, |picks| picks[start + i]);
        }
        for row in 0..outer {
            for (col, pixels) in spans(inner, SIDE) {
                let at = [row, col, start];
                if picks.is_none() && pixels == SIDE && n % SIDE == 0 && q.strides()[1] == 1 {
                    transpose(&q, at, n, &mut values);
                } else {
                    collect(&q, [row, col], &index[..n], &mut values[..pixels]);
                }
                let (from, scales_step) = if step == 0 || (step == 1 && picks.is_none()) {
                    let lane = if step == 0 { 0 } else { start };
                    // SAFETY: (row, col) is a pixel and `lane` a lane of `scales`.
                    (
                        unsafe { scales.ptr_at([row, col, lane]) },
                        scales.strides()[1],
                    )
                } else {
                    collect(&scales, [row, col], &index[..n], &mut factors[..pixels]);
                    (factors.as_ptr().cast(), STAGE as isize)
                };
                // SAFETY: the stages hold `pixels` runs of `n` lanes, `STAGE` apart; those of
                // `out` and of `scales` lie as their views say, with neighbouring lanes.
                unsafe {
                    kernel(&Run {
                        q: values.as_ptr().cast(),
                        q_step: STAGE as isize,
                        scales: from,
                        scales_step,
                        out: out.ptr_at(at),
                        out_step: out.strides()[1],
                        pixels,
                        lanes: n,
                        stream,
                    });
                }
            }
        }
    }
}

/// Start and length of the parts of `len`, each of `size` but the last.
fn spans(len: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len)
        .step_by(size)
        .map(move |start| (start, size.min(len - start)))
}

/// Gathers the lanes `index` of consecutive inner positions, one a row of `into`.
fn collect<T: Copy>(
    from: &View3<T>,
    [row, col]: [usize; 2],
    index: &[usize],
    into: &mut [[T; STAGE]],
) {
    let step = from.strides()[2];
    for (i, values) in into.iter_mut().enumerate() {
        // SAFETY: the caller's positions and lanes are inside the view.
        unsafe {
            let first = from.ptr_at([row, col + i, 0]);
            for (value, &lane) in values.iter_mut().zip(index) {
                *value = *first.offset(lane as isize * step);
            }
        }
    }
}

/// Gathers `n` lanes from `at` on of `SIDE` inner positions that are neighbours in memory.
fn transpose(
    from: &View3<i8>,
    [row, col, start]: [usize; 3],
    n: usize,
    into: &mut [[i8; STAGE]; SIDE],
) {
    for offset in (0..n).step_by(SIDE) {
        let mut block = [[0i8; SIDE]; SIDE];
        for (i, line) in block.iter_mut().enumerate() {
            // SAFETY: `SIDE` inner positions from `col` are inside the view and neighbours.
            *line = unsafe {
                from.ptr_at([row, col, start + offset + i])
                    .cast::<[i8; SIDE]>()
                    .read()
            };
        }
        for (line, values) in transposed(block).iter().zip(into.iter_mut()) {
            values[offset..offset + SIDE].copy_from_slice(line);
        }
    }
}

/// A square with rows and columns exchanged.
///
/// Interleaving rows i and i + 8 rotates the address (row, column) by one bit; half a turn
/// exchanges rows and columns. LLVM makes it unpack (x86) and zip (ARM).
#[inline(always)]
pub(crate) fn transposed<T: Copy>(mut block: [[T; SIDE]; SIDE]) -> [[T; SIDE]; SIDE] {
    for _ in 0..SIDE.ilog2() {
        let mut next = block;
        for i in 0..SIDE / 2 {
            for j in 0..SIDE / 2 {
                next[2 * i][2 * j] = block[i][j];
                next[2 * i][2 * j + 1] = block[i + SIDE / 2][j];
                next[2 * i + 1][2 * j] = block[i][j + SIDE / 2];
                next[2 * i + 1][2 * j + 1] = block[i + SIDE / 2][j + SIDE / 2];
            }
        }
        block = next;
    }
    block
}
