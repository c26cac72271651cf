"""The settings of a client, as one validated value. No other module reads a framework's settings or the environment."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from typing import Any, Literal, get_args, get_origin, get_type_hints

from msgspec.structs import fields

from sessionsight.callbacks import check_sync
from sessionsight.capture.encoding import MAX_BYTES
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.destinations.base import Destination
from sessionsight.environment import (
    DESTINATION_METHODS,
    VARIABLES,
    from_environment,
    from_text,
    is_blank,
    is_destination,
    make_destinations,
    option_of,
)
from sessionsight.errors import ConfigurationError, describe
from sessionsight.request.consent import ConsentPolicy
from sessionsight.request.resolve import ClientIP
from sessionsight.request.urls import sanitize_url
from sessionsight.spool_url import django_alias, is_durable, is_in_database, spool_name, url_error, without_credentials

__all__ = ["Settings"]


class Settings(DeliveryOptions, frozen=True, kw_only=True):
    """Configuration of a client, checked when it is created.

    Raises:
        ConfigurationError: A value is not valid; the message names it and what is accepted.

    Example:
        >>> from sessionsight.destinations import Signal
        >>> Settings(destinations=(Signal(api_key="key", project_id="shop"),)).linger
        0.05
    """

    destinations: tuple[Destination, ...] = ()
    """Vendors to deliver to. `Settings` takes destination objects; everywhere else it is a mapping of names to options
    or objects."""
    disabled: bool = False
    """Accept all calls, but send and count nothing. Keys may be missing."""
    strict: bool = False
    """Raise exceptions for wrong calls instead of logging them. The adapters enable it in the framework's debug
    mode."""
    spool: str = "memory"
    """Store for records that wait for delivery: `"memory"`; or a SQLite file that outlives the process and is shared by
    all processes of a host, `"sqlite:///relative/path"` or `"sqlite:////absolute/path"`; or Redis, shared by all hosts,
    `"redis://host:6379/0?namespace=shop"` or `"rediss://..."`, which needs the extra `redis`; or a database of a
    Django project, `"django"` or `"django:alias"`, or one that SQLAlchemy connects to,
    `"sqlalchemy:postgresql+psycopg://host/shop"`, written within the app's transactions."""
    flush: Literal["background", "inline"] = "background"
    """`"inline"` delivers before the response is complete, for hosts that freeze processes between requests."""
    user: Literal["loaded", "always"] | Callable[[Any], object] = "loaded"
    """Source of the signed-in user: `"loaded"` reads it only if the framework has loaded it already, `"always"` loads
    it where the adapter can, a function of the request returns it."""
    anonymous_id_cookie: str | None = None
    """Name of a cookie with the site's own anonymous id, for Saytics and Analyse.net."""
    anonymous_id_header: str | None = None
    """Name of a request header with the site's own anonymous id. It overrides the cookie."""
    client_ip: ClientIP = "off"
    """Part of the client's IP address that the context keeps."""
    trusted_proxies: int = 0
    """Number of proxies in front of the app that append to `X-Forwarded-For`."""
    consent: ConsentPolicy = "all"
    """Visitors to capture: all, all but those who send Global Privacy Control, or neither that nor Do Not Track. A
    function of the `RequestData` returns True to capture."""
    redact: tuple[str, ...] = ()
    """Names of properties, in any case and at any depth, whose values are removed."""
    exclude_paths: tuple[str, ...] = ()
    """Paths of requests from which nothing is sent, as shell patterns such as `"/health*"`."""
    should_capture: Callable[[Any], bool] | None = None
    """Function of the request that returns True if its records may be sent."""
    choose_destinations: Callable[[Any], Iterable[str] | str | None] | None = None
    """Function of the request that returns the names of the destinations for its records, or None for all."""
    pageviews: bool | Callable[[Any], bool] = False
    """Capture each served page as `$pageview`. A function of the request selects the pages."""
    is_bot: Callable[[str], bool] | None = None
    """Function of the `User-Agent` that returns True for bots, whose page views are not captured. The default is
    `sessionsight.request.pageviews.is_bot`. Other records are not affected."""
    trace_id: bool = False
    """Add the id of the current OpenTelemetry trace to events, as the property `trace_id`, while a span is recording.
    Needs opentelemetry-api."""
    max_property_bytes: int = MAX_BYTES
    """Maximum size of a record's properties as JSON."""

    time_zone: str | tzinfo | None = None
    """Time zone of datetimes without one, such as `"Europe/Berlin"`. By default properties are written without a zone
    and a `timestamp` is read as UTC; in Django with `USE_TZ = False` the default is `TIME_ZONE`."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            self._check(name, getattr(self, name))
        for destination in self.destinations:
            for method in DESTINATION_METHODS:
                check_sync(getattr(destination, method), f"destination {destination.name!r}: {method}")
        names = [destination.name for destination in self.destinations]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigurationError(f"destinations: two are named {twice!r}; each lane needs a name of its own")
        if self.flush == "inline" and is_in_database(self.spool):
            raise ConfigurationError(
                f'flush="inline" cannot wait for the records of spool={spool_name(self.spool)!r}, which are taken in '
                "after their transaction: remove one of them"
            )
        if self.delivery == "relay" and not self.disabled:
            self._check_relay()

    @property
    def durable(self) -> bool:
        """True if records that wait for delivery survive the process."""
        return is_durable(self.spool)

    @property
    def database(self) -> str | None:
        """The alias of the Django database that the spool is in; None if it is in none."""
        return django_alias(self.spool)

    @property
    def zone(self) -> tzinfo | None:
        """`time_zone` as a `tzinfo`."""
        return _zone(self.time_zone) if isinstance(self.time_zone, str) else self.time_zone

    def __repr__(self) -> str:
        """Show options that differ from the defaults, without the passwords of URLs."""
        given = (
            f"{field.name}={'***' if field.name == 'proxy' else repr(_without_password(field.name, value))}"
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        )
        return f"Settings({', '.join(given)})"

    def _check(self, name: str, value: object) -> None:
        expected = _validate(name, _HINTS[name], value)
        if expected is not None:
            # An unknown URL may be another program's, with a password.
            given = sanitize_url(without_credentials(value)) if name == "spool" and isinstance(value, str) else value
            described = describe(given)
            if isinstance(given, tuple) and _HINTS[name] == tuple[str, ...]:
                described += f" with {describe(next(item for item in given if not isinstance(item, str)))}"
            raise ConfigurationError(f"{name} must be {expected}, not {described}")
        if callable(value):
            check_sync(value, name)

    def _check_relay(self) -> None:
        if not self.durable:
            raise ConfigurationError(
                'delivery="relay" needs a durable spool, from which `sessionsight relay` delivers: set spool, such as '
                "sqlite:////var/lib/shop/analytics.db"
            )
        if self.flush == "inline":
            raise ConfigurationError(
                'flush="inline" delivers within the request, which delivery="relay" leaves to another process: remove '
                "one of them"
            )

    @classmethod
    def from_mapping(
        cls,
        options: Mapping[str, Any],
        *,
        where: str = "sessionsight",
        environ: Mapping[str, Any] | None = None,
        **defaults: Any,
    ) -> Settings:
        """Read settings from a mapping, such as Django's `SESSIONSIGHT` dict; names in any case.

        `destinations` maps names to options, or holds destination objects of your own as values. Without
        `destinations`, they come from the environment, as do `spool` and `disabled`. Booleans and numbers may be given
        as text (`"true"`, `"0"`, `"5"`); blank text counts as not given. With `disabled`, keys and other values may be
        missing, None or blank, but names are still checked.

        Args:
            options: Option names to values.
            where: The name of the mapping in errors.
            environ: Used in place of the process's environment.
            **defaults: Values for options that are not given.

        Raises:
            ConfigurationError: A name is unknown (the message suggests the closest known one) or given twice, or a
                value is invalid.
        """
        given: object = options
        if not isinstance(given, Mapping):
            raise ConfigurationError(f"{where} must be a mapping of options to values, not {describe(given)}")
        values = {**defaults, **_normalise_names(given, where)}
        return cls(**_complete(values, os.environ if environ is None else environ, where))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **values: Any) -> Settings:
        """Read destinations, `spool` and `disabled` from environment variables.

        Args:
            environ: Used in place of the process's environment.
            **values: Settings that override the environment.

        Example:
            >>> Settings.from_env({"ANALYSE_KEY": "pk_live_1"}).destinations[0].name
            'analyse'
        """
        values = _normalise_names(values, "from_env")
        return cls(**_complete(values, os.environ if environ is None else environ, "environment"))


_HINTS = get_type_hints(Settings)
_MAY_BE_ZERO = frozenset(
    {
        "trusted_proxies",
        "linger",
        "dedupe_window",
        "shutdown_timeout",
        "flush_timeout",
        "backoff_base",
        "spool_timeout",
    }
)
_VARIABLES_TOO = frozenset({"spool", "disabled"})  # settings that are environment variables as well
_FUNCTIONS = frozenset({"choose_destinations", "should_capture", "is_bot", "before_send", "on_error"})
# The characters of a header's or a cookie's name: RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKENS = frozenset({"anonymous_id_cookie", "anonymous_id_header"})


def _without_password(name: str, value: Any) -> Any:
    return spool_name(value) if name == "spool" else value


def _validate(name: str, hint: Any, value: Any) -> str | None:
    """Return a description of the accepted values if this value is not one of them."""
    choices = [choice for kind in (hint, *get_args(hint)) if get_origin(kind) is Literal for choice in get_args(kind)]
    expected: str
    if hint is bool:
        right, expected = isinstance(value, bool), "True or False"
    elif hint is int or hint is float:
        lowest = 0 if name in _MAY_BE_ZERO else 1 if hint is int else 0.001
        right = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
        right = right and lowest <= value < math.inf
        expected = f"{'a whole number' if hint is int else 'a number'} of at least {lowest}"
    elif hint == tuple[str, ...]:
        right = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        expected = "a tuple of strings"
    elif choices:
        function = get_origin(hint) is not Literal
        right = (isinstance(value, str) and value in choices) or (function and callable(value))
        expected = f"one of {', '.join(map(repr, choices))}{' or a function' if function else ''}"
    elif name == "spool":
        return url_error(value)
    elif name == "time_zone":
        right, expected = _is_zone(value), "the name of an IANA time zone, such as 'Europe/Berlin', or a tzinfo"
    elif name == "pageviews":
        right, expected = isinstance(value, bool) or callable(value), "True, False or a function"
    elif name in _FUNCTIONS:
        right, expected = value is None or callable(value), "a function"
    elif name == "destinations":
        right = isinstance(value, tuple) and all(map(is_destination, value))
        expected = "a tuple of destinations (Settings.from_mapping takes names and options)"
    elif name in _TOKENS:
        right = value is None or (isinstance(value, str) and _TOKEN.fullmatch(value) is not None)
        expected = f"the name of a {name.rpartition('_')[2]}"
    else:
        right = value is None or (isinstance(value, str) and bool(value.strip()))
        expected = "a string that is not blank"
    return None if right else expected


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo  # rarely needed

    return ZoneInfo(name)


def _is_zone(value: object) -> bool:
    if isinstance(value, str):
        try:
            _zone(value)
        except (ValueError, OSError, LookupError):  # LookupError: the system has no such zone, or no zones at all
            return False
        return True
    return isinstance(value, tzinfo | None)


def _normalise_names(options: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Return options by the names of their fields, with text converted to the fields' types."""
    values: dict[str, Any] = {}
    seen: set[str] = set()
    for name, value in options.items():
        field = str(name).lower()
        if field not in Settings.__struct_fields__:
            raise _unknown(name, where)
        if field in seen:
            raise ConfigurationError(f"{where}: {field} is given twice, in two spellings; keep one of them")
        seen.add(field)
        hint = _HINTS[field]
        if is_blank(value) and (field in _VARIABLES_TOO or (value is not None and from_text("0", hint) != "0")):
            continue
        value = from_text(value, hint)  # noqa: PLW2901  # converted
        values[field] = tuple(value) if isinstance(value, list | set) else value
    return values


def _unknown(name: Any, where: str) -> ConfigurationError:
    if (variable := str(name).upper()) in VARIABLES:
        destination, option = option_of(variable)
        return ConfigurationError(
            f"{where}: {name} is the name of an environment variable; here it is an option of a destination, "
            f'destinations = {{"{destination}": {{"{option}": ...}}}}'
        )
    known = Settings.__struct_fields__
    return ConfigurationError.unknown(name, map(str.upper, known) if str(name).isupper() else known, where=where)


def _complete(values: dict[str, Any], environ: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Add values of the environment and create the destinations."""
    values = {**from_environment(environ, with_destinations="destinations" not in values), **values}
    disabled = values.get("disabled") is True
    if disabled:
        values = {name: value for name, value in values.items() if not is_blank(value)}
    values["destinations"] = make_destinations(values.get("destinations") or {}, where, disabled=disabled)
    return values
