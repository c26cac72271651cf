"""Relays fail while two web processes serve: no record of a complete response is lost, and no goal is sent twice."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.chaos.fleet import Plan, run
from tests.support.redis_server import run_redis

pytestmark = pytest.mark.servers


def test_killed_and_stopped_relays_neither_lose_records_nor_repeat_goals(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    with run_redis(tmp_path, appendonly="yes") as redis:
        result = run(Plan(seed, redis.url, visits=200, pace=50.0, away=1.0), tmp_path)

    print(result)
    assert result.problems() == []
    assert result.served > 0
