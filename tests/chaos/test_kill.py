"""Workers are killed while they serve and deliver: records of completed responses are neither lost nor sent twice."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from tests.chaos.kill import Plan, run

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are found in /proc"),
]


def test_killed_workers_neither_lose_nor_repeat_records(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    result = run(
        Plan(
            seed, captures=2_000, spool=f"sqlite:///{tmp_path}/spool.db", workers=2, kill_every=0.4, kills=3, pace=200.0
        ),
        tmp_path,
    )

    print(result)
    assert result.problems() == []
    assert result.kills > 0
    assert result.served > 0
