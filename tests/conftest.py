"""Worlds that tests share; they are read only: build your own to change one."""

from __future__ import annotations

import pytest

from geotessera.testing import SampleWorld


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    """Two tiles of 4 bands (2024) on a zone seam, in generation B: 3 MB."""
    return SampleWorld.build(tmp_path_factory.mktemp("tiny"), size="tiny")


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SampleWorld:
    """Nine tiles of 8 bands (2023, 2024) in all generations: seam, south, antimeridian."""
    return SampleWorld.build(
        tmp_path_factory.mktemp("small"), size="small", generation=("B", "A", "A-simple")
    )
