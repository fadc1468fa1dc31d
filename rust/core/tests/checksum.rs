//! Digests against the test vectors of RFC 1321 and FIPS 180-4, and against other crates.

use std::fs;
use std::io::ErrorKind;
use std::sync::atomic::AtomicBool;

use geotessera_core::checksum::{Algorithm, Hasher, hash_files};
use md5::{Digest, Md5};
use proptest::prelude::*;
use sha2::Sha256;

const BOTH: [Algorithm; 2] = [Algorithm::Md5, Algorithm::Sha256];

#[test]
fn published_vectors() {
    let vectors = [
        (
            "",
            "d41d8cd98f00b204e9800998ecf8427e",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            "abc",
            "900150983cd24fb0d6963f7d28e17f72",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
    ];
    for (text, md5, sha256) in vectors {
        let mut hasher = Hasher::new(&BOTH);
        hasher.update(text.as_bytes());
        assert_eq!(hasher.hexdigests(), [md5, sha256]);
        assert_eq!(hasher.hexdigest(Algorithm::Md5).as_deref(), Some(md5));
    }
    let mut hasher = Hasher::new(&[Algorithm::Xxh128]);
    hasher.update(b"");
    // `XSUM_XXH3_testdata128` of xxHash 0.8: no bytes, no seed.
    assert_eq!(hasher.hexdigests(), ["99aa06d3014798d86001c324468d497f"]);
    assert!("sha1".parse::<Algorithm>().is_err());
}

#[test]
fn one_bad_file_ends_nothing() {
    let dir = std::env::temp_dir().join(format!("geotessera-checksum-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("abc"), "abc").unwrap();
    let paths = [
        dir.join("abc"),
        dir.join("missing"),
        dir.clone(),
        dir.join("abc"),
    ];
    let found = hash_files(&paths, &[Algorithm::Md5], 3, &AtomicBool::new(false));
    let stopped = hash_files(&paths, &[Algorithm::Md5], 1, &AtomicBool::new(true));
    fs::remove_dir_all(&dir).unwrap();
    let digest = ["900150983cd24fb0d6963f7d28e17f72"];
    assert_eq!(found[0].as_ref().unwrap(), &digest);
    assert_eq!(found[1].as_ref().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(found[2].is_err());
    assert_eq!(found[3].as_ref().unwrap(), &digest);
    assert_eq!(
        stopped[0].as_ref().unwrap_err().kind(),
        ErrorKind::Interrupted
    );
}

proptest! {
    #[test]
    fn pieces_make_the_whole(data in prop::collection::vec(any::<u8>(), 0..40_000), cut in 0usize..40_000) {
        let mut whole = Hasher::new(&BOTH);
        whole.update(&data);
        let mut pieces = Hasher::new(&[Algorithm::Sha256, Algorithm::Md5]);
        let (head, tail) = data.split_at(cut.min(data.len()));
        pieces.update(head);
        pieces.update(tail);
        for algorithm in BOTH {
            prop_assert_eq!(whole.hexdigest(algorithm), pieces.hexdigest(algorithm));
        }
        prop_assert_eq!(pieces.length(), data.len() as u64);
    }

    #[test]
    fn any_pieces_of_both_make_what_each_crate_makes(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
    ) {
        let mut hasher = Hasher::new(&BOTH);
        pieces.iter().for_each(|piece| hasher.update(piece));
        let whole = pieces.concat();
        let text = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        prop_assert_eq!(
            hasher.hexdigests(),
            [text(&Md5::digest(&whole)), text(&Sha256::digest(&whole))]
        );
        let mut alone = Hasher::new(&[Algorithm::Md5]);
        pieces.iter().for_each(|piece| alone.update(piece));
        prop_assert_eq!(alone.hexdigest(Algorithm::Md5), hasher.hexdigest(Algorithm::Md5));
    }
}
