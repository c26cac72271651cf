"""A process that is killed within a purchase leaves the order and its record, or neither of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.purchase import run
from tests.support.brokers import need_mariadb, need_postgresql

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(
    "engine",
    ["postgresql", "mariadb", "sqlite_orm", "sqlalchemy_postgresql", "sqlalchemy_mariadb", "sqlalchemy_sqlite"],
)
def test_an_order_and_its_record_are_both_there_or_neither(engine: str, seed: int, tmp_path: Path) -> None:
    if engine.endswith("postgresql"):
        need_postgresql()
    elif engine.endswith("mariadb"):
        need_mariadb()

    result = run(engine, tmp_path, seed, kills=10)

    print(result)
    assert result.problems() == []
    assert result.orders > 0
