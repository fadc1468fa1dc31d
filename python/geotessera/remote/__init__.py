"""Bytes: everything that comes over HTTP or from a mirror on disk, and where it is put."""
