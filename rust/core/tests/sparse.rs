//! A list of the needed pixels stands for the raster, and records are what the file holds.

use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use geotessera_core::grid::{Grid, PixelRule};
use geotessera_core::records::Records;
use geotessera_core::resample::{Locator, Method};
use geotessera_core::sample::{Outputs, Sampler};
use geotessera_core::sparse::{Present, needed_pixels};
use geotessera_core::view::{Pixels, View, ViewMut};
use geotessera_core::{Error, Result};
use proptest::prelude::*;

const HEIGHT: usize = 7;
const WIDTH: usize = 9;
const BANDS: usize = 5;

struct World {
    q: Vec<i8>,
    scales: Vec<f32>,
    land: Vec<u8>,
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
    let pixels = HEIGHT * WIDTH;
    World {
        q: (0..pixels * BANDS)
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
        land: (0..pixels).map(|_| u8::from(next() < 0.8)).collect(),
        // Every second coordinate on a half pixel, where a neighbour's weight is zero.
        points: (0..2 * count)
            .map(|i| {
                let at = next() * 12.0 - 1.0;
                if i % 4 < 2 {
                    at
                } else {
                    (at * 2.0).round() / 2.0
                }
            })
            .collect(),
    }
}

fn locator(method: Method, rule: PixelRule) -> Locator {
    Locator {
        shape: [HEIGHT, WIDTH],
        grid: Grid::from_affine([1.0, 0.0, 0.0, 0.0, -1.0, HEIGHT as f64]).unwrap(),
        crs: None,
        rule,
        method,
    }
}

/// Value bits, status and pixels.
type Found = (Vec<u32>, Vec<u8>, Vec<i32>);

/// Samples the raster, or with `numbers` a list of those pixels.
fn run(
    world: &World,
    locator: &Locator,
    numbers: Option<&[i64]>,
    land: bool,
    listed_land: bool,
) -> Result<Found> {
    let count = world.points.len() / 2;
    let listed = numbers.unwrap_or_default();
    let at = |number: &i64| *number as usize;
    let q: Vec<i8> = listed
        .iter()
        .flat_map(|n| world.q[at(n) * BANDS..][..BANDS].to_vec())
        .collect();
    let scales: Vec<f32> = listed.iter().map(|n| world.scales[at(n)]).collect();
    let lands: Vec<u8> = listed.iter().map(|n| world.land[at(n)]).collect();
    let (pixels, present) = match numbers {
        None => {
            let q = View::new("q", &world.q, [HEIGHT, WIDTH, BANDS])?;
            let scales = View::new("scales", &world.scales, [HEIGHT, WIDTH])?;
            (Pixels::quantized(q, scales.stretch("s", BANDS)?)?, None)
        }
        Some(numbers) => {
            let n = numbers.len();
            let q = View::new("q", &q, [n, BANDS])?.column();
            let scales = View::new("scales", &scales, [n])?.column();
            let present = Present {
                shape: [HEIGHT, WIDTH],
                numbers: View::new("present", numbers, [n])?,
                land: (land && listed_land)
                    .then(|| View::new("land", &lands, [n]))
                    .transpose()?,
            };
            (
                Pixels::quantized(q, scales.stretch("s", BANDS)?)?,
                Some(present),
            )
        }
    };
    let whole_land = land && !(numbers.is_some() && listed_land);
    let sampler = Sampler {
        pixels,
        grid: locator.grid,
        method: locator.method,
        rule: locator.rule,
        crs: None,
        bands: None,
        land: whole_land
            .then(|| View::new("land", &world.land, [HEIGHT, WIDTH]))
            .transpose()?,
        present,
    };
    let mut values = vec![MaybeUninit::new(7.0f32); count * BANDS];
    let mut codes = vec![MaybeUninit::new(9u8); count];
    let mut places = vec![MaybeUninit::new(-7i32); count * 2];
    let outcome = sampler.sample(
        View::new("points", &world.points, [count, 2])?,
        None,
        Outputs {
            values: ViewMut::new("out", &mut values, [count, BANDS])?,
            status: ViewMut::new("status", &mut codes, [count])?,
            pixels: Some(ViewMut::new("pixels", &mut places, [count, 2])?),
            fill_values: true,
            fill_status: true,
        },
    );
    // SAFETY: every element was initialised above.
    let read = |v: &MaybeUninit<f32>| unsafe { v.assume_init() }.to_bits();
    let values: Vec<u32> = values.iter().map(read).collect();
    if outcome.is_err() {
        assert!(
            values.iter().all(|&v| v == 7.0f32.to_bits()),
            "something was written"
        );
    }
    outcome?;
    // SAFETY: every element was initialised above.
    let codes = codes.iter().map(|v| unsafe { v.assume_init() }).collect();
    // SAFETY: every element was initialised above.
    let places = places.iter().map(|v| unsafe { v.assume_init() }).collect();
    Ok((values, codes, places))
}

fn parts() -> impl Strategy<Value = (u64, usize, bool, bool)> {
    (any::<u64>(), 0usize..400, any::<bool>(), any::<bool>())
}

fn method_and_rule(bilinear: bool, nearest: bool) -> Locator {
    locator(
        if bilinear {
            Method::Bilinear
        } else {
            Method::Nearest
        },
        if nearest {
            PixelRule::Nearest
        } else {
            PixelRule::Floor
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_list_stands_for_the_raster(
        (seed, count, bilinear, nearest) in parts(), land: bool, listed_land: bool, extra: u64,
    ) {
        let world = world(seed, count);
        let locator = method_and_rule(bilinear, nearest);
        let points = View::new("points", &world.points, [count, 2]).unwrap();
        let needed = needed_pixels(points, None, &locator).unwrap();
        prop_assert!(needed.windows(2).all(|pair| pair[0] < pair[1]));
        let dense = run(&world, &locator, None, land, false).unwrap();
        let sparse = run(&world, &locator, Some(&needed), land, listed_land).unwrap();
        prop_assert_eq!(&sparse, &dense);
        // More than is needed does no harm.
        let more: BTreeSet<i64> = (0..(HEIGHT * WIDTH) as i64)
            .filter(|n| extra >> (n % 64) & 1 == 1)
            .chain(needed.iter().copied())
            .collect();
        let more: Vec<i64> = more.into_iter().collect();
        prop_assert_eq!(run(&world, &locator, Some(&more), land, listed_land).unwrap(), dense);
    }

    /// Each pixel that is named is needed: without any of them the list is refused.
    #[test]
    fn a_list_with_a_gap_is_refused((seed, count, bilinear, nearest) in parts(), which: usize) {
        let world = world(seed, count);
        let locator = method_and_rule(bilinear, nearest);
        let points = View::new("points", &world.points, [count, 2]).unwrap();
        let mut needed = needed_pixels(points, None, &locator).unwrap();
        if !needed.is_empty() {
            let gone = needed.remove(which % needed.len());
            let found = run(&world, &locator, Some(&needed), false, false);
            let said = found.unwrap_err().to_string();
            prop_assert!(said.contains(&format!("number {gone}")), "{}", said);
        }
    }

    #[test]
    fn an_index_selects_points(seed: u64, count in 1usize..300, keep in 1usize..5) {
        let world = world(seed, count);
        let locator = locator(Method::Bilinear, PixelRule::Floor);
        let points = View::new("points", &world.points, [count, 2]).unwrap();
        let index: Vec<usize> = (0..count).step_by(keep).collect();
        let chosen: Vec<f64> = index
            .iter()
            .flat_map(|&i| [world.points[2 * i], world.points[2 * i + 1]])
            .collect();
        let alone = View::new("points", &chosen, [index.len(), 2]).unwrap();
        prop_assert_eq!(
            needed_pixels(points, Some(&index), &locator).unwrap(),
            needed_pixels(alone, None, &locator).unwrap()
        );
    }

    #[test]
    fn records_are_what_the_file_holds(
        seed: u64, offset in 0usize..50, record in 0usize..20, count in 1usize..3000, keep in 1u64..9,
    ) {
        let bytes: Vec<u8> = (0..offset + record * count)
            .map(|i| (i as u64).wrapping_mul(seed | 1).to_le_bytes()[3])
            .collect();
        let file = TempFile::new(&bytes);
        let numbers: Vec<i64> = (0..count as i64)
            .filter(|&n| (n as u64).wrapping_mul(seed | 1) >> 7 < (u64::MAX / keep) >> 7)
            .collect();
        let wanted: Vec<u8> = numbers
            .iter()
            .flat_map(|&n| bytes[offset + n as usize * record..][..record].to_vec())
            .collect();
        prop_assert_eq!(read(&file.0, offset, record, &numbers, None).unwrap(), wanted);
    }
}

#[test]
fn more_points_than_one_task_takes() {
    let world = world(3, 50_000);
    let locator = locator(Method::Bilinear, PixelRule::Floor);
    let points = View::new("points", &world.points, [50_000, 2]).unwrap();
    let all: Vec<i64> = (0..(HEIGHT * WIDTH) as i64).collect();
    assert_eq!(needed_pixels(points, None, &locator).unwrap(), all);
}

#[test]
fn lists_out_of_order_are_refused() {
    let world = world(1, 10);
    let locator = locator(Method::Nearest, PixelRule::Floor);
    let all = 0..(HEIGHT * WIDTH) as i64;
    let mut twice: Vec<i64> = all.clone().collect();
    twice.insert(5, 5);
    let mut swapped: Vec<i64> = all.collect();
    swapped.swap(0, 1);
    for numbers in [twice, swapped] {
        let found = run(&world, &locator, Some(&numbers), false, false);
        assert!(matches!(found, Err(Error::Argument(_))));
    }
}

struct TempFile(PathBuf);

impl TempFile {
    fn new(bytes: &[u8]) -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("geotessera-records-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn read(
    path: &Path,
    offset: usize,
    record: usize,
    numbers: &[i64],
    size: Option<u64>,
) -> Result<Vec<u8>> {
    let mut out = vec![MaybeUninit::new(0x55); numbers.len() * record];
    let records = Records {
        path,
        offset: offset as u64,
        record,
        size,
    };
    records.read(View::new("numbers", numbers, [numbers.len()])?, &mut out)?;
    // SAFETY: initialised above.
    Ok(out.iter().map(|v| unsafe { v.assume_init() }).collect())
}

#[test]
fn bad_reads_are_errors() {
    let file = TempFile::new(&[1; 100]);
    let io = |found: Result<Vec<u8>>| match found {
        Err(error @ Error::Io { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let name = file.0.display().to_string();
    for numbers in [&[10][..], &[9, 11], &[1 << 40]] {
        let said = io(read(&file.0, 0, 10, numbers, None));
        assert!(said.contains(&name) && said.contains("it ends"), "{said}");
    }
    assert!(io(read(&file.0, 0, 10, &[1], Some(101))).contains("100 bytes, not 101"));
    io(read(Path::new("/nowhere/at/all"), 0, 10, &[1], None));
    for numbers in [&[-1][..], &[2, 1], &[3, 3], &[i64::MAX]] {
        let found = read(&file.0, 0, 10, numbers, None);
        assert!(matches!(found, Err(Error::Argument(_))), "{numbers:?}");
    }
    assert_eq!(read(&file.0, 3, 10, &[], Some(100)).unwrap(), []);
}
