"""Options of destinations: keys, addresses, and values of a field's type."""

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

# https://fetch.spec.whatwg.org/#concept-header-value, limited to what HTTP/1.1 libraries accept.
_HEADER_VALUE = re.compile("[\t\x20-\x7e\x80-\xff]*")

Secret = str | Callable[[], str]
"""A key, or a function that returns it, such as a `KeyFile`. The function is called for each HTTP request."""


def resolve_secret(secret: Secret) -> str:
    """Return the key without surrounding white space, such as the line end of a file.

    Raises:
        ConfigurationError: The function failed or did not return a key.
    """
    if not callable(secret):
        return secret.strip()
    try:
        key: object = run(secret)
    except ConfigurationError:  # already a clear message, such as that of a key file
        raise
    except Exception as error:
        raise ConfigurationError(f"the function for the key failed with {type(error).__name__}") from error
    if not isinstance(key, str) or not key.strip():
        raise ConfigurationError("the function for the key did not return one")
    return key.strip()


def header_secret(secret: Secret, where: str = "the key") -> str:
    """Return a key for an HTTP header, which must consist of Latin-1 characters.

    The vendors' own SDKs send Latin-1 unchanged, and fail on each request with any other key.

    Args:
        secret: The key, or a function that returns it.
        where: Name of the option, for error messages.

    Raises:
        ConfigurationError: The key cannot be sent in a header, or `resolve_secret` raised it.
    """
    key = resolve_secret(secret)
    if not _HEADER_VALUE.fullmatch(key):
        raise ConfigurationError(
            f"{where} contains a character that HTTP headers cannot contain; "
            "copy the key from the vendor's dashboard again"
        )
    return key


def check_header_secret(secret: Secret, where: str) -> None:
    """Check the key of a new destination. A function is not called here, only for each request.

    Raises:
        ConfigurationError: The key cannot be sent in a header.
    """
    if not callable(secret):
        header_secret(secret, where)


def base_url(url: str, *, default: str, where: str) -> str:
    """Return a URL to append paths to, without a trailing slash; the default if it is empty or a single slash.

    Raises:
        ConfigurationError: The URL is not http(s), is plain http to another host than this machine, or has other
            parts than scheme, host, port and path.
    """
    url = url.removesuffix("/") or default.removesuffix("/")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{where}: this is not a valid URL") from None
    # These parts may be secret, so the message does not quote them.
    if "@" in parts.netloc:
        raise ConfigurationError(f"{where}: a URL must not contain a user name or password")
    if "?" in url or "#" in url:
        raise ConfigurationError(
            f"{where}: a URL must not contain a query or a fragment, because paths are appended to it"
        )
    if parts.scheme not in {"http", "https"} or not host or not url.isprintable() or " " in url:
        raise ConfigurationError(f"{where}: {url!r} is not an http(s) URL")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{where}: {url!r} would send keys and personal data unencrypted; use https (http is for loopback only)"
        )
    return url


def is_loopback(host: str) -> bool:
    """Return whether a host name or address always refers to this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def type_error(value: object, hint: Any) -> str | None:
    """Return the expected type as text if a value does not match it, otherwise None."""
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        return None if value in choices else f"one of {', '.join(repr(choice) for choice in choices)}"
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        return str(error).replace("Expected ", "", 1).partition(", got ")[0].replace("`", "")
    except TypeError:  # a type that msgspec cannot check
        return None
    return None
