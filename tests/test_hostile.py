"""Files that are not what their names say, all the way: class, command line and verification."""

from __future__ import annotations

import os
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from numpy.lib import format as npy
from typer.testing import CliRunner

from geotessera import GeoTessera, Status, cli
from geotessera.verify import verify_directory

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import SampleWorld

NAME = r"grid_23\.95_83\.65"
PLACES = [(23.95, 83.65), (24.05, 83.65)]


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


def saved(array: np.ndarray, *, pickles: bool = False) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=pickles)
    return buffer.getvalue()


def headed(shape: tuple[int, ...], dtype: str) -> bytes:
    """A header that promises what does not follow."""
    buffer = BytesIO()
    npy.write_array_header_2_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def hostile(what: str, whole: bytes, trace: Path) -> bytes:
    values = np.load(BytesIO(whole)) if what in ("shape", "order") else None
    match what:
        case "pickle":
            return saved(np.array([Bomb(trace)], dtype=object), pickles=True)
        case "dtype":
            return saved(np.zeros((4, 4, 4), np.float64))
        case "shape":
            return saved(values[:-1])
        case "order":
            return saved(np.asfortranarray(values))
        case "truncated":
            return whole[: len(whole) // 2]
        case "terabytes":
            return headed((1 << 20, 1 << 20, 128), whole[10:80].decode().split("'")[3])
        case "long header":
            return b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b" " * 1000
        case "text":
            return b"<html>not found</html>"
        case _:
            return b""


KINDS = [
    "pickle", "dtype", "shape", "order", "truncated", "terabytes", "long header", "text", "empty",
]  # fmt: skip


def no_crs(whole: Path) -> bytes:
    with rasterio.open(whole) as source, rasterio.MemoryFile() as memory:
        profile = source.profile | {"crs": None}
        with memory.open(**profile) as dataset:
            dataset.write(source.read())
        return bytes(memory.read())


@pytest.mark.parametrize(
    ("which", "what"),
    [
        *((which, what) for which in ("embedding", "scales") for what in KINDS),
        *(("landmask", what) for what in ("no crs", "text", "empty")),
    ],
)
def test_a_hostile_file_is_an_error_everywhere(
    tiny_world: SampleWorld, tmp_path: Path, which: str, what: str
) -> None:
    tiles, trace = tiny_world.checkout(tmp_path / "tiles"), tmp_path / "exploded"
    original: Path = getattr(tiny_world.tile(*PLACES[0]).files, which)
    (path,) = tiles.rglob(original.name)
    path.unlink()  # a hard link: the world's own file stays as it is
    path.write_bytes(
        no_crs(original) if what == "no crs" else hostile(what, original.read_bytes(), trace)
    )
    where = {"base_url": tiny_world.root(), "cache_dir": tmp_path / "cache"}
    client = GeoTessera(embeddings_dir=tiles, **where)

    with pytest.raises(RuntimeError, match=NAME):
        client.fetch_embedding(*PLACES[0], 2024)
    with pytest.raises(RuntimeError, match=NAME):
        client.sample_embeddings_at_points(PLACES, 2024)
    out = tmp_path / "out.tif"
    with pytest.raises(RuntimeError):
        client.export_embedding_geotiff(*PLACES[0], out)
    assert not out.exists()
    values, metadata, status = client.sample_embeddings_at_points(
        PLACES, 2024, errors="coerce", include_metadata=True, return_status=True
    )
    assert status[0] == Status.FAILED
    assert status[1] != Status.FAILED  # the other tile is not harmed
    assert np.isnan(values[0]).all()
    assert metadata[0]["error"]

    found = [finding.path for finding in verify_directory(tiles).problems]
    if what == "shape":  # all that is known is that the tile's files do not fit
        assert found
        assert all("grid_23.95_83.65" in one for one in found)
    else:
        assert path.relative_to(tiles).as_posix() in found

    (tmp_path / "points.csv").write_text("lon,lat\n23.95,83.65\n")
    words = ["sample", str(tmp_path / "points.csv"), "-o", str(tmp_path / "out.csv")]
    words += ["--tiles", str(tiles), "--base-url", str(where["base_url"])]
    done = CliRunner().invoke(cli.app, [*words, "--cache-dir", str(where["cache_dir"])])
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert "grid_23.95_83.65" in done.stderr
    assert not (tmp_path / "out.csv").exists()
    assert not trace.exists()


def test_a_landmask_cut_off_after_its_header_is_found_where_it_is_read(
    tiny_world: SampleWorld, tmp_path: Path
) -> None:
    tiles = tiny_world.checkout(tmp_path / "tiles")
    path = next((tiles / "global_0.1_degree_tiff_all").glob("grid_23.95*"))
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])
    client = GeoTessera(
        base_url=tiny_world.root(), cache_dir=tmp_path / "cache", embeddings_dir=tiles
    )
    with pytest.raises(RuntimeError, match=NAME):
        client.sample_embeddings_at_points(PLACES, 2024, mask_water=True)
    (problem,) = verify_directory(tiles).problems
    assert (problem.path, problem.problem) == (path.relative_to(tiles).as_posix(), "damaged")
