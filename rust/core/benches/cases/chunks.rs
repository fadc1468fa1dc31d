//! A chunk of a Zarr store as published: 128 bands of 32 × 32 int8, blosc with zstd and
//! bit-shuffle.

use std::hint::black_box;

use geotessera_core::blosc::{Compressor, Decoder};

use super::{Amount, Case, Size};

const LENGTH: usize = 128 * 32 * 32;

/// Decoding one chunk; there is no larger one.
pub fn cases(size: Size) -> Vec<Case> {
    if size == Size::Tile {
        return Vec::new();
    }
    let case = Case::new("chunks/decode".into(), Amount::Bytes(LENGTH), || {
        let chunk = published();
        let (mut decoder, mut out) = (Decoder::default(), vec![0; LENGTH]);
        Box::new(move || {
            decoder
                .decode(Compressor::Blosc, black_box(&chunk), &mut out)
                .unwrap();
        })
    });
    vec![Case {
        threaded: false,
        ..case
    }]
}

/// A blosc chunk of one block: header, offset of the block, length of its stream, zstd.
fn published() -> Vec<u8> {
    // Noise of 64 steps: it compresses a little, as embeddings do.
    let values: Vec<u8> = super::noise(LENGTH)
        .iter()
        .map(|v| (v * 64.0) as u8)
        .collect();
    let mut planes = vec![0u8; LENGTH];
    for (i, value) in values.iter().enumerate() {
        for bit in 0..8 {
            planes[bit * LENGTH / 8 + i / 8] |= (value >> bit & 1) << (i % 8);
        }
    }
    let mut packed = vec![0; zstd_safe::compress_bound(LENGTH)];
    let length = zstd_safe::compress(&mut packed[..], &planes, 3).expect("the bound is kept");
    // blosc 2, zstd 1, flags (zstd, not split, bit-shuffled), bytes of a value
    let mut chunk = vec![2, 1, 0x94, 1];
    for number in [LENGTH, LENGTH, 24 + length, 20, length] {
        chunk.extend((number as u32).to_le_bytes());
    }
    chunk.extend(&packed[..length]);
    chunk
}
