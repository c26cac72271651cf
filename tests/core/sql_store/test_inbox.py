"""Hand-overs that a relay takes in."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionsight.stores import NewRecord
from tests.core.sqlalchemy_databases import sqlalchemy_database, sqlalchemy_store
from tests.support.own_transactions import observe
from tests.support.server import PATIENCE


def test_a_claim_waits_for_the_disk_of_postgresql_if_it_takes_in_records(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c synchronous_commit=local")
    with sqlalchemy_database("postgresql", tmp_path, reuse=True) as url:
        store = sqlalchemy_store(url)
        seen = observe(store._own, "SHOW synchronous_commit")
        for batch_id in (b"first", b"second"):  # the first claim of all waits in any case
            records = [NewRecord(lanes=["analyse"], body=b"", priority=1, size=100, enqueued_at=0.0) for _ in range(2)]
            store.enqueue(records, {("analyse", "captured"): 2}, batch_id=batch_id, timeout=PATIENCE)
            del seen[:]
            for _ in range(2):
                claimed = store.claim("analyse", max_records=1, max_bytes=1000, timeout=PATIENCE)
                assert len(claimed.claims) == 1
        store.close()
    assert seen[:2] == [("local",), ("off",)]
