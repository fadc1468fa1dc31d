"""What runs in a process of its own, under the interpreter of the package or of a peer.

`run.py` is started by its path, never imported from the package: where a peer runs it,
``geotessera`` is the peer. Hence the modules here import each other relatively and nothing
of the package but what is timed, and each function only what its task needs.

A function takes a `Place` and options, prepares, and returns what is to be timed.
"""
