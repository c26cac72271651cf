"""The tables of the outbox are the same whether Django, SQLAlchemy or Alembic makes them."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from tests.adapters.outbox_databases import outbox_database

# isort: split
from alembic import command
from alembic.config import Config
from django.db import connections
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from sessionsight.sqlalchemy import metadata
from tests.core.sqlalchemy_databases import ENGINES, execute, sqlalchemy_database


@pytest.mark.parametrize("engine", ENGINES)
def test_the_tables_of_django_and_of_sqlalchemy_are_the_same(engine: str, tmp_path: Path) -> None:
    with (
        outbox_database("sqlite_orm" if engine == "sqlite" else engine, tmp_path) as alias,
        sqlalchemy_database(engine, tmp_path) as url,
    ):
        name = connections[alias].settings_dict["NAME"]
        of_django = make_url(url).set(database=str(name)).render_as_string(hide_password=False)
        assert described(url) == described(of_django)


ENV = """
import sqlalchemy
from alembic import context
from sqlalchemy.pool import NullPool
from sessionsight.sqlalchemy import metadata

engine = sqlalchemy.create_engine(context.config.attributes["url"], poolclass=NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=[sqlalchemy.MetaData(), metadata])
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_alembic_makes_the_same_tables_and_then_finds_no_difference(engine: str, tmp_path: Path) -> None:
    scripts = tmp_path / "migrations"
    config = Config(stdout=StringIO())
    (scripts / "versions").mkdir(parents=True)
    (scripts / "env.py").write_text(ENV, "utf-8")
    template = Path(str(config.get_template_directory())) / "generic" / "script.py.mako"
    copy(template, scripts)
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")
    with sqlalchemy_database(engine, tmp_path) as url:
        expected = described(url)
    with sqlalchemy_database(engine, tmp_path, create=False) as url:
        config.attributes["url"] = url
        command.revision(config, "Add the outbox", autogenerate=True)
        command.upgrade(config, "head")
        command.check(config)  # raises if there is a difference
        assert described(url) == expected


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
        if engine.dialect.name == "postgresql":
            [(options,)] = execute(url, f"SELECT reloptions FROM pg_class WHERE relname = '{table}'")
            tables[table]["options"] = sorted(options or ())
    return tables
