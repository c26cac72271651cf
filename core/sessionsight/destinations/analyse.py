"""Analyse.net: events and identifications, in batches of snake_case events.

https://analyse.net/docs/server-side-tracking
https://analyse.net/docs/identifying-users
https://github.com/track/sdk (`src/server.ts`, `src/server-types.ts`)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Literal

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
    resolve_secret,
    rfc3339,
)
from sessionsight.request.context import NO_PAGE, TrackingContext
from sessionsight.request.hostnames import hostname

__all__ = ["Analyse"]

_DEFAULT_URL = "https://pulse.analyse.net"
# The documentation writes `name`, the SDK's types write `$name`: https://analyse.net/docs/identifying-users
_DOLLAR_TRAITS = {"name": "$name", "email": "$email", "avatar": "$avatar", "avatarUrl": "$avatar"}


class Analyse(VendorDestination, frozen=True, kw_only=True):
    """Sends events and identifications to Analyse.net.

    Amounts of typed events are sent in minor units, as the vendor expects.

    Raises:
        ConfigurationError: An option is missing or wrong.

    Example:
        >>> Analyse(public_key="pk_live_1").host
        'https://pulse.analyse.net'
    """

    kinds: ClassVar[frozenset[type[Record]]] = frozenset({EventRecord, Identify})
    secrets: ClassVar[frozenset[str]] = frozenset({"public_key"})

    name: str = "analyse"
    """Name of the lane. Several destinations of one vendor need different names."""
    public_key: Secret
    """Key of the site (`pk_live_...`), or a function that returns it."""
    host: str = _DEFAULT_URL
    """URL of the ingest API. Empty means the default; a trailing slash is removed."""
    batch_size: Annotated[int, Meta(ge=1)] = 100
    """Most records in one request: the vendor's `maxBatchSize`."""
    share_visitor_id: bool = True
    """Use SessionSight's visitor id (the `ss_vid` cookie) as the anonymous id if no other is known. The vendor's own
    id is kept in the browser and never sent to a server."""
    profile_traits: Literal["keep", "dollar"] = "keep"
    """`"dollar"` renames the traits `name`, `email` and `avatar` (or `avatarUrl`) to the `$name` spelling of the
    vendor's SDK. The vendor's documentation, which is the default, has no `$`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"destination {self.name!r}: host"
        force_setattr(self, "host", base_url(self.host, default=_DEFAULT_URL, where=where))

    @property
    def limits(self) -> Limits:
        """Limits of the lane: `batch_size` records per request."""
        return Limits(max_records=self.batch_size)

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        """Return NO_IDENTITY for an event without person and anonymous id, and for an identification without person.

        An anonymous id that is an empty string is rejected, as by the vendor's SDK.
        """
        if record.anonymous_id == "":
            return DropReason.NO_IDENTITY
        if record.user_id or context.user_id:
            return None
        if type(record) is not Identify and anonymous_id(record, context, share_visitor_id=self.share_visitor_id):
            return None
        return DropReason.NO_IDENTITY

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        """Return one request for all entries."""
        if not entries:
            return []
        body = _Body(public_key=resolve_secret(self.public_key), events=[self._event(entry) for entry in entries])
        return [
            VendorRequest(
                url=f"{self.host}/v1/batch",
                headers={"Content-Type": "application/json", **idempotency_header(entries)},
                body=encode_body(body),
                entries=entries,
            )
        ]

    def _event(self, entry: QueuedRecord) -> _Event:
        record, context = entry.record, entry.context
        person_id = record.user_id or context.user_id
        anonymous = anonymous_id(record, context, share_visitor_id=self.share_visitor_id) or person_id or ""
        if isinstance(record, Identify):
            name, page, properties = "$identify", NO_PAGE, self._traits(record)
        else:
            name, page, properties = record.label, context.page, record.properties
        referrer = page.referrer
        return _Event(
            name,
            anonymous,
            person_id,
            rfc3339(record.time),
            page.url,
            page.path,
            page.hostname,
            referrer,
            page.referrer_domain or (hostname(referrer) if referrer else ""),
            page.utm_source,
            page.utm_medium,
            page.utm_campaign,
            page.utm_term,
            page.utm_content,
            Raw(properties),
        )

    def _traits(self, record: Identify) -> bytes:
        if self.profile_traits == "keep" or record.properties == b"{}":
            return record.properties
        traits = decode(record.properties)
        renamed = {new: traits.pop(name) for name, new in _DOLLAR_TRAITS.items() if name in traits}
        return encode({**renamed, **traits})


# Positional, because that takes half as long; hence fields that are always given have a default as well.
class _Event(Struct, omit_defaults=True, gc=False):
    event_name: str
    anonymous_id: str
    person_id: str | None = None
    timestamp: str | None = None
    url: str | None = None
    path: str | None = None
    hostname: str | None = None
    referrer: str | None = None
    referrer_domain: str | None = None
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    utm_term: str | None = None
    utm_content: str | None = None
    properties: Raw | None = None


class _Body(Struct, kw_only=True, rename="camel", gc=False):
    public_key: str
    events: list[_Event]
