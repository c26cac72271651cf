"""SessionSight's requests about feature flags, and their responses.

https://sessionsight.com/docs/build/api-reference/flags/evaluate
https://sessionsight.com/docs/build/api-reference/flags/list
https://github.com/SessionSight/sdks (flags/src)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from sessionsight.capture.interfaces import FlagDefinition, FlagValue
from sessionsight.destinations.base import VendorRequest, encode_body
from sessionsight.destinations.options import header_secret
from sessionsight.destinations.sessionsight import SessionSight
from sessionsight.request.context import TrackingContext

__all__ = ["evaluation_request", "list_request", "read_definitions", "read_evaluation"]


def evaluation_request(
    destination: SessionSight, context: TrackingContext, attributes: Mapping[str, Any]
) -> VendorRequest:
    """Return the request that evaluates all flags for a visitor.

    Args:
        destination: The property and its environment.
        context: The visitor's ids.
        attributes: Values for the targeting rules. They override the ids, unless they are empty, as in the SDK.
    """
    ids = {
        "userId": context.user_id,
        "visitorId": context.sessionsight.visitor_id,
        "sessionId": context.sessionsight.session_id,
    }
    given = {name: value for name, value in attributes.items() if value is not None}
    given |= {name: value for name, value in ids.items() if value and not given.get(name)}
    body = {"propertyId": destination.property_id, "environment": destination.environment, "context": given}
    return VendorRequest(
        url=f"{destination.api_url}/v1/flags/evaluate",
        headers={"Content-Type": "application/json", "x-api-key": header_secret(destination.secret_api_key)},
        body=encode_body(body),
        entries=(),
    )


def list_request(destination: SessionSight) -> VendorRequest:
    """Return the request for the definitions of a property's flags."""
    return VendorRequest(
        method="GET",
        url=f"{destination.api_url}/v1/flags/list?propertyId={quote(destination.property_id, safe='')}",
        headers={"x-api-key": header_secret(destination.secret_api_key)},
        body=b"",
        entries=(),
    )


def read_evaluation(body: bytes) -> dict[str, FlagValue]:
    """Return the values of flags by key. A flag whose value is not of its type is left out.

    Raises:
        ValueError: The body is not a JSON object.

    Example:
        >>> read_evaluation(b'{"flags": {"new-checkout": {"value": true, "type": "boolean"}}}')
        {'new-checkout': True}
    """
    flags = msgspec.json.decode(body, type=dict[str, Any]).get("flags")
    if not isinstance(flags, dict):
        return {}
    return {key: flag["value"] for key, flag in flags.items() if _is_valid(flag)}


def read_definitions(body: bytes) -> tuple[FlagDefinition, ...]:
    """Return the definitions of flags.

    Raises:
        ValueError: The body is not as the vendor documents it.
    """
    return msgspec.json.decode(body, type=_Definitions).flags


def _is_valid(flag: Any) -> bool:
    if not isinstance(flag, dict):
        return False
    value, kind = flag.get("value"), flag.get("type")
    return (kind == "boolean" and isinstance(value, bool)) or (kind == "string" and isinstance(value, str))


class _Definitions(Struct):
    flags: tuple[FlagDefinition, ...] = ()
