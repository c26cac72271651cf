"""What a visitor has agreed to, and what a site never wants to send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from sessionsight.callbacks import decide
from sessionsight.request.raw import RequestData

__all__ = ["ConsentPolicy", "consents", "redact"]

ConsentPolicy = Literal["all", "gpc", "gpc+dnt"] | Callable[[RequestData], bool]

REDACTED = "[redacted]"


def consents(policy: ConsentPolicy, data: RequestData) -> bool:
    """Whether records may be captured for this request.

    Args:
        policy: `"all"` captures always; `"gpc"` obeys Global Privacy Control (`Sec-GPC: 1`,
            https://www.w3.org/TR/gpc/); `"gpc+dnt"` obeys `DNT: 1` too; a function decides itself,
            for instance by the site's own consent cookie.

    Raises:
        Exception: Whatever the function raises; `UnawaitedResult` for an awaitable and `ConfigurationError` for a
            text, which are no consent.
    """
    if policy == "all":
        return True
    if callable(policy):
        return decide(policy, data, allow_text=False)  # the value of a consent cookie may be "no"
    refused = (data.headers.get("sec-gpc") or "").strip() == "1"
    if policy == "gpc+dnt":
        refused = refused or (data.headers.get("dnt") or "").strip() == "1"
    return not refused


def redact(value: Any, names: frozenset[str]) -> Any:
    """A decoded JSON value in which each member of these names (case-folded) is `"[redacted]"`.

    Example:
        >>> redact({"card": {"Number": "4242"}, "total": 3}, frozenset({"number"}))
        {'card': {'Number': '[redacted]'}, 'total': 3}
    """
    if isinstance(value, dict):
        return {name: REDACTED if name.casefold() in names else redact(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [redact(item, names) for item in value]
    return value
