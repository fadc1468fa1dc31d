from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from geotessera import cli
from geotessera.layout import geotiff_path, local_tile_files
from geotessera.testing import SampleWorld
from geotessera.testing.server import LoopbackServer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    return SampleWorld.build(tmp_path_factory.mktemp("world"), size="tiny", generation=("B", "A"))


class Command:
    """`geotessera verify` of a directory that `geotessera download` made."""

    def __init__(self, world: SampleWorld, directory: Path, generation: Any) -> None:
        self.out = directory / "out"
        self.where = [
            *("--base-url", str(world.root(generation))),
            *("--cache-dir", str(directory / "cache")),
        ]
        line = ["download", "-o", str(self.out), "--bbox", "23,83,25,84", "--bands", "0,1"]
        assert CliRunner().invoke(cli.app, [*line, *self.where]).exit_code == 0

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(cli.app, ["verify", str(self.out), *self.where, *words])

    def json(self, *words: str, code: int = 0) -> Any:
        result = self(*words, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)


@pytest.fixture(params=["A", "B"])
def verify(world: SampleWorld, tmp_path: Path, request: pytest.FixtureRequest) -> Command:
    return Command(world, tmp_path, request.param)


def test_a_download_verifies(verify: Command) -> None:
    document = verify.json()
    assert document["ok"] is True
    assert (document["tiles"], document["files"]) == (2, 8)
    checked = document["checked_by"]
    assert checked["registry_hash"] + checked["recorded_hash"] == 8
    assert checked["registry_hash"] in (0, 6)
    assert "SUCCESS" in verify().stdout


@pytest.mark.parametrize("which", ["embedding", "scales", "landmask", "geotiff"])
@pytest.mark.parametrize("words", [[], ["--no-registry"]])
def test_a_flipped_byte_is_code_1_and_names_the_file(
    verify: Command, world: SampleWorld, which: str, words: list[str]
) -> None:
    tile = world.tiles[0].tile
    files = local_tile_files(verify.out, tile)._asdict() | {
        "geotiff": geotiff_path(verify.out, tile)
    }
    content = bytearray(files[which].read_bytes())
    content[-1] ^= 0x01
    files[which].write_bytes(content)
    result = verify(*words)
    assert result.exit_code == 1
    assert f"CHECKSUM: {files[which].relative_to(verify.out)}" in result.stdout
    document = verify.json(*words, code=1)
    assert document["ok"] is False
    assert [one["problem"] for one in document["problems"]] == ["checksum"]


def test_a_missing_file_is_named(verify: Command, world: SampleWorld) -> None:
    local_tile_files(verify.out, world.tiles[0].tile).scales.unlink()
    result = verify()
    assert result.exit_code == 1
    assert "INCOMPLETE" in result.stdout
    assert "no scales" in result.stdout


def test_implausible_scales_that_are_published_can_be_accepted(tmp_path: Path) -> None:
    world = SampleWorld.build(
        tmp_path / "world", size="tiny", generation="A", faults={(23.95, 83.65): "corrupt-scales"}
    )
    verify = Command(world, tmp_path, "A")
    result = verify()
    assert result.exit_code == 1
    assert "SCALES" in result.stdout
    assert "the bytes are as they are published" in result.stdout
    assert "--ignore-scales" in result.stdout
    assert verify("--ignore-scales").exit_code == 0


def test_what_the_user_removed_can_be_forgotten(verify: Command, world: SampleWorld) -> None:
    geotiff_path(verify.out, world.tiles[0].tile).unlink()
    result = verify()
    assert result.exit_code == 1
    assert "MISSING" in result.stdout
    assert "--forget-missing" in result.stdout
    assert verify("--forget-missing").exit_code == 0
    assert verify().exit_code == 0


def test_without_a_network_the_records_are_checked(world: SampleWorld, tmp_path: Path) -> None:
    with LoopbackServer(world.root("A")) as server:
        verify = Command(world, tmp_path, "A")
        verify.where[1] = server.url
    verify.where += ["--offline"]
    result = verify()
    assert result.exit_code == 0
    assert "checking against recorded hashes only" in result.stderr
    assert verify.json()["checked_by"]["recorded_hash"] == 8


def test_a_directory_without_records_or_label(world: SampleWorld, tmp_path: Path) -> None:
    verify = Command(world, tmp_path, "B")
    shutil.rmtree(verify.out / ".geotessera")
    (verify.out / "tessera_metadata.json").unlink()
    result = verify("-v")
    assert result.exit_code == 0
    assert "does not say which dataset" in result.stderr
    assert "2 files could be checked against nothing" in result.stdout
    assert "_2024.tiff" in result.stdout


def test_another_dataset_is_refused_when_it_is_named(world: SampleWorld, tmp_path: Path) -> None:
    verify = Command(world, tmp_path, "B")
    sidecar = verify.out / "tessera_metadata.json"
    sidecar.write_text(sidecar.read_text().replace("cambridge", "2B-L~beta1"))
    named = verify("--dataset-version", "v1.1", "--dataset-variant", "cambridge")
    assert named.exit_code == 1
    assert "cannot be interchanged" in named.stderr


@pytest.mark.parametrize("words", [[], ["--json"], ["--no-registry"]])
def test_nothing_to_verify_is_no_success(
    world: SampleWorld, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "empty").mkdir()
    line = ["verify", str(tmp_path / "empty"), "--base-url", str(world.root("B")), *words]
    result = CliRunner().invoke(cli.app, line)
    assert result.exit_code == 1
    assert "there is nothing to verify in" in result.output
    assert "SUCCESS" not in result.output


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_not_a_directory_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(cli.app, ["verify", str(tmp_path / name)])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: there is no directory")
    assert result.stderr.count("\n") == 1
