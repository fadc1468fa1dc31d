//! Every instruction set against the rule, written out once more, bit for bit.

use std::io::Write;
use std::mem::MaybeUninit;

use geotessera_core::Error;
use geotessera_core::dequantize::{How, Level, dequantize, dequantize_with};
use geotessera_core::view::{View, View2, View3, ViewMut, ViewMut3, count};
use proptest::prelude::*;

const CANONICAL: u32 = 0x7fc0_0000;

/// The rule: NaN where the scale is not finite, else the rounded product (whose infinities
/// are overflows). The product is formed in f64, where it is exact, and rounded once.
fn expected(q: i8, scale: f32) -> u32 {
    if scale.is_finite() {
        (f64::from(q) * f64::from(scale)) as f32
    } else {
        f32::NAN
    }
    .to_bits()
        & if scale.is_finite() {
            u32::MAX
        } else {
            CANONICAL
        }
}

/// Every way there is on this CPU; prints the instruction sets once a test.
fn ways() -> Vec<How> {
    let levels = Level::available();
    let names: Vec<_> = levels.iter().map(|level| level.name()).collect();
    // Written past libtest's capture: a green run must say what it has proven.
    let _ = writeln!(
        std::io::stderr(),
        "dequantize: exercised {}",
        names.join(", ")
    );
    let both = [Some(false), Some(true)];
    levels
        .iter()
        .flat_map(|&level| both.map(|stream| How { level, stream }))
        .collect()
}

/// Numbers without a pattern, from a seed.
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 >> 24
    }

    fn values(&mut self, n: usize) -> Vec<i8> {
        (0..n)
            .map(|_| {
                if self.next().is_multiple_of(9) {
                    -128
                } else {
                    self.next() as i8
                }
            })
            .collect()
    }

    /// Any bits: ordinary scales, subnormals, zeros, infinities, NaNs with payloads.
    fn scales(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| {
                let bits = self.next() as u32;
                f32::from_bits(match self.next() % 8 {
                    0 => bits & 0x807f_ffff,
                    1 => 0x7f80_0000 | (bits & 0x8000_0000),
                    2 => 0x7f80_0000 | bits,
                    3 => bits & 0x8000_0000,
                    4 => bits,
                    5 => 0x7f7f_ffff ^ (bits & 0x8000_0003),
                    _ => 0x3d00_0000 | (bits & 0x00ff_ffff),
                })
            })
            .collect()
    }
}

/// A buffer of floats that starts 64-byte aligned, filled with a mark.
fn aligned(n: usize) -> (Vec<MaybeUninit<f32>>, usize) {
    let buffer = vec![MaybeUninit::new(MARK); n + 16];
    let past = buffer.as_ptr() as usize / 4 % 16;
    (buffer, (16 - past) % 16)
}

const MARK: f32 = 12345.5;

fn bits_of(buffer: &[MaybeUninit<f32>]) -> Vec<u32> {
    // SAFETY: `aligned` initialised every element.
    buffer
        .iter()
        .map(|value| unsafe { value.assume_init() }.to_bits())
        .collect()
}

#[test]
fn every_length_at_every_alignment() {
    let mut bits = Bits(1);
    let q = bits.values(3 * 300 + 64);
    let scales = bits.scales(3 * 300);
    for how in ways() {
        for lanes in 0..=300 {
            for offset in 0..64 {
                // Out moves in floats, q in bytes; together they meet every alignment.
                let (shape, n) = ([1, 3, lanes], 3 * lanes);
                let values = View3::new("q", &q[offset..offset + n], shape).unwrap();
                let one = View2::new("scales", &scales[..3], [1, 3]).unwrap();
                let each = View3::new("scales", &scales[..n], shape).unwrap();
                for (per_band, s) in [(false, one.stretch("scales", lanes).unwrap()), (true, each)]
                {
                    let (mut buffer, base) = aligned(n + 16);
                    let start = base + offset % 16;
                    let out = ViewMut::new("out", &mut buffer[start..start + n], shape).unwrap();
                    dequantize_with(how, values, s, None, out).unwrap();
                    let found = bits_of(&buffer);
                    for i in 0..n {
                        let scale = scales[if per_band { i } else { i / lanes }];
                        let wanted = expected(q[offset + i], scale);
                        assert_eq!(found[start + i], wanted, "{how:?} {lanes} {offset} {i}");
                    }
                    let outside = found[..start].iter().chain(&found[start + n..]);
                    assert!(
                        outside.into_iter().all(|&b| b == MARK.to_bits()),
                        "{how:?} {lanes}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_value_times_every_kind_of_scale() {
    let kinds = [
        0x0000_0000u32,
        0x8000_0000,
        0x0000_0001,
        0x807f_ffff,
        0x0080_0000,
        0x3f80_0000,
        0x7f7f_ffff,
        0xff7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7f80_0001,
        0x7fc0_0000,
        0xffff_ffff,
        0xffc1_2345,
        0x3d83_126f,
        0x7e00_0000,
    ];
    let q: Vec<i8> = (i8::MIN..=i8::MAX).collect();
    for how in ways() {
        for kind in kinds {
            let scale = [f32::from_bits(kind)];
            let s = View2::new("scales", &scale, [1, 1])
                .unwrap()
                .stretch("scales", 256)
                .unwrap();
            let mut buffer = vec![MaybeUninit::new(MARK); 256];
            let out = ViewMut::new("out", &mut buffer, [1, 1, 256]).unwrap();
            dequantize_with(how, View::new("q", &q, [1, 1, 256]).unwrap(), s, None, out).unwrap();
            for (&q, found) in q.iter().zip(bits_of(&buffer)) {
                assert_eq!(found, expected(q, scale[0]), "{how:?} {q} {kind:#x}");
            }
        }
    }
}

/// How an array of some shape lies in a buffer.
#[derive(Clone, Debug)]
struct Lie {
    order: [usize; 3],
    steps: [usize; 3],
    reversed: [bool; 3],
    offset: usize,
}

impl Lie {
    /// Buffer length, first element and strides for a shape.
    fn place(&self, shape: [usize; 3]) -> (usize, usize, [isize; 3]) {
        let mut strides = [0isize; 3];
        let (mut size, mut first) = (1, self.offset);
        for &axis in self.order.iter().rev() {
            let len = shape[axis].max(1);
            strides[axis] = (size * self.steps[axis]) as isize;
            if self.reversed[axis] {
                first += (len - 1) * size * self.steps[axis];
                strides[axis] = -strides[axis];
            }
            size *= len * self.steps[axis];
        }
        (size + self.offset, first, strides)
    }
}

fn lie() -> impl Strategy<Value = Lie> {
    let order = prop::sample::select(vec![
        [0, 1, 2],
        [2, 0, 1],
        [0, 1, 2],
        [2, 0, 1],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 1, 0],
    ]);
    let steps = prop_oneof![3 => Just([1; 3]), 1 => [1usize..3, 1..3, 1..3]];
    let reversed = prop_oneof![3 => Just([false; 3]), 1 => any::<[bool; 3]>()];
    (order, steps, reversed, 0usize..16).prop_map(|(order, steps, reversed, offset)| Lie {
        order,
        steps,
        reversed,
        offset,
    })
}

fn shape() -> impl Strategy<Value = [usize; 3]> {
    prop_oneof![
        [0usize..4, 0..40, 0..40],
        [1usize..4, 1..5, 100..300],
        [1usize..4, 100..200, 1..40],
        [1usize..4, 15..34, 15..34],
    ]
}

fn picks(bands: usize) -> BoxedStrategy<Option<Vec<usize>>> {
    if bands == 0 {
        return prop_oneof![Just(None), Just(Some(vec![]))].boxed();
    }
    prop_oneof![
        2 => Just(None),
        2 => prop::collection::vec(0..bands, 0..200).prop_map(Some),
        1 => (0..bands).prop_map(move |first| Some((first..bands).rev().step_by(2).collect())),
        1 => (0..bands, 0usize..5).prop_map(|(band, n)| Some(vec![band; n])),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_layout(
        (shape, picks) in shape().prop_flat_map(|s| (Just(s), picks(s[2]))),
        lies in [lie(), lie(), lie()],
        per_band: bool,
        seed: u64,
    ) {
        let mut bits = Bits(seed);
        let wanted = [shape[0], shape[1], picks.as_ref().map_or(shape[2], Vec::len)];
        let (q_len, q_first, q_strides) = lies[0].place(shape);
        let q = bits.values(q_len);
        let s_shape = if per_band { shape } else { [shape[0], shape[1], 1] };
        let (s_len, s_first, mut s_strides) = lies[1].place(s_shape);
        let scales = bits.scales(s_len);
        if !per_band {
            s_strides[2] = 0;
        }
        let (out_len, out_first, out_strides) = lies[2].place(wanted);
        let at = |first: usize, strides: [isize; 3], index: [usize; 3]| {
            (first as isize + (0..3).map(|k| strides[k] * index[k] as isize).sum::<isize>()) as usize
        };
        let mut expected_out = vec![MARK.to_bits(); out_len];
        for row in 0..wanted[0] {
            for col in 0..wanted[1] {
                for i in 0..wanted[2] {
                    let band = picks.as_ref().map_or(i, |picks| picks[i]);
                    let value = q[at(q_first, q_strides, [row, col, band])];
                    let scale = scales[at(s_first, s_strides, [row, col, band])];
                    expected_out[at(out_first, out_strides, [row, col, i])] = expected(value, scale);
                }
            }
        }
        let values = View3::strided("q", &q, q_first, shape, q_strides).unwrap();
        let s = View3::strided("scales", &scales, s_first, shape, s_strides).unwrap();
        for level in Level::available() {
            for stream in [false, true] {
                let mut buffer = vec![MaybeUninit::new(MARK); out_len];
                let out =
                    ViewMut3::strided("out", &mut buffer, out_first, wanted, out_strides).unwrap();
                let how = How { level, stream: Some(stream) };
                dequantize_with(how, values, s, picks.as_deref(), out).unwrap();
                prop_assert!(bits_of(&buffer) == expected_out, "{how:?}");
            }
        }
    }
}

/// Large enough for many blocks, and for stores past the cache.
#[test]
fn many_blocks_in_every_pair_of_layouts() {
    let shape @ [rows, cols, bands] = [37, 1001, 130];
    let n = rows * cols * bands;
    let mut bits = Bits(5);
    let (q, scales) = (bits.values(n), bits.scales(rows * cols));
    let s = View2::new("scales", &scales, [rows, cols])
        .unwrap()
        .stretch("scales", bands)
        .unwrap();
    let hwc = View3::new("q", &q, shape).unwrap();
    let chw = View3::new("q", &q, [bands, rows, cols])
        .unwrap()
        .permute([1, 2, 0]);
    let picks: Vec<usize> = (0..130).map(|i| i * i % 130).collect();
    for values in [hwc, chw] {
        for chw_out in [false, true] {
            for picks in [None, Some(&picks[..])] {
                let mut buffer = vec![MaybeUninit::new(MARK); n];
                let out = if chw_out {
                    let made = ViewMut::new("out", &mut buffer, [bands, rows, cols]).unwrap();
                    made.permute([1, 2, 0])
                } else {
                    ViewMut::new("out", &mut buffer, shape).unwrap()
                };
                let [down, right, band] = out.strides().map(|step| step as usize);
                dequantize(values, s, picks, out).unwrap();
                let found = bits_of(&buffer);
                for row in 0..rows {
                    for col in 0..cols {
                        let scale = scales[row * cols + col];
                        for i in 0..bands {
                            let from = picks.map_or(i, |picks| picks[i]);
                            let wanted = expected(values.at([row, col, from]), scale);
                            assert_eq!(found[row * down + col * right + i * band], wanted);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (q, scales) = ([0i8; 24], [0f32; 24]);
    let values = View3::new("q", &q, [2, 3, 4]).unwrap();
    let s = View3::new("scales", &scales, [2, 3, 4]).unwrap();
    let mut buffer = [MaybeUninit::new(MARK); 24];
    let out = ViewMut::new("out", &mut buffer, [2, 4, 3]).unwrap();
    assert!(matches!(
        dequantize(values, s, None, out),
        Err(Error::Shape { what: "out", .. })
    ));
    let out = ViewMut::new("out", &mut buffer, [2, 3, 4]).unwrap();
    let other = s.permute([0, 2, 1]);
    assert!(matches!(
        dequantize(values, other, None, out),
        Err(Error::Shape { .. })
    ));
    let out = ViewMut::new("out", &mut buffer[..6], [2, 3, 1]).unwrap();
    let found = dequantize(values, s, Some(&[4]), out);
    assert!(matches!(found, Err(Error::Band { band: 4, count: 4 })));
    assert_eq!(bits_of(&buffer), [MARK.to_bits(); 24]);
}

#[test]
fn views_stay_inside_their_memory() {
    let data = [0i8; 10];
    assert!(View3::strided("v", &data, 9, [2, 5, 1], [-5, -1, 7]).is_ok());
    assert!(View3::strided("v", &data, 8, [2, 5, 1], [-5, -1, 7]).is_err());
    assert!(View3::strided("v", &data, 1, [2, 5, 1], [5, 1, 7]).is_err());
    assert!(
        View3::strided("v", &data, 99, [2, 0, 1], [5, 1, 7])
            .unwrap()
            .is_empty()
    );
    let huge = [1 << 31, 1 << 31, 128];
    for result in [
        View3::strided("v", &data, 0, huge, [0; 3]),
        View3::new("v", &data, huge),
    ] {
        assert!(matches!(result, Err(Error::TooLarge { .. })));
    }
    assert_eq!(count::<f32>("v", &[usize::MAX, usize::MAX, 0]).unwrap(), 0);
    assert!(count::<f32>("v", &[1 << 61]).is_err());
    assert_eq!(
        View3::strided("v", &data, 0, [usize::MAX, 7, 0], [9; 3])
            .unwrap()
            .len(),
        0
    );
    // 2^62 elements of one byte may be repeated, but not spread over more than the memory.
    assert!(View3::strided("v", &data, 0, [1 << 31, 1 << 31, 1], [0; 3]).is_ok());
    assert!(View3::strided("v", &data, 0, [1 << 31, 1 << 31, 1], [1 << 40, 1, 0]).is_err());
}

#[test]
fn elements_that_share_memory_are_not_written() {
    let mut data = [MaybeUninit::new(0f32); 24];
    for strides in [[0, 4, 1], [4, 4, 1], [12, 2, 1], [12, -2, 1]] {
        let offset = if strides[1] < 0 { 12 } else { 0 };
        let made = ViewMut::strided("out", &mut data, offset, [2, 3, 4], strides);
        assert!(matches!(made, Err(Error::Argument(_))), "{strides:?}");
    }
    assert!(ViewMut::strided("out", &mut data, 0, [2, 3, 4], [4, 8, 1]).is_ok());
    assert!(ViewMut::strided("out", &mut data, 0, [1, 6, 4], [0, 4, 1]).is_ok());
}
