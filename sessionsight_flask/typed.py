"""Flask's `request` for type checkers: the same object, with its `analytics` declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flask

from sessionsight import Analytics

__all__ = ["AnalyticsRequest", "request"]


class AnalyticsRequest(flask.Request):
    """Flask's request class with `analytics` declared, for annotations. It is never instantiated.

    Example:
        >>> from sessionsight_flask import request
        >>> def plan(request: AnalyticsRequest) -> str:
        ...     request.analytics.capture("plan_viewed")
        ...     return request.args["plan"]
    """

    analytics: Analytics
    """Captures under this request's context; see `Analytics`."""


if TYPE_CHECKING:
    request: AnalyticsRequest
else:
    request = flask.request
