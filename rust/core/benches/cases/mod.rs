//! Work for the kernels, small enough for a cache or of a tile's size: timed by `kernels`,
//! counted by `instructions`.

mod checksum;
mod chunks;
mod dequantize;
mod lzw;
mod mosaic;
mod pca;
mod sample;
mod utm;

use std::fmt;

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// What stays in a core's cache, and what a simulator counts in a second.
    Small,
    /// A tile of the usual size: no cache holds it.
    Tile,
}

impl Size {
    /// Its name in a case's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "cache",
            Self::Tile => "memory",
        }
    }

    /// Rows, columns and bands.
    pub fn shape(self) -> [usize; 3] {
        match self {
            Self::Small => [64, 64, 128],
            Self::Tile => [1140, 728, 128],
        }
    }
}

/// What a call gets through.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    /// Bytes read and written.
    Bytes(usize),
    /// Points, pixels or positions.
    Elements(usize),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(count) => write!(f, "{count} bytes"),
            Self::Elements(count) => write!(f, "{count} elements"),
        }
    }
}

/// Something to do again and again, with all that it needs.
pub type Call = Box<dyn FnMut()>;

/// A kernel at work on one input.
pub struct Case {
    /// `kernel/size/variant`.
    pub name: String,
    /// What one call gets through.
    pub amount: Amount,
    /// Whether it runs on more than one thread where there is enough to do.
    pub threaded: bool,
    /// Makes the input; then each call of the result does the work once.
    pub prepare: Box<dyn Fn() -> Call>,
}

impl Case {
    fn new(name: String, amount: Amount, prepare: impl Fn() -> Call + 'static) -> Self {
        Self {
            name,
            amount,
            threaded: true,
            prepare: Box::new(prepare),
        }
    }
}

/// All cases of a size.
pub fn all(size: Size) -> Vec<Case> {
    [
        dequantize::cases(size),
        sample::cases(size),
        mosaic::cases(size),
        pca::cases(size),
        chunks::cases(size),
        utm::cases(size),
        checksum::cases(size),
        lzw::cases(size),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Numbers in [0, 1) that look random.
fn noise(count: usize) -> Vec<f64> {
    (1..=count)
        .map(|i| (i as f64 * 0.618_033_988_749_894_9 * 7919.0).fract())
        .collect()
}

/// Values and scales of a quantised raster.
fn quantized([rows, cols, bands]: [usize; 3]) -> (Vec<i8>, Vec<f32>) {
    let values = (0..rows * cols * bands).map(|i| (i * 31) as i8).collect();
    let scales = (0..rows * cols).map(|i| 0.01 + i as f32 * 1e-7).collect();
    (values, scales)
}
