"""The grammar of the `spool` setting. URLs are read without the packages that their stores need."""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qs, unquote, urlencode, urlsplit, urlunsplit

from msgspec import Struct

__all__ = [
    "RedisUrl",
    "django_alias",
    "is_durable",
    "is_in_database",
    "is_redis",
    "parse_redis",
    "spool_name",
    "sqlalchemy_url",
    "sqlite_path",
    "url_error",
    "without_credentials",
]

_SQLITE = "sqlite:///"
_DJANGO = re.compile(r"django(?::(?P<alias>[^:/]+))?")
_SQLALCHEMY = re.compile(r"sqlalchemy:(?P<url>[a-z][a-z0-9_+]*://.*)", re.IGNORECASE | re.DOTALL)
_REDIS = (
    "a URL such as 'redis://host:6379/0?namespace=shop', with no options but namespace (letters, digits, and _ . : -), "
    "wait_replicas (a number) and, with rediss://, ssl_ca_certs, ssl_certfile and ssl_keyfile, and with / ? # @ in a "
    "password as %2F %3F %23 %40"
)
_REDIS_SCHEMES = ("redis://", "rediss://")
# It is a part of each key, and in braces, which select the slot of a cluster.
_NAMESPACE = re.compile(r"[\w.:-]+", re.ASCII)
_DATABASE = re.compile(r"/?|/[0-9]+")
_REPLICAS = re.compile(r"[0-9]{1,3}", re.ASCII)
# The options that redis-py gets, of those that it knows.
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})


def is_durable(spool: str) -> bool:
    """Return whether the records of a spool outlive the process."""
    return is_redis(spool) or sqlite_path(spool) is not None or is_in_database(spool)


def is_in_database(spool: str) -> bool:
    """Return whether a spool is in the app's own database, which transactions of the app write."""
    return django_alias(spool) is not None or sqlalchemy_url(spool) is not None


def django_alias(spool: str) -> str | None:
    """Return the alias of the Django database that a spool is in; None if it is in none.

    Example:
        >>> django_alias("django"), django_alias("django:analytics"), django_alias("memory")
        ('default', 'analytics', None)
    """
    found = _DJANGO.fullmatch(spool)
    return None if found is None else found["alias"] or "default"


def sqlalchemy_url(spool: str) -> str | None:
    """Return the URL of the database that SQLAlchemy connects a spool to; None for another spool.

    Example:
        >>> sqlalchemy_url("sqlalchemy:postgresql+psycopg://db.example.com/shop")
        'postgresql+psycopg://db.example.com/shop'
    """
    found = _SQLALCHEMY.fullmatch(spool)
    return None if found is None else found["url"]


def sqlite_path(spool: str) -> str | None:
    """Return the absolute path of a spool's file; None if it is not in a file.

    Example:
        >>> sqlite_path("sqlite:////var/lib/shop/analytics.db")
        '/var/lib/shop/analytics.db'
    """
    if not spool.startswith(_SQLITE):
        return None
    # The process may change its working directory later.
    return os.path.realpath(unquote(spool.removeprefix(_SQLITE)))


def spool_name(spool: str) -> str:
    """Return a valid URL without user and password.

    Example:
        >>> spool_name("redis://:secret@cache.example.com?namespace=shop")
        'redis://cache.example.com:6379/0?namespace=shop'
    """
    if sqlalchemy_url(spool) is not None:
        return without_credentials(spool).partition("?")[0]
    url = parse_redis(spool) if is_redis(spool) else None
    return spool if url is None else url.name


def without_credentials(url: str) -> str:
    """Return a URL, valid or not, without anything that may be a part of user and password.

    Example:
        >>> without_credentials("redis://app:a/b@c@cache.example.com:6379/0")
        'redis://cache.example.com:6379/0'
    """
    return re.sub("//.*@", "//", url, flags=re.DOTALL)


def url_error(spool: object) -> str | None:
    """Return the expected values, if this is not one of them; otherwise None."""
    if spool == "memory":
        return None
    if isinstance(spool, str) and spool.startswith(_SQLITE) and spool != _SQLITE and "\0" not in unquote(spool):
        return None
    if isinstance(spool, str) and is_in_database(spool):
        host = (sqlalchemy_url(spool) or "").partition("://")[2].partition("/")[0]
        return "a URL with @ in a password as %40" if host.count("@") > 1 else None
    if isinstance(spool, str) and is_redis(spool):
        return None if parse_redis(spool) is not None else _REDIS
    return (
        "one of 'memory', 'sqlite:///relative/path', 'sqlite:////absolute/path', "
        "'redis://host:6379/0?namespace=shop', 'rediss://host:6379/0?namespace=shop', 'django', 'django:alias', "
        "'sqlalchemy:postgresql+psycopg://host/shop'"
    )


class RedisUrl(Struct, frozen=True):
    """The URL of a Redis store."""

    url: str
    """The URL for redis-py."""
    namespace: str
    """The common part of all keys."""
    name: str
    """The URL without user and password."""
    password: str | None
    wait_replicas: int
    """The number of replicas for which an enqueue waits."""


def is_redis(spool: str) -> bool:
    """Return whether a spool is in Redis."""
    return spool.startswith(_REDIS_SCHEMES)


def parse_redis(spool: str) -> RedisUrl | None:
    """Return the parts of a URL; None if it is not valid.

    Example:
        >>> parse_redis("redis://app:secret@cache.example.com:6379/0?namespace=shop").name
        'redis://cache.example.com:6379/0?namespace=shop'
    """
    try:
        parts = urlsplit(spool)
        host, port = parts.hostname, parts.port or 6379
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return None
    [namespace, *others] = options.pop("namespace", ["sessionsight"])
    [replicas, *more] = options.pop("wait_replicas", ["0"])
    known = options.keys() <= _TLS_OPTIONS and (not options or parts.scheme == "rediss")
    valid = _DATABASE.fullmatch(parts.path) and _NAMESPACE.fullmatch(namespace) and _REPLICAS.fullmatch(replicas)
    if not host or others or more or not known or not valid:
        return None
    path = parts.path if len(parts.path) > 1 else "/0"
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return RedisUrl(
        urlunsplit((parts.scheme, parts.netloc, path, urlencode(options, doseq=True), "")),
        namespace,
        f"{parts.scheme}://{address}{path}?namespace={namespace}",
        None if parts.password is None else unquote(parts.password),
        int(replicas),
    )
