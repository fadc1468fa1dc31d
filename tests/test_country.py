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
    assert len(names) == 254
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


# The ISO 3166-1 list that comes with the time zone database.
ISO_3166 = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ
BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM
DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS
GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN
KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ
MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM
PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV
SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI
VN VU WF WS YE YT ZA ZM ZW
"""
ISO_CODES = ISO_3166.split()


def test_every_iso_code_has_an_outline():
    assert len(ISO_CODES) == 249
    lookup = CountryLookup()
    names = [lookup.find(code) for code in ISO_CODES]
    assert len(set(names)) == 249
    assert all(
        lookup.find(code.lower()) == name for code, name in zip(ISO_CODES, names, strict=True)
    )


def _cells_of(bbox):
    columns = range(int((bbox.west + 180) * 10), int((bbox.east + 180) * 10) + 1)
    rows = range(int((bbox.south + 90) * 10), int((bbox.north + 90) * 10) + 1)
    return [((c * 10 - 17995) / 100, (r * 10 - 8995) / 100) for c in columns for r in rows]


def test_small_states_select_tiles():
    small = 0
    for code in ISO_CODES:
        region = Region.from_country(code)
        west, _, east, north = region.bbox
        if 0 < east - west < 2 and north - region.bbox.south < 2:
            small += 1
            assert region.overlaps(_cells_of(region.bbox)).any(), code
    assert small > 50


@pytest.mark.parametrize(
    ("code", "lon", "lat"),
    [
        ("GI", -5.353, 36.14),
        ("TV", 179.195, -8.52),
        ("BV", 3.36, -54.42),
        ("GF", -52.33, 4.93),
        ("RE", 55.45, -20.9),
        ("SJ", 15.65, 78.22),
        ("YT", 45.2, -12.8),
        ("BQ", -68.27, 12.16),
        ("TK", -172.49, -8.55),
        ("CX", 105.67, -10.45),
        ("CC", 96.83, -12.19),
        ("UM", 166.63, 19.29),
        ("VA", 12.453, 41.903),
        ("MC", 7.42, 43.735),
        ("NR", 166.93, -0.53),
    ],
)
def test_small_places_are_where_they_are(code, lon, lat):
    outline = shapely.geometry.shape(CountryLookup().get_outline(code))
    assert outline.distance(shapely.Point(lon, lat)) < 0.03


def test_parts_are_in_their_countries_too():
    features = {one["properties"]["name"]: one for one in country.country_features()}
    parts = [one for one in features.values() if "part_of" in one["properties"]]
    assert len(parts) == 10
    for part in parts:
        whole = shapely.geometry.shape(features[part["properties"]["part_of"]]["geometry"])
        assert whole.covers(shapely.geometry.shape(part["geometry"])), part["properties"]


def test_outlines_of_the_world_have_each_place_once():
    outlines = [shapely.geometry.shape(one) for one in CountryLookup().outlines()]
    twice = sum(one.area for one in outlines) - shapely.union_all(outlines).area
    assert abs(twice) < 1e-3  # square degrees, of 21,000: where borders are rounded
    everything = [shapely.geometry.shape(one["geometry"]) for one in country.country_features()]
    assert shapely.union_all(everything).difference(shapely.union_all(outlines)).area < 1e-9
    for feature in country.country_features():
        place = shapely.geometry.shape(feature["geometry"]).representative_point()
        assert sum(shapely.contains(one, place) for one in outlines) == 1
