"""Georeferences: our header reader against GDAL on files that GDAL writes."""

from __future__ import annotations

import itertools
import math
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from geotessera.errors import FormatError, InputError
from geotessera.sources import read_georeference, read_mask, tiff
from geotessera.sources.landmask import snap
from geotessera.types import GridSpec, Window

UNSNAPPED = Affine(10, 0, 301822.8625648598, 0, -10, 5798366.72759813)


def write(
    path: Path, crs: Any = 32631, transform: Affine | None = UNSNAPPED, **options: Any
) -> Path:
    profile = {"driver": "GTiff", "height": 40, "width": 30, "count": 1, "dtype": "uint8"}
    if transform is not None:
        profile["transform"] = transform
    with rasterio.open(path, "w", **profile | {"crs": crs} | options) as dataset:
        dataset.write(np.ones((dataset.count, 40, 30), dataset.dtypes[0]))
    return path


def oracle(path: Path) -> tuple[CRS, tuple[float, ...], tuple[int, int], int]:
    with rasterio.open(path) as dataset:
        return dataset.crs, tuple(dataset.transform)[:6], dataset.shape, dataset.count


def agrees(path: Path) -> None:
    header = tiff.read_header(path)
    crs, transform, shape, count = oracle(path)
    assert header.grid.crs == crs
    assert header.grid.transform == transform
    assert (header.grid.height, header.grid.width) == shape
    assert header.band_count == count


def is_plain(path: Path) -> bool:
    try:
        tiff._read_plain(path)
    except tiff._NotPlain:
        return False
    return True


PLAIN = {
    f"{epsg} {order} {'big' if big == 'YES' else 'classic'} {compress}": {
        "crs": CRS.from_epsg(epsg),
        "endianness": order,
        "bigtiff": big,
        "compress": compress,
    }
    for epsg, order, big, compress in itertools.product(
        (32601, 32631, 32660, 32701, 32760), ("LITTLE", "BIG"), ("YES", "NO"), ("lzw", "none")
    )
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_files_need_no_gdal(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "mask.tiff", **PLAIN[name])
    assert is_plain(path)
    agrees(path)


@pytest.mark.parametrize(
    "options",
    [
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"count": 128, "dtype": "float32", "interleave": "pixel", "nodata": float("nan")},
        {"count": 3, "interleave": "band"},
        {"driver": "COG"},
        {"transform": Affine(10, 0, -5.25, 0, -10, 1e7)},
        {"transform": Affine(10, 3, 500000, 2, -10, 5e6)},
        {"transform": Affine(10, 0, 500000, 0, 10, 5e6)},
        {"transform": Affine(20, 0, 500000, 0, -10, 5e6)},
    ],
)
def test_plain_variants(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write(tmp_path / "mask.tiff", **{"crs": CRS.from_epsg(32631), **options})
    agrees(path)


@pytest.mark.parametrize("crs", [3035, 4326, 3857, 2154, 25832, 5514])
def test_other_crs(tmp_path: Path, crs: int) -> None:
    path = write(tmp_path / "mask.tiff", CRS.from_epsg(crs))
    assert not is_plain(path)
    agrees(path)
    assert read_georeference(path).epsg == crs


@pytest.mark.parametrize(
    "definition",
    [
        "+proj=tmerc +lat_0=0 +lon_0=5.7 +k=0.9996 +x_0=500000 +datum=WGS84 +units=m",
        "+proj=laea +lat_0=10 +lon_0=-81 +datum=WGS84 +units=m",
        "+proj=utm +zone=31 +ellps=intl +units=m",
    ],
)
def test_user_defined_crs(tmp_path: Path, definition: str) -> None:
    path = write(tmp_path / "mask.tiff", CRS.from_proj4(definition))
    agrees(path)
    assert isinstance(read_georeference(path).epsg_or_wkt, str)


def test_pixel_is_point(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.tiff", CRS.from_epsg(32631))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
    agrees(path)
    assert read_georeference(path).transform == tuple(UNSNAPPED)[:6]


def test_sidecar_overrides(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.tiff", CRS.from_epsg(32631))
    Path(f"{path}.aux.xml").write_text("<PAMDataset><SRS>EPSG:32632</SRS></PAMDataset>")
    assert oracle(path)[0] == CRS.from_epsg(32632)
    agrees(path)


@given(
    x=st.floats(-1e6, 2e6).map(lambda value: round(value, 6)),
    y=st.floats(0, 1e7).map(lambda value: round(value, 6)),
    zone=st.integers(1, 60),
    south=st.booleans(),
)
def test_any_corner(tmp_path_factory: Any, x: float, y: float, zone: int, south: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "any_corner.tiff"
    epsg = 32600 + 100 * south + zone
    write(path, CRS.from_epsg(epsg), Affine(10, 0, x, 0, -10, y))
    agrees(path)
    grid = read_georeference(path)
    snapped = snap(grid)
    assert snapped.transform[2] % 10 == 0
    assert snapped.transform[5] % 10 == 0
    # The stores' rule, for a zone whose origin is a multiple of 10 m.
    west, north = -(10**7), 2 * 10**7
    col, row = (snapped.transform[2] - west) / 10, (north - snapped.transform[5]) / 10
    assert (col, row) == (
        math.floor(Fraction(x) / 10) - west // 10,
        math.floor((north - Fraction(y)) / 10),
    )


def test_snap_by_hand() -> None:
    grid = GridSpec(32631, tuple(UNSNAPPED)[:6], 40, 30)  # type: ignore[arg-type]
    assert snap(grid).transform == (10, 0, 301820, 0, -10, 5798370)
    assert snap(snap(grid)) == snap(grid)
    # A corner just west of a multiple goes a whole pixel west: floor, not round.
    near = GridSpec(32631, (10, 0, 309999.9, 0, -10, 5798360.1), 40, 30)
    assert snap(near).transform == (10, 0, 309990, 0, -10, 5798370)


def test_snapping_needs_north_up_pixels() -> None:
    with pytest.raises(InputError, match="10 m"):
        snap(GridSpec(32631, (20, 0, 0, 0, -20, 0), 4, 4))


def test_unknown_georeference(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="snapped"):
        read_georeference(tmp_path, "nearest")  # type: ignore[arg-type]


# --- Hostile files -----------------------------------------------------------------------


def test_no_crs(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.tiff", None)
    with pytest.raises(RuntimeError, match="has no CRS") as caught:
        read_georeference(path)
    assert isinstance(caught.value, FormatError)


def test_no_transform(tmp_path: Path) -> None:
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write(tmp_path / "mask.tiff", CRS.from_epsg(32631), None)
    with pytest.raises(FormatError, match="no georeference"):
        read_georeference(path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_georeference(tmp_path / "none.tiff")
    with pytest.raises(FileNotFoundError):
        read_mask(tmp_path / "none.tiff")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"II*\0",
        b"<html>404</html>" * 20,
        b"\x89PNG\r\n\x1a\n" + bytes(64),
        b"II*\0" + struct.pack("<I", 2**32 - 1) + bytes(100),
        b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(100),
        b"MM\0+" + struct.pack(">HHQ", 8, 0, 2**63) + bytes(100),
        b"II+\0" + struct.pack("<HHQ", 8, 0, 2**64 - 1) + bytes(100),
    ],
)
def test_not_a_tiff(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mask.tiff"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"mask\.tiff"):
        read_georeference(path)


def test_flipped_bytes_never_crash(tmp_path: Path) -> None:
    whole = write(tmp_path / "mask.tiff", CRS.from_epsg(32631)).read_bytes()
    rng = np.random.default_rng(5)
    path = tmp_path / "flipped.tiff"
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(0, min(len(damaged), 600), 3):
            damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            tiff._read_plain(path)
        except tiff._NotPlain:
            continue


def test_read_mask(tmp_path: Path) -> None:
    path = tmp_path / "mask.tiff"
    write(path, CRS.from_epsg(32631))
    mask = np.random.default_rng(0).integers(0, 2, (40, 30), np.uint8)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(mask, 1)
    np.testing.assert_array_equal(read_mask(path), mask)
    np.testing.assert_array_equal(read_mask(path, Window(3, 4, 5, 6)), mask[3:8, 4:10])
    write(path, CRS.from_epsg(32631), dtype="float32")
    with pytest.raises(FormatError, match="one uint8 band"):
        read_mask(path)
