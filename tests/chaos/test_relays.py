"""Relays are killed while another process writes: no record is lost, and no goal is sent twice."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.chaos.relays import Plan, run

pytestmark = pytest.mark.servers


def test_killed_relays_neither_lose_records_nor_repeat_goals(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    result = run(Plan(seed, f"sqlite:///{tmp_path}/spool.db", kills=4), tmp_path)

    print(result)
    assert result.problems() == []
    assert result.kills == 4
    assert result.served > 0
