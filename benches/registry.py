"""The registry at full size: cold build, warm open, memory and a city's tiles; JSON lines.

    python benches/registry.py [--rows 4600000] [--peer PYTHON] [--keep DIR]

PYTHON is an interpreter that has the released geotessera: the same manifest is opened and
asked there too, and the ratios are printed. Rows are laid out as published: one year
covers the land, the others a part of it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

# Run in a fresh interpreter each: what one of our processes, or the peer's, costs.
PROBE = """
import json, logging, statistics, sys, time
logging.disable(logging.CRITICAL)
started = time.perf_counter()
from geotessera.registry import Registry
imported = time.perf_counter()
registry = Registry("v1.1", "cambridge", registry_path=sys.argv[1], cache_dir=sys.argv[2])
opened = time.perf_counter()
box = (0.0, 51.9, 0.3, 52.2)
first = registry.load_blocks_for_region(box, 2024)
asked = time.perf_counter()
def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024
after_query = memory("VmRSS")
times = []
for _ in range(int(sys.argv[3])):
    before = time.perf_counter()
    registry.load_blocks_for_region(box, 2024)
    times.append(time.perf_counter() - before)
country = time.perf_counter()
count = len(registry.load_blocks_for_region((-8.7, 49.8, 1.8, 60.9), 2024))
country = time.perf_counter() - country
print(json.dumps({
    "import_s": imported - started, "open_s": opened - imported,
    "first_query_s": asked - opened, "city_query_s": statistics.median(times),
    "country_query_s": country, "country_tiles": count,
    "rss_mib": after_query, "city_tiles": len(first),
    "peak_rss_mib": memory("VmHWM"),
    "heavy": sorted({"pyarrow", "pandas", "geopandas"} & set(sys.modules)),
}))
"""


def write_manifest(path: Path, rows: int) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(0)
    # A third of the globe's rows between 60° S and 80° N: land, in blobs of 5°.
    blobs = random.random((72, 36)) < 0.45
    blobs[34:38, 27:30] = True  # the British Isles
    land = np.repeat(np.repeat(blobs, 50, axis=0), 50, axis=1)
    land[:, :300] = land[:, 1700:] = False
    cells = np.flatnonzero(land.ravel()).astype(np.int64)
    cells = np.sort(random.permutation(cells)[: int(rows * 0.346)])
    years = [2017, 2018, 2019, 2020, 2021, 2022, 2023, 2025]
    each = (rows - len(cells)) // len(years)
    parts = {2024: cells} | {year: np.sort(random.permutation(cells)[:each]) for year in years}
    schema, writer = None, None
    for year in sorted(parts):
        column, row = np.divmod(parts[year], 1800)
        lon, lat = (column * 10 - 17995) / 100, (row * 10 - 8995) / 100
        names = [f"grid_{x:.2f}_{y:.2f}" for x, y in zip(lon.tolist(), lat.tolist(), strict=True)]
        folder = [f"s3://bucket/tessera/npy/v1.1-cam/{year}/{name}" for name in names]
        when = pa.array(np.full(len(lon), 1_700_000_000_000_000), pa.timestamp("us", "UTC"))
        table = pa.table({
            "version": ["1.1"] * len(lon), "variant": ["cambridge"] * len(lon),
            "year": np.full(len(lon), year, np.int64), "lon": lon, "lat": lat,
            "directory": folder,
            "grid_path": [f"{f}/{n}.npy" for f, n in zip(folder, names, strict=True)],
            "scales_path": [f"{f}/{n}_scales.npy" for f, n in zip(folder, names, strict=True)],
            "grid_mtime": when, "scales_mtime": when,
            "grid_size": random.integers(5e7, 1.6e8, len(lon)),
            "scales_size": random.integers(2e6, 5e6, len(lon)),
            "lon_i": np.rint(lon * 100).astype(np.int32),
            "lat_i": np.rint(lat * 100).astype(np.int32),
        })  # fmt: skip
        schema = schema or table.schema
        writer = writer or pq.ParquetWriter(path, schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def probe(python: str, manifest: Path, cache: Path, queries: int) -> dict[str, float]:
    command = [python, "-c", PROBE, str(manifest), str(cache), str(queries)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4_600_000)
    parser.add_argument("--peer", help="interpreter with the released geotessera")
    parser.add_argument("--keep", type=Path, help="directory for the manifest, kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        manifest, cache = root / f"manifest-{options.rows}.parquet", Path(temporary) / "cache"
        if not manifest.exists():
            write_manifest(manifest, options.rows)
        size = manifest.stat().st_size
        print(json.dumps({"what": "manifest", "rows": options.rows, "bytes": size}), flush=True)
        cold = probe(sys.executable, manifest, cache, 3)
        print(json.dumps({"what": "cold", **cold}), flush=True)
        runs = [probe(sys.executable, manifest, cache, 2000) for _ in range(5)]
        warm = sorted(runs, key=lambda run: run["open_s"])[2]
        index = sum(path.stat().st_size for path in cache.rglob("*.index"))
        print(json.dumps({"what": "warm", "index_bytes": index, **warm}), flush=True)
        if options.peer:
            peer = probe(options.peer, manifest, Path(temporary) / "peer", 5)
            print(json.dumps({"what": "peer", **peer}), flush=True)
            names = ("open_s", "city_query_s", "country_query_s", "rss_mib", "peak_rss_mib")
            ratios = {name: peer[name] / warm[name] for name in names}
            print(json.dumps({"what": "peer / warm", **ratios}), flush=True)


if __name__ == "__main__":
    main()
