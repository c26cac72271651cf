"""Brokers and databases for tests: real ones on this machine, whose addresses are in environment variables."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

import pytest

REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
AMQP_URL = os.environ.get("TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")

POSTGRESQL_URL = os.environ.get("TEST_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
MARIADB_URL = os.environ.get("TEST_MARIADB_URL", "mariadb://root@127.0.0.1:3306/mysql")


def need_redis() -> str:
    """Return the URL of a Redis server; skip the test where there is none."""
    return _need("Redis", REDIS_URL, 6379, "TEST_REDIS_URL", "apt-get install redis-server")


def need_rabbitmq() -> str:
    """Return the URL of a RabbitMQ server; skip the test where there is none."""
    return _need("RabbitMQ", AMQP_URL, 5672, "TEST_AMQP_URL", "apt-get install rabbitmq-server")


def need_postgresql() -> str:
    """Return the URL of a PostgreSQL server; skip the test where there is none."""
    return _need("PostgreSQL", POSTGRESQL_URL, 5432, "TEST_POSTGRESQL_URL", "apt-get install postgresql")


def need_mariadb() -> str:
    """Return the URL of a MariaDB server; skip the test where there is none."""
    return _need("MariaDB", MARIADB_URL, 3306, "TEST_MARIADB_URL", "apt-get install mariadb-server")


def _need(name: str, url: str, port: int, variable: str, install: str) -> str:
    address = urlsplit(url)
    where = (address.hostname or "127.0.0.1", address.port or port)
    with socket.socket() as connection:
        if connection.connect_ex(where) == 0:
            return url
    message = f"no {name} listens on {where[0]}:{where[1]}: {install}, or set {variable}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
