from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import pytest

from sessionsight import Client, Settings
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.durable_spool import DurableSpool
from sessionsight.delivery.queue.factory import open_redis_store, open_spool
from sessionsight.errors import ConfigurationError, MissingDependencyError
from sessionsight.log import ThrottledLogger
from sessionsight.spool_url import is_durable, parse_redis, spool_name, sqlite_path


@pytest.mark.parametrize(
    ("spool", "path"),
    [
        ("memory", None),
        ("sqlite:////var/lib/shop.db", "/var/lib/shop.db"),
        ("sqlite:///shop.db", f"{Path.cwd()}/shop.db"),
        ("sqlite:////var/my%20shop.db", "/var/my shop.db"),
    ],
)
def test_the_path_of_a_spool(spool: str, path: str | None) -> None:
    assert sqlite_path(spool) == (None if path is None else os.path.realpath(path))
    assert is_durable(spool) == (path is not None)
    assert Settings(spool=spool).durable == is_durable(spool)


def test_a_path_with_a_null_character_is_invalid() -> None:
    with pytest.raises(ConfigurationError, match="spool must be one of"):
        Settings(spool="sqlite:///shop%00.db")


@pytest.mark.parametrize(
    ("spool", "url", "namespace", "name"),
    [
        ("redis://cache", "redis://cache/0", "sessionsight", "redis://cache:6379/0?namespace=sessionsight"),
        (
            "redis://app:s%20t@cache:7000/2?namespace=shop",
            "redis://app:s%20t@cache:7000/2",
            "shop",
            "redis://cache:7000/2?namespace=shop",
        ),
        (
            "rediss://:pw@[::1]/?ssl_ca_certs=%2Fca.pem&namespace=shop.eu:1",
            "rediss://:pw@[::1]/0?ssl_ca_certs=%2Fca.pem",
            "shop.eu:1",
            "rediss://[::1]:6379/0?namespace=shop.eu:1",
        ),
    ],
)
def test_the_parts_of_a_url(spool: str, url: str, namespace: str, name: str) -> None:
    found = parse_redis(spool)

    assert found is not None
    assert (found.url, found.namespace, found.name) == (url, namespace, name)
    assert spool_name(spool) == name
    assert Settings(spool=spool).durable
    assert is_durable(spool)
    assert sqlite_path(spool) is None


def test_the_number_of_replicas_in_a_url() -> None:
    found = parse_redis("redis://cache/0?wait_replicas=2&namespace=shop")

    assert found is not None
    assert (found.wait_replicas, found.url, found.name) == (2, "redis://cache/0", "redis://cache:6379/0?namespace=shop")


@pytest.mark.parametrize(
    "spool",
    [
        "redis://",
        "redis:///0",
        "redis://cache:port/0",
        "redis://cache/shop",
        "redis://cache/0?namespace=",
        "redis://cache/0?namespace={shop}",
        "redis://cache/0?namespace=a&namespace=b",
        "redis://cache/0?namespce=shop",
        "redis://cache/0?namespace",
        "redis://cache/0?wait_replicas=-1",
        "redis://cache/0?wait_replicas=1&wait_replicas=2",
        "redis://cache/0?ssl_ca_certs=/ca.pem",  # without TLS
        "rediss://cache/0?ssl_cert_reqs=none",
    ],
)
def test_an_invalid_url_is_an_error_without_the_password(spool: str) -> None:
    secret = spool.replace("//", "//:hunter2@", 1)

    with pytest.raises(ConfigurationError, match=r"spool must be a URL such as 'redis://host:6379/0") as caught:
        Settings(spool=secret)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="spool must be a URL such as"):
        open_redis_store(secret, DeliveryOptions(), ThrottledLogger())


def test_the_password_is_not_shown() -> None:
    settings = Settings(spool="redis://:hunter2@cache/0?namespace=shop")

    assert repr(settings) == "Settings(spool='redis://cache:6379/0?namespace=shop')"


def test_without_redis_py_the_url_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("sessionsight.delivery.stores.redis.")]:
        if name.endswith(("store", "connection")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(MissingDependencyError, match=r'pip install "sessionsight\[redis\]"') as caught:
        Client(Settings(spool="redis://:hunter2@cache"))

    assert "hunter2" not in "".join(traceback.format_exception_only(caught.value))


def test_the_server_is_not_needed_at_start() -> None:
    spool = open_spool("redis://127.0.0.1:1", DeliveryOptions(), ThrottledLogger())

    assert type(spool) is DurableSpool
    assert spool.durable
    spool.close()
