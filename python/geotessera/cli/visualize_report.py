"""What `geotessera visualize` says of a picture that it made."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geotessera.cli.output import Output
    from geotessera.cli.visualize_rasters import Job
    from geotessera.pictures import PictureInput, PictureReport

__all__ = ["conclude"]


def conclude(
    output: Output, job: Job, found: PictureInput, report: PictureReport, seconds: float
) -> None:
    """Keep the model if that is wanted, and say what was made."""
    plan, model = report.plan, report.model
    if job.save_model is not None:
        model.save(job.save_model)
    explained = model.explained_variance_ratio.tolist()
    count, grid = len(found.rasters), plan.grid
    crs = grid.crs_name if len(grid.crs_name) < 20 else job.crs
    output.say(
        f"SUCCESS: {count} tile{'s' * (count != 1)} ({found.format}) drawn on {grid.width:,} × "
        f"{grid.height:,} pixels in {seconds:.1f} s"
    )
    for path in report.paths:
        output.say(f"  {path}")
    if job.save_model is not None:
        output.say(f"  {job.save_model}: components and colours, for --model")
    output.say(
        f"Components: {model.n_components} ({sum(explained):.1%} of the variance of "
        f"{model.pixels:,} pixels) | CRS: {crs}"
    )
    if job.output.suffix.lower() != ".png":
        output.say("Next step: see it on a map with")
        output.say(f"  geotessera webmap {shlex.quote(str(job.output))} --serve")
    known = plan.provenance
    output.emit(
        {
            "output": job.output.absolute(),
            "files": [path.absolute() for path in report.paths],
            "bytes": report.bytes,
            "tiles": count,
            "format": found.format,
            "dataset": {"version": known.version, "variant": known.variant},
            "year": known.year,
            "crs": grid.crs_name,
            "transform": grid.transform,
            "height": grid.height,
            "width": grid.width,
            "bands": report.bands,
            "resampling": plan.method,
            "components": model.n_components,
            "explained_variance": explained,
            "pixels": model.pixels,
            "balance": model.stretch.method if model.stretch is not None else None,
            "model": job.model and job.model.absolute(),
            "saved_model": job.save_model and job.save_model.absolute(),
            "seconds": round(seconds, 3),
        }
    )
