"""Where records go: one module a vendor, each the vendor's protocol as pure code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import fields

from sessionsight.destinations.analyse import Analyse
from sessionsight.destinations.base import Destination, VendorDestination
from sessionsight.destinations.console import Console
from sessionsight.destinations.saytics import Saytics
from sessionsight.destinations.sessionsight import SessionSight
from sessionsight.destinations.signal import Signal
from sessionsight.errors import ConfigurationError
from sessionsight.keys import KeyFile

__all__ = ["BY_NAME", "Analyse", "Console", "Saytics", "SessionSight", "Signal", "from_options"]

BY_NAME: dict[str, type[VendorDestination]] = {
    kind.name: kind for kind in (SessionSight, Signal, Saytics, Analyse, Console)
}
"""The vendors, and the console, by the names that they have in settings."""


def from_options(name: str, options: Mapping[str, Any]) -> Destination:
    """Make a vendor's destination from options by name, as they stand in a settings file.

    Args:
        name: One of `BY_NAME`.
        options: The names and values of the class's fields. A key may be `{"file": path}`, see `KeyFile`.

    Raises:
        ConfigurationError: An unknown name (the nearest known one is given), a missing option or a wrong value.

    Example:
        >>> from_options("analyse", {"public_key": "pk_live_1"})
        Analyse(public_key=***, host='https://pulse.analyse.net', batch_size=100, share_visitor_id=True, \
profile_traits='as_given')
    """
    kind = BY_NAME.get(name)
    if kind is None:
        raise ConfigurationError.unknown(name, BY_NAME, where="destinations")
    known = kind.__struct_fields__
    for option in options:
        if option not in known:
            raise ConfigurationError.unknown(option, known, where=f"destination {name!r}")
    options = {
        option: KeyFile.from_option(value, where=f"destination {name!r}: {option}") if option in kind.secrets else value
        for option, value in options.items()
    }
    # What is missing is found by the class's own check, which has a better message than Python.
    missing = {field.name: None for field in fields(kind) if field.required}
    return kind(**{**missing, **options})
