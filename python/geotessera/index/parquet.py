"""What a registry's Parquet file holds: its schema, checked, and its columns, in batches.

Both generations of embedding registries and of landmask registries are read. Only the
columns that are asked for are decoded, a batch at a time.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from geotessera.cells import COLUMNS, ROWS
from geotessera.errors import RegistryError, RegistrySchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MOST_YEARS", "Kind", "RegistryFile"]

type Kind = Literal["embeddings", "landmasks"]
"""What a registry lists."""

MOST_YEARS = 64
"""More years than any dataset has; an index keeps a bit of each."""

# Larger batches are no faster; smaller ones pay for their number.
_BATCH_ROWS = 1 << 17

_HEX = "0123456789abcdef"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError) as error:
        reason = " ".join(str(error).split())
        raise RegistryError(
            f"registry {path} cannot be read ({reason}): it is damaged, cut off, or not Parquet"
        ) from error


class RegistryFile:
    """An open registry file whose schema has been checked.

    Parameters
    ----------
    path : Path
        The Parquet or GeoParquet file.
    kind : {"embeddings", "landmasks"}
        What it lists.

    Attributes
    ----------
    generation : {"A", "B"}
        "A" with `file_size` (and usually SHA-256 sums), "B" with `grid_size`. Landmask
        registries look alike; "A" if they hold SHA-256 sums.
    sizes, hashes : dict of str to str
        Column of each payload: "grid" and "scales" (of landmasks: "grid" alone).
    rows : int
        Rows in the file.

    Raises
    ------
    RegistryError
        If the file cannot be read.
    RegistrySchemaError
        (also a `ValueError`) if a required column is missing or of the wrong type.
    """

    def __init__(self, path: Path, kind: Kind = "embeddings") -> None:
        import pyarrow.parquet as pq

        self.path = path
        self.kind = kind
        with _reading(path):
            self._file: Any = pq.ParquetFile(path, memory_map=True, pre_buffer=False)
            self._schema: Any = self._file.schema_arrow
            names = set(self._schema.names)
        self.rows: int = self._file.metadata.num_rows
        most = COLUMNS * ROWS * (MOST_YEARS if kind == "embeddings" else 1)
        if self.rows > most:
            raise RegistryError(
                f"registry {path} claims {self.rows} rows: there are at most {most} tiles"
            )
        if kind == "landmasks":
            self.sizes = {"grid": "file_size"}
            self.hashes = {"grid": "hash"}
            self.generation: Literal["A", "B"] = "A" if "hash" in names else "B"
        else:
            self.generation = "A" if "file_size" in names and "grid_size" not in names else "B"
            grid = "file_size" if self.generation == "A" else "grid_size"
            self.sizes = {"grid": grid, "scales": "scales_size"}
            self.hashes = {"grid": "hash", "scales": "scales_hash"}
        self._check(names)
        self.sizes = {key: name for key, name in self.sizes.items() if name in names}
        known = self.generation == "A"
        self.hashes = {key: name for key, name in self.hashes.items() if known and name in names}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _check(self, names: set[str]) -> None:
        import pyarrow.types as pt

        def text(kind: Any) -> bool:
            if pt.is_dictionary(kind):
                kind = kind.value_type
            return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_null(kind))

        def number(kind: Any) -> bool:
            return bool(pt.is_integer(kind) or pt.is_floating(kind) or pt.is_null(kind))

        expected = {"lon": (pt.is_floating, "float64"), "lat": (pt.is_floating, "float64")}
        if self.kind == "embeddings":
            expected["year"] = (pt.is_integer, "int64")
        expected[self.sizes["grid"]] = (number, "int64")
        for name in expected:
            if name not in names:
                raise RegistrySchemaError(
                    f"registry {self.path} has no column {name!r} "
                    f"(found: {', '.join(self._schema.names) or 'none'})"
                )
        optional = dict.fromkeys(self.sizes.values(), (number, "int64"))
        optional |= dict.fromkeys(self.hashes.values(), (text, "string"))
        if self.kind == "embeddings":
            optional |= {"version": (text, "string"), "variant": (text, "string")}
        for name, (accepts, wanted) in (optional | expected).items():
            if self._schema.names.count(name) > 1:
                raise RegistrySchemaError(f"registry {self.path} has more than one column {name!r}")
            if name in names and not accepts(kind := self._schema.field(name).type):
                raise RegistrySchemaError(
                    f"registry {self.path}: column {name!r} holds {kind}, expected {wanted}"
                )

    def _each[T](self, columns: list[str], convert: Callable[[Any], T]) -> Iterator[T]:
        """Yield what is made of each batch; making it finds damage too, such as bad UTF-8."""
        with _reading(self.path):
            for batch in self._file.iter_batches(_BATCH_ROWS, columns=columns):
                yield convert(batch)

    def keys(
        self, version: str, variant: str
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]:
        """Yield (year, lon, lat) of all rows in order.

        The year is 0 where the row has none or belongs to another dataset than the version
        and variant (where the file says so); landmasks have year 1. Coordinates that are
        missing are NaN.
        """
        import numpy as np

        names = ["lon", "lat"]
        where: list[tuple[str, str]] = []
        if self.kind == "embeddings":
            names.append("year")
            wanted = (("version", version), ("variant", variant))
            where = [pair for pair in wanted if pair[0] in self._schema.names]

        def convert(
            batch: Any,
        ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
            lon = _numbers(batch.column("lon"), np.nan, np.float64)
            lat = _numbers(batch.column("lat"), np.nan, np.float64)
            if self.kind == "landmasks":
                return np.ones(len(lon), np.int64), lon, lat
            year = _numbers(batch.column("year"), 0, np.int64).copy()
            for name, text in where:
                year[~_equals(batch.column(name), text)] = 0
            return year, lon, lat

        return self._each(names + [name for name, _ in where], convert)

    def size_column(self, name: str) -> Iterator[NDArray[np.float64]]:
        """Yield the bytes of a size column, 0 where a row does not say."""
        import numpy as np

        def convert(batch: Any) -> NDArray[np.float64]:
            values = _numbers(batch.column(0), 0, np.float64)
            return np.where(np.isfinite(values) & (values > 0), np.floor(values), 0)

        return self._each([name], convert)

    def hash_column(self, name: str) -> Iterator[NDArray[np.uint8]]:
        """Yield SHA-256 sums as (rows, 32) bytes, zeros where a row has none.

        Raises
        ------
        RegistrySchemaError
            If a text is not 64 hexadecimal digits.
        """
        return self._each([name], lambda batch: self._digests(batch.column(0), name))

    def _digests(self, column: Any, name: str) -> NDArray[np.uint8]:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        column = pc.cast(pc.cast(column, pa.large_string()), pa.large_binary())
        lengths = pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
        given = lengths > 0
        if not np.isin(lengths, (0, 64)).all():
            self._bad_digest(column, int(np.argmax(~np.isin(lengths, (0, 64)))), name)
        text = b"".join(column.filter(pa.array(given)).to_pylist())
        nibbles = _nibble_table()[np.frombuffer(text, np.uint8)].reshape(-1, 64)
        wrong = (nibbles > 15).any(axis=1)
        if wrong.any():
            self._bad_digest(column, int(np.flatnonzero(given)[np.argmax(wrong)]), name)
        digests = np.zeros((len(column), 32), np.uint8)
        digests[given] = nibbles[:, ::2] << 4 | nibbles[:, 1::2]
        return digests

    def _bad_digest(self, column: Any, row: int, name: str) -> None:
        found = column[row].as_py()[:80].decode(errors="replace")
        raise RegistrySchemaError(
            f"registry {self.path}: column {name!r} holds {found!r}, "
            "which is no SHA-256 sum of 64 hexadecimal digits"
        )


def _nibble_table() -> NDArray[np.uint8]:
    import numpy as np

    table = np.full(256, 255, np.uint8)
    for value, digit in enumerate(_HEX):
        table[ord(digit)] = table[ord(digit.upper())] = value
    return table


def _numbers(column: Any, missing: float, dtype: Any) -> NDArray[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.type.equals(pa.null()):
        column = column.cast(pa.float64())
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(missing).cast(column.type))
    result: NDArray[Any] = column.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return result


def _equals(column: Any, text: str) -> NDArray[np.bool_]:
    """Whether each row of a text column (plain or dictionary) is a text; null is not."""
    import numpy as np
    import pyarrow.compute as pc

    encoded = column if hasattr(column, "dictionary") else pc.dictionary_encode(column)
    same = np.array([value == text for value in encoded.dictionary.to_pylist()] + [False])
    codes = pc.fill_null(encoded.indices, len(same) - 1).to_numpy(zero_copy_only=False)
    result: NDArray[np.bool_] = same[codes]
    return result
