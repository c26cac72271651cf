"""Destination protocol: one vendor's wire format as pure code.

A destination selects the records that it supports, builds HTTP requests from them and classifies the responses. It uses
no clock, socket or thread; its inputs are passed in. `docs/destinations.md` shows how to write one.

This module also exports the helpers of `options` and `serialization` for destinations outside this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from sessionsight.callbacks import check_sync
from sessionsight.capture.records import DropReason, QueuedRecord, Record
from sessionsight.destinations.options import Secret, base_url, is_loopback, resolve_secret, type_error
from sessionsight.destinations.serialization import anonymous_id, encode_body, idempotency_header, rfc3339
from sessionsight.errors import ConfigurationError
from sessionsight.javascript import to_string
from sessionsight.request.context import TrackingContext
from sessionsight.request.urls import sanitize_url

__all__ = [
    "Action",
    "Destination",
    "Limits",
    "Secret",
    "VendorDestination",
    "VendorRequest",
    "VendorResponse",
    "Verdict",
    "anonymous_id",
    "base_url",
    "classify_status",
    "encode_body",
    "error_message",
    "idempotency_header",
    "is_loopback",
    "resolve_secret",
    "rfc3339",
]

# What every store keeps as the name of a lane.
_MAX_NAME = 100


class Limits(Struct, frozen=True, kw_only=True):
    """Limits on how a lane sends to one destination."""

    max_records: int = 100
    """Most records in one request."""
    max_bytes: int = 512 * 1024
    """Approximate bytes of properties in one request. A single larger record is sent on its own."""
    concurrency: int = 1
    """Most requests in flight at the same time."""
    calls_per_minute: int | None = None
    """The vendor's rate limit in requests per minute, enforced by the client. None for no limit."""
    gzip_above: int | None = None
    """Compress larger bodies, in bytes. None if the vendor does not accept gzip."""
    max_age: float | None = None
    """Seconds after which an undelivered record is dead-lettered as expired."""
    idempotent: bool = True
    """A record may be sent again when the outcome of an earlier attempt is unknown."""


class VendorRequest(Struct, frozen=True, kw_only=True):
    """One HTTP request to a vendor, and the entries in its body."""

    url: str
    headers: dict[str, str]
    body: bytes
    entries: Sequence[QueuedRecord]
    method: str = "POST"
    warnings: Sequence[str] = ()
    """Messages for the operator's log about values that were left out or could not be converted."""

    def __repr__(self) -> str:
        """Return a summary without query, headers and body, which contain keys and personal data."""
        return f"VendorRequest({self.method} {sanitize_url(self.url)}, {len(self.entries)} entries)"


class VendorResponse(Struct, frozen=True, kw_only=True):
    """A vendor's response. Header names are lower-case; the body is truncated by the transport."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""


class Action(Enum):
    """Next step for the entries of a request."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """The vendor did not process the request: send it again later."""
    UNKNOWN = "unknown"
    """The outcome is unknown: sent again if the destination is idempotent, otherwise dead-lettered."""
    SPLIT = "split"
    """The request is too large: send each half."""
    BISECT = "bisect"
    """One record is invalid: send each half until the invalid one is alone."""
    PAUSE = "pause"
    """The key or the address is wrong: keep all records, log it, and probe at intervals."""


class Verdict(Struct, frozen=True, kw_only=True):
    """Outcome of a request."""

    action: Action
    message: str = ""
    """The vendor's error message."""
    rejected: dict[int, str] = {}
    """With DELIVERED: positions of the entries that the vendor rejected, with the reasons."""


class Destination(Protocol):
    """Protocol that delivery uses for a vendor. Any object with these members is a destination."""

    @property
    def name(self) -> str:
        """Name of the lane in settings, statistics and logs."""

    @property
    def limits(self) -> Limits:
        """Limits of the lane."""

    def supports(self, kind: type[Record]) -> bool:
        """Return whether the vendor accepts this kind of record."""

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        """Return why this record cannot be sent to the vendor; None if it can."""

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        """Return the HTTP requests for these entries, with each entry in exactly one."""

    def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
        """Return what a response means for the entries of its request."""


class VendorDestination(Struct, frozen=True, kw_only=True):
    """Base class of the four vendors: validated options, hidden keys, the usual status codes.

    The fields of a subclass are its options. On construction, each required field must have a
    value, and each value must be of its field's type.

    A custom destination may inherit from this class, or be any object that implements `Destination`.

    Raises:
        ConfigurationError: A required option is missing or blank, or a value is of a wrong type.
    """

    kinds: ClassVar[frozenset[type[Record]]]
    secrets: ClassVar[frozenset[str]] = frozenset()
    """Names of the fields that never appear in a repr or an error message."""

    if TYPE_CHECKING:  # a field of the vendors, so that one can be configured twice; a class variable works too

        @property
        def name(self) -> str:
            """Name of the lane."""

    def __post_init__(self) -> None:
        given: object = self.name
        if not isinstance(given, str) or not given.strip() or not given.isprintable() or len(given) > _MAX_NAME:
            raise ConfigurationError(
                f"{type(self).__name__}: name must be printable text of 1 to {_MAX_NAME} characters"
            )
        for field in fields(type(self)):
            value = getattr(self, field.name)
            where = f"destination {self.name!r}: {field.name}"
            if field.required and (value is None or (isinstance(value, str) and not value.strip())):
                raise ConfigurationError(f"{where} is missing or blank; set it to the value in the vendor's dashboard")
            if field.name in self.secrets:
                if not (isinstance(value, str) or callable(value)):
                    raise ConfigurationError(
                        f"{where} must be a string or a function that returns one, not {type(value).__name__}"
                    )
                check_sync(value, where)
            elif (expected := type_error(value, field.type)) is not None:
                raise ConfigurationError(f"{where} must be {expected}, not {value!r}")

    @property
    def limits(self) -> Limits:
        """Limits of the lane: 100 records per request, one request at a time."""
        return Limits()

    def supports(self, kind: type[Record]) -> bool:
        """Return whether the vendor accepts this kind of record."""
        return kind in self.kinds

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        """Return why this record cannot be sent to the vendor; None, because by default all can."""
        return None

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        """Return the HTTP requests for these entries, with each entry in exactly one."""
        raise NotImplementedError(f"{type(self).__name__} must implement build_requests()")

    def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
        """Return what a response means for the entries of its request."""
        return classify_status(reply)

    def build_erasure_request(self, user_id: str) -> VendorRequest | None:
        """Return the HTTP request that deletes a user; None, because by default the vendor has none.

        Not part of the `Destination` protocol: a destination without this method has no such request either.
        """
        return None

    def __repr__(self) -> str:
        shown = (
            f"{name}={'***' if name in self.secrets else repr(getattr(self, name))}" for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({', '.join(shown)})"


_PAUSING = frozenset({401, 402, 403, 404, 405, 410})
_SAFE_TO_RETRY = frozenset({408, 429})


def classify_status(reply: VendorResponse) -> Verdict:
    """Return the default verdict for a status code."""
    status = reply.status
    if 200 <= status < 300:
        return Verdict(action=Action.DELIVERED)
    message = error_message(reply)
    if status in _SAFE_TO_RETRY or (status == 503 and "retry-after" in reply.headers):
        action = Action.RETRY
    elif status == 413:
        action = Action.SPLIT
    elif status in _PAUSING or 300 <= status < 400:
        action = Action.PAUSE
    elif 400 <= status < 500:
        action = Action.BISECT
    else:
        action = Action.UNKNOWN
    return Verdict(action=action, message=message)


def error_message(reply: VendorResponse) -> str:
    """Return the vendor's error message: `error.message`, else `error.code`, `error` as text, else the status.

    Parsed like SessionSight's own SDK does: an empty message counts, and results in the status
    (https://github.com/SessionSight/sdks, goals/src).
    """
    fallback = f"HTTP {reply.status}"
    try:
        body = msgspec.json.decode(reply.body)
    except (ValueError, RecursionError):
        return fallback
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        message = error.get("message")
        error = error.get("code") if message is None else message
    elif isinstance(error, list):
        error = None
    # An empty list or object is true in JavaScript.
    return to_string(error)[:500] if error or isinstance(error, list | dict) else fallback
