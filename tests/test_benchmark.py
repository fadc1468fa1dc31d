"""The benchmark's own machinery: statistics, runs in turn, resuming, reports. No timing here."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import fields, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geotessera.benchmark import machine, object_server, peers, session
from geotessera.benchmark.limits import Measured, limits
from geotessera.benchmark.model import OURS, Bound, Call, Operation, Target
from geotessera.benchmark.operations import OPERATIONS, select
from geotessera.benchmark.peers import PEERS, Installed, find_peers, is_ours
from geotessera.benchmark.process import TaskError, run_task
from geotessera.benchmark.report import report, target_text
from geotessera.benchmark.report_html import to_html
from geotessera.benchmark.report_markdown import to_markdown
from geotessera.benchmark.results import (
    Outcome,
    Results,
    Run,
    costs_of,
    fraction_of_limit,
    judge,
)
from geotessera.benchmark.runner import Runner, obstacle
from geotessera.benchmark.statistics import quantile, ratio_of, spread_of
from geotessera.benchmark.units import bytes_text, digits, seconds_text
from geotessera.benchmark.worlds import QUICK, Worlds
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping

TASKS = Path(machine.PACKAGE) / "benchmark" / "tasks"
SCRIPT = Path(sys.executable).with_name("geotessera")
positive = st.floats(1e-9, 1e9)


# --- Statistics ------------------------------------------------------------------------------


@given(st.lists(positive, min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], share: float) -> None:
    assert quantile(values, share) == pytest.approx(np.quantile(values, share), rel=1e-12)


@given(st.lists(positive, min_size=1, max_size=50))
def test_a_spread_has_numpys_median_quartiles_and_ends(values: list[float]) -> None:
    spread = spread_of(values)
    found = (spread.least, spread.lower, spread.median, spread.upper, spread.most)
    assert found == pytest.approx(np.quantile(values, [0, 0.25, 0.5, 0.75, 1]), rel=1e-12)
    assert spread.count == len(values)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5), ([1.0], -0.1)])
def test_there_is_no_quantile_of_nothing(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        quantile(values, share)


@given(st.lists(st.tuples(positive, positive), min_size=2, max_size=20))
def test_ratios_are_of_runs_made_in_turn(pairs: list[tuple[float, float]]) -> None:
    theirs, ours = (list(side) for side in zip(*pairs, strict=True))
    ratio = ratio_of(theirs, ours)
    each = np.array(theirs) / np.array(ours)
    assert (ratio.median, ratio.least, ratio.most) == pytest.approx(
        (np.median(each), each.min(), each.max())
    )
    assert ratio.pairs == len(pairs)


def test_what_ran_once_is_paired_with_every_run() -> None:
    ratio = ratio_of([10.0], [1.0, 2.0, 4.0])
    assert (ratio.least, ratio.median, ratio.most, ratio.pairs) == (2.5, 5.0, 10.0, 3)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (4.4213, "4.42"), (16.94, "16.9"), (195.2, "195"), (13678, "13678")],
)  # fmt: skip
def test_figures_have_three_significant_digits(value: float, text: str) -> None:
    assert digits(value) == text


def test_seconds_and_sizes_are_in_the_unit_that_suits() -> None:
    assert [seconds_text(s) for s in (86.3, 0.0426, 16.1e-6, 3e-9)] == [
        "86.3 s", "42.6 ms", "16.1 µs", "3.00 ns",
    ]  # fmt: skip
    assert [bytes_text(b) for b in (12, 9.5e5, 1.5e8, 2.048e9, 999_900)] == [
        "12 B", "950 kB", "150 MB", "2.05 GB", "1.00 MB",
    ]  # fmt: skip


# --- Runs in turn, with invented tasks -------------------------------------------------------


class Bench:
    """Stands for processes: says how long each run took, and writes down the order."""

    def __init__(self, seconds: Mapping[str, list[float | str]]) -> None:
        self.seconds = {task: iter(times) for task, times in seconds.items()}
        self.order: list[str] = []
        self.options: list[Mapping[str, Any]] = []

    def __call__(self, python: str, task: str, options: Mapping[str, Any], **more: Any) -> Any:
        self.order.append(task)
        self.options.append(more)
        seconds = next(self.seconds[task])
        if isinstance(seconds, str):
            raise TaskError(seconds)
        return {"seconds": [seconds], "peak_rss": 1000, "result_bytes": 500, "total": 7.0}


def operation(*who: str, **more: Any) -> Operation:
    return Operation("topic.what", "something", tuple(Call(one, f"t.{one}") for one in who), **more)


def runner(tmp_path: Path, bench: Bench, runs: int = 3) -> Runner:
    names = ("upstream", "numpy")
    here = {name: Installed(name, name, "1", f"/{name}/python") for name in names}
    return Runner(Worlds(tmp_path, QUICK), tmp_path / "work", here, runs, launch=bench)


def test_all_run_in_turn_there_and_back(tmp_path: Path) -> None:
    bench = Bench({"t.geotessera": [1, 2, 3], "t.upstream": [4, 5, 6], "t.numpy": [7, 8, 9]})
    outcome = runner(tmp_path, bench).run(operation(OURS, "upstream", "numpy"))
    one = ["t.geotessera", "t.upstream", "t.numpy"]
    assert bench.order == [*one, *one[::-1], *one]
    ratio = outcome.ratio("upstream")
    assert ratio is not None
    assert (ratio.median, ratio.least, ratio.most) == (2.5, 2.0, 4.0)
    assert outcome.finished


def test_a_peer_that_takes_long_runs_once(tmp_path: Path) -> None:
    bench = Bench({"t.geotessera": [1, 2, 3], "t.upstream": [10.5]})
    outcome = runner(tmp_path, bench).run(operation(OURS, "upstream"))
    assert {who: len(runs) for who, runs in outcome.runs.items()} == {OURS: 3, "upstream": 1}
    assert outcome.ratio("upstream") == ratio_of([10.5], [1, 2, 3])


def test_nobody_is_given_up_before_a_target_is_decided(tmp_path: Path) -> None:
    bench = Bench({"t.geotessera": [2], "t.upstream": [50], "t.numpy": [50]})
    targets = Target(1, "faster", 40), Target(1, "faster", 10), Target(1, "less memory", 900)
    wanted = operation(OURS, "upstream", "numpy", targets=targets, patience=30)
    runner(tmp_path, bench, runs=1).run(wanted)
    waits = [options["patience"] for options in bench.options]
    assert waits[0] == waits[2] == 30
    assert 40 * 2 * 1.2 < waits[1] < 40 * 2 * 2
    quick = Bench({"t.geotessera": [0.1], "t.upstream": [9]})
    runner(tmp_path, quick, runs=1).run(operation(OURS, "upstream", targets=targets, patience=30))
    assert [options["patience"] for options in quick.options] == [30, 30]


def test_a_peer_that_fails_is_told_and_stops_nobody(tmp_path: Path) -> None:
    bench = Bench({"t.geotessera": [1, 2, 3], "t.upstream": [4, "it broke"]})
    outcome = runner(tmp_path, bench).run(operation(OURS, "upstream"))
    assert outcome.failures == {"upstream": "it broke"}
    assert len(outcome.runs[OURS]) == 3
    assert outcome.finished
    assert not outcome.failed


def test_our_own_failure_is_no_end_but_is_tried_again(tmp_path: Path) -> None:
    bench = Bench({"t.geotessera": ["we broke"], "t.upstream": [4, 5, 6]})
    outcome = runner(tmp_path, bench).run(operation(OURS, "upstream"))
    assert outcome.failed
    assert not outcome.finished
    assert len(outcome.runs["upstream"]) == 3


def test_who_is_not_installed_is_left_out_and_said_so(tmp_path: Path) -> None:
    bench = Bench({"t.geotessera": [1, 1, 1]})
    outcome = runner(tmp_path, bench).run(operation(OURS, "scipy"))
    assert outcome.skipped == {"scipy": "not installed"}
    assert set(outcome.runs) == {OURS}


def test_what_this_version_cannot_do_is_left_out(tmp_path: Path) -> None:
    bench = Bench({})
    wanted = operation(OURS, requires="geotessera.no_such_module")
    outcome = runner(tmp_path, bench).run(wanted)
    assert "no_such_module" in outcome.skipped["topic.what"]
    assert bench.order == []
    assert obstacle(operation(OURS, program="no-such-program"))
    assert not obstacle(operation(OURS, requires="geotessera.cli.bench"))


def test_set_up_runs_once_and_is_not_counted(tmp_path: Path) -> None:
    bench = Bench({"t.geotessera": [1, 2], "t.fill": [100]})
    wanted = operation(OURS, setup=(Call(OURS, "t.fill"), Call("scipy", "t.never")))
    outcome = runner(tmp_path, bench, runs=2).run(wanted)
    assert bench.order == ["t.fill", "t.geotessera", "t.geotessera"]
    assert [run.time for run in outcome.runs[OURS]] == [1, 2]


def test_values_that_should_agree_are_compared(tmp_path: Path) -> None:
    def launch(python: str, task: str, options: object, **more: Any) -> dict[str, Any]:
        assert more["total"]
        return {"seconds": [1.0], "total": 100.0 if "upstream" in task else 100.001}

    found = runner(tmp_path, Bench({}), 1)
    found.launch = launch
    assert not found.run(operation(OURS, "upstream", agree=1e-4)).disagreement
    assert "upstream" in found.run(operation(OURS, "upstream", agree=1e-6)).disagreement


# --- Targets and limits ----------------------------------------------------------------------


def outcome_of(**seconds: list[float]) -> Outcome:
    runs = {
        who: [Run([s], peak_rss=300, result_bytes=200) for s in s_] for who, s_ in seconds.items()
    }
    return Outcome("topic.what", runs=runs)


def test_targets_are_met_missed_or_not_measured() -> None:
    targets = (
        Target(1, "faster", 4),
        Target(1, "faster", 6),
        Target(1, "faster", 1, "gdal"),
        Target(2, "peak", 300),
        Target(2, "peak / result", 1.4),
        Target(2, "data requests", 0),
        Target(2, "anonymous / result", 1.3),
    )
    wanted = operation(OURS, "upstream", "gdal", targets=targets)
    verdicts = judge(wanted, outcome_of(geotessera=[1, 2], upstream=[5, 10]))
    assert [(one.status, one.value) for one in verdicts] == [
        ("met", 5), ("missed", 5), ("not measured", None), ("met", 300), ("missed", 1.5),
        ("met", 0), ("met", 0),
    ]  # fmt: skip
    assert {one.status for one in judge(wanted, None)} == {"not measured"}
    assert target_text(targets[0]) == "≥ 4× faster than upstream"
    assert target_text(targets[4]) == "≤ 1.4 × the result, resident"


def test_a_peer_that_was_given_up_is_at_least_so_slow() -> None:
    wanted = operation(OURS, "upstream", targets=(Target(1, "faster", 4), Target(1, "faster", 6)))
    outcome = outcome_of(geotessera=[1.0], upstream=[5.0])
    outcome.runs["upstream"] = [replace(outcome.runs["upstream"][0], cut=True)]
    verdicts = judge(wanted, outcome)
    assert [(one.status, one.more) for one in verdicts] == [("met", True), ("not measured", True)]


def test_the_limit_that_needs_most_time_binds() -> None:
    rates = {"a": 100.0, "b": 50.0, "c": 1e9}
    known = {name: Measured(name, name, "B", rate, rate) for name, rate in rates.items()}
    bounds = (Bound("a", 100), Bound("a+b", 100), Bound("c", "result"), Bound("unknown", 1e9))
    outcome = outcome_of(geotessera=[6.0])
    assert fraction_of_limit(operation(OURS, bounds=bounds), outcome, known) == (0.5, "a+b")
    assert fraction_of_limit(operation(OURS), outcome, known) is None


def test_a_curve_gives_the_cost_of_a_unit() -> None:
    calls = tuple(Call(OURS, "t.x", at=at, work=10.0 * at) for at in (1, 4))
    wanted = Operation("t.curve", "", calls, axis="tiles", targets=(Target(4, "evenness", 1.5),))
    outcome = Outcome(
        "t.curve", runs={"geotessera @ 1": [Run([1.0])], "geotessera @ 4": [Run([8.0])]}
    )
    assert costs_of(wanted, outcome) == [(1, 0.1), (4, 0.2)]
    assert [(one.status, one.value) for one in judge(wanted, outcome)] == [("missed", 2.0)]


# --- The list of operations ------------------------------------------------------------------


def test_every_operation_names_tasks_peers_and_limits_that_exist() -> None:
    names = [one.name for one in OPERATIONS]
    assert len(set(names)) == len(names)
    known_peers = {peer.name for peer in PEERS}
    known = {limit.name for limit in limits()}
    for one in OPERATIONS:
        assert one.calls[0].who == OURS, one.name
        assert len({call.label for call in one.calls}) == len(one.calls), one.name
        for call in (*one.calls, *one.setup):
            topic, _, function = call.task.partition(".")
            assert f"\ndef {function}(" in (TASKS / f"{topic}.py").read_text(), call
            assert is_ours(call.who) or call.who in known_peers, call
        assert {part for b in one.bounds for part in b.limit.split("+")} <= known, one.name
        assert all(target.peer in known_peers for target in one.targets), one.name
        json.dumps([dict(call.options) for call in one.calls])


def test_operations_are_chosen_by_topic_or_pattern() -> None:
    assert {one.topic for one in select(["mosaic"])} == {"mosaic"}
    assert {one.name for one in select(["*.threads"])} >= {"dequantize.threads", "mosaic.threads"}
    assert [one.name for one in select(["import.package"])] == ["import.package"]
    assert select(["nothing"]) == []
    assert len(select(quick=True)) < len(select())


# --- Processes -------------------------------------------------------------------------------


def test_a_task_runs_in_a_process_and_leaves_nothing(tmp_path: Path) -> None:
    answer = run_task(
        sys.executable, "kernels.import_package", {}, worlds={}, work=tmp_path, cache=tmp_path / "c"
    )
    run = Run.of(answer)
    assert len(run.seconds) == 1
    assert run.peak_rss > 1e6
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_task_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no_such_task"):
        run_task(
            sys.executable, "kernels.no_such_task", {}, worlds={}, work=tmp_path, cache=tmp_path
        )
    with pytest.raises(TaskError, match=r"FileNotFoundError|No such file"):
        run_task("/no/python", "kernels.fetch", {}, worlds={}, work=tmp_path, cache=tmp_path)


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are looked for in /proc")
def test_who_takes_too_long_is_given_up_with_all_children(tmp_path: Path) -> None:
    marker = f"unique_{os.getpid()}"
    imports = {"imports": f"time; {marker} = time.sleep(60)"}
    answer = run_task(
        sys.executable,
        "limits.interpreter",
        imports,
        worlds={},
        work=tmp_path,
        cache=tmp_path,
        patience=0.5,
    )
    run = Run.of(answer)
    assert run.cut
    assert 0.5 <= run.time < 60
    until(lambda: not _running(marker))  # the kernel needs a moment


def _running(marker: str) -> bool:
    """Return whether a process has a word in its command line."""
    found = False
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            found = found or marker.encode() in path.read_bytes()
    return found


def test_sums_and_sizes_of_results_are_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_from_file_location("bench_run", TASKS / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PIECE", 7)
    array = np.random.default_rng(0).normal(size=(5, 6, 3)).astype(np.float32)
    array[2, 3] = np.nan
    for result in (array, (array, "frame"), array[:, ::2]):
        expected = np.nansum(result[0] if isinstance(result, tuple) else result, dtype=np.float64)
        assert module.total_of(result) == pytest.approx(expected, rel=1e-12)
    assert module.bytes_of((array, array[0])) == 4 * (90 + 18)
    assert module.bytes_of(Run([1.0])) == module.bytes_of(None) == 0


def test_nobody_is_looked_for_where_nobody_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_peers(tmp_path, none=True) == {}
    monkeypatch.setattr(peers, "PEERS", [one for one in PEERS if one.name in ("upstream", "numpy")])
    found = find_peers(tmp_path)
    assert set(found) == {"numpy"}
    assert found["numpy"].python == sys.executable
    assert found["numpy"].version == np.__version__


@pytest.mark.skipif(sys.platform == "win32", reason="its interpreters are no scripts")
@pytest.mark.parametrize("python", ["exit 3", "echo hello", "echo", "no script", None])
def test_half_an_environment_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str | None
) -> None:
    for name in ("upstream", "libraries"):
        path = tmp_path / name / "bin" / "python"
        path.parent.mkdir(parents=True)
        if python is None:
            path.symlink_to(tmp_path / "gone")
        else:
            path.write_text("" if python == "no script" else f"#!/bin/sh\n{python}\n")
            path.chmod(0o755 if path.stat().st_size else 0o644)
    monkeypatch.setattr(peers, "PEERS", [one for one in PEERS if one.name in ("upstream", "numpy")])
    found = find_peers(tmp_path)
    assert {name: one.python for name, one in found.items()} == {"numpy": sys.executable}


def test_a_client_that_went_away_is_not_answered(tmp_path: Path) -> None:
    class Closing(asyncio.Transport):
        def is_closing(self) -> bool:
            return True

    (tmp_path / "file").write_bytes(b"some")
    traffic = dict.fromkeys(("requests", "sent", "data_requests"), 0)
    server = object_server.Server(tmp_path, 0.0, traffic)
    server.connection_made(Closing())
    server.answer(b"GET /file HTTP/1.1")  # a closing transport takes no more
    assert set(traffic.values()) == {0}


# --- Reports ---------------------------------------------------------------------------------


@pytest.fixture
def results() -> Results:
    """Results of some real operations, with invented figures."""
    found = Results(
        machine.describe() | {"geotessera": "1.0.0"},
        {"quick": False, "runs": 2},
        {"upstream": {"title": "upstream <geotessera>", "version": "0.11.0"}},
        {"touch_all": Measured("touch_all", "Touch & fill", "B", 5e9, 4e9)},
        took=90.0,
    )
    for one in OPERATIONS:
        outcome = Outcome(one.name, machine.code_digest(), when="2026-01-01T00:00:00+00:00")
        for number, call in enumerate(one.calls):
            if is_ours(call.who) or call.who == "upstream":
                seconds = 0.1 * (1 + number)
                run = Run([seconds], peak_rss=10**8, result_bytes=10**7, requests=3, sent=4000)
                outcome.runs[call.label] = [run, replace(run, seconds=[2 * seconds])]
            else:
                outcome.skipped[call.label] = "not installed"
        found.outcomes[one.name] = outcome
    remote = found.outcomes["sampling.remote"].runs
    remote["upstream"] = [replace(run, cut=True) for run in remote["upstream"]]
    found.outcomes["import.package"].failures["upstream"] = "broke | <badly> & suddenly"
    return found


def test_results_come_back_from_json_as_they_were(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    results.save(path)
    assert Results.load(path) == results
    assert [one.name for one in tmp_path.iterdir()] == ["report.json"]


def test_every_name_of_the_document_is_explained() -> None:
    page = (Path(__file__).parents[1] / "docs" / "performance.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("### What `report.json` holds")
    section = rest.partition("\n## ")[0]
    names = {one.name for kind in (Results, Outcome, Run, Measured) for one in fields(kind)}
    assert {name for name in names - {"name"} if f"`{name}`" not in section} == set()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 0}', '{"format": 1, "odd": 2}'])
def test_a_document_that_is_none_is_no_results(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text)
    assert Results.load(tmp_path / "report.json") is None
    assert Results.load(tmp_path / "absent.json") is None


def test_the_page_is_well_formed_and_needs_nothing_else(results: Results) -> None:
    page = to_html(report(results, OPERATIONS))
    root = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
    tags = {element.tag for element in root.iter()}
    assert {"svg", "table", "h1", "figure", "circle", "rect"} <= tags
    assert not tags & {"script", "link", "img", "iframe", "image"}
    for element in root.iter():
        assert not {"href", "src", "onload"} & set(element.attrib)
    assert "//" not in page.removeprefix("<!DOCTYPE html>")
    assert "url(" not in page
    assert "@import" not in page
    text = "".join(root.itertext())
    assert "broke | <badly> & suddenly" in text
    for svg in root.iter("svg"):
        width, height = map(float, svg.attrib["viewBox"].split()[2:])
        for shape in svg.iter("rect"):
            right = float(shape.attrib["x"]) + float(shape.attrib["width"])
            assert 0 <= float(shape.attrib["x"]) <= right <= width
            assert 0 <= float(shape.attrib["y"]) <= height


def test_markdown_has_a_row_for_everybody(results: Results) -> None:
    text = to_markdown(report(results, OPERATIONS))
    lines = text.splitlines()
    tables = [line for line in lines if line.startswith("| ")]
    for one in OPERATIONS:
        assert any(line.startswith(f"| {one.name}: ") for line in tables), one.name
    for line in tables:
        assert line.replace("\\|", "").count("|") >= 4
    assert any("not installed" in line for line in lines)
    assert any("| met |" in line for line in tables)
    assert any("| missed |" in line for line in tables)
    assert "broke | <badly>" in text
    assert "At a glance" not in text  # it heads figures alone
    assert any("| > 300 ms |" in line for line in tables)


def test_results_of_other_code_are_told_apart(results: Results) -> None:
    results.outcomes["import.package"].code = "older"
    text = to_markdown(report(results, OPERATIONS))
    assert "import.package: measured with other code" in text
    assert "import.client: measured with other code" not in text


# --- Sessions --------------------------------------------------------------------------------

OPERATION = operation(OURS, "upstream")
OTHER = replace(OPERATION, name="topic.other")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of operations as they are run; all runs take a second."""
    names: list[str] = []

    def run(self: Runner, one: Operation) -> Outcome:
        names.append(one.name)
        if names[-1:] == ["topic.other"] and len(names) == 2:
            raise KeyboardInterrupt
        return Outcome(one.name, machine.code_digest(), {OURS: [Run([1.0])]})

    monkeypatch.setattr(session.Runner, "run", run)
    return names


def start(tmp_path: Path, **more: Any) -> session.Session:
    return session.Session(tmp_path, no_peers=True, quick=True, say=lambda _: None, **more)


def test_an_interrupted_session_goes_on_where_it_stopped(tmp_path: Path, ran: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path).run([OPERATION, OTHER])
    assert set(json.loads((tmp_path / "report.json").read_text())["outcomes"]) == {"topic.what"}
    assert not (tmp_path / "work").exists()
    start(tmp_path).run([OPERATION, OTHER])
    assert ran == ["topic.what", "topic.other", "topic.other"]
    start(tmp_path).run([OPERATION, OTHER])  # nothing is left: anew
    assert ran[3:] == ["topic.what", "topic.other"]


def test_what_is_named_is_measured_again_and_the_rest_is_kept(
    tmp_path: Path, ran: list[str]
) -> None:
    start(tmp_path).run([OPERATION])
    start(tmp_path).run([OPERATION], again=True)
    assert ran == ["topic.what", "topic.what"]
    results = start(tmp_path).run([replace(OPERATION, name="topic.third")], again=True)
    assert set(results.outcomes) == {"topic.what", "topic.third"}


def test_other_options_and_other_code_begin_anew(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start(tmp_path).run([OPERATION])
    results = start(tmp_path, runs=5).run([replace(OPERATION, name="topic.third")])
    assert set(results.outcomes) == {"topic.third"}
    monkeypatch.setattr(session, "code_digest", lambda: "newer")
    start(tmp_path, runs=5).run([replace(OPERATION, name="topic.third"), OPERATION])
    assert ran[2:] == ["topic.third", "topic.what"]


def test_the_command_measures_and_reports(tmp_path: Path) -> None:
    line = [str(SCRIPT), "bench", "--quick", "--only", "import.package", "--peers", "none"]
    done = subprocess.run(
        [*line, "--json", "-o", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document["medians"]) == {"import.package"}
    assert document["targets"]["not measured"] == 1
    assert Path(document["report"]).read_text().startswith("<!DOCTYPE html>")
    assert "import geotessera" in (tmp_path / "report.md").read_text()
    assert "import.package: geotessera" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "report.html", "report.json", "report.md",
    ]  # fmt: skip


def test_a_pattern_that_matches_nothing_is_wrong_usage(tmp_path: Path) -> None:
    line = [str(SCRIPT), "bench", "--only", "nothing", "-o", str(tmp_path / "out")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert not (tmp_path / "out").exists()
