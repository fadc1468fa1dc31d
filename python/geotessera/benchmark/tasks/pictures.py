"""Pictures, web maps and coverage maps, by the commands and methods that both packages have."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

from .shared import Place, processors

if TYPE_CHECKING:
    from collections.abc import Callable

CLI = "import sys; from geotessera.cli import main; sys.argv[0] = 'geotessera'; main()"
ZOOMS = (8, 15)


def _command(*words: object) -> None:
    line = [sys.executable, "-c", CLI, *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-2000:])


def visualize(place: Place) -> Callable[[], object]:
    """Draw nine tiles in the colours of their principal components."""
    tiles = place.world("tiles") / "downloaded"
    return lambda: _command("visualize", tiles, place.fresh() / "picture.tif")


def _picture(place: Place) -> Any:
    """Return where the picture is that both cut into tiles."""
    return place.cache.parent / "picture.tif"


def mosaic(place: Place) -> Callable[[], object]:
    """Make the picture that is cut into tiles, once for all who cut it."""
    return lambda: _command(
        "visualize", place.world("tiles") / "downloaded", _picture(place), "--crs", "EPSG:3857"
    )


def webmap(place: Place) -> Callable[[], object]:
    """Cut it into a web map."""
    low, high = ZOOMS
    zooms = ("--min-zoom", low, "--max-zoom", high)
    return lambda: _command("webmap", _picture(place), "-o", place.fresh(), *zooms)


def gdal2tiles(place: Place) -> Callable[[], object]:
    """Do the same with GDAL's program, with a process for each processor."""
    processes = str(processors())
    line = ["gdal2tiles.py", "--xyz", "--webviewer=none", "--zoom=8-15", "-q"]
    line += [f"--processes={processes}", str(_picture(place))]

    def run() -> object:
        subprocess.run([*line, str(place.fresh())], check=True, capture_output=True)
        return None

    return run


def _planet(place: Place) -> Any:
    from geotessera import GeoTessera

    return GeoTessera(dataset_variant="cambridge", registry_dir=place.world("planet"))


def coverage(place: Place) -> Callable[[], object]:
    """Draw where the planet's tiles are; the client is open."""
    from geotessera.visualization import visualize_global_coverage

    gt = _planet(place)
    out = place.fresh() / "coverage.png"
    return lambda: visualize_global_coverage(gt, str(out), show_countries=False) and None


def texture(place: Place) -> Callable[[], object]:
    """Make the lists and the texture that a globe shows; the client is open."""
    gt = _planet(place)
    out = place.fresh()

    def run() -> object:
        found = gt.export_coverage_map(str(out / "coverage.json"))
        gt.generate_coverage_texture(found, str(out / "texture.png"))
        return None

    return run
