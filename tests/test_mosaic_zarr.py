from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr

from geotessera.errors import InputError
from geotessera.mosaic import budget, plan_region, render, stores
from geotessera.mosaic import write as writing
from geotessera.mosaic.write import write_mosaic
from geotessera.sources import NpyTile
from geotessera.types import Provenance

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.mosaic import MosaicPlan
    from geotessera.testing import SampleWorld

BOX = (23.9, 83.6, 24.1, 83.7)


def plan_of(world: SampleWorld, *, quantized: bool = True, **how: Any) -> MosaicPlan:
    known = Provenance(world.version, world.variant, 2024)
    tiles = [NpyTile(*one.files, georeference="snapped", provenance=known) for one in world.tiles]
    how = {"crs": 32634, "resolution": 10, "align": True} | how
    return plan_region(tiles, BOX, quantized=quantized, **how)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 256 pixels: the mosaic has 2 × 5 of them."""
    monkeypatch.setattr(stores, "CHUNK_BYTES", 4 * 32 * 32)


@pytest.fixture(scope="module")
def plan(tiny_world: SampleWorld) -> MosaicPlan:
    return plan_of(tiny_world)


def check(path: Path, plan: MosaicPlan) -> None:
    """Compare a store with arrays, as zarr reads it."""
    whole = render(plan)
    group: Any = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(
        group["embeddings"][...], whole.values.transpose(2, 0, 1), strict=True
    )
    assert ("scales" in group) == plan.quantized
    if whole.scales is not None:
        scales = whole.scales if whole.scales.ndim == 2 else whole.scales.transpose(2, 0, 1)
        np.testing.assert_array_equal(group["scales"][...], scales, strict=True)


def litter(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"quantized": False},
        {"bands": (3, 0), "crs": 3035, "resolution": 20.0},
        {"crs": 4326, "resolution": None, "align": False, "clip": True},
    ],
    ids=["int8", "float32", "some-bands", "degrees"],
)
def test_a_store_holds_what_is_rendered(tiny_world: SampleWorld, tmp_path: Path, how: Any) -> None:
    plan = plan_of(tiny_world, **how)
    report = write_mosaic(plan, tmp_path / "m.zarr", format="zarr")
    check(tmp_path / "m.zarr", plan)
    assert report.paths == [tmp_path / "m.zarr"]
    assert report.bytes == sum(
        path.stat().st_size for path in (tmp_path / "m.zarr").rglob("*") if path.is_file()
    )
    assert litter(tmp_path) == []


def test_a_store_is_sharded_and_compressed(plan: MosaicPlan, tmp_path: Path) -> None:
    write_mosaic(plan, tmp_path / "m.zarr", format="zarr")
    metadata = json.loads((tmp_path / "m.zarr" / "embeddings" / "zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert metadata["data_type"] == "int8"
    assert metadata["dimension_names"] == ["band", "y", "x"]
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [4, 256, 256]
    (codec,) = metadata["codecs"]
    assert codec["name"] == "sharding_indexed"
    assert codec["configuration"]["chunk_shape"] == [4, 32, 32]
    scales = json.loads((tmp_path / "m.zarr" / "scales" / "zarr.json").read_text())
    assert scales["fill_value"] == "Infinity"
    shards = list((tmp_path / "m.zarr" / "embeddings" / "c").rglob("*"))
    assert len([path for path in shards if path.is_file()]) == 10


def test_xarray_finds_coordinates_and_the_crs(plan: MosaicPlan, tmp_path: Path) -> None:
    write_mosaic(plan, tmp_path / "m.zarr", format="zarr")
    with xr.open_zarr(tmp_path / "m.zarr") as dataset:
        left, _, _, top = plan.grid.bounds
        assert dataset.x.values[0] == left + 5
        assert dataset.y.values[0] == top - 5
        assert dataset.band.values.tolist() == [0, 1, 2, 3]
        # What rioxarray looks for.
        assert "spatial_ref" in dataset.embeddings.coords
        place = dataset[dataset.embeddings.attrs["grid_mapping"]].attrs
        assert rasterio.CRS.from_wkt(place["crs_wkt"]) == plan.grid.crs
        numbers = [float(word) for word in place["GeoTransform"].split()]
        assert rasterio.Affine.from_gdal(*numbers) == plan.grid.affine
        assert dataset.attrs["proj:code"] == "EPSG:32634"
        assert dataset.attrs["spatial:transform"] == list(plan.grid.transform)
        assert dataset.attrs["geotessera_mosaic_digest"] == plan.digest
        assert dataset.attrs["tessera_year"] == "2024"
        with np.errstate(invalid="ignore"):  # 0 · inf where there is nothing
            scaled = dataset.embeddings.load() * dataset.scales.load()
        whole = render(plan)
        valid = np.isfinite(np.asarray(whole.scales))
        assert valid.any()
        assert not valid.all()
        expected = render(plan_like_float(plan))
        np.testing.assert_array_equal(
            scaled.values[:, valid], expected.values.transpose(2, 0, 1)[:, valid]
        )


def plan_like_float(plan: MosaicPlan) -> MosaicPlan:
    from dataclasses import replace

    return replace(plan, quantized=False)


def interrupted(plan: MosaicPlan, target: Path, monkeypatch: Any) -> None:
    def progress(done: int, total: int, status: str) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(budget, "WINDOW_BYTES", 1)
        with pytest.raises(KeyboardInterrupt):
            write_mosaic(plan, target, format="zarr", progress=progress)
    assert len(litter(target.parent)) == 2


def test_a_stopped_run_is_gone_on_with(
    plan: MosaicPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m.zarr"
    interrupted(plan, target, monkeypatch)
    assert not target.exists()
    report = write_mosaic(plan, target, format="zarr")
    assert report.resumed >= 4
    assert report.resumed + report.written == 10
    check(target, plan)
    assert litter(tmp_path) == []


def test_what_another_plan_left_is_replaced(
    plan: MosaicPlan, tiny_world: SampleWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m.zarr"
    interrupted(plan_of(tiny_world, quantized=False), target, monkeypatch)
    assert write_mosaic(plan, target, format="zarr").resumed == 0
    check(target, plan)
    assert litter(tmp_path) == []


def test_shards_that_were_lost_are_made_again(
    plan: MosaicPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m.zarr"
    interrupted(plan, target, monkeypatch)
    work = tmp_path / ".m.zarr_tmp_mosaic"
    one, other = work / "embeddings/c/0/0/0", work / "scales/c/0/1"
    one.write_bytes(one.read_bytes()[:-100])
    other.unlink()
    write_mosaic(plan, target, format="zarr")
    check(target, plan)


def test_an_old_store_is_replaced_by_a_whole_one(
    plan: MosaicPlan, tiny_world: SampleWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m.zarr"
    old = plan_of(tiny_world, bands=[0])
    write_mosaic(old, target, format="zarr")
    with monkeypatch.context() as patched:
        patched.setattr(writing, "render", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_mosaic(plan, target, format="zarr")
    check(target, old)
    write_mosaic(plan, target, format="zarr")
    check(target, plan)
    assert litter(tmp_path) == []


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_no_store_is_not_replaced(plan: MosaicPlan, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "m.zarr"
    if kind == "file":
        target.write_text("mine")
    else:
        (target / "thesis").mkdir(parents=True)
    with pytest.raises(InputError, match="is no Zarr store"):
        write_mosaic(plan, target, format="zarr")
    assert target.exists()
    assert litter(tmp_path) == []
