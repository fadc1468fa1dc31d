//! Levels of grey: how scores are distributed, and which of 256 levels each one has.

use crate::error::{Error, Result};
use crate::threads;
use crate::view::{View3, ViewMut3};

/// Levels of grey.
pub const LEVELS: usize = 256;

/// Scores that one thread takes at a time.
const PART: usize = 1 << 16;

/// Which bits of a score are counted: those of its rank among all float32 numbers.
#[derive(Clone, Copy, Debug)]
pub enum Ranks<'a> {
    /// The upper 16: 65,536 counts a component.
    Upper,
    /// The lower 16, of some upper ones.
    Lower {
        /// For each component and upper half, the row of its counts, or a negative number.
        rows: &'a [i32],
        /// How many lower bits are left out: counts are 65,536 >> dropped a row.
        dropped: u32,
    },
}

/// The rank of a number among all float32 numbers, -0 below 0; NaN have none.
#[inline(always)]
fn rank(value: f32) -> Option<u32> {
    let bits = value.to_bits();
    let sign = 0u32.wrapping_sub(bits >> 31) | 1 << 31;
    (!value.is_nan()).then_some(bits ^ sign)
}

/// Counts scores by the bits of their ranks; NaN are left out.
///
/// `counts` has a slice a component, as long as [`Ranks`] says. Each component is one thread's.
pub fn tally(scores: View3<f32>, ranks: Ranks, counts: &mut [&mut [i64]]) -> Result<()> {
    let [rows, cols, components] = scores.shape();
    if counts.len() != components {
        return Err(Error::Argument(format!(
            "{} lists of counts for {components} components",
            counts.len()
        )));
    }
    if let Ranks::Lower { rows, dropped } = ranks {
        if rows.len() != components << 16 || dropped > 16 {
            return Err(Error::Argument(format!(
                "expected 65536 rows for each of {components} components and at most 16 bits \
                 dropped, found {} and {dropped}",
                rows.len()
            )));
        }
    } else if counts.iter().any(|counts| counts.len() != 1 << 16) {
        return Err(Error::Argument("counts must have length 65536".into()));
    }
    let work = counts.iter_mut().enumerate().collect();
    threads::for_each(work, |(k, counts): (usize, &mut &mut [i64])| {
        let plane = scores.slice(2, k..k + 1);
        for row in 0..rows {
            for col in 0..cols {
                // SAFETY: inside the shape.
                let Some(rank) = rank(unsafe { plane.get_unchecked([row, col, 0]) }) else {
                    continue;
                };
                let at = match ranks {
                    Ranks::Upper => Some(rank as usize >> 16),
                    Ranks::Lower { rows, dropped } => {
                        let row = usize::try_from(rows[k << 16 | rank as usize >> 16]);
                        let low = (rank as usize & 0xffff) >> dropped;
                        row.ok().map(|row| (row << (16 - dropped)) + low)
                    }
                };
                if let Some(count) = at.and_then(|at| counts.get_mut(at)) {
                    *count += 1;
                }
            }
        }
    })
}

/// Writes levels: how many of its component's thresholds a score reaches, none for NaN.
///
/// `thresholds` has 255 numbers a component, in ascending order.
pub fn levels(scores: View3<f32>, thresholds: &[f32], out: ViewMut3<u8>) -> Result<()> {
    let [rows, cols, components] = scores.shape();
    if thresholds.len() != components * (LEVELS - 1) {
        return Err(Error::Shape {
            what: "thresholds",
            expected: vec![components, LEVELS - 1],
            found: vec![thresholds.len()],
        });
    }
    if out.shape() != scores.shape() {
        return Err(Error::Shape {
            what: "out",
            expected: scores.shape().to_vec(),
            found: out.shape().to_vec(),
        });
    }
    let rising = |list: &[f32]| list.windows(2).all(|pair| pair[0] <= pair[1]);
    let has_nan = thresholds.iter().any(|t| t.is_nan());
    if has_nan || !thresholds.chunks(LEVELS - 1).all(rising) {
        return Err(Error::Argument("thresholds must ascend".into()));
    }
    if out.is_empty() {
        return Ok(());
    }
    let (lists, _) = thresholds.as_chunks::<{ LEVELS - 1 }>();
    let tables: Vec<Table> = lists.iter().map(Table::of).collect();
    let high = (PART / (cols * components)).clamp(1, rows);
    let parts = out.chunks(0, high).into_iter().enumerate().collect();
    threads::for_each(parts, |(number, mut out): (usize, ViewMut3<u8>)| {
        for row in 0..out.shape()[0] {
            for (k, table) in tables.iter().enumerate() {
                for col in 0..cols {
                    // SAFETY: inside both shapes, which are the same.
                    unsafe {
                        let score = scores.get_unchecked([number * high + row, col, k]);
                        out.ptr_at([row, col, k]).write(table.level(score));
                    }
                }
            }
        }
    })
}

/// Parts that the range of a component's thresholds is cut into.
const BUCKETS: usize = 1024;

/// Thresholds in one bucket that are looked at one by one.
const FEW: usize = 8;

/// Where among its thresholds a score must lie: most buckets hold none or one of them.
///
/// Halving 255 thresholds takes eight steps that wait for each other, 28 ns a score; this
/// takes 4.
struct Table<'a> {
    thresholds: &'a [f32; LEVELS - 1],
    low: f32,
    scale: f32,
    /// How many thresholds lie in buckets before each one.
    before: [u8; BUCKETS + 1],
    /// Most thresholds of a bucket.
    most: usize,
}

impl<'a> Table<'a> {
    fn of(thresholds: &'a [f32; LEVELS - 1]) -> Self {
        let (low, high) = (thresholds[0], thresholds[LEVELS - 2]);
        let mut table = Self {
            thresholds,
            low,
            scale: BUCKETS as f32 / (high - low),
            before: [0; BUCKETS + 1],
            most: 0,
        };
        let mut counts = [0; BUCKETS];
        for &threshold in thresholds {
            counts[table.bucket(threshold)] += 1;
        }
        for (at, count) in counts.into_iter().enumerate() {
            table.before[at + 1] = table.before[at] + count;
        }
        table.most = counts.into_iter().max().map_or(0, usize::from);
        table
    }

    /// A number's bucket. Never a lower one for a greater number, whatever is rounded or
    /// infinite on the way: so thresholds in lower buckets are reached, in higher ones not.
    #[inline(always)]
    fn bucket(&self, value: f32) -> usize {
        (((value - self.low) * self.scale) as usize).min(BUCKETS - 1) // NaN is 0
    }

    /// How many of the thresholds a score reaches.
    #[inline(always)]
    fn level(&self, score: f32) -> u8 {
        if self.most > FEW {
            return halved(score, self.thresholds);
        }
        let bucket = self.bucket(score);
        let (mut reached, end) = (self.before[bucket], self.before[bucket + 1]);
        for _ in 0..self.most {
            let next = self.thresholds[usize::from(reached).min(LEVELS - 2)];
            reached += u8::from((reached < end) & (score >= next));
        }
        reached
    }
}

/// How many of 255 ascending thresholds a score reaches: halving without a branch.
#[inline(always)]
fn halved(score: f32, thresholds: &[f32; LEVELS - 1]) -> u8 {
    let mut reached = 0;
    let mut step = LEVELS / 2;
    while step > 0 {
        let next = reached + step;
        reached = if score >= thresholds[next - 1] {
            next
        } else {
            reached
        };
        step /= 2;
    }
    reached as u8
}
