"""Countries by name or ISO code: their boxes and outlines, bundled with the package."""

from __future__ import annotations

import functools
import gzip
import json
import logging
import re
import unicodedata
from importlib import resources
from typing import TYPE_CHECKING, Any

from geotessera.errors import InputError

if TYPE_CHECKING:
    import os

    from geopandas import GeoDataFrame

    from geotessera.types import ProgressCallback

__all__ = ["CountryLookup", "country_features", "get_country_bbox", "get_country_lookup"]

logger = logging.getLogger(__name__)

_ALIASES = {
    "uk": "GBR",
    "us": "USA",
    "usa": "USA",
    "russia": "RUS",
    "south korea": "KOR",
    "north korea": "PRK",
}

# Upstream's threshold for accepting a misspelt name.
_SIMILAR = 0.8
_SHORTEST_FUZZY = 4  # three letters are a code or nothing


@functools.cache
def _features() -> list[dict[str, Any]]:
    """Return the bundled features (see data/SOURCE.txt), by name."""
    packed = resources.files("geotessera").joinpath("data/countries.geojson.gz").read_bytes()
    features: list[dict[str, Any]] = json.loads(gzip.decompress(packed))["features"]
    return features


def country_features() -> list[dict[str, Any]]:
    """Return all countries as GeoJSON features, to be read only.

    In the order of their names, with properties ``name``, ``names`` (others), ``iso_a2``
    and ``iso_a3`` (or None); ``part_of`` is the country whose outline has them too: of such
    features each is a part, in whole polygons, of another one.
    """
    return _features()


def _plain(name: str) -> str:
    """Return a name without case, accents, punctuation and a leading article."""
    text = unicodedata.normalize("NFKD", name.casefold().replace("&", " and "))
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = " ".join(re.sub(r"[^\w]+", " ", text).split())
    return text.removeprefix("the ")


@functools.cache
def _by_name() -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {}
    codes: dict[str, dict[str, Any]] = {}
    for feature in _features():
        properties = feature["properties"]
        known.setdefault(_plain(properties["name"]), feature)
        codes |= {
            code.casefold(): feature
            for code in (properties["iso_a2"], properties["iso_a3"])
            if code
        }
    for feature in _features():
        for name in feature["properties"]["names"]:
            known.setdefault(_plain(name), feature)
    codes |= {alias: codes[code.casefold()] for alias, code in _ALIASES.items()}
    return known | codes


class CountryLookup:
    """Find countries by name or code.

    Natural Earth 1:50m outlines (1:10m of what is too small for it), which come with the
    package; nothing is downloaded. All codes of ISO 3166-1 are known. Territories with a code
    of their own that their country counts as its own are part of its outline too, ten of them:
    Réunion is a country here, and in France.

    Parameters
    ----------
    cache_dir : path, optional
        Not used; accepted for scripts written for earlier releases.
    progress_callback : callable, optional
        Called once with (1, 1, text), for the same reason.

    Examples
    --------
    >>> CountryLookup().get_bbox("Malta")
    (14.1787, 35.8196, 14.5675, 36.0765)
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str] | None = None,
        progress_callback: ProgressCallback | None = None,
    ) -> None:
        self.cache_dir = cache_dir
        if progress_callback is not None:
            progress_callback(1, 1, "Country outlines come with the package")

    def find(self, country: str) -> str:
        """Return the name of the country that a name or code means.

        Parameters
        ----------
        country : str
            English name, ISO 3166 alpha-2 or alpha-3 code, or a misspelt name, in any case.

        Raises
        ------
        InputError
            (a `ValueError`) if no country is called that or nearly that.
        """
        name: str = self._find(country)["properties"]["name"]
        return name

    def _find(self, country: str) -> dict[str, Any]:
        from difflib import get_close_matches

        wanted, known = _plain(str(country)), _by_name()
        if wanted in known:
            return known[wanted]
        similar = get_close_matches(wanted, [n for n in known if len(n) > 3], 3, 0.6)
        if len(wanted) >= _SHORTEST_FUZZY:
            close = get_close_matches(wanted, similar, 1, _SIMILAR)
            if close:
                feature = known[close[0]]
                logger.warning(
                    "No country is called %r: using %s", country, feature["properties"]["name"]
                )
                return feature
        names = dict.fromkeys(known[name]["properties"]["name"] for name in similar)
        hint = f" Did you mean {' or '.join(names)}?" if names else ""
        raise InputError(
            f"no country is called {country!r}.{hint} "
            "Give an English name or an ISO code such as GB or GBR"
        )

    def get_bbox(self, country_name: str) -> tuple[float, float, float, float]:
        """Return the (west, south, east, north) of a country in WGS84 degrees.

        With all its islands and overseas parts; a country that crosses the antimeridian
        reaches from -180 to 180. Select by outline (`geotessera.regions.Region`) where
        that is too much.
        """
        west, south, east, north = self._find(country_name)["bbox"]
        return west, south, east, north

    def get_outline(self, country: str) -> dict[str, Any]:
        """Return the outline of a country as a GeoJSON MultiPolygon, cut at the antimeridian."""
        geometry: dict[str, Any] = self._find(country)["geometry"]
        return geometry

    def get_geometry(self, country_name: str) -> GeoDataFrame:
        """Return the outline of a country as a GeoDataFrame of one row, in EPSG:4326."""
        import geopandas
        import shapely.geometry

        feature = self._find(country_name)
        properties = feature["properties"]
        row = {"NAME": [properties["name"]]}
        row |= {"ISO_A2": [properties["iso_a2"]], "ISO_A3": [properties["iso_a3"]]}
        outline = shapely.geometry.shape(feature["geometry"])
        return geopandas.GeoDataFrame(row, geometry=[outline], crs="EPSG:4326")

    def outlines(self) -> list[dict[str, Any]]:
        """Return the outlines of the world as GeoJSON MultiPolygons, each place once.

        Territories that are part of their country's outline are not there by themselves.
        """
        return [
            feature["geometry"] for feature in _features() if "part_of" not in feature["properties"]
        ]

    def list_countries(self) -> list[str]:
        """Return the names of all countries, in alphabetical order."""
        return sorted(feature["properties"]["name"] for feature in _features())


_lookup: CountryLookup | None = None


def get_country_lookup(progress_callback: ProgressCallback | None = None) -> CountryLookup:
    """Return the lookup of this process."""
    global _lookup
    if _lookup is None or progress_callback is not None:
        _lookup = CountryLookup(progress_callback=progress_callback)
    return _lookup


def get_country_bbox(
    country_name: str, progress_callback: ProgressCallback | None = None
) -> tuple[float, float, float, float]:
    """Return the (west, south, east, north) of a country; see `CountryLookup.get_bbox`."""
    return get_country_lookup(progress_callback).get_bbox(country_name)
