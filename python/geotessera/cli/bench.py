"""`geotessera bench`: how fast it is here, against whom, and what the machine could do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geotessera.cli.errors import PROBLEMS, UsageError
from geotessera.cli.options import Json, Verbose  # noqa: TC001 - typer reads them at run time
from geotessera.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from geotessera.benchmark.model import Call

__all__ = ["bench"]


def bench(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Small data and one run: shows that it works, no more."),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="PATTERN",
            help="Measure (again) what matches, such as 'mosaic' or '*.threads'; repeatable.",
        ),
    ] = None,
    runs: Annotated[
        int, typer.Option("--runs", min=1, max=99, help="Runs of everybody, in turn.")
    ] = 3,
    output_dir: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the reports go.")
    ] = Path("geotessera-bench"),
    world: Annotated[
        Path | None,
        typer.Option(
            "--world",
            metavar="DIR",
            help="Where the data is made, 6 GB, and found again; by default OUTPUT/world.",
        ),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            "--peers",
            metavar="DIR|none",
            help="Environments that benches/peers made; by default OUTPUT/peers. 'none' measures "
            "nobody else.",
        ),
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="List the operations, and measure nothing.")
    ] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure this package, its installed peers and the machine, on data made here.

    Writes report.json, report.md and report.html (one self-contained page). The full run takes
    19 to 23 minutes on two cores; when interrupted, the next one goes on where it stopped.
    """
    from geotessera.benchmark.operations import select
    from geotessera.benchmark.results import judge
    from geotessera.benchmark.session import Session

    output = Output(as_json=as_json, verbose=verbose)
    operations = select(only or (), quick=quick)
    if not operations:
        raise UsageError(f"--only {' '.join(only or ())!r} matches no operation; see --list")
    if list_only:
        output.table(
            ("operation", "what", "by"),
            [(one.name, one.title, ", ".join(_who(one.calls))) for one in operations],
        )
        rows = {one.name: {"title": one.title, "by": _who(one.calls)} for one in operations}
        output.emit({"operations": rows})
        return
    session = Session(
        output_dir.absolute(),
        world=None if world is None else world.absolute(),
        peers=None if peers in (None, "none") else Path(str(peers)).absolute(),
        no_peers=peers == "none",
        runs=runs,
        quick=quick,
        say=output.note if as_json else output.say,
    )
    results = session.run(operations, again=only is not None)
    outcomes = {one.name: results.outcomes[one.name] for one in operations}
    verdicts = [verdict for one in operations for verdict in judge(one, outcomes[one.name])]
    counts = {
        status: sum(one.status == status for one in verdicts)
        for status in ("met", "missed", "not measured")
    }
    failed = sorted(name for name, one in outcomes.items() if one.failed)
    output.say(
        f"Targets: {', '.join(f'{count} {status}' for status, count in counts.items())}; "
        f"{results.took / 60:.1f} minutes"
    )
    if failed:
        output.say(f"Failed: {', '.join(failed)}")
    output.pairs({"Report": session.path.with_suffix(".html"), "Data": session.path})
    output.emit(
        {
            "report": session.path.with_suffix(".html"),
            "data": session.path,
            "seconds": round(results.took, 1),
            "targets": counts,
            "verdicts": verdicts,
            "failed": failed,
            "medians": {
                name: {label: spread.median for label in one.runs if (spread := one.times(label))}
                for name, one in outcomes.items()
            },
        }
    )
    if failed:
        raise typer.Exit(PROBLEMS)


def _who(calls: Iterable[Call]) -> list[str]:
    """Return who can do an operation, each once, in their order."""
    return list(dict.fromkeys(call.who for call in calls))
