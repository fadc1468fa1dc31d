"""Regions, and work on the next tiles while the caller is busy with one."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest
import shapely

from geotessera import GeoTessera
from geotessera.errors import DownloadError, InputError, NotFoundError, UnwritableDestination
from geotessera.layout import local_tile_files
from geotessera.remote.ahead import work_ahead
from geotessera.testing.server import Fault, LoopbackServer
from waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import SampleWorld

BOX = (23.91, 83.61, 24.09, 83.69)


def complete(directory: Path, tile: Any) -> bool:
    return all(path.is_file() for path in local_tile_files(directory, tile))


@pytest.mark.parametrize(
    ("region", "tiles"),
    [
        (BOX, 2),
        ("23.91,83.61,24.09,83.69", 2),
        (shapely.box(23.91, 83.61, 23.99, 83.69), 1),
        (shapely.Point(24.05, 83.65), 1),
        ("Iceland", 0),
    ],
)
def test_regions_of_every_kind(
    region: Any, tiles: int, tiny_world: SampleWorld, tmp_path: Path
) -> None:
    gt = GeoTessera(base_url=tiny_world.root(), cache_dir=tmp_path / "cache")
    report = gt.download_region(region, 2024, tmp_path / "out", jobs=2)
    assert len(report.complete) == tiles
    assert len(report.files) == 3 * tiles
    assert report.bytes == sum(path.stat().st_size for path in report.files)
    assert all(complete(tmp_path / "out", tile) for tile in report.complete)
    again = gt.download_region(region, 2024, tmp_path / "out")
    assert (len(again.complete), again.files) == (tiles, [])
    fresh = gt.download_region(region, 2024, tmp_path / "out", refresh=True)
    assert len(fresh.files) == 3 * tiles


@pytest.mark.parametrize("region", [None, 5, "Atlantis", (1, 2, 3), {"a": 1}])
def test_what_is_no_region_is_said(region: Any, tiny_world: SampleWorld, tmp_path: Path) -> None:
    gt = GeoTessera(base_url=tiny_world.root(), cache_dir=tmp_path / "cache")
    with pytest.raises(InputError):
        gt.download_region(region, 2024, tmp_path / "out")


def test_one_bad_tile_never_ends_the_batch(tiny_world: SampleWorld, tmp_path: Path) -> None:
    bad = tiny_world.tiles[0].tile
    with LoopbackServer(tiny_world.root()) as server:
        server.add(Fault("status", f"*grid_{bad.lon:.2f}_*_scales.npy", status=404))
        gt = GeoTessera(
            base_url=server.url, cache_dir=tmp_path / "cache", embeddings_dir=tmp_path / "out"
        )
        with pytest.raises(DownloadError, match="1 of 2 tiles") as caught:
            gt.download_region(BOX, 2024)
        report = pickle.loads(pickle.dumps(caught.value)).report
        assert [*report.failed] == [bad]
        assert isinstance(report.failed[bad], NotFoundError)
        assert len(report.complete) == 1
        assert complete(tmp_path / "out", report.complete[0])
        server.clear()
        assert len(gt.download_region(BOX, 2024).complete) == 2


def test_a_place_that_cannot_be_written_stops_at_once(
    tiny_world: SampleWorld, tmp_path: Path
) -> None:
    gt = GeoTessera(base_url=tiny_world.root(), cache_dir=tmp_path / "cache")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnwritableDestination):
        gt.download_region(BOX, 2024, tmp_path / "file")


# --- Working ahead ----------------------------------------------------------------------------


def test_work_is_lazy_bounded_and_in_order() -> None:
    begun: list[int] = []
    taken: list[int] = []

    def items() -> Any:
        for number in range(6):
            taken.append(number)
            yield number

    ahead = work_ahead(items(), lambda item, stop: begun.append(item), 2)
    assert taken == []
    seen = []
    for item, error in ahead:
        assert error is None
        assert max(taken) <= item + 2
        seen.append(item)
    assert seen == sorted(begun) == list(range(6))


def test_an_error_comes_with_its_item_and_not_before() -> None:
    def work(item: int, stop: threading.Event) -> None:
        if item == 1:
            raise ValueError("one")

    ahead = work_ahead(range(5), work)
    assert next(ahead) == (0, None)
    item, error = next(ahead)
    assert item == 1
    assert isinstance(error, ValueError)
    assert list(ahead) == []


def test_what_the_items_raise_comes_after_the_items_before() -> None:
    def items() -> Any:
        yield 0
        yield 1
        raise KeyError("two")

    ahead = work_ahead(items(), lambda item, stop: None)
    assert [next(ahead)[0], next(ahead)[0]] == [0, 1]
    with pytest.raises(KeyError, match="two"):
        next(ahead)


def test_closing_stops_the_work() -> None:
    stopped = threading.Event()

    def work(item: int, stop: threading.Event) -> None:
        if item and stop.wait(PATIENCE):
            stopped.set()

    ahead = work_ahead(range(5), work)
    next(ahead)
    ahead.close()
    assert stopped.is_set()
    assert not [t for t in threading.enumerate() if t.name == "geotessera-ahead"]
