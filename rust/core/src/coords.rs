//! The coordinate systems whose formulas the kernels know, between them and WGS84 degrees.

use crate::utm::{SEMI_MAJOR, Utm, wrap_degrees};
use crate::view::{View1, ViewMut};
use crate::{Error, Result, threads};

/// A coordinate system in closed form: UTM on WGS84, Web Mercator or geographic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crs {
    /// EPSG:32601–32660 and EPSG:32701–32760, metres.
    Utm(Utm),
    /// EPSG:4326 in the order longitude, latitude, degrees.
    Geographic,
    /// EPSG:3857, spherical Mercator on WGS84 coordinates, metres.
    WebMercator,
}

impl Crs {
    /// The system with this EPSG code.
    ///
    /// # Errors
    /// [`Error::Argument`] for a code that is not one of the three families.
    pub fn from_epsg(epsg: i64) -> Result<Self> {
        let utm = |zone: i64, south| {
            let utm = u8::try_from(zone)
                .ok()
                .and_then(|zone| Utm::new(zone, south));
            utm.map(Self::Utm)
        };
        let crs = match epsg {
            4326 => Some(Self::Geographic),
            3857 => Some(Self::WebMercator),
            32600..=32699 => utm(epsg - 32600, false),
            32700..=32799 => utm(epsg - 32700, true),
            _ => None,
        };
        crs.ok_or_else(|| {
            Error::Argument(format!(
                "EPSG:{epsg} is not a coordinate system this kernel knows; it knows UTM on WGS84 \
                 (EPSG:32601 to 32660 and 32701 to 32760), EPSG:4326 and EPSG:3857"
            ))
        })
    }

    /// x and y of a longitude and a latitude in degrees; NaN where the place has none.
    ///
    /// Longitudes wrap, except that geographic coordinates stay as they are.
    #[inline]
    pub fn forward(&self, lon: f64, lat: f64) -> (f64, f64) {
        match self {
            Self::Utm(utm) => utm.forward(lon, lat),
            Self::Geographic => on_globe(lon, lat),
            Self::WebMercator => {
                // The poles are at infinity, which is nowhere.
                let finite = lat.abs() < 90.0 && lon.is_finite();
                if !finite {
                    return (f64::NAN, f64::NAN);
                }
                let phi = lat.to_radians();
                (
                    SEMI_MAJOR * wrap_degrees(lon).to_radians(),
                    SEMI_MAJOR * phi.tan().asinh(),
                )
            }
        }
    }

    /// Longitude and latitude in degrees of x and y; NaN where there is none.
    #[inline]
    pub fn inverse(&self, x: f64, y: f64) -> (f64, f64) {
        match self {
            Self::Utm(utm) => utm.inverse(x, y),
            Self::Geographic => on_globe(x, y),
            Self::WebMercator => {
                if !(x.is_finite() && y.is_finite()) {
                    return (f64::NAN, f64::NAN);
                }
                let lon = wrap_degrees((x / SEMI_MAJOR).to_degrees());
                (lon, (y / SEMI_MAJOR).sinh().atan().to_degrees())
            }
        }
    }

    /// What x may be shifted by without leaving the place: once round the globe.
    ///
    /// None for UTM, whose longitudes wrap inside the projection.
    pub fn period(&self) -> Option<f64> {
        match self {
            Self::Utm(_) => None,
            Self::Geographic => Some(360.0),
            Self::WebMercator => Some(std::f64::consts::TAU * SEMI_MAJOR),
        }
    }
}

#[inline]
fn on_globe(lon: f64, lat: f64) -> (f64, f64) {
    if lon.is_finite() && lat.abs() <= 90.0 {
        (lon, lat)
    } else {
        (f64::NAN, f64::NAN)
    }
}

/// Points that one task converts.
const CHUNK: usize = 4096;

/// Converts pairs of coordinates in parallel; `convert` is [`Crs::forward`] or [`Crs::inverse`].
///
/// # Errors
/// [`Error::Shape`] where the four lengths differ.
pub fn convert(
    a: View1<'_, f64>,
    b: View1<'_, f64>,
    out_a: ViewMut<'_, f64, 1>,
    out_b: ViewMut<'_, f64, 1>,
    convert: impl Fn(f64, f64) -> (f64, f64) + Sync + Send,
) -> Result<()> {
    let [count] = a.shape();
    for (what, [found]) in [
        ("second coordinate", b.shape()),
        ("out", out_a.shape()),
        ("out", out_b.shape()),
    ] {
        if found != count {
            return Err(Error::Shape {
                what,
                expected: vec![count],
                found: vec![found],
            });
        }
    }
    let parts = out_a
        .chunks(0, CHUNK)
        .into_iter()
        .zip(out_b.chunks(0, CHUNK))
        .enumerate()
        .collect();
    threads::for_each(parts, |(chunk, (mut out_a, mut out_b))| {
        for i in 0..out_a.len() {
            let from = [chunk * CHUNK + i];
            let (x, y) = convert(a.at(from), b.at(from));
            out_a.set([i], x);
            out_b.set([i], y);
        }
    })
}
