//! Moments, scores and levels against plain float64 arithmetic, at every instruction set.

use geotessera_core::pca::{Level, Moments, Ranks, levels, moments_with, project_with, tally};
use geotessera_core::threads;
use geotessera_core::view::{Pixels, View2, View3, ViewMut3};
use proptest::prelude::*;

/// A raster of int8 with scales, some of them no number, in one of two layouts.
#[derive(Clone, Debug)]
struct Raster {
    shape: [usize; 3],
    q: Vec<i8>,
    scales: Vec<f32>,
    per_band: bool,
    chw: bool,
}

impl Raster {
    fn made(shape: [usize; 3], seed: u64, per_band: bool, chw: bool) -> Self {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let [rows, cols, bands] = shape;
        let q = (0..rows * cols * bands)
            .map(|_| (next() >> 20) as i8)
            .collect();
        let count = rows * cols * if per_band { bands } else { 1 };
        let rarity = if per_band { 10 * bands as u64 } else { 10 };
        let scales = (0..count)
            .map(|_| match next() % (4 * rarity) {
                0 => f32::NAN,
                1 => f32::INFINITY,
                n => 0.02 + (n % 100) as f32 * 1e-3,
            })
            .collect();
        Self {
            shape,
            q,
            scales,
            per_band,
            chw,
        }
    }

    fn view3<'a, T>(&self, data: &'a [T]) -> View3<'a, T> {
        let [rows, cols, bands] = self.shape;
        if self.chw {
            let view = View3::new("values", data, [bands, rows, cols]).unwrap();
            return view.permute([1, 2, 0]);
        }
        View3::new("values", data, self.shape).unwrap()
    }

    fn pixels(&self) -> Pixels<'_> {
        let [rows, cols, bands] = self.shape;
        let scales = if self.per_band {
            self.view3(&self.scales)
        } else {
            let flat = View2::new("scales", &self.scales, [rows, cols]).unwrap();
            flat.stretch("scales", bands).unwrap()
        };
        Pixels::quantized(self.view3(&self.q), scales).unwrap()
    }

    /// Bands of each pixel, float32 products, or None where one is not finite.
    fn rows(&self) -> Vec<Option<Vec<f32>>> {
        let Pixels::I8 { q, scales } = self.pixels() else {
            unreachable!()
        };
        let [rows, cols, bands] = self.shape;
        (0..rows * cols)
            .map(|i| {
                let band = |b| {
                    let at = [i / cols, i % cols, b];
                    f32::from(q.at(at)) * scales.at(at)
                };
                let found: Vec<f32> = (0..bands).map(band).collect();
                let scales_are_finite =
                    (0..bands).all(|b| scales.at([i / cols, i % cols, b]).is_finite());
                (scales_are_finite && found.iter().all(|v| v.is_finite())).then_some(found)
            })
            .collect()
    }
}

fn rasters() -> impl Strategy<Value = Raster> {
    let shape = (
        1usize..24,
        1usize..40,
        prop_oneof![1usize..6, 14usize..34, 126usize..131],
    );
    (shape, any::<u64>(), any::<bool>(), any::<bool>())
        .prop_map(|((r, c, b), seed, per_band, chw)| Raster::made([r, c, b], seed, per_band, chw))
}

fn expected(rows: &[Option<Vec<f32>>], origin: &[f32]) -> Moments {
    let bands = origin.len();
    let mut made = Moments {
        count: 0,
        sums: vec![0.0; bands],
        products: vec![0.0; bands * bands],
    };
    for row in rows.iter().flatten() {
        made.count += 1;
        let d: Vec<f64> = row
            .iter()
            .zip(origin)
            .map(|(&x, &o)| f64::from(x) - f64::from(o))
            .collect();
        for a in 0..bands {
            made.sums[a] += d[a];
            for b in 0..bands {
                made.products[a * bands + b] += d[a] * d[b];
            }
        }
    }
    made
}

/// Whether sums agree to 2⁻¹⁸ of the sizes of their terms.
fn agree(found: &Moments, wanted: &Moments) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.count, wanted.count);
    let bands = wanted.sums.len();
    let size: Vec<f64> = (0..bands)
        .map(|b| wanted.products[b * (bands + 1)].sqrt())
        .collect();
    for a in 0..bands {
        let slack = size[a] * (wanted.count as f64).sqrt() * 4e-6 + f64::MIN_POSITIVE;
        prop_assert!((found.sums[a] - wanted.sums[a]).abs() <= slack);
        for b in 0..bands {
            let (f, w) = (
                found.products[a * bands + b],
                wanted.products[a * bands + b],
            );
            let slack = size[a] * size[b] * 4e-6 + f64::MIN_POSITIVE;
            prop_assert!((f - w).abs() <= slack, "({}, {}): {} for {}", a, b, f, w);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn moments_are_those_of_float64(raster in rasters(), start in -2.0f32..2.0) {
        let origin = vec![start; raster.shape[2]];
        let wanted = expected(&raster.rows(), &origin);
        for level in Level::available() {
            agree(&moments_with(level, raster.pixels(), &origin).unwrap(), &wanted)?;
        }
    }

    #[test]
    fn float32_pixels_have_the_same_moments(raster in rasters()) {
        let [rows, cols, bands] = raster.shape;
        let nodata = -9999.0;
        let values: Vec<f32> = raster.rows().into_iter()
            .flat_map(|row| row.unwrap_or_else(|| vec![nodata; bands]))
            .collect();
        let origin = vec![0.25; bands];
        let values = View3::new("values", &values, [rows, cols, bands]).unwrap();
        for level in Level::available() {
            let quantised = moments_with(level, raster.pixels(), &origin).unwrap();
            let pixels = Pixels::F32 { values, nodata: Some(nodata) };
            prop_assert_eq!(&moments_with(level, pixels, &origin).unwrap(), &quantised);
        }
    }

    #[test]
    fn scores_are_rounded_once_and_the_same_everywhere(
        raster in rasters(), components in 1usize..9, seed in any::<u64>(),
    ) {
        let [rows, cols, bands] = raster.shape;
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        let weights: Vec<f64> = (0..components * bands).map(|_| next()).collect();
        let offsets: Vec<f64> = (0..components).map(|_| next() * 10.0).collect();
        let mut first: Option<Vec<u32>> = None;
        for level in Level::available() {
            let mut out = Vec::<f32>::with_capacity(rows * cols * components);
            let room = &mut out.spare_capacity_mut()[..rows * cols * components];
            let view = ViewMut3::new("out", room, [rows, cols, components]).unwrap();
            project_with(level, raster.pixels(), &weights, &offsets, view).unwrap();
            // SAFETY: all of `out` was written.
            unsafe { out.set_len(rows * cols * components) };
            for (row, scores) in raster.rows().iter().zip(out.chunks(components)) {
                for (k, &score) in scores.iter().enumerate() {
                    let Some(row) = row else {
                        prop_assert!(score.is_nan());
                        continue;
                    };
                    let weights = &weights[k * bands..(k + 1) * bands];
                    let term = |(w, &x): (&f64, &f32)| w * f64::from(x);
                    let sum: f64 = weights.iter().zip(row).map(term).sum();
                    let size: f64 = weights.iter().zip(row).map(|p| term(p).abs()).sum();
                    let wanted = sum + offsets[k];
                    let slack = size * 2f64.powi(-29) + wanted.abs() * 2f64.powi(-24);
                    prop_assert!((f64::from(score) - wanted).abs() <= slack);
                }
            }
            let bits = out.iter().map(|v| v.to_bits()).collect();
            match &first {
                None => first = Some(bits),
                Some(first) => prop_assert_eq!(first, &bits),
            }
        }
    }

    #[test]
    fn levels_count_thresholds(
        mut thresholds in prop::collection::vec(-1e3f32..1e3, 510),
        scores in prop::collection::vec(prop_oneof![
            9 => -2e3f32..2e3,
            1 => prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0]),
        ], 2..200),
    ) {
        thresholds[..255].sort_by(f32::total_cmp);
        thresholds[255..].sort_by(f32::total_cmp);
        let n = scores.len() / 2;
        let view = View3::new("scores", &scores[..2 * n], [1, n, 2]).unwrap();
        let mut out = Vec::<u8>::with_capacity(2 * n);
        let room = &mut out.spare_capacity_mut()[..2 * n];
        levels(view, &thresholds, ViewMut3::new("out", room, [1, n, 2]).unwrap()).unwrap();
        // SAFETY: all of `out` was written.
        unsafe { out.set_len(2 * n) };
        for (i, (&score, &level)) in scores.iter().zip(&out).enumerate() {
            let list = &thresholds[i % 2 * 255..][..255];
            prop_assert_eq!(usize::from(level), list.iter().filter(|&&t| score >= t).count());
        }
    }

    #[test]
    fn tallies_count_every_number_but_nan(
        scores in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 1..100),
        dropped in 0u32..17,
    ) {
        let view = View3::new("scores", &scores, [scores.len(), 1, 1]).unwrap();
        let mut upper = vec![0; 1 << 16];
        tally(view, Ranks::Upper, &mut [&mut upper]).unwrap();
        let mut rows = vec![-1; 1 << 16];
        let mut found = 0;
        for (slot, _) in rows.iter_mut().zip(&upper).filter(|(_, count)| **count > 0) {
            *slot = found;
            found += 1;
        }
        let mut lower = vec![0; (found as usize) << (16 - dropped)];
        tally(view, Ranks::Lower { rows: &rows, dropped }, &mut [&mut lower]).unwrap();
        let mut sorted: Vec<f32> = scores.iter().copied().filter(|v| !v.is_nan()).collect();
        sorted.sort_by(f32::total_cmp);
        prop_assert_eq!(upper.iter().sum::<i64>(), sorted.len() as i64);
        prop_assert_eq!(lower.iter().sum::<i64>(), sorted.len() as i64);
        // Upper halves in order are those of the sorted numbers.
        let mut place = 0;
        for (high, &count) in upper.iter().enumerate() {
            for value in &sorted[place..place + count as usize] {
                let bits = value.to_bits();
                let rank = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
                prop_assert_eq!(rank as usize >> 16, high);
            }
            place += count as usize;
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let raster = Raster::made([300, 200, 40], 7, false, false);
    let origin = vec![0.1; 40];
    let weights = vec![0.3; 3 * 40];
    let mut seen: Vec<(Moments, Vec<u32>)> = Vec::new();
    for count in [1, 2, 7] {
        threads::set(count).unwrap();
        let made = moments_with(Level::best(), raster.pixels(), &origin).unwrap();
        let mut out = vec![std::mem::MaybeUninit::new(0f32); 300 * 200 * 3];
        let view = ViewMut3::new("out", &mut out, [300, 200, 3]).unwrap();
        project_with(Level::best(), raster.pixels(), &weights, &[0.0; 3], view).unwrap();
        // SAFETY: made of numbers.
        let bits = out
            .iter()
            .map(|v| unsafe { v.assume_init() }.to_bits())
            .collect();
        seen.push((made, bits));
    }
    assert!(seen.iter().all(|one| *one == seen[0]));
    assert!(seen[0].0.count > 40_000 && seen[0].0.count < 60_000);
}

#[test]
fn numbers_too_large_or_small_for_float32_squares_count_too() {
    for size in [3e38f32, 1e30, 1e-30, 1e-44] {
        let values: Vec<f32> = (0..600)
            .map(|i| if i % 7 == 0 { size } else { -size / 2.0 })
            .collect();
        let view = View3::new("values", &values, [100, 2, 3]).unwrap();
        let pixels = Pixels::F32 {
            values: view,
            nodata: None,
        };
        let rows: Vec<_> = values.chunks(3).map(|row| Some(row.to_vec())).collect();
        let origin = [size / 3.0, 0.0, -size];
        let wanted = expected(&rows, &origin);
        for level in Level::available() {
            let found = moments_with(level, pixels, &origin).unwrap();
            for (f, w) in found.products.iter().zip(&wanted.products) {
                assert!(
                    (f - w).abs() <= w.abs() * 1e-12 && (*w != 0.0),
                    "{f} for {w}"
                );
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let raster = Raster::made([2, 3, 4], 1, false, false);
    assert!(moments_with(Level::Scalar, raster.pixels(), &[0.0; 3]).is_err());
    assert!(moments_with(Level::Scalar, raster.pixels(), &[f32::NAN; 4]).is_err());
    let mut out = [std::mem::MaybeUninit::<f32>::uninit(); 12];
    for (weights, offsets, shape) in [(7, 2, [2, 3, 2]), (8, 2, [3, 2, 2]), (8, 2, [2, 3, 1])] {
        let count = shape.iter().product();
        let view = ViewMut3::new("out", &mut out[..count], shape).unwrap();
        let (weights, offsets) = (vec![0.0; weights], vec![0.0; offsets]);
        assert!(project_with(Level::Scalar, raster.pixels(), &weights, &offsets, view).is_err());
    }
    let scores = [0f32; 4];
    let view = View3::new("scores", &scores, [2, 2, 1]).unwrap();
    let mut out = [std::mem::MaybeUninit::<u8>::uninit(); 4];
    let mut list = vec![0.0; 255];
    for (at, value) in [(3, 1.0), (9, f32::NAN)] {
        list[at] = value;
        let view_of_out = ViewMut3::new("out", &mut out, [2, 2, 1]).unwrap();
        assert!(levels(view, &list, view_of_out).is_err());
    }
    assert!(tally(view, Ranks::Upper, &mut [&mut [0; 4]]).is_err());
    assert!(tally(view, Ranks::Upper, &mut []).is_err());
    let rows = Ranks::Lower {
        rows: &[0; 4],
        dropped: 0,
    };
    assert!(tally(view, rows, &mut [&mut [0; 4]]).is_err());
}
