"""A user's first script; `test_quickstart` runs it as it is, and checks what it leaves behind.

It knows nothing of mirrors and uses only names that releases 0.8 to 0.11 had too.
"""

import json
from pathlib import Path

import numpy as np

from geotessera import GeoTessera, dequantize_embedding
from geotessera.registry import tile_from_world, tile_to_bounds
from geotessera.tiles import Tile, discover_tiles

YEAR = 2024
BBOX = (0.12, 52.07, 0.27, 52.18)  # south of Cambridge: west, south, east, north
PLOTS = [(0.1437, 52.0811), (0.2519, 52.1622), (0.1822, 52.1279), (0.2371, 52.0977)]
notes: dict = {}

gt = GeoTessera()
notes["years"] = gt.registry.get_available_years()
notes["tiles"] = len(gt.registry.get_available_embeddings())

# One tile.
embedding, crs, transform = gt.fetch_embedding(lon=0.15, lat=52.05, year=YEAR)
height, width, bands = embedding.shape
notes["one"] = {"shape": [height, width, bands], "crs": str(crs), "transform": list(transform)[:6]}
np.save("one.npy", embedding)

# A region, tile by tile.
tiles = gt.registry.load_blocks_for_region(bounds=BBOX, year=YEAR)
notes["count"] = gt.embeddings_count(BBOX, YEAR)
notes["region"] = []
for year, lon, lat, array, tile_crs, _ in gt.fetch_embeddings(tiles):
    notes["region"].append([year, lon, lat, list(array.shape), tile_crs.to_epsg()])
    np.save(f"tile_{lon:.2f}_{lat:.2f}.npy", array[..., 0])

# Plots in the field.
at_plots = gt.sample_embeddings_at_points(PLOTS, year=YEAR)
again, metadata = gt.sample_embeddings_at_points(PLOTS, year=YEAR, include_metadata=True)
np.savez("plots.npz", values=at_plots, again=again)
notes["pixels"] = [[int(one["pixel_row"]), int(one["pixel_col"]), one["crs"]] for one in metadata]
notes["bounds"] = [list(tile_to_bounds(*tile_from_world(*plot))) for plot in PLOTS]

# Maps for a GIS: three bands of a region, all bands of one tile.
notes["files"] = gt.export_embedding_geotiffs(
    tiles_to_fetch=tiles, output_dir="maps", bands=[2, 0, 1]
)
notes["single"] = gt.export_embedding_geotiff(
    lon=0.15, lat=52.05, output_path="single.tif", year=YEAR, compress="deflate"
)

# Tiles to keep.
notes["downloaded"] = gt.download_tiles_for_points(PLOTS, year=YEAR)
notes["one more"] = gt.download_tile(0.15, 52.05, YEAR)
notes["present"] = gt.check_tiles_present(PLOTS, year=YEAR)
notes["found"] = []
for tile in discover_tiles(Path()):
    assert isinstance(tile, Tile)
    notes["found"].append([tile.year, tile.lon, tile.lat, tile.height, tile.width])
first = discover_tiles(Path())[0]
np.save("first.npy", first.load_embedding()[:, :, 1])
notes["by tile"] = first.sample_at_point(first.lon, first.lat).tolist()

# By hand.
np.save("by_hand.npy", dequantize_embedding(np.full((2, 2, 3), 4, np.int8), np.float32(0.5)))

with open("notes.json", "w") as file:  # noqa: PTH123 - as users write it
    json.dump(notes, file)
