"""The tables of the outbox are the same whether Django or SQLAlchemy makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.adapters.outbox_databases import outbox_database

# isort: split
from django.db import connections
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from sessionsight.sqlalchemy import metadata
from tests.core.sqlalchemy_databases import ENGINES, sqlalchemy_database


@pytest.mark.parametrize("engine", ENGINES)
def test_the_tables_of_django_and_of_sqlalchemy_are_the_same(engine: str, tmp_path: Path) -> None:
    with (
        outbox_database("sqlite_orm" if engine == "sqlite" else engine, tmp_path) as alias,
        sqlalchemy_database(engine, tmp_path) as url,
    ):
        name = connections[alias].settings_dict["NAME"]
        of_django = make_url(url).set(database=str(name)).render_as_string(hide_password=False)
        assert described(url) == described(of_django)


def described(url: str) -> dict[str, Any]:
    """The columns, keys and indexes of each table. SQLite keeps the names of types as they were given."""
    engine = create_engine(url, poolclass=NullPool)
    found = inspect(engine)
    tables: dict[str, Any] = {}
    for table in metadata.tables:
        columns = {
            column["name"]: (
                column["nullable"],
                "" if engine.dialect.name == "sqlite" else column["type"].compile(engine.dialect),
            )
            for column in found.get_columns(table)
        }
        key = tuple(found.get_pk_constraint(table)["constrained_columns"])
        indexes = {tuple(index["column_names"]) for index in found.get_indexes(table)} - {key}
        unique = {tuple(constraint["column_names"]) for constraint in found.get_unique_constraints(table)}
        tables[table] = {"columns": columns, "key": key, "indexes": indexes | unique}
    return tables
