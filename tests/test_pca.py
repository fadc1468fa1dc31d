"""Principal components against scikit-learn and NumPy in float64, on the same pixels."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from tests.oracles import dequantized

from geotessera import _native, pca
from geotessera.errors import DatasetMismatchError, FormatError, InputError
from geotessera.pca import distribution
from geotessera.sources import strips as source_strips
from geotessera.sources.npy import NpyTile
from geotessera.sources.projected import ProjectedDescriptor, ProjectedSource
from geotessera.types import Block, GridSpec, Provenance, QuantizedRaster, Window

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import SampleWorld

GRID = GridSpec(32631, (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_800_000.0), 40, 30)


def landscape(
    seed: int, shape: tuple[int, int, int] = (40, 30, 12), rank: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """int8 values and scales of a few mixed signals, with gaps."""
    rng = np.random.default_rng(seed)
    height, width, bands = shape
    signals = rng.normal(size=(height, width, rank)) * np.linspace(30, 10, rank)
    mixed = signals @ rng.normal(size=(rank, bands)) + rng.normal(0, 4, shape) + 20
    scales = rng.uniform(0.04, 0.07, (height, width)).astype(np.float32)
    scales[rng.random(scales.shape) < 0.05] = np.nan
    scales[rng.random(scales.shape) < 0.02] = np.inf
    return np.clip(mixed, -127, 127).astype(np.int8), scales


UNKNOWN = Provenance()


def block(seed: int, provenance: Provenance = UNKNOWN, **how: Any) -> QuantizedRaster:
    values, scales = landscape(seed, **how)
    return QuantizedRaster(values, scales, GRID, provenance=provenance)


def pixels_of(*blocks: Block) -> np.ndarray:
    """Valid pixels, float64, of all blocks."""
    rows = []
    for one in blocks:
        made = dequantized(one.values, one.scales, layout=one.layout, nodata=one.nodata)
        rows.append(made[np.isfinite(made).all(axis=2)])
    return np.concatenate(rows).astype(np.float64)


def check_against_sklearn(model: pca.PcaModel, pixels: np.ndarray, standardize: bool) -> None:
    """Same variances; same components but for what a gap between eigenvalues leaves open."""
    count = model.n_components
    scaler = StandardScaler().fit(pixels) if standardize else None
    scaled = pixels if scaler is None else scaler.transform(pixels)
    wanted = PCA(svd_solver="full").fit(scaled)
    spectrum = np.append(wanted.explained_variance_, 0.0)
    np.testing.assert_allclose(
        model.explained_variance, spectrum[:count], rtol=2e-5, atol=2e-6 * spectrum[0]
    )
    assert model.total_variance == pytest.approx(spectrum.sum(), rel=2e-5)
    assert model.pixels == len(pixels)
    np.testing.assert_allclose(model.mean, pixels.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.components @ model.components.T, np.eye(count), atol=1e-9)
    for k, component in enumerate(model.components):
        others = np.delete(spectrum, k)
        gap = np.abs(others - spectrum[k]).min()
        sine = np.sqrt(max(0.0, 1 - float(component @ wanted.components_[k]) ** 2))
        assert sine <= 1e-5 * spectrum[0] / max(gap, 1e-12) + 1e-7
        size = np.abs(component)  # of equal ones, but for rounding, the first is positive
        assert component[(size > size.max() * (1 - 1e-9)).argmax()] > 0


@pytest.mark.parametrize("standardize", [True, False])
def test_models_are_those_of_scikit_learn(standardize: bool) -> None:
    blocks = [block(1), block(2)]
    model = pca.fit(blocks, 4, standardize)
    pixels = pixels_of(*blocks)
    check_against_sklearn(model, pixels, standardize)
    assert model.standardized == standardize
    scaler = StandardScaler().fit(pixels) if standardize else None
    scaled = pixels if scaler is None else scaler.transform(pixels)
    theirs = PCA(4, svd_solver="full").fit(scaled)
    np.testing.assert_allclose(
        model.explained_variance_ratio, theirs.explained_variance_ratio_, rtol=1e-5
    )
    scores = np.concatenate([model.project(one)[one.scales < 1] for one in blocks])
    wanted = theirs.transform(scaled)
    wanted *= np.sign((wanted * scores).sum(axis=0))
    np.testing.assert_allclose(scores, wanted, atol=2e-4 * np.abs(wanted).max())


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(6, 30), st.integers(6, 30), st.integers(1, 130)),
    st.sampled_from(["int8", "float32", "nodata", "chw", "reversed", "scales"]),
    st.booleans(),
)
def test_any_raster_gives_scikit_learns_model(
    seed: int, shape: tuple[int, int, int], kind: str, standardize: bool
) -> None:
    values, scales = landscape(seed, shape)
    floats = dequantized(values, scales)
    made: Any = {
        "int8": lambda: Block(values, scales, GRID),
        "float32": lambda: floats,
        "nodata": lambda: Block(np.nan_to_num(floats, nan=-5e3), None, GRID, nodata=-5e3),
        "chw": lambda: Block(
            np.ascontiguousarray(values.transpose(2, 0, 1)), scales, GRID, layout="chw"
        ),
        "reversed": lambda: Block(values[::-1, ::-1], scales[::-1, ::-1], GRID),
        "scales": lambda: Block(values, np.repeat(scales[..., None], shape[2], 2), GRID),
    }[kind]()
    pixels = floats[np.isfinite(floats).all(axis=2)].astype(np.float64)
    count = min(3, shape[2], len(pixels))
    if len(pixels) < 2 * shape[2] + 2:
        return  # what the noise of a few pixels gives has no gaps to speak of
    model = pca.fit([made], count, standardize)
    check_against_sklearn(model, pixels, standardize)
    scores = model.project(made)
    assert np.isnan(scores).any(axis=2).sum() == shape[0] * shape[1] - len(pixels)


def test_strips_change_next_to_nothing_and_threads_nothing(
    small_world: SampleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = [tile_of(small_world, n) for n in range(2)]
    whole = pca.fit(tiles, 3)
    monkeypatch.setattr(source_strips, "STRIP_VALUES", 8 * 1000)
    before = _native.num_threads()
    models = []
    try:
        for threads in (1, 3):
            _native.set_num_threads(threads)
            models.append(pca.fit(tiles, 3))
    finally:
        _native.set_num_threads(before)
    np.testing.assert_array_equal(models[0].components, models[1].components)
    np.testing.assert_array_equal(models[0].explained_variance, models[1].explained_variance)
    np.testing.assert_allclose(models[0].explained_variance, whole.explained_variance, rtol=1e-6)
    np.testing.assert_allclose(models[0].mean, whole.mean, rtol=1e-5, atol=1e-6)


def tile_of(world: SampleWorld, number: int) -> NpyTile:
    files = world.tiles[number].files
    return NpyTile(files.embedding, files.scales, files.landmask)


def test_files_are_read_as_they_lie(small_world: SampleWorld) -> None:
    tiles = [tile_of(small_world, n) for n in range(3)]
    blocks = [tile.open().read() for tile in tiles]
    model = pca.fit(iter(tiles), 3)
    check_against_sklearn(model, pixels_of(*blocks), True)
    calls: list[tuple[int, int, str]] = []
    again = pca.fit(tiles, 3, progress=lambda *call: calls.append(call))
    np.testing.assert_array_equal(again.components, model.components)
    assert [call[:2] for call in calls] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_far_mean_costs_no_precision() -> None:
    rng = np.random.default_rng(5)
    values = (rng.normal(size=(50, 50, 6)) @ rng.normal(size=(6, 6)) + 4096).astype(np.float32)
    model = pca.fit([values], 6, standardize=False)
    wanted = np.cov(values.reshape(-1, 6).astype(np.float64), rowvar=False)
    found = (model.components.T * model.explained_variance) @ model.components
    np.testing.assert_allclose(found, wanted, atol=3e-6 * np.abs(wanted).max())


def test_bands_that_never_change_count_as_they_are() -> None:
    values = np.random.default_rng(6).normal(size=(20, 20, 4)).astype(np.float32)
    values[..., 2] = 0.1
    model = pca.fit([values], 3)
    assert model.scale[2] == 1
    assert (model.components[:, 2] == 0).all()
    check_against_sklearn(model, values.reshape(-1, 4).astype(np.float64), True)
    still = np.full((5, 5, 3), 0.3, np.float32)
    model = pca.fit([still], 2)
    np.testing.assert_array_equal(model.explained_variance, [0, 0])
    np.testing.assert_array_equal(model.explained_variance_ratio, [0, 0])
    for method in pca.METHODS:
        levels = pca.fit_stretch(model, [still], method).apply(model.project(still))
        np.testing.assert_array_equal(levels, 128)


def test_what_cannot_be_fitted_is_refused() -> None:
    fine = block(1)
    for count in (0, -1, 2.5, True, "3", 13):
        with pytest.raises(InputError, match="n_components"):
            pca.fit([fine], count)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nothing"):
        pca.fit([])
    empty = Block(np.full((4, 4, 3), np.nan, np.float32), None, GRID)
    with pytest.raises(InputError, match="not enough valid pixels"):
        pca.fit([empty], 1)
    few = np.arange(8, dtype=np.float32).reshape(1, 2, 4)
    with pytest.raises(InputError, match="not enough valid pixels"):
        pca.fit([few], 3)
    assert pca.fit([few], 2).pixels == 2
    with pytest.raises(InputError, match="of 12 and of 8 bands"):
        pca.fit([fine, block(2, shape=(40, 30, 8))])
    with pytest.raises(InputError, match="shape"):
        pca.fit([np.zeros((4, 4))])  # type: ignore[list-item]
    with pytest.raises(InputError, match="expected"):
        pca.fit([["no", "pixels"]])  # type: ignore[list-item]


def test_datasets_are_not_mixed() -> None:
    one, other = Provenance("v1", "vultr", 2024), Provenance("v1.1", "cambridge", 2024)
    with pytest.raises(DatasetMismatchError, match="different datasets"):
        pca.fit([block(1, one), block(2, other)])
    years = [block(1, one), block(2, Provenance("v1", "vultr", 2020))]
    assert pca.fit(years).provenance == "v1 vultr"
    assert pca.fit([block(1, one), block(2)]).provenance == ""


def test_what_is_masked_is_no_pixel() -> None:
    """As `rasterio` reads nodata with ``masked=True``."""
    values = np.random.default_rng(2).integers(0, 99, (20, 30, 5))
    holes = np.random.default_rng(3).random(values.shape) < 0.02
    masked = np.ma.masked_array(values, holes)
    plain = np.where(holes, np.nan, values).astype(np.float32)
    model = pca.fit([masked], 2)
    check_against_sklearn(model, values[~holes.any(axis=2)].astype(np.float64), standardize=True)
    np.testing.assert_array_equal(model.project(masked), model.project(plain))


def test_a_model_in_a_line() -> None:
    model = replace(pca.fit([block(1)], 2), provenance="v1 vultr")
    share = f"{model.explained_variance_ratio.sum():.1%}"
    wanted = (
        f"<PcaModel 2 components of 12 bands, {share} of the variance of 1,115 pixels of v1 vultr>"
    )
    assert repr(model) == wanted
    model = replace(model, stretch=pca.fit_stretch(model, [block(1)]))
    assert repr(model) == f"{wanted[:-1]}, histogram colours>"


# --- Colours -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> tuple[pca.PcaModel, list[QuantizedRaster], np.ndarray]:
    """A model, its blocks, and the scores of their valid pixels."""
    blocks = [block(7), block(8), block(9)]
    model = pca.fit(blocks, 3)
    scores = np.concatenate([model.project(one).reshape(-1, 3) for one in blocks])
    return model, blocks, scores[~np.isnan(scores[:, 0])]


def test_histogram_levels_have_equally_many_pixels(fitted: Any) -> None:
    model, blocks, scores = fitted
    stretch = pca.fit_stretch(model, iter(blocks), "histogram")
    ordered = np.sort(scores, axis=0)
    at = np.ceil(np.arange(1, 256) * len(ordered) / 256).astype(int)
    np.testing.assert_allclose(stretch.thresholds.T, ordered[at], rtol=2e-6, atol=1e-9)
    levels = stretch.apply(scores[None])[0]
    for k in range(3):
        counts = np.bincount(levels[:, k], minlength=256)
        assert abs(counts - len(scores) / 256).max() <= 3


@pytest.mark.parametrize("percentiles", [(2, 98), (0, 100), (10.5, 60)])
def test_percentiles_are_numpys(fitted: Any, percentiles: tuple[float, float]) -> None:
    model, blocks, scores = fitted
    stretch = pca.fit_stretch(model, blocks, "percentile", percentiles)
    low, high = np.percentile(scores.astype(np.float64), percentiles, axis=0)
    np.testing.assert_allclose(stretch.thresholds[:, -1], high, rtol=1e-6)
    levels = stretch.apply(scores[None])[0]
    wanted = np.floor(np.clip((scores - low) / (high - low), 0, 1) * 255)
    assert (levels == wanted).mean() > 0.999
    assert np.abs(levels - wanted).max() <= 1
    assert levels.max() == 255


def test_adaptive_is_two_and_a_half_deviations(fitted: Any) -> None:
    model, blocks, scores = fitted
    stretch = pca.fit_stretch(model, blocks, "adaptive")
    wide = scores.astype(np.float64)
    low, high = wide.mean(0) - 2.5 * wide.std(0), wide.mean(0) + 2.5 * wide.std(0)
    np.testing.assert_allclose(stretch.thresholds[:, -1], high, rtol=1e-5)
    np.testing.assert_allclose(
        stretch.thresholds[:, 0], low + (high - low) / 255, rtol=1e-5, atol=1e-5
    )


def test_colours_of_another_region_are_its_own(fitted: Any) -> None:
    model, _, _ = fitted
    other = block(30)
    stretch = pca.fit_stretch(model, [other], "percentile", (0, 100))
    scores = model.project(other)
    np.testing.assert_array_equal(
        stretch.thresholds[:, -1], np.nanmax(scores.reshape(-1, 3), axis=0)
    )
    levels = stretch.apply(scores)
    assert (levels[np.isnan(scores)] == 0).all()
    calls: list[Any] = []
    pca.fit_stretch(model, [other, other], progress=lambda *call: calls.append(call[:2]))
    assert calls == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("method", pca.METHODS)
@pytest.mark.parametrize("odd", [(np.inf,) * 3, (0, -np.inf, 0), (np.nan, 1e30, 0), (0, 0, np.inf)])
def test_scores_that_are_not_finite_balance_nothing(method: str, odd: tuple[float, ...]) -> None:
    scores = np.random.default_rng(3).normal(size=(20, 30, 3)).astype(np.float32)
    scores[-2:, :, :] = odd
    found = pca.fit_stretch(None, [scores], method).thresholds
    np.testing.assert_array_equal(found, pca.fit_stretch(None, [scores[:-2]], method).thresholds)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(scores[-1, 0], np.float32(odd))  # the caller's, as they were
    with pytest.raises(InputError, match="no valid pixel"):
        pca.fit_stretch(None, [scores[-2:]], method)


@pytest.mark.parametrize("method", pca.METHODS)
def test_scores_that_are_no_float32_balance_nothing(method: str) -> None:
    """Pixels that a model was not fitted to may lie beyond all float32 when they are projected."""
    model = pca.fit([block(1)], standardize=False)
    pixels = np.random.default_rng(0).uniform(-1, 1, (40, 30, 12)).astype(np.float32)
    pixels[:4] *= np.float32(3e38)
    scores = model.project(pixels)
    odd = np.isinf(scores).any(axis=-1)
    assert odd.any()
    found = pca.fit_stretch(model, [pixels], method).thresholds
    np.testing.assert_array_equal(
        found, pca.fit_stretch(None, [scores[~odd][None]], method).thresholds
    )
    assert np.isfinite(found).all()


@pytest.mark.parametrize("method", pca.METHODS)
def test_nodata_of_scores_balances_nothing(method: str) -> None:
    scores = np.random.default_rng(3).normal(size=(40, 30, 3)).astype(np.float32)
    scores[:4] = -9999
    found = pca.fit_stretch(None, [Block(scores, None, GRID, nodata=-9999.0)], method)
    wanted = pca.fit_stretch(None, [scores[4:]], method)
    np.testing.assert_allclose(found.thresholds, wanted.thresholds, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("odd", [np.ones((40, 30, 12)).tolist(), {"data": np.ones((9, 9, 9))}, 3])
def test_what_are_no_pixels_is_named_in_short(odd: Any) -> None:
    with pytest.raises(InputError, match="expected a raster source") as caught:
        pca.fit([odd])
    assert len(str(caught.value)) < 400


def test_balances_that_there_are_not() -> None:
    model = pca.fit([block(1)])
    with pytest.raises(InputError, match="histogram, percentile, adaptive"):
        pca.fit_stretch(model, [block(1)], "equal")
    for wrong in ((98, 2), (5, 5), (-1, 50), (2, 101), (2,), "ab"):
        with pytest.raises(InputError, match="percentile_range"):
            pca.fit_stretch(model, [block(1)], "percentile", wrong)  # type: ignore[arg-type]
    empty = np.full((3, 3, 12), np.nan, np.float32)
    for method in pca.METHODS:
        with pytest.raises(InputError, match="no valid pixel"):
            pca.fit_stretch(model, [empty], method)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=60),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_order_statistics_are_those_of_sorting(
    numbers: list[float], seed: int, tight: bool
) -> None:
    rng = np.random.default_rng(seed)
    scores = np.array([*numbers, np.nan], np.float32)
    both = np.stack([scores, -scores], axis=1)[None]
    parts = [both[:, : len(scores) // 2], both[:, len(scores) // 2 :]]
    at = np.sort(rng.integers(0, len(numbers), 5))
    with pytest.MonkeyPatch.context() as patch:
        if tight:  # no memory for any of the lower bits
            patch.setattr(distribution, "COUNTS_BYTES", 8 * 2 * 60)
        found, total = distribution.order_statistics(lambda: parts, 2, lambda _: at)
    assert total == len(numbers)
    for k, sign in enumerate((1, -1)):
        wanted = np.sort(sign * scores[:-1])[at]
        if tight:
            size = np.maximum(np.abs(wanted), 2.0**-120)
            with np.errstate(over="ignore", invalid="ignore"):
                near = np.abs(found[k] / 2 - wanted / 2) <= size * 2.0**-7
            assert (near | (found[k] == wanted) | np.isinf(wanted)).all()
        else:
            np.testing.assert_array_equal(found[k], wanted)


# --- Models on disk ------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".json", ".NPZ"])
@pytest.mark.parametrize("stretched", [True, False])
def test_models_come_back_as_they_went(tmp_path: Path, suffix: str, stretched: bool) -> None:
    blocks = [block(1, Provenance("v1", "vultr"))]
    model = pca.fit(blocks, 2)
    if stretched:
        model = replace(model, stretch=pca.fit_stretch(model, blocks))
    path = model.save(tmp_path / "deep" / f"model{suffix}")
    loaded = pca.PcaModel.load(str(path))
    for name in ("mean", "scale", "components", "explained_variance", "total_variance", "pixels"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name))
    assert loaded.provenance == "v1 vultr"
    assert (loaded.stretch is None) == (not stretched)
    if loaded.stretch is not None and model.stretch is not None:
        assert loaded.stretch.method == model.stretch.method
        np.testing.assert_array_equal(loaded.stretch.thresholds, model.stretch.thresholds)
    np.testing.assert_array_equal(loaded.project(blocks[0]), model.project(blocks[0]))
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_model_has_one_of_two_suffixes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.npz or \.json"):
        pca.fit([block(1)]).save(tmp_path / "model.pkl")


def broken_models(path: Path) -> dict[str, Any]:
    """Fields of a model on disk, each time with another one spoilt."""
    fields = json.loads(path.read_text())
    changes: dict[str, dict[str, Any]] = {
        "format": {"format": "geotessera-pca-9"},
        "format type": {"format": 3},
        "no mean": {"mean": None},
        "text": {"mean": ["a"] * 12},
        "ragged": {"components": [[1.0], [1.0, 2.0]]},
        "bands": {"scale": fields["scale"][:-1]},
        "zero scale": {"scale": [0.0] * 12},
        "tiny scale": {"scale": [1e-320] * 12},
        "deep": {"components": [fields["components"]]},
        "components": {"components": fields["components"] * 9},
        "variance": {"explained_variance": [-1.0, -1.0]},
        "pixels": {"pixels": 2.5},
        "huge pixels": {"pixels": 10**400},
        "provenance": {"provenance": ["v1"]},
        "method": {"stretch_method": "eval"},
        "thresholds": {"stretch_thresholds": fields["stretch_thresholds"][:1]},
        "falling": {"stretch_thresholds": [row[::-1] for row in fields["stretch_thresholds"]]},
        "large": {"stretch_thresholds": [[1e300] * 255] * 2},
    }
    made = {name: fields | change for name, change in changes.items()}
    for key in fields:
        made[f"without {key}"] = {name: fields[name] for name in fields if name != key}
    del made["without stretch_method"]  # that is a model without a stretch
    return made


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    blocks = [block(1)]
    model = pca.fit(blocks, 2)
    model = replace(model, stretch=pca.fit_stretch(model, blocks))
    good = model.save(tmp_path / "good.json")
    for name, fields in broken_models(good).items():
        path = tmp_path / "bad.json"
        path.write_text(json.dumps(fields))
        with pytest.raises(FormatError, match="is not a PCA model"):
            print(name, pca.PcaModel.load(path))
    texts = [
        b"",
        b"[]",
        b"3",
        b"{",
        b"\xff\xfe",
        b'{"format": NaN}',
        b"[" * 100_000,
        b"PK",
        b"PK\x03",
    ]
    for text in texts:
        path = tmp_path / "bad.npz"
        path.write_bytes(text)
        with pytest.raises(FormatError, match="is not a PCA model"):
            pca.PcaModel.load(path)
    with pytest.raises(FileNotFoundError):
        pca.PcaModel.load(tmp_path / "nowhere.npz")
    with pytest.raises(FormatError, match="directory"):
        pca.PcaModel.load(tmp_path)


class Trap:
    """What runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return warnings.warn, ("executed",)


def test_archives_run_nothing_and_unpack_little(tmp_path: Path) -> None:
    path = tmp_path / "trap.npz"
    np.savez(path, mean=np.array([Trap()], dtype=object), format="geotessera-pca-1")
    with pytest.raises(FormatError, match="is not a PCA model"):
        pca.PcaModel.load(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(FormatError, match="is not a PCA model"):
        pca.PcaModel.load(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mean.npy", bytes(80 * 2**20))
    with pytest.raises(FormatError, match="unpacks to more"):
        pca.PcaModel.load(path)
    good = pca.fit([block(1)]).save(tmp_path / "good.npz").read_bytes()
    for end in range(0, len(good), 97):
        path.write_bytes(good[:end])
        with pytest.raises(FormatError, match="is not a PCA model"):
            pca.PcaModel.load(path)


# --- Scores as a raster --------------------------------------------------------------------


def test_scores_are_a_raster_like_any_other(
    small_world: SampleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = tile_of(small_world, 0)
    model = pca.fit([tile], 3)
    described = ProjectedDescriptor(tile, model.weights, model.offsets)
    assert pickle.loads(pickle.dumps(described)) == described
    assert len({described, ProjectedDescriptor(tile, model.weights, model.offsets)}) == 1
    monkeypatch.setattr(source_strips, "STRIP_VALUES", 8 * 5000)
    with described.open() as source:
        assert isinstance(source, ProjectedSource)
        assert source.descriptor == described
        assert source.band_count == 3
        embeddings = tile.open().read()
        whole = source.read()
        assert whole.scales is None
        assert whole.grid == embeddings.grid == source.grid
        np.testing.assert_array_equal(whole.values, model.project(embeddings))
        window = Window(7, 11, 50, 23)
        part = source.read(window, bands=[2, 0])
        np.testing.assert_array_equal(part.values, whole.values[7:57, 11:34][..., [2, 0]])
        assert part.grid == source.grid.window(window)
        out = np.empty((50, 23, 3), np.float32)
        assert source.read(window, out=out).values is out
        into = source.read_into(window, np.zeros)
        np.testing.assert_array_equal(into.values, out)
        np.testing.assert_array_equal(source.land(), tile.open().land())
        for bad in ({"bands": [3]}, {"window": Window(-1, 0, 5, 5)}, {"out": np.empty((5, 5, 3))}):
            with pytest.raises(InputError):
                source.read(**bad)  # type: ignore[arg-type]


def test_weights_must_fit_the_raster(small_world: SampleWorld) -> None:
    tile = tile_of(small_world, 0)
    with pytest.raises(InputError, match="weights"):
        ProjectedDescriptor(tile, np.ones((2, 5)), np.zeros(2)).open()
    with pytest.raises(InputError, match="offsets"):
        ProjectedDescriptor(tile, np.ones((2, 8)), np.zeros(3))
    model = pca.fit([tile], 2)
    with pytest.raises(InputError, match="8 bands"):
        model.project(np.zeros((2, 2, 7), np.float32))
