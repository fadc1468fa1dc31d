"""Tables of results: names that the points have already, attributes that a format has not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from geotessera import cli

if TYPE_CHECKING:
    from pathlib import Path

    from geotessera.testing import SampleWorld


def sample(world: SampleWorld, points: Path, out: Path, base: str = "") -> Result:
    line = ["sample", str(points), "-o", str(out), "--base-url", base or str(world.root())]
    return CliRunner().invoke(cli.app, [*line, "--cache-dir", str(out.parent / "cache")])


@pytest.mark.parametrize("name", ["tile", "status", "tessera_0", "geometry"])
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_geometry_column_may_have_a_results_name(
    tiny_world: SampleWorld, tmp_path: Path, name: str, suffix: str
) -> None:
    points, out = tmp_path / "points.parquet", tmp_path / f"out{suffix}"
    shapes = gpd.GeoSeries.from_xy([23.95], [83.65], crs=4326)
    gpd.GeoDataFrame({"plot": ["P"], name: shapes}, geometry=name).to_parquet(points)
    assert sample(tiny_world, points, out).exit_code == 0
    if suffix == ".csv":
        table = pd.read_csv(out)
        assert (table["lon"][0], table["lat"][0]) == (23.95, 83.65)
    else:
        table = gpd.read_parquet(out)
        assert table.geometry.name == (name if name == "geometry" else f"{name}_input")
        assert table.geometry.iloc[0].x == 23.95
        assert table.crs.to_epsg() == 4326
    assert list(table["plot"]) == ["P"]
    assert list(table["tile"]) == ["grid_23.95_83.65"]
    assert table["tessera_0"].dtype.kind == "f"


def test_a_column_that_parquet_cannot_hold_is_named_before_any_download(
    tiny_world: SampleWorld, tmp_path: Path
) -> None:
    points = tmp_path / "points.parquet"
    maps = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))
    pq.write_table(pa.table({"lon": [23.95], "lat": [83.65], "traits": maps}), points)
    # No server answers there: what is refused is refused without one.
    result = sample(tiny_world, points, tmp_path / "out.parquet", base="http://127.0.0.1:9")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert "'traits' cannot be written to Parquet" in lines[0]
    assert "--verbose" not in lines[0]
    assert not (tmp_path / "out.parquet").exists()
    assert sample(tiny_world, points, tmp_path / "out.csv").exit_code == 0
