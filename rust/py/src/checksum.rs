//! Bindings of `Hasher` and `hash_files`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use geotessera_core::checksum::{self, Algorithm};
use geotessera_core::threads;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

use crate::buffer::Bytes;
use crate::error::to_py;

/// Below this many bytes releasing the GIL costs more than the digest: `hashlib`'s number.
const SMALL: usize = 2048;
/// The same of a digest that runs at the speed of memory: 50 µs, which another thread that
/// takes the GIL meanwhile may keep for longer.
const SMALL_FAST: usize = 1 << 20;
/// How often a waiting main thread looks for Ctrl-C.
const PATIENCE: Duration = Duration::from_millis(50);

fn parse(names: &[String]) -> PyResult<Vec<Algorithm>> {
    if names.is_empty() {
        return Err(PyValueError::new_err(
            "at least one algorithm is needed: 'sha256', 'md5' or 'xxh128'",
        ));
    }
    names
        .iter()
        .map(|name| name.parse().map_err(to_py))
        .collect()
}

/// Several digests of one stream of bytes.
///
/// Parameters
/// ----------
/// *algorithms : {"sha256", "md5", "xxh128"}
///     The digests to make, in one pass.
///
/// Raises
/// ------
/// ValueError
///     No algorithm, or an unknown one.
#[pyclass(module = "geotessera._native", frozen)]
pub struct Hasher(Mutex<checksum::Hasher>);

impl Hasher {
    fn lock(&self) -> MutexGuard<'_, checksum::Hasher> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state when no other thread is at work: waiting for one needs the GIL released.
    fn peek<R: Send>(
        &self,
        py: Python<'_>,
        look: impl Fn(&checksum::Hasher) -> R + Sync + Send,
    ) -> R {
        if let Ok(state) = self.0.try_lock() {
            return look(&state);
        }
        py.detach(|| look(&self.lock()))
    }
}

#[pymethods]
impl Hasher {
    #[new]
    #[pyo3(signature = (*algorithms))]
    fn new(algorithms: Vec<String>) -> PyResult<Self> {
        Ok(Self(Mutex::new(checksum::Hasher::new(&parse(
            &algorithms,
        )?))))
    }

    /// Take in the next bytes: any C-contiguous buffer, without a copy.
    #[pyo3(signature = (data, /))]
    fn update(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let buffer = Bytes::take(data)?;
        let bytes = buffer.as_slice();
        let length = bytes.len();
        if length == 0 {
            return Ok(());
        }
        if length <= SMALL_FAST
            && let Ok(mut state) = self.0.try_lock()
            && (length < SMALL || state.algorithms().all(|each| each == Algorithm::Xxh128))
        {
            state.update(bytes);
            return Ok(());
        }
        py.detach(|| self.lock().update(bytes));
        Ok(())
    }

    /// Take in a range of a file, without the GIL, and return how many bytes of it there were.
    ///
    /// Parameters
    /// ----------
    /// path : str or path-like
    ///     The file.
    /// start, stop : int
    ///     First byte, last byte + 1. A file that ends before is read to its end.
    ///
    /// Raises
    /// ------
    /// OSError
    ///     The file cannot be read.
    #[pyo3(signature = (path, start, stop, /))]
    fn update_file(&self, py: Python<'_>, path: PathBuf, start: u64, stop: u64) -> PyResult<u64> {
        py.detach(|| self.lock().update_file(&path, start, stop))
            .or_else(|error| Err(PyErr::from_value(os_error(py, &error, &path)?)))
    }

    /// Return an independent hasher that has seen the same bytes.
    fn copy(&self, py: Python<'_>) -> Self {
        Self(Mutex::new(self.peek(py, Clone::clone)))
    }

    /// Return one digest of the bytes so far, in lower-case hexadecimal.
    ///
    /// Raises
    /// ------
    /// ValueError
    ///     An algorithm that this hasher was not made for.
    fn hexdigest(&self, py: Python<'_>, algorithm: &str) -> PyResult<String> {
        let wanted: Algorithm = algorithm.parse().map_err(to_py)?;
        self.peek(py, |state| state.hexdigest(wanted))
            .ok_or_else(|| {
                PyValueError::new_err(format!("this hasher was not made for {algorithm:?}"))
            })
    }

    /// The algorithms, as they were given.
    #[getter]
    fn algorithms<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let names = self.peek(py, |state| {
            state.algorithms().map(Algorithm::name).collect::<Vec<_>>()
        });
        PyTuple::new(py, names)
    }

    /// How many bytes were taken in.
    #[getter]
    fn length(&self, py: Python<'_>) -> u64 {
        self.peek(py, checksum::Hasher::length)
    }
}

/// Hash many files in parallel.
///
/// Parameters
/// ----------
/// paths : sequence of str or path-like
///     The files.
/// algorithms : sequence of {"sha256", "md5", "xxh128"}
///     The digests to make of each file, in one pass.
/// threads : int, optional
///     How many files are read at once; `num_threads()` where not given.
///
/// Returns
/// -------
/// list of tuple of str, or OSError
///     For each path the digests in lower-case hexadecimal, in the order of
///     `algorithms`, or the exception that kept the file from being read.
///
/// Raises
/// ------
/// ValueError
///     No algorithm, an unknown one, or fewer than one thread.
#[pyfunction]
#[pyo3(signature = (paths, algorithms=vec!["sha256".to_owned()], *, threads=None))]
pub fn hash_files<'py>(
    py: Python<'py>,
    paths: Vec<PathBuf>,
    algorithms: Vec<String>,
    threads: Option<usize>,
) -> PyResult<Bound<'py, PyList>> {
    let algorithms = parse(&algorithms)?;
    let threads = match threads {
        Some(0) => return Err(PyValueError::new_err("threads must be at least 1, found 0")),
        Some(count) => count,
        None => threads::count().map_err(to_py)?,
    };
    let stop = AtomicBool::new(false);
    let outcomes = interruptible(py, &stop, || {
        checksum::hash_files(&paths, &algorithms, threads, &stop)
    })?;
    let results = PyList::empty(py);
    for (path, outcome) in paths.iter().zip(outcomes) {
        match outcome {
            Ok(digests) => results.append(PyTuple::new(py, digests)?)?,
            Err(error) => results.append(os_error(py, &error, path)?)?,
        }
    }
    Ok(results)
}

/// Runs `work` on a thread of its own while this one looks for signals; a signal sets `stop`.
fn interruptible<R: Send>(
    py: Python<'_>,
    stop: &AtomicBool,
    work: impl FnOnce() -> R + Send,
) -> PyResult<R> {
    let (send, receive) = channel();
    thread::scope(|scope| {
        thread::Builder::new()
            .spawn_scoped(scope, move || send.send(work()))
            .map_err(PyOSError::new_err)?;
        // A receiver is not Sync, and `detach` lends it to another state of the same thread.
        let receive = Mutex::new(receive);
        let mut signal = Ok(());
        loop {
            let waited = py.detach(|| {
                receive
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .recv_timeout(PATIENCE)
            });
            match waited {
                Ok(result) => return signal.map(|()| result),
                Err(RecvTimeoutError::Timeout) if signal.is_ok() => {
                    signal = py.check_signals();
                    stop.store(signal.is_err(), Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(PyOSError::new_err(
                        "the hashing thread ended without a result",
                    ));
                }
            }
        }
    })
}

/// The `OSError` of a file, of the subclass and with the text that Python's own would have.
fn os_error<'py>(py: Python<'py>, error: &io::Error, path: &Path) -> PyResult<Bound<'py, PyAny>> {
    let made = match error.raw_os_error() {
        Some(code) => {
            let text: Bound<'py, PyString> = py
                .import("os")?
                .call_method1("strerror", (code,))?
                .cast_into()?;
            PyOSError::new_err((code, text.unbind(), path.as_os_str().to_owned()))
        }
        None => PyOSError::new_err(format!("{}: {error}", path.display())),
    };
    Ok(made.into_value(py).into_bound(py).into_any())
}
