//! LZW of float32 embeddings.

use std::hint::black_box;

use geotessera_core::lzw::encode;

use super::{Amount, Call, Case, Size, quantized};

/// A block of a GeoTIFF.
pub fn cases(size: Size) -> Vec<Case> {
    let side = match size {
        Size::Small => 16,
        Size::Tile => 256,
    };
    let name = format!("lzw/{}/encode", size.name());
    let case = Case::new(
        name,
        Amount::Bytes(4 * side * side * 128),
        move || -> Call {
            let (values, scales) = quantized([side, side, 128]);
            let pixels = values.chunks_exact(128).zip(&scales);
            let floats =
                pixels.flat_map(|(pixel, scale)| pixel.iter().map(move |&q| f32::from(q) * scale));
            let bytes: Vec<u8> = floats.flat_map(f32::to_le_bytes).collect();
            Box::new(move || {
                black_box(encode(black_box(&bytes)).unwrap());
            })
        },
    );
    vec![Case {
        threaded: false,
        ..case
    }]
}
