"""Consent of visitors, and redaction of properties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from sessionsight.callbacks import decide
from sessionsight.request.raw import RequestData

__all__ = ["ConsentPolicy", "consents", "redact"]

ConsentPolicy = Literal["all", "gpc", "gpc+dnt"] | Callable[[RequestData], bool]

REDACTED = "[redacted]"


def consents(policy: ConsentPolicy, data: RequestData) -> bool:
    """Return whether records may be captured for this request.

    Args:
        policy: `"all"` always captures; `"gpc"` obeys Global Privacy Control (`Sec-GPC: 1`,
            https://www.w3.org/TR/gpc/); `"gpc+dnt"` obeys `DNT: 1` too; a function decides, for instance by the site's
            own consent cookie.
        data: The request.

    Raises:
        Exception: Any exception of the function; `UnawaitedResult` if it returns an awaitable, and
            `ConfigurationError` if it returns text.
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
    """Replace the values of members with these names (case-folded) in a decoded JSON value by `"[redacted]"`.

    Example:
        >>> redact({"card": {"Number": "4242"}, "total": 3}, frozenset({"number"}))
        {'card': {'Number': '[redacted]'}, 'total': 3}
    """
    if isinstance(value, dict):
        return {name: REDACTED if name.casefold() in names else redact(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [redact(item, names) for item in value]
    return value
