"""sessionsight for Flask."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sessionsight import MissingDependencyError

if TYPE_CHECKING:
    from sessionsight_flask.extension import SessionSight, current_analytics
    from sessionsight_flask.typed import AnalyticsRequest, request

__all__ = ["AnalyticsRequest", "SessionSight", "current_analytics", "request"]

_MODULES = {
    "AnalyticsRequest": "sessionsight_flask.typed",
    "SessionSight": "sessionsight_flask.extension",
    "current_analytics": "sessionsight_flask.extension",
    "request": "sessionsight_flask.typed",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is used, so that a missing Flask is reported as `MissingDependencyError`."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_MODULES[name])
    except ModuleNotFoundError as error:
        if error.name != "flask":
            raise
        raise MissingDependencyError(f"{name} needs Flask: pip install 'sessionsight[flask]'") from None
    return getattr(module, name)
