"""GeoTessera."""
