"""Parts that all job runners share: the context of a published job, and the analytics of a running one."""

from __future__ import annotations

from contextlib import nullcontext

from sessionsight.capture.context_managers import Scope
from sessionsight.capture.current import current
from sessionsight.errors import ConfigurationError, NoClientError, describe
from sessionsight.log import logger
from sessionsight.process import get_client
from sessionsight.request.carrier import Metadata
from sessionsight.request.context import TrackingContext

__all__ = ["KEY", "check_target", "current_carrier", "job"]

KEY = "sessionsight"
"""The name of the header, or of the entry in a job's metadata, whose value is the carrier."""


def check_target(target: object, *kinds: type) -> None:
    """Raise `ConfigurationError` if what was passed to `connect` is of no such type."""
    if not isinstance(target, kinds):
        names = " or ".join(f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in kinds)
        raise ConfigurationError(f"connect() takes an object of the type {names}, not {describe(target)}")


def current_carrier() -> dict[str, str] | None:
    """Return the current context for the headers of a job that is being published, with the user known by now.

    Returns:
        A carrier, or None if there is nothing to pass on: without a client, and where nothing is known of a visitor.
    """
    try:
        return current().context.to_carrier() or None
    except NoClientError:
        return None
    except Exception:
        logger.exception("a job is published without a context, because the client could not be created")
        return None


def job(carrier: Metadata | None, *, flush: bool = False) -> Scope | nullcontext[None]:
    """Make analytics under the context in a carrier current while a job runs, and submit its records at the end.

    For `with` and `async with`. Without a client the job runs without analytics. With the setting `flush="inline"` the
    end waits for delivery.

    Args:
        carrier: As `current_carrier` returned it when the job was published. With None the context is empty.
        flush: Wait for delivery at the end, because the process may exit without exit handlers.
    """
    try:
        client = get_client()
        return client.scope(TrackingContext.from_carrier(carrier), flush=flush or client.inline)
    except NoClientError:
        return nullcontext()
    except Exception:
        logger.exception("a job runs without analytics, because its client could not be created")
        return nullcontext()
