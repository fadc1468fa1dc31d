//! Sampling: invariants for any raster; the Python tests compare with a plain reference.

use std::mem::MaybeUninit;

use geotessera_core::grid::{Grid, PixelRule};
use geotessera_core::resample::{Method, footprint};
use geotessera_core::sample::{Outputs, Sampler, status};
use geotessera_core::view::{Pixels, View, ViewMut};
use geotessera_core::{Error, Result};
use proptest::prelude::*;

const SHAPE: [usize; 3] = [7, 9, 5];

struct World {
    q: Vec<i8>,
    scales: Vec<f32>,
    points: Vec<f64>,
}

fn world(seed: u64, count: usize) -> World {
    let mut state = seed | 1;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    let pixels = SHAPE[0] * SHAPE[1];
    World {
        q: (0..pixels * SHAPE[2])
            .map(|_| (next() * 255.0 - 128.0) as i8)
            .collect(),
        scales: (0..pixels)
            .map(|_| {
                if next() < 0.2 {
                    f32::NAN
                } else {
                    next() as f32
                }
            })
            .collect(),
        points: (0..2 * count).map(|_| next() * 12.0 - 1.0).collect(),
    }
}

/// Rows and status; rows not in the index hold 7 and 9.
fn run(world: &World, method: Method, index: Option<&[usize]>) -> Result<(Vec<f32>, Vec<u8>)> {
    let count = world.points.len() / 2;
    let q = View::new("q", &world.q, SHAPE)?;
    let scales =
        View::new("scales", &world.scales, [SHAPE[0], SHAPE[1]])?.stretch("s", SHAPE[2])?;
    let sampler = Sampler {
        pixels: Pixels::quantized(q, scales)?,
        grid: Grid::from_affine([1.0, 0.0, 0.0, 0.0, -1.0, SHAPE[0] as f64])?,
        method,
        rule: PixelRule::Floor,
        crs: None,
        bands: None,
        land: None,
        present: None,
    };
    let mut values = vec![MaybeUninit::new(7.0f32); count * SHAPE[2]];
    let mut codes = vec![MaybeUninit::new(9u8); count];
    sampler.sample(
        View::new("points", &world.points, [count, 2])?,
        index,
        Outputs {
            values: ViewMut::new("out", &mut values, [count, SHAPE[2]])?,
            status: ViewMut::new("status", &mut codes, [count])?,
            pixels: None,
            fill_values: false,
            fill_status: false,
        },
    )?;
    // SAFETY: every element was initialised above.
    let values = values.iter().map(|v| unsafe { v.assume_init() }).collect();
    // SAFETY: every element was initialised above.
    Ok((
        values,
        codes.iter().map(|v| unsafe { v.assume_init() }).collect(),
    ))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Each row depends on its point alone: not on the index, the chunks or the threads.
    #[test]
    fn an_index_changes_no_row(seed: u64, count in 0usize..5000, keep in 1usize..5, bilinear: bool) {
        let world = world(seed, count);
        let method = if bilinear { Method::Bilinear } else { Method::Nearest };
        let (all, codes) = run(&world, method, None).unwrap();
        let index: Vec<usize> = (0..count).filter(|i| (i * 7 + seed as usize % 11).is_multiple_of(keep)).collect();
        let (some, some_codes) = run(&world, method, Some(&index)).unwrap();
        let mut listed = index.iter().peekable();
        for row in 0..count {
            let span = row * SHAPE[2]..(row + 1) * SHAPE[2];
            if listed.next_if_eq(&&row).is_some() {
                prop_assert_eq!(bits(&some[span.clone()]), bits(&all[span]));
                prop_assert_eq!(some_codes[row], codes[row]);
            } else {
                prop_assert!(some[span].iter().all(|&v| v == 7.0) && some_codes[row] == 9);
            }
        }
    }

    /// A row is finite exactly where its status is VALID.
    #[test]
    fn status_and_values_agree(seed: u64, bilinear: bool) {
        let world = world(seed, 500);
        let method = if bilinear { Method::Bilinear } else { Method::Nearest };
        let (values, codes) = run(&world, method, None).unwrap();
        for (row, code) in values.chunks(SHAPE[2]).zip(codes) {
            prop_assert!(row.iter().all(|v| v.is_finite() == (code == status::VALID)));
        }
    }

    /// The containing pixel takes part in every mean, and no tap lies outside.
    #[test]
    fn footprints_hold_their_pixel(
        u in -1.0..10.0f64, v in -1.0..8.0f64, snap: bool, nearest: bool,
        height in 0usize..8, width in 0usize..10,
    ) {
        let (u, v) = if snap { ((u * 2.0).round() / 2.0, (v * 2.0).round() / 2.0) } else { (u, v) };
        let rule = if nearest { PixelRule::Nearest } else { PixelRule::Floor };
        let found = footprint(u, v, (height, width), rule, Method::Bilinear);
        let inside = |u: f64, size: usize| match rule {
            PixelRule::Floor => u >= 0.0 && u < size as f64,
            PixelRule::Nearest => size > 0 && u >= -0.5 && u <= size as f64 + 0.5,
        };
        prop_assert_eq!(found.is_some(), inside(u, width) && inside(v, height));
        if let Some(found) = found {
            prop_assert!(found.taps().any(|t| (t.row, t.col) == found.pixel()));
            prop_assert!(found.taps().all(|t| t.row < height && t.col < width && t.weight > 0.0));
            let total: f64 = found.taps().map(|t| t.weight).sum();
            prop_assert!(total > 0.24 && total < 1.0 + 1e-12);
        }
    }
}

#[test]
fn ties_go_to_the_first_pixel() {
    let pixel = |u| PixelRule::Nearest.pixel(u, 3);
    let wanted = [
        (-0.51, None),
        (-0.5, Some(0)),
        (0.0, Some(0)),
        (1.0, Some(0)),
        (1.01, Some(1)),
        (3.5, Some(2)),
    ];
    for (u, expected) in wanted {
        assert_eq!(pixel(u), expected, "{u}");
    }
    assert_eq!(pixel(3.51), None);
    assert_eq!(PixelRule::Floor.pixel(1.0, 3), Some(1));
    assert_eq!(PixelRule::Floor.pixel(3.0, 3), None);
    assert_eq!(PixelRule::Floor.pixel(f64::NAN, 3), None);
}

#[test]
fn an_index_that_is_not_increasing_is_refused() {
    let world = world(1, 10);
    for index in [&[1usize, 1][..], &[3, 2], &[0, 10], &[usize::MAX]] {
        let found = run(&world, Method::Nearest, Some(index));
        assert!(matches!(found, Err(Error::Argument(_))), "{index:?}");
    }
}

#[test]
fn rotated_transforms_are_refused() {
    for bad in [
        [1.0, 0.1, 0.0, 0.0, -1.0, 0.0],
        [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0],
        [f64::NAN; 6],
    ] {
        assert!(Grid::from_affine(bad).is_err());
    }
}
