"""`geotessera verify`: re-check files on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geotessera.cli.errors import PROBLEMS
from geotessera.cli.groups import takes_groups
from geotessera.cli.options import (
    DatasetOptions,
    Json,
    Verbose,
)
from geotessera.cli.output import Output, counted, format_bytes
from geotessera.datasets import DEFAULT_VERSION, version_path
from geotessera.errors import (
    DatasetMismatchError,
    EmptySelectionError,
    GeoTesseraError,
    InputError,
)

if TYPE_CHECKING:
    from geotessera.registry import Registry
    from geotessera.verify import VerifyReport

__all__ = ["report_document", "show_report", "verify"]


@takes_groups
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of tiles.")],
    use_registry: Annotated[
        bool,
        typer.Option(
            "--registry/--no-registry",
            help="Compare with the dataset's published registry, or only with what was "
            "recorded when the files were made.",
        ),
    ] = True,
    ignore_scales: Annotated[
        bool,
        typer.Option(
            "--ignore-scales",
            help="Accept implausible scales: some tiles are published like that.",
        ),
    ] = False,
    forget_missing: Annotated[
        bool,
        typer.Option(
            "--forget-missing",
            help="Take recorded files that are gone for removed on purpose, from now on.",
        ),
    ] = False,
    dataset: DatasetOptions = DatasetOptions(),
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Re-check tiles, landmasks and exported GeoTIFFs, on all cores.

    Every file is hashed and compared with the published SHA-256, else with the one that
    was recorded when the file was made, else with the published size. Incomplete tiles,
    damaged or truncated files, recorded files that are gone, shapes that do not fit and
    implausible scales are found too. Exit code 1 if anything is wrong; each bad file is named.
    """
    from geotessera.verify import verify_directory

    output = Output(as_json=as_json, verbose=verbose)
    if not directory.is_dir():
        raise InputError(f"there is no directory {directory} to verify")
    explicit = dataset.version is not None or dataset.variant is not None
    registry = _registry_for(directory, dataset, explicit, output) if use_registry else None
    with output.progress("Verifying", unit="bytes") as progress:
        report = verify_directory(
            directory,
            registry=registry,
            progress=progress,
            check_scales=not ignore_scales,
            forget_missing=forget_missing,
        )
    if report.ok and not (forget_missing or report.files or report.leftovers or report.unfinished):
        raise EmptySelectionError(
            f"there is nothing to verify in {directory}: no tiles, landmasks or GeoTIFFs"
        )
    show_report(output, report)
    output.emit(report_document(report))
    if not report.ok:
        raise typer.Exit(PROBLEMS)


def _registry_for(
    directory: Path, dataset: DatasetOptions, explicit: bool, output: Output
) -> Registry | None:
    """Open the registry of the dataset that a directory records; None where it cannot be had."""
    from geotessera.sidecar import recorded_dataset

    recorded = recorded_dataset(directory)
    if recorded is not None and not explicit:
        dataset = replace(dataset, version=version_path(recorded[0]), variant=recorded[1])
    elif recorded is None and not explicit:
        output.note(f"{directory} does not say which dataset it holds: assuming {DEFAULT_VERSION}")
    try:
        return dataset.client(directory).registry
    except DatasetMismatchError:
        raise
    except (GeoTesseraError, OSError) as error:
        if explicit or dataset.registry_dir is not None:
            raise
        # Without a network the records are still worth checking.
        reason = " ".join(str(error).split())
        output.note(f"Warning: no registry ({reason}); checking against recorded hashes only")
        return None


def report_document(report: VerifyReport) -> dict[str, Any]:
    """Return a report as a JSON document."""
    return {
        "directory": report.directory.absolute(),
        "ok": report.ok,
        "tiles": report.tiles,
        "files": report.files,
        "bytes": report.bytes,
        "checked_by": {
            "registry_hash": report.by_registry,
            "recorded_hash": report.by_record,
            "registry_size": report.by_size,
            "nothing": len(report.unchecked),
        },
        "problems": report.problems,
        "unchecked": report.unchecked,
        "leftovers": report.leftovers,
        "unfinished": report.unfinished,
        "seconds": round(report.seconds, 3),
    }


def show_report(output: Output, report: VerifyReport) -> None:
    """Print a report for people."""
    for finding in report.problems:
        output.say(f"{finding.problem.upper()}: {finding.path}: {finding.detail}")
    output.say(
        f"{counted(report.files, 'file')} of {counted(report.tiles, 'complete tile')}, "
        f"{format_bytes(report.bytes)}, "
        f"in {report.seconds:.1f} s: {report.by_registry} equal the published SHA-256, "
        f"{report.by_record} the recorded one, {report.by_size} have the published size"
    )
    _list(output, report.unchecked, "could be checked against nothing but their own structure")
    _list(output, report.leftovers, "are left over from interrupted runs and can be deleted")
    _list(output, report.unfinished, "are landmasks of tiles that were never finished")
    if report.ok:
        output.say("SUCCESS: nothing is wrong")
    else:
        bad = len({finding.path for finding in report.problems})
        problems = counted(len(report.problems), "problem")
        output.say(f"{problems} in {bad} of {counted(report.files, 'file')}")
        kinds = {finding.problem for finding in report.problems}
        if "scales" in kinds:
            output.say("Note: --ignore-scales accepts implausible scales")
        if "missing" in kinds:
            output.say("Note: if you removed what is missing yourself, say --forget-missing once")


def _list(output: Output, paths: list[str], what: str) -> None:
    if not paths:
        return
    output.say(f"Note: {len(paths)} files {what}" + (":" if output.verbose else ""))
    if output.verbose:
        for path in paths:
            output.say(f"  {path}")
