"""Bytes: everything that comes over HTTP or from a mirror on disk, and where it is put.

`transfer` gets whole files, `objects` parts of a store's objects, over `light` connections where
they are many; `lru` keeps what came. What they share is beside them.
"""
