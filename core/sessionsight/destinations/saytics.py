"""Saytics: events in batches, identifications one by one.

https://docs.saytics.com/api-reference/introduction
https://docs.saytics.com/api-reference/events
https://docs.saytics.com/concepts/properties
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

from msgspec import Meta, Raw, Struct
from msgspec.structs import force_setattr

from sessionsight.capture.encoding import decode, encode
from sessionsight.capture.records import DropReason, EventRecord, Identify, QueuedRecord, Record
from sessionsight.destinations.base import (
    Limits,
    Secret,
    VendorDestination,
    VendorRequest,
    anonymous_id,
    base_url,
    encode_body,
    idempotency_header,
    rfc3339,
)
from sessionsight.destinations.currency import to_major
from sessionsight.destinations.options import check_header_secret, header_secret
from sessionsight.destinations.property_limits import PropertyLimits
from sessionsight.errors import ConfigurationError, InvalidEventError
from sessionsight.request.context import TrackingContext

__all__ = ["Saytics", "title_case"]

_DEFAULT_URL = "https://api.saytics.com"
# Plan -> events in a batch, requests in a minute: https://docs.saytics.com/api-reference/introduction
_PLANS = {"free": (100, 100), "starter": (500, 500), "pro": (1000, 2000)}


class Saytics(VendorDestination, frozen=True, kw_only=True):
    """Sends events and identifications to Saytics.

    Property values are reduced to what the vendor documents (https://docs.saytics.com/concepts/properties).
    The vendor's own SDK does not do that; `max_string`, `max_array`, `nested` and `nulls` change it.

    Raises:
        ConfigurationError: An option is missing or wrong.

    Example:
        >>> Saytics(secret_key="sk_live_1", plan="starter").limits.calls_per_minute
        500
    """

    kinds: ClassVar[frozenset[type[Record]]] = frozenset({EventRecord, Identify})
    secrets: ClassVar[frozenset[str]] = frozenset({"secret_key"})

    name: str = "saytics"
    """Name of the lane. Several destinations of one vendor need different names."""
    secret_key: Secret
    """Server key (`sk_live_...`), or a function that returns it."""
    api_url: str = _DEFAULT_URL
    """URL of the API, without `/v1`. Empty means the default."""
    plan: Literal["free", "starter", "pro", "enterprise"] = "free"
    """Plan of the account, which sets `batch_size` and `calls_per_minute`."""
    batch_size: Annotated[int, Meta(ge=1, le=1000)] | None = None
    """Events in one request, instead of the plan's number. Required for the enterprise plan."""
    calls_per_minute: Annotated[int, Meta(ge=1)] | None = None
    """Requests per minute, instead of the plan's number. Required for the enterprise plan. The vendor counts requests
    by key: divide the number by the number of processes that share one."""
    money: Literal["major", "keep"] = "major"
    """`"major"` turns the `amount` of typed events from minor units into the currency's own (4900 USD into
    49.00), as in the vendor's examples. Other properties are never converted."""
    max_string: Annotated[int, Meta(ge=1)] | None = 256
    """Most characters in a string; longer ones are truncated. None for no limit."""
    max_array: Annotated[int, Meta(ge=1)] | None = 25
    """Most elements in an array; longer ones are truncated. None for no limit."""
    nested: Literal["flatten", "keep"] = "flatten"
    """`"flatten"` sends `{"cart": {"total": 3}}` as `cart_total`."""
    nulls: Literal["drop", "keep"] = "drop"
    """`"drop"` leaves out properties without a value."""
    event_names: Literal["keep", "title_case"] = "keep"
    """`"title_case"` sends `order_processed` as `Order Processed`, as the vendor recommends.
    Other destinations are not affected."""
    share_visitor_id: bool = True
    """Use SessionSight's visitor id (the `ss_vid` cookie) as the anonymous id if no other is known. The vendor's own
    id is kept in the browser and never sent to a server."""
    ids: Literal["both", "one"] = "both"
    """`"both"` sends an event of a known user with the anonymous id as well, if there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"destination {self.name!r}"
        check_header_secret(self.secret_key, f"{where}: secret_key")
        force_setattr(self, "api_url", base_url(self.api_url, default=_DEFAULT_URL, where=f"{where}: api_url"))
        if self.plan == "enterprise" and (self.batch_size is None or self.calls_per_minute is None):
            raise ConfigurationError(
                f"{where}: the enterprise plan has limits of its own; set batch_size and calls_per_minute to them"
            )

    @property
    def limits(self) -> Limits:
        """Limits of the plan."""
        batch_size, calls_per_minute = _PLANS.get(self.plan, (1, 1))
        return Limits(
            max_records=self.batch_size or batch_size,
            calls_per_minute=self.calls_per_minute or calls_per_minute,
        )

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        """Return NO_IDENTITY for an event without user and anonymous id, and for an identification without user."""
        if record.user_id or context.user_id:
            return None
        if type(record) is not Identify and anonymous_id(record, context, share_visitor_id=self.share_visitor_id):
            return None
        return DropReason.NO_IDENTITY

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        """Return one request for each identification, then one for all events."""
        authorization = f"Bearer {header_secret(self.secret_key)}"

        def call(path: str, body: Any, entries: Sequence[QueuedRecord], warnings: Sequence[str] = ()) -> VendorRequest:
            return VendorRequest(
                url=self.api_url + path,
                headers={
                    "Content-Type": "application/json",
                    "Authorization": authorization,
                    **idempotency_header(entries),
                },
                body=encode_body(body),
                entries=entries,
                warnings=warnings,
            )

        calls: list[VendorRequest] = []
        carried: list[QueuedRecord] = []
        events: list[_Event] = []
        warnings: list[str] = []
        limits = PropertyLimits(
            max_string=self.max_string, max_array=self.max_array, nested=self.nested, nulls=self.nulls
        )
        for entry in entries:
            if isinstance(entry.record, EventRecord):
                carried.append(entry)
                events.append(self._event(entry, entry.record, limits, warnings))
            else:
                person = _Person(user_id=entry.user_id or "", traits=_properties(entry.record, limits))
                calls.append(call("/v1/users/identify", person, (entry,)))
        if len(events) == 1:
            calls.append(call("/v1/events", events[0], carried, warnings))
        elif events:
            calls.append(call("/v1/events/batch", {"events": events}, carried, warnings))
        return calls

    def build_erasure_request(self, user_id: str) -> VendorRequest:
        """Return the request that deletes a user permanently.

        Source: https://docs.saytics.com/api-reference/users

        Raises:
            InvalidEventError: The id cannot be part of a URL's path.
        """
        if user_id in {".", ".."}:
            raise InvalidEventError(f"the user id {user_id!r} cannot be part of a URL; delete it in the dashboard")
        return VendorRequest(
            method="DELETE",
            url=f"{self.api_url}/v1/users/{quote(user_id, safe='')}",
            headers={"Authorization": f"Bearer {header_secret(self.secret_key)}"},
            body=b"",
            entries=(),
        )

    def _event(self, entry: QueuedRecord, event: EventRecord, limits: PropertyLimits, warnings: list[str]) -> _Event:
        user_id = entry.user_id
        anonymous = None
        if user_id is None or self.ids == "both":
            anonymous = anonymous_id(event, entry.context, share_visitor_id=self.share_visitor_id)
        money = self.money == "major" and event.standard and b'"amount"' in event.properties
        return _Event(
            title_case(event.name) or event.name if self.event_names == "title_case" else event.name,
            user_id,
            anonymous,
            _with_major_units(event, limits, warnings) if money else _properties(event, limits),
            rfc3339(event.time),
        )


def title_case(name: str) -> str | None:
    """Return an event's name in title case, as the vendor recommends; None if the name is not in snake case.

    https://docs.saytics.com/concepts/events

    Example:
        >>> title_case("order_processed"), title_case("Order Processed"), title_case("$pageview")
        ('Order Processed', None, None)
    """
    words = name.split("_")
    if name != name.lower() or not name[:1].isalpha() or not all(word.isalnum() for word in words):
        return None
    return " ".join(word[0].upper() + word[1:] for word in words)


def _properties(record: Record, limits: PropertyLimits) -> Raw | None:
    """Return the properties within the limits; None if there are none."""
    encoded = record.properties
    if not limits.fits(encoded):
        encoded = encode(limits(decode(encoded)))
    return Raw(encoded) if encoded != b"{}" else None


def _with_major_units(event: EventRecord, limits: PropertyLimits, warnings: list[str]) -> Raw:
    """Return the properties with `amount` in major units, or unchanged with a warning."""
    properties = decode(event.properties)
    amount, currency = properties.get("amount"), properties.get("currency")
    if isinstance(amount, int | Decimal) and not isinstance(amount, bool):
        major = to_major(amount, currency) if isinstance(currency, str) else None
        if major is not None:
            properties["amount"] = major
        else:
            known = f"currency {currency!r} is not in ISO 4217" if currency else "it has no currency"
            warnings.append(
                f"the amount of {event.name!r} is sent as given, in minor units, because {known}; set `currency` "
                'on the event, or `money="keep"` on the destination'
            )
    return Raw(encode(properties if limits.fits(event.properties) else limits(properties)))


# Positional, because that takes half as long; hence the timestamp, which is always given, has a default as well.
class _Event(Struct, rename="camel", omit_defaults=True, gc=False):
    event: str
    user_id: str | None = None
    anonymous_id: str | None = None
    properties: Raw | None = None
    timestamp: str | None = None


class _Person(Struct, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    user_id: str
    traits: Raw | None = None
