//! Transverse Mercator one point at a time: the formulas, not the threads.

use std::hint::black_box;

use geotessera_core::utm::Utm;

use super::{Amount, Case, Size};

/// Both directions.
pub fn cases(size: Size) -> Vec<Case> {
    let count = match size {
        Size::Small => 1_000,
        Size::Tile => return Vec::new(), // a cache holds them all
    };
    let places = move || -> Vec<(f64, f64)> {
        (0..count)
            .map(|i| {
                let i = i as f64;
                ((i * 0.618).fract() * 6.0, (i * 0.414).fract() * 80.0)
            })
            .collect()
    };
    let utm = Utm::new(31, false).unwrap();
    let forward = Case::new("utm/forward".into(), Amount::Elements(count), move || {
        let places = places();
        Box::new(move || {
            for &(lon, lat) in &places {
                black_box(utm.forward(lon, lat));
            }
        })
    });
    let inverse = Case::new("utm/inverse".into(), Amount::Elements(count), move || {
        let metres: Vec<_> = places()
            .iter()
            .map(|&(lon, lat)| utm.forward(lon, lat))
            .collect();
        Box::new(move || {
            for &(x, y) in &metres {
                black_box(utm.inverse(x, y));
            }
        })
    });
    [forward, inverse]
        .map(|case| Case {
            threaded: false,
            ..case
        })
        .into()
}
