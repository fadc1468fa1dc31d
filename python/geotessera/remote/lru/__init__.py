"""A cache of files on disk, bounded in size: `FileCache`."""

from geotessera.remote.lru.cache import FileCache, Lease, Usage

__all__ = ["FileCache", "Lease", "Usage"]
