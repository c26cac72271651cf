"""What an option of a destination may be: a key, an address, or a value of its field's type."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from sessionsight.callbacks import run
from sessionsight.errors import ConfigurationError

__all__ = ["Secret", "base_url", "check_header_secret", "header_secret", "is_loopback", "resolve_secret", "type_error"]

# https://fetch.spec.whatwg.org/#concept-header-value, as far as HTTP/1.1 and its libraries take it.
_HEADER_VALUE = re.compile("[\t\x20-\x7e\x80-\xff]*")

Secret = str | Callable[[], str]
"""A key, or a function that returns it, such as a `KeyFile`; it is called for each HTTP call."""


def resolve_secret(secret: Secret) -> str:
    """The key itself, without the line end that a file may have given it.

    Raises:
        ConfigurationError: The function that should give it failed, or gave none.
    """
    if not callable(secret):
        return secret.strip()
    try:
        key: object = run(secret)
    except ConfigurationError:  # in words of its own, as of a key file
        raise
    except Exception as error:
        raise ConfigurationError(f"the function that gives the key failed with {type(error).__name__}") from error
    if not isinstance(key, str) or not key.strip():
        raise ConfigurationError("the function that gives the key gave none")
    return key.strip()


def header_secret(secret: Secret, where: str = "the key") -> str:
    """Return a key that is sent in a header, where only the characters of Latin-1 can stand.

    The vendors' own SDKs send Latin-1 as it is, and fail at each call with any other key.

    Args:
        secret: The key, or a function that returns it.
        where: The option that an error names.

    Raises:
        ConfigurationError: The key cannot be sent in a header, or as `resolve_secret`.
    """
    key = resolve_secret(secret)
    if not _HEADER_VALUE.fullmatch(key):
        raise ConfigurationError(
            f"{where} holds a character that no HTTP header can hold; copy the key from the vendor's dashboard again"
        )
    return key


def check_header_secret(secret: Secret, where: str) -> None:
    """Check a key that is known already, when a destination is made. A function is asked at each call only.

    Raises:
        ConfigurationError: The key cannot be sent in a header.
    """
    if not callable(secret):
        header_secret(secret, where)


def base_url(url: str, *, default: str, where: str) -> str:
    """An address to which paths are joined: without its one trailing slash; empty or a lone slash is the default.

    Raises:
        ConfigurationError: Not http(s), plain http to a host other than this machine, or more than scheme, host,
            port and path.
    """
    url = url.removesuffix("/") or default.removesuffix("/")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{where}: this is no address") from None
    # What these hold may be secret, so they are not shown.
    if "@" in parts.netloc:
        raise ConfigurationError(f"{where}: an address must not hold a user name or password")
    if "?" in url or "#" in url:
        raise ConfigurationError(f"{where}: an address must not hold a query or a fragment, for paths are joined to it")
    if parts.scheme not in {"http", "https"} or not host or not url.isprintable() or " " in url:
        raise ConfigurationError(f"{where}: {url!r} is no http(s) address")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{where}: {url!r} would send keys and personal data in the clear; use https (http is for loopback only)"
        )
    return url


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine by its very spelling."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def type_error(value: object, hint: Any) -> str | None:
    """What an option must be, when this value is not that."""
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        return None if value in choices else f"one of {', '.join(repr(choice) for choice in choices)}"
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        return str(error).replace("Expected ", "", 1).partition(", got ")[0].replace("`", "")
    except TypeError:  # a type that only its own code can check
        return None
    return None
