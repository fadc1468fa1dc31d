from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from geotessera.errors import (
    DiskFullError,
    IncompleteMosaicError,
    InputError,
    ReadOnlyError,
)
from geotessera.layout import TileFiles
from geotessera.mosaic import budget, plan_region, render
from geotessera.mosaic import write as writing
from geotessera.mosaic.geotiffs import scales_path
from geotessera.mosaic.record import Record
from geotessera.mosaic.write import write_mosaic
from geotessera.sizes import parse_size
from geotessera.sources import NpyTile
from geotessera.tiff.codecs import COMPRESSIONS, Codec
from geotessera.types import Block, Provenance, Window
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from geotessera.mosaic import MosaicPlan
    from geotessera.testing import SampleWorld

BOX = (23.9, 83.6, 24.1, 83.7)
"""Both tiles of the tiny world: 306 × 1129 pixels in the first one's zone, 2 × 5 blocks."""


def plan_of(world: SampleWorld, *, quantized: bool = True, **how: Any) -> MosaicPlan:
    known = Provenance(world.version, world.variant, 2024)
    tiles = [NpyTile(*one.files, georeference="snapped", provenance=known) for one in world.tiles]
    how = {"crs": 32634, "resolution": 10, "align": True, "quantized": quantized} | how
    return plan_region(tiles, BOX, **how)


@pytest.fixture(scope="module")
def plan(tiny_world: SampleWorld) -> MosaicPlan:
    return plan_of(tiny_world)


@pytest.fixture(scope="module")
def whole(plan: MosaicPlan) -> Block:
    """The same mosaic as one array, of which the tests of rendering vouch."""
    return render(plan)


def pixels(path: Path, **how: Any) -> Any:
    with rasterio.open(path, **how) as dataset:
        return dataset.read().transpose(1, 2, 0)


def check(path: Path, whole: Block) -> None:
    """Compare files, their overviews too, with arrays, as GDAL reads them."""
    parts = [(path, whole.values)]
    if whole.scales is not None:
        parts.append((scales_path(path), whole.scales[..., np.newaxis]))
    for file, expected in parts:
        np.testing.assert_array_equal(pixels(file), expected, strict=True)
        for level in range(2):
            step = 2 ** (level + 1)
            found = pixels(file, overview_level=level)
            np.testing.assert_array_equal(found, expected[::step, ::step], strict=True)


def litter(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


# --- What is written --------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["tiff", "cog"])
@pytest.mark.parametrize("compress", list(COMPRESSIONS))
@pytest.mark.parametrize("quantized", [True, False], ids=["int8", "float32"])
def test_files_hold_what_is_rendered(
    tiny_world: SampleWorld, tmp_path: Path, fmt: Any, compress: str, quantized: bool
) -> None:
    plan = plan_of(tiny_world, quantized=quantized)
    target = tmp_path / "new" / "m.tif"
    report = write_mosaic(plan, target, format=fmt, compress=compress)
    check(target, render(plan))
    expected = [target, scales_path(target)] if quantized else [target]
    assert report.paths == expected == sorted(target.parent.iterdir())
    assert (report.blocks, report.written, report.resumed) == (10, 10, 0)
    assert report.bytes == sum(path.stat().st_size for path in expected)
    with rasterio.open(target) as dataset:
        structure = dataset.tags(ns="IMAGE_STRUCTURE")
        assert structure.get("COMPRESSION", "NONE").lower() == compress
        assert structure["INTERLEAVE"] == "PIXEL"
        assert (structure.get("LAYOUT") == "COG") == (fmt == "cog")
        assert dataset.block_shapes[0] == (256, 256)
        assert dataset.overviews(1) == [2, 4, 8]


def test_files_say_what_they_are(plan: MosaicPlan, tmp_path: Path) -> None:
    target = tmp_path / "m.tif"
    write_mosaic(plan, target)
    for path in (target, scales_path(target)):
        with rasterio.open(path) as dataset:
            assert dataset.crs == rasterio.CRS.from_epsg(32634)
            assert tuple(dataset.transform)[:6] == plan.grid.transform
            tags = dataset.tags()
            assert tags["TESSERA_DATASET_VERSION"] == plan.provenance.version
            assert tags["TESSERA_DATASET_VARIANT"] == plan.provenance.variant
            assert tags["TESSERA_YEAR"] == "2024"
            assert tags["GEOTESSERA_MOSAIC_DIGEST"] == plan.digest
            assert tags["GEOTESSERA_SOURCE_BANDS"] == "4"
    with rasterio.open(target) as dataset:
        assert dataset.dtypes[0] == "int8"
        assert dataset.nodata is None
        assert dataset.descriptions == tuple(f"Tessera_Band_{band}" for band in range(4))
        assert dataset.tags()["GEOTESSERA_SCALES"] == "m_scales.tif"
    with rasterio.open(scales_path(target)) as dataset:
        assert dataset.dtypes == ("float32",)
        assert dataset.nodata == np.inf


@pytest.mark.parametrize(
    "how",
    [
        {"crs": 3035, "resolution": None, "align": False},
        {"crs": 4326, "resolution": 0.0005, "bands": (3, 0, 3)},
        {"resolution": 35.0},
        {"resolution": 7.0, "method": "bilinear", "quantized": False, "bands": (1,)},
        {"clip": True, "crs": 3857, "resolution": 50.0},
    ],
    ids=["other-crs", "some-bands", "coarser", "bilinear", "clipped"],
)
def test_any_plan_is_written(tiny_world: SampleWorld, tmp_path: Path, how: Any) -> None:
    plan = plan_of(tiny_world, **how)
    write_mosaic(plan, tmp_path / "m.tif", format="cog")
    whole = render(plan)
    np.testing.assert_array_equal(pixels(tmp_path / "m.tif"), whole.values)
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert dataset.crs == plan.grid.crs
        assert tuple(dataset.transform)[:6] == pytest.approx(plan.grid.transform, rel=1e-14)


def test_scales_of_each_band_are_written(tmp_path: Path, tiny_world: SampleWorld) -> None:
    world = tiny_world.tiles[0]
    path = tmp_path / "scales.npy"
    scales = world.scales()[..., np.newaxis] * np.arange(1, 5, dtype=np.float32)
    np.save(path, scales)
    files = TileFiles(world.files.embedding, path, world.files.landmask)
    plan = plan_region([NpyTile(*files)], BOX, quantized=True, align=True)
    assert plan.scales_per_band
    write_mosaic(plan, tmp_path / "m.tif")
    whole = render(plan)
    np.testing.assert_array_equal(pixels(tmp_path / "m_scales.tif"), whole.scales)


def test_a_cog_is_laid_out_as_readers_expect(plan: MosaicPlan, tmp_path: Path) -> None:
    """What rio-cogeo and GDAL's own validator look at, by GDAL's account of the file."""
    write_mosaic(plan, tmp_path / "m.tif", format="cog")
    with rasterio.open(tmp_path / "m.tif") as dataset:
        levels = len(dataset.overviews(1))

        def offset(what: str, level: int) -> int:
            ovr = level if level >= 0 else None
            return int(dataset.get_tag_item(what, "TIFF", bidx=1, ovr=ovr) or 0)

        directories = [offset("IFD_OFFSET", level) for level in range(-1, levels)]
        assert directories == sorted(directories)
        assert directories[0] < 300
        blocks = [offset("BLOCK_OFFSET_0_0", level) for level in range(-1, levels)]
        assert blocks == sorted(blocks, reverse=True)
        assert directories[-1] < min(blocks)
        sizes = dict(block_ranges(dataset))
    data = (tmp_path / "m.tif").read_bytes()
    assert list(sizes) == sorted(sizes)  # row by row
    for at, size in sizes.items():
        assert int.from_bytes(data[at - 4 : at], "little") == size
        assert data[at + size : at + size + 4] == data[at + size - 4 : at + size]


def block_ranges(dataset: Any) -> list[tuple[int, int]]:
    found = []
    for row in range(-(-dataset.height // 256)):
        for column in range(-(-dataset.width // 256)):
            tag = f"BLOCK_OFFSET_{column}_{row}"
            size = f"BLOCK_SIZE_{column}_{row}"
            at = dataset.get_tag_item(tag, "TIFF", bidx=1)
            if at is not None:
                found.append((int(at), int(dataset.get_tag_item(size, "TIFF", bidx=1))))
    return found


def test_blocks_without_a_tile_take_no_room(tiny_world: SampleWorld, tmp_path: Path) -> None:
    plan = plan_of(tiny_world)
    grid = replace(plan.grid, width=plan.grid.width + 2000)
    wide = plan_region([one.descriptor for one in plan.rasters], BOX, like=grid, quantized=True)
    report = write_mosaic(wide, tmp_path / "m.tif", compress="none", overviews=False)
    assert report.empty == 8 * 5
    assert (report.written, report.blocks) == (10, 50)
    assert report.bytes < 11 * 256 * 256 * 8
    check_part = render(wide, Window(0, 0, plan.grid.height, plan.grid.width))
    np.testing.assert_array_equal(
        pixels(tmp_path / "m.tif")[:, : plan.grid.width], check_part.values
    )
    assert not pixels(tmp_path / "m.tif")[:, plan.grid.width + 300 :].any()
    assert np.isposinf(pixels(tmp_path / "m_scales.tif")[:, plan.grid.width + 300 :]).all()


def test_neither_jobs_nor_memory_nor_a_stop_change_a_byte_of_a_cog(
    plan: MosaicPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mosaic(plan, tmp_path / "a.tif", format="cog", jobs=1)
    monkeypatch.setattr(budget, "WINDOW_BYTES", 1)
    with pytest.raises(KeyboardInterrupt):
        write_mosaic(plan, tmp_path / "b" / "a.tif", format="cog", progress=interrupt_at(4))
    write_mosaic(plan, tmp_path / "b" / "a.tif", format="cog", jobs=5)
    for name in ("a.tif", "a_scales.tif"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_umask_decides_who_may_read(plan: MosaicPlan, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_mosaic(plan, tmp_path / "a.tif")
        write_mosaic(plan, tmp_path / "b.tif", format="cog")
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o640, path


@given(
    st.sampled_from(list(COMPRESSIONS)),
    st.sampled_from(["int8", "float32"]),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
def test_codecs_give_back_what_they_took(compress: str, dtype: str, bands: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (16, 32, bands * 4), dtype=np.uint8)
    block = noise.view(dtype)[..., :bands]
    codec = Codec.of(compress, np.dtype(dtype))
    data = codec.encode(block)
    found = codec.decode(bytes(data), block.shape, block.dtype)
    assert found.tobytes() == block.tobytes()
    half = codec.decode(bytes(data), block.shape, block.dtype, step=2)
    assert half.tobytes() == block[::2, ::2].tobytes()


# --- Stopped and gone on with -----------------------------------------------------------


def interrupt_at(blocks: int) -> Callable[..., None]:
    def progress(done: int, total: int, status: str) -> None:
        if done >= blocks:
            raise KeyboardInterrupt

    return progress


def stop_half_way(plan: MosaicPlan, target: Path, monkeypatch: Any, **how: Any) -> None:
    """Leave a mosaic of which some blocks are finished, a block a window."""
    with monkeypatch.context() as patched:
        patched.setattr(budget, "WINDOW_BYTES", 1)
        with pytest.raises(KeyboardInterrupt):
            write_mosaic(plan, target, progress=interrupt_at(5), **how)
    assert not target.exists()
    assert len(litter(target.parent)) == 3


@pytest.mark.parametrize("fmt", ["tiff", "cog"])
def test_a_stopped_run_is_gone_on_with(
    plan: MosaicPlan, whole: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fmt: Any
) -> None:
    target = tmp_path / "m.tif"
    stop_half_way(plan, target, monkeypatch, format=fmt)
    report = write_mosaic(plan, target, format=fmt)
    assert report.resumed >= 5
    assert report.resumed + report.written == 10
    check(target, whole)
    assert litter(tmp_path) == []


def test_without_resume_everything_is_made_again(
    plan: MosaicPlan, whole: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m.tif"
    stop_half_way(plan, target, monkeypatch)
    assert write_mosaic(plan, target, resume=False).written == 10
    check(target, whole)


@pytest.mark.parametrize("what", ["plan", "compression", "nonsense"])
def test_what_another_run_left_is_replaced(
    tiny_world: SampleWorld,
    plan: MosaicPlan,
    whole: Block,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    target = tmp_path / "m.tif"
    other = plan_of(tiny_world, crs=32635) if what == "plan" else plan
    compress = "none" if what == "compression" else "zstd"
    stop_half_way(other, target, monkeypatch, compress=compress)
    if what == "nonsense":
        (record,) = tmp_path.glob("*.jsonl")
        record.write_bytes(b"\xff\x00 what is this?\n[1]\n")
    report = write_mosaic(plan, target)
    assert (report.resumed, report.written) == (0, 10)
    check(target, whole)
    assert litter(tmp_path) == []


def test_blocks_that_were_lost_are_made_again(
    plan: MosaicPlan, whole: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m.tif"
    stop_half_way(plan, target, monkeypatch)
    (record,) = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in record.read_text().splitlines()[1:]]
    finished = len({tuple(line[1:4]) for line in lines if line[0] == 0})
    _, _, _, _, at, size, _ = next(line for line in lines if line[0] == 0)
    work = tmp_path / ".m.tif_tmp_mosaic.tif"
    data = bytearray(work.read_bytes())
    data[at + size // 2] ^= 1
    work.write_bytes(data)
    with record.open("ab") as file:
        file.write(b"[0,0,1")  # cut off
    report = write_mosaic(plan, target)
    assert report.resumed == finished - 1
    check(target, whole)


CHILD = """
import itertools, sys, time, pickle
from geotessera.mosaic import budget, write
plan = pickle.loads(bytes.fromhex(sys.stdin.read()))
made, numbers = write.render, itertools.count()
def slow(*args, **how):
    if next(numbers) >= 7:
        time.sleep(600)
    made(*args, **how)
write.render, budget.WINDOW_BYTES = slow, 1
write.write_mosaic(plan, sys.argv[1], format="cog")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are a POSIX thing")
def test_a_killed_process_is_gone_on_with(plan: MosaicPlan, whole: Block, tmp_path: Path) -> None:
    import pickle

    target = tmp_path / "m.tif"
    record = tmp_path / ".m.tif_tmp_mosaic.jsonl"
    line = [sys.executable, "-c", CHILD, str(target)]
    with subprocess.Popen(line, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.write(pickle.dumps(plan).hex().encode())
        child.stdin.close()
        until(
            lambda: record.exists() and record.read_bytes().count(b"\n") >= 6,
            lambda: child.poll() is None,
        )
        child.send_signal(signal.SIGKILL)
    assert not target.exists()
    report = write_mosaic(plan, target, format="cog")
    assert 0 < report.resumed < 10
    check(target, whole)
    assert litter(tmp_path) == []


def test_a_tile_that_fails_leaves_the_rest_for_the_next_run(
    tiny_world: SampleWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "WINDOW_BYTES", 1)
    world = tmp_path / "world"
    shutil.copytree(tiny_world.directory, world)
    known = Provenance(tiny_world.version, tiny_world.variant, 2024)
    tiles = [
        NpyTile(
            *(world / path.relative_to(tiny_world.directory) for path in one.files),
            georeference="snapped",
            provenance=known,
        )
        for one in tiny_world.tiles
    ]
    plan = plan_region(tiles, BOX, 32634, resolution=3, align=True, quantized=True)
    assert plan.digest == plan_of(tiny_world, resolution=3).digest  # wherever the tiles are
    embedding = tiles[1].embedding
    data = embedding.read_bytes()
    embedding.write_bytes(data[:1000])
    target = tmp_path / "out" / "m.tif"
    with pytest.raises(IncompleteMosaicError, match="truncated") as caught:
        write_mosaic(plan, target)
    assert caught.value.failed
    assert not target.exists()
    embedding.write_bytes(data)
    report = write_mosaic(plan, target)
    assert report.resumed > 0
    check(target, render(plan))


def test_two_processes_do_not_make_one_mosaic(plan: MosaicPlan, tmp_path: Path) -> None:
    target = tmp_path / "m.tif"
    record = Record(target, "somebody's")
    with pytest.raises(InputError, match="another process"):
        write_mosaic(plan, target)
    record.discard()
    write_mosaic(plan, target)


def test_the_old_mosaic_stays_until_the_new_one_is_whole(
    plan: MosaicPlan, whole: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m.tif"
    target.write_text("old")
    monkeypatch.setattr(budget, "WINDOW_BYTES", 1)
    with pytest.raises(KeyboardInterrupt):
        write_mosaic(plan, target, progress=interrupt_at(3))
    assert target.read_text() == "old"
    write_mosaic(plan, target)
    check(target, whole)


# --- Where it cannot go -----------------------------------------------------------------


def test_a_read_only_place_is_said_before_anything_is_made(
    plan: MosaicPlan, read_only_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "render", None)
    with pytest.raises(ReadOnlyError):
        write_mosaic(plan, read_only_directory / "m.tif")


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits")
@pytest.mark.parametrize("fmt", ["tiff", "cog"])
def test_a_full_disk_is_said_and_the_next_run_goes_on(
    plan: MosaicPlan, whole: Block, tmp_path: Path, fmt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(budget, "WINDOW_BYTES", 1)
    target = tmp_path / "m.tif"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(DiskFullError, match="has room"):
            write_mosaic(plan, target, format=fmt, compress="none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not target.exists()
    report = write_mosaic(plan, target, format=fmt, compress="none")
    assert report.resumed > 0
    check(target, whole)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"format": "png"}, "png"),
        ({"compress": "jpeg"}, "zstd, deflate, lzw, none"),
        ({"memory": 1 << 20}, "is too little for this mosaic, which needs"),
    ],
)
def test_options_that_cannot_be_used(
    plan: MosaicPlan, tmp_path: Path, how: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        write_mosaic(plan, tmp_path / "m.tif", **how)
    assert list(tmp_path.iterdir()) == []


def test_a_budget_that_is_too_small_says_which_is_not(
    plan: MosaicPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geotessera.mosaic.budget.resident", lambda: 123_456_789)
    with pytest.raises(InputError) as caught:
        write_mosaic(plan, tmp_path / "m.tif", memory=parse_size("100MB"))
    found = re.fullmatch(r"memory: 100 MB is too .* needs (\d+ MB)", str(caught.value))
    assert found is not None
    write_mosaic(plan, tmp_path / "m.tif", memory=parse_size(found[1]))


def test_a_directory_is_not_replaced_by_a_file(plan: MosaicPlan, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        write_mosaic(plan, tmp_path)


# --- The budget -------------------------------------------------------------------------

BUDGET = """
import sys, pickle
from pathlib import Path
from geotessera.mosaic.write import write_mosaic
plan = pickle.loads(bytes.fromhex(sys.stdin.read()))
write_mosaic(plan, sys.argv[1], format=sys.argv[2], memory=int(sys.argv[3]))
# Not `ru_maxrss`, which begins with what the parent had.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is told in other ways there")
@pytest.mark.parametrize("fmt", ["cog", "zarr"])
def test_the_budget_is_kept(tiny_world: SampleWorld, tmp_path: Path, fmt: str) -> None:
    import pickle

    # 20 times the bands make it 446 MB, and overviews another third.
    plan = plan_of(tiny_world, quantized=False, bands=[0, 1, 2, 3] * 20, resolution=5.0)
    assert plan.nbytes > 4e8
    target = tmp_path / ("m.zarr" if fmt == "zarr" else "m.tif")
    limit = 420_000_000
    done = subprocess.run(
        [sys.executable, "-c", BUDGET, str(target), fmt, str(limit)],
        input=pickle.dumps(plan).hex().encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) < limit
