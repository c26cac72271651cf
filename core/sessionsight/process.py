"""The default client of the process, for code without a request: jobs, webhooks, scripts, threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast

from sessionsight.capture.analytics import Analytics
from sessionsight.capture.context_managers import Scope
from sessionsight.capture.current import current_client, default_owner, set_default_client
from sessionsight.client import Client
from sessionsight.errors import ConfigurationError, describe
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext
from sessionsight.settings import Settings

__all__ = ["bind", "client_for_adapter", "configure", "for_request", "get_client", "scope"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def get_client() -> Client:
    """Return the client of `current()`.

    In a request or a `scope` it is the client of that; in a Flask app's context the app's; in Django that of
    `settings.SESSIONSIGHT`, whose records wait for transactions; otherwise the process's default client, which
    `configure()` or the first middleware has set up.

    Raises:
        NoClientError: No client has been set up.

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
    """Return analytics under a given context, such as one from a job or a webhook.

    Each record is submitted immediately. `scope` makes such analytics current as well.

    Args:
        context: A context, such as `TrackingContext.from_carrier` returns; by default one without ids.
        user_id: The app's own user id; overrides the context's.
        distinct_id: Signal's id for the person, in place of the user id.
        anonymous_id: An anonymous id for Saytics and Analyse.net.

    Raises:
        NoClientError: No client has been set up.
        InvalidEventError: In strict mode, an id is invalid. Otherwise that is logged, and the id is missing.

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
    """Make analytics under a context current for a block of code: a job, a webhook, a command.

    For `with` and `async with`. `current()` returns them in the block. Records are submitted at its end, also if the
    code raises; the exception propagates. Inside another scope or a request it replaces the current analytics until
    its end. Work that is started in the block and outlives it does not have them afterwards.

    Args:
        context: A context, such as `TrackingContext.from_carrier` returns; by default one without ids.
        user_id: The app's own user id; overrides the context's.
        distinct_id: Signal's id for the person, in place of the user id.
        anonymous_id: An anonymous id for Saytics and Analyse.net.
        flush: Wait at the end until everything is delivered or the `flush_timeout` setting has elapsed; `async with`
            does so without blocking the event loop.

    Raises:
        NoClientError: No client has been set up.

    Example:
        >>> context = TrackingContext.from_carrier(job["context"])  # doctest: +SKIP
        >>> with scope(context, user_id="user_1", flush=True) as analytics:  # doctest: +SKIP
        ...     charge(job["order"])  # sessionsight.current() works in there
        ...     analytics.goals.increment("monthly-revenue", amount=49)
    """


def configure(settings: Settings | None = None, **options: Any) -> Client:
    """Set up the process's default client, for code outside requests and apps without an adapter.

    Another call replaces it by a new client.

    Args:
        settings: The settings; otherwise they come from the options, as `Settings.from_mapping` takes them, and the
            environment.
        **options: Names of settings in lower case.

    Raises:
        ConfigurationError: A setting is unknown or invalid, or a framework's settings configure the client already, as
            Django's do if `sessionsight_django` is installed.

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
    set_default_client(client)
    return client


def client_for_adapter(
    client: Client | None, settings: Settings | None, options: Mapping[str, Any], *, where: str
) -> Client:
    """Return the client of an adapter: the given one, otherwise a new one.

    It becomes the process's default client, unless there is one already.

    Args:
        client: An existing client, which cannot be combined with settings.
        settings: The settings; otherwise they come from the options and the environment.
        options: As `Settings.from_mapping` takes them.
        where: The name of the adapter in errors.

    Raises:
        ConfigurationError: A setting is unknown or invalid, or a client and settings are both given.
    """
    if client is None:
        client = Client(_settings(settings, options, where))
    elif settings is not None or options:
        raise ConfigurationError(f"{where} takes a client, or settings for a new one, not both")
    given: object = client
    if not isinstance(given, Client):
        raise ConfigurationError(f"{where}: client must be a Client, not {describe(given)}")
    set_default_client(client, replace=False)
    return client


@_of_client
def for_request(request: object) -> Analytics:  # type: ignore[empty-body]
    """Return analytics bound to a request of any shape, of the process's default client.

    Accepts Django, Flask, Starlette and FastAPI requests, an ASGI scope, a WSGI environ, a mapping of headers or
    cookies, or a raw Cookie header. Each record is submitted immediately.

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
