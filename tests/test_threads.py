"""The kernels' thread pool: its size, its settings, and its life across fork."""

import os
import subprocess
import sys
import textwrap

import pytest

from geotessera import _native
from waiting import PATIENCE


def run(code, **variables):
    """Run code in a fresh interpreter; its output, or its last line of error."""
    environment = {k: v for k, v in os.environ.items() if k != "GEOTESSERA_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


PRINT = "from geotessera import _native; print(_native.num_threads())"

CALL = """
import numpy as np
from geotessera import _native
values = np.full((70, 100, 128), 3, np.int8)
scales = np.full((70, 100), 0.5, np.float32)
def call():
    assert (_native.dequantize(values, scales) == 1.5).all()
"""


@pytest.fixture
def restored():
    before = _native.num_threads()
    yield
    _native.set_num_threads(before)


def test_default_is_the_cpus_of_this_process():
    assert int(run(PRINT)) <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_default_respects_affinity():
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{cpu}]); {PRINT}"
    assert run(code) == "1"


@pytest.mark.parametrize(("text", "count"), [("3", "3"), (" 5 ", "5")])
def test_environment_sets_the_size(text, count):
    assert run(PRINT, GEOTESSERA_NUM_THREADS=text) == count


def test_empty_environment_is_none():
    assert run(PRINT, GEOTESSERA_NUM_THREADS="") == run(PRINT)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "99999999999999999999"])
@pytest.mark.parametrize("code", [PRINT, CALL + "call()"])
def test_wrong_environment_is_named(text, code):
    found = run(code, GEOTESSERA_NUM_THREADS=text)
    assert found.startswith("ValueError: GEOTESSERA_NUM_THREADS must be")
    assert text in found


def test_set_wins_over_the_environment():
    code = (
        "from geotessera import _native; _native.set_num_threads(4); print(_native.num_threads())"
    )
    assert run(code, GEOTESSERA_NUM_THREADS="7") == "4"


@pytest.mark.usefixtures("restored")
def test_set_num_threads():
    for count in (1, 3, 2):
        _native.set_num_threads(count)
        assert _native.num_threads() == count


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("count", [0, -1, 2**70, 100_000])
def test_set_num_threads_out_of_range(count):
    before = _native.num_threads()
    with pytest.raises(ValueError, match=r"the number of threads must be .*, found"):
        _native.set_num_threads(count)
    assert _native.num_threads() == before


@pytest.mark.parametrize("count", [1.5, "2", None])
def test_set_num_threads_of_another_type(count):
    with pytest.raises(TypeError, match="count must be an integer"):
        _native.set_num_threads(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_the_pool_has_the_threads_it_says():
    code = (
        CALL
        + """
import os, time
def workers():
    names = [open(f"/proc/self/task/{t}/comm").read() for t in os.listdir("/proc/self/task")]
    return sum(name.startswith("geotessera-") for name in names)
before = workers()
_native.set_num_threads(3)
call()
end = time.monotonic() + 60  # a thread names itself when it first runs
while workers() < 3 and time.monotonic() < end:
    time.sleep(0.01)
print(before, workers())
"""
    )
    assert run(code) == "0 3"


def test_settings_change_while_calls_run():
    code = (
        CALL
        + """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    jobs = [pool.submit(call) for _ in range(40)]
    for count in (1, 2, 3, 4) * 5:
        _native.set_num_threads(count)
    for job in jobs:
        job.result()
print("done")
"""
    )
    assert run(code) == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forked_children_have_their_own_pool():
    """The parent's pool exists before the fork; a child and a grandchild still finish."""
    code = (
        CALL
        + """
import os, warnings
warnings.simplefilter("ignore")
_native.set_num_threads(2)
call()
def child(then):
    pid = os.fork()
    if pid == 0:
        try:
            assert _native.num_threads() == 2
            call()
            then()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
child(lambda: child(lambda: None))
call()
print("done")
"""
    )
    assert run(code) == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_multiprocessing_fork_while_other_threads_compute():
    code = (
        CALL
        + """
import multiprocessing, threading, warnings
warnings.simplefilter("ignore")
stop = threading.Event()
def spin():
    while not stop.is_set():
        call()
threads = [threading.Thread(target=spin) for _ in range(3)]
for thread in threads:
    thread.start()
context = multiprocessing.get_context("fork")
for _ in range(5):
    children = [context.Process(target=call) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(100)
        assert child.exitcode == 0, child.exitcode
stop.set()
for thread in threads:
    thread.join()
print("done")
"""
    )
    assert run(code) == "done"
