//! Shuffles against their definition, and decoders against bytes that nobody wrote.

use std::mem::MaybeUninit;

use geotessera_core::Error;
use geotessera_core::blosc::{Compressor, Decoder, Shuffles};
use geotessera_core::chunks::{Form, Object, Piece, Points, Span, points, shard_index, window};
use geotessera_core::view::{View, ViewMut};
use proptest::prelude::*;

/// Bit `bit` of byte `byte` of each element, as blosc stores it.
fn shuffled_bits(data: &[u8], typesize: usize) -> Vec<u8> {
    let count = data.len() / typesize;
    let mut out = vec![0; count * typesize];
    for (number, element) in data.chunks_exact(typesize).enumerate() {
        for (byte, value) in element.iter().enumerate() {
            for bit in 0..8 {
                let plane = (8 * byte + bit) * (count / 8);
                out[plane + number / 8] |= (value >> bit & 1) << (number % 8);
            }
        }
    }
    out.extend(&data[count * typesize..]);
    out
}

fn shuffled_bytes(data: &[u8], typesize: usize) -> Vec<u8> {
    let count = data.len() / typesize;
    let mut out = Vec::new();
    for byte in 0..typesize {
        out.extend((0..count).map(|number| data[number * typesize + byte]));
    }
    out.extend(&data[count * typesize..]);
    out
}

/// A chunk of blosc whose streams are stored, not compressed.
fn stored(data: &[u8], typesize: usize, blocksize: usize, flags: u8) -> Vec<u8> {
    let mut starts: Vec<u8> = Vec::new();
    let mut streams: Vec<u8> = Vec::new();
    let blocks = data.len().div_ceil(blocksize);
    for block in data.chunks(blocksize) {
        starts.extend((16 + 4 * blocks + streams.len()).to_le_bytes()[..4].iter());
        let shuffled = match flags & 5 {
            1 if typesize > 1 => shuffled_bytes(block, typesize),
            4 if (block.len() / typesize).is_multiple_of(8) => shuffled_bits(block, typesize),
            _ => block.to_vec(),
        };
        streams.extend(&block.len().to_le_bytes()[..4]);
        streams.extend(shuffled);
    }
    let size = 16 + starts.len() + streams.len();
    let mut out = vec![2, 1, flags, typesize as u8];
    for number in [data.len(), blocksize, size] {
        out.extend(&number.to_le_bytes()[..4]);
    }
    out.extend(starts);
    out.extend(streams);
    out
}

proptest! {
    #[test]
    fn every_instruction_set_unshuffles_alike(
        data in prop::collection::vec(any::<u8>(), 0..2000),
        typesize in 1usize..9,
    ) {
        let whole = data.len() / (8 * typesize) * 8 * typesize;
        let bits = shuffled_bits(&data[..whole], typesize);
        let bytes = shuffled_bytes(&data, typesize);
        for shuffles in Shuffles::available() {
            let mut out = vec![0; whole];
            shuffles.unshuffle_bits(typesize, &bits, &mut out);
            prop_assert_eq!(&out, &data[..whole]);
            let mut out = vec![0; data.len()];
            shuffles.unshuffle_bytes(typesize, &bytes, &mut out);
            prop_assert_eq!(&out, &data);
        }
    }

    #[test]
    fn stored_blocks_come_out(
        data in prop::collection::vec(any::<u8>(), 1..3000),
        typesize in 1usize..6,
        blocksize in 1usize..700,
        flags in prop::sample::select(vec![0x90u8, 0x91, 0x94, 0x34]),
    ) {
        // Blosc makes blocks of whole elements.
        let blocksize = blocksize.next_multiple_of(typesize);
        let chunk = stored(&data, typesize, blocksize, flags);
        let mut out = vec![0; data.len()];
        let found = Decoder::default().decode(Compressor::Blosc, &chunk, &mut out);
        prop_assert_eq!(found, Ok(()));
        prop_assert_eq!(out, data);
    }

    #[test]
    fn any_bytes_are_survived(
        mut data in prop::collection::vec(any::<u8>(), 0..600),
        size in 0usize..3000,
        honest in any::<bool>(),
    ) {
        if honest && data.len() >= 16 {
            data[0] = 2;
            let length = data.len() as u32;
            data[4..8].copy_from_slice(&(size as u32).to_le_bytes());
            data[12..16].copy_from_slice(&length.to_le_bytes());
        }
        let mut decoder = Decoder::default();
        for compressor in [Compressor::Blosc, Compressor::Zstd, Compressor::None] {
            let mut out = vec![0; size];
            let _ = decoder.decode(compressor, &data, &mut out);
        }
    }

    #[test]
    fn damage_to_a_sound_chunk_is_survived(
        data in prop::collection::vec(any::<u8>(), 500..2500),
        typesize in 1usize..6,
        edits in prop::collection::vec((0usize..80, any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut chunk = stored(&data, typesize, 480, 0x94);
        let mut out = vec![0; data.len()];
        let short = &chunk[..cut.index(chunk.len())];
        prop_assert!(Decoder::default().decode(Compressor::Blosc, short, &mut out).is_err());
        for (place, value) in edits {
            chunk[place] = value;
        }
        let _ = Decoder::default().decode(Compressor::Blosc, &chunk, &mut out);
    }
}

fn form() -> Form<i8> {
    Form {
        shape: [2, 3, 4],
        bands_last: false,
        compressor: Compressor::None,
        fill: -7,
    }
}

fn span(object: Option<usize>, offset: u64, length: u64) -> Span {
    Span {
        object,
        offset,
        length: Some(length),
    }
}

#[test]
fn absent_chunks_are_fill_and_others_stay_untouched() {
    let data: Vec<u8> = (0..24).collect();
    let objects = [Object::Bytes(&data)];
    let mut out = vec![MaybeUninit::new(99i8); 4 * 5 * 4];
    let view = ViewMut::new("out", &mut out, [4, 5, 4]).unwrap();
    let pieces = [
        Piece {
            cell: 0,
            span: span(None, 0, 0),
        },
        Piece {
            cell: 3,
            span: span(Some(0), 0, 24),
        },
    ];
    window(&form(), &objects, &pieces, [0, 0], None, view).unwrap();
    for row in 0..4 {
        for col in 0..5 {
            for band in 0..4 {
                // SAFETY: all elements were initialised above.
                let found = unsafe { out[(row * 5 + col) * 4 + band].assume_init() };
                let expected = match (row < 2, col < 3) {
                    (true, true) => -7,
                    (false, false) => (band * 6 + (row - 2) * 3 + col - 3) as i8,
                    _ => 99,
                };
                assert_eq!(found, expected, "{row} {col} {band}");
            }
        }
    }
}

#[test]
fn the_failing_chunk_is_named() {
    let data = [0u8; 24];
    let objects = [Object::Bytes(&data)];
    let spans = [span(Some(0), 0, 24), span(Some(0), 8, 24)];
    let (starts, pixels, rows) = ([0i64, 1, 2], [0i64, 5], [1i64, 0]);
    let mut out = vec![MaybeUninit::uninit(); 8];
    let wanted = Points {
        spans: &spans,
        starts: View::new("starts", &starts, [3]).unwrap(),
        pixels: View::new("pixels", &pixels, [2]).unwrap(),
        rows: View::new("rows", &rows, [2]).unwrap(),
    };
    let view = ViewMut::new("out", &mut out, [2, 4]).unwrap();
    match points(&form(), &objects, wanted, None, view) {
        Err(Error::Chunk { number: 1, reason }) => assert!(reason.contains("24 bytes from byte 8")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_index_needs_all_its_bytes() {
    let data = [0xffu8; 35];
    let mut out = vec![MaybeUninit::uninit(); 4];
    assert!(shard_index(&Object::Bytes(&data), true, true, &mut out).is_err());
    assert!(shard_index(&Object::Bytes(&data), true, false, &mut out).is_ok());
}
