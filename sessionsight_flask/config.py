"""Reads the settings in an app's config: options after `SESSIONSIGHT_`, and the documented environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Flask

from sessionsight import ConfigurationError, Settings
from sessionsight.adapters import VARIABLES, from_text

__all__ = ["changed_settings", "late_message", "read_settings", "settings_snapshot"]

_WHERE = "app.config"
_PREFIX = "SESSIONSIGHT_"
_OPTIONS = {_PREFIX + name.upper(): name for name in Settings.__struct_fields__}
_TESTING = "SESSIONSIGHT_TESTING"


def read_settings(app: Flask) -> Settings:
    """Return the settings of an app.

    An option takes precedence over a variable, and a variable in the config over that of the process. A variable
    that is None, as of a config class that reads an environment without it, counts as missing.

    Raises:
        ConfigurationError: An unknown name or a wrong value.
    """
    options: dict[str, Any] = {}
    environ: dict[str, Any] = dict(os.environ)
    for name, value in app.config.items():
        if name in _OPTIONS:
            options[_OPTIONS[name]] = value
        elif name in VARIABLES:
            if value is not None:
                environ[name] = value
                if (other := VARIABLES[name]) is not None and other not in app.config:
                    environ.pop(other, None)  # the environment may have the same key as a file, or in plain text
        elif name == "SESSIONSIGHT":
            raise ConfigurationError(
                f"{_WHERE}: SESSIONSIGHT = {{...}} is the form for Django; in Flask each setting is a key of its own, "
                'such as app.config["SESSIONSIGHT_DESTINATIONS"] = {...}'
            )
        elif name.startswith(_PREFIX) and name != _TESTING and os.environ.get(name) != value:
            # A name loaded from the environment with all others may belong to another program, such as Kubernetes.
            raise ConfigurationError.unknown(name, [*_OPTIONS, *VARIABLES], where=_WHERE)
    if options.get("destinations", ...) is None:
        del options["destinations"]
    # The process's own variable applies to all clients, and a test can override it.
    if from_text(app.config.get(_TESTING), bool) is True and _TESTING not in os.environ:
        options.setdefault("disabled", True)
    return Settings.from_mapping(options, where=_WHERE, environ=environ, strict=bool(app.debug))


def settings_snapshot(app: Flask) -> dict[str, Any]:
    """Return the config's values with the prefix of our settings, for `changed_settings`."""
    return {name: _copy(value) for name, value in app.config.items() if name.startswith(_PREFIX) or name in VARIABLES}


def changed_settings(app: Flask, before: Mapping[str, Any]) -> list[str]:
    """Return the names of settings that are no longer what they were at the snapshot."""
    now = settings_snapshot(app)
    return sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))


def late_message(names: Sequence[str]) -> str:
    """Return the message about settings that were changed after `init_app`."""
    be = "was" if len(names) == 1 else "were"
    return f"{', '.join(names)} {be} changed after init_app, without effect: set app.config first, then call init_app"


def _copy(value: Any) -> Any:
    return {name: _copy(inner) for name, inner in value.items()} if isinstance(value, Mapping) else value
