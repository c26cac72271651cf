"""The seed of a run, and the spools that it is made with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.fates import SEED_VARIABLE, chosen_seed


@pytest.fixture
def seed() -> int:
    """The seed that was asked for, else a new one; a test that fails shows it."""
    seed = chosen_seed()
    print(f"replay with {SEED_VARIABLE}={seed}")
    return seed


@pytest.fixture(params=["memory", "sqlite:///{folder}/spool.db"], ids=["memory", "sqlite"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The `spool` setting, once for each spool there is."""
    return str(request.param).format(folder=tmp_path)
