//! The coordinate systems that the sources of a mosaic ask for.

use crate::coords::Crs;
use crate::lattice::Lattice;
use crate::view::View3;

use super::{Mosaic, Position};

/// A coordinate system that sources share: computed once for a line of pixels.
#[derive(Clone, Copy, Debug)]
pub(super) enum System<'a> {
    /// The target's own.
    Same,
    /// Through longitude and latitude.
    Crs(Crs),
    /// Interpolated.
    Lattice(Lattice<'a>),
}

impl System<'_> {
    fn is(&self, other: &Self) -> bool {
        let key = |nodes: &View3<'_, f64>| (nodes.as_ptr(), nodes.shape(), nodes.strides());
        match (self, other) {
            (Self::Same, Self::Same) => true,
            (Self::Crs(a), Self::Crs(b)) => a == b,
            (Self::Lattice(a), Self::Lattice(b)) => {
                (a.row, a.col, a.step) == (b.row, b.col, b.step) && key(&a.nodes) == key(&b.nodes)
            }
            _ => false,
        }
    }
}

/// The distinct systems, and which one each source has.
pub(super) struct Systems<'a> {
    pub all: Vec<System<'a>>,
    pub of: Vec<usize>,
}

pub(super) fn systems<'a>(mosaic: &Mosaic<'a>) -> Systems<'a> {
    let mut all: Vec<System<'a>> = Vec::new();
    let of = mosaic.sources.iter().map(|source| {
        let system = match source.position {
            Position::Same => System::Same,
            Position::Crs(crs) if mosaic.target.crs == Some(crs) => System::Same,
            Position::Crs(crs) => System::Crs(crs),
            Position::Lattice(lattice) => System::Lattice(lattice),
        };
        all.iter()
            .position(|known| known.is(&system))
            .unwrap_or_else(|| {
                all.push(system);
                all.len() - 1
            })
    });
    let of = of.collect();
    Systems { all, of }
}
