"""Destinations: one module per vendor, with the vendor's protocol as pure code."""

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
from sessionsight.errors import ConfigurationError, describe, did_you_mean
from sessionsight.key_file import KeyFile

__all__ = ["BY_NAME", "Analyse", "Console", "Saytics", "SessionSight", "Signal", "from_options"]

BY_NAME: dict[str, type[VendorDestination]] = {
    "sessionsight": SessionSight,
    "signal": Signal,
    "saytics": Saytics,
    "analyse": Analyse,
    "console": Console,
}
"""Classes of the vendors and the console by their names in settings."""


def from_options(name: str, options: Mapping[str, Any]) -> Destination:
    """Create a vendor's destination from options, as in a settings file.

    Args:
        name: One of `BY_NAME`, or any other name if the options contain the `vendor`.
        options: Names and values of the class's fields. A key may be `{"file": path}`, see `KeyFile`.

    Raises:
        ConfigurationError: An unknown name (the nearest known one is given), a missing option or a wrong value.

    Example:
        >>> from_options("analyse", {"public_key": "pk_live_1"})
        Analyse(name='analyse', public_key=***, host='https://pulse.analyse.net', batch_size=100, \
share_visitor_id=True, profile_traits='keep')
    """
    vendor = options.get("vendor", name)
    kind = BY_NAME.get(vendor) if isinstance(vendor, str) else None
    if kind is None and "vendor" in options:
        raise ConfigurationError(
            f"destination {name!r}: unknown vendor {describe(vendor)}; {did_you_mean(vendor, BY_NAME)}"
        )
    if kind is None:
        error = ConfigurationError.unknown(name, BY_NAME, where="destinations")
        raise ConfigurationError(f"{error} (a custom name needs a 'vendor' in its options)")
    options = {option: value for option, value in options.items() if option != "vendor"}
    known = [field for field in kind.__struct_fields__ if field != "name"]
    for option in options:
        if option not in known:
            raise ConfigurationError.unknown(option, known, where=f"destination {name!r}")
    options = {
        option: KeyFile.from_option(value, where=f"destination {name!r}: {option}") if option in kind.secrets else value
        for option, value in options.items()
    }
    # The class checks for missing options itself, with a better message than Python's.
    missing = {field.name: None for field in fields(kind) if field.required}
    return kind(**{**missing, **options, "name": name})
