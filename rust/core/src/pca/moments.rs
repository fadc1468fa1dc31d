//! Moments: how many pixels there are, their sums and the sums of their products.
//!
//! float32 inside a block of 256 pixels, float64 across blocks, of what is left after an
//! origin near the mean was taken away: sums of 256 products are good to about 1e-6 of their
//! terms, and it is the differences from the origin that they are good for. Blocks and the
//! order of all sums depend on the pixels alone, so that threads change no bit.

use super::panel::{Aligned, PIXELS, Panel};
use super::syrk::Kernel;
use crate::error::{Error, Result, zeros};
use crate::level::{Level, Work};
use crate::threads;
use crate::view::{Pixels, count};

/// Pixels whose products are summed in float32.
const BLOCK: usize = 4 * PIXELS;

/// Pixels that one thread takes at least.
const PART: usize = 8192;

/// How many parts there are at most, and how much memory they may take: each has sums of its own,
/// 128 KiB with 128 bands.
const PARTS: usize = 256;
const ROOM: usize = 64 << 20;

/// Sums of squares below this have terms that float32 rounds to zero, or nearly so.
const TINY: f32 = 1e-28;

/// Count, sums and sums of products of valid pixels, relative to the origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// How many pixels are finite in every band.
    pub count: u64,
    /// Sum of x − origin, one a band.
    pub sums: Vec<f64>,
    /// Sum of (x − origin)(x − origin)ᵀ: bands × bands, both triangles.
    pub products: Vec<f64>,
}

impl Moments {
    fn new(bands: usize) -> Result<Self> {
        Ok(Self {
            count: 0,
            sums: zeros(bands)?,
            products: zeros(count::<f64>("bands", &[bands, bands])?)?,
        })
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        let pairs = [
            (&mut self.sums, &other.sums),
            (&mut self.products, &other.products),
        ];
        for (into, from) in pairs {
            into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        }
    }
}

/// Sums the pixels that are finite in every band; `origin` is taken from each, one number a
/// band.
pub fn moments(pixels: Pixels, origin: &[f32]) -> Result<Moments> {
    moments_with(Level::best(), pixels, origin)
}

/// `moments` with a given instruction set. Those with fused multiplication and addition round
/// less often, so that the last bits differ between sets.
pub fn moments_with(level: Level, pixels: Pixels, origin: &[f32]) -> Result<Moments> {
    let [rows, cols, bands] = pixels.shape();
    if origin.len() != bands {
        return Err(Error::Shape {
            what: "origin",
            expected: vec![bands],
            found: vec![origin.len()],
        });
    }
    if !origin.iter().all(|o| o.is_finite()) {
        return Err(Error::Argument("origin must be finite".into()));
    }
    let mut total = Moments::new(bands)?;
    let pixel_count = rows * cols;
    if pixel_count == 0 || bands == 0 {
        return Ok(total);
    }
    let most = (ROOM / 8 / bands / bands).clamp(1, PARTS);
    let size = pixel_count.div_ceil(most).next_multiple_of(BLOCK).max(PART);
    let mut parts = Vec::new();
    parts.resize_with(pixel_count.div_ceil(size), || Moments::new(0));
    let work = parts.iter_mut().enumerate().collect();
    threads::for_each(work, |(number, part)| {
        let start = number * size;
        *part = sum(level, &pixels, start, size.min(pixel_count - start), origin);
    })?;
    for part in parts {
        total.add(&part?);
    }
    for a in 0..bands {
        for b in 0..a {
            total.products[a * bands + b] = total.products[b * bands + a];
        }
    }
    Ok(total)
}

/// Sums a part: `n` pixels from number `start` on; products above the diagonal only.
fn sum(level: Level, pixels: &Pixels, start: usize, n: usize, origin: &[f32]) -> Result<Moments> {
    let bands = origin.len();
    let kernel = Kernel::of(level);
    let mut panel = Panel::new(bands)?;
    let stride = panel.stride;
    let mut made = Moments::new(bands)?;
    let mut products = Aligned::new(count::<f32>("bands", &[stride, stride])?)?;
    let mut sums: Vec<f32> = zeros(stride)?;
    let mut padded: Vec<f32> = zeros(stride)?;
    padded[..bands].copy_from_slice(origin);
    for block in (start..start + n).step_by(BLOCK) {
        let end = (block + BLOCK).min(start + n);
        let mut found = 0;
        for first in (block..end).step_by(PIXELS) {
            let n = PIXELS.min(end - first);
            panel.fill(level, pixels, first, n);
            let valid = panel.valid(level, n);
            if valid == 0 {
                continue;
            }
            if found == 0 {
                products.get_mut().fill(0.0);
                sums.fill(0.0);
            }
            found += u64::from(valid.count_ones());
            level.run(Centre {
                values: &mut panel.values_mut()[..n * stride],
                valid,
                origin: &padded,
                sums: &mut sums,
            });
            kernel.add(&panel, n, products.get_mut());
        }
        if found == 0 {
            continue;
        }
        made.count += found;
        let squares = products.get().iter().step_by(stride + 1).take(bands);
        // A sum of products is no larger than the larger of its sums of squares.
        if squares.clone().all(|s| (TINY..f32::INFINITY).contains(s)) {
            level.run(Flush {
                from: products.get(),
                sums: &sums,
                into: &mut made,
            });
        } else {
            sum_exactly(level, pixels, block..end, origin, &mut panel, &mut made);
        }
    }
    Ok(made)
}

/// Subtracts the origin from valid pixels and makes the others zero, so that they add nothing.
struct Centre<'a> {
    values: &'a mut [f32],
    valid: u64,
    origin: &'a [f32],
    sums: &'a mut [f32],
}

impl Work for Centre<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let stride = self.origin.len();
        let sums = &mut self.sums[..stride];
        for (i, lane) in self.values.chunks_exact_mut(stride).enumerate() {
            if self.valid >> i & 1 == 0 {
                lane.fill(0.0);
                continue;
            }
            for ((value, origin), sum) in lane.iter_mut().zip(self.origin).zip(&mut *sums) {
                *value -= origin;
                *sum += *value;
            }
        }
    }
}

/// Adds a block's sums to those in float64.
struct Flush<'a> {
    from: &'a [f32],
    sums: &'a [f32],
    into: &'a mut Moments,
}

impl Work for Flush<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (stride, bands) = (self.sums.len(), self.into.sums.len());
        for (into, &from) in self.into.sums.iter_mut().zip(self.sums) {
            *into += f64::from(from);
        }
        for a in 0..bands {
            let from = &self.from[a * stride + a..a * stride + bands];
            let into = &mut self.into.products[a * bands + a..(a + 1) * bands];
            for (into, &from) in into.iter_mut().zip(from) {
                *into += f64::from(from);
            }
        }
    }
}

/// Sums a block in float64: for numbers whose squares float32 does not hold.
///
/// Published tiles have a few scales of 1e30; and where a band equals its origin everywhere,
/// its squares are zero.
fn sum_exactly(
    level: Level,
    pixels: &Pixels,
    block: std::ops::Range<usize>,
    origin: &[f32],
    panel: &mut Panel,
    made: &mut Moments,
) {
    let bands = origin.len();
    let mut lane = vec![0.0; bands];
    for first in block.clone().step_by(PIXELS) {
        let n = PIXELS.min(block.end - first);
        panel.fill(level, pixels, first, n);
        let valid = panel.valid(level, n);
        for i in (0..n).filter(|i| valid >> i & 1 == 1) {
            let values = &panel.values()[i * panel.stride..];
            for ((into, &v), &o) in lane.iter_mut().zip(values).zip(origin) {
                *into = f64::from(v) - f64::from(o);
            }
            for (sum, v) in made.sums.iter_mut().zip(&lane) {
                *sum += v;
            }
            for (a, left) in lane.iter().enumerate() {
                let into = &mut made.products[a * bands + a..(a + 1) * bands];
                for (sum, right) in into.iter_mut().zip(&lane[a..]) {
                    *sum += left * right;
                }
            }
        }
    }
}
