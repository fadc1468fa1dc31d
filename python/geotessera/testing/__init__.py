"""For tests of this package and of programs that use it: a server with faults, a sample world."""
