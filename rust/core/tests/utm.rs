//! Transverse Mercator against closed formulas and published places; PROJ is the oracle of the
//! Python tests.

use geotessera_core::coords::Crs;
use geotessera_core::utm::{Utm, wrap_degrees};
use proptest::prelude::*;

/// Metres of a meridian's arc from the equator, by integrating the radius of curvature.
fn meridian(lat: f64) -> f64 {
    let (a, f) = (6_378_137.0, 1.0 / 298.257_223_563);
    let e2: f64 = f * (2.0 - f);
    let radius = |phi: f64| a * (1.0 - e2) / (1.0 - e2 * phi.sin().powi(2)).powf(1.5);
    let (steps, end) = (2000, lat.to_radians());
    let h = end / f64::from(steps);
    // Simpson's rule; its error here is far below a nanometre.
    (0..steps)
        .map(|i| {
            let p = f64::from(i) * h;
            h / 6.0 * (radius(p) + 4.0 * radius(p + h / 2.0) + radius(p + h))
        })
        .sum()
}

#[test]
fn the_central_meridian_is_its_arc() {
    let utm = Utm::new(31, false).unwrap();
    for lat in [0.0, 0.05, 12.3, 45.0, 52.25, 84.0, 89.99, 90.0] {
        for (lat, sign) in [(lat, 1.0), (-lat, -1.0)] {
            let (x, y) = utm.forward(3.0, lat);
            assert!((x - 500_000.0).abs() < 1e-9, "{lat}: {x}");
            assert!(
                (y - sign * 0.9996 * meridian(lat.abs())).abs() < 1e-7,
                "{lat}: {y}"
            );
        }
    }
}

/// From PROJ 9.8 (cs2cs -d 9), which computes with another arrangement of the series.
#[test]
fn places_that_proj_gives() {
    for (epsg, lon, lat, x, y) in PLACES {
        let crs = Crs::from_epsg(epsg).unwrap();
        let (fx, fy) = crs.forward(lon, lat);
        assert!(
            (fx - x).abs() < 1e-6 && (fy - y).abs() < 1e-6,
            "{epsg} {lon} {lat}: {fx} {fy}"
        );
        let (flon, flat) = crs.inverse(x, y);
        assert!(
            (flon - lon).abs() < 1e-11 && (flat - lat).abs() < 1e-11,
            "{epsg} {x} {y}: {flon} {flat}"
        );
    }
}

const PLACES: [(i64, f64, f64, f64, f64); 6] = [
    (32630, -1.25, 52.25, 619463.4251311037, 5790287.249375966),
    (32630, 0.5, 53.1, 734302.6184365355, 5889120.708643739),
    (32701, 179.95, -16.5, 174369.71242435672, 8173292.860709595),
    (32633, 15.0, 78.25, 500000.00000000035, 8686269.966783766),
    (32737, 37.3, -3.05, 311070.9805182937, 9662730.999614466),
    (3857, 12.5, 41.9, 1391493.6349159195, 5146011.679282786),
];

#[test]
fn longitudes_wrap() {
    let first = Utm::new(1, false).unwrap();
    assert_eq!(first.forward(180.0, 10.0), first.forward(-180.0, 10.0));
    let (x, y) = first.forward(179.5, 10.0);
    let (x2, y2) = first.forward(-180.5, 10.0);
    assert!((x - x2).abs() < 1e-7 && (y - y2).abs() < 1e-7);
    let (lon, lat) = first.inverse(x, y);
    assert!((lon - 179.5).abs() < 1e-11 && (lat - 10.0).abs() < 1e-11);
    for (from, to) in [
        (180.0, 180.0),
        (-180.0, -180.0),
        (181.0, -179.0),
        (720.25, 0.25),
    ] {
        assert_eq!(wrap_degrees(from), to);
    }
}

#[test]
fn nowhere_is_nan() {
    let utm = Utm::new(31, false).unwrap();
    let nan = f64::NAN;
    let inf = f64::INFINITY;
    for (lon, lat) in [
        (nan, 0.0),
        (0.0, nan),
        (inf, 0.0),
        (0.0, -inf),
        (0.0, 90.1),
        (93.0, 0.0),
    ] {
        let (x, y) = utm.forward(lon, lat);
        assert!(x.is_nan() && y.is_nan(), "{lon} {lat}: {x} {y}");
    }
    for (x, y) in [
        (nan, 0.0),
        (0.0, nan),
        (inf, 0.0),
        (0.0, -inf),
        (1e300, 0.0),
    ] {
        let (lon, lat) = utm.inverse(x, y);
        assert!(lon.is_nan() && lat.is_nan(), "{x} {y}: {lon} {lat}");
    }
}

#[test]
fn unknown_systems_are_refused() {
    for epsg in [0, -1, 32600, 32661, 32700, 32761, 27700, i64::MAX, i64::MIN] {
        let message = Crs::from_epsg(epsg).unwrap_err().to_string();
        assert!(message.contains(&format!("EPSG:{epsg}")), "{message}");
    }
    assert!(Utm::new(0, false).is_none() && Utm::new(61, true).is_none());
}

proptest! {
    #[test]
    fn there_and_back(zone in 1u8..=60, south: bool, east in -20.0..20.0f64, lat in -89.9..89.9f64) {
        let utm = Utm::new(zone, south).unwrap();
        let lon = wrap_degrees(utm.central_meridian() + east);
        let (x, y) = utm.forward(lon, lat);
        let (lon2, lat2) = utm.inverse(x, y);
        // Degrees to metres along each axis.
        let metres = 111_320.0;
        prop_assert!((lat2 - lat).abs() * metres < 1e-7);
        let apart = wrap_degrees(lon2 - lon).abs() * metres * lat.to_radians().cos();
        prop_assert!(apart < 1e-7, "{lon} {lon2}");
    }

    #[test]
    fn east_and_west_mirror(east in 0.0..30.0f64, lat in -89.0..89.0f64) {
        let utm = Utm::new(31, false).unwrap();
        let (x, y) = utm.forward(3.0 + east, lat);
        let (x2, y2) = utm.forward(3.0 - east, lat);
        let (_, y3) = utm.forward(3.0 + east, -lat);
        prop_assert!((x + x2 - 1e6).abs() < 1e-7 && (y - y2).abs() < 1e-7 && (y + y3).abs() < 1e-7);
    }

    #[test]
    fn web_mercator_there_and_back(lon in -180.0..180.0f64, lat in -85.0..85.0f64) {
        let (x, y) = Crs::WebMercator.forward(lon, lat);
        let (lon2, lat2) = Crs::WebMercator.inverse(x, y);
        prop_assert!((lon - lon2).abs() < 1e-12 && (lat - lat2).abs() < 1e-12);
    }
}
