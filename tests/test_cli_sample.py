from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from typer.testing import CliRunner, Result

from geotessera import cli
from geotessera.export import export_tile
from geotessera.layout import geotiff_path
from geotessera.sidecar import write_tessera_metadata
from geotessera.sources import NpyTile
from geotessera.testing.server import Fault, LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from geotessera.testing import SampleWorld

RNG = np.random.default_rng(5)
POINTS = np.column_stack([RNG.uniform(23.9, 24.12, 60), RNG.uniform(83.6, 83.7, 60)])
"""In both tiles, and a few beyond the eastern one."""


def oracle(world: SampleWorld, points: np.ndarray, year: int = 2024) -> np.ndarray:
    """Return the pixel that contains each point, by pyproj and plain NumPy."""
    rows = np.full((len(points), world.bands), np.nan, np.float32)
    for index, (lon, lat) in enumerate(points):
        try:
            one = world.tile(lon, lat, year)
        except KeyError:
            continue
        x, y = Transformer.from_crs(4326, one.grid.epsg, always_xy=True).transform(lon, lat)
        a, _, c, _, e, f = one.grid.transform
        rows[index] = one.embedding()[int(np.floor((y - f) / e)), int(np.floor((x - c) / a))]
    return rows


def frame() -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {"plot": [f"P{i}" for i in range(len(POINTS))], "area": np.arange(len(POINTS)) / 4},
        geometry=gpd.points_from_xy(*POINTS.T),
        crs="EPSG:4326",
    )


def write_points(path: Path) -> Path:
    """Write the points in the format that the suffix names."""
    table = frame()
    if path.suffix in (".csv",):
        pd.DataFrame(table.drop(columns="geometry")).assign(
            lon=POINTS[:, 0], lat=POINTS[:, 1]
        ).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_crs("EPSG:3413").to_parquet(path)
    elif path.name == "plain.pq":
        pd.DataFrame({"longitude": POINTS[:, 0], "latitude": POINTS[:, 1]}).to_parquet(path)
    else:
        table.to_file(path)
    return path


class Command:
    def __init__(self, world: SampleWorld, directory: Path) -> None:
        self.base = str(world.root())
        self.cache = directory / "cache"

    def __call__(self, points: Path, out: Path, *words: str) -> Result:
        line = ["sample", str(points), "-o", str(out), "--base-url", self.base]
        return CliRunner().invoke(cli.app, [*line, "--cache-dir", str(self.cache), *words])

    def json(self, points: Path, out: Path, *words: str, code: int = 0) -> Any:
        result = self(points, out, *words, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)


@pytest.fixture
def sample(tiny_world: SampleWorld, tmp_path: Path) -> Command:
    return Command(tiny_world, tmp_path)


@pytest.fixture(scope="module")
def expected(tiny_world: SampleWorld) -> np.ndarray:
    values = oracle(tiny_world, POINTS)
    assert np.isfinite(values).any()
    assert np.isnan(values[:, 0]).any()
    return values


@pytest.mark.parametrize(
    "name",
    ["points.geojson", "points.gpkg", "points.shp", "points.csv", "points.parquet", "plain.pq"],
)
def test_every_kind_of_point_file(
    sample: Command, tmp_path: Path, expected: np.ndarray, name: str
) -> None:
    points = write_points(tmp_path / name)
    out = tmp_path / "out.parquet"
    document = sample.json(points, out)
    table = gpd.read_parquet(out)
    assert list(table.filter(like="tessera_").columns) == [f"tessera_{i}" for i in range(4)]
    np.testing.assert_array_equal(table.filter(like="tessera_").to_numpy(np.float32), expected)
    assert table["tessera_0"].dtype == np.float32
    assert document["rows"] == len(POINTS)
    assert document["status"] == dict(table["status"].value_counts())
    np.testing.assert_array_equal(table["status"] == "valid", np.isfinite(expected).any(axis=1))
    inside = table.to_crs("EPSG:4326").geometry
    np.testing.assert_allclose(inside.x, POINTS[:, 0], atol=1e-6)
    if name != "plain.pq":
        assert list(table["plot"]) == list(frame()["plot"])
    if name == "points.parquet":
        assert table.crs.to_epsg() == 3413


def test_columns_of_a_csv(sample: Command, tmp_path: Path, expected: np.ndarray) -> None:
    points, out = write_points(tmp_path / "p.geojson"), tmp_path / "out.csv"
    assert sample(points, out, "--bands", "3,1").exit_code == 0
    table = pd.read_csv(out)
    assert list(table.columns) == [
        *("plot", "area", "lon", "lat", "tile", "status", "tessera_3", "tessera_1"),
    ]
    np.testing.assert_array_equal(
        table[["tessera_3", "tessera_1"]].to_numpy(np.float32), expected[:, [3, 1]]
    )
    west = POINTS[:, 0] < 24
    assert set(table["tile"][west]) == {"grid_23.95_83.65"}
    assert set(table["status"][POINTS[:, 0] > 24.1]) == {"no_tile"}


def test_arrays_of_an_npz(sample: Command, tmp_path: Path, expected: np.ndarray) -> None:
    points, out = write_points(tmp_path / "p.gpkg"), tmp_path / "out.npz"
    assert sample(points, out).exit_code == 0
    with np.load(out) as arrays:
        np.testing.assert_array_equal(arrays["tessera"], expected)
        np.testing.assert_allclose(arrays["lon"], POINTS[:, 0])
        np.testing.assert_allclose(arrays["lat"], POINTS[:, 1])
        np.testing.assert_array_equal(arrays["bands"], range(4))
        assert set(arrays["year"]) == {2024}
        assert arrays["status"].dtype.kind == arrays["tile"].dtype.kind == "U"


def test_bilinear_differs_and_water_is_masked_on_request(
    sample: Command, tmp_path: Path, expected: np.ndarray, tiny_world: SampleWorld
) -> None:
    points, out = write_points(tmp_path / "p.csv"), tmp_path / "out.npz"
    assert sample(points, out, "--method", "bilinear").exit_code == 0
    with np.load(out) as arrays:
        bilinear = arrays["tessera"]
    np.testing.assert_array_equal(np.isnan(bilinear), np.isnan(expected))
    assert not np.array_equal(bilinear, expected, equal_nan=True)
    counts = sample.json(points, out, "--mask-water")["status"]
    with np.load(out) as arrays:
        masked = arrays["status"] == "water"
        assert np.isnan(arrays["tessera"][masked]).all()
    assert counts.get("water", 0) == masked.sum() > 0


def test_options_have_the_names_that_other_commands_give_them(
    sample: Command, tmp_path: Path
) -> None:
    points, tiles = write_points(tmp_path / "p.csv"), tmp_path / "tiles"
    words = ("--resampling", "bilinear", "--embeddings-dir", str(tiles))
    assert sample(points, tmp_path / "a.csv", *words).exit_code == 0
    assert sample(points, tmp_path / "b.csv", "--method", "bilinear").exit_code == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert len(list(tiles.rglob("*.npy"))) == 4


def test_a_row_per_point_and_year(small_world: SampleWorld, tmp_path: Path) -> None:
    sample = Command(small_world, tmp_path)
    points, out = write_points(tmp_path / "p.csv"), tmp_path / "out.parquet"
    document = sample.json(points, out, "--year", "2024", "--year", "2023", "--year", "2024")
    assert document["years"] == [2024, 2023]
    table = gpd.read_parquet(out)
    assert list(table["year"]) == [2024] * 60 + [2023] * 60
    for year in (2024, 2023):
        np.testing.assert_array_equal(
            table[table["year"] == year].filter(like="tessera_").to_numpy(np.float32),
            oracle(small_world, POINTS, year),
        )
    assert list(table["plot"]) == list(frame()["plot"]) * 2
    assert table.crs.to_epsg() == 4326


def test_a_year_that_there_is_not_is_said_with_those_that_there_are(
    sample: Command, tmp_path: Path
) -> None:
    points = write_points(tmp_path / "points.csv")
    result = sample(points, tmp_path / "out.csv", "--year", "2024", "--year", "2019")
    assert result.exit_code == 0
    assert "Warning: there is nothing of 2019: the dataset has 2024\n" in result.stderr
    table = pd.read_csv(tmp_path / "out.csv")
    columns = [name for name in table if name.startswith("tessera_")]
    assert len(columns) == 4
    assert table[table.year == 2019][columns].isna().all(axis=None)
    assert table[table.year == 2024][columns].notna().any(axis=None)
    result = sample(points, tmp_path / "out.csv", "--year", "2024")
    assert "there is nothing of" not in result.stderr


def test_the_points_own_columns_are_never_lost(sample: Command, tmp_path: Path) -> None:
    points = tmp_path / "p.csv"
    pd.DataFrame(
        {"lon": [23.95], "lat": [83.65], "status": ["mine"], "tessera_0": [7], "geometry": ["g"]}
    ).to_csv(points, index=False)
    result = sample(points, tmp_path / "out.parquet")
    assert result.exit_code == 0
    assert "'status' is kept as 'status_input'" in result.stderr
    table = gpd.read_parquet(tmp_path / "out.parquet")
    assert list(table["status_input"]) == ["mine"]
    assert list(table["tessera_0_input"]) == [7]
    assert list(table["geometry_input"]) == ["g"]
    assert table.geometry.iloc[0].x == 23.95


def test_people_read_the_counts(sample: Command, tmp_path: Path) -> None:
    result = sample(write_points(tmp_path / "p.csv"), tmp_path / "out.csv")
    assert "valid: " in result.stdout
    assert "no_tile: " in result.stdout
    assert "SUCCESS: 60 rows × 4 bands" in result.stdout


def test_tiles_are_kept_where_told_and_used_without_a_server(
    sample: Command, tmp_path: Path, tiny_world: SampleWorld, expected: np.ndarray
) -> None:
    points, tiles = write_points(tmp_path / "p.csv"), tmp_path / "tiles"
    with LoopbackServer(tiny_world.root()) as server:
        sample.base = server.url
        assert sample(points, tmp_path / "a.npz", "--tiles", str(tiles)).exit_code == 0
    assert len(list(tiles.rglob("*.npy"))) == 4
    offline = ("--tiles", str(tiles), "--offline")
    for cache in (sample.cache, tmp_path / "empty"):  # with a registry, and with none
        sample.cache = cache
        assert sample(points, tmp_path / "b.npz", *offline).exit_code == 0
        with np.load(tmp_path / "b.npz") as arrays:
            np.testing.assert_array_equal(arrays["tessera"], expected)
    alone = sample(points, tmp_path / "c.npz", "--offline")
    assert (alone.exit_code, "offline" in alone.stderr) == (1, True)


@pytest.fixture
def alone(sample: Command, tiny_world: SampleWorld, tmp_path: Path) -> Callable[..., Result]:
    """`sample` from a directory of tiles, where there is neither a server nor a registry."""
    tiles = tiny_world.checkout(tmp_path / "tiles")
    sample.cache, sample.base = tmp_path / "empty", "http://127.0.0.1:9"
    points = write_points(tmp_path / "p.csv")

    def run(*words: str) -> Result:
        out = tmp_path / "out.csv"
        out.unlink(missing_ok=True)
        return sample(points, out, "--offline", "--tiles", str(tiles), *words)

    return run


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 0),
        (["--dataset-version", "v1"], 0),
        (["--dataset-version", "v1", "--dataset-variant", "vultr"], 0),
        (["--dataset-version", "v1.1"], 1),
        (["--dataset-version", "v1", "--dataset-variant", "cambridge"], 1),
        (["--dataset-variant", "cambridge"], 1),
    ],
)
def test_a_directory_alone_must_hold_the_dataset_that_is_named(
    alone: Callable[..., Result], tmp_path: Path, words: list[str], code: int
) -> None:
    assert alone(*words).exit_code == 0  # nothing says what it holds
    write_tessera_metadata(tmp_path / "tiles", "v1", "vultr")
    result = alone(*words)
    assert result.exit_code == code, result.output
    assert ("cannot be interchanged" in result.stderr) == bool(code)
    assert (tmp_path / "out.csv").exists() == (not code)


def test_a_directory_alone_never_mixes_datasets(
    alone: Callable[..., Result], tmp_path: Path, tiny_world: SampleWorld
) -> None:
    tiles = tmp_path / "tiles"
    shutil.rmtree(tiles)
    for one, dataset in zip(tiny_world.tiles, [("1.1", "cambridge"), ("1", "vultr")], strict=True):
        export_tile(
            NpyTile(*one.files).open(),
            geotiff_path(tiles, one.tile),
            tile=one.tile,
            dataset=dataset,
        )

    def valid(*words: str) -> set[str]:
        assert alone(*words).exit_code == 0
        table = pd.read_csv(tmp_path / "out.csv")
        return set(table["tile"][table["status"] == "valid"])

    first, second = ("grid_23.95_83.65", "grid_24.05_83.65")
    assert valid() in ({first}, {second})
    assert valid("--dataset-version", "v1", "--dataset-variant", "vultr") == {second}
    assert valid("--dataset-version", "v1.1", "--dataset-variant", "cambridge") == {first}


def test_a_tile_that_cannot_be_had_stops_or_leaves_rows(
    sample: Command, tmp_path: Path, tiny_world: SampleWorld
) -> None:
    points, out = write_points(tmp_path / "p.csv"), tmp_path / "out.csv"
    fault = Fault("status", path="*grid_24.05_*.npy", status=404)
    with LoopbackServer(tiny_world.root(), faults=[fault]) as server:
        sample.base = server.url
        stopped = sample(points, out)
        assert stopped.exit_code == 1
        assert "grid_24.05_83.65" in stopped.stderr
        assert not out.exists()
        counts = sample.json(points, out, "--errors", "coerce")["status"]
    table = pd.read_csv(out)
    failed = table["status"] == "failed"
    assert counts["failed"] == failed.sum() > 0
    assert set(table["tile"][failed]) == {"grid_24.05_83.65"}


def test_a_failure_keeps_the_earlier_result(sample: Command, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("earlier")
    bad = tmp_path / "bad.csv"
    bad.write_text("lon,lat\n500,0\n")
    assert sample(bad, out).exit_code == 1
    assert out.read_text() == "earlier"
    assert sample(write_points(tmp_path / "p.csv"), out).exit_code == 0
    assert out.read_text() != "earlier"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.csv", None, "missing.csv"),
        ("empty.csv", b"", "empty.csv"),
        ("no_coordinates.csv", b"a,b\n1,2\n", "lon and lat"),
        ("text.csv", b"lon,lat\neast,north\n", "numbers"),
        ("nan.csv", b"lon,lat\n,\n", "not on the globe"),
        ("swapped.csv", b"lon,lat\n52.0,120.0\n", "longitude"),
        ("broken.geojson", b'{"type": "FeatureCollection", "features": [', "broken.geojson"),
        (
            "line.geojson",
            b'{"type":"FeatureCollection","features":[{"type":"Feature","properties":{},'
            b'"geometry":{"type":"LineString","coordinates":[[0,0],[1,1]]}}]}',
            "Point",
        ),
        ("broken.parquet", b"PAR1 not PAR1", "broken.parquet"),
        ("foreign.gpkg", b"\x00" * 200, "foreign.gpkg"),
        ("binary.csv", bytes(range(256)), "binary.csv"),
    ],
)
def test_point_files_that_cannot_be_used(
    sample: Command, tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    result = sample(path, tmp_path / "out.csv")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert says in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("bands", ["4", "0,0", "x", "-1"])
def test_bad_bands(sample: Command, tmp_path: Path, bands: str) -> None:
    result = sample(write_points(tmp_path / "p.csv"), tmp_path / "out.csv", f"--bands={bands}")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert not (tmp_path / "out.csv").exists()


def test_no_points_are_no_rows(sample: Command, tmp_path: Path) -> None:
    points = tmp_path / "p.csv"
    points.write_text("lon,lat,plot\n")
    for suffix in ("parquet", "csv", "npz"):
        assert sample.json(points, tmp_path / f"out.{suffix}")["rows"] == 0


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".geojson", ".parquet"]))
def test_hostile_point_files_end_in_one_line(
    sample: Command, tmp_path: Path, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"points{suffix}"
    path.write_bytes(content)
    result = sample(path, tmp_path / "out.npz")
    assert result.exit_code in (0, 1)
    assert "Traceback" not in result.output
    if result.exit_code:
        assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_an_output_directory_that_cannot_be_written_is_found_first(
    sample: Command, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = sample(tmp_path / "missing.csv", tmp_path / "file" / "out.csv")
    assert result.exit_code == 1
    assert "file" in result.stderr
    assert "missing.csv" not in result.stderr
    for name, why in (("d.csv", "is a directory"), (f"{'n' * 300}.csv", "too long")):
        (tmp_path / "d.csv").mkdir(exist_ok=True)
        result = sample(tmp_path / "missing.csv", tmp_path / name)
        assert result.exit_code == 1
        assert why in result.stderr
        assert name in result.stderr
        assert "missing.csv" not in result.stderr
