"""Whose analytics a command looks at: an app's, a Django project's, or those that the environment configures."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec import Struct

from sessionsight.capture.current import default
from sessionsight.client import Client
from sessionsight.errors import ConfigurationError, MissingDependencyError, NoClientError

__all__ = ["Whose", "find", "whose_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_APP = re.compile(r"(?P<module>[\w.]+):(?P<attribute>[\w.]+)(?P<call>\(\))?")
_INSIDE = ("wsgi_app", "asgi_app", "app")
"""Where apps and middlewares keep what they are wrapped around."""
_DEEP = 100
"""More layers than any app has."""


class Whose(Struct, frozen=True):
    """A client, and where it was found."""

    client: Client
    place: str
    """In words, such as `the environment`."""


def whose_options(command: _Command) -> _Command:
    """The options that choose, for a command that hands them on to `find`."""
    app = click.option("--app", metavar="MODULE:APP", help="The app that carries the analytics, such as shop.web:app.")
    django = click.option("--django-settings", metavar="MODULE", help="A Django project's settings module.")
    return app(django(command))


def find(app: str | None, django_settings: str | None) -> Whose:
    """The client that these options mean.

    Args:
        app: `module:app` or `module:create_app()` of a Flask, WSGI or ASGI app.
        django_settings: As in `DJANGO_SETTINGS_MODULE`, which counts too. Without any, the environment's.

    Raises:
        click.UsageError: There is no such app, or both are given.
        ConfigurationError: A setting that is unknown or wrong.
        NoClientError: The app has no analytics.
    """
    if app is not None and django_settings is not None:
        raise click.UsageError("give --app or --django-settings, not both")
    if app is not None:
        return Whose(_client_of(_loaded(app)), f"the app {app}")
    named = django_settings or os.environ.get("DJANGO_SETTINGS_MODULE")
    if not named or (django_settings is None and find_spec("django") is None):
        return Whose(Client(), "the environment")
    return Whose(_client_of_django(named), f"the Django settings {named}")


def _client_of_django(settings: str) -> Client:
    """The client of a project that is set up as a server does it."""
    if find_spec("django") is None:
        raise MissingDependencyError("--django-settings needs Django: pip install 'sessionsight[django]'")
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    try:
        # By its name: the core knows no framework.
        return _client_of(_loaded("django.core.wsgi:get_wsgi_application()"))
    except ModuleNotFoundError as error:
        raise click.UsageError(f"the Django settings {settings} cannot be loaded: {error}") from error
    except NoClientError:
        raise NoClientError(
            f"the Django settings {settings} have no analytics: add 'sessionsight_django' to INSTALLED_APPS"
        ) from None


def _loaded(app: str) -> Any:
    """The object of this name, from a module that is looked for in the current directory first, as servers do."""
    found = _APP.fullmatch(app)
    if found is None:
        raise click.BadParameter(f"{app!r} is not of the form module:app or module:create_app()", param_hint="--app")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = import_module(found["module"])
    except ModuleNotFoundError as error:
        raise click.UsageError(f"{app} cannot be loaded: {error}") from error
    for name in found["attribute"].split("."):
        if not hasattr(value, name):
            raise click.UsageError(f"{app} cannot be loaded: {value!r} has no {name!r}")
        value = getattr(value, name)
    return value() if found["call"] else value


def _client_of(app: Any) -> Client:
    for layer in _layers(app):
        client = layer if isinstance(layer, Client) else getattr(layer, "client", None)
        if isinstance(client, Client):
            return client
        if isinstance(error := getattr(layer, "configuration_error", None), ConfigurationError):
            raise error
    client = default()  # the first that was made while the app was loaded
    if isinstance(client, Client):
        return client
    raise NoClientError("the app's client was replaced by another object, which these commands cannot look into")


def _layers(app: Any) -> Iterator[Any]:
    """An app, and what it is wrapped around, from the outside to the inside."""
    for _ in range(_DEEP):
        build = getattr(app, "build_middleware_stack", None)
        if build is not None:  # Starlette makes its middlewares with the first request
            app = build()
        yield app
        app = next((inner for name in _INSIDE if (inner := getattr(app, name, None)) is not None), None)
        if app is None:
            return
