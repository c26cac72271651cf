"""Hand-overs that a relay takes in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sessionsight.stores import NewRecord
from tests.core.sqlalchemy_databases import sqlalchemy_database, sqlalchemy_store
from tests.support.server import PATIENCE

T = TypeVar("T")


def test_a_claim_waits_for_the_disk_of_postgresql_if_it_takes_in_records(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c synchronous_commit=local")
    seen: list[str] = []
    with sqlalchemy_database("postgresql", tmp_path, reuse=True) as url:
        store = sqlalchemy_store(url)
        run = store._own.run

        def run_observed(step: Callable[[Any], T], *args: Any, **options: Any) -> T:
            def observed(cursor: Any) -> T:
                result = step(cursor)
                cursor.execute("SHOW synchronous_commit")
                seen.append(cursor.fetchone()[0])
                return result

            return run(observed, *args, **options)

        records = [NewRecord(lanes=["analyse"], body=b"", priority=1, size=100, enqueued_at=0.0) for _ in range(2)]
        store.enqueue(records, {("analyse", "captured"): 2}, batch_id=b"0123456789", timeout=PATIENCE)
        monkeypatch.setattr(store._own, "run", run_observed)
        for _ in range(2):
            claimed = store.claim("analyse", max_records=1, max_bytes=1000, timeout=PATIENCE)
            assert len(claimed.claims) == 1
        store.close()
    assert seen[:2] == ["local", "off"]
