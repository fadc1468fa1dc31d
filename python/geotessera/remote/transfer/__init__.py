"""Whole files from a server or a mirror on disk to their final names, verified.

`fetch_file` gets one; `engine.transfer` gets groups of them, many at once.
"""

from geotessera.remote.mirror import local_path
from geotessera.remote.transfer.request import FileRequest, Transferred
from geotessera.remote.transfer.single import download_file_to_temp, fetch_file

__all__ = [
    "FileRequest",
    "Transferred",
    "download_file_to_temp",
    "fetch_file",
    "local_path",
]
