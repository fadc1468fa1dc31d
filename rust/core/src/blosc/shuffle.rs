//! Undoing blosc's shuffles: bytes, or bits, of equal rank lie together.

use crate::level::Level;

/// The instruction sets that the shuffles use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffles {
    /// The reference: 51 to 66 µs for the bits of a published chunk.
    Scalar,
    /// AVX2: 15 µs.
    Avx2,
    /// AVX-512 with byte masks.
    Avx512,
}

impl Default for Shuffles {
    fn default() -> Self {
        *Self::available().last().unwrap_or(&Self::Scalar)
    }
}

impl Shuffles {
    /// Those that this CPU has, slowest first.
    pub fn available() -> Vec<Self> {
        let all = [Self::Scalar, Self::Avx2, Self::Avx512];
        all.into_iter().filter(|one| one.is_here()).collect()
    }

    fn is_here(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Level::Avx2.is_here(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Level::Avx512.is_here() && std::is_x86_feature_detected!("avx512bw"),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Puts the bytes of elements together; bytes after the last whole element stay.
    ///
    /// # Panics
    /// When `from` and `to` differ in length, or `typesize` is zero.
    pub fn unshuffle_bytes(self, typesize: usize, from: &[u8], to: &mut [u8]) {
        assert!(from.len() == to.len());
        let count = from.len() / typesize;
        let (streams, rest) = from.split_at(count * typesize);
        let (elements, tail) = to.split_at_mut(count * typesize);
        tail.copy_from_slice(rest);
        if typesize == 4 {
            // The scales' case; four slices of one length make LLVM interleave vectors.
            let (ab, cd) = streams.split_at(2 * count);
            let ((a, b), (c, d)) = (ab.split_at(count), cd.split_at(count));
            let (elements, _) = elements.as_chunks_mut::<4>();
            for ((((to, a), b), c), d) in elements.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *to = [*a, *b, *c, *d];
            }
            return;
        }
        for (rank, stream) in streams.chunks_exact(count.max(1)).enumerate() {
            for (element, byte) in elements.chunks_exact_mut(typesize).zip(stream) {
                element[rank] = *byte;
            }
        }
    }

    /// Puts the bits of elements together.
    ///
    /// Plane 8 k + j holds bit j of byte k of all elements, eight a byte, lowest first.
    ///
    /// # Panics
    /// When `from` and `to` differ in length, or their bytes are not those of whole elements,
    /// eight or sixteen or twenty-four … of them; bytes that are left over stay.
    pub fn unshuffle_bits(self, typesize: usize, from: &[u8], to: &mut [u8]) {
        assert!(from.len() == to.len());
        let count = from.len() / typesize;
        assert!(count.is_multiple_of(8));
        let (planes, rest) = from.split_at(count * typesize);
        let (elements, tail) = to.split_at_mut(count * typesize);
        tail.copy_from_slice(rest);
        if count == 0 {
            return;
        }
        if typesize == 1 {
            return self.bits_to_bytes(planes, elements);
        }
        let mut bytes = vec![0; count];
        for (rank, planes) in planes.chunks_exact(count).enumerate() {
            self.bits_to_bytes(planes, &mut bytes);
            for (element, byte) in elements.chunks_exact_mut(typesize).zip(&bytes) {
                element[rank] = *byte;
            }
        }
    }

    /// `unshuffle_bits` of elements of one byte: eight planes of one length.
    fn bits_to_bytes(self, planes: &[u8], out: &mut [u8]) {
        let length = planes.len() / 8;
        let done = match self {
            Self::Scalar => 0,
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` made sure of the instructions, or the caller did who named
            // them; both slices have 8 × `length` bytes.
            Self::Avx2 if self.is_here() => unsafe { x86::avx2(planes, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx512 if self.is_here() => unsafe { x86::avx512(planes, out) },
            _ => 0,
        };
        let (out, _) = out.as_chunks_mut::<8>();
        for at in done..length {
            let bytes = std::array::from_fn(|plane| planes[plane * length + at]);
            out[at] = transpose(u64::from_le_bytes(bytes)).to_le_bytes();
        }
    }
}

/// The transpose of 8 × 8 bits (Hacker's Delight, 7-3).
fn transpose(mut x: u64) -> u64 {
    for (shift, mask) in [
        (7, 0x00AA_00AA_00AA_00AA),
        (14, 0x0000_CCCC_0000_CCCC),
        (28, 0x0000_0000_F0F0_F0F0),
    ] {
        let t = (x ^ (x >> shift)) & mask;
        x ^= t ^ (t << shift);
    }
    x
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Makes 32 bytes of 4 of each plane at a time; returns how many of a plane it did.
    ///
    /// # Safety
    /// The CPU has AVX2; `out` is as long as `planes`.
    #[target_feature(enable = "avx2")]
    pub unsafe fn avx2(planes: &[u8], out: &mut [u8]) -> usize {
        let length = planes.len() / 8;
        let spread = _mm256_setr_epi8(
            0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3,
            3, 3, 3,
        );
        let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let mut at = 0;
        while at + 4 <= length {
            let mut made = _mm256_setzero_si256();
            for plane in 0..8 {
                // SAFETY: bytes `at` to `at + 4` of a plane are inside `planes`.
                let four = unsafe {
                    planes
                        .as_ptr()
                        .add(plane * length + at)
                        .cast::<i32>()
                        .read_unaligned()
                };
                let each = _mm256_shuffle_epi8(_mm256_set1_epi32(four), spread);
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(each, bits), bits);
                let bit = _mm256_set1_epi8((1u8 << plane) as i8);
                made = _mm256_or_si256(made, _mm256_and_si256(set, bit));
            }
            // SAFETY: 8 × (`at` + 4) bytes are inside `out`.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().add(8 * at).cast(), made) };
            at += 4;
        }
        at
    }

    /// Makes 64 bytes of 8 of each plane at a time, whose bits are a mask as they are.
    ///
    /// # Safety
    /// The CPU has AVX-512 F and BW; `out` is as long as `planes`.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub unsafe fn avx512(planes: &[u8], out: &mut [u8]) -> usize {
        let length = planes.len() / 8;
        let mut at = 0;
        while at + 8 <= length {
            let mut made = _mm512_setzero_si512();
            for plane in 0..8 {
                // SAFETY: bytes `at` to `at + 8` of a plane are inside `planes`.
                let mask = unsafe {
                    planes
                        .as_ptr()
                        .add(plane * length + at)
                        .cast::<u64>()
                        .read_unaligned()
                };
                let bit = _mm512_set1_epi8((1u8 << plane) as i8);
                made = _mm512_mask_add_epi8(made, mask, made, bit);
            }
            // SAFETY: 8 × (`at` + 8) bytes are inside `out`.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().add(8 * at).cast(), made) };
            at += 8;
        }
        at
    }
}
