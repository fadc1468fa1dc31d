"""A map's directory, run after run: what is damaged comes back, and what is left over goes."""

from __future__ import annotations

import json
import os
import shutil
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geotessera.errors import InputError
from geotessera.webmap import build_tiles
from geotessera.webmap.note import Note

if TYPE_CHECKING:
    from pathlib import Path

ZOOMS = (9, 14)


def write(path: Path, seed: int = 0, side: int = 200) -> Path:
    pixels = np.random.default_rng(seed).integers(1, 256, (3, side, side), np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=side, width=side, dtype="uint8",
        crs="EPSG:32633", transform=from_origin(500_000, 5_150_000, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    return path


def contents(directory: Path) -> dict[str, bytes]:
    found = (one for one in directory.rglob("*") if one.is_file() and not one.name.startswith("."))
    return {one.relative_to(directory).as_posix(): one.read_bytes() for one in found}


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Return a picture and where its map is, which is made."""
    picture, out = write(tmp_path / "picture.tif"), tmp_path / "map"
    how: dict[str, Any] = {
        "zooms": ZOOMS, "record": out / "tiles.json", "packs": out / "tiles.js",
        "archive": out / "tiles.pmtiles",
    }  # fmt: skip
    build_tiles(picture, out / "tiles", **how)
    return picture, how


# --- Damage ------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "lost"])
@pytest.mark.parametrize("which", ["14", "12", "9"])
@pytest.mark.parametrize("touched", [False, True])
def test_a_damaged_tile_is_made_again(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, damage: str, which: str, touched: bool
) -> None:
    picture, how = made
    whole = contents(tmp_path / "map")
    tile = next((tmp_path / "map/tiles" / which).rglob("*.png"))
    before = tile.stat()
    data = bytearray(tile.read_bytes())
    data[len(data) // 2] ^= 255
    cut = {"empty": b"", "cut": tile.read_bytes()[:-9], "changed": bytes(data), "lost": b""}
    tile.write_bytes(cut[damage])
    if damage == "lost":
        tile.unlink()
    elif damage != "changed":  # a size tells it, whatever the times
        os.utime(tile, ns=(before.st_atime_ns, before.st_mtime_ns))
    if touched:  # the picture is read, and not trusted
        os.utime(picture)
    report = build_tiles(picture, tmp_path / "map/tiles", **how)
    assert report.written == 1
    found = contents(tmp_path / "map")
    if touched:  # its time is another
        whole.pop("tiles.json"), found.pop("tiles.json")
    assert found == whole


@pytest.mark.parametrize("name", ["tiles.pmtiles", "tiles.js/14"])
def test_a_truncated_archive_and_pack_are_made_again(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, name: str
) -> None:
    picture, how = made
    whole = contents(tmp_path / "map")
    path = tmp_path / "map" / name
    path = path if path.is_file() else next(path.iterdir())
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)
    build_tiles(picture, tmp_path / "map/tiles", **how)
    assert contents(tmp_path / "map") == whole
    with path.open("r+b") as file:
        file.truncate(0)
    build_tiles(picture, tmp_path / "map/tiles", **how)
    assert contents(tmp_path / "map") == whole


def test_a_truncated_archive_that_stands_alone_is_made_again(tmp_path: Path) -> None:
    picture, archive = write(tmp_path / "picture.tif"), tmp_path / "map/tiles.pmtiles"
    how: dict[str, Any] = {
        "zooms": ZOOMS, "archive": archive, "keep_tiles": False,
        "record": tmp_path / "map/tiles.json",
    }  # fmt: skip
    build_tiles(picture, tmp_path / "map/.tiles_tmp", **how)
    whole = contents(tmp_path / "map")
    with archive.open("r+b") as file:
        file.truncate(archive.stat().st_size // 2)
    build_tiles(picture, tmp_path / "map/.tiles_tmp", **how)
    assert contents(tmp_path / "map") == whole


def test_a_copy_without_its_times_is_looked_at_once(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, how = made
    (tmp_path / "copy").mkdir()
    shutil.copy2(picture, tmp_path / "copy/picture.tif")
    shutil.copytree(tmp_path / "map", tmp_path / "copy/map", copy_function=shutil.copyfile)
    how |= {
        "record": tmp_path / "copy/map/tiles.json", "packs": tmp_path / "copy/map/tiles.js",
        "archive": tmp_path / "copy/map/tiles.pmtiles",
    }  # fmt: skip
    record = tmp_path / "copy/map/tiles/.units.jsonl"
    lines = record.read_bytes()
    for _ in range(2):
        report = build_tiles(tmp_path / "copy/picture.tif", tmp_path / "copy/map/tiles", **how)
        assert (report.cut, report.written) == (0, 0)
        assert record.read_bytes() != lines
        once = record.read_bytes()
        build_tiles(tmp_path / "copy/picture.tif", tmp_path / "copy/map/tiles", **how)
        assert record.read_bytes() == once


# --- What an earlier run left ----------------------------------------------------------------


def run(picture: Path, out: Path, *, keep: bool, **more: Any) -> Any:
    name = "tiles" if keep else ".tiles_tmp"
    return build_tiles(
        picture, out / name, zooms=ZOOMS, record=out / "tiles.json",
        archive=None if keep else out / "tiles.pmtiles", keep_tiles=keep, **more,
    )  # fmt: skip


def test_an_archive_that_is_to_stand_alone_does(tmp_path: Path) -> None:
    picture, out = write(tmp_path / "picture.tif"), tmp_path / "map"
    first = run(picture, out, keep=True, packs=out / "tiles.js")
    write(picture, seed=1)
    report = run(picture, out, keep=False)
    assert report.former == out / "tiles"
    assert sorted(one.name for one in out.iterdir()) == ["tiles.json", "tiles.pmtiles"]
    again = run(picture, out, keep=True)
    assert again.former is None
    assert again.count == first.count


def test_only_tiles_of_our_own_go(tmp_path: Path) -> None:
    picture, out = write(tmp_path / "picture.tif"), tmp_path / "map"
    (out / "tiles/14/7").mkdir(parents=True)
    run(picture, out, keep=True)
    theirs = out / "tiles/14/7/9.png", out / "tiles/readme.txt", out / "tiles/14/notes.png"
    for one in theirs:
        one.parent.mkdir(exist_ok=True, parents=True)
        one.write_bytes(b"theirs")
    run(picture, out, keep=False)
    left = [one for one in (out / "tiles").rglob("*") if one.is_file()]
    assert sorted(left) == sorted(theirs)


@pytest.mark.parametrize("name", ["others", "../others", "", ".", "..", None, 7, "gone", "plain"])
def test_directories_that_a_note_names_are_safe(tmp_path: Path, name: object) -> None:
    picture, out = write(tmp_path / "picture.tif"), tmp_path / "map"
    others = out / "others/14/7/9.png", tmp_path / "others/14/7/9.png", out / "14/7/9.png"
    for one in others:
        one.parent.mkdir(parents=True)
        one.write_bytes(b"theirs")
    (out / "plain").write_bytes(b"theirs")
    for directory in (out / "others", tmp_path / "others"):
        (directory / ".units.jsonl").write_text("[1]\n[2, 3, 4, 5, 6]\n")
    run(picture, out, keep=True)
    note = json.loads((out / "tiles.json").read_text())
    (out / "tiles.json").write_text(json.dumps(note | {"directory": name, "former": [name, {}]}))
    run(picture, out, keep=True)
    assert all(one.read_bytes() == b"theirs" for one in (*others, out / "plain"))


def test_what_two_stopped_runs_left_goes_with_the_third(tmp_path: Path) -> None:
    picture, out = write(tmp_path / "picture.tif"), tmp_path / "map"
    run(picture, out, keep=True)

    def stop(done: int, total: int, _: str) -> None:
        if done == total:
            raise KeyboardInterrupt

    for seed in (1, 2):
        write(picture, seed)
        with pytest.raises(KeyboardInterrupt):
            run(picture, out, keep=False, progress=stop)
        assert (out / "tiles").is_dir()  # until there is something in its stead
    assert (out / ".tiles_tmp").is_dir()
    run(picture, out, keep=False)
    assert sorted(one.name for one in out.iterdir()) == ["tiles.json", "tiles.pmtiles"]
    with pytest.raises(KeyboardInterrupt):
        run(write(picture, 3), out, keep=False, progress=stop)
    run(picture, out, keep=True)
    assert not (out / ".tiles_tmp").exists()


# --- Two at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["tiles as scripts", "tiles in one file"])
def test_a_map_is_made_by_one_run_until_its_end(
    made: tuple[Path, dict[str, Any]], tmp_path: Path, status: str
) -> None:
    pytest.importorskip("fcntl")
    picture, how = made
    write(picture, seed=5)
    reached, go, refused = threading.Event(), threading.Event(), []

    def wait(_done: int, _total: int, now: str) -> None:
        if now == status:
            reached.set()
            assert go.wait(60)

    def first() -> None:
        build_tiles(picture, tmp_path / "map/tiles", progress=wait, **how)

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert reached.wait(60)
        for name in ("tiles", ".tiles_tmp"):
            with pytest.raises(InputError, match="another process"):
                build_tiles(picture, tmp_path / "map" / name, **how)
            refused.append(name)
    finally:
        go.set()
        thread.join()
    assert len(refused) == 2
    assert Note(tmp_path / "map/tiles.json").complete
    assert build_tiles(picture, tmp_path / "map/tiles", **how).cut == 0
