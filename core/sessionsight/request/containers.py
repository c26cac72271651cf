"""Reads cookies and headers from the containers of Python frameworks, without importing them.

A container is a mapping, an object with `get`, or a list of pairs. Its names and values are text or bytes, or values
that `_text` converts: lists of several values, the standard library's `Morsel`, the `{"key", "value"}` of CloudFront.
The functions ignore values that they do not recognise; a container's exceptions count as missing values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, ItemsView, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

__all__ = ["attribute", "has_pairs", "item", "read_cookies", "read_headers"]


def attribute(holder: object, name: str) -> Any:
    """Return an attribute, or None if it is missing or raises."""
    try:
        return getattr(holder, name, None)
    except Exception:
        return None


def item(container: object, name: str | bytes) -> Any:
    """Return a value by its name, from `get` or by subscription, or None if it is missing.

    `get` may require a default, raise for a missing name, or not exist.
    """
    get = attribute(container, "get")
    for read in (get, _with_default(get), attribute(container, "__getitem__")):
        if callable(read):
            try:
                return read(name)
            except TypeError:  # its `get` has other parameters
                continue
            except Exception:
                return None
    return None


def has_pairs(container: object) -> TypeGuard[Collection[Any]]:
    """Return whether a container is a list of names with values, such as ASGI's headers or gRPC's metadata."""
    return isinstance(container, ItemsView) or (
        isinstance(container, Sequence) and not isinstance(container, str | bytes | bytearray | memoryview)
    )


def read_headers(container: object, names: Mapping[bytes, str]) -> dict[str, str]:
    """Read these headers.

    If a mapping has several spellings of a name, the lower-case one is used. Values of one spelling are joined, as are
    those of one name in a list, as servers do: https://www.rfc-editor.org/rfc/rfc9113#section-8.2.3.

    Args:
        container: Headers in any container.
        names: The names to read, as lower-case bytes, with their text.

    Returns:
        Non-empty values by lower-case name.
    """
    found: dict[str, dict[str, list[str]]] = {}
    is_list = has_pairs(container)
    for given, raw in _pairs(container) or _wanted(container, names.values()):
        name = names.get(given.lower().encode("latin-1", "replace"))
        if name is None:
            continue
        several = raw if isinstance(raw, list | tuple) else (raw,)
        texts = [text for value in several if isinstance(text := _text(value), str) and text]
        found.setdefault(name, {}).setdefault(name if is_list else given, []).extend(texts)
    headers: dict[str, str] = {}
    for name, spellings in found.items():
        values = next(filter(None, [spellings.get(name), *spellings.values()]), ())
        if values:
            headers[name] = ("; " if name == "cookie" else ", ").join(values)
    return headers


def read_cookies(container: object, names: Sequence[str]) -> dict[str, object]:
    """Read cookies that are decoded already.

    Args:
        container: Cookies in any container.
        names: The names to read if a container cannot be listed.

    Returns:
        Values by name, unchanged if they are not text.
    """
    if has_pairs(container):
        return {name: _text(value) for name, value in _pairs(container)}  # the last duplicate wins
    keys: dict[str | bytes, None] = dict.fromkeys(names)
    if isinstance(container, Mapping):  # keys may not be names: those of a cookie jar are cookies
        keys.update(dict.fromkeys(key for key in container if isinstance(key, str | bytes)))
    pairs = ((_name(key), item(container, key)) for key in keys)
    return {name: _text(value) for name, value in pairs if name is not None and value is not None}


def _with_default(get: object) -> Callable[[str | bytes], Any] | None:
    return (lambda name: get(name, None)) if callable(get) else None


def _pairs(container: object) -> list[tuple[str, Any]]:
    """Return all pairs of a container that can be listed. Exceptions of the container propagate."""
    if has_pairs(container):
        entries: Iterable[object] = container
    else:
        # Also for containers that are not mappings: email.message.Message, wsgiref's and Werkzeug's headers.
        items = attribute(container, "items")
        if not callable(items):
            return []
        try:
            entries = list(items())
        except Exception:
            return []
    return [pair for pair in map(_pair, entries) if pair is not None]


def _pair(entry: object) -> tuple[str, Any] | None:
    """Read `(name, value)`, or a mapping with both as members: `{"name": ..., "value": ...}`."""
    if isinstance(entry, list | tuple):
        key, value = entry if len(entry) == 2 else (None, None)
    elif isinstance(entry, Mapping):
        key, value = entry.get("name", entry.get("key")), entry.get("value")
    else:
        return None
    name = _name(key)
    return None if name is None else (name, value)


def _wanted(container: object, names: Iterable[str]) -> list[tuple[str, Any]]:
    return [(name, item(container, name)) for name in names]


def _name(key: object) -> str | None:
    if isinstance(key, bytes):
        return key.decode("latin-1")
    return key if isinstance(key, str) else None


def _text(value: Any) -> Any:
    """Return a value as text if it is some form of text, otherwise unchanged."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list | tuple):  # several values of one name: the last is used, as in a Cookie header
        return _text(value[-1]) if value else None
    if isinstance(value, Mapping) and isinstance(inner := value.get("value") or attribute(value, "value"), str):
        return inner
    return value
