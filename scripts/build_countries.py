"""Rebuild the country outlines that the package carries.

Usage: build_countries.py WORLD_ATLAS ISO_COUNTRIES

The arguments are the unpacked npm packages world-atlas (Natural Earth 1:50m and 1:10m as
TopoJSON) and i18n-iso-countries (ISO 3166 codes and English names); see SOURCE.txt beside
the result. Outlines are those of 1:50m; what is too small for it comes from 1:10m. Places
with an ISO code of their own that Natural Earth counts with another country are there twice:
with it and by themselves.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import shapely
import shapely.geometry
from shapely.affinity import translate
from shapely.geometry import Polygon

OUT = Path(__file__).parents[1] / "python" / "geotessera" / "data" / "countries.geojson.gz"

# Without an ISO number in the source: name, other names, alpha-2, alpha-3 (Natural Earth's).
UNNUMBERED = {
    "Kosovo": ("Kosovo", ["Republic of Kosovo"], "XK", "XKX"),
    "N. Cyprus": ("Northern Cyprus", [], None, "CYN"),
    "Somaliland": ("Somaliland", [], None, "SOL"),
    "Indian Ocean Ter.": ("Indian Ocean Territories", [], None, "IOA"),
    "Siachen Glacier": ("Siachen Glacier", [], None, "KAS"),
}

# Places with a code of their own: whose polygons they are, and in which (west, south, east,
# north) boxes.
PARTS: dict[str, tuple[str, list[tuple[float, float, float, float]]]] = {
    "BQ": ("Netherlands", [(-69, 12, -68, 13), (-64, 17, -62, 18)]),
    "BV": ("Norway", [(3, -55, 4, -54)]),
    "CC": ("Indian Ocean Ter.", [(96, -13, 97.5, -11)]),
    "CX": ("Indian Ocean Ter.", [(105, -11, 106, -10)]),
    "GF": ("France", [(-55, 2, -51, 6)]),
    "GP": ("France", [(-62, 15.7, -60.9, 16.6)]),
    "MQ": ("France", [(-61.4, 14.2, -60.7, 15)]),
    "RE": ("France", [(55, -21.5, 56, -20.7)]),
    "SJ": ("Norway", [(10, 74, 40, 81.5), (-10, 70.5, -7, 71.5)]),
    "TK": ("New Zealand", [(-173, -10, -171, -8)]),
    "YT": ("France", [(44.9, -13.1, 45.4, -12.5)]),
}

# Names in common use that neither source has.
MORE_NAMES = {
    "BQ": ["Bonaire, Sint Eustatius and Saba", "Caribbean Netherlands"],
    "BS": ["The Bahamas"],
    "CC": ["Cocos Islands", "Keeling Islands"],
    "CD": ["Democratic Republic of the Congo", "DR Congo", "Congo-Kinshasa"],
    "CG": ["Republic of the Congo", "Congo-Brazzaville"],
    "CV": ["Cape Verde", "Republic of Cabo Verde"],
    "CZ": ["Czech Republic"],
    "AU": ["Ashmore and Cartier Islands"],
    "FK": ["Falkland Islands"],
    "FM": ["Federated States of Micronesia"],
    "FO": ["Faeroe Islands"],
    "GB": ["Great Britain", "UK"],
    "GM": ["The Gambia"],
    "GS": ["South Georgia and the Islands"],
    "HK": ["Hong Kong S.A.R."],
    "HM": ["Heard I. and McDonald Islands"],
    "KP": ["Dem. Rep. Korea", "North Korea"],
    "KR": ["Republic of Korea", "South Korea"],
    "LA": ["Laos", "Lao PDR"],
    "MF": ["Saint Martin"],
    "MM": ["Burma"],
    "MO": ["Macao S.A.R"],
    "MK": ["Macedonia", "North Macedonia"],
    "NL": ["Holland"],
    "PS": ["Palestine", "Palestinian Territories"],
    "RS": ["Republic of Serbia"],
    "RU": ["Russia"],
    "SZ": ["Swaziland", "eSwatini", "Kingdom of eSwatini"],
    "TF": ["French Southern and Antarctic Lands"],
    "TL": ["East Timor"],
    "TZ": ["United Republic of Tanzania"],
    "US": ["USA", "US"],
    "VG": ["British Virgin Islands"],
    "VI": ["United States Virgin Islands"],
    "WF": ["Wallis and Futuna Islands"],
}


def _arcs(topology: dict[str, Any]) -> list[list[tuple[float, float]]]:
    scale, offset = topology["transform"]["scale"], topology["transform"]["translate"]
    decoded = []
    for arc in topology["arcs"]:
        x = y = 0
        points = []
        for step in arc:
            x, y = x + step[0], y + step[1]
            lon, lat = x * scale[0] + offset[0], y * scale[1] + offset[1]
            # 1e-4 degrees is finer than the source's own steps of 0.0036 and 0.0017.
            points.append((round(lon, 4), round(lat, 4)))
        decoded.append(points)
    return decoded


def _ring(numbers: list[int], arcs: list[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    ring: list[tuple[float, float]] = []
    for number in numbers:
        points = arcs[number] if number >= 0 else arcs[~number][::-1]
        ring += points[1:] if ring else points
    return ring


def _unwrapped(ring: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return a ring that goes on beyond ±180 where the source's jumps to the other side."""
    turn, before, out = 0, ring[0][0], []
    for lon, lat in ring:
        turn -= 360 * round((lon - before) / 360)
        before = lon
        out.append((lon + turn, lat))
    if out[-1][0] != out[0][0]:  # once round the globe: Antarctica, closed over the pole
        out += [(out[-1][0], -90.0), (out[0][0], -90.0), out[0]]
    return out


def _polygons(shape: dict[str, Any], arcs: list[list[tuple[float, float]]]) -> list[Polygon]:
    """Return a country's polygons, cut at the antimeridian (the source stitches them there)."""
    polygons = [shape["arcs"]] if shape["type"] == "Polygon" else shape["arcs"]
    out: list[Polygon] = []
    for polygon in polygons:
        rings = [_unwrapped(_ring(ring, arcs)) for ring in polygon]
        if len(rings[0]) < 4:  # an islet that the source's own rounding left without an area
            continue
        for turn in (-360, 0, 360):
            window = shapely.box(turn - 180, -90, turn + 180, 90)
            outline = shapely.make_valid(Polygon(rings[0], rings[1:]))
            cut = translate(shapely.intersection(outline, window), -turn)
            out += [part for part in shapely.get_parts(cut) if part.area > 0]
    return out


def _shapes(path: Path) -> list[tuple[dict[str, Any], list[Polygon]]]:
    """Return the countries of a file and their polygons."""
    topology = json.loads(path.read_text())
    arcs = _arcs(topology)
    shapes = topology["objects"]["countries"]["geometries"]
    return [(shape, _polygons(shape, arcs)) for shape in shapes]


def _part(code: str, sources: list[list[tuple[dict[str, Any], list[Polygon]]]]) -> list[Polygon]:
    """Return the polygons of a place that is counted with another: from the first that has any."""
    owner, boxes = PARTS[code]
    windows = [shapely.box(*box) for box in boxes]
    for source in sources:
        whole = [p for shape, ps in source if shape["properties"]["name"] == owner for p in ps]
        found = [p for p in whole if any(window.covers(p) for window in windows)]
        if found:
            return found
    raise ValueError(f"no polygon of {owner} is {code}")


def _covers(owner: dict[str, Any], part: dict[str, Any]) -> bool:
    whole, own = (shapely.geometry.shape(one["geometry"]) for one in (owner, part))
    return bool(whole.covers(own))


def main(atlas: Path, iso: Path) -> None:
    """Write the outlines."""
    coarse, fine = (_shapes(atlas / f"countries-{scale}.json") for scale in ("50m", "10m"))
    codes = {row[2]: row[:2] for row in json.loads((iso / "codes.json").read_text())}
    english = json.loads((iso / "langs" / "en.json").read_text())["countries"]
    numbers = {a2: number for number, (a2, _) in codes.items()}
    known_numbers = {shape.get("id") for shape, _ in coarse}
    shapes = coarse + [
        (shape, polygons)
        for shape, polygons in fine
        if "id" in shape and shape["id"] not in known_numbers
    ]
    for a2, (owner, _) in PARTS.items():
        name = english[a2] if isinstance(english[a2], str) else english[a2][0]
        whole = UNNUMBERED.get(owner, (owner,))[0]
        shape = {"id": numbers[a2], "properties": {"name": name, "part_of": whole}}
        shapes.append((shape, _part(a2, [coarse, fine])))
    features: dict[str, dict[str, Any]] = {}
    for shape, polygons in shapes:
        short = shape["properties"]["name"]
        if "id" in shape:
            a2, a3 = codes[shape["id"]]
            given = english[a2]
            names = [*([given] if isinstance(given, str) else given), *MORE_NAMES.get(a2, [])]
            name = names[0] if "." in short else short
        else:
            name, names, a2, a3 = UNNUMBERED[short]
        known = features.setdefault(
            name,
            {
                "type": "Feature",
                "properties": {"name": name, "names": [], "iso_a2": a2, "iso_a3": a3},
                "polygons": [],
            },
        )
        others = {*known["properties"]["names"], short, *names} - {name}
        known["properties"]["names"] = sorted(others)
        known["polygons"] += polygons
        if "part_of" in shape["properties"]:
            known["properties"]["part_of"] = shape["properties"]["part_of"]
    for feature in features.values():
        # Rounding the vertices can make a ring touch itself; this rounds and mends.
        outline = shapely.set_precision(shapely.union_all(feature.pop("polygons")), 1e-4)
        feature["bbox"] = [round(degrees, 4) for degrees in outline.bounds]
        coordinates = [
            [
                [[round(x, 4), round(y, 4)] for x, y in ring.coords]
                for ring in (p.exterior, *p.interiors)
            ]
            for p in shapely.get_parts(outline)
        ]
        feature["geometry"] = {"type": "MultiPolygon", "coordinates": coordinates}
    for feature in features.values():
        owner = feature["properties"].get("part_of")
        if owner and not _covers(features[owner], feature):  # Bouvet, too small for Norway's
            del feature["properties"]["part_of"]
    collection = {
        "type": "FeatureCollection",
        "features": sorted(features.values(), key=lambda one: one["properties"]["name"]),
    }
    text = json.dumps(collection, ensure_ascii=False, separators=(",", ":")).encode()
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(gzip.compress(text, 9, mtime=0))
    absent = {a2 for a2, _ in codes.values()} - {
        one["properties"]["iso_a2"] for one in features.values()
    }
    if absent:
        raise SystemExit(f"no outline for {sorted(absent)}")
    print(f"{len(features)} countries, {OUT.stat().st_size:,} bytes: {OUT}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
