"""SessionSight: goals, one request each, counted in the visitor's own session.

https://sessionsight.com/docs/build/api-reference/goals/increment
https://sessionsight.com/docs/build/api-reference/goals/decrement
https://github.com/SessionSight/sdks (goals/src)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import islice
from typing import ClassVar, Literal

from msgspec import Struct
from msgspec.structs import force_setattr

from sessionsight.capture.encoding import decode
from sessionsight.capture.records import DropReason, Goal, QueuedRecord, Record
from sessionsight.destinations.base import (
    Limits,
    Secret,
    VendorDestination,
    VendorRequest,
    base_url,
    encode_body,
)
from sessionsight.destinations.options import check_header_secret, header_secret
from sessionsight.destinations.pii_filter import filter_metadata
from sessionsight.destinations.property_limits import cut
from sessionsight.javascript import is_blank
from sessionsight.request.context import TrackingContext

__all__ = ["SessionSight"]

_DEFAULT_URL = "https://api.sessionsight.com"
# https://sessionsight.com/docs/build/api-reference/goals/increment
_MAX_METADATA_KEYS = 5
_MAX_METADATA_TEXT = 256
# A goal carries no time on the wire: what arrives later than this would count for the wrong day.
_LIMITS = Limits(max_records=1, concurrency=8, max_age=24 * 60 * 60, idempotent=False)


class SessionSight(VendorDestination, frozen=True, kw_only=True):
    """Counts goals at SessionSight.

    A goal needs the session of a visitor: the `ss_sid` cookie of SessionSight's browser script, or the
    `session_id` of the call. Without one, nothing is sent. The vendor documents no way to send a goal
    twice and have it counted once, so none is sent again when its first attempt may have arrived.

    Raises:
        ConfigurationError: An option is missing or wrong.

    Example:
        >>> SessionSight(secret_api_key="sessionsight_sec_1", property_id="shop")  # doctest: +ELLIPSIS
        SessionSight(name='sessionsight', secret_api_key=***, property_id='shop', ...)
    """

    kinds: ClassVar[frozenset[type[Record]]] = frozenset({Goal})
    secrets: ClassVar[frozenset[str]] = frozenset({"secret_api_key"})

    name: str = "sessionsight"
    """The name of its lane; several of one vendor need a name each."""
    secret_api_key: Secret
    """The property's secret key (`sessionsight_sec_...`), or a function that returns it."""
    property_id: str
    """The property that the goals belong to."""
    api_url: str = _DEFAULT_URL
    """The API's address; empty is the default, one trailing slash is cut."""
    metadata_over_limit: Literal["fit", "as_given"] = "fit"
    """What is done with metadata beyond the API's limits (5 entries; 256 characters in a key or value).
    `"fit"` sends the first five and cuts values; `"as_given"` leaves it to the API, as the vendor's SDK does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"destination {self.name!r}"
        check_header_secret(self.secret_api_key, f"{where}: secret_api_key")
        force_setattr(self, "api_url", base_url(self.api_url, default=_DEFAULT_URL, where=f"{where}: api_url"))

    @property
    def limits(self) -> Limits:
        """One goal a call, eight calls at a time, none older than a day, none repeated in doubt."""
        return _LIMITS

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        """A goal without a session cannot be counted."""
        return DropReason.NO_SESSION if is_blank(_session_id(record, context) or "") else None

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        """One call a goal. Its headers are the two of the vendor's SDK, and no others."""
        headers = {"Content-Type": "application/json", "x-api-key": header_secret(self.secret_api_key)}
        return [self._call(entry, entry.record, headers) for entry in entries if isinstance(entry.record, Goal)]

    def _call(self, entry: QueuedRecord, goal: Goal, headers: dict[str, str]) -> VendorRequest:
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
                "the vendor's own SDK leaves such values out as well"
                for name, reason in dropped.items()
            ],
        )

    def _metadata(self, goal: Goal) -> tuple[dict[str, str], dict[str, str]]:
        """The metadata that may go, and what looks like a secret, by name."""
        if goal.properties == b"{}":
            return {}, {}
        # Screened before it is cut: of a private key that is cut, the screening would not see the end.
        kept, dropped = filter_metadata(decode(goal.properties))
        if self.metadata_over_limit == "fit":
            fitting = ((name, text) for name, text in kept.items() if cut(name, _MAX_METADATA_TEXT) == name)
            kept = {name: cut(text, _MAX_METADATA_TEXT) for name, text in islice(fitting, _MAX_METADATA_KEYS)}
        return kept, dropped


class _Body(Struct, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    goal_id: str
    property_id: str
    amount: int | float | Decimal
    session_id: str
    metadata: dict[str, str] | None = None


def _session_id(record: Record, context: TrackingContext) -> str | None:
    """The call's own session when it is not empty, else the visitor's."""
    return (record.session_id if isinstance(record, Goal) else None) or context.sessionsight.session_id
