//! The bands of a pixel as float32, and the mean of pixels: what is written where.

use std::mem::MaybeUninit;

use crate::resample::Footprint;
use crate::view::{Pixels, View1};

/// Pixels, and the bands that are asked of them.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The pixels.
    pub pixels: Pixels<'a>,
    /// Zero-based bands, in any order, duplicates allowed; None for all. They are in range.
    pub bands: Option<&'a [usize]>,
}

impl Reader<'_> {
    /// Asks for the memory of a pixel before it is read: pixels are scattered, so that every one
    /// of them misses the caches.
    #[inline(always)]
    pub fn prefetch(&self, [row, col]: [usize; 2]) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            match self.pixels {
                Pixels::I8 { q, scales } => {
                    let (q, scales) = (q.pixel(row, col), scales.pixel(row, col));
                    // SAFETY: a prefetch reads nothing.
                    unsafe {
                        _mm_prefetch::<_MM_HINT_T0>(q.as_ptr());
                        _mm_prefetch::<_MM_HINT_T0>(q.as_ptr().wrapping_add(64));
                        _mm_prefetch::<_MM_HINT_T0>(scales.as_ptr().cast());
                    }
                }
                Pixels::F32 { values, .. } => {
                    let values = values.pixel(row, col);
                    // SAFETY: a prefetch reads nothing.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().cast()) };
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (row, col);
    }

    /// Whether any band of the raster is valid here.
    #[inline(always)]
    pub fn is_valid(&self, [row, col]: [usize; 2]) -> bool {
        match self.pixels {
            Pixels::I8 { scales, .. } => {
                let scales = scales.pixel(row, col);
                if scales.strides()[0] == 0 && !scales.is_empty() {
                    scales.at([0]).is_finite()
                } else {
                    lane(scales).any(f32::is_finite)
                }
            }
            Pixels::F32 { values, nodata } => {
                let nodata = nodata.unwrap_or(f32::NAN);
                lane(values.pixel(row, col)).any(|v| !v.is_nan() && v != nodata)
            }
        }
    }

    /// Writes the weighted mean of the valid pixels; false where the containing one is invalid.
    ///
    /// `place` says where in `pixels` a pixel of the raster is, if it is there; `scratch` has
    /// room for four rows.
    #[inline(always)]
    pub fn blend(
        &self,
        found: &Footprint,
        place: impl Fn(usize, usize) -> Option<[usize; 2]>,
        scratch: &mut [f32],
        out: &mut [MaybeUninit<f32>],
    ) -> bool {
        if let Some(done) = self.blend_quantized(found, &place, out) {
            return done;
        }
        let bands = out.len();
        let mut weights = [0.0; 4];
        let (mut count, mut centre, mut complete) = (0, 0, true);
        for tap in found.taps() {
            let contains = (tap.row, tap.col) == found.pixel();
            let space = &mut scratch[count * bands..(count + 1) * bands];
            let loaded = place(tap.row, tap.col).and_then(|at| self.load(at, space));
            match loaded {
                None if contains => return false,
                None => continue,
                Some(all) => complete &= all,
            }
            if contains {
                centre = count;
            }
            weights[count] = tap.weight;
            count += 1;
        }
        let (weights, rows) = (&weights[..count], &scratch[..count * bands]);
        if !complete || count == 0 {
            mean_of_valid(weights, rows, centre, out);
            return true;
        }
        let lanes = std::array::from_fn(|k| &rows[k.min(count - 1) * bands..][..bands]);
        mean_of(weights, lanes, |_, value| value, out);
        true
    }

    /// `blend` where a pixel has one scale and all its bands are asked for: without a copy of
    /// the dequantised rows, which takes a third of the time. None elsewhere.
    #[inline(always)]
    fn blend_quantized(
        &self,
        found: &Footprint,
        place: impl Fn(usize, usize) -> Option<[usize; 2]>,
        out: &mut [MaybeUninit<f32>],
    ) -> Option<bool> {
        let Pixels::I8 { q, scales } = self.pixels else {
            return None;
        };
        let uniform = scales.strides()[2] == 0 && !out.is_empty();
        if !uniform || self.bands.is_some() || !q.is_dense(2) {
            return None;
        }
        let mut weights = [0.0; 4];
        let mut factors = [0.0; 4];
        let mut lanes: [&[i8]; 4] = [&[]; 4];
        let mut count = 0;
        for tap in found.taps() {
            let pixel = place(tap.row, tap.col).map(|[row, col]| (q.pixel(row, col), [row, col]));
            let scale = pixel.map_or(f32::NAN, |(_, [row, col])| scales.pixel(row, col).at([0]));
            match pixel.and_then(|(lane, _)| lane.as_slice()) {
                Some(lane) if scale.is_finite() => {
                    (weights[count], factors[count], lanes[count]) = (tap.weight, scale, lane);
                    count += 1;
                }
                _ if (tap.row, tap.col) == found.pixel() => return Some(false),
                _ => {}
            }
        }
        for k in count..4 {
            lanes[k] = lanes[0];
        }
        mean_of(
            &weights[..count],
            lanes,
            |k, q| f32::from(q) * factors[k],
            out,
        );
        Some(true)
    }

    /// Writes the bands of a pixel, NaN where a band is invalid.
    ///
    /// None, and nothing written that counts, where no band of the raster is valid here; else
    /// whether all bands asked for are.
    #[inline(always)]
    pub fn load<S: Slot>(&self, [row, col]: [usize; 2], out: &mut [S]) -> Option<bool> {
        let asked = out.len();
        let valid = match self.pixels {
            Pixels::I8 { q, scales } => {
                let (q, scales) = (q.pixel(row, col), scales.pixel(row, col));
                if !q.is_empty() && scales.strides()[0] == 0 {
                    let scale = scales.at([0]);
                    if !scale.is_finite() {
                        return None;
                    }
                    spread(q, self.bands, out, |q| f32::from(q) * scale);
                    return Some(true);
                }
                let value = |q: i8, scale: f32| {
                    if scale.is_finite() {
                        f32::from(q) * scale
                    } else {
                        f32::NAN
                    }
                };
                let valid = match (self.bands, q.as_slice(), scales.as_slice()) {
                    (None, Some(q), Some(scales)) => {
                        write(q.iter().zip(scales).map(|(&q, &s)| value(q, s)), out)
                    }
                    (None, ..) => write((0..asked).map(|b| value(q.at([b]), scales.at([b]))), out),
                    (Some(bands), ..) => {
                        write(bands.iter().map(|&b| value(q.at([b]), scales.at([b]))), out)
                    }
                };
                if valid == 0 && !lane(scales).any(f32::is_finite) {
                    return None;
                }
                valid
            }
            Pixels::F32 { values, nodata } => {
                let values = values.pixel(row, col);
                // NaN equals nothing, so that it stands for "no such value".
                let nodata = nodata.unwrap_or(f32::NAN);
                let value = |v: f32| {
                    if v.is_nan() || v == nodata {
                        f32::NAN
                    } else {
                        v
                    }
                };
                let valid = spread(values, self.bands, out, value);
                if valid == 0 && lane(values).all(|v| value(v).is_nan()) {
                    return None;
                }
                valid
            }
        };
        Some(valid == asked)
    }
}

/// What a value can be written to: a number, or memory that will become one.
pub trait Slot {
    /// Writes it.
    fn put(&mut self, value: f32);
}

impl Slot for f32 {
    #[inline(always)]
    fn put(&mut self, value: f32) {
        *self = value;
    }
}

impl Slot for MaybeUninit<f32> {
    #[inline(always)]
    fn put(&mut self, value: f32) {
        *self = Self::new(value);
    }
}

/// Writes values and counts those that are not NaN.
#[inline(always)]
fn write<S: Slot>(values: impl Iterator<Item = f32>, out: &mut [S]) -> usize {
    let mut valid = 0u32;
    for (slot, value) in out.iter_mut().zip(values) {
        valid += u32::from(!value.is_nan());
        slot.put(value);
    }
    valid as usize
}

/// Writes `value` of the bands asked for and counts those that are not NaN.
#[inline(always)]
fn spread<T: Copy, S: Slot>(
    lane: View1<'_, T>,
    bands: Option<&[usize]>,
    out: &mut [S],
    value: impl Fn(T) -> f32,
) -> usize {
    match (bands, lane.as_slice()) {
        (None, Some(lane)) => write(lane.iter().map(|&v| value(v)), out),
        (None, None) => write((0..out.len()).map(|b| value(lane.at([b]))), out),
        (Some(bands), _) => write(bands.iter().map(|&b| value(lane.at([b]))), out),
    }
}

/// The elements of a lane.
fn lane<'a, T: Copy>(view: View1<'a, T>) -> impl Iterator<Item = T> + 'a {
    (0..view.shape()[0]).map(move |i| view.at([i]))
}

/// The canonical NaN for any NaN (inf − inf has the sign bit set on x86).
#[inline(always)]
fn canonical(value: f64) -> f32 {
    let value = value as f32;
    if value.is_nan() { f32::NAN } else { value }
}

/// Bands at a time: sums that fit the registers, loaded before the first is stored, so that no
/// overlap need be ruled out while the program runs.
const CHUNK: usize = 16;

/// The mean of as many complete lanes as there are weights, one to four.
#[inline(always)]
fn mean_of<T: Copy>(
    weights: &[f64],
    lanes: [&[T]; 4],
    value: impl Fn(usize, T) -> f32,
    out: &mut [MaybeUninit<f32>],
) {
    match weights.len() {
        1 => mean::<1, T>(weights, lanes, value, out),
        2 => mean::<2, T>(weights, lanes, value, out),
        3 => mean::<3, T>(weights, lanes, value, out),
        _ => mean::<4, T>(weights, lanes, value, out),
    }
}

#[inline(always)]
fn mean<const K: usize, T: Copy>(
    weights: &[f64],
    lanes: [&[T]; 4],
    value: impl Fn(usize, T) -> f32,
    out: &mut [MaybeUninit<f32>],
) {
    let total: f64 = weights[1..].iter().fold(weights[0], |sum, w| sum + w);
    let weights: [f64; K] = std::array::from_fn(|k| weights[k] / total);
    let lanes: [&[T]; K] = std::array::from_fn(|k| &lanes[k][..out.len()]);
    let (chunks, rest) = out.as_chunks_mut::<CHUNK>();
    let start = chunks.len() * CHUNK;
    for (number, chunk) in chunks.iter_mut().enumerate() {
        let parts: [&[T; CHUNK]; K] =
            std::array::from_fn(|k| &lanes[k].as_chunks::<CHUNK>().0[number]);
        let mut sums = [0.0; CHUNK];
        for (band, sum) in sums.iter_mut().enumerate() {
            *sum = weights[0] * f64::from(value(0, parts[0][band]));
        }
        for k in 1..K {
            for (band, sum) in sums.iter_mut().enumerate() {
                *sum += weights[k] * f64::from(value(k, parts[k][band]));
            }
        }
        for (slot, sum) in chunk.iter_mut().zip(sums) {
            slot.write(canonical(sum));
        }
    }
    for (band, slot) in (start..).zip(rest) {
        let mut sum = weights[0] * f64::from(value(0, lanes[0][band]));
        for k in 1..K {
            sum += weights[k] * f64::from(value(k, lanes[k][band]));
        }
        slot.write(canonical(sum));
    }
}

/// The mean, band by band, of the rows that are valid there; NaN where row `centre` is not.
fn mean_of_valid(weights: &[f64], rows: &[f32], centre: usize, out: &mut [MaybeUninit<f32>]) {
    let bands = out.len();
    for (band, slot) in out.iter_mut().enumerate() {
        let value = |k: usize| rows[k * bands + band];
        if value(centre).is_nan() {
            slot.write(f32::NAN);
            continue;
        }
        let valid = || (0..weights.len()).filter(|&k| !value(k).is_nan());
        let add = |sum: Option<f64>, term: f64| Some(sum.map_or(term, |sum| sum + term));
        let total = valid()
            .fold(None, |sum, k| add(sum, weights[k]))
            .unwrap_or(f64::NAN);
        let sum = valid().fold(None, |sum, k| {
            add(sum, weights[k] / total * f64::from(value(k)))
        });
        slot.write(canonical(sum.unwrap_or(f64::NAN)));
    }
}
