"""Shops that keep orders and captured records in one database: with Django's ORM, and with SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from sessionsight import Analytics, Client, Settings
from sessionsight.destinations import Analyse
from sessionsight.stores import Store

__all__ = ["Shop", "open_shop", "wait_for_the_killed"]

_ORDERS = "CREATE TABLE orders (name varchar(40), PRIMARY KEY (name))"
_OTHERS = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "mariadb": "SELECT 1 FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
}


class Shop(Protocol):
    """A shop, which a process that was forked uses with connections of its own."""

    def execute(self, statement: str) -> list[Any]:
        """Execute a statement on a connection of its own, and return its rows."""

    def store(self) -> Store:
        """Return the store of its spool."""

    def seller(self) -> Callable[[str, bool, bool], None]:
        """Return a function that sells: the order's name, whether to capture it first, and whether to roll back."""


@contextmanager
def open_shop(engine: str, folder: Path) -> Iterator[Shop]:
    """A shop with a database of this test's own, such as `postgresql` or `sqlalchemy_postgresql`."""
    name = engine.removeprefix("sqlalchemy_")
    with (_django_shop if name == engine else _sqlalchemy_shop)(name, folder) as shop:
        shop.execute(_ORDERS)
        yield shop


def wait_for_the_killed(engine: str, shop: Shop) -> None:
    """Wait until the server has noticed that its clients are gone."""
    others = _OTHERS.get(engine.removeprefix("sqlalchemy_"))
    while others is not None and shop.execute(others):
        pass


def _analytics(spool: str) -> tuple[Client, Analytics]:
    client = Client(Settings(destinations=(Analyse(public_key="pk_live_1"),), spool=spool, delivery="relay"))
    return client, client.bind(user_id="user_1")


@contextmanager
def _django_shop(engine: str, folder: Path) -> Iterator[Shop]:
    from tests.adapters.outbox_databases import close_connection, outbox_database, outbox_store

    # isort: split
    from django.db import connection, transaction

    from sessionsight_django import clients

    class DjangoShop:
        def execute(self, statement: str, *parameters: str) -> list[Any]:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                found = list(cursor.fetchall()) if cursor.description else []
            if not parameters:
                close_connection("default")  # a child must not share it
            return found

        def store(self) -> Store:
            return outbox_store("default")

        def seller(self) -> Callable[[str, bool, bool], None]:
            client, analytics = _analytics("django")
            client.join_transaction = clients._join_transaction(client.settings)

            def sell(name: str, first: bool, fails: bool) -> None:
                with suppress(ZeroDivisionError), transaction.atomic():
                    if first:
                        analytics.capture("bought", {"order": name})
                    self.execute("INSERT INTO orders VALUES (%s)", name)
                    if not first:
                        analytics.capture("bought", {"order": name})
                    if fails:
                        raise ZeroDivisionError

            return sell

    with outbox_database(engine, folder, "default"):
        yield DjangoShop()


@contextmanager
def _sqlalchemy_shop(engine: str, folder: Path) -> Iterator[Shop]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.orm import sessionmaker

    from sessionsight.sqlalchemy import bind
    from tests.core.sqlalchemy_databases import execute, sqlalchemy_database, sqlalchemy_store

    class SqlAlchemyShop:
        def __init__(self, url: str) -> None:
            self._url = url

        def execute(self, statement: str) -> list[Any]:
            return execute(self._url, statement)

        def store(self) -> Store:
            return sqlalchemy_store(self._url)

        def seller(self) -> Callable[[str, bool, bool], None]:
            _, analytics = _analytics(f"sqlalchemy:{self._url}")
            make = sessionmaker(create_engine(self._url))
            bind(make, outbox=True)

            def sell(name: str, first: bool, fails: bool) -> None:
                with suppress(ZeroDivisionError), make.begin() as session:
                    if first:
                        analytics.capture("bought", {"order": name})
                    session.execute(text("INSERT INTO orders VALUES (:name)"), {"name": name})
                    if not first:
                        analytics.capture("bought", {"order": name})
                    if fails:
                        raise ZeroDivisionError

            return sell

    with sqlalchemy_database(engine, folder) as url:
        yield SqlAlchemyShop(url)
