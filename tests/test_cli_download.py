from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from geotessera import cli
from geotessera.layout import geotiff_path, local_tile_files
from geotessera.remote.records import FileRecords
from geotessera.sidecar import write_tessera_metadata
from geotessera.testing import SampleWorld
from geotessera.testing.server import Fault, LoopbackServer

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

BOTH = "23.9,83.6,24.1,83.7"
"""The box of the tiny world's two tiles, on their edges."""


class Command:
    """`geotessera download` from a mirror, into a directory of this test."""

    def __init__(self, world: SampleWorld, directory: Path) -> None:
        self.world = world
        self.cache = directory / "cache"
        self.out = directory / "out"
        self.base = str(world.root())

    def __call__(self, *words: str, region: str | None = BOTH, out: bool = True) -> Result:
        line = ["download", "--base-url", self.base, "--cache-dir", str(self.cache), *words]
        if region is not None:
            line.append(f"--bbox={region}")
        if out:
            line += ["-o", str(self.out)]
        return CliRunner().invoke(cli.app, line)

    def json(self, *words: str, code: int = 0, **how: Any) -> Any:
        result = self(*words, "--json", **how)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    def files(self) -> set[str]:
        return {
            path.relative_to(self.out).as_posix()
            for path in self.out.rglob("*")
            if path.is_file() and ".geotessera" not in path.parts
        }

    def tiff(self, number: int = 0) -> Path:
        return geotiff_path(self.out, self.world.tiles[number].tile)


@pytest.fixture
def download(tiny_world: SampleWorld, tmp_path: Path) -> Command:
    return Command(tiny_world, tmp_path)


def sidecar(directory: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((directory / "tessera_metadata.json").read_text())
    return record


# --- What is written --------------------------------------------------------------------


def test_npy_writes_the_published_files(download: Command, tiny_world: SampleWorld) -> None:
    document = download.json("--format", "npy", "--year", "2024")
    assert document["tiles"] == 2
    assert document["downloaded"]["files"] == 6
    assert document["downloaded"]["bytes"] == sum(sum(one.sizes) for one in tiny_world.tiles)
    for one in tiny_world.tiles:
        local = local_tile_files(download.out, one.tile)
        for path, digest in zip(local, one.hashes, strict=True):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert len(download.files()) == 7


def test_tiff_equals_the_dequantised_arrays(download: Command, tiny_world: SampleWorld) -> None:
    document = download.json("--bands", "2,0", "--compress", "deflate")
    assert document["exported"] == 2
    for number, one in enumerate(tiny_world.tiles):
        with rasterio.open(download.tiff(number)) as raster:
            np.testing.assert_array_equal(
                raster.read(), one.embedding()[..., [2, 0]].transpose(2, 0, 1)
            )
            assert raster.descriptions == ("Tessera_Band_2", "Tessera_Band_0")
            assert raster.profile["compress"] == "deflate"
            assert raster.tags()["TESSERA_DATASET_VARIANT"] == "cambridge"
    assert set(document["files"]) == {str(download.tiff(0)), str(download.tiff(1))}


def test_the_sidecar_and_the_records_are_written(download: Command) -> None:
    result = download("--bands", "0")
    assert result.exit_code == 0
    record = sidecar(download.out)
    assert (record["dataset_version"], record["dataset_variant"]) == ("1.1", "cambridge")
    assert (record["format"], record["year"], record["tile_count"]) == ("tiff", 2024, 2)
    records = FileRecords(download.out).load()
    path = download.tiff()
    entry = records[path.relative_to(download.out).as_posix()]
    assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry.size == path.stat().st_size


def test_people_read_the_summary_on_stdout(download: Command) -> None:
    result = download("--bands", "0", "--list-files")
    assert "SUCCESS: 2 GeoTIFFs exported" in result.stdout
    assert str(download.out) in result.stdout
    assert "grid_23.95_83.65_2024.tiff" in result.stdout
    assert "geotessera verify" in result.stdout


def test_cog(download: Command) -> None:
    assert download("--bands", "0", "--cog").exit_code == 0
    with rasterio.open(download.tiff()) as raster:
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert download.json("--bands", "0", "--cog")["skipped"] == 2
    assert download.json("--bands", "0")["exported"] == 2


def test_no_keep_npy_removes_only_what_the_run_fetched(
    download: Command, tiny_world: SampleWorld
) -> None:
    tiny_world.checkout(download.out, [tiny_world.tiles[1].tile])
    document = download.json("--bands", "0", "--no-keep-npy")
    assert document["exported"] == 2
    first, second = (local_tile_files(download.out, one.tile) for one in tiny_world.tiles)
    assert not any(path.exists() for path in first)
    assert all(path.exists() for path in second)
    assert download.tiff().exists()


def test_no_keep_npy_keeps_what_the_user_had_though_the_run_refreshed_it(
    download: Command, tiny_world: SampleWorld
) -> None:
    assert download("--format", "npy").exit_code == 0
    first, second = (local_tile_files(download.out, one.tile) for one in tiny_world.tiles)
    first.scales.write_bytes(first.scales.read_bytes()[:-7])
    second.scales.unlink()  # the embedding and the landmask are the user's
    assert download.json("--bands", "0", "--no-keep-npy")["exported"] == 2
    assert all(path.exists() for path in first)
    assert second.embedding.exists()
    assert second.landmask.exists()
    assert not second.scales.exists()


def test_no_keep_npy_keeps_a_landmask_that_other_arrays_need(
    small_world: SampleWorld, tmp_path: Path
) -> None:
    download = Command(small_world, tmp_path)
    west = ("--tile", "23.95,83.65")
    assert download("--format", "npy", "--year", "2023", *west, region=None).exit_code == 0
    files = local_tile_files(download.out, small_world.tile(23.95, 83.65).tile)
    older = local_tile_files(download.out, small_world.tile(23.95, 83.65, 2023).tile)
    for compress in ("none", "lzw"):  # the landmask is there before; the run fetches it
        words = ("--bands", "0", "--no-keep-npy", "--compress", compress)
        assert download(*words, *west, region=None).exit_code == 0
        assert not files.embedding.exists()
        assert not files.scales.exists()
        assert all(path.exists() for path in older)
        files.landmask.unlink()


def test_what_no_keep_npy_removes_is_not_missing(download: Command) -> None:
    assert download("--bands", "0", "--no-keep-npy").exit_code == 0
    assert set(FileRecords(download.out).load()) == {
        download.tiff(number).relative_to(download.out).as_posix() for number in (0, 1)
    }
    result = CliRunner().invoke(cli.app, ["verify", str(download.out), "--no-registry"])
    assert result.exit_code == 0, result.output


# --- Regions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "tiles"),
    [
        (["--bbox", BOTH], 2),
        (["--bbox", "23.96,83.61,23.97,83.62"], 1),
        (["--bbox", "23.96,83.61"], 1),
        (["--bbox=24.05,83.65"], 1),
        (["--tile", "24.01,83.69"], 1),
        (["--tile", "24.1,83.69"], 0),
        (["--bbox=-0.1,-0.1,0.1,0.1"], 0),
        (["--bbox", "-0.1,-0.1,0.1,0.1"], 0),
        (["--bbox", "179,83,-179,84"], 0),
    ],
)
def test_boxes_and_tiles(download: Command, options: list[str], tiles: int) -> None:
    assert download.json("--dry-run", *options, region=None)["tiles"] == tiles


def test_a_region_file_selects_by_geometry(download: Command, tmp_path: Path) -> None:
    import geopandas as gpd
    from shapely.geometry import LineString

    # A thin line in the western tile; the box of its buffer in metres is in it too.
    line = gpd.GeoSeries([LineString([(23.91, 83.61), (23.98, 83.68)])], crs="EPSG:4326")
    path = tmp_path / "region.gpkg"
    line.to_crs("EPSG:3413").to_file(path)
    document = download.json("--dry-run", "--region-file", str(path), region=None)
    assert document["tiles"] == 1


def test_a_country_selects_by_its_outline(download: Command) -> None:
    # The tiny world lies in the Arctic Ocean: Norway's box holds it, its outline does not.
    document = download.json("--dry-run", "--country", "Norway", region=None)
    assert document["tiles"] == 0


def test_a_box_across_the_antimeridian(small_world: SampleWorld, tmp_path: Path) -> None:
    download = Command(small_world, tmp_path)
    assert download.json("--dry-run", region="179.9,83.6,-179.9,83.7")["tiles"] == 2


def test_no_tiles_is_a_hint_and_code_0(download: Command) -> None:
    result = download(region="0,0,1,1")
    assert result.exit_code == 0
    assert "No tiles of 2024" in result.stdout
    other_year = download("--year", "1999")
    assert (other_year.exit_code, "2024" in other_year.stdout) == (0, True)
    assert not download.out.exists()
    assert download.json(region="0,0,1,1")["tiles"] == 0


# --- Dry run ----------------------------------------------------------------------------


def test_dry_run_adds_up_the_files_and_writes_nothing(
    download: Command, tiny_world: SampleWorld
) -> None:
    npy = download.json("--dry-run", "--format", "npy", out=False)
    sizes = [one.sizes for one in tiny_world.tiles]
    assert (npy["files"], npy["bytes"]) == (6, sum(map(sum, sizes)))
    tiff = download.json("--dry-run", out=False)
    assert tiff["files"] == 2
    assert tiff["bytes"] == sum(4 * embedding + landmask for embedding, _, landmask in sizes)
    shown = download("--dry-run", out=False).stdout
    for word in ("Files to download", "Total download size", "Tiles in region", "Year", "Format"):
        assert word in shown
    download("--dry-run")
    assert not download.out.exists()


def test_dry_run_leaves_out_what_is_there(download: Command, tiny_world: SampleWorld) -> None:
    tiny_world.checkout(download.out, [tiny_world.tiles[0].tile])
    assert download.json("--dry-run", "--format", "npy")["files"] == 3


# --- Reruns -----------------------------------------------------------------------------


def test_a_rerun_fetches_nothing(download: Command, tiny_world: SampleWorld) -> None:
    with LoopbackServer(tiny_world.root()) as server:
        download.base = server.url
        assert download("--format", "npy").exit_code == 0
        server.clear()
        document = download.json("--format", "npy")
        assert (document["downloaded"]["files"], document["skipped"]) == (0, 6)
        assert server.count("*.npy") == 0
        assert download("--bands", "0").exit_code == 0
        written = download.tiff().stat().st_mtime_ns
        server.clear()
        document = download.json("--bands", "0")
        assert (document["exported"], document["skipped"]) == (0, 2)
        assert server.count("*.npy") == 0
    assert download.tiff().stat().st_mtime_ns == written
    assert "exist already" in download("--bands", "0").stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--bands", "1"],
        ["--bands", "1,0"],
        [],
        ["--bands", "0,1", "--compress", "deflate"],
        ["--bands", "0,1", "--compress", "none"],
    ],
)
def test_other_bands_or_compression_are_exported_again(
    download: Command, options: list[str]
) -> None:
    assert download("--bands", "0,1").exit_code == 0
    document = download.json(*options)
    assert (document["exported"], document["skipped"]) == (2, 0)
    assert len(document["redone"]) == 2
    again = download.json(*options)
    assert (again["exported"], again["skipped"]) == (0, 2)


def test_a_foreign_or_damaged_geotiff_is_made_again(download: Command) -> None:
    assert download("--bands", "0").exit_code == 0
    with rasterio.open(download.tiff(0), "r+") as raster:
        raster.update_tags(TESSERA_DATASET_VARIANT="other")
    download.tiff(1).write_bytes(b"II*\0 nothing more")
    document = download.json("--bands", "0")
    assert (document["exported"], document["skipped"]) == (2, 0)


@pytest.mark.parametrize("options", [[], ["--cog"], ["--compress", "none"]])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_truncated_geotiff_is_made_again(
    download: Command, options: list[str], recorded: bool
) -> None:
    assert download("--bands", "0,1", *options).exit_code == 0
    whole = download.tiff().read_bytes()
    download.tiff().write_bytes(whole[: -len(whole) // 8])
    if not recorded:
        shutil.rmtree(download.out / ".geotessera")
    document = download.json("--bands", "0,1", *options)
    assert (document["exported"], document["skipped"]) == (1, 1)
    with rasterio.open(download.tiff()) as raster:
        raster.read()


@pytest.mark.parametrize("which", ["embedding", "scales", "landmask"])
def test_a_truncated_file_is_fetched_again(
    download: Command, tiny_world: SampleWorld, which: str
) -> None:
    assert download("--format", "npy").exit_code == 0
    one = tiny_world.tiles[0]
    path = getattr(local_tile_files(download.out, one.tile), which)
    path.write_bytes(path.read_bytes()[:-7])
    document = download.json("--format", "npy")
    assert any(path.name in reason for reason in document["redone"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == one.hashes[("embedding", "scales", "landmask").index(which)]


# --- Datasets are never mixed -----------------------------------------------------------


@pytest.mark.parametrize("fmt", ["npy", "tiff"])
def test_another_datasets_directory_is_refused_also_when_all_files_are_there(
    download: Command, tiny_world: SampleWorld, fmt: str
) -> None:
    assert download("--format", fmt, "--bands", "0").exit_code == 0
    write_tessera_metadata(download.out, "v1", "vultr")
    before = sidecar(download.out)
    with LoopbackServer(tiny_world.root()) as server:
        download.base = server.url
        result = download("--format", fmt, "--bands", "0")
        assert server.requests == []
    assert result.exit_code == 1
    assert "cannot be interchanged" in result.stderr
    assert sidecar(download.out) == before


def test_a_directory_with_tiles_of_unknown_origin_stays_unlabelled(
    download: Command, tiny_world: SampleWorld
) -> None:
    tiny_world.checkout(download.out, [tiny_world.tiles[0].tile])
    result = download("--format", "npy")
    assert result.exit_code == 0
    assert "stays unlabelled" in result.stderr
    assert not (download.out / "tessera_metadata.json").exists()


# --- Failures ---------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["npy", "tiff"])
def test_one_failed_tile_does_not_stop_the_others(
    download: Command, tiny_world: SampleWorld, fmt: str
) -> None:
    bad, good = tiny_world.tiles
    fault = Fault("status", path=f"*{bad.tile.lon:.2f}_*_scales.npy", status=404)
    with LoopbackServer(tiny_world.root(), faults=[fault]) as server:
        download.base = server.url
        result = download("--format", fmt, "--bands", "0")
        assert result.exit_code == 1
        assert f"FAILED: grid_{bad.tile.lon:.2f}_{bad.tile.lat:.2f}" in result.stderr
        assert "1 of 2 tiles are incomplete" in result.stderr
        assert "SUCCESS" not in result.output
        document = download.json("--format", fmt, "--bands", "0", code=1)
        assert [one["tile"] for one in document["failed"]] == [
            f"grid_{bad.tile.lon:.2f}_{bad.tile.lat:.2f}"
        ]
        assert document["error"]["type"] == "IncompleteDownload"
        assert not any(
            path.suffix == ".npy"
            for path in local_tile_files(download.out, bad.tile)[:1]
            if path.exists()
        )
        done = local_tile_files(download.out, good.tile) if fmt == "npy" else [download.tiff(1)]
        assert all(path.exists() for path in done)
        server.clear()
        assert download("--format", fmt, "--bands", "0").exit_code == 0


@pytest.mark.usefixtures("quick_retries")
def test_bytes_that_do_not_verify_never_arrive(tmp_path: Path) -> None:
    world = SampleWorld.build(tmp_path / "world", size="tiny", generation="A")
    download = Command(world, tmp_path)
    with LoopbackServer(world.root(), faults=[Fault("corrupt", path="*_scales.npy")]) as server:
        download.base = server.url
        result = download("--format", "npy")
    assert result.exit_code == 1
    assert "SHA-256" in result.stderr
    assert not list(download.out.rglob("*_scales.npy"))


@pytest.mark.parametrize(
    ("words", "region", "says"),
    [
        ([], None, "--bbox, --tile, --region-file, --country"),
        (["--tile", "0,0"], BOTH, "only one"),
        ([], "1,2,3", "west,south,east,north"),
        ([], "5,0,4,-1", "WGS84"),
        ([], "0,0,nan,1", "WGS84"),
        ([], "0,0,500,1", "WGS84"),
        (["--tile", "1,2,3,4"], None, "lon,lat"),
        (["--tile", "200,0"], None, "out of bounds"),
        (["--country", "Atlantis"], None, "Atlantis"),
        (["--region-file", "nowhere.geojson"], None, "nowhere.geojson"),
        (["--region-file", __file__], None, "cannot be read"),
        (["--bands", "1,x"], BOTH, "--bands 0,1,2"),
        (["--bands", ""], BOTH, "--bands 0,1,2"),
        (["--bands", "-1"], BOTH, "--bands 0,1,2"),
        (["--bands", "4"], BOTH, "band 4"),
        (["--compress", "zip"], BOTH, "lzw"),
        (["--format", "zarr"], BOTH, "zarr-fill"),
        (["--format", "jpg"], BOTH, "tiff or npy"),
        (["--dataset-version", "foo"], BOTH, "foo"),
        (["--dataset-variant", "dclimate"], BOTH, "v1.1-dclimate does not exist"),
        (["--dataset-variant", "unheard"], BOTH, "unheard"),
        (["--registry-dir", "/nonexistent"], BOTH, "/nonexistent"),
    ],
)
def test_errors_are_one_line_and_code_1(
    download: Command, words: list[str], region: str | None, says: str
) -> None:
    result = download(*words, region=region)
    assert result.exit_code == 1
    *_, last = result.stderr.splitlines()
    assert last.startswith("Error: ")
    assert says in last
    assert "Traceback" not in result.output
    error = json.loads(download(*words, "--json", region=region).stdout)["error"]
    assert says in error["message"]
    assert not list(download.out.rglob("*.tiff"))


def test_without_output_there_must_be_dry_run(download: Command) -> None:
    result = download(out=False)
    assert result.exit_code == 1
    assert "--output" in result.stderr
    assert "--dry-run" in result.stderr


def test_an_output_that_cannot_be_written_ends_the_run(download: Command, tmp_path: Path) -> None:
    download.out = tmp_path / "file"
    download.out.write_text("in the way")
    for words in (["--format", "npy"], ["--source", "tiles"], []):
        result = download(*words)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: cannot write here ({download.out} is not a dir")
        assert result.stdout == ""  # nothing was begun
    assert download.out.read_text() == "in the way"


def test_the_command_that_checks_can_be_pasted(download: Command, tmp_path: Path) -> None:
    download.out = tmp_path / "two words"
    result = download("--format", "npy", "--tile", "23.95,83.65", region=None)
    assert f"geotessera verify '{download.out}'" in result.stdout
    assert "SUCCESS: 1 tile, 3 new files, " in result.stdout
    once = download("--source", "tiles", "--tile", "23.95,83.65", region=None).stdout
    assert "SUCCESS: 1 GeoTIFF exported, 0 skipped" in once
    again = download("--source", "tiles", "--tile", "23.95,83.65", region=None).stdout
    assert "SUCCESS: the GeoTIFF exists already" in again


def test_a_server_that_is_not_there_is_one_line(download: Command) -> None:
    download.base = "http://127.0.0.1:9"
    result = download("--offline")
    assert result.exit_code == 1
    assert "offline" in result.stderr


def test_bands_do_not_apply_to_arrays_and_it_is_said_first(download: Command) -> None:
    result = download("--format", "npy", "--bands", "0")
    assert result.exit_code == 0
    assert "--bands does not apply" in result.stderr


def test_registry_dir_and_generation_a(tmp_path: Path) -> None:
    world = SampleWorld.build(tmp_path / "world", size="tiny", generation="A")
    download = Command(world, tmp_path)
    registries = tmp_path / "registries"
    registries.mkdir()
    for path in world.root().glob("*/*.parquet"):
        shutil.copy(path, registries)
    document = download.json("--format", "npy", "--registry-dir", str(registries))
    assert document["downloaded"]["files"] == 6


# --- Mirrors whose tiles do not fill their cells -----------------------------------------

CUSTOM = (50, 40, 128)


@pytest.fixture
def custom(tmp_path: Path) -> Command:
    """A mirror of generation A-simple with one small tile of 128 bands."""
    world = SampleWorld.build(
        tmp_path / "world", size="tiny", generation="A-simple", tiles=[(2024, 23.95, 83.65)]
    )
    (one,) = world.tiles
    height, width, _ = CUSTOM
    rng = np.random.default_rng(1)
    np.save(one.files.embedding, rng.integers(-128, 128, CUSTOM, np.int8))
    np.save(one.files.scales, rng.uniform(0.01, 0.1, (height, width)).astype(np.float32))
    with rasterio.open(
        one.files.landmask,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=1,
        dtype="uint8",
        crs=one.grid.crs,
        transform=one.grid.affine,
    ) as raster:
        raster.write(np.ones((1, height, width), np.uint8))
    for name, path in (("hash", one.files.embedding), ("scales_hash", one.files.scales)):
        sizes = {"hash": "file_size", "scales_hash": "scales_size"}
        _publish(world, "registry", name, sizes[name], path)
    _publish(world, "landmasks", "hash", "file_size", one.files.landmask)
    return Command(world, tmp_path)


def _publish(world: SampleWorld, registry: str, digest: str, size: str, path: Path) -> None:
    """Write the digest and the size that a file has now into a registry."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (where,) = world.root().rglob(f"{registry}.parquet")
    table = pq.read_table(where)
    for column, value in (
        (digest, hashlib.sha256(path.read_bytes()).hexdigest()),
        (size, path.stat().st_size),
    ):
        at = table.schema.get_field_index(column)
        field = table.schema.field(at)
        table = table.set_column(at, field, pa.array([value], field.type))
    pq.write_table(table, where)


@pytest.mark.parametrize("words", [[], ["--bands", "127,0"]])
@pytest.mark.parametrize("keep", ["--keep-npy", "--no-keep-npy"])
def test_tiles_that_do_not_fill_their_cells(custom: Command, words: list[str], keep: str) -> None:
    document = custom.json(*words, keep)
    assert document["exported"] == 1
    bands = [127, 0] if words else list(range(CUSTOM[2]))
    with rasterio.open(custom.tiff()) as raster:
        np.testing.assert_array_equal(
            raster.read(), custom.world.tiles[0].embedding()[..., bands].transpose(2, 0, 1)
        )
    again = custom.json(*words, keep)
    assert (again["exported"], again["skipped"], again["downloaded"]["files"]) == (0, 1, 0)
    assert custom.json("--bands", "5", keep)["exported"] == 1
    assert custom.json(keep)["exported"] == 1


def test_a_band_that_tiles_of_unknown_depth_lack_is_refused(custom: Command) -> None:
    result = custom("--bands", "128")
    assert result.exit_code == 1
    assert "128" in result.stderr.splitlines()[-1]
    assert not custom.tiff().exists()
