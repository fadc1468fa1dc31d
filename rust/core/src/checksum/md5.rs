//! MD5 (RFC 1321), laid out for the shortest chain of dependent instructions.
//!
//! Each of its 64 steps waits for the one before it. What does not wait (message word,
//! constant, the oldest word of the state) is added up beside the chain: 0.77 GB/s where the
//! `md-5` crate makes 0.63. Half of the units are idle even so: `checksum` lets another digest
//! have them.

/// Bytes that are digested at a time.
pub(super) const BLOCK: usize = 64;

/// floor(2³² · |sin(i + 1)|), RFC 1321 section 3.4.
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// A running MD5.
#[derive(Clone, Debug)]
pub(super) struct Md5 {
    state: [u32; 4],
    /// Bytes that do not fill a block yet: the first `length % BLOCK`.
    rest: [u8; BLOCK],
    length: u64,
}

impl Md5 {
    pub(super) fn new() -> Self {
        Self {
            state: [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476],
            rest: [0; BLOCK],
            length: 0,
        }
    }

    fn filled(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }

    #[inline]
    pub(super) fn update(&mut self, mut data: &[u8]) {
        let filled = self.filled();
        self.length = self.length.wrapping_add(data.len() as u64);
        if filled > 0 {
            let (head, tail) = data.split_at(data.len().min(BLOCK - filled));
            self.rest[filled..filled + head.len()].copy_from_slice(head);
            if filled + head.len() < BLOCK {
                return;
            }
            compress(&mut self.state, &self.rest);
            data = tail;
        }
        let (blocks, tail) = data.as_chunks();
        for block in blocks {
            compress(&mut self.state, block);
        }
        self.rest[..tail.len()].copy_from_slice(tail);
    }

    pub(super) fn finish(mut self) -> [u8; 16] {
        let bits = self.length.wrapping_mul(8).to_le_bytes();
        let mut padding = [0; BLOCK];
        padding[0] = 0x80;
        // One bit, zeros up to 8 bytes before the end of a block, the length there.
        let zeros = BLOCK - (self.filled() + 8) % BLOCK;
        self.update(&padding[..zeros]);
        self.update(&bits);
        let mut digest = [0; 16];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_le_bytes();
        }
        digest
    }
}

/// Keeps the compiler from adding `x` up in another order than it was.
///
/// It would put what comes last of a chain first: 0.65 GB/s instead of 0.77.
#[inline(always)]
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn in_order(mut x: u32) -> u32 {
    // SAFETY: no instruction at all; it only names a register as its input and output.
    unsafe {
        std::arch::asm!("/* {0:e} */", inout(reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    x
}

#[inline(always)]
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn in_order(x: u32) -> u32 {
    x
}

#[inline(always)]
fn step(mix: u32, beside: u32, b: u32, shift: u32) -> u32 {
    mix.wrapping_add(in_order(beside))
        .rotate_left(shift)
        .wrapping_add(b)
}

#[inline(always)]
fn f(a: u32, b: u32, c: u32, d: u32, word: u32, shift: u32) -> u32 {
    step(d ^ (b & (c ^ d)), a.wrapping_add(word), b, shift)
}

#[inline(always)]
fn g(a: u32, b: u32, c: u32, d: u32, word: u32, shift: u32) -> u32 {
    // (b & d) | (c & !d): no bit is in both, so the half without b need not wait for it.
    let beside = a.wrapping_add(word).wrapping_add(c & !d);
    step(b & d, beside, b, shift)
}

#[inline(always)]
fn h(a: u32, b: u32, c: u32, d: u32, word: u32, shift: u32) -> u32 {
    step(b ^ (c ^ d), a.wrapping_add(word), b, shift)
}

#[inline(always)]
fn i(a: u32, b: u32, c: u32, d: u32, word: u32, shift: u32) -> u32 {
    step(c ^ (b | !d), a.wrapping_add(word), b, shift)
}

/// Four steps, after which the four words of the state have their places again.
macro_rules! four_steps {
    ($mix:ident, $at:expr, $state:ident, $words:ident, $stride:expr, $offset:expr, $shifts:expr) => {
        let word =
            |n: usize| $words[($stride * ($at + n) + $offset) % 16].wrapping_add(SINES[$at + n]);
        let [mut a, mut b, mut c, mut d] = $state;
        a = $mix(a, b, c, d, word(0), $shifts[0]);
        d = $mix(d, a, b, c, word(1), $shifts[1]);
        c = $mix(c, d, a, b, word(2), $shifts[2]);
        b = $mix(b, c, d, a, word(3), $shifts[3]);
        $state = [a, b, c, d];
    };
}

/// The 16 steps of a round, from step `$at` on.
macro_rules! round {
    ($mix:ident, $at:expr, $state:ident, $words:ident, $stride:expr, $offset:expr, $shifts:expr) => {
        four_steps!($mix, $at, $state, $words, $stride, $offset, $shifts);
        four_steps!($mix, $at + 4, $state, $words, $stride, $offset, $shifts);
        four_steps!($mix, $at + 8, $state, $words, $stride, $offset, $shifts);
        four_steps!($mix, $at + 12, $state, $words, $stride, $offset, $shifts);
    };
}

#[inline]
fn compress(state: &mut [u32; 4], block: &[u8; BLOCK]) {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    let mut mixed = *state;
    round!(f, 0, mixed, words, 1, 0, [7, 12, 17, 22]);
    round!(g, 16, mixed, words, 5, 1, [5, 9, 14, 20]);
    round!(h, 32, mixed, words, 3, 5, [4, 11, 16, 23]);
    round!(i, 48, mixed, words, 7, 0, [6, 10, 15, 21]);
    for (word, more) in state.iter_mut().zip(mixed) {
        *word = word.wrapping_add(more);
    }
}
