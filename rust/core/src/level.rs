//! Instruction sets: which ones this CPU has, and code compiled for one of them.

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// No vectors but those that every CPU of the architecture has: the reference.
    Scalar,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F.
    Avx512,
    /// 64-bit ARM.
    Neon,
}

/// Something to do whose code is generated once for each instruction set.
///
/// Not a closure: a closure cannot be told to be inlined, and only what is inlined is compiled
/// for the instruction set.
pub(crate) trait Work {
    /// What comes of it.
    type Output;
    /// Does it; to be marked `#[inline(always)]`, and so what it calls in its loops.
    fn run(self) -> Self::Output;
}

impl Level {
    /// Those that this CPU has, slowest first.
    pub fn available() -> Vec<Self> {
        let all = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Neon];
        all.into_iter().filter(|level| level.is_here()).collect()
    }

    /// The fastest that this CPU has.
    pub fn best() -> Self {
        *Self::available().last().unwrap_or(&Self::Scalar)
    }

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// Whether this CPU has it.
    pub fn is_here(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => std::is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => std::is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            _ => false,
        }
    }

    /// Does `work` with this instruction set, or with none where the CPU lacks it.
    ///
    /// Rust contracts no multiplication and addition into one, so that every level gives the
    /// same bits.
    pub(crate) fn run<W: Work>(self, work: W) -> W::Output {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2")]
            fn avx2<W: Work>(work: W) -> W::Output {
                work.run()
            }
            #[target_feature(enable = "avx512f")]
            fn avx512<W: Work>(work: W) -> W::Output {
                work.run()
            }
            if self.is_here() {
                match self {
                    // SAFETY: this CPU has the level's instructions.
                    Self::Avx2 => return unsafe { avx2(work) },
                    // SAFETY: as above.
                    Self::Avx512 => return unsafe { avx512(work) },
                    _ => {}
                }
            }
        }
        work.run()
    }
}
