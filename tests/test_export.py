"""Exported GeoTIFFs, re-read by rasterio and compared with plain NumPy bit for bit."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio

from geotessera import GeoTessera
from geotessera.errors import BandError, InputError, UnwritableDestination
from geotessera.export import check_export_options, compressions, export_tile, record_export
from geotessera.remote.records import FileRecords
from geotessera.sources import GeoTiff, NpyTile

if TYPE_CHECKING:
    from geotessera.testing import SampleWorld, WorldTile


@pytest.fixture(scope="module")
def truth(tiny_world: SampleWorld) -> WorldTile:
    return tiny_world.tiles[0]


def bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array).view(np.uint32)


@pytest.mark.parametrize("compress", compressions())
def test_bit_for_bit(truth: WorldTile, tmp_path: Path, compress: str) -> None:
    path = export_tile(
        NpyTile(*truth.files).open(), tmp_path / "a" / "b.tiff", compress=compress.upper()
    )
    expected = np.moveaxis(truth.embedding(), 2, 0)
    assert np.isnan(expected).any()
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(bits(dataset.read()), bits(expected))
        found = dataset.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "NONE")
        assert found == compress.upper()


def test_profile_and_tags(truth: WorldTile, tmp_path: Path) -> None:
    path = export_tile(
        NpyTile(*truth.files).open(),
        tmp_path / "tile.tiff",
        tile=truth.tile,
        dataset=("1.1", "cambridge"),
        bands=[3, np.int64(0)],
        tags={"NOTE": "kept"},
    )
    with rasterio.open(path) as dataset:
        profile = dataset.profile
        np.testing.assert_array_equal(
            bits(dataset.read()), bits(np.moveaxis(truth.embedding()[..., [3, 0]], 2, 0))
        )
        assert dataset.descriptions == ("Tessera_Band_3", "Tessera_Band_0")
        tags = dataset.tags()
    with rasterio.open(truth.files.landmask) as landmask:
        assert profile["crs"] == landmask.crs
        assert profile["transform"] == landmask.transform
    assert np.isnan(profile.pop("nodata"))
    assert {key: profile[key] for key in profile if key not in ("crs", "transform")} == {
        "driver": "GTiff",
        "dtype": "float32",
        "width": 180,
        "height": 1121,
        "count": 2,
        "blockxsize": 256,
        "blockysize": 256,
        "tiled": True,
        "compress": "lzw",
        "interleave": "pixel",
    }
    assert tags.pop("GEOTESSERA_VERSION")
    assert tags == {
        "AREA_OR_POINT": "Area",
        "NOTE": "kept",
        "TESSERA_DATASET_VERSION": "1.1",
        "TESSERA_DATASET_VERSION_PATH": "v1.1",
        "TESSERA_DATASET_VARIANT": "cambridge",
        "GEOTESSERA_SOURCE_BANDS": "4",
        "TESSERA_YEAR": "2024",
        "TESSERA_TILE_LAT": "83.65",
        "TESSERA_TILE_LON": "23.95",
        "TESSERA_DESCRIPTION": "GeoTessera satellite embedding tile",
    }


def test_geotiff_again(truth: WorldTile, tmp_path: Path) -> None:
    first = export_tile(NpyTile(*truth.files).open(), tmp_path / "a.tiff", tile=truth.tile)
    again = export_tile(GeoTiff(first).open(), tmp_path / "b.tiff", bands=[2])
    with rasterio.open(again) as dataset:
        np.testing.assert_array_equal(bits(dataset.read(1)), bits(truth.embedding()[..., 2]))
        assert dataset.tags()["TESSERA_YEAR"] == "2024"


def test_cog(truth: WorldTile, tmp_path: Path) -> None:
    source = NpyTile(*truth.files).open()
    path = export_tile(source, tmp_path / "cog.tif", tile=truth.tile, bands=[1, 0], cog=True)
    expected = np.moveaxis(truth.embedding()[..., [1, 0]], 2, 0)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(bits(dataset.read()), bits(expected))
        structure = dataset.tags(ns="IMAGE_STRUCTURE")
        assert structure["LAYOUT"] == "COG"
        assert structure["COMPRESSION"] == "LZW"
        assert dataset.overviews(1)
        assert dataset.descriptions == ("Tessera_Band_1", "Tessera_Band_0")
        assert dataset.tags()["TESSERA_YEAR"] == "2024"
        assert dataset.block_shapes == [(256, 256)] * 2
    with rasterio.open(path, overview_level=0) as overview:  # embeddings, not averages
        assert np.isin(bits(overview.read(1)), bits(expected[0])).all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["cog.tif"]


def test_compression_is_checked_first(truth: WorldTile, tmp_path: Path) -> None:
    for name in ("zip", "jpeg", "", "webp", None):
        with pytest.raises(InputError, match=r"deflate.*lzw"):
            export_tile(
                NpyTile(*truth.files).open(),
                tmp_path / "x.tif",
                compress=name,  # type: ignore[arg-type]
            )
    assert list(tmp_path.iterdir()) == []
    assert {"none", "lzw", "deflate"} <= set(compressions())


@pytest.mark.parametrize("bands", [[-1], [0, 4], [1.0], [], [np.int64(-3)], [True, "a"]])
def test_bands_are_checked_first(truth: WorldTile, tmp_path: Path, bands: list[Any]) -> None:
    with pytest.raises(BandError) as caught:
        export_tile(NpyTile(*truth.files).open(), tmp_path / "x.tif", bands=bands)
    assert isinstance(caught.value, IndexError)
    assert list(tmp_path.iterdir()) == []


def test_options_without_a_raster() -> None:
    check_export_options(bands=[0, 500, np.int8(3)], compress="LZW", cog=True)
    with pytest.raises(BandError, match="negative"):
        check_export_options(bands=[-1])


def test_umask(truth: WorldTile, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = export_tile(NpyTile(*truth.files).open(), tmp_path / "m.tif", bands=[0])
        cog = export_tile(NpyTile(*truth.files).open(), tmp_path / "c.tif", bands=[0], cog=True)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    assert cog.stat().st_mode & 0o777 == 0o640


def test_failure_leaves_what_was_there(
    truth: WorldTile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "kept.tif"
    target.write_bytes(b"old")
    source = NpyTile(*truth.files).open()
    reads = iter([source.read, source.read])

    def read(*args: Any) -> Any:
        try:
            return next(reads)(*args)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(source, "read", read)
    for cog in (False, True):
        with pytest.raises(KeyboardInterrupt):
            export_tile(source, target, cog=cog)
    assert target.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.tif"]


def test_unwritable(truth: WorldTile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnwritableDestination):
        export_tile(NpyTile(*truth.files).open(), tmp_path / "file" / "x.tif")


# --- Records ------------------------------------------------------------------------------


def recorded(directory: Path, path: Path) -> str | None:
    entry = FileRecords(directory).load().get(path.relative_to(directory).as_posix())
    return None if entry is None else entry.sha256


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_export_into_a_tile_directory_is_recorded(
    tiny_world: SampleWorld, tmp_path: Path
) -> None:
    one = tiny_world.tiles[0].tile
    tiles = tiny_world.checkout(tmp_path / "tiles")
    client = GeoTessera(
        base_url=tiny_world.root(), cache_dir=tmp_path / "cache", embeddings_dir=tiles
    )
    for bands in ([0], [1]):  # the second time over the first
        (path,) = map(Path, client.export_embedding_geotiffs([one], tiles, bands=bands))
        assert recorded(tiles, path) == sha256(path)
    for bands in ([2], [0]):
        client.export_embedding_geotiff(one.lon, one.lat, path, bands=bands)
        assert recorded(tiles, path) == sha256(path)
    elsewhere = tmp_path / "elsewhere"
    (path,) = map(Path, client.export_embedding_geotiffs([one], elsewhere, bands=[0]))
    assert recorded(elsewhere, path) == sha256(path)


def test_an_export_outside_of_tile_directories_leaves_nothing_beside_it(
    tiny_world: SampleWorld, tmp_path: Path
) -> None:
    one = tiny_world.tiles[0].tile
    tiles = tiny_world.checkout(tmp_path / "tiles")
    client = GeoTessera(
        base_url=tiny_world.root(), cache_dir=tmp_path / "cache", embeddings_dir=tiles
    )
    client.export_embedding_geotiff(one.lon, one.lat, tmp_path / "maps" / "mine.tif", bands=[0])
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["mine.tif"]
    assert not (tmp_path / ".geotessera").exists()


def test_a_file_that_cannot_be_recorded_is_good_nevertheless(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".geotessera").write_text("in the way")
    path = tmp_path / "a.tif"
    path.write_bytes(b"good")
    record_export(path)
    assert "could not be recorded" in caplog.text
