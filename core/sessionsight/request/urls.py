"""Sanitizes URLs: removes credentials, the fragment, and the query except `utm_*` parameters."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_plus

__all__ = ["UTM_FIELDS", "quote_path", "sanitize_url", "utm_parameters", "utm_query"]

UTM_FIELDS = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")

# Characters that the URL standard does not encode in a path, in addition to letters, digits and "_.-~":
# https://url.spec.whatwg.org/#path-percent-encode-set. An unencoded backslash would be read as a slash.
_PATH_SAFE = "/!$&'()*+,:;=@[]|"
# A fast path for nearly all paths, which need no encoding.
_is_quoted = re.compile(rb"[A-Za-z0-9_.~/!$&'()*+,:;=@\[\]|-]*").fullmatch
# Browsers accept web URLs without slashes after the scheme.
_CREDENTIALS = re.compile(r"^((?:https?|wss?|ftp):[/\\]*|[^/\\@]*[/\\]{2,})[^/\\]*@", re.IGNORECASE)


def quote_path(path: bytes) -> str:
    """Percent-encode a decoded path as browsers do.

    Example:
        >>> quote_path("/größe/a b".encode())
        '/gr%C3%B6%C3%9Fe/a%20b'
    """
    return path.decode("ascii") if _is_quoted(path) else quote(path, safe=_PATH_SAFE)


def sanitize_url(url: str) -> str:
    """Return a foreign URL, such as a referrer, with only the `utm_*` parameters and without credentials.

    Example:
        >>> sanitize_url("https://ada:secret@blog.example/post?id=7&utm_medium=mail#top")
        'https://blog.example/post?utm_medium=mail'
    """
    address, _, query = url.partition("#")[0].partition("?")
    if "@" in address:
        address = _CREDENTIALS.sub(r"\1", address)
    kept = utm_query(query)
    return f"{address}?{kept}" if kept else address


def utm_query(query: str) -> str:
    """Return the `utm_*` parameters of a query.

    Example:
        >>> utm_query("token=1&utm_source=news&utm_id=7")
        'utm_source=news&utm_id=7'
    """
    if "utm_" not in query:
        return ""
    return "&".join([pair for pair in query.split("&") if pair.startswith("utm_")])


def utm_parameters(query: str) -> dict[str, str]:
    """Return the five utm parameters of a query, decoded: the first value of each name that is not empty.

    Example:
        >>> utm_parameters("utm_source=news+letter&id=7&utm_source=other&utm_term=")
        {'utm_source': 'news letter'}
    """
    found: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if value and name in UTM_FIELDS:
            found.setdefault(name, unquote_plus(value))
    return found
