"""Which region a command works on: one rule, one set of exit codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from geotessera import cli
from geotessera.cli.errors import UsageError
from geotessera.cli.selectors import RegionOptions
from geotessera.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

BAD = [
    {"bbox": "1,2,3"},
    {"bbox": "1,2,3,x"},
    {"bbox": "3,2,1,4"},
    {"bbox": "1,4,3,2"},
    {"bbox": "1,2,1,4"},
    {"bbox": "-181,2,3,4"},
    {"bbox": "1,2,3,91"},
    {"bbox": "nan,2,3,4"},
    {"bbox": ""},
    {"tile": "1,2,3,4"},
    {"tile": "200,2"},
    {"country": "Atlantis"},
    {"country": ""},
    {"region_file": "none.geojson"},
    {"region_file": __file__},
    {"bbox": "1,2,3,4", "tile": "1,2"},
    {"country": "Malta", "region_file": "none.geojson"},
]


def line(command: str, selectors: dict[str, str], out: Path) -> list[str]:
    words = [f"--{name.replace('_', '-')}={value}" for name, value in selectors.items()]
    return {
        "download": ["download", "-o", str(out / "out"), *words],
        "download tiles": ["download", "-o", str(out / "out"), "--source", "tiles", *words],
        "mosaic": ["mosaic", "-o", str(out / "m.tif"), *words],
        "visualize": ["visualize", str(out / "v.tif"), *words],
        "webmap": ["webmap", "-o", str(out / "web"), *words],
        "coverage": ["coverage", "-o", str(out / "c.png"), *words],
    }[command]


# As upstream has them.
CODES = {
    "download": 1,
    "download tiles": 1,
    "mosaic": 1,
    "visualize": 1,
    "webmap": 1,
    "coverage": 2,
}


def commands() -> set[str]:
    return {str(one.name or one.callback.__name__) for one in cli.app.registered_commands}  # type: ignore[union-attr]


@pytest.mark.parametrize("command", CODES)
def test_a_bad_selector_has_one_exit_code(command: str, tmp_path: Path) -> None:
    if command.split()[0] not in commands():
        pytest.skip(f"there is no {command} yet")
    for selectors in BAD:
        result = CliRunner().invoke(cli.app, line(command, selectors, tmp_path))
        assert result.exit_code == CODES[command], (selectors, result.output)
        assert result.stderr.startswith("Error: "), selectors
        assert "Traceback" not in result.output
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["download", "download tiles", "mosaic", "webmap"])
def test_one_selector_is_needed(command: str, tmp_path: Path) -> None:
    if command.split()[0] not in commands():
        pytest.skip(f"there is no {command} yet")
    result = CliRunner().invoke(cli.app, line(command, {}, tmp_path))
    assert result.exit_code == 1
    for option in ("--bbox", "--tile", "--region-file", "--country"):
        assert option in result.stderr


@pytest.mark.parametrize("selectors", BAD)
def test_the_rule(selectors: dict[str, str]) -> None:
    given = RegionOptions(**selectors)
    for choose in (given.region, given.optional):
        with pytest.raises(InputError) as caught:
            choose()
        assert not isinstance(caught.value, UsageError)
    with pytest.raises(UsageError):
        given.optional(usage=True)


def test_without_a_selector() -> None:
    none = RegionOptions()
    assert none.optional() is None
    assert none.optional(usage=True) is None
    with pytest.raises(InputError, match="a region is required"):
        none.region()


def test_a_selector() -> None:
    given = RegionOptions(country="GI")
    region = given.optional()
    assert region is not None
    assert region.name == given.region().name == "Gibraltar"
