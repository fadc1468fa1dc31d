"""What `geotessera mosaic` says: of the plan, of what failed, and of what was made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotessera.cli.mosaic_plan import describe_part
from geotessera.cli.output import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geotessera.cli.mosaic_plan import Job
    from geotessera.cli.output import Output
    from geotessera.errors import IncompleteMosaicError
    from geotessera.mosaic import MosaicPlan
    from geotessera.mosaic.parts import RegionPart
    from geotessera.mosaic.write import MosaicReport
    from geotessera.supply.mosaics import TileRasters, TileSupply
    from geotessera.types import Provenance

__all__ = ["report_failures", "report_mosaic", "report_plan"]


def report_plan(
    output: Output,
    job: Job,
    plan: MosaicPlan,
    rasters: TileRasters,
    parts: Sequence[RegionPart],
) -> None:
    """Say what a run would make."""
    from geotessera.mosaic.parts import APART_KM

    missing, size = len(rasters.missing), rasters.download_bytes()
    output.say(str(plan))
    output.pairs(
        {
            "Format": job.fmt + (" (int8 + scales)" if job.quantized else " (float32)"),
            "Size before compression": format_bytes(plan.nbytes),
            "Tiles to fetch": f"{missing} of {len(rasters.tiles)}, {format_bytes(size)}",
            "Memory": f"{job.memory / 1e6:,.0f} MB",
        }
    )
    if len(parts) > 1:
        output.say(f"Parts {APART_KM} km apart or farther; --part N makes a mosaic of one:")
        for number, part in enumerate(parts, 1):
            output.say(f"  {number}: {describe_part(part)}")
    output.emit(
        _document(job, plan)
        | {
            "dry_run": True,
            "to_fetch": {"tiles": missing, "bytes": size},
            "bytes": plan.nbytes,
            "bytes_filled": plan.filled_bytes,
            "parts": [{"tiles": len(part.tiles), "bbox": part.region.bbox} for part in parts],
        }
    )


def report_failures(output: Output, job: Job, error: IncompleteMosaicError) -> None:
    """Say which tiles are missing."""
    for name, reason in error.failed.items():
        output.note(f"FAILED: {Path(name).name}: {' '.join(str(reason).split())}")
    message = f"{len(error.failed)} tiles are missing, so there is no "
    if job.dry_run:
        message += "plan: how many bands they have is not known"
    else:
        message += f"{job.path} yet; what is finished is kept: run the same command again"
    if not output.as_json:
        output.note(f"Error: {message}")
    failed = [{"tile": Path(name).stem, "message": str(why)} for name, why in error.failed.items()]
    output.emit(
        {
            "output": job.path,
            "failed": failed,
            "error": {"type": "IncompleteMosaicError", "message": message},
        }
    )


def _document(job: Job, plan: MosaicPlan) -> dict[str, Any]:
    origin: Provenance = plan.provenance
    return {
        "output": job.path.absolute() if job.path else None,
        "format": job.fmt,
        "quantized": job.quantized,
        "year": job.year,
        "dataset": {"version": origin.version, "variant": origin.variant},
        "crs": plan.grid.crs_name,
        "transform": plan.grid.transform,
        "height": plan.grid.height,
        "width": plan.grid.width,
        "bands": list(plan.bands) if plan.bands is not None else list(range(plan.band_count)),
        "resampling": plan.method,
        "tiles": len(plan.rasters),
        "digest": plan.digest,
    }


def report_mosaic(
    output: Output,
    job: Job,
    plan: MosaicPlan,
    report: MosaicReport,
    supply: TileSupply,
    seconds: float,
) -> None:
    """Say what was made."""
    grid = plan.grid
    kept = f", {report.resumed} of {report.blocks} blocks were there" if report.resumed else ""
    output.say(
        f"SUCCESS: {grid.width:,} × {grid.height:,} pixels × {plan.band_count} bands in "
        f"{seconds:.1f} s{kept}"
    )
    for path in report.paths:
        output.say(f"  {path}")
    output.say(f"{format_bytes(report.bytes)} of {format_bytes(plan.nbytes)} before compression")
    output.emit(
        _document(job, plan)
        | {
            "files": report.paths,
            "bytes": report.bytes,
            "blocks": {
                "all": report.blocks,
                "written": report.written,
                "resumed": report.resumed,
                "empty": report.empty,
            },
            "fetched": {"tiles": supply.fetched, "bytes": supply.bytes},
            "seconds": round(seconds, 3),
        }
    )
