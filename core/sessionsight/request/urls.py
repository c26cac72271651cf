"""Sanitizes URLs: removes credentials, the fragment, and the query except `utm_*` parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, unquote_plus

__all__ = ["UTM_FIELDS", "page_url", "quote_path", "sanitize_url", "utm_parameters"]

UTM_FIELDS = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")

# Characters that the URL standard does not encode in a path, in addition to letters, digits and "_.-~":
# https://url.spec.whatwg.org/#path-percent-encode-set. An unencoded backslash would be read as a slash.
_PATH_SAFE = "/!$&'()*+,:;=@[]|"
# A fast path for nearly all paths, which need no encoding.
_QUOTED = re.compile(rb"[A-Za-z0-9_.~/!$&'()*+,:;=@\[\]|-]*")
# Browsers accept web URLs without slashes after the scheme.
_CREDENTIALS = re.compile(r"^((?:https?|wss?|ftp):[/\\]*|[^/\\@]*[/\\]{2,})[^/\\]*@", re.IGNORECASE)


def quote_path(path: bytes) -> str:
    """Percent-encode a decoded path as browsers do.

    Example:
        >>> quote_path("/größe/a b".encode())
        '/gr%C3%B6%C3%9Fe/a%20b'
    """
    return path.decode("ascii") if _QUOTED.fullmatch(path) else quote(path, safe=_PATH_SAFE)


def page_url(scheme: str, host: str, path: str, query: str) -> str:
    """Return the URL of a page, with only the `utm_*` parameters of its query.

    Example:
        >>> page_url("https", "shop.example", "/orders", "token=1&utm_source=news")
        'https://shop.example/orders?utm_source=news'
    """
    if "utm_" in query and (kept := "&".join(_utm_pairs(query))):
        return f"{scheme}://{host}{path}?{kept}"
    return f"{scheme}://{host}{path}"


def sanitize_url(url: str) -> str:
    """Return a foreign URL, such as a referrer, with only the `utm_*` parameters and without credentials.

    Example:
        >>> sanitize_url("https://ada:secret@blog.example/post?id=7&utm_medium=mail#top")
        'https://blog.example/post?utm_medium=mail'
    """
    address, _, query = url.partition("#")[0].partition("?")
    if "@" in address:
        address = _CREDENTIALS.sub(r"\1", address)
    kept = "&".join(_utm_pairs(query))
    return f"{address}?{kept}" if kept else address


def utm_parameters(query: str) -> dict[str, str]:
    """Return the five utm parameters of a query, decoded: the first value of each name that is not empty.

    Example:
        >>> utm_parameters("utm_source=news+letter&id=7&utm_source=other&utm_term=")
        {'utm_source': 'news letter'}
    """
    found: dict[str, str] = {}
    if "utm_" not in query:
        return found
    for pair in _utm_pairs(query):
        name, _, value = pair.partition("=")
        if value and name in UTM_FIELDS:
            found.setdefault(name, unquote_plus(value))
    return found


def _utm_pairs(query: str) -> Iterator[str]:
    return (pair for pair in query.split("&") if pair.startswith("utm_"))
