"""A small web server for maps on this machine: files of one directory, and nothing else.

It listens on the loopback interfaces unless it is told otherwise, answers byte ranges and
conditional requests, and is written to be left running: what is malformed, slow or too
much is refused without a traceback.
"""

from geotessera.serving.binding import BindError
from geotessera.serving.files import PAGES, find_page
from geotessera.serving.server import DEFAULT_PORT, LOOPBACK, Server, bind

__all__ = ["DEFAULT_PORT", "LOOPBACK", "PAGES", "BindError", "Server", "bind", "find_page"]
