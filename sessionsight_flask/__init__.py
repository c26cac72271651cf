"""sessionsight for Flask, and, in `sessionsight_flask.wsgi`, for any WSGI app."""

from typing import TYPE_CHECKING, Any

from sessionsight import MissingDependencyError

if TYPE_CHECKING:
    from sessionsight_flask.extension import SessionSight, current_analytics

__all__ = ["SessionSight", "current_analytics"]


def __getattr__(name: str) -> Any:
    """Import Flask's part when it is asked for, so that the WSGI part works without Flask."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from sessionsight_flask import extension
    except ModuleNotFoundError as error:
        if error.name != "flask":
            raise
        raise MissingDependencyError(f"{name} needs Flask: pip install 'sessionsight[flask]'") from None
    return getattr(extension, name)
