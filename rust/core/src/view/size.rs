//! Arithmetic on shapes and strides; nothing here touches memory.

use crate::error::{Error, Result};

/// How many elements an array of `shape` has, when `T`s of that number can be addressed.
pub fn count<T>(what: &'static str, shape: &[usize]) -> Result<usize> {
    let limit = isize::MAX as usize / size_of::<T>().max(1);
    // An axis of length zero makes the array empty, however long the others are.
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1usize, |n, &len| n.checked_mul(len))
        .filter(|&n| n <= limit)
        .ok_or_else(|| Error::TooLarge {
            what,
            shape: shape.to_vec(),
        })
}

/// The strides of a C-contiguous array, in elements.
pub fn contiguous<T, const N: usize>(what: &'static str, shape: [usize; N]) -> Result<[isize; N]> {
    count::<T>(what, &shape)?;
    let mut strides = [0; N];
    let mut step = 1isize;
    for axis in (0..N).rev() {
        strides[axis] = step;
        // Saturates only in an empty array, whose strides are never used.
        step = step.saturating_mul(isize::try_from(shape[axis]).unwrap_or(isize::MAX));
    }
    Ok(strides)
}

/// The lowest and the highest element offset, or `None` when there is no element.
pub(super) fn reach<T, const N: usize>(
    what: &'static str,
    shape: [usize; N],
    strides: [isize; N],
) -> Result<Option<(isize, isize)>> {
    let too_large = || Error::TooLarge {
        what,
        shape: shape.to_vec(),
    };
    if count::<T>(what, &shape)? == 0 {
        return Ok(None);
    }
    let (mut low, mut high) = (0isize, 0isize);
    for (&len, stride) in shape.iter().zip(strides) {
        let last = isize::try_from(len - 1).map_err(|_| too_large())?;
        let offset = last.checked_mul(stride).ok_or_else(too_large)?;
        let end = if offset < 0 { &mut low } else { &mut high };
        *end = end.checked_add(offset).ok_or_else(too_large)?;
    }
    let bytes = high.checked_sub(low).and_then(|n| n.checked_add(1));
    match bytes.and_then(|n| n.checked_mul(size_of::<T>().max(1) as isize)) {
        Some(_) => Ok(Some((low, high))),
        None => Err(too_large()),
    }
}

/// Whether no two indices meet at one element: each stride steps over all smaller ones.
///
/// Sufficient, not necessary; true of every slice and transpose of an ordinary array.
pub(super) fn injective<const N: usize>(shape: [usize; N], strides: [isize; N]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut axes: Vec<(usize, usize)> = shape
        .iter()
        .zip(strides)
        .filter(|&(&len, _)| len > 1)
        .map(|(&len, stride)| (stride.unsigned_abs(), len))
        .collect();
    axes.sort_unstable();
    let mut covered = 0usize;
    axes.iter().all(|&(stride, len)| {
        let clear = stride > covered;
        covered = covered.saturating_add(stride.saturating_mul(len - 1));
        clear
    })
}

/// Checks that the elements at `offset` + reach lie in a slice of `len` elements.
pub(super) fn inside<T, const N: usize>(
    what: &'static str,
    len: usize,
    offset: usize,
    shape: [usize; N],
    strides: [isize; N],
) -> Result<()> {
    let Some((low, high)) = reach::<T, N>(what, shape, strides)? else {
        return Ok(());
    };
    let first = offset.checked_add_signed(low);
    let last = offset.checked_add_signed(high);
    match (first, last) {
        (Some(_), Some(last)) if last < len => Ok(()),
        _ => Err(Error::Argument(format!(
            "{what}: shape {shape:?} with strides {strides:?} from element {offset} does not fit \
             {len} elements"
        ))),
    }
}

/// Where the element at `index` lies; the constructors proved that this does not overflow.
#[inline(always)]
pub(super) fn offset<const N: usize>(index: [usize; N], strides: [isize; N]) -> isize {
    let mut sum = 0;
    for axis in 0..N {
        sum += index[axis] as isize * strides[axis];
    }
    sum
}
