//! Sums of squares of pixels: what means are made of, part by part.

use crate::error::{Error, Result};
use crate::threads;
use crate::view::{View3, ViewMut3};

use super::{Rgba, pixels};

/// Rows and columns of squares that a part of a picture touches.
///
/// `times` is the side of a square in pixels; the part begins at row and column `first` of one.
///
/// # Errors
/// [`Error::Argument`] if there is no such pixel in a square.
pub fn touched([height, width]: [usize; 2], times: usize, first: [usize; 2]) -> Result<[usize; 2]> {
    if first.iter().any(|&at| at >= times) {
        return Err(Error::Argument(format!(
            "a square of {times} × {times} pixels has no pixel {first:?}"
        )));
    }
    let count = |size: usize, first: usize| match size.checked_add(first) {
        _ if size == 0 => Ok(0),
        Some(end) => Ok(end.div_ceil(times)),
        None => Err(Error::Argument("more pixels than can be".into())),
    };
    Ok([count(height, first[0])?, count(width, first[1])?])
}

/// Writes, for each square of `times` × `times` pixels, the sums of red, green and blue, each
/// multiplied by alpha, and of alpha.
///
/// `source` may be a part of a larger picture that begins at row and column `first` of a
/// square: sums of parts add up. `out` has as many squares as [`touched`] says.
///
/// # Errors
/// [`Error::Shape`] where the sizes do not fit, [`Error::Argument`] for arrays with gaps.
pub fn sum_squares(
    source: View3<'_, u8>,
    times: usize,
    first: [usize; 2],
    out: ViewMut3<'_, u64>,
) -> Result<()> {
    let [height, width, _] = source.shape();
    let [rows, cols] = touched([height, width], times, first)?;
    if out.shape() != [rows, cols, 4] {
        return Err(Error::Shape {
            what: "out",
            expected: vec![rows, cols, 4],
            found: out.shape().to_vec(),
        });
    }
    let source = pixels("pixels", source)?;
    let out = out
        .into_slice()
        .ok_or_else(|| Error::Argument("out must be in C order without gaps".into()))?;
    if out.is_empty() {
        return Ok(());
    }
    // No square sums up more than 2^64: each pixel adds less than 2^16, and memory has fewer
    // than 2^48 of them.
    threads::for_each(
        out.chunks_mut(cols * 4).enumerate().collect(),
        |(row, out)| {
            let mut sums = vec![[0u64; 4]; cols];
            let top = (row * times).saturating_sub(first[0]);
            let bottom = ((row + 1) * times - first[0]).min(height);
            for line in source[top * width..bottom * width].chunks_exact(width) {
                let (head, rest) = line.split_at((times - first[1]).min(width));
                let squares = std::iter::once(head).chain(rest.chunks(times));
                for (square, sum) in squares.zip(&mut sums) {
                    for (sum, more) in sum.iter_mut().zip(summed(square)) {
                        *sum += more;
                    }
                }
            }
            for (to, sum) in out.iter_mut().zip(sums.as_flattened()) {
                to.write(*sum);
            }
        },
    )
}

/// The sums of some pixels.
#[inline]
fn summed(pixels: &[Rgba]) -> [u64; 4] {
    let mut total = [0u64; 4];
    // As many as 32 bits have room for: 255 * 255 * 2^16 < 2^32.
    for part in pixels.chunks(1 << 16) {
        let mut sums = [0u32; 4];
        for &[red, green, blue, alpha] in part {
            let alpha = u32::from(alpha);
            sums[0] += u32::from(red) * alpha;
            sums[1] += u32::from(green) * alpha;
            sums[2] += u32::from(blue) * alpha;
            sums[3] += alpha;
        }
        for (sum, more) in total.iter_mut().zip(sums) {
            *sum += u64::from(more);
        }
    }
    total
}
