"""The URLs of Redis stores. They are checked without redis-py, which may not be installed."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, unquote, urlencode, urlsplit, urlunsplit

from msgspec import Struct

__all__ = ["RedisUrl", "is_redis", "parse"]

_SCHEMES = ("redis://", "rediss://")
# It is a part of each key, and in braces, which select the slot of a cluster.
_NAMESPACE = re.compile(r"[\w.:-]+", re.ASCII)
_DATABASE = re.compile(r"/?|/[0-9]+")
_REPLICAS = re.compile(r"[0-9]{1,3}", re.ASCII)
# The options that redis-py gets, of those that it knows.
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})


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
    return spool.startswith(_SCHEMES)


def parse(spool: str) -> RedisUrl | None:
    """Return the parts of a URL; None if it is not valid.

    Example:
        >>> parse("redis://app:secret@cache.example.com:6379/0?namespace=shop").name
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
