"""Bounds and full disks: dropped records are counted with their reason, and no others are lost."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.fates import Fate
from tests.chaos.storm import GOALS, WEATHER, Plan, Scene, visit
from tests.core.delivery.spools import SqliteSpool
from tests.support.server import PATIENCE

VISITS = 100


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def problems(scene: Scene, captured: dict[str, Any]) -> list[str]:
    return [
        problem
        for name in scene.vendors
        for problem in scene.account(name, captured[name], repeats=name != GOALS).problems()
    ]


@pytest.mark.parametrize("bound", [{"queue_records": 30, "spool_bytes": 150_000}], ids=["little room"])
def test_a_full_queue_counts_what_it_evicts_and_keeps_goals_longest(
    bound: dict[str, Any], seed: int, spool: str, tmp_path: Path
) -> None:
    # No vendor accepts anything until all visits are made.
    weather = {name: {Fate.BUSY: 1.0} for name in WEATHER}
    with Scene(seed, weather, tmp_path, spool=spool, **bound) as scene:
        events, goals = visit(scene.client, Plan(seed, VISITS * 10))
        captured = {name: goals if name == GOALS else events for name in scene.vendors}

        scene.calm()
        assert scene.client.flush(2 * PATIENCE)

        lanes = scene.client.stats().lanes
        assert any(lane.dropped.get("queue_full") for lane in lanes.values())
        assert all(lane.delivered for lane in lanes.values())
        assert problems(scene, captured) == []


@contextmanager
def a_full_disk(spool: SqliteSpool) -> Iterator[None]:
    """Prevent the spool's file from growing."""
    file: Any = spool.store.file
    configure = file._configure

    def configured(connection: sqlite3.Connection) -> None:
        configure(connection)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    file._configure = configured
    file.disconnect()
    yield
    file._configure = configure
    file.disconnect()


def test_a_disk_that_fills_up_among_other_faults_loses_nothing(seed: int, tmp_path: Path) -> None:
    with Scene(seed, WEATHER, tmp_path, spool=f"sqlite:///{tmp_path}/spool.db") as scene:
        spool: Any = scene.client._engine_for_process()._spool
        before, goals_before = visit(scene.client, Plan(seed, VISITS))
        with a_full_disk(spool):
            events, goals = visit(scene.client, Plan(seed, VISITS), first=VISITS)
            scene.client.flush(1.0)
        scene.calm()

        assert scene.client.flush(2 * PATIENCE)
        captured = {name: goals_before + goals if name == GOALS else before + events for name in scene.vendors}
        assert problems(scene, captured) == []
        assert not any(lane.dropped.get("queue_full") for lane in scene.client.stats().lanes.values())
