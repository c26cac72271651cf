"""The seed and the spools of the chaos tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.fates import SEED_VARIABLE, chosen_seed


@pytest.fixture
def seed() -> int:
    """Return the seed of `SESSIONSIGHT_CHAOS_SEED`, or a new one; a failing test shows it."""
    seed = chosen_seed()
    print(f"replay with {SEED_VARIABLE}={seed}")
    return seed


@pytest.fixture(params=["memory", "sqlite:///{folder}/spool.db"], ids=["memory", "sqlite"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the `spool` setting, for each kind of spool."""
    return str(request.param).format(folder=tmp_path)
