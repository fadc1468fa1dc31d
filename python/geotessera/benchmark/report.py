"""A report as blocks, from which Markdown and HTML are made."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from geotessera.benchmark import plots
from geotessera.benchmark.machine import code_digest
from geotessera.benchmark.model import OURS
from geotessera.benchmark.peers import PEERS, is_ours
from geotessera.benchmark.results import costs_of, fraction_of_limit, judge
from geotessera.benchmark.units import (
    bytes_text,
    digits,
    percent,
    rate_text,
    ratio_text,
    seconds_text,
    times,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geotessera.benchmark.model import Operation, Target
    from geotessera.benchmark.results import Outcome, Results, Verdict

__all__ = ["Block", "Figure", "Heading", "Items", "Paragraph", "Table", "report", "target_text"]

TOPICS = {
    "import": "Import",
    "dequantize": "Dequantise",
    "fetch": "One tile",
    "registry": "Registry of the planet",
    "sampling": "Points",
    "mosaic": "Mosaics",
    "export": "GeoTIFFs",
    "verify": "Verification",
    "download": "Downloads",
    "store": "Zarr stores",
    "picture": "Pictures and maps",
}

METHOD = (
    "Each run is a process of its own; those of the package and of its peers are made in turn, "
    "there and back, so that all meet the same state of the machine.",
    "A process repeats a call until a second has passed, and its figure is the median; what is "
    "marked as first runs once in each process. What takes anybody longer than 10 s is run once "
    "by them, and what takes them longer than an operation's patience is given up: its time is "
    "then at least so much (>).",
    "Times are medians over the runs. A ratio is the median of the ratios of runs made in turn, "
    "with the least and the most of them in brackets; more than 1 means that the package is "
    "faster.",
    "Peak RSS is what the kernel says of the process that did the work; mapped files that could "
    "be dropped at any time count. Files are in the page cache.",
    "Of the limit: the time that the machine needs for the same bytes at the rate that was "
    "measured here (last table), over the time that was taken. It may pass 100 % where caches "
    "serve what the limit counts as memory traffic, and where our encoder is faster than GDAL's.",
    "Peers run as black boxes in environments of their own. Where values must agree, their sums "
    "are compared.",
)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 to 3."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of plain text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """An SVG and what it shows; Markdown leaves it out."""

    svg: str
    caption: str


type Block = Heading | Paragraph | Items | Table | Figure


def report(results: Results, operations: Sequence[Operation]) -> list[Block]:
    """Return a report on the operations that have results, in their order."""
    done = [one for one in operations if one.name in results.outcomes]
    blocks: list[Block] = [Heading(1, "GeoTessera, measured"), *_header(results, done)]
    verdicts = [v for one in done for v in judge(one, results.outcomes[one.name])]
    blocks += _targets(verdicts)
    blocks += _figures(results, done)
    blocks.append(Heading(2, "Results"))
    for topic, some in groupby(done, lambda one: one.topic):
        rows = [row for one in some if not one.axis for row in _rows(one, results)]
        if rows:
            blocks += [Heading(3, TOPICS.get(topic, topic)), Table(_COLUMNS, tuple(rows))]
    blocks += _curves(results, [one for one in done if one.axis])
    blocks += _limits(results)
    blocks += _gaps(results, done)
    return [*blocks, Heading(2, "Method"), Items(METHOD)]


def _header(results: Results, done: Sequence[Operation]) -> Iterator[Block]:
    machine = results.machine
    caches = ", ".join(f"{level} {size}" for level, size in machine.get("caches", {}).items())
    words = [
        f"{machine.get('processors')} × {machine.get('processor')} ({caches})",
        f"{bytes_text(machine.get('memory', 0))} of memory",
        f"huge pages: {machine.get('huge_pages') or 'unknown'}",
        f"{machine.get('system')}, {machine.get('architecture')}",
        f"Python {machine.get('python')}",
    ]
    outcomes = [results.outcomes[one.name] for one in done]
    days = sorted(one.when for one in outcomes if one.when)
    loads = [one.load[0] for one in outcomes]
    yield Paragraph("Machine: " + "; ".join(words) + ".")
    peers = [f"{one['title']} {one['version']}" for one in results.peers.values()]
    absent = [peer.title for peer in PEERS if peer.name not in results.peers]
    yield Paragraph(
        f"geotessera {machine.get('geotessera', '')} against {', '.join(peers) or 'nobody'}."
        + (f" Not installed, or not wanted: {', '.join(absent)}." if absent else "")
    )
    if days:
        yield Paragraph(
            f"Measured {days[0]} to {days[-1]}, {results.took / 60:.1f} minutes in all. The "
            f"load of the machine before each operation was {min(loads):.1f} to {max(loads):.1f}: "
            "where it is above the number of processors, others were at work."
        )
    if results.options.get("quick"):
        yield Paragraph("A quick run: one run of each, on small data. Take no figure from it.")


# --- Targets ---------------------------------------------------------------------------------


def target_text(target: Target) -> str:
    """Return what is asked for, in words."""
    if target.metric in ("faster", "less memory", "fewer bytes"):
        factor = digits(target.value) if target.value < 1 else f"{target.value:g}"
        return f"≥ {factor}× {target.metric} than {target.peer}"
    if target.metric == "peak":
        return f"≤ {bytes_text(target.value)} resident"
    if target.metric == "data requests":
        return f"≤ {target.value:g} requests for data"
    if target.metric == "evenness":
        return f"cost of a unit within {target.value:g}×"
    what = "resident" if target.metric == "peak / result" else "anonymous"
    return f"≤ {target.value:g} × the result, {what}"


def _value_text(verdict: Verdict) -> str:
    if verdict.value is None:
        return ""
    if verdict.target.metric == "peak":
        return bytes_text(verdict.value)
    if verdict.target.metric == "data requests":
        return f"{verdict.value:g}"
    return ("> " if verdict.more else "") + times(verdict.value)


def _targets(verdicts: Sequence[Verdict]) -> Iterator[Block]:
    if not verdicts:
        return
    counts = [sum(one.status == name for one in verdicts) for name in ("met", "missed")]
    yield Heading(2, "Targets")
    yield Paragraph(
        f"{counts[0]} met, {counts[1]} missed, {len(verdicts) - sum(counts)} not measured."
    )
    ordered = sorted(verdicts, key=lambda one: one.target.issue)
    yield Table(
        ("issue", "operation", "asked", "measured", ""),
        tuple(
            (
                str(one.target.issue),
                one.operation,
                target_text(one.target),
                _value_text(one),
                one.status,
            )
            for one in ordered
        ),
    )


# --- Results ---------------------------------------------------------------------------------

_COLUMNS = ("operation", "by", "time", "slower than us", "peak RSS", "moved", "of the limit")


def _rows(operation: Operation, results: Results) -> Iterator[tuple[str, ...]]:
    outcome = results.outcomes[operation.name]
    first = f"{operation.name}: {operation.title}"
    for call in operation.calls:
        spread = outcome.times(call.label)
        if spread is None:
            continue
        ratio = outcome.ratio(call.label) if call.who != OURS else None
        limit = fraction_of_limit(operation, outcome, results.limits) if call.who == OURS else None
        more = "> " if outcome.cut(call.label) else ""
        yield (
            first,
            _title(call.who, results),
            more + seconds_text(spread.median) + (" (once)" if spread.count == 1 else ""),
            more + ratio_text(ratio) if ratio else "",
            _memory(outcome, call.label),
            _moved(outcome, call.label),
            f"{percent(limit[0])} ({limit[1]})" if limit else "",
        )
        first = ""


def _title(who: str, results: Results) -> str:
    return results.peers[who]["title"] if who in results.peers else who


def _memory(outcome: Outcome, label: str) -> str:
    text = bytes_text(outcome.most(label, "peak_rss"))
    anonymous, size = (outcome.most(label, what) for what in ("peak_anonymous", "result_bytes"))
    if anonymous and size:
        text += f" (anonymous {digits(anonymous / size)} × result)"
    return text


def _moved(outcome: Outcome, label: str) -> str:
    words = []
    for what, name in (("result_bytes", "result"), ("written", "written"), ("sent", "received")):
        size = outcome.most(label, what)
        if size:
            words.append(f"{name} {bytes_text(size)}")
    requests = outcome.most(label, "requests")
    if requests:
        words.append(f"{requests:.0f} requests")
    return ", ".join(words)


# --- Curves ----------------------------------------------------------------------------------


def _curves(results: Results, operations: Sequence[Operation]) -> Iterator[Block]:
    shown = [one for one in operations if costs_of(one, results.outcomes[one.name])]
    if not shown:
        return
    yield Heading(2, "Scaling")
    rows: list[tuple[str, ...]] = []
    for operation in shown:
        outcome = results.outcomes[operation.name]
        costs = costs_of(operation, outcome)
        first = f"{operation.name}: {operation.title}"
        for call, (at, cost) in zip(
            [one for one in operation.calls if outcome.times(one.label)], costs, strict=True
        ):
            spread = outcome.times(call.label)
            assert spread is not None
            rows.append(
                (
                    first,
                    f"{at:g}",
                    seconds_text(spread.median),
                    f"{seconds_text(cost)} a {operation.unit[1]}",
                    times(costs[0][1] / cost),
                    bytes_text(outcome.most(call.label, "peak_rss")),
                )
            )
            first = ""
        points = [(at, cost * 1e9) for at, cost in costs]
        svg = plots.curves(
            operation.title,
            [plots.Curve("", points)],
            operation.axis,
            f"ns a {operation.unit[1]}",
        )
        yield Figure(svg, f"{operation.name}: {operation.title}")
    columns = ("operation", "at", "time", "of a unit", "speed against the first", "peak RSS")
    yield Table(columns, tuple(rows))


# --- Figures ---------------------------------------------------------------------------------


def _figures(results: Results, done: Sequence[Operation]) -> Iterator[Block]:
    colors = {peer.name: number % 7 + 1 for number, peer in enumerate(PEERS)}
    ratios, limits, memory = [], [], []
    for operation in done:
        if operation.axis:
            continue
        outcome = results.outcomes[operation.name]
        for call in operation.calls:
            ratio = outcome.ratio(call.label)
            if ratio is None or is_ours(call.who):
                continue
            color = colors.get(call.who, 7)
            more = "> " if outcome.cut(call.label) else ""
            text = f"{more}{times(ratio.median)} {call.who}"
            name = operation.name
            ratios.append(plots.Bar(name, ratio.median, ratio.least, ratio.most, color, text))
            less = outcome.ratio(call.label, "peak_rss")
            if less is not None and call.who == "upstream":
                text = times(less.median)
                memory.append(plots.Bar(name, less.median, less.least, less.most, color, text))
        limit = fraction_of_limit(operation, outcome, results.limits)
        if limit:
            share, name = limit
            text = f"{percent(share)} {name}"
            limits.append(plots.Bar(operation.name, share, share, share, 0, text))
    if ratios:
        yield Heading(2, "At a glance")
        yield Figure(plots.bars("Speed", ratios), "How many times faster than each peer")
    if memory:
        yield Figure(
            plots.bars("Memory", memory), "How many times less memory at the peak than upstream"
        )
    if limits:
        yield Figure(plots.shares("Limits", limits), "How much of the machine's limit is reached")


# --- The rest --------------------------------------------------------------------------------


def _limits(results: Results) -> Iterator[Block]:
    if not results.limits:
        return
    yield Heading(2, "What the machine can do")
    rows = [
        (one.name, one.title, rate_text(one.best, one.unit), rate_text(one.middle, one.unit))
        for one in results.limits.values()
    ]
    yield Table(("limit", "what", "at best", "in the middle"), tuple(rows))


def _gaps(results: Results, done: Sequence[Operation]) -> Iterator[Block]:
    """Say what failed, was left out, does not agree, or is of other code."""
    items: list[str] = []
    absent: dict[tuple[str, str], list[str]] = {}
    for operation in done:
        outcome = results.outcomes[operation.name]
        name = operation.name
        items += [f"{name}: {who} failed: {why}" for who, why in outcome.failures.items()]
        for who, why in outcome.skipped.items():
            if who == name:
                items.append(f"{name}: left out: {why}")
            else:
                absent.setdefault((who, why), []).append(name)
        if outcome.disagreement:
            items.append(f"{name}: DIFFERENT VALUES: {outcome.disagreement}")
        if outcome.code != code_digest():
            items.append(f"{name}: measured with other code than the rest, {outcome.when}")
    for (who, why), names in absent.items():
        items.append(f"{who} left out ({why}): {', '.join(names)}")
    if items:
        yield Heading(2, "Left out, failed, different")
        yield Items(tuple(items))
