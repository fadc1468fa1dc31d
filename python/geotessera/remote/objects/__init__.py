"""Objects of a store, whole or in part, wherever they are.

A location is a directory, an ``http(s)://`` or ``s3://`` URL, another URL that fsspec knows, or
a Zarr store object. `open_reader` makes the reader that fits; all of them behave alike, as
`ObjectReader` says.
"""

from geotessera.remote.objects.opening import open_reader
from geotessera.remote.objects.reader import KeyRange, ObjectReader, Pending, Suffix, Traffic

__all__ = ["KeyRange", "ObjectReader", "Pending", "Suffix", "Traffic", "open_reader"]
