"""SessionSight: goals and feedback, one request each, in the visitor's own session.

https://sessionsight.com/docs/build/api-reference/goals/increment
https://sessionsight.com/docs/build/api-reference/goals/decrement
https://sessionsight.com/docs/build/api-reference/feedback/submit
https://github.com/SessionSight/sdks (goals/src, feedback/src)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, ClassVar, Literal

from msgspec import Struct
from msgspec.structs import force_setattr

from sessionsight.capture.encoding import decode
from sessionsight.capture.records import DropReason, FeedbackRecord, Goal, QueuedRecord, Record
from sessionsight.destinations.base import (
    Limits,
    Secret,
    VendorDestination,
    VendorRequest,
    base_url,
    encode_body,
)
from sessionsight.destinations.options import check_header_secret, header_secret
from sessionsight.destinations.property_limits import truncate_utf16
from sessionsight.errors import ConfigurationError
from sessionsight.javascript import is_blank, to_string
from sessionsight.late_import import late_import
from sessionsight.request.context import TrackingContext

__all__ = ["SessionSight"]

_DEFAULT_URL = "https://api.sessionsight.com"
# https://sessionsight.com/docs/build/api-reference/goals/increment
_MAX_METADATA_KEYS = 5
_MAX_METADATA_TEXT = 256
# The timeout of the vendor's SDK: https://github.com/SessionSight/sdks (flags/src)
_MAX_FLAGS_TIMEOUT = 10.0
# Goals are sent without a time: one that arrives later than this would be counted for the wrong day.
_LIMITS = Limits(max_records=1, concurrency=8, max_age=24 * 60 * 60, idempotent=False)


class SessionSight(VendorDestination, frozen=True, kw_only=True):
    """Sends goals and feedback to SessionSight.

    Both need the session of a visitor: the `ss_sid` cookie of SessionSight's browser script, or the
    `session_id` of the call. Without one, nothing is sent. The vendor does not document idempotent requests,
    so neither is sent again when its first attempt may have arrived.

    Raises:
        ConfigurationError: An option is missing or wrong.

    Example:
        >>> SessionSight(secret_api_key="sessionsight_sec_1", property_id="shop")  # doctest: +ELLIPSIS
        SessionSight(name='sessionsight', secret_api_key=***, property_id='shop', ...)
    """

    kinds: ClassVar[frozenset[type[Record]]] = frozenset({Goal, FeedbackRecord})
    secrets: ClassVar[frozenset[str]] = frozenset({"secret_api_key"})

    name: str = "sessionsight"
    """Name of the lane. Several destinations of one vendor need different names."""
    secret_api_key: Secret
    """Secret key of the property (`sessionsight_sec_...`), or a function that returns it."""
    property_id: str
    """Property that the goals and the feedback types belong to."""
    api_url: str = _DEFAULT_URL
    """URL of the API. Empty means the default; a trailing slash is removed."""
    environment: str = "production"
    """Environment whose feature flags are evaluated."""
    flags_timeout: float = 0.5
    """Longest time in seconds that code waits for feature flags."""
    metadata_over_limit: Literal["truncate", "keep"] = "truncate"
    """Metadata beyond the API's limits (5 entries; 256 characters in a key or value): `"truncate"` sends the first
    five entries and truncates values; `"keep"` sends everything, as the vendor's SDK does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"destination {self.name!r}"
        if not self.environment.strip():
            raise ConfigurationError(f"{where}: environment must be the name of an environment, such as production")
        if not 0 < self.flags_timeout <= _MAX_FLAGS_TIMEOUT:
            raise ConfigurationError(
                f"{where}: flags_timeout must be above 0 and at most {_MAX_FLAGS_TIMEOUT:g} seconds, "
                f"not {self.flags_timeout}"
            )
        check_header_secret(self.secret_api_key, f"{where}: secret_api_key")
        force_setattr(self, "api_url", base_url(self.api_url, default=_DEFAULT_URL, where=f"{where}: api_url"))

    @property
    def limits(self) -> Limits:
        """Limits of the lane: one record per request, eight requests at a time, at most a day old, not idempotent."""
        return _LIMITS

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        """Return NO_SESSION for a record without a session."""
        return DropReason.NO_SESSION if is_blank(_session_id(record, context) or "") else None

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        """Return one request per record, with the same two headers as the vendor's SDK."""
        headers = {"Content-Type": "application/json", "x-api-key": header_secret(self.secret_api_key)}
        requests = [self._goal(one, one.record, headers) for one in entries if isinstance(one.record, Goal)]
        return requests + [
            self._feedback(one, one.record, headers) for one in entries if isinstance(one.record, FeedbackRecord)
        ]

    def _goal(self, entry: QueuedRecord, goal: Goal, headers: dict[str, str]) -> VendorRequest:
        metadata, dropped = self._metadata(goal)
        body = _Body(
            goal_id=goal.goal_id,
            property_id=self.property_id,
            amount=goal.amount,
            session_id=_session_id(goal, entry.context) or "",
            metadata=metadata or None,
        )
        return VendorRequest(
            url=f"{self.api_url}/v1/goals/{goal.direction}",
            headers=headers,
            body=encode_body(body),
            entries=(entry,),
            warnings=[
                f"metadata {name!r} of goal {goal.goal_id!r} looks like {reason} and is not sent; "
                "the vendor's own SDK removes such values as well"
                for name, reason in dropped.items()
            ],
        )

    def _feedback(self, entry: QueuedRecord, feedback: FeedbackRecord, headers: dict[str, str]) -> VendorRequest:
        answer: dict[str, Any] = decode(feedback.properties)
        body: dict[str, Any] = {
            "feedbackTypeId": feedback.feedback_type_id,
            "propertyId": self.property_id,
            "sessionId": _session_id(feedback, entry.context),
        }
        # The setting `redact` and `before_send` may have put values of other types in their places.
        if isinstance(option := answer.get("option"), str) and option:
            body["option"] = option
        if isinstance(message := answer.get("message"), str) and message:
            body["message"] = truncate_utf16(message, FeedbackRecord.max_message)
        if isinstance(metadata := answer.get("metadata"), dict) and metadata:
            body["metadata"] = {name: to_string(value) for name, value in metadata.items()}
        return VendorRequest(
            url=f"{self.api_url}/v1/feedback/submit", headers=headers, body=encode_body(body), entries=(entry,)
        )

    def _metadata(self, goal: Goal) -> tuple[dict[str, str], dict[str, str]]:
        """Return the metadata to send, and the names of removed entries with the reasons."""
        if goal.properties == b"{}":
            return {}, {}
        with late_import():
            from sessionsight.destinations.pii_filter import filter_metadata  # its patterns take long to compile
        # Filtered before it is truncated: a truncated private key would not be recognised.
        kept, dropped = filter_metadata(decode(goal.properties))
        if self.metadata_over_limit == "truncate":
            fitting = ((name, text) for name, text in kept.items() if truncate_utf16(name, _MAX_METADATA_TEXT) == name)
            kept = {
                name: truncate_utf16(text, _MAX_METADATA_TEXT) for name, text in islice(fitting, _MAX_METADATA_KEYS)
            }
        return kept, dropped


class _Body(Struct, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    goal_id: str
    property_id: str
    amount: int | float | Decimal
    session_id: str
    metadata: dict[str, str] | None = None


def _session_id(record: Record, context: TrackingContext) -> str | None:
    """Return the session of the call if it is not empty, otherwise the visitor's."""
    return (record.session_id if isinstance(record, Goal | FeedbackRecord) else None) or context.sessionsight.session_id
