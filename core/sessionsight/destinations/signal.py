"""Signal: events, people, aliases and groups, in batches.

Calls, event names and request headers are those of https://docs.trysignal.ai/integrations/node/capture,
`/identify`, `/set-person-properties`, `/group` and `/alias`. The vendor documents no wire format: the
path, the place of the key, and the envelope are our assumption, and each of them is an option.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Raw, Struct
from msgspec.structs import force_setattr

from sessionsight.capture.records import (
    Alias,
    DropReason,
    EventRecord,
    Group,
    Identify,
    PersonProperties,
    QueuedRecord,
    Record,
)
from sessionsight.destinations.base import (
    Limits,
    Secret,
    VendorDestination,
    VendorRequest,
    base_url,
    encode_body,
    idempotency_header,
    resolve_secret,
    rfc3339,
)
from sessionsight.destinations.options import check_header_secret, header_secret
from sessionsight.errors import ConfigurationError
from sessionsight.request.context import TrackingContext

__all__ = ["Signal"]

_DEFAULT_URL = "https://api.trysignal.ai/"


class Signal(VendorDestination, frozen=True, kw_only=True):
    """Sends events, people, aliases and groups to Signal.

    Options and their defaults are those of https://docs.trysignal.ai/integrations/node/configuration,
    except `ingest_path`, `api_key_in` and `distinct_id`, which the vendor's SDK does not have.

    Raises:
        ConfigurationError: An option is missing or wrong.

    Example:
        >>> Signal(api_key="key", project_id="shop").limits.max_records
        20
    """

    kinds: ClassVar[frozenset[type[Record]]] = frozenset({EventRecord, Identify, PersonProperties, Alias, Group})
    secrets: ClassVar[frozenset[str]] = frozenset({"api_key"})

    name: str = "signal"
    """Name of the lane. Several destinations of one vendor need different names."""
    api_key: Secret
    """Key of the project, or a function that returns it."""
    project_id: str = "default"
    """Project that the events belong to."""
    endpoint: str = _DEFAULT_URL
    """URL of the ingest API. Empty means the default."""
    ingest_path: str = "/v1/capture"
    """Path of the ingest API. An assumption, because the vendor does not document it."""
    api_key_in: Literal["authorization", "x-api-key", "body"] = "authorization"
    """Place of the key: `Authorization: Bearer`, an `x-api-key` header, or `apiKey` in the body. An assumption."""
    distinct_id: Literal["user", "header"] = "user"
    """Distinct id of an event when both are known: the app's signed-in user, or the browser's
    `x-signal-distinct-id` header as in the vendor's SDK. An id given with the call takes precedence over both."""
    batch_size: Annotated[int, Meta(ge=1)] = 20
    """Most records in one request."""
    compression: bool = True
    """Compress request bodies over 1 KiB with gzip."""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"destination {self.name!r}"
        if self.api_key_in != "body":
            check_header_secret(self.api_key, f"{where}: api_key")
        force_setattr(self, "endpoint", base_url(self.endpoint, default=_DEFAULT_URL, where=f"{where}: endpoint"))
        if not self.ingest_path.startswith("/"):
            raise ConfigurationError(
                f"destination {self.name!r}: ingest_path must start with a slash, not {self.ingest_path!r}"
            )

    @property
    def limits(self) -> Limits:
        """Limits of the lane: `batch_size` records per request; bodies over 1 KiB are compressed."""
        return Limits(max_records=self.batch_size, gzip_above=1024 if self.compression else None)

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        """Return NO_IDENTITY without a distinct id, except for properties of a group."""
        if self._distinct_id(record, context) or (type(record) is Group and record.properties != b"{}"):
            return None
        return DropReason.NO_IDENTITY

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        """Return one request for all entries."""
        if not entries:
            return []
        key = resolve_secret(self.api_key) if self.api_key_in == "body" else header_secret(self.api_key)
        headers = {"Content-Type": "application/json", **idempotency_header(entries)}
        if self.api_key_in == "authorization":
            headers["Authorization"] = f"Bearer {key}"
        elif self.api_key_in == "x-api-key":
            headers["x-api-key"] = key
        body = _Body(
            project_id=self.project_id,
            sent_at=rfc3339(now),
            events=self._events(entries),
            api_key=key if self.api_key_in == "body" else None,
        )
        return [
            VendorRequest(
                url=self.endpoint + self.ingest_path, headers=headers, body=encode_body(body), entries=entries
            )
        ]

    def _events(self, entries: Sequence[QueuedRecord]) -> list[_Event]:
        events: list[_Event] = []
        for entry in entries:
            record = entry.record
            distinct_id = self._distinct_id(record, entry.context)
            if isinstance(record, EventRecord):
                events.append(_event(entry, record.name, record.properties, distinct_id, record.groups))
            else:
                events.extend(_event(entry, *described) for described in _descriptions(record, distinct_id))
        return events

    def _distinct_id(self, record: Record, context: TrackingContext) -> str | None:
        user, browser = record.user_id or context.user_id, context.signal.distinct_id
        # An identification describes the user, whichever id the browser sent.
        if self.distinct_id == "header" and type(record) is not Identify:
            user, browser = browser, user
        return record.distinct_id or user or browser


def _descriptions(record: Record, distinct_id: str | None) -> Iterator[tuple[str, bytes, str | None]]:
    """Yield name, properties and distinct id of the events that describe a person or a group."""
    match record:
        case Identify():
            yield "$identify", record.properties, distinct_id
        case PersonProperties():
            yield "$set_once" if record.once else "$set", record.properties, distinct_id
        case Alias():
            yield "$create_alias", encode_body({"alias": record.alias}), distinct_id
        case Group():
            group = {"groupType": record.group_type, "groupKey": record.group_key}
            if distinct_id:
                yield "$group_assign", encode_body(group), distinct_id
            if record.properties != b"{}":
                yield "$groupidentify", encode_body({**group, "groupProperties": Raw(record.properties)}), None


def _event(
    entry: QueuedRecord, name: str, properties: bytes, distinct_id: str | None, groups: dict[str, str] | None = None
) -> _Event:
    ids = entry.context.signal
    return _Event(name, distinct_id, rfc3339(entry.record.time), Raw(properties), groups, ids.session_id, ids.window_id)


# Positional, because that takes half as long; hence fields that are always given have a default as well.
class _Event(Struct, rename="camel", omit_defaults=True, gc=False):
    event: str
    distinct_id: str | None = None
    timestamp: str | None = None
    properties: Raw | None = None
    groups: dict[str, str] | None = None
    session_id: str | None = None
    window_id: str | None = None


class _Body(Struct, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    project_id: str
    sent_at: str
    events: list[_Event]
    api_key: str | None = None
