"""`geotessera demo`: the main job, end to end, on a small world that is served from here."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geotessera.cli.demo_pictures import show_pictures
from geotessera.cli.demo_stores import show_stores
from geotessera.cli.options import DatasetOptions, Json, Verbose
from geotessera.cli.output import Output, format_bytes
from geotessera.errors import GeoTesseraError
from geotessera.types import TileId

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from geotessera.testing import SampleWorld
    from geotessera.types import BBox

__all__ = ["demo"]

POINT_COUNT = 2000
EXPORTED_BANDS = [0, 1, 2]


def demo(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="Where to work; everything is kept there. Default: a new temporary directory, "
            "of which the results are kept.",
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show what geotessera does, on a sample world: no network, about a minute.

    Builds a small landscape with the files, names and sizes of the published data, serves
    it from this machine, and then does what a user does: list, download, sample, export,
    verify, look; and the same from cloud stores.
    """
    from geotessera.remote.partfile import check_writable

    output = Output(as_json=as_json, verbose=verbose)
    kept = directory is not None
    work = (
        Path(tempfile.mkdtemp(prefix="geotessera-demo-")) if directory is None else directory
    ).absolute()
    run = _Demo(work, output)
    results = False
    try:
        check_writable(work)
        work.mkdir(parents=True, exist_ok=True)
        output.say(f"Working in {work}")
        run.all()
        results = True
    finally:
        if not kept:
            for part in ("world", "cache") if results else ("",):
                shutil.rmtree(work / part, ignore_errors=True)
    _conclude(output, run, kept=kept)


@dataclass(slots=True)
class _Step:
    """One line of the summary."""

    name: str
    result: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class _Demo:
    """One run: its directory, and what happened so far."""

    work: Path
    output: Output
    steps: list[_Step] = field(default_factory=list)
    paths: dict[str, Path] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def step(self, name: str) -> AbstractContextManager[_Step]:
        """Time a part of the work and say what came of it."""
        from contextlib import contextmanager

        @contextmanager
        def timed() -> Iterator[_Step]:
            step = _Step(name)
            self.output.say(f"{len(self.steps) + 1}. {name} …")
            began = time.perf_counter()
            yield step
            step.seconds = time.perf_counter() - began
            self.steps.append(step)
            self.output.say(f"   {step.result} ({step.seconds:.1f} s)")

        return timed()

    def all(self) -> None:
        """Do everything."""
        from geotessera.testing import SampleWorld
        from geotessera.testing.server import LoopbackServer

        with self.step("Build a sample world") as step:
            world = SampleWorld.build(self.work / "world", size="demo", generation=("B", "A"))
            size = sum(sum(one.sizes) for one in world.tiles)
            step.result = (
                f"{len(world.tiles)} tiles of {world.bands} bands, {format_bytes(size)}, "
                "as two generations of servers lay them out"
            )
        with LoopbackServer(world.directory) as server:
            self.generation_b(f"{server.url}/B")
            self.generation_a(f"{server.url}/A", world)
            tiles = [one.tile for one in world.tiles]
            show_stores(
                self.step, world, f"{server.url}/B", self.work, _bounds_of(tiles), self.paths
            )

    def dataset(self, base_url: str) -> DatasetOptions:
        """Return the options that select a server of the sample world."""
        return DatasetOptions("v1.1", "cambridge", base_url=base_url, cache_dir=self.work / "cache")

    # --- Generation B: sizes and ETags, the layout of today ------------------------------

    def generation_b(self, base_url: str) -> None:
        """List, download, sample, export, verify and look."""
        tiles_dir = self.paths["tiles"] = self.work / "tiles"
        dataset = self.dataset(base_url)
        with self.step("List what is there") as step:
            client = dataset.client(tiles_dir)
            registry = client.registry
            bounds = _bounds_of(registry.get_available_embeddings())
            wanted = [TileId(*tile) for tile in registry.load_blocks_for_region(bounds, 2024)]
            step.result = (
                f"years {', '.join(map(str, registry.get_available_years()))}; {len(wanted)} "
                f"tiles in {_box(bounds)}"
            )
        self.download(client, wanted)
        self.sample(client, bounds)
        self.export(client, wanted)
        self.verify(client, "Verify every file")
        show_pictures(self.step, registry, self.work, self.paths)

    def download(self, client: Any, wanted: Sequence[TileId]) -> None:
        """Download a region."""
        from geotessera.supply.exports import complete_arrays

        with (
            self.step("Download the region") as step,
            self.output.progress("Downloading", unit="bytes") as progress,
        ):
            outcome = complete_arrays(
                client.registry, wanted, self.paths["tiles"], progress=progress
            )
            _raise_first(outcome.failed)
            step.result = (
                f"{len(outcome.downloaded)} files, {format_bytes(outcome.downloaded_bytes)}; "
                f"{outcome.skipped} were there"
            )

    def sample(self, client: Any, bounds: BBox) -> None:
        """Sample points, both ways, into GeoParquet."""
        from geotessera.cli.rows import Rows, write_rows
        from geotessera.points import read_points_file

        points = self.paths["points"] = self.work / "points.geojson"
        _write_points(points, bounds)
        array, frame = read_points_file(points)
        for method in ("nearest", "bilinear"):
            with self.step(f"Sample {len(array):,} points ({method})") as step:
                values, status = client.sample_embeddings_at_points(
                    array, 2024, method=method, return_status=True, mask_water=True
                )
                path = self.paths[f"samples, {method}"] = self.work / f"samples_{method}.parquet"
                rows = Rows(frame, array, [2024], [values], [status], None)
                write_rows(rows, path)
                counts = rows.status_counts()
                self.facts[f"status_{method}"] = counts
                parts = ", ".join(f"{count:,} {name}" for name, count in counts.items())
                step.result = f"{parts}; {format_bytes(path.stat().st_size)}"

    def export(self, client: Any, wanted: Sequence[TileId]) -> None:
        """Export GeoTIFFs."""
        from geotessera.supply.exports import complete_geotiffs

        with (
            self.step(f"Export bands {EXPORTED_BANDS} as GeoTIFFs") as step,
            self.output.progress("Exporting") as progress,
        ):
            outcome = complete_geotiffs(
                client.registry,
                wanted,
                self.paths["tiles"],
                bands=EXPORTED_BANDS,
                progress=progress,
            )
            _raise_first(outcome.failed)
            size = sum(path.stat().st_size for path in outcome.exported)
            step.result = (
                f"{len(outcome.exported)} files, {format_bytes(size)}; {outcome.skipped} were there"
            )
            if outcome.exported:
                self.paths["first GeoTIFF"] = outcome.exported[0]

    def verify(self, client: Any, name: str) -> None:
        """Verify the directory of a client."""
        from geotessera.verify import verify_directory

        with self.step(name) as step:
            with self.output.progress("Verifying", unit="bytes") as progress:
                report = verify_directory(
                    client.embeddings_dir, registry=client.registry, progress=progress
                )
            if not report.ok:
                first = report.problems[0]
                raise GeoTesseraError(f"{first.path}: {first.detail}")
            step.result = (
                f"{report.files} files, {format_bytes(report.bytes)}: nothing is wrong "
                f"({report.by_registry} by published, {report.by_record} by recorded hash)"
            )

    # --- Generation A: SHA-256 of every file in the registry -----------------------------

    def generation_a(self, base_url: str, world: SampleWorld) -> None:
        """Download a tile from the older layout; damage it, find it, repair it."""
        from geotessera.layout import local_tile_files
        from geotessera.supply.exports import complete_arrays
        from geotessera.verify import verify_directory

        tile = world.tiles[0].tile
        directory = self.paths["tile of generation A"] = self.work / "tiles_a"
        with self.step("Download a tile from a server of generation A") as step:
            client = self.dataset(base_url).client(directory)
            outcome = complete_arrays(client.registry, [tile], directory)
            _raise_first(outcome.failed)
            step.result = f"{len(outcome.downloaded)} files, checked against published SHA-256"
        with self.step("Flip one bit of it, and verify") as step:
            embedding = local_tile_files(directory, tile).embedding
            _flip(embedding)
            try:
                found = verify_directory(directory, registry=client.registry).problems
            finally:
                _flip(embedding)
            if [Path(one.path).name for one in found] != [embedding.name]:
                raise GeoTesseraError(f"the flipped bit in {embedding} was not found")
            step.result = f"found: {found[0].problem} in {Path(found[0].path).name}; flipped back"
        self.verify(client, "Verify it again")


def _conclude(output: Output, run: _Demo, *, kept: bool) -> None:
    rows = [(step.name, step.result, f"{step.seconds:.2f} s") for step in run.steps]
    total = sum(step.seconds for step in run.steps)
    output.say()
    output.table(("Step", "Result", "Time"), [*rows, ("All", "", f"{total:.2f} s")])
    output.say()
    output.pairs(
        {name[0].upper() + name[1:]: path for name, path in run.paths.items()}, title="Look at"
    )
    if kept:
        output.say(f"Everything is kept in {run.work}")
    else:
        output.say(f"The sample world is removed; the results stay in {run.work}")
    output.say("SUCCESS: the whole way works")
    output.emit(
        {
            "directory": run.work,
            "seconds": round(total, 3),
            "steps": [
                {"name": step.name, "result": step.result, "seconds": round(step.seconds, 3)}
                for step in run.steps
            ],
            "paths": run.paths,
            **run.facts,
        }
    )


def _raise_first(failed: dict[TileId, Exception]) -> None:
    for error in failed.values():
        raise error


def _bounds_of(tiles: Sequence[tuple[int, float, float]]) -> BBox:
    from geotessera.types import BBox

    _, lons, lats = zip(*tiles, strict=True)
    return BBox(
        round(min(lons) - 0.05, 2),
        round(min(lats) - 0.05, 2),
        round(max(lons) + 0.05, 2),
        round(max(lats) + 0.05, 2),
    )


def _box(bounds: BBox) -> str:
    return f"{bounds.west:g}–{bounds.east:g}° E, {bounds.south:g}–{bounds.north:g}° N"


def _write_points(path: Path, bounds: BBox) -> None:
    """Write random points as GeoJSON, a few of them beyond the region."""
    import random

    rng = random.Random(0)
    features = [
        {
            "type": "Feature",
            "properties": {"plot": f"P{number:04d}"},
            "geometry": {
                "type": "Point",
                "coordinates": [
                    round(rng.uniform(bounds.west, bounds.east + 0.005), 6),
                    round(rng.uniform(bounds.south, bounds.north), 6),
                ],
            },
        }
        for number in range(POINT_COUNT)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def _flip(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
