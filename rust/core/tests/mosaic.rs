//! Mosaics against one pixel after the other, on every instruction set; the Python tests compare
//! with PROJ and GDAL.

use std::mem::MaybeUninit;

use geotessera_core::coords::Crs;
use geotessera_core::grid::{Grid, PixelRule, Window};
use geotessera_core::level::Level;
use geotessera_core::mosaic::{Mosaic, Outputs, Position, Source, Target, Values};
use geotessera_core::resample::Method;
use geotessera_core::threads;
use geotessera_core::view::{Pixels, View, ViewMut};
use proptest::prelude::*;

/// Numbers in [0, 1) that look random.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed | 1;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    }
}

/// A raster in UTM zone 31 whose corner lies `shift` pixels from (500 km, 5800 km).
struct Raster {
    q: Vec<i8>,
    scales: Vec<f32>,
    shape: [usize; 3],
    shift: [f64; 2],
    cell: Option<[i32; 2]>,
}

const CORNER: [f64; 2] = [500_000.0, 5_800_000.0];
const PIXEL: f64 = 10.0;

fn raster(next: &mut impl FnMut() -> f64, depth: usize, size: usize, phase: f64) -> Raster {
    let shape = [
        1 + (next() * size as f64) as usize,
        1 + (next() * size as f64) as usize,
        depth,
    ];
    let pixels = shape[0] * shape[1];
    Raster {
        q: (0..pixels * depth)
            .map(|_| (next() * 256.0 - 128.0) as i8)
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
        shape,
        shift: [0, 1].map(|_| (next() * size as f64).floor() - size as f64 / 2.0 + phase),
        // Longitude 3 is the central meridian: cells 29 and 30 meet at the corner.
        cell: (next() < 0.5).then(|| [29 + (next() * 2.0) as i32, 523]),
    }
}

impl Raster {
    fn grid(&self) -> Grid {
        let [right, down] = self.shift;
        let left = CORNER[0] + PIXEL * right;
        Grid::from_affine([PIXEL, 0.0, left, 0.0, -PIXEL, CORNER[1] - PIXEL * down]).unwrap()
    }

    fn source(&self, through: Option<Crs>) -> Source<'_> {
        let [height, width, depth] = self.shape;
        let q = View::new("q", &self.q, self.shape).unwrap();
        let scales = View::new("scales", &self.scales, [height, width]).unwrap();
        Source {
            pixels: Pixels::quantized(q, scales.stretch("scales", depth).unwrap()).unwrap(),
            window: Window {
                row: 0,
                col: 0,
                height,
                width,
            },
            shape: [height, width],
            grid: self.grid(),
            position: through.map_or(Position::Same, Position::Crs),
            cell: self.cell,
            rule: PixelRule::Floor,
        }
    }

    fn value(&self, row: usize, col: usize, band: usize) -> f32 {
        let pixel = row * self.shape[1] + col;
        f32::from(self.q[pixel * self.shape[2] + band]) * self.scales[pixel]
    }

    /// One band at a place of this raster's system; None where nothing is.
    fn at(&self, x: f64, y: f64, band: usize, method: Method) -> Option<f32> {
        let [height, width, _] = self.shape;
        let left = CORNER[0] + PIXEL * self.shift[0];
        let top = CORNER[1] - PIXEL * self.shift[1];
        let (u, v) = ((x - left) / PIXEL, (top - y) / PIXEL);
        if !(u >= 0.0 && v >= 0.0 && u < width as f64 && v < height as f64) {
            return None;
        }
        let (row, col) = (v.floor() as usize, u.floor() as usize);
        let own = self.value(row, col, band);
        if own.is_nan() || method == Method::Nearest {
            return (!own.is_nan()).then_some(own);
        }
        let (base_u, base_v) = ((u - 0.5).floor(), (v - 0.5).floor());
        let (part_u, part_v) = (u - 0.5 - base_u, v - 0.5 - base_v);
        let mut terms = Vec::new();
        for (r, wy) in [(base_v, 1.0 - part_v), (base_v + 1.0, part_v)] {
            for (c, wx) in [(base_u, 1.0 - part_u), (base_u + 1.0, part_u)] {
                let inside = r >= 0.0 && c >= 0.0 && r < height as f64 && c < width as f64;
                if inside && wy * wx > 0.0 {
                    let value = self.value(r as usize, c as usize, band);
                    if !value.is_nan() {
                        terms.push((wy * wx, f64::from(value)));
                    }
                }
            }
        }
        let total = terms.iter().map(|t| t.0).reduce(|a, b| a + b)?;
        let mean = terms
            .iter()
            .map(|t| t.0 / total * t.1)
            .reduce(|a, b| a + b)?;
        Some(mean as f32)
    }
}

/// What is asked of the kernel, and of the plain loop.
struct Case {
    rasters: Vec<Raster>,
    target: Grid,
    crs: Crs,
    size: [usize; 2],
    depth: usize,
    method: Method,
    exact: bool,
}

fn case(seed: u64, geographic: bool, bilinear: bool, phase: f64) -> Case {
    let mut next = noise(seed);
    let depth = 1 + (next() * 40.0) as usize;
    let count = 1 + (next() * 4.0) as usize;
    let rasters = (0..count)
        .map(|_| raster(&mut next, depth, 90, phase))
        .collect();
    let size = [1 + (next() * 150.0) as usize, 1 + (next() * 200.0) as usize];
    let utm = Crs::from_epsg(32631).unwrap();
    let (crs, affine) = if geographic {
        let (lon, lat) = utm.inverse(CORNER[0], CORNER[1]);
        let (px, py) = (1.3e-4, 0.9e-4);
        let (left, top) = (
            lon - px * size[1] as f64 / 2.0,
            lat + py * size[0] as f64 / 2.0,
        );
        (Crs::Geographic, [px, 0.0, left, 0.0, -py, top])
    } else {
        let left = CORNER[0] - (PIXEL * (size[1] / 2) as f64);
        let top = CORNER[1] + (PIXEL * (size[0] / 2) as f64);
        (utm, [PIXEL, 0.0, left, 0.0, -PIXEL, top])
    };
    Case {
        rasters,
        target: Grid::from_affine(affine).unwrap(),
        crs,
        size,
        depth,
        method: if bilinear {
            Method::Bilinear
        } else {
            Method::Nearest
        },
        exact: next() < 0.5,
    }
}

impl Case {
    fn render(&self, level: Level, window: Window) -> (Vec<u32>, Vec<i16>, usize) {
        let utm = Crs::from_epsg(32631).unwrap();
        let through = (self.crs != utm || self.exact).then_some(utm);
        let sources: Vec<_> = self.rasters.iter().map(|r| r.source(through)).collect();
        let Window { height, width, .. } = window;
        let mut values = vec![MaybeUninit::new(7.0f32); height * width * self.depth];
        let mut origin = vec![MaybeUninit::new(7i16); height * width];
        let mosaic = Mosaic {
            sources: &sources,
            target: Target {
                grid: self.target,
                window,
                crs: Some(self.crs),
                lonlat: None,
            },
            method: self.method,
            bands: None,
        };
        let out = Outputs {
            values: Values::F32(
                ViewMut::new("out", &mut values, [height, width, self.depth]).unwrap(),
            ),
            origin: Some(ViewMut::new("origin", &mut origin, [height, width]).unwrap()),
        };
        let count = mosaic.render_with(level, out).unwrap();
        // SAFETY: every element was initialised above.
        let values = values
            .iter()
            .map(|v| unsafe { v.assume_init() }.to_bits())
            .collect();
        // SAFETY: every element was initialised above.
        let origin = origin.iter().map(|v| unsafe { v.assume_init() }).collect();
        (values, origin, count)
    }

    fn whole(&self) -> Window {
        Window {
            row: 0,
            col: 0,
            height: self.size[0],
            width: self.size[1],
        }
    }

    /// The same, one band of one pixel after the other.
    fn plain(&self) -> (Vec<u32>, Vec<i16>, usize) {
        let utm = Crs::from_epsg(32631).unwrap();
        let (mut values, mut origins, mut count) = (Vec::new(), Vec::new(), 0);
        for row in 0..self.size[0] {
            for col in 0..self.size[1] {
                let (x, y) = self.target.position(col as f64 + 0.5, row as f64 + 0.5);
                let (lon, lat) = self.crs.inverse(x, y);
                let (x, y) = if self.crs == utm {
                    (x, y)
                } else {
                    utm.forward(lon, lat)
                };
                let owner = [(lon * 10.0).floor() as i32, (lat * 10.0).floor() as i32];
                let mine = |k: &usize| self.rasters[*k].cell == Some(owner);
                let order = (0..self.rasters.len())
                    .filter(mine)
                    .chain(0..self.rasters.len());
                let found = order
                    .into_iter()
                    .find(|&k| self.rasters[k].at(x, y, 0, Method::Nearest).is_some());
                origins.push(found.map_or(-1, |k| k as i16));
                count += usize::from(found.is_some());
                for band in 0..self.depth {
                    let value = found.and_then(|k| self.rasters[k].at(x, y, band, self.method));
                    values.push(value.unwrap_or(f32::NAN).to_bits());
                }
            }
        }
        (values, origins, count)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_level_is_the_plain_loop(
        seed: u64, geographic: bool, bilinear: bool, phase in prop::sample::select(vec![0.0, 0.5, 0.31]),
    ) {
        let case = case(seed, geographic, bilinear, phase);
        let (values, origin, count) = case.plain();
        for level in Level::available() {
            let (found, found_origin, found_count) = case.render(level, case.whole());
            prop_assert_eq!(&found_origin, &origin, "{:?}", level);
            prop_assert!(found == values, "{:?}: values differ", level);
            prop_assert_eq!(found_count, count);
        }
    }

    /// However the window is cut, and however many threads there are.
    #[test]
    fn windows_and_threads_change_no_bit(
        seed: u64, geographic: bool, bilinear: bool, cut in (1usize..120, 1usize..160),
    ) {
        let case = case(seed, geographic, bilinear, 0.31);
        let [height, width] = case.size;
        let (whole, origin, count) = case.render(Level::best(), case.whole());
        let mut total = 0;
        for (number, row) in (0..height).step_by(cut.0).enumerate() {
            threads::set(1 + number % 3).unwrap();
            for col in (0..width).step_by(cut.1) {
                let window = Window {
                    row,
                    col,
                    height: cut.0.min(height - row),
                    width: cut.1.min(width - col),
                };
                let (part, part_origin, part_count) = case.render(Level::best(), window);
                total += part_count;
                for i in 0..window.height {
                    let from = (row + i) * width + col;
                    let at = i * window.width;
                    prop_assert_eq!(
                        &part_origin[at..at + window.width], &origin[from..from + window.width]
                    );
                    let (at, from) = (at * case.depth, from * case.depth);
                    let len = window.width * case.depth;
                    prop_assert!(part[at..at + len] == whole[from..from + len]);
                }
            }
        }
        prop_assert_eq!(total, count);
    }
}
