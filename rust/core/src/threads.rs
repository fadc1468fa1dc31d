//! The one thread pool that all kernels share.
//!
//! It is built at the first parallel call. A forked child inherits the pool's memory
//! but not its threads, so everything that a lock protects belongs to the process
//! that made it: a child makes its own and leaks its parent's (dropping it would wait
//! for threads that do not exist, and its mutex may have been held at the fork).

use std::env;
use std::num::NonZero;
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// Environment variable that sets the pool's size.
pub const VARIABLE: &str = "GEOTESSERA_NUM_THREADS";

/// More threads than any machine has CPUs are a mistake, not a wish.
const LIMIT: usize = 4096;

/// What `set` asked for; 0 where nobody asked. Survives a fork.
static REQUESTED: AtomicUsize = AtomicUsize::new(0);

static STATE: AtomicPtr<State> = AtomicPtr::new(ptr::null_mut());

struct State {
    pid: u32,
    pool: Mutex<Option<Arc<ThreadPool>>>,
}

/// The state of this process, made anew after a fork; never freed.
fn state() -> &'static State {
    let pid = process::id();
    let found = STATE.load(Ordering::Acquire);
    // SAFETY: STATE holds null or a leaked box.
    match unsafe { found.as_ref() } {
        Some(state) if state.pid == pid => state,
        _ => {
            let made = Box::into_raw(Box::new(State {
                pid,
                pool: Mutex::new(None),
            }));
            match STATE.compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: just leaked.
                Ok(_) => unsafe { &*made },
                // SAFETY: another thread of this process was first; `made` was never shared.
                Err(first) => unsafe {
                    drop(Box::from_raw(made));
                    &*first
                },
            }
        }
    }
}

fn lock(state: &State) -> MutexGuard<'_, Option<Arc<ThreadPool>>> {
    state.pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many threads kernels run on.
pub fn count() -> Result<usize> {
    match REQUESTED.load(Ordering::Relaxed) {
        0 => default_count(),
        count => Ok(count),
    }
}

/// Sets how many threads kernels run on, from the next call on.
pub fn set(count: usize) -> Result<()> {
    check(count, "the number of threads")?;
    REQUESTED.store(count, Ordering::Relaxed);
    // Calls that are running keep the old pool alive until they end.
    let old = lock(state()).take();
    drop(old);
    Ok(())
}

/// The environment's wish, else the CPUs this process may use (affinity and cgroup quota).
fn default_count() -> Result<usize> {
    match env::var_os(VARIABLE) {
        Some(text) if !text.is_empty() => {
            let text = text.to_string_lossy();
            let count = text.trim().parse().map_err(|_| {
                Error::Argument(format!(
                    "{VARIABLE} must be a positive integer, found {text:?}"
                ))
            })?;
            check(count, VARIABLE)
        }
        _ => Ok(thread::available_parallelism().map_or(1, NonZero::get)),
    }
}

fn check(count: usize, what: &str) -> Result<usize> {
    if (1..=LIMIT).contains(&count) {
        return Ok(count);
    }
    Err(Error::Argument(format!(
        "{what} must be between 1 and {LIMIT}, found {count}"
    )))
}

fn pool() -> Result<Arc<ThreadPool>> {
    let mut pool = lock(state());
    if let Some(pool) = &*pool {
        return Ok(pool.clone());
    }
    let count = count()?;
    let built = ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(|i| format!("geotessera-{i}"))
        .build()
        .map_err(|e| Error::Argument(format!("{count} threads could not be started: {e}")))?;
    Ok(pool.insert(Arc::new(built)).clone())
}

/// Runs `work` inside the pool, where `rayon`'s own calls use the pool's threads.
pub fn install<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R> {
    Ok(pool()?.install(work))
}

/// Does `work` for each part, in parallel; a single part never leaves the calling thread.
pub fn for_each<P: Send>(parts: Vec<P>, work: impl Fn(P) + Send + Sync) -> Result<()> {
    if parts.len() <= 1 || count()? == 1 {
        parts.into_iter().for_each(work);
        return Ok(());
    }
    install(|| parts.into_par_iter().with_max_len(1).for_each(work))
}
