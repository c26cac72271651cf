"""A database with orders, sessions that are bound with its outbox, and a client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from sessionsight.sqlalchemy import bind
from tests.adapters.recording import Recorder
from tests.core.sqlalchemy.orders import Base, outbox_recorder
from tests.core.sqlalchemy_databases import ENGINES, sqlalchemy_database


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with sqlalchemy_database(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def make(engine: Engine) -> sessionmaker[Session]:
    maker = sessionmaker(engine)
    bind(maker, outbox=True)
    return maker


@pytest.fixture
def recorder(database: str) -> Iterator[Recorder]:
    recorder = outbox_recorder(database)
    yield recorder
    recorder.client.shutdown(0)


@pytest.fixture
def capture(recorder: Recorder) -> Callable[..., Any]:
    return recorder.client.bind(user_id="user_1").capture
