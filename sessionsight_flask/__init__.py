"""sessionsight for Flask, and, in `sessionsight_flask.wsgi`, for any WSGI app."""

from typing import TYPE_CHECKING, Any

from sessionsight import MissingDependencyError

if TYPE_CHECKING:
    from sessionsight_flask.extension import SessionSight

__all__ = ["SessionSight"]


def __getattr__(name: str) -> Any:
    """Import Flask's part when it is asked for, so that the WSGI part works without Flask."""
    if name != "SessionSight":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from sessionsight_flask.extension import SessionSight
    except ModuleNotFoundError as error:
        if error.name != "flask":
            raise
        raise MissingDependencyError("SessionSight needs Flask: pip install 'sessionsight[flask]'") from None
    return SessionSight
