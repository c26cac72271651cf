"""Ids that a page may pass to its own scripts, as JSON in a script element."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext

__all__ = ["SafeHtml", "browser_config", "config_script", "sessionsight_config"]

# As Django's json_script: the text can neither end the element nor begin a comment.
_ESCAPES = str.maketrans({"<": "\\u003C", ">": "\\u003E", "&": "\\u0026"})


class SafeHtml(str):
    """HTML text that Jinja2, Django and others that support `__html__` do not escape."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def browser_config(context: TrackingContext) -> dict[str, Any]:
    """Return the ids of a context by their names in scripts, without those that are missing.

    It contains neither keys nor other settings.

    Example:
        >>> from sessionsight import SessionSightIds
        >>> browser_config(TrackingContext(sessionsight=SessionSightIds(session_id="6f1d2c3b"), user_id="user_1"))
        {'sessionsight': {'sessionId': '6f1d2c3b'}, 'userId': 'user_1'}
    """
    ours, signal = context.sessionsight, context.signal
    return _drop_empty(
        {
            "sessionsight": _drop_empty({"sessionId": ours.session_id, "visitorId": ours.visitor_id}),
            "signal": _drop_empty(
                {"sessionId": signal.session_id, "windowId": signal.window_id, "distinctId": signal.distinct_id}
            ),
            "userId": context.user_id,
            "anonymousId": context.anonymous_id,
        }
    )


def config_script(context: TrackingContext, *, element_id: str = "sessionsight-config") -> SafeHtml:
    r"""Return the ids as a script element with JSON for the page.

    Args:
        context: The context of the page's request.
        element_id: The id of the element: letters, digits, hyphens and underscores.

    Raises:
        ValueError: The element id contains other characters.

    Example:
        >>> config_script(TrackingContext(user_id="</script>"))
        '<script type="application/json" id="sessionsight-config">{"userId":"\\u003C/script\\u003E"}</script>'
    """
    if not element_id.replace("-", "").replace("_", "").isalnum():
        raise ValueError("element_id must consist of letters, digits, hyphens and underscores")
    text = json.dumps(browser_config(context), separators=(",", ":")).translate(_ESCAPES)
    return SafeHtml(f'<script type="application/json" id="{element_id}">{text}</script>')


def sessionsight_config(request: Any) -> SafeHtml:
    """Return the element for a request with `request.analytics`, otherwise an empty element.

    A function for templates. The page is then specific to one visitor and must not be cached for others.

    Example:
        >>> from jinja2 import Environment
        >>> environment = Environment(autoescape=True)
        >>> environment.globals["sessionsight_config"] = sessionsight_config
        >>> environment.from_string("{{ sessionsight_config(request) }}").render(request=None)
        '<script type="application/json" id="sessionsight-config">{}</script>'
    """
    analytics = getattr(request, "analytics", None)
    return config_script(EMPTY_CONTEXT if analytics is None else analytics.context)


def _drop_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
