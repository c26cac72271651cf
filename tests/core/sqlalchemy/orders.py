"""Orders in a database, and clients whose records are written into its outbox."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sessionsight import Client
from sessionsight.relay import Relay
from tests.adapters.recording import Recorder
from tests.core.delivery.kit import tally


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


class Refund(Exception):
    """Ends a block."""


def outbox_recorder(url: str, **settings: Any) -> Recorder:
    """A client whose records stay in the outbox until a relay is run."""
    return Recorder(**{"spool": f"sqlalchemy:{url}", "delivery": "relay", "spool_timeout": 20.0, **settings})


def delivered(recorder: Recorder) -> list[str]:
    """Run a relay until nothing is left, and return the names of all events that have arrived so far."""
    assert recorder.client.flush(20)  # a commit in an event loop leaves the write to a thread
    relay = Relay(Client(recorder.client.settings, make_transport=lambda _: recorder))
    relay.start()
    assert relay._engine.flush(float("inf"))
    assert not any(lane.ready or lane.last_error for lane in relay.stop())
    return recorder.arrived


def inserts(engine: Engine) -> list[str]:
    """The statements that connections of an engine write the inbox with, from now on."""
    found: list[str] = []

    def executed(_: object, __: object, statement: str, *___: object) -> None:
        if "sessionsight_inbox" in statement:
            found.append(statement)

    event.listen(engine, "before_cursor_execute", executed)
    return found


def counts(recorder: Recorder) -> dict[str, int]:
    return tally(recorder.client.stats().lanes["analyse"])


on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
