"""Reads settings from environment variables, and creates destinations from their options."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, get_args

from msgspec.structs import fields

from sessionsight.destinations import BY_NAME, from_options
from sessionsight.destinations.base import Destination
from sessionsight.errors import ConfigurationError, describe

__all__ = [
    "DESTINATION_METHODS",
    "VARIABLES",
    "environment_variables",
    "from_environment",
    "from_text",
    "is_blank",
    "is_destination",
    "make_destinations",
    "option_of",
]

# Variable -> (destination, option). A destination is configured if all of its required options are set.
_ENVIRONMENT = {
    "SESSIONSIGHT_SECRET_API_KEY": ("sessionsight", "secret_api_key"),
    "SESSIONSIGHT_PROPERTY_ID": ("sessionsight", "property_id"),
    "SESSIONSIGHT_API_URL": ("sessionsight", "api_url"),
    "SESSIONSIGHT_ENVIRONMENT": ("sessionsight", "environment"),
    "SIGNAL_API_KEY": ("signal", "api_key"),
    "SIGNAL_PROJECT_ID": ("signal", "project_id"),
    "SIGNAL_ENDPOINT": ("signal", "endpoint"),
    "SAYTICS_SECRET_KEY": ("saytics", "secret_key"),
    "SAYTICS_API_URL": ("saytics", "api_url"),
    "ANALYSE_KEY": ("analyse", "public_key"),
    "ANALYSE_HOST": ("analyse", "host"),
}
# A key may also be read from a file, whose path is in the variable of this name with the suffix `_FILE`.
_KEY_FILES = {
    f"{variable}_FILE": variable
    for variable, (destination, option) in _ENVIRONMENT.items()
    if option in BY_NAME[destination].secrets
}
_REQUIRED = {name: {field.name for field in fields(kind) if field.required} for name, kind in BY_NAME.items()}
_FALSE = {"", "0", "false", "no", "off"}
_TRUE = {"1", "true", "yes", "on"}

VARIABLES: dict[str, str | None] = {
    **{variable: f"{variable}_FILE" if f"{variable}_FILE" in _KEY_FILES else None for variable in _ENVIRONMENT},
    **_KEY_FILES,
}
"""The environment variables of the vendors, each with the variable that sets the same option, or None."""


def environment_variables(environ: Mapping[str, str]) -> dict[str, tuple[list[str], list[str]]]:
    """Return for each vendor the environment variables that are set, and the required ones that are missing."""
    found: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in BY_NAME}
    for variable, (destination, option) in _ENVIRONMENT.items():
        given, missing = found[destination]
        file = f"{variable}_FILE"
        if environ.get(variable, "").strip():
            given.append(variable)
        elif file in _KEY_FILES and environ.get(file, "").strip():
            given.append(file)
        elif option in _REQUIRED[destination]:
            missing.append(variable)
    return found


def option_of(variable: str) -> tuple[str, str]:
    """Return the destination and the option that an environment variable sets."""
    return _ENVIRONMENT[_KEY_FILES.get(variable, variable)]


def from_text(value: object, hint: Any) -> object:
    """Convert text to a boolean or a number if the type hint asks for one; return anything else unchanged.

    Example:
        >>> from_text("off", bool), from_text("5", int), from_text("0.5", float), from_text("5", str)
        (False, 5, 0.5, '5')
    """
    kinds = {hint, *get_args(hint)}
    if not isinstance(value, str) or str in kinds:
        return value
    text = value.strip().lower()
    if bool in kinds:
        return True if text in _TRUE else False if text in _FALSE else value
    for number in (int, float):
        if number in kinds:
            with suppress(ValueError):
                return number(text)
    return value


def is_blank(value: object) -> bool:
    """Return whether a value is None or blank text."""
    return value is None or (isinstance(value, str) and not value.strip())


DESTINATION_METHODS = ("supports", "drop_reason", "build_requests", "classify")
"""Methods that a destination must have, in addition to its name and limits."""


def is_destination(value: object) -> bool:
    """Return whether an object has the members of a `Destination`. A class is not a destination."""
    return not isinstance(value, type) and all(
        hasattr(value, member) for member in ("name", "limits", *DESTINATION_METHODS)
    )


def from_environment(environ: Mapping[str, Any], *, with_destinations: bool) -> dict[str, Any]:
    """Return the settings that environment variables set, with destinations as options by name."""
    values: dict[str, Any] = {}
    if spool := _variable(environ, "SESSIONSIGHT_SPOOL"):
        values["spool"] = spool
    if (disabled := environ.get("SESSIONSIGHT_DISABLED")) is not None:
        values["disabled"] = from_text(str(disabled), bool)
    if with_destinations:
        found: dict[str, dict[str, object]] = {}
        for variable, (destination, option) in _ENVIRONMENT.items():
            if value := _variable(environ, variable):
                found.setdefault(destination, {})[option] = value
        for variable, plain in _KEY_FILES.items():
            if path := _variable(environ, variable):
                destination, option = _ENVIRONMENT[plain]
                if option in found.setdefault(destination, {}):
                    raise ConfigurationError(f"environment: both {plain} and {variable} are set; keep one of them")
                found[destination][option] = {"file": path}
        values["destinations"] = {name: options for name, options in found.items() if options.keys() >= _REQUIRED[name]}
    return values


def _variable(environ: Mapping[str, Any], name: str) -> Any:
    """Return a variable's value without surrounding white space. In a framework's config it may not be text."""
    value = environ.get(name)
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else value


def make_destinations(given: object, where: str, *, disabled: bool) -> tuple[Destination, ...]:
    """Create the destinations of a setting.

    Args:
        given: Destinations, or names to options or to destinations.
        where: The name of the mapping in errors.
        disabled: Allow keys and other values to be missing, None or blank, because nothing will be sent.

    Raises:
        ConfigurationError: A name is unknown or a value is invalid.
    """
    if isinstance(given, tuple | list):
        wrong = next((one for one in given if not is_destination(one)), None)
        if wrong is not None:
            raise ConfigurationError(
                f"{where}: destinations: {describe(wrong)} is not a destination object; "
                "give names with their options in a mapping, such as {'signal': {'api_key': ...}}"
            )
        return tuple(given)
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where}: destinations must map names to options, not be {describe(given)}")
    made: list[Destination] = []
    for name, options in given.items():
        if isinstance(options, Mapping) or (disabled and options is None):
            # Names are in upper case where settings come from environment variables.
            known = name.lower() if str(name).lower() in BY_NAME else name
            made.append(_from_options(known, options or {}, disabled=disabled))
        elif is_destination(options):
            made.append(options)
        else:
            given = "a str" if isinstance(options, str) else describe(options)  # it may be the key
            raise ConfigurationError(
                f"{where}: destination {name!r} must be a mapping of options or a destination object, "
                f"not {given}; known by name are {', '.join(BY_NAME)}"
            )
    return tuple(made)


def _from_options(name: str, options: Mapping[Any, Any], *, disabled: bool) -> Destination:
    values = {str(option).lower(): value for option, value in options.items()}
    vendor = values.get("vendor", name)
    if isinstance(vendor, str) and vendor in BY_NAME:
        known = {field.name: field for field in fields(BY_NAME[vendor])}
        values = {
            option: from_text(value, known[option].type) if option in known else value
            for option, value in values.items()
        }
        if disabled:
            missing = {option for option, value in values.items() if is_blank(value) or _is_blank_file(value)}
            for option in missing & known.keys():
                del values[option]
            for option in _REQUIRED[vendor] - values.keys():
                values[option] = "disabled"  # not used
    return from_options(name, values)


def _is_blank_file(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"file"} and is_blank(value["file"])
