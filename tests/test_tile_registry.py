"""The registry of a repository's tiles, against the rows that were written."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest

from geotessera.errors import InputError, RegistryError, UnreachableError
from geotessera.icechunk import TileRegistry
from geotessera.remote.objects import s3 as objects_s3
from geotessera.testing.tile_registry import write_tile_registry
from geotessera.types import GridSpec

SIDE = 64


def grid(epsg, left, top, height=5 * SIDE, width=5 * SIDE):
    return GridSpec(epsg, (10.0, 0.0, float(left), 0.0, -10.0, float(top)), height, width)


GROUPS = {
    "01S": grid(32701, 179_000, 8_120_000),  # at 180°
    "60S": grid(32760, 817_500, 8_120_000),
    "30N": grid(32630, 704_500, 5_760_000),  # at 0°
    "31N": grid(32631, 292_500, 5_760_000),
    "37N": grid(32637, 500_000, 1_600),  # on the equator
    "37S": grid(32737, 500_000, 10_001_600),
    "33N": grid(32633, 500_000, 9_000_000),  # at 81° N
}
YEARS = (2022, 2023)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp("registry") / "dclimate.registry" / "parts"
    return path, write_tile_registry(path, GROUPS, YEARS, tile_px=SIDE)


def expected(rows, box=None, year=None):
    """Return (zone, year, tile) of rows that touch a box, by intervals of longitude."""

    def intervals(west, east):
        return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]

    found = []
    for row in rows:
        if year is not None and row["year"] != year:
            continue
        if box is not None:
            if row["bbox_south"] > box[3] or row["bbox_north"] < box[1]:
                continue
            own = intervals(row["bbox_west"], row["bbox_east"])
            if not any(a <= d and c <= b for a, b in own for c, d in intervals(box[0], box[2])):
                continue
        found.append((row["zone"], row["year"], row["tile"]))
    return sorted(found)


def names(frame):
    return list(zip(frame["zone"], frame["year"], frame["tile"], strict=True))


def test_everything(world):
    path, rows = world
    registry = TileRegistry(path)
    assert registry.url == str(path)
    assert registry.years() == list(YEARS)
    parts = registry.parts()
    assert len(parts) == len(GROUPS) * len(YEARS) * 2
    assert parts == sorted(parts)
    assert parts[0][:3] == ("01", "S", 2022)
    frame = registry.tiles()
    assert names(frame) == expected(rows)
    assert list(frame.columns) == list(rows[0])
    assert frame.index.tolist() == list(range(len(rows)))
    assert frame.dtypes["year"] == np.int64
    assert frame.dtypes["embedded"] == np.bool_
    wanted = {(row["zone"], row["year"], row["tile"]): row for row in rows}
    for row in frame.to_dict("records"):
        known = wanted[row["zone"], row["year"], row["tile"]]
        for key, value in known.items():
            if value is None:
                assert np.isnan(row[key])
            else:
                assert row[key] == value, key
    assert any(row["run_id"] == "run-a" for row in rows)
    assert any(row["run_id"] == "run-b" for row in rows)


BOXES = [
    (0.0, 51.9, 0.02, 51.95),  # zones 30 and 31
    (-0.01, 51.9, 0.0, 52.0),
    (179.99, -17.2, 180.0, -16.9),
    (-180.0, -17.2, -179.95, -16.9),
    (179.9, -17.2, -179.9, -16.9),  # across ±180°
    (39.0, -0.005, 39.01, -0.004),
    (39.0, 0.001, 39.01, 0.002),
    (39.0, -0.01, 39.01, 0.01),
    (15.02, 81.04, 15.03, 81.05),
    (-180.0, -90.0, 180.0, 90.0),
    (39.005, 0.001, 39.005, 0.001),  # a point
]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("year", [None, 2023])
def test_boxes(world, box, year):
    path, rows = world
    wanted = expected(rows, box, year)
    assert wanted
    assert names(TileRegistry(path).tiles(bbox=box, year=year)) == wanted


def test_random_boxes(world):
    path, rows = world
    registry, rng = TileRegistry(path), np.random.default_rng(0)
    found = 0
    for _ in range(60):
        row = rows[rng.integers(len(rows))]
        lon = row["bbox_west"] + rng.uniform(-0.05, 0.05)
        lat = row["bbox_south"] + rng.uniform(-0.05, 0.05)
        west, east = ((x + 180) % 360 - 180 for x in (lon, lon + rng.uniform(0, 0.05)))
        box = west, lat, east, lat + rng.uniform(0, 0.05)
        wanted = expected(rows, box, row["year"])
        assert names(registry.tiles(bbox=box, year=row["year"])) == wanted
        found += len(wanted)
    assert found > 50


def test_nothing_there(world):
    registry = TileRegistry(world[0])
    for frame in (registry.tiles(year=1999), registry.tiles(bbox=(100, 10, 101, 11))):
        assert len(frame) == 0
        assert list(frame.columns) == ["zone", "year", "tile"]


def test_only_parts_that_may_hold_something_are_read(world):
    told = []
    registry = TileRegistry(world[0])
    registry.tiles(
        bbox=(39.0, 1.0, 39.1, 1.1), year=2022, progress_callback=lambda *a: told.append(a)
    )
    assert told == [(1, 2, "Reading 37N 2022"), (2, 2, "Reading 37N 2022")]
    told.clear()
    registry.tiles(year=2023, progress_callback=lambda *a: told.append(a))
    assert told[-1][:2] == (2 * len(GROUPS), 2 * len(GROUPS))


def test_threads(world):
    path, rows = world
    registry, found = TileRegistry(path), []
    threads = [
        threading.Thread(target=lambda: found.append(names(registry.tiles(year=2023))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected(rows, year=2023)] * 4


@pytest.mark.parametrize("box", [(0, 1), (0, 2, 1, 1), (0, np.nan, 1, 1), (0, 0, 400, 1), "a box"])
def test_boxes_that_cannot_be(world, box):
    with pytest.raises(InputError, match="bbox"):
        TileRegistry(world[0]).tiles(bbox=box)


def test_locations(world, tmp_path, monkeypatch):
    path, _ = world
    monkeypatch.chdir(path.parent)
    assert TileRegistry("parts").years() == list(YEARS)
    assert TileRegistry(path.as_uri()).years() == list(YEARS)
    with pytest.raises(RegistryError, match="no tile registry"):
        TileRegistry(tmp_path / "nothing").years()
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        TileRegistry("https://host/parts")


def test_damage(world, tmp_path):
    shutil.copytree(world[0], tmp_path / "parts")
    broken = next((tmp_path / "parts").glob("zone=31N/year=2022/*.parquet"))
    broken.write_bytes(broken.read_bytes()[:-50])
    registry = TileRegistry(tmp_path / "parts")
    assert len(registry.tiles(year=2023))
    with pytest.raises(RegistryError, match=broken.name):
        registry.tiles(year=2022)


# --- In a bucket -------------------------------------------------------------------------


@pytest.fixture
def bucket(world, tmp_path, monkeypatch):
    """Put the registry into a bucket that is a directory."""
    from obstore.store import LocalStore

    directory = tmp_path / "bucket"
    shutil.copytree(world[0], directory / "v9" / "parts")
    store = LocalStore(str(directory))
    monkeypatch.setattr(objects_s3.S3Reader, "_opened", lambda self: store)
    return directory


def test_parts_of_a_bucket_are_kept(world, bucket, tmp_path):
    path, rows = world
    cache = tmp_path / "cache"
    box = BOXES[0]
    registry = TileRegistry("s3://somewhere/v9/parts/", cache_dir=cache)
    assert registry.url == "s3://somewhere/v9/parts"
    assert registry.parts()[0].key.startswith("v9/parts/zone=01S/year=2022/")
    assert names(registry.tiles(bbox=box, year=2022)) == expected(rows, box, 2022)
    kept = cache / "tile-registry" / "somewhere" / "v9" / "parts"
    copies = sorted(one.relative_to(kept) for one in kept.rglob("*") if one.is_file())
    assert len(copies) == 4  # two runs of two zones
    assert all((kept / one).read_bytes() == (path / one).read_bytes() for one in copies)
    shutil.rmtree(bucket / "v9" / "parts" / "zone=31N" / "year=2022")
    (bucket / "v9" / "parts" / "zone=31N" / "year=2022").mkdir()
    again = TileRegistry("s3://somewhere/v9/parts", cache_dir=cache)
    again._parts = registry.parts()
    assert names(again.tiles(bbox=box, year=2022)) == expected(rows, box, 2022)


def test_a_damaged_copy_is_fetched_again(world, bucket, tmp_path, caplog):
    rows = world[1]
    wanted = expected(rows, BOXES[0], 2022)
    for _ in range(2):
        registry = TileRegistry("s3://somewhere/v9/parts", cache_dir=tmp_path / "cache")
        assert names(registry.tiles(bbox=BOXES[0], year=2022)) == wanted
        copy = next((tmp_path / "cache").rglob("*.parquet"))
        copy.write_bytes(b"PAR1")
    assert "fetched again" in caplog.text


def test_without_a_network_what_is_kept_is_used(world, bucket, tmp_path, caplog, monkeypatch):
    rows = world[1]
    cache = tmp_path / "cache"
    TileRegistry("s3://somewhere/v9/parts", cache_dir=cache).tiles(bbox=BOXES[0], year=2022)

    def unreachable(self, prefix=""):
        raise UnreachableError("no network")

    monkeypatch.setattr(objects_s3.S3Reader, "keys", unreachable)
    registry = TileRegistry("s3://somewhere/v9/parts", cache_dir=cache)
    assert names(registry.tiles(bbox=BOXES[0], year=2022)) == expected(rows, BOXES[0], 2022)
    assert "are used" in caplog.text
    with pytest.raises(UnreachableError):
        TileRegistry("s3://somewhere/v9/parts", cache_dir=tmp_path / "another").years()


def test_the_default_cache_is_the_users(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    TileRegistry("s3://somewhere/v9/parts").tiles(bbox=BOXES[0], year=2022)
    assert (tmp_path / "xdg/geotessera/tile-registry/somewhere/v9/parts/zone=31N").is_dir()
