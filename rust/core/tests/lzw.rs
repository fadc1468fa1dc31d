//! What is compressed is read back by another implementation.

use geotessera_core::lzw::encode;
use proptest::prelude::*;
use weezl::{BitOrder, decode::Decoder};

fn decoded(data: &[u8]) -> Vec<u8> {
    Decoder::with_tiff_size_switch(BitOrder::Msb, 8)
        .decode(data)
        .expect("a stream that ends")
}

/// Numbers that look random, `kinds` different ones.
fn noise(length: usize, kinds: u64) -> Vec<u8> {
    let mut state = 1u64;
    let step = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        ((state >> 33) % kinds) as u8
    };
    (0..length).map(step).collect()
}

#[test]
fn every_length_around_the_widths_of_codes() {
    // Codes become wider after 254, 766 and 1790 strings; the table is full after 3836.
    for kinds in [1, 2, 256] {
        let data = noise(6000, kinds);
        for length in (0..600).chain(760..780).chain(1780..1800).chain(3820..4120) {
            let part = &data[..length];
            assert_eq!(decoded(&encode(part).unwrap()), part, "{length} of {kinds}");
        }
    }
}

#[test]
fn noise_grows_by_less_than_half() {
    let data = noise(100_000, 256);
    let made = encode(&data).unwrap();
    assert!(made.len() < data.len() * 3 / 2);
    assert_eq!(decoded(&made), data);
}

#[test]
fn what_repeats_shrinks() {
    assert!(encode(&[7; 100_000]).unwrap().len() < 2000);
}

proptest! {
    #[test]
    fn anything_is_read_back(
        seed in prop::collection::vec(any::<u8>(), 0..300),
        times in 1usize..60,
    ) {
        let data = seed.repeat(times);
        prop_assert_eq!(decoded(&encode(&data).unwrap()), data);
    }
}
