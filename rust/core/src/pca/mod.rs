//! Principal components: moments of pixels, projection onto components, levels of grey.
//!
//! Pixels are dequantised a panel at a time, 64 of them, which stays in the L1 cache until the
//! kernels are done with it: see `panel`.

mod levels;
mod moments;
mod panel;
mod project;
mod syrk;

pub use crate::level::Level;
pub use levels::{LEVELS, Ranks, levels, tally};
pub use moments::{Moments, moments, moments_with};
pub use project::{project, project_with};
