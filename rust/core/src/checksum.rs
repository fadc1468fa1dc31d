//! SHA-256, MD5 and XXH3-128 of buffers and files, several digests in one pass.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use sha2::{Digest, Sha256};
use twox_hash::XxHash3_128;

use self::md5::Md5;
use crate::{Error, Result};

mod md5;

/// What is read at once: large enough that system calls cost nothing, small enough that it
/// stays in the second-level cache for the next digest.
const BUFFER: usize = 1 << 20;
/// What every digest takes in turn. One block: each digest waits for its own last instruction
/// most of the time, and while one waits the processor does the other's. SHA-256 and MD5
/// together make 0.66 GB/s so, and 0.54 with 1 KiB or more.
const PIECE: usize = md5::BLOCK;

/// A digest this crate can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256 (FIPS 180-4), with the CPU's SHA instructions where it has them.
    Sha256,
    /// MD5 (RFC 1321): what object stores put into ETags; not for security.
    Md5,
    /// XXH3 of 128 bits: notices every accident, at the speed of memory; not for security.
    Xxh128,
}

impl Algorithm {
    /// The name that `hashlib` uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Md5 => "md5",
            Self::Xxh128 => "xxh128",
        }
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "sha256" => Ok(Self::Sha256),
            "md5" => Ok(Self::Md5),
            "xxh128" => Ok(Self::Xxh128),
            _ => Err(Error::Argument(format!(
                "algorithm {name:?} is unknown; there are \"sha256\", \"md5\" and \"xxh128\""
            ))),
        }
    }
}

/// One running digest.
#[derive(Clone)]
enum Running {
    Sha256(Sha256),
    Md5(Md5),
    Xxh128(Box<XxHash3_128>),
}

impl Running {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Xxh128 => Self::Xxh128(Box::new(XxHash3_128::new())),
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Md5(_) => Algorithm::Md5,
            Self::Xxh128(_) => Algorithm::Xxh128,
        }
    }

    #[inline]
    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha256(digest) => digest.update(data),
            Self::Md5(digest) => digest.update(data),
            Self::Xxh128(digest) => digest.write(data),
        }
    }

    fn hexdigest(&self) -> String {
        match self {
            Self::Sha256(digest) => hex(&digest.clone().finalize()),
            Self::Md5(digest) => hex(&digest.clone().finish()),
            // The canonical form of XXH3 is big-endian.
            Self::Xxh128(digest) => hex(&digest.finish_128().to_be_bytes()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Several digests of one stream of bytes.
#[derive(Clone)]
pub struct Hasher {
    running: Vec<Running>,
    length: u64,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithms: &[Algorithm]) -> Self {
        Self {
            running: algorithms.iter().map(|&a| Running::new(a)).collect(),
            length: 0,
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        match self.running.as_mut_slice() {
            [only] => only.update(data),
            all => {
                let mut feed = |piece| all.iter_mut().for_each(|digest| digest.update(piece));
                // Whole blocks need not be put together in a buffer.
                let started = (self.length % PIECE as u64) as usize;
                let (head, tail) = data.split_at(data.len().min((PIECE - started) % PIECE));
                feed(head);
                tail.chunks(PIECE).for_each(feed);
            }
        }
        self.length += data.len() as u64;
    }

    /// Takes in the bytes of a file from `start` to `stop`, or to its end if that comes first.
    ///
    /// Returns how many there were.
    ///
    /// # Errors
    /// What the system says; what was read before is taken in.
    pub fn update_file(&mut self, path: &Path, start: u64, stop: u64) -> io::Result<u64> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        let mut rest = file.take(stop.saturating_sub(start));
        let mut buffer = vec![0; BUFFER.min(rest.limit() as usize)];
        let before = self.length;
        loop {
            match rest.read(&mut buffer) {
                Ok(0) => return Ok(self.length - before),
                Ok(count) => self.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The digests so far in lower-case hexadecimal, in the order of the algorithms.
    pub fn hexdigests(&self) -> Vec<String> {
        self.running.iter().map(Running::hexdigest).collect()
    }

    /// One digest so far; None for an algorithm that is not running.
    pub fn hexdigest(&self, algorithm: Algorithm) -> Option<String> {
        self.running
            .iter()
            .find(|r| r.algorithm() == algorithm)
            .map(Running::hexdigest)
    }

    /// The algorithms, as they were given.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> + '_ {
        self.running.iter().map(Running::algorithm)
    }

    /// How many bytes were taken in.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// The digests of one file, in the order of the algorithms.
///
/// # Errors
/// What the system says; [`io::ErrorKind::Interrupted`] once `stop` is set.
pub fn hash_file(
    path: &Path,
    algorithms: &[Algorithm],
    buffer: &mut Vec<u8>,
    stop: &AtomicBool,
) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new(algorithms);
    buffer.resize(BUFFER, 0);
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match file.read(buffer) {
            Ok(0) => return Ok(hasher.hexdigests()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The digests of many files, at most `threads` of them at once, each with its own outcome.
///
/// Threads of their own and not the kernels' pool: they wait for disks. Setting `stop` ends
/// the work soon; what was not finished is then [`io::ErrorKind::Interrupted`].
pub fn hash_files<P: AsRef<Path> + Sync>(
    paths: &[P],
    algorithms: &[Algorithm],
    threads: usize,
    stop: &AtomicBool,
) -> Vec<io::Result<Vec<String>>> {
    let results: Vec<_> = paths.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(path), Some(slot)) = (paths.get(at), results.get(at)) else {
                return;
            };
            let result = hash_file(path.as_ref(), algorithms, &mut buffer, stop);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(paths.len()) {
            // Where the system refuses another thread, those that run do the work.
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let outcome =
        |slot: Mutex<Option<_>>| slot.into_inner().unwrap_or_else(PoisonError::into_inner);
    let missing = || Err(io::ErrorKind::Interrupted.into());
    results
        .into_iter()
        .map(|slot| outcome(slot).unwrap_or_else(missing))
        .collect()
}
