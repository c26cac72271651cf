"""Saytics: events in batches, identifications one by one.

https://docs.saytics.com/api-reference/introduction
https://docs.saytics.com/api-reference/events
https://docs.saytics.com/concepts/properties
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Raw, Struct
from msgspec.structs import force_setattr

from sessionsight.capture.encoding import decode, encode
from sessionsight.capture.records import DropReason, Event, Identify, QueuedRecord, Record
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
from sessionsight.destinations.property_limits import Fit
from sessionsight.errors import ConfigurationError
from sessionsight.request.context import TrackingContext

__all__ = ["Saytics", "title_case"]

_DEFAULT_URL = "https://api.saytics.com"
# Plan -> events in a batch, requests in a minute: https://docs.saytics.com/api-reference/introduction
_PLANS = {"free": (100, 100), "starter": (500, 500), "pro": (1000, 2000)}


class Saytics(VendorDestination, frozen=True, kw_only=True):
    """Sends events and identifications to Saytics.

    Property values that the vendor does not document are fitted to what it does:
    https://docs.saytics.com/concepts/properties. That is our choice; `max_string`, `max_array`, `nested`
    and `nulls` change it.

    Raises:
        ConfigurationError: An option is missing or wrong.

    Example:
        >>> Saytics(secret_key="sk_live_1", plan="starter").limits.calls_per_minute
        500
    """

    kinds: ClassVar[frozenset[type[Record]]] = frozenset({Event, Identify})
    secrets: ClassVar[frozenset[str]] = frozenset({"secret_key"})

    name: str = "saytics"
    """The name of its lane; several of one vendor need a name each."""
    secret_key: Secret
    """The server's key (`sk_live_...`), or a function that returns it."""
    api_url: str = _DEFAULT_URL
    """The API's address, without `/v1`; empty is the default."""
    plan: Literal["free", "starter", "pro", "enterprise"] = "free"
    """The account's plan, which sets `batch_size` and `calls_per_minute`."""
    batch_size: Annotated[int, Meta(ge=1, le=1000)] | None = None
    """Events in one call, in place of the plan's number; the enterprise plan needs it."""
    calls_per_minute: Annotated[int, Meta(ge=1)] | None = None
    """Calls in a minute, in place of the plan's number; the enterprise plan needs it. The vendor counts by key:
    where several processes share one, give each its part."""
    money: Literal["major", "as_given"] = "major"
    """`"major"` turns the `amount` of typed events from minor units into the currency's own (4900 USD into
    49.00), as in the vendor's examples. Other properties are never converted."""
    max_string: Annotated[int, Meta(ge=1)] | None = 256
    """Longer strings are cut; None leaves them."""
    max_array: Annotated[int, Meta(ge=1)] | None = 25
    """Longer arrays are cut; None leaves them."""
    nested: Literal["flatten", "as_given"] = "flatten"
    """Whether `{"cart": {"total": 3}}` is sent as `cart_total`."""
    nulls: Literal["drop", "as_given"] = "drop"
    """Whether properties without a value are left out."""
    event_names: Literal["keep", "title_case"] = "keep"
    """`"title_case"` sends `order_processed` as `Order Processed`, which the vendor advises, to this vendor alone."""
    share_visitor_id: bool = True
    """Whether SessionSight's visitor id (the `ss_vid` cookie) may stand in as the anonymous id, since the
    vendor's own is kept in the browser, where no server sees it."""
    ids: Literal["both", "one"] = "both"
    """Whether an event of a known user bears the anonymous id as well, if there is one."""

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
        """The plan's limits."""
        batch_size, calls_per_minute = _PLANS.get(self.plan, (1, 1))
        return Limits(
            max_records=self.batch_size or batch_size,
            calls_per_minute=self.calls_per_minute or calls_per_minute,
        )

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        """An event needs a user or an anonymous id, an identification needs the user."""
        if record.user_id or context.user_id:
            return None
        if type(record) is not Identify and anonymous_id(record, context, share_visitor_id=self.share_visitor_id):
            return None
        return DropReason.NO_IDENTITY

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        """One call for each identification, then one for all events."""
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
        fit = Fit(max_string=self.max_string, max_array=self.max_array, nested=self.nested, nulls=self.nulls)
        for entry in entries:
            if isinstance(entry.record, Event):
                carried.append(entry)
                events.append(self._event(entry, entry.record, fit, warnings))
            else:
                person = _Person(user_id=entry.user_id or "", traits=_properties(entry.record, fit))
                calls.append(call("/v1/users/identify", person, (entry,)))
        if len(events) == 1:
            calls.append(call("/v1/events", events[0], carried, warnings))
        elif events:
            calls.append(call("/v1/events/batch", {"events": events}, carried, warnings))
        return calls

    def _event(self, entry: QueuedRecord, event: Event, fit: Fit, warnings: list[str]) -> _Event:
        user_id = entry.user_id
        anonymous = None
        if user_id is None or self.ids == "both":
            anonymous = anonymous_id(event, entry.context, share_visitor_id=self.share_visitor_id)
        money = self.money == "major" and event.standard and b'"amount"' in event.properties
        return _Event(
            event=title_case(event.name) or event.name if self.event_names == "title_case" else event.name,
            user_id=user_id,
            anonymous_id=anonymous,
            properties=_priced(event, fit, warnings) if money else _properties(event, fit),
            timestamp=rfc3339(event.time),
        )


def title_case(name: str) -> str | None:
    """Return an event's name in title case, which the vendor advises; None for a name that is not in snake case.

    https://docs.saytics.com/concepts/events

    Example:
        >>> title_case("order_processed"), title_case("Order Processed"), title_case("$pageview")
        ('Order Processed', None, None)
    """
    words = name.split("_")
    if name != name.lower() or not name[:1].isalpha() or not all(word.isalnum() for word in words):
        return None
    return " ".join(word[0].upper() + word[1:] for word in words)


def _properties(record: Record, fit: Fit) -> Raw | None:
    """The properties as they stand, or fitted where that is needed; None when nothing is left."""
    encoded = record.properties
    if not fit.holds(encoded):
        encoded = encode(fit(decode(encoded)))
    return Raw(encoded) if encoded != b"{}" else None


def _priced(event: Event, fit: Fit, warnings: list[str]) -> Raw:
    """The properties with their `amount` in the currency's own unit, or as given, with a note."""
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
                'on the event, or `money="as_given"` on the destination'
            )
    return Raw(encode(properties if fit.holds(event.properties) else fit(properties)))


class _Event(Struct, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    event: str
    user_id: str | None = None
    anonymous_id: str | None = None
    properties: Raw | None = None
    timestamp: str


class _Person(Struct, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    user_id: str
    traits: Raw | None = None
