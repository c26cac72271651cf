"""The client of the process, for code that is handed no request: jobs, webhooks, scripts, threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast

from sessionsight.capture.analytics import Analytics
from sessionsight.capture.context_managers import Scope
from sessionsight.capture.current import current_client, default_owner, set_default
from sessionsight.client import Client
from sessionsight.errors import ConfigurationError, describe
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext
from sessionsight.settings import Settings

__all__ = ["bind", "client_for_adapter", "configure", "for_request", "get_client", "scope"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def get_client() -> Client:
    """Return the client that counts here: the one behind `current()`.

    In a request or a `scope` it is the client of that; in a Flask app's context the app's; under Django the one
    of `settings.SESSIONSIGHT`, whose records wait for transactions; otherwise the process's own, which `configure()`
    or the first middleware has set up.

    Raises:
        NoClientError: None has been set up.

    Example:
        >>> client = configure(destinations={"analyse": {"public_key": "pk_live_1"}})
        >>> get_client() is client
        True
        >>> client.shutdown()
        True
    """
    return cast("Client", current_client())


def _of_client(declared: _Function) -> _Function:
    """Decorate a signature: the function calls the method of that name of `get_client()`, which checks arguments."""

    @wraps(declared)
    def call(*given: Any, **options: Any) -> Any:
        return getattr(get_client(), declared.__name__)(*given, **options)

    return cast("_Function", call)


@_of_client
def bind(  # type: ignore[empty-body]
    context: TrackingContext = EMPTY_CONTEXT,
    *,
    user_id: object = None,
    distinct_id: object = None,
    anonymous_id: object = None,
) -> Analytics:
    """Return analytics under a context from elsewhere, such as one that travelled through a job or a webhook.

    Each record is submitted at once. `scope` makes such analytics current as well.

    Args:
        context: As `TrackingContext.from_carrier` returns it, or made by hand; without ids by default.
        user_id: The app's own user id; overrides the context's.
        distinct_id: Signal's id for the person, in place of the user id.
        anonymous_id: An anonymous id for Saytics and Analyse.net.

    Raises:
        NoClientError: No client has been set up.
        InvalidEventError: In strict mode, an id that is wrong. Otherwise that is logged, and the id is missing.

    Example:
        >>> context = TrackingContext.from_carrier(event["metadata"])  # doctest: +SKIP
        >>> bind(context, user_id="user_1").goals.increment("monthly-revenue", amount=49)  # doctest: +SKIP
    """


@_of_client
def scope(  # type: ignore[empty-body]
    context: TrackingContext = EMPTY_CONTEXT,
    *,
    user_id: object = None,
    distinct_id: object = None,
    anonymous_id: object = None,
    flush: bool = False,
) -> Scope:
    """Make analytics under a context current for a stretch of code: a job, a webhook, a command.

    For `with` and `async with`. `current()` gives them everywhere below. What is captured is submitted at the end,
    also when the code raises; the exception passes through. Inside another scope or a request it takes the place of
    what was current before, until its end. Work that was started in it and outlives it no longer finds it.

    Args:
        context: As `TrackingContext.from_carrier` returns it, or made by hand; without ids by default.
        user_id: The app's own user id; overrides the context's.
        distinct_id: Signal's id for the person, in place of the user id.
        anonymous_id: An anonymous id for Saytics and Analyse.net.
        flush: Whether the end waits for delivery, no longer than the `flush_timeout` setting; `async with` waits
            without blocking the event loop.

    Raises:
        NoClientError: No client has been set up.

    Example:
        >>> context = TrackingContext.from_carrier(job["context"])  # doctest: +SKIP
        >>> with scope(context, user_id="user_1", flush=True) as analytics:  # doctest: +SKIP
        ...     charge(job["order"])  # sessionsight.current() works in there
        ...     analytics.goals.increment("monthly-revenue", amount=49)
    """


def configure(settings: Settings | None = None, **options: Any) -> Client:
    """Set up the process's own client, for code outside requests and apps without an adapter.

    Called again, it puts a new client in the place of the one before.

    Args:
        settings: A checked value; otherwise the options, as `Settings.from_mapping` takes them, and
            the environment.
        **options: Names of settings in lower case.

    Raises:
        ConfigurationError: A setting that is unknown or wrong; or a framework's own settings configure the client
            already, as Django's do where `sessionsight_django` is installed.

    Example:
        >>> client = configure(destinations={"analyse": {"public_key": "pk_live_1"}})
        >>> client
        Client(analyse)
        >>> client.shutdown()
        True
    """
    if (owner := default_owner()) is not None:
        raise ConfigurationError(
            f"configure(): {owner} configures the client of this process already; write the options there and use "
            "sessionsight.get_client(), or make a further client by sessionsight.Client(...)"
        )
    client = Client(_settings(settings, options, "configure"))
    set_default(client)
    return client


def client_for_adapter(
    client: Client | None, settings: Settings | None, options: Mapping[str, Any], *, where: str
) -> Client:
    """The client of an adapter: the one given, else a new one of its own.

    It serves code outside requests as well, unless the process has a client for that already.

    Args:
        client: Goes before everything else, and alone.
        settings: A checked value; otherwise the options and the environment.
        options: As `Settings.from_mapping` takes them.
        where: What to call the adapter in errors.

    Raises:
        ConfigurationError: A setting that is unknown or wrong, or the same thing given twice.
    """
    if client is None:
        client = Client(_settings(settings, options, where))
    elif settings is not None or options:
        raise ConfigurationError(f"{where} takes a client, or settings for a new one, not both")
    given: object = client
    if not isinstance(given, Client):
        raise ConfigurationError(f"{where}: client must be a Client, not {describe(given)}")
    set_default(client, replace=False)
    return client


@_of_client
def for_request(request: object) -> Analytics:  # type: ignore[empty-body]
    """Analytics bound to a request of any shape, by the process's own client.

    Django, Flask, Starlette and FastAPI requests, an ASGI scope, a WSGI environ, a mapping of headers
    or of cookies, or a raw Cookie header. Each record is handed over at once.

    Raises:
        NoClientError: No client has been set up.

    Example:
        >>> for_request("ss_sid=6f1d2c3b").goals.increment("user-signups")  # doctest: +SKIP
    """


def _settings(settings: Settings | None, options: Mapping[str, Any], where: str) -> Settings:
    if settings is None:
        return Settings.from_mapping(options, where=where)
    if options:
        raise ConfigurationError(f"{where} takes settings, or options by name, not both")
    return settings
