"""Pictures of principal components against scikit-learn, GDAL's warp and plain NumPy."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
import shapely
from rasterio.enums import ColorInterp, MaskFlags
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from geotessera.errors import (
    BandError,
    DatasetMismatchError,
    EmptySelectionError,
    FormatError,
    InputError,
    UnwritableDestination,
)
from geotessera.grid import tile_footprint
from geotessera.mosaic import MosaicPlan, MosaicRaster, grid_around, render
from geotessera.pictures import Look, make_picture, rasters_below, rasters_of
from geotessera.pictures import draw as draw_module
from geotessera.pictures import make as make_module
from geotessera.pictures.arrays import ArrayRaster
from geotessera.pictures.excerpt import Excerpt
from geotessera.pictures.geotiff import PictureFile
from geotessera.regions import Region
from geotessera.remote.temporary import is_temporary_name
from geotessera.sources import NpyTile
from geotessera.tiles import Tile, discover_tiles
from geotessera.types import GridSpec, Provenance, Window
from geotessera.visualization import create_pca_mosaic, create_rgb_mosaic
from mosaic_world import MadeTile, centres, make_tile, oracle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geotessera.pictures import PictureReport

BANDS = 8

WEST, EAST = (0.15, 52.25), (0.25, 52.25)
"""Neighbours in zone 31."""


def small(lon: float, lat: float, side: str = "middle") -> GridSpec:
    """160 × 130 pixels of a tile's raster, in its middle or at its west or east edge."""
    whole = tile_footprint(lon, lat)
    col = {"middle": whole.width // 2 - 65, "west": 4, "east": whole.width - 134}[side]
    return whole.window(Window(whole.height // 2 - 80, col, 160, 130))


def tile_with_components(base: Path, lon: float, lat: float, side: str = "middle") -> MadeTile:
    """Write a tile whose bands mix four fields of very different strength, with holes."""
    made = make_tile(base, lon, lat, bands=BANDS, grid=small(lon, lat, side), holes=0.01)
    x, y = np.meshgrid(np.arange(130), np.arange(160))
    rng = np.random.default_rng(5)
    mixing = rng.normal(size=(4, BANDS))
    own = np.random.default_rng([round(lon * 100) % 2**16, round(lat * 100) % 2**16])
    shift = own.uniform(0, 6, 4)
    fields = [
        amplitude * np.sin(x / (9 + 7 * at) + shift[at]) * np.cos(y / (13 + 5 * at))
        for at, amplitude in enumerate((28, 14, 6, 2))
    ]
    mixed = np.stack(fields, axis=-1) @ mixing + own.normal(0, 1, (160, 130, BANDS))
    values = np.clip(np.round(mixed), -127, 127).astype(np.int8)
    scales = made.scales.copy()
    scales[np.isfinite(scales)] = 0.05
    np.save(made.descriptor.embedding, values)
    np.save(made.descriptor.scales, scales)
    return replace(made, values=values, scales=scales)


@dataclass(frozen=True)
class Scored:
    """A tile's scores, in place of its pixels, for the mosaic's oracle."""

    lon: float
    lat: float
    grid: GridSpec
    pixels: NDArray[np.float32]

    @property
    def values(self) -> NDArray[np.float32]:
        return self.pixels


def sklearn_scores(
    tiles: Sequence[MadeTile], components: NDArray[np.float64], count: int = 3
) -> tuple[list[Scored], NDArray[np.float64], PCA]:
    """Each tile's scores by scikit-learn, signs as in `components`; all of them; the PCA."""
    everything = [tile.pixels for tile in tiles]
    valid = np.concatenate([one[np.isfinite(one).all(axis=2)] for one in everything])
    scaler = StandardScaler().fit(valid.astype(np.float64))
    pca = PCA(n_components=count, svd_solver="full").fit(scaler.transform(valid.astype(np.float64)))
    signs = np.sign((pca.components_ * components[:count]).sum(axis=1))
    scored = []
    for tile, pixels in zip(tiles, everything, strict=True):
        shown = np.isfinite(pixels).all(axis=2)
        scores = np.full((*pixels.shape[:2], count), np.nan, np.float32)
        scores[shown] = pca.transform(scaler.transform(pixels[shown].astype(np.float64))) * signs
        scored.append(Scored(tile.lon, tile.lat, tile.grid, scores))
    return scored, pca.transform(scaler.transform(valid.astype(np.float64))) * signs, pca


def balanced(scores: NDArray[Any], all_scores: NDArray[np.float64], balance: str) -> NDArray[Any]:
    """256 levels by plain NumPy."""
    out = np.zeros(scores.shape, np.int64)
    for k in range(scores.shape[2]):
        column, plane = all_scores[:, k], np.nan_to_num(scores[..., k], nan=-1e9)
        if balance == "histogram":
            rank = np.searchsorted(np.sort(column), plane, side="right")
            out[..., k] = np.clip(np.floor(256 * rank / len(column)), 0, 255)
            continue
        low, high = np.percentile(column, (2, 98))
        if balance == "adaptive":
            low = column.mean() - 2.5 * column.std()
            high = column.mean() + 2.5 * column.std()
        out[..., k] = np.clip(np.floor(255 * (plane - low) / (high - low)), 0, 255)
    return out


def pixels_of(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_], GridSpec]:
    """Levels (row, column, band), which pixels are shown, and the grid, by rasterio."""
    with rasterio.open(path) as dataset:
        grid = GridSpec(
            dataset.crs.to_epsg(), tuple(dataset.transform)[:6], dataset.height, dataset.width
        )
        return dataset.read().transpose(1, 2, 0), dataset.dataset_mask() > 0, grid


def picture(base: Path, output: Path, **how: Any) -> PictureReport:
    return make_picture(rasters_below(base, georeference="landmask").rasters, output, **how)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[MadeTile]]:
    """Two neighbouring tiles that nearly touch."""
    base = tmp_path_factory.mktemp("two")
    return base, [
        tile_with_components(base, *WEST, "east"),
        tile_with_components(base, *EAST, "west"),
    ]


# --- Pixels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("balance", "crs", "method"),
    [
        ("histogram", "EPSG:3857", "bilinear"),
        ("percentile", "EPSG:32631", "nearest"),
        ("adaptive", "EPSG:3035", "bilinear"),
        ("histogram", "EPSG:4326", "nearest"),
    ],
)
def test_pixels_are_those_of_scikit_learn_gdal_and_numpy(
    two: tuple[Path, list[MadeTile]], tmp_path: Path, balance: str, crs: str, method: Any
) -> None:
    base, tiles = two
    output = tmp_path / "p.tif"
    report = picture(base, output, look=Look(balance=balance), crs=crs, method=method)
    levels, shown, grid = pixels_of(output)
    scored, scores, pca = sklearn_scores(tiles, report.model.components)
    # On the way back and forth to the file a transform loses nothing; the CRS is a code.
    assert grid.transform == report.plan.grid.transform
    expected, certain = oracle(grid, scored, method)  # type: ignore[arg-type]
    holds = np.isfinite(expected).all(axis=2)
    np.testing.assert_array_equal(shown[certain], holds[certain])
    assert 0.3 < shown.mean() < 1
    both = certain & holds
    wanted = balanced(expected, scores, balance)
    difference = np.abs(levels.astype(int) - wanted)[both]
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02
    assert (levels[~shown] == 0).all()
    np.testing.assert_allclose(
        report.model.explained_variance / report.model.total_variance,
        pca.explained_variance_ratio_,
        rtol=1e-6,
    )
    assert report.model.pixels == len(scores)


def test_histogram_gives_each_level_as_many_pixels(
    two: tuple[Path, list[MadeTile]], tmp_path: Path
) -> None:
    base, _ = two
    # Nearest, in the tiles' own CRS and pixel size: pixels are copied.
    picture(base, tmp_path / "p.tif", crs="EPSG:32631", method="nearest")
    levels, shown, _ = pixels_of(tmp_path / "p.tif")
    counts = np.bincount(levels[shown][:, 0], minlength=256)
    assert counts.min() > 0.6 * counts.mean()
    assert counts.max() < 1.4 * counts.mean()


def test_arrays_in_hand_give_the_picture_of_their_tile(
    two: tuple[Path, list[MadeTile]], tmp_path: Path
) -> None:
    tiles = discover_tiles(two[0])[:1]
    one = create_pca_mosaic(tiles, tmp_path / "tile.tif")
    other = create_pca_mosaic([tile.to_dict() for tile in tiles], str(tmp_path / "array.tif"))
    assert (one, other) == (str(tmp_path / "tile.tif"), str(tmp_path / "array.tif"))
    levels, shown, grid = pixels_of(one)
    again, shown_again, grid_again = pixels_of(other)
    assert grid == grid_again
    np.testing.assert_array_equal(shown, shown_again)
    # Dequantised first or last: scores differ by rounding.
    assert np.abs(levels.astype(int) - again).max() <= 1


def test_what_is_masked_in_an_array_is_not_shown(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 30, 4)).astype(np.float32)
    holes = np.zeros(values.shape, bool)
    holes[3:6, 4:9] = True
    place = {"crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 300000, 0, -10, 5800000)}
    for name, data in (
        ("masked", np.ma.masked_array(values, holes)),
        ("nan", np.where(holes, np.float32(np.nan), values)),
    ):
        create_pca_mosaic([{"data": data, **place}], tmp_path / name, target_crs=32631)
    levels, shown, _ = pixels_of(tmp_path / "masked")
    np.testing.assert_array_equal(shown, ~holes.any(axis=2))
    np.testing.assert_array_equal(levels, pixels_of(tmp_path / "nan")[0])


def test_of_arrays_the_first_in_the_list_wins(
    two: tuple[Path, list[MadeTile]], tmp_path: Path
) -> None:
    arrays = [tile.to_dict() for tile in discover_tiles(two[0])]
    backwards = two[1][::-1]
    made = rasters_of(arrays[::-1])
    report = make_picture(made, tmp_path / "p.tif")
    levels, _, grid = pixels_of(tmp_path / "p.tif")
    scored, scores, _ = sklearn_scores(backwards, report.model.components)
    wanted = []
    for cells in (False, True):
        expected, certain = oracle(grid, scored, "bilinear", cells=cells)  # type: ignore[arg-type]
        certain &= np.isfinite(expected).all(axis=2)
        wanted.append((balanced(expected, scores, "histogram"), certain))
    expected_levels, certain = wanted[0]
    assert np.abs(levels.astype(int) - expected_levels)[certain].max() <= 1
    differing = np.abs(wanted[1][0] - expected_levels)[certain & wanted[1][1]].max()
    assert differing > 1  # tiles overlap, so the order shows


@pytest.mark.parametrize("balance", ["histogram", "percentile", "adaptive"])
def test_scores_that_are_too_many_to_keep(
    two: tuple[Path, list[MadeTile]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    balance: str,
) -> None:
    look = Look(n_components=4, balance=balance)
    picture(two[0], tmp_path / "a.tif", look=look)
    monkeypatch.setattr(make_module, "_KEPT", 0)
    picture(two[0], tmp_path / "b.tif", look=look)
    for one, other in zip(
        pixels_of(tmp_path / "a.tif"), pixels_of(tmp_path / "b.tif"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("crs", [3857, 4326, 32630])
def test_places_may_be_interpolated(two: tuple[Path, list[MadeTile]], crs: int) -> None:
    x, y = np.meshgrid(np.arange(130, dtype=np.float32), np.arange(160, dtype=np.float32))
    # What a pixel holds says where it is.
    rasters = [
        replace(MosaicRaster.of(ArrayRaster(np.stack([x, y], -1), tile.grid)), cell=None)
        for tile in two[1][:1]
    ]
    grid = grid_around([rasters[0].grid], crs)
    plan = MosaicPlan.of(
        grid, [replace(one, quantized=False) for one in rasters], method="bilinear"
    )
    loose = replace(plan, exact=False)
    assert plan.digest != loose.digest
    one, other = render(plan).values, render(loose).values
    both = np.isfinite(one) & np.isfinite(other)
    assert both.any()
    assert (np.isfinite(one) == np.isfinite(other)).mean() > 0.999
    assert 0 < np.abs(one - other)[both].max() < 1.1e-3


def test_windows_and_blocks_do_not_change_a_pixel(
    two: tuple[Path, list[MadeTile]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _ = two
    picture(base, tmp_path / "a.tif", crs="EPSG:3035")
    monkeypatch.setattr(draw_module, "BLOCK", 64)
    monkeypatch.setattr(draw_module, "_WIDEST", 128)
    picture(base, tmp_path / "b.tif", crs="EPSG:3035")
    for one, other in zip(
        pixels_of(tmp_path / "a.tif"), pixels_of(tmp_path / "b.tif"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "places",
    [
        [(5.95, 50.05), (6.05, 50.05)],
        [(20.85, -33.95), (20.95, -33.95)],
        [(179.95, -16.55), (-179.95, -16.55)],
    ],
    ids=["zone-seam", "south", "antimeridian"],
)
def test_places(tmp_path: Path, places: list[tuple[float, float]]) -> None:
    tiles = [tile_with_components(tmp_path, *place) for place in places]
    report = picture(tmp_path, tmp_path / "p.tif")
    levels, shown, grid = pixels_of(tmp_path / "p.tif")
    scored, scores, _ = sklearn_scores(tiles, report.model.components)
    for one in scored:
        # GDAL goes round the globe by itself.
        expected, certain = oracle(grid, [one], "bilinear", cells=False)  # type: ignore[list-item]
        both = certain & np.isfinite(expected).all(axis=2)
        assert both.sum() > 5000
        assert shown[both].all()
        wanted = balanced(expected, scores, "histogram")
        assert np.abs(levels.astype(int) - wanted)[both].max() <= 1


# --- The file -------------------------------------------------------------------------------


def test_gis_reads_it_at_once(two: tuple[Path, list[MadeTile]], tmp_path: Path) -> None:
    base, _ = two
    previous = os.umask(0o027)
    try:
        report = picture(base, tmp_path / "p.tif", resolution=3.0)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "p.tif").stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["p.tif"]  # no mask or tags beside it
    with rasterio.open(tmp_path / "p.tif") as dataset:
        assert dataset.dtypes == ("uint8",) * 3
        assert dataset.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        assert dataset.mask_flag_enums == ([MaskFlags.per_dataset],) * 3
        assert dataset.descriptions == ("PC1", "PC2", "PC3")
        assert dataset.profile["tiled"]
        assert dataset.crs.to_epsg() == 3857
        assert dataset.res == (3.0, 3.0)
        factors = dataset.overviews(1)
        assert factors == [2, 4]
        assert max(dataset.shape) / factors[-1] <= 512
        tags = dataset.tags()
        full, mask = dataset.read(), dataset.dataset_mask()
    assert tags["PCA_COMPONENTS"] == "3"
    assert tags["PCA_BALANCE_METHOD"] == "histogram"
    assert tags["PCA_STANDARDIZED"] == "True"
    assert tags["PCA_PIXELS"] == str(report.model.pixels)
    assert tags["TESSERA_YEAR"] == "2024"
    assert tags["TESSERA_TILE_COUNT"] == "2"
    assert tags["TESSERA_TARGET_CRS"] == "EPSG:3857"
    shares = [float(part) for part in tags["PCA_EXPLAINED_VARIANCE"].strip("[]").split(",")]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(float(tags["PCA_TOTAL_VARIANCE"]), abs=1e-5)
    with rasterio.open(tmp_path / "p.tif", overview_level=0) as half:
        rows, cols = half.height - 1, half.width - 1  # the last may be cut off
        inner = (mask[: rows * 2, : cols * 2].reshape(rows, 2, cols, 2) > 0).all(axis=(1, 3))
        means = full[:, : rows * 2, : cols * 2].reshape(3, rows, 2, cols, 2).mean(axis=(2, 4))
        overview = half.read()[:, :rows, :cols].astype(float)
        shown = half.dataset_mask()[:rows, :cols] > 0
    assert inner.any()
    assert shown[inner].all()
    # GDAL spreads the odd row and column over all others.
    difference = np.abs(overview - means)[:, inner]
    assert (difference <= 0.75).mean() > 0.4
    assert difference.mean() < 2


@pytest.mark.parametrize(("count", "bands"), [(1, 1), (2, 2), (5, 3)])
def test_components_and_bands(
    two: tuple[Path, list[MadeTile]], tmp_path: Path, count: int, bands: int
) -> None:
    base, _ = two
    report = picture(base, tmp_path / "p.tif", look=Look(n_components=count))
    assert report.model.n_components == count
    with rasterio.open(tmp_path / "p.tif") as dataset:
        assert dataset.count == bands
        assert dataset.tags()["PCA_COMPONENTS"] == str(count)
        levels = dataset.read()
    if count > 1:
        three = picture(base, tmp_path / "three.tif")
        wanted = pixels_of(tmp_path / "three.tif")[0].transpose(2, 0, 1)[:bands]
        assert three.model.n_components == 3
        # The same up to rounding, which may tip a score over a threshold.
        assert (levels != wanted).mean() < 1e-3


def test_a_png_shows_the_same_pixels_at_the_same_place(
    two: tuple[Path, list[MadeTile]], tmp_path: Path
) -> None:
    base, _ = two
    report = picture(base, tmp_path / "p.tif", png=True)
    names = ["p.tif", "p.png", "p.pgw", "p.png.aux.xml"]
    assert [path.name for path in report.paths] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    levels, shown, grid = pixels_of(tmp_path / "p.tif")
    with rasterio.open(tmp_path / "p.png") as dataset:
        assert dataset.driver == "PNG"
        assert dataset.crs.to_epsg() == 3857
        np.testing.assert_allclose(tuple(dataset.transform)[:6], grid.transform, rtol=1e-12)
        image = dataset.read().transpose(1, 2, 0)
    np.testing.assert_array_equal(image[..., :3], levels)
    np.testing.assert_array_equal(image[..., 3], np.where(shown, 255, 0))
    # The world file alone says the same.
    (tmp_path / "p.png.aux.xml").unlink()
    with rasterio.open(tmp_path / "p.png") as dataset:
        np.testing.assert_allclose(tuple(dataset.transform)[:6], grid.transform, rtol=1e-12)
    only = tmp_path / "only"
    picture(base, only / "q.png")
    assert sorted(path.name for path in only.iterdir()) == ["q.pgw", "q.png", "q.png.aux.xml"]


class BreakError(Exception):
    """What a test breaks off with."""


@pytest.mark.parametrize("error", [BreakError, KeyboardInterrupt])
def test_a_picture_that_fails_halfway_leaves_nothing(
    two: tuple[Path, list[MadeTile]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    base, _ = two
    monkeypatch.setattr(draw_module, "BLOCK", 64)
    written = []
    plain = PictureFile.write

    def failing(self: Any, window: Window, *rest: Any) -> None:
        written.append(window)
        if len(written) == 3:
            raise error
        plain(self, window, *rest)

    monkeypatch.setattr(PictureFile, "write", failing)
    out = tmp_path / "new" / "p.tif"
    with pytest.raises(error):
        picture(base, out)
    assert len(written) == 3
    assert list(tmp_path.iterdir()) == []
    out.parent.mkdir()
    out.write_text("what was there")
    written.clear()
    with pytest.raises(error):
        picture(base, out.with_suffix(".png"))
    written.clear()
    with pytest.raises(error):
        picture(base, out)
    assert out.read_text() == "what was there"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("alias", ["itself", "symbolic", "hard"])
def test_a_picture_does_not_replace_what_it_is_made_of(alias: str, tmp_path: Path) -> None:
    """Not as one of the tiles of a directory either."""
    for number in range(2):
        data = np.random.default_rng(number).normal(size=(3, 20, 30)).astype(np.float32)
        with rasterio.open(
            tmp_path / f"grid_0.{number}5_52.25_2024.tif", "w", driver="GTiff", count=3, height=20,
            width=30, dtype="float32", crs=32631,
            transform=rasterio.Affine(10, 0, 300000 + number * 300, 0, -10, 5800000),
        ) as dataset:  # fmt: skip
            dataset.write(data)
    tile = target = tmp_path / "grid_0.15_52.25_2024.tif"
    before = tile.read_bytes()
    rasters = rasters_below(tmp_path).rasters
    assert len(rasters) == 2
    if alias == "symbolic":
        target = tmp_path / "link.tif"
        target.symlink_to(tile)
    elif alias == "hard":
        target = tmp_path / "name.tif"
        os.link(tile, target)
    with pytest.raises(InputError, match="is what the picture is made of"):
        make_picture(rasters, target)
    with pytest.raises(InputError, match="is what the picture is made of"):
        create_rgb_mosaic([one.name for one in rasters], target)
    assert tile.read_bytes() == before


_KILLED = """
import os, signal, sys
from geotessera.pictures import make_picture, rasters_below

def stop(done, total, status):
    if "drawing" in status or "overviews" in status:
        os.kill(os.getpid(), signal.SIGKILL)

make_picture(rasters_below(sys.argv[1]).rasters, sys.argv[2], progress=stop)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_what_a_killed_run_left_goes_with_the_next(
    two: tuple[Path, list[MadeTile]], tmp_path: Path
) -> None:
    base, _ = two
    for name in ("p.tif", "p.png"):
        command = [sys.executable, "-c", _KILLED, str(base), str(tmp_path / name)]
        assert subprocess.run(command, check=False).returncode < 0
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1  # of the second run; it took away what the first one left
    assert is_temporary_name(left[0])
    picture(base, tmp_path / "q.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["q.tif"]


def test_progress_goes_to_the_end(two: tuple[Path, list[MadeTile]], tmp_path: Path) -> None:
    base, _ = two
    calls: list[tuple[int, int, str]] = []
    create_pca_mosaic(
        discover_tiles(base), tmp_path / "p.tif", progress_callback=lambda *call: calls.append(call)
    )
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert {call[1] for call in calls} == {100}
    assert calls[-1] == (100, 100, "Complete")
    assert 100 not in done[:-1]


# --- Models ---------------------------------------------------------------------------------


def test_a_saved_model_gives_identical_colours(
    two: tuple[Path, list[MadeTile]], tmp_path: Path
) -> None:
    from geotessera.pca import PcaModel

    base, _ = two
    how: dict[str, Any] = {"crs": "EPSG:32631", "method": "nearest"}
    first = picture(base, tmp_path / "a.tif", **how)
    first.model.save(tmp_path / "model.npz")
    model = PcaModel.load(tmp_path / "model.npz")
    picture(base, tmp_path / "b.tif", model=model, **how)
    for one, other in zip(
        pixels_of(tmp_path / "a.tif"), pixels_of(tmp_path / "b.tif"), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    # One tile alone, by the model of both: the same pixels again.
    alone = rasters_below(base, georeference="landmask").rasters[:1]
    made = make_picture(alone, tmp_path / "c.tif", model=model, **how)
    levels, shown, grid = pixels_of(tmp_path / "c.tif")
    whole, _, whole_grid = pixels_of(tmp_path / "a.tif")
    row = round((whole_grid.transform[5] - grid.transform[5]) / 10)
    col = round((grid.transform[2] - whole_grid.transform[2]) / 10)
    part = whole[row : row + grid.height, col : col + grid.width]
    # Where the tiles overlap, the other one may own the pixel.
    own = shown.copy()
    own[:, -60:] = False
    assert own.sum() > 5000
    np.testing.assert_array_equal(levels[own], part[own])
    # And fitted to itself it has other colours.
    make_picture(alone, tmp_path / "d.tif", **how)
    assert (pixels_of(tmp_path / "d.tif")[0] != levels).mean() > 0.5
    assert made.model.pixels == first.model.pixels


def test_a_look_balances_a_models_scores_anew(
    two: tuple[Path, list[MadeTile]], tmp_path: Path
) -> None:
    base, _ = two
    model = picture(base, tmp_path / "a.tif").model
    report = picture(base, tmp_path / "b.tif", model=model, look=Look(balance="percentile"))
    assert report.model.stretch is not None
    assert report.model.stretch.method == "percentile"
    np.testing.assert_array_equal(report.model.components, model.components)
    picture(base, tmp_path / "c.tif", look=Look(balance="percentile"))
    np.testing.assert_array_equal(
        pixels_of(tmp_path / "b.tif")[0], pixels_of(tmp_path / "c.tif")[0]
    )


def test_a_model_of_other_data_is_refused(two: tuple[Path, list[MadeTile]], tmp_path: Path) -> None:
    base, _ = two
    model = picture(base, tmp_path / "a.tif").model
    make_tile(tmp_path / "three", 0.15, 52.25, bands=3, grid=small(0.15, 52.25))
    with pytest.raises(InputError, match=r"8 bands.*have 3"):
        picture(tmp_path / "three", tmp_path / "b.tif", model=model)
    known = [tile.descriptor for tile in two[1]]
    v11 = [MosaicRaster.of(one) for one in known]
    fitted = make_picture(v11, tmp_path / "c.tif").model
    other = Provenance("1.0", "vultr", 2024)
    v1 = [MosaicRaster.of(replace(one, provenance=other)) for one in known]
    with pytest.raises(DatasetMismatchError, match=r"1.1 cambridge.*1.0 vultr"):
        make_picture(v1, tmp_path / "d.tif", model=fitted)
    # Another year of the same dataset is what models are for.
    later = Provenance("1.1", "cambridge", 2023)
    make_picture(
        [MosaicRaster.of(replace(one, provenance=later)) for one in known],
        tmp_path / "e.tif",
        model=fitted,
    )
    assert not (tmp_path / "b.tif").exists()
    assert not (tmp_path / "d.tif").exists()


# --- What is drawn --------------------------------------------------------------------------


def test_water_is_left_out_of_fit_and_picture(tmp_path: Path) -> None:
    tile = tile_with_components(tmp_path, *WEST)
    water = np.zeros((160, 130), bool)
    water[:, 60:] = True
    with rasterio.open(tile.descriptor.landmask) as dataset:
        profile = dataset.profile
    with rasterio.open(tile.descriptor.landmask, "w", **profile) as dataset:
        dataset.write(np.where(water, 0, 1).astype(np.uint8)[None])
    how: dict[str, Any] = {"crs": "EPSG:32631", "method": "nearest"}
    report = picture(tmp_path, tmp_path / "p.tif", mask_water=True, **how)
    levels, shown, _ = pixels_of(tmp_path / "p.tif")
    dry = np.isfinite(tile.pixels).all(axis=2) & ~water
    np.testing.assert_array_equal(shown, dry)
    assert report.model.pixels == dry.sum()
    # As if the scales had said it.
    np.save(tile.descriptor.scales, np.where(water, np.float32(np.nan), tile.scales))
    picture(tmp_path, tmp_path / "q.tif", **how)
    np.testing.assert_array_equal(levels, pixels_of(tmp_path / "q.tif")[0])


def test_water_needs_a_landmask(two: tuple[Path, list[MadeTile]], tmp_path: Path) -> None:
    arrays = [tile.to_dict() for tile in discover_tiles(two[0])]
    with pytest.raises(InputError, match="landmask"):
        make_picture(rasters_of(arrays), tmp_path / "p.tif", mask_water=True)
    assert list(tmp_path.iterdir()) == []


def test_a_region_is_what_the_components_are_fitted_to(
    two: tuple[Path, list[MadeTile]], tmp_path: Path
) -> None:
    base, tiles = two
    left, bottom = tiles[0].grid.bounds[:2]
    west, south, east, north = rasterio.warp.transform_bounds(
        "EPSG:32631", "EPSG:4326", left + 300, bottom + 500, left + 900, bottom + 900
    )
    region = Region.from_bbox([west, south, east, north])
    report = picture(
        base, tmp_path / "p.tif", region=region, crs="EPSG:32631", resolution=10, method="nearest"
    )
    grid = report.plan.grid
    assert grid.bounds[0] < left + 300 < left + 900 < grid.bounds[2]
    # A margin is read for the neighbours of those at the edge, cut where the tile ends.
    x, y = centres(tiles[0].grid)
    low_x, low_y, high_x, high_y = grid.bounds
    valid = np.isfinite(tiles[0].pixels).all(axis=2)
    least, most = (
        (valid & (x > low_x - m) & (x < high_x + m) & (y > low_y - m) & (y < high_y + m)).sum()
        for m in (0, 40)
    )
    assert least <= report.model.pixels <= most < 0.5 * valid.sum()
    triangle = shapely.Polygon([(west, south), ((west + east) / 2, north), (west, north)])
    clipped = Region.from_geometry(triangle)
    picture(base, tmp_path / "q.tif", region=clipped, clip=True, crs="EPSG:32631", resolution=10)
    _, shown, cut = pixels_of(tmp_path / "q.tif")
    assert cut.width < 0.6 * grid.width
    assert shown.any()
    assert not shown.all()
    with pytest.raises(EmptySelectionError):
        picture(base, tmp_path / "r.tif", region=Region.from_bbox([10.0, 10.0, 10.1, 10.1]))


def geotiff(path: Path, tile: MadeTile, bands: int, **tags: str) -> Path:
    """Write the first bands of a tile as an exported GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = tile.grid
    profile = {"driver": "GTiff", "dtype": "float32", "count": bands, "nodata": np.nan}
    profile |= {"height": grid.height, "width": grid.width, "crs": grid.crs}
    with rasterio.open(path, "w", transform=grid.affine, **profile) as dataset:
        dataset.write(tile.pixels[..., :bands].transpose(2, 0, 1))
        dataset.update_tags(**tags)
    return path


def test_geotiffs_of_three_bands(two: tuple[Path, list[MadeTile]], tmp_path: Path) -> None:
    _, tiles = two
    base = tmp_path / "tiffs"
    for tile in tiles:
        geotiff(base / f"grid_{tile.lon:.2f}_{tile.lat:.2f}_2024.tif", tile, 3)
    found = rasters_below(base)
    assert found.format == "geotiff"
    assert [one.centre for one in found.rasters] == [WEST, EAST]
    report = make_picture(found.rasters, tmp_path / "p.tif", crs="EPSG:32631", method="nearest")
    levels, shown, grid = pixels_of(tmp_path / "p.tif")
    three = [replace(tile, values=tile.values[..., :3]) for tile in tiles]
    scored, scores, _ = sklearn_scores(three, report.model.components)
    expected, certain = oracle(grid, scored, "nearest")  # type: ignore[arg-type]
    both = certain & np.isfinite(expected).all(axis=2)
    assert shown[both].all()
    assert np.abs(levels.astype(int) - balanced(expected, scores, "histogram"))[both].max() <= 1


def test_one_file_of_any_name(two: tuple[Path, list[MadeTile]], tmp_path: Path) -> None:
    _, tiles = two
    path = geotiff(tmp_path / "zone.tif", tiles[0], 8)
    tiff = rasters_below(path)
    npy = rasters_below(tiles[0].descriptor.embedding, georeference="landmask")
    assert (tiff.format, npy.format) == ("geotiff", "npy")
    for found, name in ((tiff, "a.tif"), (npy, "b.tif")):
        make_picture(found.rasters, tmp_path / name)
    one, other = pixels_of(tmp_path / "a.tif"), pixels_of(tmp_path / "b.tif")
    assert one[2] == other[2]
    np.testing.assert_array_equal(one[1], other[1])
    assert np.abs(one[0].astype(int) - other[0]).max() <= 1


def test_what_cannot_go_into_one_picture(two: tuple[Path, list[MadeTile]], tmp_path: Path) -> None:
    _, tiles = two
    base, out = tmp_path / "tiffs", tmp_path / "p.tif"
    names = [f"grid_{tile.lon:.2f}_{tile.lat:.2f}" for tile in tiles]
    v11 = {"TESSERA_DATASET_VERSION": "1.1", "TESSERA_DATASET_VARIANT": "cambridge"}
    geotiff(base / f"{names[0]}_2024.tif", tiles[0], 4, **v11)
    geotiff(
        base / f"{names[1]}_2024.tif", tiles[1], 4, **(v11 | {"TESSERA_DATASET_VARIANT": "vultr"})
    )
    with pytest.raises(DatasetMismatchError, match="different datasets"):
        make_picture(rasters_below(base).rasters, out)
    geotiff(base / f"{names[1]}_2024.tif", tiles[1], 3, **v11)
    with pytest.raises(BandError, match=r"4 bands.*3"):
        make_picture(rasters_below(base).rasters, out)
    geotiff(base / f"{names[1]}_2024.tif", tiles[1], 4, **v11)
    geotiff(base / f"{names[0]}_2023.tif", tiles[0], 4, **v11)
    with pytest.raises(InputError, match=r"2023, 2024.*--year"):
        rasters_below(base)
    assert len(rasters_below(base, year=2024).rasters) == 2
    with pytest.raises(InputError, match=r"5 components.*4 bands"):
        make_picture(rasters_below(base, year=2024).rasters, out, look=Look(n_components=5))
    assert not out.exists()


def test_half_a_quantised_mosaic_is_no_raster(
    two: tuple[Path, list[MadeTile]], tmp_path: Path
) -> None:
    path = geotiff(tmp_path / "m.tif", two[1][0], 4, GEOTESSERA_SCALES="m_scales.tif")
    with pytest.raises(FormatError, match=r"m_scales\.tif"):
        rasters_below(path)


@pytest.mark.parametrize(
    "look",
    [
        Look(n_components=0),
        Look(n_components=None),  # type: ignore[arg-type]
        Look(n_components="3"),  # type: ignore[arg-type]
        Look(n_components=2.5),  # type: ignore[arg-type]
        Look(balance="none"),
        Look(balance="percentile", percentile_range=(60, 40)),
        Look(balance="percentile", percentile_range=(2, 101)),
    ],
)
def test_looks_that_cannot_be(two: tuple[Path, list[MadeTile]], tmp_path: Path, look: Look) -> None:
    with pytest.raises(InputError):
        picture(two[0], tmp_path / "p.tif", look=look)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_drawn_is_not_fitted(
    two: tuple[Path, list[MadeTile]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: Any) -> None:
        raise AssertionError("hours of work")

    monkeypatch.setattr(make_module, "fit", fit)
    with pytest.raises(InputError, match="unknown method 'cubic'"):
        picture(two[0], tmp_path / "p.tif", method="cubic")
    (tmp_path / "file").touch()
    (tmp_path / "p.png.aux.xml").mkdir()
    for place, png in (
        ("file/p.tif", False),
        ("p.tif", True),
        ("p.png", False),
        (f"{'y' * 245}.png", False),  # too long with what says where it is
    ):
        with pytest.raises(UnwritableDestination):
            picture(two[0], tmp_path / place, png=png)
    assert len(list(tmp_path.iterdir())) == 2


GOOD: dict[str, Any] = {
    "data": np.ones((4, 5, 3)),
    "crs": "EPSG:32631",
    "transform": rasterio.transform.from_origin(300000, 5800000, 10, 10),
    "height": 4,
    "width": 5,
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": np.ones((4, 5))}, "shape"),
        ({"data": np.ones((0, 5, 3)), "height": 0}, "shape"),
        ({"data": np.full((4, 5, 3), "x")}, "numbers"),
        ({"crs": None}, "no crs"),
        ({"crs": "EPSG:nonsense"}, "coordinate reference system"),
        ({"height": 3}, "height and width"),
        ({"transform": (10, 0, 0, 0, 10, 0)}, "north-up"),
        ({"transform": None}, "no transform"),
    ],
)
def test_arrays_that_have_no_place(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rasters_of([GOOD | changed])


@pytest.mark.parametrize("tiles", [[], [3], GOOD, "tiles"], ids=["none", "number", "one", "text"])
def test_what_is_no_list_of_tiles(tiles: Any) -> None:
    with pytest.raises(InputError) as caught:
        rasters_of(tiles)
    assert len(str(caught.value)) < 100  # no array in it


def test_arrays_beyond_float32_have_no_such_pixels(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(4, 5, 3))
    data[0] = 1e300
    create_pca_mosaic([GOOD | {"data": data}], tmp_path / "p.tif", target_crs=32631)
    _, shown, _ = pixels_of(tmp_path / "p.tif")
    np.testing.assert_array_equal(shown.sum(axis=1), [0, 5, 5, 5])


def test_a_tile_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no files"):
        create_pca_mosaic([Tile(0.15, 52.25, 2024)], tmp_path / "p.tif")


# --- Sources --------------------------------------------------------------------------------


@pytest.mark.parametrize("mask_water", [False, True])
@pytest.mark.parametrize("kind", ["npy", "per-band", "geotiff"])
def test_excerpts_read_a_part_of_the_raster(tmp_path: Path, kind: str, mask_water: bool) -> None:
    tile = make_tile(tmp_path, *WEST, bands=4, grid=small(*WEST), per_band=kind == "per-band")
    land = np.random.default_rng(1).integers(0, 2, (160, 130)).astype(np.uint8)
    with rasterio.open(tile.descriptor.landmask) as dataset:
        profile = dataset.profile
    with rasterio.open(tile.descriptor.landmask, "w", **profile) as dataset:
        dataset.write(land[None])
    descriptor: Any = tile.descriptor
    if kind == "geotiff":
        from geotessera.sources import GeoTiff

        descriptor = GeoTiff(geotiff(tmp_path / "t.tif", tile, 4), tile.descriptor.landmask)
    whole = tile.pixels
    if mask_water:
        whole = np.where(land[..., None] == 0, np.float32(np.nan), whole)
    with Excerpt(descriptor, Window(10, 20, 90, 70), mask_water).open() as source:
        assert source.grid == tile.grid.window(Window(10, 20, 90, 70))
        assert (source.descriptor.path, source.band_count) == (
            str(getattr(descriptor, "embedding", getattr(descriptor, "path", ""))),
            4,
        )
        part = Window(5, 6, 30, 40)
        expected = whole[15:45, 26:66]
        for block in (source.read(part), source.read_into(part, np.empty)):
            values = block.values.astype(np.float32)
            if block.scales is not None:
                scales = block.scales if block.scales.ndim == 3 else block.scales[..., None]
                values = values * np.where(np.isfinite(scales), scales, np.float32(np.nan))
            np.testing.assert_array_equal(values, expected)
            assert block.grid == tile.grid.window(Window(15, 26, 30, 40))
        with pytest.raises(InputError, match="does not lie"):
            source.read(Window(80, 0, 20, 20))
    # What was read before is not changed on disk, nor in memory that is shared.
    np.testing.assert_array_equal(np.load(tile.descriptor.scales), tile.scales)


def test_arrays_as_sources() -> None:
    data = np.arange(60, dtype=np.float32).reshape(4, 5, 3)
    raster = ArrayRaster.of(GOOD | {"data": data}, "mine")
    source = raster.open()
    assert source.grid == GridSpec(32631, (10.0, 0, 300000.0, 0, -10.0, 5800000.0), 4, 5)
    np.testing.assert_array_equal(
        source.read(Window(1, 2, 2, 3), [2, 0]).values, data[1:3, 2:5][..., [2, 0]]
    )
    out = np.empty((4, 5, 3), np.float32)
    np.testing.assert_array_equal(source.read(out=out).values, data)
    assert np.shares_memory(source.pixels().values, data)
    with pytest.raises(InputError, match="float32 of shape"):
        source.read(out=np.empty((4, 5, 3)))
    # Two arrays of one name are two rasters.
    assert repr(raster) != repr(ArrayRaster.of(GOOD | {"data": data + 1}, "mine"))


def test_tiles_are_snapped_unless_told(tmp_path: Path) -> None:
    tile_with_components(tmp_path, *WEST)
    snapped = rasters_below(tmp_path).rasters[0]
    landmask = rasters_below(tmp_path, georeference="landmask").rasters[0]
    assert isinstance(snapped.descriptor, NpyTile)
    assert snapped.grid.transform[2] == np.floor(landmask.grid.transform[2] / 10) * 10
    assert snapped.grid.transform[5] == np.ceil(landmask.grid.transform[5] / 10) * 10
    with rasterio.open(Path(landmask.descriptor.landmask)) as dataset:  # type: ignore[attr-defined]
        assert landmask.grid.transform == tuple(dataset.transform)[:6]


# --- Levels ---------------------------------------------------------------------------------


def _families() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(8)
    largest = np.finfo(np.float32).max
    normal = np.sort(rng.normal(size=255))
    return {
        "even": np.linspace(-3, 4, 255),
        "normal": normal,
        "heavy tails": np.sort(rng.standard_cauchy(255)) ** 3,
        "one far away": np.append(normal[:-1], 1e30),
        "equal": np.full(255, 7.0),
        "few": np.sort(rng.integers(0, 3, 255)),
        "everything": np.where(np.arange(255) < 128, -largest, largest),
        "tiny": normal * 1e-42,
        "huge": normal * 1e38,
    }  # type: ignore[return-value]


@pytest.mark.parametrize("name", _families())
def test_levels_count_the_thresholds_that_are_reached(name: str) -> None:
    from geotessera.pca import Stretch

    thresholds = _families()[name].astype(np.float32)
    rng = np.random.default_rng(9)
    near = rng.choice(thresholds, 4000)
    with np.errstate(over="ignore"):
        scores = np.concatenate(
            [
                near,
                np.nextafter(near, np.float32(np.inf)),
                np.nextafter(near, np.float32(-np.inf)),
                (near * rng.normal(1, 0.1, near.size)).astype(np.float32),
                np.array([np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45], np.float32),
            ]
        )
    pair = np.stack([scores, scores[::-1]], axis=-1)[None]
    pair[0, :5] = np.nan
    levels = Stretch(
        "percentile", np.stack([thresholds, _families()["normal"].astype("f4")])
    ).apply(pair)
    for k, list_of in enumerate((thresholds, _families()["normal"].astype(np.float32))):
        wanted = np.searchsorted(list_of, pair[0, :, k], side="right")
        wanted[np.isnan(pair[0, :, k])] = 0
        np.testing.assert_array_equal(levels[0, :, k], wanted)
