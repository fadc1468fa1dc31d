"""Upstream's ways to principal components: arrays, tiles as pictures, scikit-learn's names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from geotessera import GeoTessera, pca, projection
from geotessera.errors import DatasetMismatchError, FormatError, InputError, TileError
from geotessera.sources import strips
from geotessera.tiles import Tile, discover_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import SampleWorld


def embeddings(seed: int = 0) -> list[tuple[Any, ...]]:
    """Two tiles as `fetch_embeddings` yields them, with gaps."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(6, 10)) * np.linspace(5, 1, 6)[:, None]
    made = []
    for number in range(2):
        array = (rng.normal(size=(30, 20, 6)) @ mix + number).astype(np.float32)
        array += rng.normal(0, 0.1, array.shape).astype(np.float32)
        array[rng.random(array.shape[:2]) < 0.1] = np.nan
        array[0, number, 3] = np.inf
        place = Affine(10, 0, 3e5 + 200 * number, 0, -10, 5.7e6)
        made.append((2024, 0.05 + number / 10, 52.05, array, CRS.from_epsg(32631), place))
    return made


def as_dicts(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [{"data": row[3], "crs": row[4], "transform": row[5]} for row in rows]


def valid_rows(rows: list[tuple[Any, ...]]) -> np.ndarray:
    return np.concatenate([row[3][np.isfinite(row[3]).all(axis=2)] for row in rows])


@pytest.fixture(scope="module")
def client(small_world: SampleWorld) -> GeoTessera:
    return GeoTessera(base_url=small_world.root(), dataset_variant="cambridge")


@pytest.fixture
def wanted(small_world: SampleWorld) -> list[tuple[int, float, float]]:
    """Two tiles of one year."""
    return [tuple(one.tile) for one in small_world.tiles if one.tile.year == 2024][:2]  # type: ignore[misc]


# --- Arrays --------------------------------------------------------------------------------


@pytest.mark.parametrize("standardize", [True, False])
def test_embeddings_become_scores_of_one_model(client: GeoTessera, standardize: bool) -> None:
    rows = embeddings()
    calls: list[Any] = []
    found = client.apply_pca_to_embeddings(
        iter(rows), 4, standardize, lambda *call: calls.append(call)
    )
    pixels = valid_rows(rows).astype(np.float64)
    scaled = StandardScaler().fit_transform(pixels) if standardize else pixels
    theirs = PCA(4, svd_solver="full").fit(scaled)
    scores = np.concatenate([row[3][~np.isnan(row[3][..., 0])] for row in found])
    wanted = theirs.transform(scaled)
    wanted *= np.sign((wanted * scores).sum(axis=0))
    np.testing.assert_allclose(scores, wanted, atol=1e-3 * np.abs(wanted).max())
    for row, before in zip(found, rows, strict=True):
        assert row[:3] == before[:3]
        assert row[4:6] == before[4:6]
        assert row[3].dtype == np.float32
        gone = ~np.isfinite(before[3]).all(axis=2)
        np.testing.assert_array_equal(np.isnan(row[3]).all(axis=2), gone)
        info = row[6]
        assert set(info) == {"explained_variance", "total_variance", "n_components", "standardized"}
        np.testing.assert_allclose(
            info["explained_variance"], theirs.explained_variance_ratio_, rtol=1e-4
        )
        assert info["total_variance"] == pytest.approx(sum(info["explained_variance"]))
        assert (info["n_components"], info["standardized"]) == (4, standardize)
    assert [call[:2] for call in calls] == [(1, 2), (2, 2)]


def test_a_model_is_taken_as_it_is(client: GeoTessera, tmp_path: Path) -> None:
    one, other = embeddings(1), embeddings(2)
    model = pca.fit([row[3] for row in one], 2, standardize=False)
    path = model.save(tmp_path / "model.json")
    for given in (model, path, str(path)):
        found = client.apply_pca_to_embeddings(other, 7, model=given)
        for row, before in zip(found, other, strict=True):
            np.testing.assert_array_equal(row[3], model.project(before[3]))
            assert row[6]["n_components"] == 2
            assert row[6]["standardized"] is False


def test_embeddings_that_give_no_components(client: GeoTessera) -> None:
    assert client.apply_pca_to_embeddings([]) == []
    rows = embeddings()
    for count in (0, 11, -1):
        with pytest.raises(ValueError, match="n_components"):
            client.apply_pca_to_embeddings(rows, count)
    empty = [(*rows[0][:3], np.full((3, 3, 10), np.nan, np.float32), *rows[0][4:])]
    with pytest.raises(ValueError, match="not enough valid pixels"):
        client.apply_pca_to_embeddings(empty)
    mixed = [rows[0], (*rows[1][:3], rows[1][3][..., :4], *rows[1][4:])]
    with pytest.raises(ValueError, match="bands"):
        client.apply_pca_to_embeddings(mixed)


# --- Tiles as pictures ---------------------------------------------------------------------


def levels_of(scores: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """What upstream writes: floor(255 (x - low) / (high - low))."""
    return np.floor(255 * np.clip((scores.astype(np.float64) - low) / (high - low), 0, 1))


@pytest.mark.parametrize("normalize", [True, False])
def test_tiles_become_pictures(
    client: GeoTessera,
    wanted: list[tuple[int, float, float]],
    tmp_path: Path,
    normalize: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strips, "STRIP_VALUES", 8 * 20_000)
    paths = client.export_pca_geotiffs(wanted, tmp_path, normalize=normalize, compress="deflate")
    rows = client.apply_pca_to_embeddings(client.fetch_embeddings(wanted))
    everything = np.concatenate([row[3].reshape(-1, 3) for row in rows])
    for path, row in zip(paths, rows, strict=True):
        year, lon, lat, scores, crs, transform, info = row
        assert path == str(tmp_path / f"grid_{lon:.2f}_{lat:.2f}_{year}_pca.tiff")
        pool = everything if normalize else scores.reshape(-1, 3)
        low, high = np.nanmin(pool, axis=0), np.nanmax(pool, axis=0)
        with rasterio.open(path) as file:
            assert file.dtypes == ("uint8",) * 3
            assert file.crs == crs
            assert file.transform == transform
            assert [one.name for one in file.colorinterp] == ["red", "green", "blue"]
            assert file.compression.name == "deflate"
            found = file.read().transpose(1, 2, 0)
            shown = file.read_masks(1) > 0
            tags = file.tags()
        np.testing.assert_array_equal(shown, ~np.isnan(scores[..., 0]))
        assert not found[~shown].any()
        expected = levels_of(scores[shown], low, high)
        assert np.abs(found[shown] - expected).max() <= 1
        assert (found[shown] == expected).mean() > 0.999
        assert tags["TESSERA_YEAR"] == str(year)
        assert tags["TESSERA_TILE_LAT"] == f"{lat:.2f}"
        assert tags["PCA_COMPONENTS"] == "3"
        assert tags["PCA_BALANCE_METHOD"] == "percentile"
        assert tags["TESSERA_DATASET_VARIANT"] == "cambridge"
        np.testing.assert_allclose(
            [float(x) for x in tags["PCA_EXPLAINED_VARIANCE"].strip("[]").split(",")],
            info["explained_variance"],
            rtol=1e-5,
        )
    assert len(list(tmp_path.iterdir())) == len(paths)


def test_a_model_makes_one_colour_space(
    client: GeoTessera, wanted: list[tuple[int, float, float]], tmp_path: Path
) -> None:
    rows = list(client.fetch_embeddings(wanted[:1]))
    model = pca.fit([row[3] for row in rows], 2)
    model = replace(model, stretch=pca.fit_stretch(model, [row[3] for row in rows]))
    assert model.stretch is not None
    paths = client.export_pca_geotiffs(
        wanted[1:], tmp_path / "a", model=model.save(tmp_path / "model.npz")
    )
    other = next(client.fetch_embeddings(wanted[1:]))[3]
    with rasterio.open(paths[0]) as file:
        assert file.count == 2
        assert file.tags()["PCA_BALANCE_METHOD"] == "histogram"
        levels = model.stretch.apply(model.project(other))
        np.testing.assert_array_equal(file.read().transpose(1, 2, 0), levels)
    foreign = replace(model, provenance="v1 vultr")
    with pytest.raises(DatasetMismatchError, match="v1 vultr"):
        client.export_pca_geotiffs(wanted, tmp_path / "b", model=foreign)
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(FormatError, match="not a PCA model"):
        client.export_pca_geotiffs(wanted, tmp_path / "b", model=tmp_path / "none.json")
    assert not (tmp_path / "b").exists() or not list((tmp_path / "b").iterdir())


def test_tiles_that_cannot_be_had_are_an_error(
    client: GeoTessera, wanted: list[tuple[int, float, float]], tmp_path: Path
) -> None:
    assert client.export_pca_geotiffs([], tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
    with pytest.raises((TileError, OSError)):
        client.export_pca_geotiffs([*wanted, (2024, 100.05, 0.05)], tmp_path)
    with pytest.raises(InputError, match="compression"):
        client.export_pca_geotiffs(wanted, tmp_path, compress="jpeg")
    assert list(tmp_path.iterdir()) == []


def test_every_form_of_a_tile_is_written(small_world: SampleWorld, tmp_path: Path) -> None:
    wanted = [tuple(one.tile) for one in small_world.tiles if one.tile.year == 2024][:2]
    local = small_world.checkout(tmp_path / "tiles", wanted)  # type: ignore[arg-type]
    tiles = discover_tiles(local)
    assert len(tiles) == 2
    forms: list[list[Any]] = [
        tiles,
        [tile.source() for tile in tiles],
        [tile.source().descriptor for tile in tiles],
        [tile.to_dict() for tile in tiles],
    ]
    pictures = []
    for number, form in enumerate(forms):
        paths = projection.write_pca_tiles(form, tmp_path / str(number), 2)
        assert [path.rsplit("/", 1)[1] for path in paths] == ["pca_0.tif", "pca_1.tif"]
        read = []
        for path, tile in zip(paths, tiles, strict=True):
            with rasterio.open(path) as file:
                assert (file.crs, file.transform) == (tile.crs, tile.transform)
                read.append(file.read())
        pictures.append(read)
    for read in pictures[1:]:
        for found, expected in zip(read, pictures[0], strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("method", pca.METHODS)
@pytest.mark.parametrize("local", [True, False])
def test_balances_of_tiles(tmp_path: Path, method: str, local: bool) -> None:
    rows = embeddings(3)
    calls: list[Any] = []
    paths = projection.write_pca_tiles(
        as_dicts(rows),
        tmp_path,
        balance_method=method,
        local_scaling=local,
        progress_callback=lambda *call: calls.append(call[:2]),
    )
    assert calls == [(1, 2), (2, 2)]
    model = pca.fit([row[3] for row in rows])
    scores = [model.project(row[3]) for row in rows]
    stretch = pca.fit_stretch(model, [row[3] for row in rows], method)
    for path, one in zip(paths, scores, strict=True):
        with rasterio.open(path) as file:
            found = file.read().transpose(1, 2, 0)
        if not local or method == "histogram":
            np.testing.assert_array_equal(found, stretch.apply(one))
        else:
            valid = ~np.isnan(one[..., 0])
            expected = levels_of(one[valid], one[valid].min(axis=0), one[valid].max(axis=0))
            assert np.abs(found[valid] - expected).max() <= 1
            assert found[valid].max() == 255


def test_an_empty_tile_is_hidden(tmp_path: Path) -> None:
    rows = embeddings()
    rows[1] = (*rows[1][:3], np.full_like(rows[1][3], np.nan), *rows[1][4:])
    for local in (True, False):
        paths = projection.write_pca_tiles(as_dicts(rows), tmp_path, local_scaling=local)
        with rasterio.open(paths[1]) as file:
            assert not file.read().any()
            assert not file.read_masks(1).any()


def test_options_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    rows = as_dicts(embeddings())
    for options in (
        {"balance_method": "equal"},
        {"percentile_range": (98, 2)},
        {"compress": "jpeg"},
        {"n_components": 11},
    ):
        with pytest.raises(InputError):
            projection.write_pca_tiles(rows, tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no place"):
        projection.write_pca_tiles([rows[0]["data"]], tmp_path)
    with pytest.raises(InputError, match="crs"):
        projection.write_pca_tiles([{"data": rows[0]["data"]}], tmp_path)
    with pytest.raises(InputError, match="no source"):
        projection.write_pca_tiles([], tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- scikit-learn's names ------------------------------------------------------------------


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("with_std", [True, False])
def test_what_scikit_learn_fitted_transforms_as_there(
    whiten: bool, with_mean: bool, with_std: bool
) -> None:
    row = embeddings(1)[0][3]
    gone = ~np.isfinite(row).all(axis=2)
    pixels = row[~gone].astype(np.float64)
    scaler = StandardScaler(with_mean=with_mean, with_std=with_std).fit(pixels)
    theirs = PCA(3, whiten=whiten, svd_solver="full").fit(scaler.transform(pixels))
    found = projection.transform_block(row, scaler, theirs)
    wanted = theirs.transform(scaler.transform(pixels))
    np.testing.assert_allclose(found[~gone], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("standardize", [True, False])
def test_projections_go_by_scikit_learns_names(standardize: bool) -> None:
    rows = embeddings(4)
    scaler, components, scores = projection.fit_projection(as_dicts(rows), 3, standardize)
    pixels = valid_rows(rows).astype(np.float64)
    assert (scaler is None) == (not standardize)
    scaled = pixels if scaler is None else scaler.transform(pixels)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(components.transform(scaled), scores, rtol=1e-4, atol=1e-4)
    theirs_scaler = StandardScaler().fit(pixels) if standardize else None
    theirs = PCA(3, svd_solver="full").fit(
        pixels if theirs_scaler is None else theirs_scaler.transform(pixels)
    )
    np.testing.assert_allclose(
        components.explained_variance_, theirs.explained_variance_, rtol=1e-4
    )
    assert components.n_components_ == 3
    for given in ((scaler, components), (theirs_scaler, theirs)):
        for row in rows:
            found = projection.transform_block(row[3], *given)
            gone = ~np.isfinite(row[3]).all(axis=2)
            np.testing.assert_array_equal(np.isnan(found[..., 0]), gone)
            flat = row[3][~gone]
            flat = flat if given[0] is None else given[0].transform(flat)
            np.testing.assert_allclose(found[~gone], given[1].transform(flat), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="bands"):
        projection.transform_block(np.zeros((2, 2, 3), np.float32), scaler, components)


def test_samples_of_scores_are_evenly_spaced() -> None:
    rows = as_dicts(embeddings(5))
    _, _, every = projection.fit_projection(rows)
    for most in (1, 10, 100, 333):
        _, _, some = projection.fit_projection(rows, max_samples=most)
        step = -(-len(every) // most)
        np.testing.assert_array_equal(some, every[::step])
        assert len(some) <= most
    with pytest.raises(InputError, match="max_samples"):
        projection.fit_projection(rows, max_samples=0)


def test_blocks_and_metadata(small_world: SampleWorld, tmp_path: Path) -> None:
    wanted = [tuple(small_world.tiles[0].tile)]
    (tile,) = discover_tiles(small_world.checkout(tmp_path, wanted))  # type: ignore[arg-type]
    whole = tile.load_embedding()
    for source in (tile, tile.source(), tile.source().descriptor, tile.to_dict()):
        parts = list(projection.blocks(source, rows=50))
        assert [top for top, _ in parts] == list(range(0, len(whole), 50))
        np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), whole)
        assert projection.metadata(source) == {
            "height": tile.height,
            "width": tile.width,
            "crs": tile.crs,
            "transform": tile.transform,
        }
    with pytest.raises(InputError, match="no files"):
        projection.metadata(Tile(0.05, 52.05, 2024))
