//! `geotessera._native`: the kernels of `geotessera-core` over NumPy arrays.

use pyo3::prelude::*;

mod array;
mod buffer;
mod checksum;
mod chunks;
mod coords;
mod dequantize;
mod error;
mod lzw;
mod mosaic;
mod pca;
mod points;
mod raster;
mod records;
mod sample;
mod sparse;
mod threads;
mod tiles;
mod webtiles;

/// Kernels over NumPy arrays (private: use the functions of `geotessera`).
#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_function(wrap_pyfunction!(dequantize::dequantize, m)?)?;
    m.add_function(wrap_pyfunction!(dequantize::simd_level, m)?)?;
    m.add_function(wrap_pyfunction!(threads::num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(threads::set_num_threads, m)?)?;
    m.add_class::<checksum::Hasher>()?;
    m.add_function(wrap_pyfunction!(checksum::hash_files, m)?)?;
    m.add_function(wrap_pyfunction!(chunks::decode_chunk, m)?)?;
    m.add_function(wrap_pyfunction!(chunks::decode_points, m)?)?;
    m.add_function(wrap_pyfunction!(chunks::decode_window, m)?)?;
    m.add_function(wrap_pyfunction!(chunks::shard_indexes, m)?)?;
    m.add_function(wrap_pyfunction!(coords::project, m)?)?;
    m.add_function(wrap_pyfunction!(coords::unproject, m)?)?;
    m.add_function(wrap_pyfunction!(lzw::encode_lzw, m)?)?;
    m.add_function(wrap_pyfunction!(mosaic::mosaic, m)?)?;
    m.add_function(wrap_pyfunction!(pca::moments, m)?)?;
    m.add_function(wrap_pyfunction!(pca::project_bands, m)?)?;
    m.add_function(wrap_pyfunction!(pca::stretch_scores, m)?)?;
    m.add_function(wrap_pyfunction!(pca::tally_scores, m)?)?;
    m.add_function(wrap_pyfunction!(points::points_array, m)?)?;
    m.add_function(wrap_pyfunction!(records::read_records, m)?)?;
    m.add_function(wrap_pyfunction!(sample::sample, m)?)?;
    m.add_function(wrap_pyfunction!(sparse::needed_pixels, m)?)?;
    m.add_function(wrap_pyfunction!(tiles::group_by_tile, m)?)?;
    m.add_function(wrap_pyfunction!(webtiles::encode_tiles, m)?)?;
    m.add_function(wrap_pyfunction!(webtiles::halve_picture, m)?)?;
    m.add_function(wrap_pyfunction!(webtiles::resample_picture, m)?)?;
    m.add_function(wrap_pyfunction!(webtiles::sum_squares, m)?)?;
    Ok(())
}
