"""`geotessera bench`: the package, its peers and the machine, measured in one run.

::

    model        what is measured: operations, who does them, targets, bounds
    operations/  the list of them, by topic
    tasks/       what runs in a process of its own, under ours or a peer's interpreter
    worlds/      the data that is measured on
    limits       what the machine can do at most
    peers        who is installed
    runner       runs operations, interleaved, each run a fresh process
    results      what came out, as JSON, and what follows from it
    report_*     the same for people

This process imports nothing heavy: what a parent holds in memory would count as its
children's peak.
"""
