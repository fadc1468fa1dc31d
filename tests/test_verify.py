from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio

from geotessera.errors import DatasetMismatchError, InputError
from geotessera.export import export_tile
from geotessera.layout import geotiff_path, local_tile_files
from geotessera.registry import Registry
from geotessera.remote.records import FileRecords
from geotessera.sidecar import write_tessera_metadata
from geotessera.sources import NpyTile
from geotessera.testing import SampleWorld
from geotessera.verify import VerifyReport, verify_directory

if TYPE_CHECKING:
    from geotessera.datasets import MirrorLayout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    return SampleWorld.build(tmp_path_factory.mktemp("world"), size="tiny", generation=("B", "A"))


def registry_of(world: SampleWorld, generation: MirrorLayout, cache: Path) -> Registry:
    return Registry(world.version, world.variant, base_url=world.root(generation), cache_dir=cache)


def write_geotiff(directory: Path, world: SampleWorld) -> Path:
    """Write one band of the first tile with rasterio alone."""
    one = world.tiles[0]
    path = geotiff_path(directory, one.tile)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=one.grid.height,
        width=one.grid.width,
        count=1,
        dtype="float32",
        crs=one.grid.crs,
        transform=one.grid.affine,
        compress="lzw",
    ) as raster:
        raster.write(one.embedding()[..., :1].transpose(2, 0, 1))
    return path


def record_all(directory: Path) -> None:
    """Record every file's SHA-256 by hashlib, as a download does."""
    records = FileRecords(directory)
    for path in directory.rglob("grid_*"):
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            records.record(path.relative_to(directory), path.stat().st_size, digest)


@pytest.fixture
def directory(world: SampleWorld, tmp_path: Path) -> Path:
    """A directory with both tiles and an exported GeoTIFF, all recorded; a private copy."""
    linked = world.checkout(tmp_path / "linked")
    copied = tmp_path / "tiles"
    shutil.copytree(linked, copied)
    write_geotiff(copied, world)
    record_all(copied)
    return copied


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x01
    path.write_bytes(content)


def problems(report: VerifyReport) -> set[tuple[str, str]]:
    return {(Path(finding.path).name, finding.problem) for finding in report.problems}


def test_whole_directory_of_generation_a_equals_the_published_hashes(
    world: SampleWorld, directory: Path, tmp_path: Path
) -> None:
    report = verify_directory(directory, registry=registry_of(world, "A", tmp_path / "cache"))
    assert report.ok
    assert (report.tiles, report.files) == (2, 7)
    assert (report.by_registry, report.by_record, report.by_size) == (6, 1, 0)
    assert report.unchecked == []
    assert report.bytes == sum(
        path.stat().st_size for path in directory.rglob("grid_*") if path.is_file()
    )


def test_whole_directory_of_generation_b_equals_our_records(
    world: SampleWorld, directory: Path, tmp_path: Path
) -> None:
    report = verify_directory(directory, registry=registry_of(world, "B", tmp_path / "cache"))
    assert report.ok
    assert (report.by_registry, report.by_record, report.by_size) == (0, 7, 0)


@pytest.mark.parametrize("generation", ["A", "B", None])
@pytest.mark.parametrize(
    ("which", "offset"),
    [
        ("embedding", 20),  # inside the header's text
        ("embedding", 127),  # its last byte
        ("embedding", -1),
        ("embedding", 200_000),
        ("scales", 64),
        ("scales", -5),
        ("landmask", 8),
        ("landmask", -1),
        ("geotiff", 4),
        ("geotiff", -1),
    ],
)
def test_one_flipped_bit_is_found_and_the_file_named(
    world: SampleWorld,
    directory: Path,
    tmp_path: Path,
    which: str,
    offset: int,
    generation: MirrorLayout | None,
) -> None:
    tile = world.tiles[0].tile
    files = {
        **local_tile_files(directory, tile)._asdict(),
        "geotiff": geotiff_path(directory, tile),
    }
    registry = registry_of(world, generation, tmp_path / "cache") if generation else None
    flip(files[which], offset)
    report = verify_directory(directory, registry=registry)
    assert not report.ok
    assert (files[which].name, "checksum") in problems(report)
    assert {finding.path for finding in report.problems} == {
        files[which].relative_to(directory).as_posix()
    }


def test_without_records_generation_b_compares_sizes(
    world: SampleWorld, directory: Path, tmp_path: Path
) -> None:
    shutil.rmtree(directory / ".geotessera")
    registry = registry_of(world, "B", tmp_path / "cache")
    report = verify_directory(directory, registry=registry)
    assert report.ok
    assert (report.by_size, report.by_record) == (6, 0)
    assert [Path(path).suffix for path in report.unchecked] == [".tiff"]
    landmask = local_tile_files(directory, world.tiles[0].tile).landmask
    landmask.write_bytes(landmask.read_bytes() + b"\0")
    assert problems(verify_directory(directory, registry=registry)) == {(landmask.name, "size")}


def test_with_nothing_to_compare_with_files_are_counted_as_unchecked(directory: Path) -> None:
    shutil.rmtree(directory / ".geotessera")
    report = verify_directory(directory)
    assert report.ok
    assert len(report.unchecked) == report.files == 7


@pytest.mark.parametrize("which", ["embedding", "scales", "landmask"])
@pytest.mark.parametrize("generation", ["A", "B", None])
def test_truncation_is_found(
    world: SampleWorld,
    directory: Path,
    tmp_path: Path,
    which: str,
    generation: MirrorLayout | None,
) -> None:
    if generation is None:
        shutil.rmtree(directory / ".geotessera")
    path = getattr(local_tile_files(directory, world.tiles[0].tile), which)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    registry = registry_of(world, generation, tmp_path / "cache") if generation else None
    report = verify_directory(directory, registry=registry)
    found = problems(report)
    assert {name for name, _ in found} == {path.name}
    assert found & {(path.name, "damaged"), (path.name, "size")}


@pytest.mark.parametrize("which", ["embedding", "scales"])
def test_a_missing_file_makes_a_tile_incomplete(
    world: SampleWorld, directory: Path, which: str
) -> None:
    files = local_tile_files(directory, world.tiles[0].tile)
    getattr(files, which).unlink()
    report = verify_directory(directory)
    assert report.tiles == 1
    assert (getattr(files, which).name, "missing") in problems(report)
    (finding,) = (one for one in report.problems if one.problem != "missing")
    assert finding.problem == "incomplete"
    assert f"no {which}" in finding.detail
    assert str(world.tiles[0].tile.lon) in finding.path


def test_a_missing_landmask_makes_a_tile_incomplete(world: SampleWorld, directory: Path) -> None:
    files = local_tile_files(directory, world.tiles[0].tile)
    files.landmask.unlink()
    assert problems(verify_directory(directory)) == {
        (files.embedding.name, "incomplete"),
        (files.landmask.name, "missing"),
    }


def test_a_landmask_alone_is_a_note_and_none_if_its_tile_is_a_geotiff(
    world: SampleWorld, directory: Path
) -> None:
    exported, other = (local_tile_files(directory, one.tile) for one in world.tiles)
    for files in (exported, other):
        FileRecords(directory).forget(path.relative_to(directory) for path in files[:2])
        files.embedding.unlink()
        files.scales.unlink()
    report = verify_directory(directory)
    assert report.ok
    assert report.unfinished == [other.landmask.relative_to(directory).as_posix()]


def test_implausible_scales_are_counted(world: SampleWorld, directory: Path) -> None:
    shutil.rmtree(directory / ".geotessera")
    path = local_tile_files(directory, world.tiles[0].tile).scales
    scales = np.load(path)
    scales[0, :6] = 1e30, -0.05, 0, np.inf, 1.0, np.nan
    scales[1] = np.nextafter(np.float32(1), np.float32(0))
    np.save(path, scales)
    (finding,) = verify_directory(directory).problems
    assert (finding.problem, finding.path) == ("scales", path.relative_to(directory).as_posix())
    assert finding.detail.startswith("5 of ")


def test_published_implausible_scales_are_found_though_the_hash_is_right(tmp_path: Path) -> None:
    world = SampleWorld.build(
        tmp_path / "world", size="tiny", generation="A", faults={(23.95, 83.65): "corrupt-scales"}
    )
    directory = world.checkout(tmp_path / "tiles")
    registry = registry_of(world, "A", tmp_path / "cache")
    report = verify_directory(directory, registry=registry)
    assert report.by_registry == 6
    assert problems(report) == {("grid_23.95_83.65_scales.npy", "scales")}
    assert "as they are published" in report.problems[0].detail
    assert verify_directory(directory, registry=registry, check_scales=False).ok
    (alone,) = verify_directory(directory).problems
    assert "the bytes are" not in alone.detail
    record_all(directory)
    (recorded,) = verify_directory(directory).problems
    assert "as they were recorded" in recorded.detail


def test_shapes_that_do_not_fit_are_found(world: SampleWorld, directory: Path) -> None:
    shutil.rmtree(directory / ".geotessera")
    path = local_tile_files(directory, world.tiles[0].tile).scales
    np.save(path, np.load(path)[:-1])
    assert problems(verify_directory(directory)) == {(path.name, "shape")}


@pytest.mark.parametrize("cut", [np.s_[:-1], np.s_[:, 1:]])
def test_the_file_that_disagrees_with_two_others_is_named(
    world: SampleWorld, directory: Path, cut: Any
) -> None:
    shutil.rmtree(directory / ".geotessera")
    one = world.tiles[0]
    path = local_tile_files(directory, one.tile).embedding
    np.save(path, np.load(path)[cut])
    (finding,) = verify_directory(directory).problems
    assert (Path(finding.path).name, finding.problem) == (path.name, "shape")
    assert str((one.grid.height, one.grid.width)) in finding.detail
    # Of two files nobody knows which is wrong.
    local_tile_files(directory, one.tile).landmask.unlink()
    scales = path.with_name(f"{path.stem}_scales.npy").name
    assert (scales, "shape") in problems(verify_directory(directory))


def test_a_landmask_of_another_size_is_named(world: SampleWorld, directory: Path) -> None:
    shutil.rmtree(directory / ".geotessera")
    path = local_tile_files(directory, world.tiles[0].tile).landmask
    with rasterio.open(path) as raster:
        mask, profile = raster.read()[:, :-1], raster.profile
    with rasterio.open(path, "w", **profile | {"height": mask.shape[1]}) as raster:
        raster.write(mask)
    assert problems(verify_directory(directory)) == {(path.name, "shape")}


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 3, 4), np.float64),
        np.zeros((3, 3), np.int8),
        np.asfortranarray(np.zeros((3, 3, 4), np.int8)),
        np.array([{}], dtype=object),
    ],
    ids=["dtype", "axes", "fortran", "pickle"],
)
def test_foreign_arrays_are_named(world: SampleWorld, directory: Path, array: np.ndarray) -> None:
    shutil.rmtree(directory / ".geotessera")
    path = local_tile_files(directory, world.tiles[0].tile).embedding
    np.save(path, array, allow_pickle=True)
    assert problems(verify_directory(directory)) == {(path.name, "damaged")}


def test_a_geotiff_that_is_none_is_named(directory: Path) -> None:
    path = directory / "tessera_2024_utm31.tif"
    path.write_bytes(b"not a raster")
    assert problems(verify_directory(directory)) == {(path.name, "damaged")}


@pytest.mark.parametrize(
    ("compress", "damage"),
    [
        ("lzw", "truncated"),
        ("deflate", "truncated"),
        ("none", "truncated"),
        ("lzw", "garbled"),
        ("deflate", "garbled"),
    ],
)
@pytest.mark.parametrize("cog", [False, True])
def test_damage_inside_a_geotiff_that_was_never_recorded_is_found(
    world: SampleWorld, tmp_path: Path, compress: str, damage: str, cog: bool
) -> None:
    path = geotiff_path(tmp_path, world.tiles[0].tile)
    source = NpyTile(*world.tiles[0].files).open()
    export_tile(source, path, bands=[0, 1], compress=compress, cog=cog)
    assert verify_directory(tmp_path).ok
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[-len(content) // 10 :]
    else:
        middle = len(content) // 2
        content[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    assert problems(verify_directory(tmp_path)) == {(path.name, "damaged")}


def test_a_large_block_and_a_striped_geotiff_are_read_whole(
    world: SampleWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geotessera.sources import geotiff_check

    path = write_geotiff(tmp_path, world)
    for held in (1, 10_000, 2**26):
        monkeypatch.setattr(geotiff_check, "_READ_BYTES", held)
        with rasterio.open(path) as raster:
            seen = np.zeros(raster.shape, int)
            for window in geotiff_check._windows(raster):
                seen[window.toslices()] += 1
        assert (seen == 1).all()


def test_a_recorded_file_that_is_gone_is_missing_until_it_is_forgotten(
    world: SampleWorld, directory: Path
) -> None:
    path = geotiff_path(directory, world.tiles[0].tile)
    path.unlink()
    (finding,) = verify_directory(directory).problems
    assert (finding.path, finding.problem) == (path.relative_to(directory).as_posix(), "missing")
    assert verify_directory(directory, forget_missing=True).ok
    assert verify_directory(directory).ok


def test_unfinished_files_are_notes_and_other_files_are_ignored(directory: Path) -> None:
    folder = next(directory.glob("global_0.1_degree_representation/2024/*"))
    (folder / ".grid_1.05_2.05.npy_tmp_abc123").write_bytes(b"half")
    (directory / ".geotessera" / "incoming-1234").mkdir()
    (directory / "notes.txt").write_text("mine")
    (folder / "mine.npy").write_bytes(b"")
    report = verify_directory(directory)
    assert report.ok
    assert len(report.leftovers) == 2
    assert report.files == 7


def test_unreadable_files_are_named(directory: Path, world: SampleWorld) -> None:
    path = local_tile_files(directory, world.tiles[0].tile).scales
    path.unlink()
    path.symlink_to(directory / "nowhere")
    report = verify_directory(directory)
    assert (path.name, "unreadable") in problems(report)


def test_another_dataset_is_refused(world: SampleWorld, directory: Path, tmp_path: Path) -> None:
    write_tessera_metadata(directory, "v1", "vultr")
    registry = registry_of(world, "B", tmp_path / "cache")
    with pytest.raises(DatasetMismatchError, match="cannot be interchanged"):
        verify_directory(directory, registry=registry)


def test_a_directory_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no directory"):
        verify_directory(tmp_path / "nowhere")


def test_an_empty_directory_is_fine(tmp_path: Path) -> None:
    report = verify_directory(tmp_path)
    assert report.ok
    assert report.files == 0


def test_progress_goes_from_nothing_to_everything(directory: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = verify_directory(directory, progress=lambda done, total, _: seen.append((done, total)))
    assert seen[0] == (0, report.bytes)
    assert seen[-1] == (report.bytes, report.bytes)


def test_a_landmask_that_years_share_is_named_once(
    small_world: SampleWorld, tmp_path: Path
) -> None:
    shared = [one.tile for one in small_world.tiles if one.tile.lat == 83.65 and one.tile.lon > 0]
    shutil.copytree(small_world.checkout(tmp_path / "linked", shared), tmp_path / "tiles")
    landmask = local_tile_files(tmp_path / "tiles", shared[0]).landmask
    landmask.write_bytes(b"nothing")
    assert len({tile.year for tile in shared if tile[1:] == shared[0][1:]}) == 2
    (finding,) = verify_directory(tmp_path / "tiles").problems
    assert (Path(finding.path).name, finding.problem) == (landmask.name, "damaged")
