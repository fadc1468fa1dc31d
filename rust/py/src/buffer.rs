//! Bytes of Python's buffers, without a copy.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

/// A C-contiguous buffer, held while this lives.
pub struct Bytes(PyUntypedBuffer);

impl Bytes {
    /// Takes any C-contiguous buffer.
    pub fn take(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(data)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("data must be a C-contiguous buffer"));
        }
        Ok(Self(buffer))
    }

    /// Its bytes. Who writes to them meanwhile gets the result of a mixture, as with `hashlib`.
    pub fn as_slice(&self) -> &[u8] {
        let length = self.0.len_bytes();
        if length == 0 {
            return &[];
        }
        // SAFETY: the buffer is C-contiguous, `length` bytes long, and held as long as `self`.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast::<u8>(), length) }
    }
}
