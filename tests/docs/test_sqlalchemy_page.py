"""docs/sqlalchemy.md runs: records wait for the commits of its programs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool
from starlette.testclient import TestClient

import sessionsight
from sessionsight.sqlalchemy import bind, metadata
from sessionsight.testing import record
from tests.core.sqlalchemy_databases import execute, rows, sqlalchemy_database
from tests.support.pages import block, blocks, run

PAGE = "docs/sqlalchemy.md"
NAMES = ["orders", "flask", "fastapi", "outbox", "alembic", "tests"]


@pytest.fixture(autouse=True)
def _keys_and_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONSIGHT_SECRET_API_KEY", "...")
    monkeypatch.setenv("SESSIONSIGHT_PROPERTY_ID", "...")
    monkeypatch.chdir(tmp_path)


def page(name: str, folder: Path) -> dict[str, Any]:
    """The names of a program of the page, whose database is in this folder."""
    return run(block(PAGE, name).replace(":///shop.db", f":///{folder / 'shop.db'}"))


def test_every_python_block_of_the_page_is_run_here() -> None:
    assert [name for name, _ in blocks(PAGE)] == NAMES


def test_the_order_is_captured_at_its_commit(tmp_path: Path) -> None:
    sessionsight.configure()
    example = page("orders", tmp_path)
    for fails in (False, True):
        with record() as recorded:
            if fails:
                example["Base"].metadata.drop_all(example["engine"])
            with sessionsight.scope(user_id="user_1"), pytest.raises(OperationalError) if fails else nullcontext():
                example["pay"]()
            recorded.assert_captured("payment_tried")
            assert [one.name for one in recorded.dropped] == ["order_processed", "monthly-revenue"] * fails
            assert len(recorded.captured) == (1 if fails else 3)
    example["engine"].dispose()


def test_the_flask_program_captures_an_order_at_its_commit(tmp_path: Path) -> None:
    example = page("flask", tmp_path)
    browser = example["app"].test_client()
    with example["app"].app_context():
        example["db"].create_all()
        with record() as recorded:
            assert browser.post("/orders").status_code == 201
        recorded.assert_captured("order_processed")
        example["db"].drop_all()
        with record() as recorded:
            assert browser.post("/orders").status_code == 500
        recorded.assert_dropped("order_processed", "rolled_back")
        example["db"].session.remove()
        example["db"].engine.dispose()


def test_the_fastapi_program_captures_an_order_at_its_commit(tmp_path: Path) -> None:
    example = page("fastapi", tmp_path)
    tables, engine = example["Base"].metadata, example["engine"]

    async def on_tables(change: Callable[[Any], None]) -> None:
        async with engine.begin() as connection:
            await connection.run_sync(change)
        await engine.dispose()

    with TestClient(example["app"], raise_server_exceptions=False) as browser:
        for change, status in ((tables.create_all, 201), (tables.drop_all, 500)):
            asyncio.run(on_tables(change))
            with record() as recorded:
                assert browser.post("/orders").status_code == status
            names = [one.name for one in (recorded.captured if status == 201 else recorded.dropped)]
            assert names == ["order_processed"]
            assert browser.portal is not None
            browser.portal.call(engine.dispose)


def test_the_outbox_program_leaves_an_order_and_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYSE_KEY", "pk_live_1")
    with sqlalchemy_database("postgresql", tmp_path) as url:
        example = run(block(PAGE, "outbox").replace("postgresql+psycopg://shop@db.example.com/shop", url))
        engine = create_engine(url, poolclass=NullPool)
        example["Base"].metadata.create_all(engine)
        with TestClient(example["app"], raise_server_exceptions=False) as browser:
            assert browser.post("/orders").status_code == 201
            assert (execute(url, "SELECT id FROM orders"), rows(url, "inbox")) == ([(1,)], 1)
            example["Base"].metadata.drop_all(engine)
            assert browser.post("/orders").status_code == 500
            assert browser.portal is not None
            browser.portal.call(example["make_session"].kw["bind"].dispose)
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setattr("shop.Base", example["Base"], raising=False)
    assert run(block(PAGE, "alembic"))["target_metadata"] == [example["Base"].metadata, metadata]


@pytest.fixture
def bound() -> type[Session]:
    class OwnSession(Session):
        pass

    bind(OwnSession)
    return OwnSession


def test_the_recipe_for_tests(bound: type[Session]) -> None:
    engine = create_engine("sqlite://")
    example = run(block(PAGE, "tests"), {"__name__": "example"})

    def place_order(session: Any) -> None:
        session.connection().exec_driver_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        sessionsight.Client(sessionsight.Settings()).bind(user_id="user_1").capture("order_processed")
        assert recorded.captured == []
        session.commit()

    example.update(Session=bound, place_order=place_order)
    sessions = example["session"].__wrapped__(engine)
    with record() as recorded:
        example["test_an_order_is_counted"](next(sessions), recorded)
        assert next(sessions, None) is None
    engine.dispose()
