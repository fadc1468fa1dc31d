//! Digests of a buffer.

use std::hint::black_box;

use geotessera_core::checksum::{Algorithm, Hasher};

use super::{Amount, Case, Size};

/// Each digest, and the pair that downloads make.
pub fn cases(size: Size) -> Vec<Case> {
    let length = match size {
        Size::Small => 1 << 18,
        Size::Tile => 64 << 20,
    };
    [
        ("sha256", &[Algorithm::Sha256][..]),
        ("md5", &[Algorithm::Md5]),
        ("xxh128", &[Algorithm::Xxh128]),
        ("sha256+md5", &[Algorithm::Sha256, Algorithm::Md5]),
    ]
    .map(|(digest, algorithms)| {
        let name = format!("checksum/{}/{digest}", size.name());
        let prepare = move || -> super::Call {
            let data: Vec<u8> = (0..length).map(|i| (i * 31) as u8).collect();
            Box::new(move || {
                let mut hasher = Hasher::new(algorithms);
                hasher.update(black_box(&data));
                black_box(hasher.hexdigests());
            })
        };
        Case {
            threaded: false,
            ..Case::new(name, Amount::Bytes(length), prepare)
        }
    })
    .into()
}
