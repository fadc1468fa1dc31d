"""The whole way on a real Sentinel-2 cube: served, verified, sampled, learnt from, exported."""

from __future__ import annotations

import filecmp
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score
from typer.testing import CliRunner

import slovenia
from geotessera import GeoTessera, Status, cli
from geotessera.grid import tile_footprint
from geotessera.testing.server import LoopbackServer
from geotessera.verify import verify_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slovenia import Patch

pytestmark = pytest.mark.real

YEAR, LON, LAT = slovenia.TILE
BLOCK = 25
"""Side of the blocks of the split, in pixels: 250 m."""

CHANCE = 1 / len(slovenia.CLASSES)
MARGIN = 0.35
"""By how much the classifier's balanced accuracy must beat the majority class's."""


@pytest.fixture(scope="module")
def patch() -> Patch:
    return slovenia.make_patch()


@pytest.fixture(scope="module")
def mirrors(patch: Patch, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return slovenia.write_mirrors(tmp_path_factory.mktemp("slovenia"), patch)


@pytest.fixture(scope="module")
def served(
    mirrors: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[GeoTessera, GeoTessera]]:
    """Clients whose tiles came over HTTP: B through the command line, A through the class."""
    directory = tmp_path_factory.mktemp("downloaded")
    with LoopbackServer(mirrors["B"]) as b_server, LoopbackServer(mirrors["A"]) as a_server:
        place = ["--tile", f"{LON},{LAT}", "--year", str(YEAR), "--format", "npy"]
        where = ["--base-url", b_server.url, "--cache-dir", str(directory / "cache")]
        done = CliRunner().invoke(
            cli.app, ["download", *place, "-o", str(directory / "b"), *where, "--json"]
        )
        assert done.exit_code == 0, done.output
        b = GeoTessera(
            base_url=b_server.url, cache_dir=directory / "cache", embeddings_dir=directory / "b"
        )
        a = GeoTessera(
            base_url=a_server.url, cache_dir=directory / "cache", embeddings_dir=directory / "a"
        )
        assert a.download_tile(LON, LAT, YEAR)
        yield b, a
        for server in (b_server, a_server):
            got = [one for one in server.requests if one.method == "GET" and one.sent]
            arrays = [one for one in got if one.path.endswith(".npy")]
            assert len({one.path for one in arrays}) == 2
            size = sum(path.stat().st_size for path in (directory / "a").rglob("*.npy"))
            assert sum(one.sent for one in arrays) == size  # nothing came twice


@pytest.fixture(scope="module")
def samples(served: tuple[GeoTessera, GeoTessera], patch: Patch) -> np.ndarray:
    """What sampling gives at every labelled pixel, (N, 128)."""
    points = slovenia.lon_lat(patch)[patch.labels > 0]
    values, metadata, status = served[0].sample_embeddings_at_points(
        points, YEAR, include_metadata=True, return_status=True, auto_download=False
    )
    assert (status == Status.VALID).all()
    pixels = np.array([(entry["pixel_row"], entry["pixel_col"]) for entry in metadata])
    np.testing.assert_array_equal(pixels - (patch.row, patch.col), np.argwhere(patch.labels > 0))
    return values


def test_the_cube_lies_where_its_coordinates_say(patch: Patch) -> None:
    grid = tile_footprint(LON, LAT)
    assert (grid.epsg, grid.height, grid.width) == (32633, 1115, 783)
    assert (patch.row, patch.col) == (280, 404)
    assert max(map(abs, patch.offset)) <= 0.5
    # Polygons and raster are of one map: a wrong place would part them.
    labelled = patch.labels > 0
    agree = patch.labels[labelled] == patch.raster_labels[labelled]
    assert agree.mean() > 0.93
    moved = np.roll(patch.labels, 10, axis=1)
    assert (moved[labelled] == patch.raster_labels[labelled]).mean() < 0.85


def test_quantising_costs_at_most_half_a_step(patch: Patch) -> None:
    assert patch.features.shape == (101, 100, 128)
    assert np.abs(patch.values.astype(int)).max() == 127
    assert ((patch.scales > 0.02) & (patch.scales < 0.2)).all()  # as published ones
    error = np.abs(patch.embedding() - patch.features)
    assert (error <= patch.scales[..., None] * (0.5 + 1e-5)).all()


def test_what_was_downloaded_is_verified(
    served: tuple[GeoTessera, GeoTessera], mirrors: dict[str, Path]
) -> None:
    b, a = served
    for client, by_registry, by_record in ((b, 0, 3), (a, 3, 0)):
        report = verify_directory(client.embeddings_dir, registry=client.registry)
        assert report.ok, report.problems
        assert (report.tiles, report.files, report.unchecked) == (1, 3, [])
        assert (report.by_registry, report.by_record) == (by_registry, by_record)
    for client, root in ((b, mirrors["B"]), (a, mirrors["A"])):
        for name in ("*5.npy", "*_scales.npy", "*5.tiff"):
            (got,) = client.embeddings_dir.rglob(name)
            (sent,) = root.rglob(name)
            assert filecmp.cmp(got, sent, shallow=False)


@pytest.mark.parametrize("number", [0, 1], ids=["B", "A"])
def test_a_flipped_bit_of_the_cube_is_found(
    served: tuple[GeoTessera, GeoTessera], patch: Patch, number: int
) -> None:
    client = served[number]
    path = next(client.embeddings_dir.rglob("grid_14.55_45.85.npy"))
    pixel = (patch.row + 50) * tile_footprint(LON, LAT).width + patch.col + 50
    _flip(path, 128 + 128 * pixel)
    try:
        report = verify_directory(client.embeddings_dir, registry=client.registry)
    finally:
        _flip(path, 128 + 128 * pixel)
    assert [finding.problem for finding in report.problems] == ["checksum"]
    assert report.problems[0].path.endswith("grid_14.55_45.85.npy")


def _flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))


def test_a_fetched_tile_is_the_cube_and_nothing_else(
    served: tuple[GeoTessera, GeoTessera], patch: Patch
) -> None:
    values, crs, transform = served[1].fetch_embedding(LON, LAT, YEAR)
    assert crs.to_epsg() == 32633
    assert tuple(transform)[:6] == tile_footprint(LON, LAT).transform
    np.testing.assert_array_equal(values[patch.window], patch.embedding())
    assert np.count_nonzero(np.isfinite(values[..., 0])) == patch.scales.size
    values[patch.window] = np.nan
    assert np.isnan(values.reshape(-1, 128)[:, ::31]).all()


def test_samples_at_labelled_points_are_the_quantised_features(
    samples: np.ndarray, patch: Patch
) -> None:
    labelled = patch.labels > 0
    assert len(samples) == np.count_nonzero(labelled) > 9900
    np.testing.assert_array_equal(samples, patch.embedding()[labelled])
    error = np.abs(samples - patch.features[labelled])
    assert (error <= patch.scales[labelled][:, None] * (0.5 + 1e-5)).all()


def test_points_off_the_cube_hold_nothing(
    served: tuple[GeoTessera, GeoTessera], patch: Patch
) -> None:
    points = slovenia.lon_lat(patch)
    step = points[0, 1] - points[0, 0]
    values, status = served[0].sample_embeddings_at_points(
        [points[0, 0] - step, points[0, -1] + step], YEAR, return_status=True
    )
    assert status.tolist() == [Status.NODATA] * 2
    assert np.isnan(values).all()


def test_an_export_is_read_back_identical(
    served: tuple[GeoTessera, GeoTessera], patch: Patch, tmp_path: Path
) -> None:
    (path,) = served[0].export_embedding_geotiffs([slovenia.TILE], tmp_path, compress="zstd")
    height, width = patch.scales.shape
    with rasterio.open(path) as dataset:
        assert (dataset.count, dataset.dtypes[0]) == (128, "float32")
        assert np.isnan(dataset.nodata)
        assert dataset.crs.to_epsg() == 32633
        assert tuple(dataset.transform)[:6] == tile_footprint(LON, LAT).transform
        assert dataset.tags()["TESSERA_YEAR"] == str(YEAR)
        cube = dataset.read(window=Window(patch.col, patch.row, width, height))
        np.testing.assert_array_equal(np.moveaxis(cube, 0, -1), patch.embedding())
        whole = dataset.read(77)
        assert np.count_nonzero(np.isfinite(whole)) == patch.scales.size


# --- Learning from the samples -------------------------------------------------------------


def checkerboard(patch: Patch) -> np.ndarray:
    """Split the labelled pixels into two sets of blocks, like the squares of a chess board."""
    rows, cols = np.argwhere(patch.labels > 0).T // BLOCK
    black: np.ndarray = (rows + cols) % 2 == 0
    return black


def balanced_accuracy(samples: np.ndarray, labels: np.ndarray, black: np.ndarray) -> float:
    """Learn on the blocks of one colour, predict those of the other, both ways."""
    predicted = np.zeros_like(labels)
    for test in (black, ~black):
        model = LinearDiscriminantAnalysis(
            solver="lsqr", shrinkage=0.1, priors=[CHANCE] * len(slovenia.CLASSES)
        )
        predicted[test] = model.fit(samples[~test], labels[~test]).predict(samples[test])
    score: float = balanced_accuracy_score(labels, predicted)
    return score


def test_land_cover_is_learnt_across_blocks(samples: np.ndarray, patch: Patch) -> None:
    labels = patch.labels[patch.labels > 0]
    black = checkerboard(patch)
    assert set(labels[black]) == set(labels[~black]) == set(slovenia.CLASSES)
    majority = np.full_like(labels, 2)
    assert balanced_accuracy_score(labels, majority) == CHANCE
    assert balanced_accuracy(samples, labels, black) > CHANCE + MARGIN


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_learnt_from_shuffled_labels(
    samples: np.ndarray, patch: Patch, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(patch.labels[patch.labels > 0])
    assert abs(balanced_accuracy(samples, labels, checkerboard(patch)) - CHANCE) < 0.05


def test_the_command_line_samples_the_same(
    served: tuple[GeoTessera, GeoTessera], mirrors: dict[str, Path], patch: Patch, tmp_path: Path
) -> None:
    points = slovenia.lon_lat(patch)[::20, ::20].reshape(-1, 2)
    (tmp_path / "points.csv").write_text(
        "lon,lat\n" + "".join(f"{lon!r},{lat!r}\n" for lon, lat in points.tolist())
    )
    done = CliRunner().invoke(
        cli.app,
        [
            "sample", str(tmp_path / "points.csv"), "-o", str(tmp_path / "out.npz"), "--json",
            "--year", str(YEAR), "--tiles", str(served[0].embeddings_dir),
            "--base-url", str(mirrors["B"]), "--cache-dir", str(tmp_path / "cache"),
        ],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["status"] == {"valid": len(points)}
    with np.load(tmp_path / "out.npz") as arrays:
        values = arrays["tessera"]
    np.testing.assert_array_equal(values, patch.embedding()[::20, ::20].reshape(-1, 128))
