"""Message brokers for tests: real ones on this machine, whose addresses are in environment variables."""

from __future__ import annotations

import os
import shutil
import socket
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
AMQP_URL = os.environ.get("TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")


def need_redis() -> str:
    """Return the URL of a Redis server; skip the test where there is none."""
    return _need("Redis", REDIS_URL, 6379, "TEST_REDIS_URL", "apt-get install redis-server")


def need_rabbitmq() -> str:
    """Return the URL of a RabbitMQ server; skip the test where there is none."""
    return _need("RabbitMQ", AMQP_URL, 5672, "TEST_AMQP_URL", "apt-get install rabbitmq-server")


def need_program(name: str) -> str:
    """Return the path of a program that a test starts; skip the test where there is none."""
    found = shutil.which(name)
    return found or _missing(f"there is no {name} on the path; `apt-get install {name}` installs it")


def _need(name: str, url: str, port: int, variable: str, install: str) -> str:
    address = urlsplit(url)
    where = (address.hostname or "127.0.0.1", address.port or port)
    with socket.socket() as connection:
        if connection.connect_ex(where) == 0:
            return url
    return _missing(f"no {name} listens on {where[0]}:{where[1]}: {install}, or set {variable}")


def _missing(message: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
