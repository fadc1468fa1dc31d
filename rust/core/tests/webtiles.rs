//! The kernels of web tiles against plain formulas, and PNG files against a decoder.

use std::mem::MaybeUninit;

use geotessera_core::resample::Method;
use geotessera_core::view::{View, ViewMut};
use geotessera_core::webtiles::{encode, halve, resample, sum_squares, touched};
use proptest::prelude::*;

fn bytes(out: Vec<MaybeUninit<u8>>) -> Vec<u8> {
    // SAFETY: the kernels fill their outputs.
    out.into_iter()
        .map(|b| unsafe { b.assume_init() })
        .collect()
}

fn halved(pixels: &[u8], height: usize, width: usize) -> Vec<u8> {
    let mut out = vec![MaybeUninit::uninit(); height * width];
    halve(
        View::new("pixels", pixels, [height, width, 4]).unwrap(),
        ViewMut::new("out", &mut out, [height / 2, width / 2, 4]).unwrap(),
    )
    .unwrap();
    bytes(out)
}

fn decoded(file: &[u8]) -> (Vec<u8>, usize) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (pixels, info.color_type.samples())
}

/// Pixels of which many are opaque and many transparent.
fn picture(count: usize) -> impl Strategy<Value = Vec<u8>> {
    let pixel = (
        any::<[u8; 3]>(),
        prop_oneof![Just(255u8), Just(0u8), any::<u8>()],
    );
    let cleared = |(c, a): ([u8; 3], u8)| {
        if a == 0 {
            [0; 4]
        } else {
            [c[0], c[1], c[2], a]
        }
    };
    proptest::collection::vec(pixel.prop_map(cleared), count).prop_map(|p| p.concat())
}

proptest! {
    #[test]
    fn halves_are_means_weighted_by_alpha(pixels in picture(6 * 8)) {
        let found = halved(&pixels, 6, 8);
        for row in 0..3 {
            for col in 0..4 {
                let four: Vec<&[u8]> = [(0, 0), (0, 1), (1, 0), (1, 1)]
                    .iter()
                    .map(|(r, c)| &pixels[((2 * row + r) * 8 + 2 * col + c) * 4..][..4])
                    .collect();
                let pixel = &found[(row * 4 + col) * 4..][..4];
                let alpha: f64 = four.iter().map(|p| f64::from(p[3])).sum();
                if alpha < 2.0 {
                    prop_assert_eq!(pixel, &[0; 4]);
                    continue;
                }
                prop_assert!((f64::from(pixel[3]) - alpha / 4.0).abs() <= 0.5);
                for band in 0..3 {
                    let sum: f64 = four.iter().map(|p| f64::from(p[band]) * f64::from(p[3])).sum();
                    prop_assert!((f64::from(pixel[band]) - sum / alpha).abs() <= 0.5);
                }
            }
        }
    }

    #[test]
    fn sums_of_squares_are_those_of_their_pixels(
        pixels in picture(7 * 9),
        times in 1usize..12,
        row in 0usize..12,
        col in 0usize..12,
    ) {
        let first = [row % times, col % times];
        let [rows, cols] = touched([7, 9], times, first).unwrap();
        let mut out = vec![MaybeUninit::uninit(); rows * cols * 4];
        sum_squares(
            View::new("pixels", &pixels, [7, 9, 4]).unwrap(),
            times,
            first,
            ViewMut::new("out", &mut out, [rows, cols, 4]).unwrap(),
        )
        .unwrap();
        let mut wanted = vec![0u64; rows * cols * 4];
        for (at, pixel) in pixels.chunks(4).enumerate() {
            let square = (at / 9 + first[0]) / times * cols + (at % 9 + first[1]) / times;
            let alpha = u64::from(pixel[3]);
            for band in 0..4 {
                let value = if band < 3 { u64::from(pixel[band]) } else { 1 };
                wanted[square * 4 + band] += alpha * value;
            }
        }
        // SAFETY: the kernel fills its output.
        let found: Vec<u64> = out.into_iter().map(|s| unsafe { s.assume_init() }).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn png_files_hold_the_pixels(pixels in picture(8 * 16)) {
        let files = encode(View::new("pixels", &pixels, [8, 16, 4]).unwrap(), 8).unwrap();
        prop_assert_eq!(files.len(), 2);
        for (col, file) in files.iter().enumerate() {
            let own: Vec<&[u8]> = (0..8)
                .flat_map(|row| pixels[(row * 16 + col * 8) * 4..][..32].chunks(4))
                .collect();
            let visible = own.iter().any(|p| p[3] > 0);
            prop_assert_eq!(visible, file.is_some());
            if let Some(file) = file {
                let (found, bands) = decoded(file);
                let opaque = own.iter().all(|p| p[3] == 255);
                prop_assert_eq!(bands, if opaque { 3 } else { 4 });
                let wanted: Vec<u8> = own.iter().flat_map(|p| p[..bands].to_vec()).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }

    #[test]
    fn bilinear_values_are_weighted_means(
        pixels in picture(5 * 7),
        left in -2.0..8.0,
        top in -2.0..6.0,
        size in 0.05..1.5,
    ) {
        let (rows, cols, step) = (9, 10, 4);
        let nodes: Vec<f64> = (0..4)
            .flat_map(|r| (0..4).map(move |c| (r, c)))
            .flat_map(|(r, c)| {
                [left + size * (c * step) as f64, top + size * (r * step) as f64]
            })
            .collect();
        let mut out = vec![MaybeUninit::uninit(); rows * cols * 4];
        resample(
            View::new("source", &pixels, [5, 7, 4]).unwrap(),
            View::new("nodes", &nodes, [4, 4, 2]).unwrap(),
            step,
            Method::Bilinear,
            ViewMut::new("out", &mut out, [rows, cols, 4]).unwrap(),
        )
        .unwrap();
        let found = bytes(out);
        for row in 0..rows {
            for col in 0..cols {
                let u = left + size * (col as f64 + 0.5);
                let v = top + size * (row as f64 + 0.5);
                let near = |x: f64| (x - x.round()).abs() < 1e-6;
                if near(u) || near(v) {
                    continue; // either pixel may own the place
                }
                let wanted = by_formula(&pixels, u, v);
                for (band, value) in wanted.iter().enumerate() {
                    let pixel = f64::from(found[(row * cols + col) * 4 + band]);
                    prop_assert!((pixel - value).abs() <= 1.0, "{row} {col} {pixel} {value}");
                }
            }
        }
    }
}

fn by_formula(pixels: &[u8], u: f64, v: f64) -> [f64; 4] {
    let at = |row: f64, col: f64| {
        let inside = (0.0..5.0).contains(&row) && (0.0..7.0).contains(&col);
        inside.then(|| &pixels[(row as usize * 7 + col as usize) * 4..][..4])
    };
    if at(v.floor(), u.floor()).is_none_or(|own| own[3] == 0) {
        return [0.0; 4];
    }
    let (mut colour, mut alpha, mut weight) = ([0.0; 3], 0.0, 0.0);
    for (down, right) in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)] {
        let (row, col) = ((v - 0.5).floor() + down, (u - 0.5).floor() + right);
        if let Some(pixel) = at(row, col).filter(|pixel| pixel[3] > 0) {
            // The kernel's own steps of a 1024th: colours may not jump by them, alphas might.
            let near = |x: f64, at: f64| {
                let part = ((x + 0.5).fract() * 1024.0).floor() / 1024.0;
                if at > (x - 0.5).floor() {
                    part
                } else {
                    1.0 - part
                }
            };
            let own = near(u, col) * near(v, row);
            weight += own;
            alpha += own * f64::from(pixel[3]);
            for band in 0..3 {
                colour[band] += own * f64::from(pixel[3]) * f64::from(pixel[band]);
            }
        }
    }
    [
        colour[0] / alpha,
        colour[1] / alpha,
        colour[2] / alpha,
        alpha / weight,
    ]
}

#[test]
fn nearest_copies_and_nowhere_is_empty() {
    let pixels: Vec<u8> = (0..4).flat_map(|i| [i, i, i, 255]).collect();
    let nan = f64::NAN;
    let nodes = [0.0, 0.0, 2.0, 0.0, nan, nan, 0.0, 2.0, 2.0, 2.0, nan, nan];
    let mut out = vec![MaybeUninit::uninit(); 2 * 4 * 4];
    resample(
        View::new("source", &pixels, [2, 2, 4]).unwrap(),
        View::new("nodes", &nodes, [2, 3, 2]).unwrap(),
        2,
        Method::Nearest,
        ViewMut::new("out", &mut out, [2, 4, 4]).unwrap(),
    )
    .unwrap();
    let empty = [0u8; 8];
    let wanted = [&pixels[..8], &empty, &pixels[8..], &empty].concat();
    assert_eq!(bytes(out), wanted);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let pixels = vec![0u8; 3 * 4 * 4];
    let view = || View::new("pixels", &pixels, [3, 4, 4]).unwrap();
    let mut out = vec![MaybeUninit::uninit(); 2 * 4];
    let target = ViewMut::new("out", &mut out, [1, 2, 4]).unwrap();
    assert!(halve(view(), target).is_err());
    assert!(encode(view(), 2).is_err());
    assert!(encode(view(), 0).is_err());
    let nodes = vec![0.0; 2 * 2 * 2];
    let mut out = vec![MaybeUninit::uninit(); 4 * 4 * 4];
    let nodes = View::new("nodes", &nodes, [2, 2, 2]).unwrap();
    let target = ViewMut::new("out", &mut out, [4, 4, 4]).unwrap();
    assert!(resample(view(), nodes, 2, Method::Nearest, target).is_err());
    for (times, first) in [(0, [0, 0]), (2, [2, 0]), (2, [0, 9])] {
        assert!(touched([3, 4], times, first).is_err());
    }
    assert!(touched([usize::MAX, 4], 2, [1, 0]).is_err());
    assert_eq!(touched([0, 4], 3, [1, 1]).unwrap(), [0, 2]);
    let mut sums = vec![MaybeUninit::uninit(); 2 * 4];
    let target = ViewMut::new("out", &mut sums, [1, 2, 4]).unwrap();
    assert!(sum_squares(view(), 2, [0, 0], target).is_err());
}
