"""The tables of the outbox, as `sessionsight_django.outbox` has them."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)
from sqlalchemy.dialects.mysql import LONGBLOB, LONGTEXT

__all__ = ["inbox", "metadata"]

_BIG = BigInteger().with_variant(Integer, "sqlite")  # the type that SQLite numbers by itself
_BODY = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")  # their BLOB ends at 64 kB
# On PostgreSQL these tables are vacuumed often, by number of dead rows, because their rows are short-lived.
_OFTEN_VACUUMED = {
    "fillfactor": 70,
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_vacuum_insert_scale_factor": 0,
    "autovacuum_vacuum_insert_threshold": 10000,
}
# SQLAlchemy 2.0 has no such argument: there a statement of `create_all` sets them, which Alembic does not see.
_OPTIONS: dict[str, Any] = {} if sqlalchemy.__version__.startswith("2.0.") else {"postgresql_with": _OFTEN_VACUUMED}

metadata = MetaData()
"""The tables of the outbox, for `metadata.create_all(engine)` and Alembic's `target_metadata`."""


def _required(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, nullable=False)


def _id() -> Column[Any]:
    return Column("id", _BIG, primary_key=True, autoincrement=True)


inbox = Table(
    "sessionsight_inbox",
    metadata,
    _id(),
    _required("batch_id", String(40)),
    _required("body", _BODY),
    _required("created_at", Double()),
    UniqueConstraint("batch_id", name="sessionsight_inbox_batch"),
    sqlite_autoincrement=True,  # ids must not be given twice
    **_OPTIONS,
)

_queue = Table(
    "sessionsight_queue",
    metadata,
    _id(),
    _required("lane", String(100)),
    _required("priority", SmallInteger()),
    _required("size", Integer()),
    _required("enqueued_at", Double()),
    _required("claimed_by", String(32)),
    _required("in_flight", Boolean()),
    _required("takeovers", SmallInteger()),
    _required("body", _BODY),
    # PostgreSQL updates a row in place only if no index has a column that changes, as `claimed_by` does.
    Index("sessionsight_queue_order", "lane", "priority", "id", "size"),
    sqlite_autoincrement=True,
    **_OPTIONS,
)

Table(
    "sessionsight_dead_letter",
    metadata,
    _id(),
    _required("handle", BigInteger()),
    Column("lane", String(100), nullable=False, index=True),
    _required("priority", SmallInteger()),
    _required("size", Integer()),
    _required("enqueued_at", Double()),
    _required("died_at", Double()),
    _required("reason", String(100)),
    _required("message", Text().with_variant(LONGTEXT(), "mysql", "mariadb")),
    Column("status", Integer()),
    _required("attempts", Integer()),
    Column("first_attempt", Double()),
    Column("last_attempt", Double()),
    _required("body", _BODY),
    sqlite_autoincrement=True,
)

Table(
    "sessionsight_key",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("seen_at", Double(), nullable=False, index=True),
)

Table(
    "sessionsight_batch",
    metadata,
    Column("batch_id", String(40), primary_key=True),
    Column("seen_at", Double(), nullable=False, index=True),
)

_count = Table(
    "sessionsight_count",
    metadata,
    _id(),
    _required("lane", String(100)),
    _required("counter", String(50)),
    _required("number", BigInteger()),
    sqlite_autoincrement=True,
    **_OPTIONS,
)

Table(
    "sessionsight_owner",
    metadata,
    Column("owner", String(32), primary_key=True),
    _required("expires_at", Double()),
    _required("on_trial", BigInteger()),
)

Table(
    "sessionsight_reach",
    metadata,
    _id(),
    Column("owner", String(32), nullable=False, index=True),
    _required("lane", String(100)),
    _required("priority", SmallInteger()),
    _required("last_id", BigInteger()),
    sqlite_autoincrement=True,
)

_PARAMETERS = ", ".join(f"{name} = {value}" for name, value in _OFTEN_VACUUMED.items())
_SET = DDL(f"ALTER TABLE %(table)s SET ({_PARAMETERS})")  # type: ignore[no-untyped-call]
for _table in (inbox, _queue, _count):
    event.listen(_table, "after_create", _SET.execute_if(dialect="postgresql"))
