"""Bundled countries: names, codes, and the outlines beside Natural Earth's own."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pytest
import shapely.geometry

from geotessera import country
from geotessera.country import CountryLookup, get_country_bbox, get_country_lookup
from geotessera.regions import Region

REAL = Path(__file__).parents[2] / "shared" / "data" / "real" / "countries"


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("France", "France"),
        ("fr", "France"),
        ("FRA", "France"),
        ("no", "Norway"),
        ("NOR", "Norway"),
        ("XKX", "Kosovo"),
        ("uk", "United Kingdom"),
        ("UA", "Ukraine"),
        ("us", "United States of America"),
        ("usa", "United States of America"),
        ("RUSSIA", "Russia"),
        ("Russian Federation", "Russia"),
        ("south korea", "South Korea"),
        ("north korea", "North Korea"),
        (" côte d’ivoire ", "Côte d'Ivoire"),
        ("Ivory Coast", "Côte d'Ivoire"),
        ("The Netherlands", "Netherlands"),
        ("Bosnia & Herzegovina", "Bosnia and Herzegovina"),
        ("DRC", None),
        ("Democratic Republic of the Congo", "Democratic Republic of the Congo"),
        ("Malta", "Malta"),
    ],
)
def test_names_and_codes(asked, name):
    if name is None:
        with pytest.raises(ValueError, match="no country is called"):
            CountryLookup().find(asked)
    else:
        assert CountryLookup().find(asked) == name


def test_a_misspelt_name_is_used_and_said(caplog):
    assert CountryLookup().find("Untied Kingdom") == "United Kingdom"
    assert "'Untied Kingdom': using United Kingdom" in caplog.text


@pytest.mark.parametrize("asked", ["Atlantis", "", "xx", "zzz", "-99", "Middle Earth"])
def test_unknown_names(asked):
    with pytest.raises(ValueError, match="no country is called"):
        get_country_bbox(asked)


@pytest.mark.parametrize(
    ("asked", "hint"), [("x", ""), ("Slove", "Did you mean Slovenia or Slovakia? ")]
)
def test_the_message_is_of_sentences(asked, hint):
    advice = "Give an English name or an ISO code such as GB or GBR"
    with pytest.raises(ValueError, match="no country") as caught:
        get_country_bbox(asked)
    assert str(caught.value) == f"no country is called {asked!r}. {hint}{advice}"


def test_the_process_s_lookup():
    seen = []
    assert get_country_lookup() is get_country_lookup()
    lookup = get_country_lookup(lambda *state: seen.append(state))
    assert get_country_lookup() is lookup
    assert seen[0][:2] == (1, 1)
    assert CountryLookup(cache_dir="anywhere").get_bbox("mt") == get_country_bbox("Malta")


def test_every_outline_is_sound_and_reaches_its_box():
    names = CountryLookup().list_countries()
    assert names == sorted(set(names))
    assert len(names) == 240
    for feature in country._features():
        outline = shapely.geometry.shape(feature["geometry"])
        assert outline.is_valid, feature["properties"]
        assert outline.bounds == pytest.approx(feature["bbox"], abs=1e-9)
        assert outline.geom_type == "MultiPolygon"


def test_geometry_is_a_frame():
    frame = CountryLookup().get_geometry("Malta")
    assert frame.crs == "EPSG:4326"
    assert frame.ISO_A3.tolist() == ["MLT"]
    assert frame.total_bounds == pytest.approx(get_country_bbox("MLT"))


@pytest.mark.parametrize(
    ("name", "west", "east"),
    [
        ("Russia", 19.6, -169.7),
        ("Fiji", 174.6, -178.3),
        ("USA", 172.5, -67.0),
        ("NZ", 165.9, -171.2),
    ],
)
def test_countries_across_the_antimeridian(name, west, east):
    bbox = Region.from_country(name).bbox
    assert (bbox.west, bbox.east) == pytest.approx((west, east), abs=0.1)
    plain = get_country_bbox(name)
    assert plain[0] < -170
    assert plain[2] > 170


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the real country outlines are not here")
def test_beside_natural_earth_s_own():
    frame = gpd.read_file(REAL / "ne_50m_admin_0_countries.geojson")
    frame.columns = [name.upper() if name != "geometry" else name for name in frame.columns]
    lookup = CountryLookup()
    largest = frame.assign(area=shapely.area(frame.geometry)).nlargest(200, "area")
    for row in largest.itertuples():
        for name in (row.ADMIN, row.NAME, row.NAME_LONG):
            assert lookup.get_bbox(name) == pytest.approx(row.geometry.bounds, abs=1), name
    coarse = gpd.read_file(REAL / "ne_110m_admin_0_countries.shp")
    assert len(coarse) == 177
    for row in coarse.itertuples():
        for name in (row.ADMIN, row.NAME, row.NAME_LONG):
            lookup.find(name)
