//! One block of the target grid: which source a pixel comes from, and its bands.

use crate::gather::Reader;
use crate::grid::Window;
use crate::level::Work;
use crate::resample::{Footprint, Method};
use crate::{Error, Result};

use super::places::{Owners, Places};
use super::systems::Systems;
use super::write::{How, Scratch, Values};
use super::{Mosaic, Outputs, Source};

/// A part of the window and of the outputs.
pub(super) struct Block<'a> {
    pub window: Window,
    pub out: Outputs<'a>,
}

/// A block to make.
pub(super) struct Task<'t, 'a> {
    pub mosaic: &'t Mosaic<'a>,
    pub systems: &'t Systems<'a>,
    pub how: How,
    pub block: Block<'t>,
}

impl Work for Task<'_, '_> {
    type Output = Result<usize>;

    #[inline(always)]
    fn run(self) -> Result<usize> {
        let Self {
            mosaic,
            systems,
            how,
            block,
        } = self;
        let Block { window, mut out } = block;
        let Window {
            row, height, width, ..
        } = window;
        let mut places = Places::new(mosaic, systems, window);
        let turns = turns(mosaic, &mut places);
        let mut scratch = (!out.values.is_dense()).then(|| Scratch::of(&out.values));
        let [_, _, depth] = out.values.shape();
        let mut line = Line {
            mosaic,
            how,
            pending: vec![true; width],
            left: width,
            found: Vec::with_capacity(width),
            cells: vec![None; width],
            means: vec![
                0.0;
                if mosaic.method == Method::Bilinear {
                    4 * depth
                } else {
                    0
                }
            ],
        };
        let mut valid = 0;
        for i in 0..height {
            places.go(row + i);
            line.start(&mut places);
            let mut origin = out.origin.as_mut().map(|o| o.reborrow().slice(0, i..i + 1));
            let mut values = match &mut scratch {
                None => out.values.line(i),
                Some(scratch) => scratch.line()?,
            };
            for turn in &turns {
                if line.left == 0 {
                    break;
                }
                line.find(turn, &mut places)?;
                for &(j, _) in &line.found {
                    if let Some(origin) = &mut origin {
                        origin.set([0, j], turn.number as i16);
                    }
                }
                line.emit(turn, &mut values);
            }
            for j in (0..width).filter(|&j| line.pending[j]) {
                values.blank(j);
                if let Some(origin) = &mut origin {
                    origin.set([0, j], -1);
                }
            }
            valid += width - line.left;
            if let Some(scratch) = &scratch {
                scratch.flush(out.values.line(i));
            }
        }
        Ok(valid)
    }
}

/// A source and where it is asked: everywhere, or only in its own cell.
struct Turn {
    number: usize,
    cell: Option<[i32; 2]>,
}

/// The sources that may touch a block, in the order in which they are asked.
fn turns(mosaic: &Mosaic<'_>, places: &mut Places<'_, '_>) -> Vec<Turn> {
    let near: Vec<usize> = (0..mosaic.sources.len())
        .filter(|&number| places.is_near(number))
        .collect();
    let everywhere = |number| Turn { number, cell: None };
    let cell = |number: usize| mosaic.sources[number].cell;
    match places.owners(&near) {
        Owners::Nobody => near.into_iter().map(everywhere).collect(),
        Owners::One(owner) => {
            let (mine, others): (Vec<_>, Vec<_>) = near
                .into_iter()
                .partition(|&number| cell(number) == Some(owner));
            mine.into_iter().chain(others).map(everywhere).collect()
        }
        Owners::Many => {
            let owners = near.iter().filter(|&&number| cell(number).is_some());
            let owners = owners.map(|&number| Turn {
                number,
                cell: cell(number),
            });
            owners.chain(near.iter().copied().map(everywhere)).collect()
        }
    }
}

/// One row of a block while sources are asked.
struct Line<'t, 'a> {
    mosaic: &'t Mosaic<'a>,
    how: How,
    /// Pixels that no source has had yet, and how many.
    pending: Vec<bool>,
    left: usize,
    /// What the source whose turn it is has, by column.
    found: Vec<(usize, Footprint)>,
    cells: Vec<Option<[i32; 2]>>,
    means: Vec<f32>,
}

impl<'a> Line<'_, 'a> {
    #[inline(always)]
    fn start(&mut self, places: &mut Places<'_, '_>) {
        self.pending.fill(true);
        self.left = self.pending.len();
        if places.has_many_owners() {
            places.cells(&mut self.cells);
        }
    }

    fn reader(&self, turn: &Turn) -> (&'a Source<'a>, Reader<'a>) {
        let source = &self.mosaic.sources[turn.number];
        let reader = Reader {
            pixels: source.pixels,
            bands: self.mosaic.bands,
        };
        (source, reader)
    }

    /// Finds the pending pixels that a source has.
    #[inline(always)]
    fn find(&mut self, turn: &Turn, places: &mut Places<'_, '_>) -> Result<()> {
        let (source, reader) = self.reader(turn);
        let Window {
            row: top,
            col: left,
            height,
            width,
        } = source.window;
        self.found.clear();
        let (found, pending, cells) = (&mut self.found, &self.pending, &self.cells);
        let wants = |j: usize| pending[j] && (turn.cell.is_none() || turn.cell == cells[j]);
        let holds =
            |r: usize, c: usize| r.wrapping_sub(top) < height && c.wrapping_sub(left) < width;
        let mut lacking = None;
        let take = |j: usize, footprint: Footprint| {
            for tap in footprint.taps() {
                if !holds(tap.row, tap.col) {
                    lacking = lacking.or(Some((tap.row, tap.col)));
                    return;
                }
            }
            for tap in footprint.taps() {
                reader.prefetch([tap.row - top, tap.col - left]);
            }
            found.push((j, footprint));
        };
        places.locate(turn.number, wants, take);
        if let Some((row, col)) = lacking {
            return Err(Error::Argument(format!(
                "source {}: pixel ({row}, {col}) of the raster is needed, but its window holds \
                 only {:?}",
                turn.number, source.window
            )));
        }
        let (pending, count) = (&mut self.pending, &mut self.left);
        self.found.retain(|(j, footprint)| {
            let valid = {
                let (row, col) = footprint.pixel();
                reader.is_valid([row - top, col - left])
            };
            if valid {
                pending[*j] = false;
                *count -= 1;
            }
            valid
        });
        Ok(())
    }

    /// Writes what was found: neighbours that come from neighbours at once.
    #[inline(always)]
    fn emit(&mut self, turn: &Turn, out: &mut Values<'_>) {
        let (source, reader) = self.reader(turn);
        let [top, left] = [source.window.row, source.window.col];
        let place = |row: usize, col: usize| Some([row - top, col - left]);
        let mut rest = &self.found[..];
        while let Some((j, footprint)) = rest.first() {
            let j = *j;
            if !footprint.is_single() {
                out.blend(&reader, footprint, place, &mut self.means, j);
                rest = &rest[1..];
                continue;
            }
            let (row, col) = footprint.pixel();
            let follows = |(k, (to, next)): (usize, &(usize, Footprint))| {
                *to == j + k && next.pixel() == (row, col + k) && next.is_single()
            };
            let run = rest.iter().enumerate();
            let count = run.take_while(|&item| follows(item)).count();
            let from = [row - top, col - left];
            out.copy(self.how, &reader, from, j, count);
            rest = &rest[count..];
        }
    }
}
