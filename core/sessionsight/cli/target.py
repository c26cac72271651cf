"""Finds the client that a command works on: an app's, a Django project's, or that of the environment."""

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

from sessionsight.capture.current import default_client
from sessionsight.cli.lazy import ADAPTER_TARGET
from sessionsight.client import Client
from sessionsight.diagnosis import Finding
from sessionsight.errors import ConfigurationError, MissingDependencyError, NoClientError

__all__ = ["ENVIRONMENT", "Target", "resolve_target", "target_options"]

ENVIRONMENT = "the environment"
"""The description of a target that no option has selected."""

_Command = TypeVar("_Command", bound=Callable[..., Any])

_APP = re.compile(r"(?P<module>[\w.]+):(?P<attribute>[\w.]+)(?P<call>\(\))?")
_INNER_APPS = ("wsgi_app", "asgi_app", "app")
"""Attributes in which apps and middlewares keep the app that they wrap."""
_MAX_LAYERS = 100
"""More than any app has."""


class Target(Struct, frozen=True):
    """A client, and where it was found."""

    client: Client
    description: str = ""
    """The source of its settings, such as `the environment`; empty for the commands of an adapter."""
    findings: tuple[Finding, ...] = ()
    """Findings of an adapter about its framework's settings."""


class _TargetOption(click.Option):
    """An option that the commands of an adapter, which have a client, do not offer."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the line of help."""
        return None if ADAPTER_TARGET in ctx.meta else super().get_help_record(ctx)


def target_options(command: _Command) -> _Command:
    """Add the options that `resolve_target` takes to a command."""
    app = click.option(
        "--app", cls=_TargetOption, metavar="MODULE:APP", help="The app that has the analytics, such as shop.web:app."
    )
    django = click.option(
        "--django-settings", cls=_TargetOption, metavar="MODULE", help="A Django project's settings module."
    )
    return app(django(command))


def resolve_target(app: str | None = None, django_settings: str | None = None) -> Target:
    """Return the client that the options select.

    Args:
        app: `module:app` or `module:create_app()` of a Flask, WSGI or ASGI app.
        django_settings: As `DJANGO_SETTINGS_MODULE`, which is the default. Without any option it is the environment's.

    Raises:
        click.UsageError: The app does not exist, both are given, or one is given to a command of an adapter.
        ConfigurationError: A setting that is unknown or wrong.
        NoClientError: The app has no analytics.
    """
    if (of_adapter := click.get_current_context().meta.get(ADAPTER_TARGET)) is not None:
        if app is not None or django_settings is not None:
            raise click.UsageError("this command uses its own app: remove --app and --django-settings")
        target: Target = of_adapter()
        return target
    if app is not None and django_settings is not None:
        raise click.UsageError("give --app or --django-settings, not both")
    if app is not None:
        return Target(_client_of(_load(app)), f"the app {app}")
    module = django_settings or os.environ.get("DJANGO_SETTINGS_MODULE")
    if not module or (django_settings is None and find_spec("django") is None):
        return Target(Client(), ENVIRONMENT)
    return Target(_client_of_django(module), f"the Django settings {module}")


def _client_of_django(settings: str) -> Client:
    """Set up a project as a server does, and return its client."""
    if find_spec("django") is None:
        raise MissingDependencyError("--django-settings needs Django: pip install 'sessionsight[django]'")
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    try:
        # By name, because the core does not import frameworks.
        return _client_of(_load("django.core.wsgi:get_wsgi_application()"))
    except ModuleNotFoundError as error:
        raise click.UsageError(f"the Django settings {settings} cannot be loaded: {error}") from error
    except NoClientError:
        raise NoClientError(
            f"the Django settings {settings} have no analytics: add 'sessionsight_django' to INSTALLED_APPS"
        ) from None


def _load(app: str) -> Any:
    """Return the object of this name. As servers do, look for its module in the current directory first."""
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
    client = default_client()  # the first that was made while the app was loaded
    if isinstance(client, Client):
        return client
    raise NoClientError("the app's client was replaced by another object, which these commands do not support")


def _layers(app: Any) -> Iterator[Any]:
    """Yield an app and the apps that it wraps, from the outside to the inside."""
    for _ in range(_MAX_LAYERS):
        build = getattr(app, "build_middleware_stack", None)
        if build is not None:  # Starlette builds its middlewares on the first request
            app = build()
        yield app
        app = next((inner for name in _INNER_APPS if (inner := getattr(app, name, None)) is not None), None)
        if app is None:
            return
