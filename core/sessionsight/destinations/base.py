"""What a destination is: one vendor's protocol as pure code.

It says which records it takes, turns records into HTTP calls, and judges the replies. It has no
clock, socket or thread; what it needs is handed in. `docs/destinations.md` writes a fifth one.

What helps to write one can be had from here as well: see `options` and `writing`.
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


class Limits(Struct, frozen=True, kw_only=True):
    """How a lane may send to one destination."""

    max_records: int = 100
    """Records in one batch."""
    max_bytes: int = 512 * 1024
    """Bytes of properties in one batch, about; a single larger record still goes alone."""
    concurrency: int = 1
    """Calls in flight at a time."""
    calls_per_minute: int | None = None
    """The vendor's rate limit, obeyed before the vendor has to say so."""
    gzip_above: int | None = None
    """Bodies of more bytes than this are compressed; None where the vendor does not take gzip."""
    max_age: float | None = None
    """Seconds after which an undelivered record is dead-lettered as expired."""
    idempotent: bool = True
    """Whether a record may be sent again when nobody knows whether the first attempt arrived."""


class VendorRequest(Struct, frozen=True, kw_only=True):
    """One HTTP request to make, and the entries it carries."""

    url: str
    headers: dict[str, str]
    body: bytes
    entries: Sequence[QueuedRecord]
    method: str = "POST"
    warnings: Sequence[str] = ()
    """What the operator should know of these records: values that were left out, or could not be converted."""

    def __repr__(self) -> str:
        """Without query, headers and body, which hold keys and personal data."""
        return f"VendorRequest({self.method} {sanitize_url(self.url)}, {len(self.entries)} entries)"


class VendorResponse(Struct, frozen=True, kw_only=True):
    """A vendor's answer. Header names are lower-case; the body is bounded."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""


class Action(Enum):
    """What the lane does with a call's entries."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """Certainly not taken: send again later."""
    UNKNOWN = "unknown"
    """Perhaps taken: sent again where that is harmless, parked among the dead letters where not."""
    SPLIT = "split"
    """Too large: send each half."""
    BISECT = "bisect"
    """One of them is wrong: send each half until it stands alone."""
    PAUSE = "pause"
    """A wrong key or address: keep everything, tell the operator, try now and then."""


class Verdict(Struct, frozen=True, kw_only=True):
    """A judged reply."""

    action: Action
    message: str = ""
    """The vendor's own words, for people."""
    rejected: dict[int, str] = {}
    """With DELIVERED: positions of entries that the vendor did refuse, and why."""


class Destination(Protocol):
    """What delivery needs of a vendor. Anything with these members is a destination."""

    @property
    def name(self) -> str:
        """The lane's name in settings, statistics and logs."""

    @property
    def limits(self) -> Limits:
        """How the lane may send."""

    def supports(self, kind: type[Record]) -> bool:
        """Whether this vendor has a place for such records at all."""

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        """Why this record cannot go to the vendor, or None when it can."""

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        """The HTTP calls that carry these entries, each entry in exactly one."""

    def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
        """What a reply means for the entries of its call."""


class VendorDestination(Struct, frozen=True, kw_only=True):
    """What the four vendors have in common: checked options, hidden keys, the usual status codes.

    The fields of a subclass are its options. When one is made, each required field must have a
    value, and each value must be of its field's type.

    A destination of your own may start here, or be any object that fits `Destination`.

    Raises:
        ConfigurationError: A required option is missing or blank, or a value is of a wrong type.
    """

    kinds: ClassVar[frozenset[type[Record]]]
    secrets: ClassVar[frozenset[str]] = frozenset()
    """Names of the fields that never appear in a repr or an error."""

    if TYPE_CHECKING:  # a field of the vendors, so that one may be there twice; a class variable will do as well

        @property
        def name(self) -> str:
            """The name of its lane."""

    def __post_init__(self) -> None:
        given: object = self.name
        if not isinstance(given, str) or not given.strip():
            raise ConfigurationError(f"{type(self).__name__}: name must be a string that is not blank")
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
        """How the lane may send: a hundred records a call, one call at a time."""
        return Limits()

    def supports(self, kind: type[Record]) -> bool:
        """Whether this vendor has a place for such records at all."""
        return kind in self.kinds

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        """Why this record cannot go to the vendor, or None when it can: here, always."""
        return None

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        """The HTTP calls that carry these entries, each entry in exactly one."""
        raise NotImplementedError(f"{type(self).__name__} must say how records become HTTP calls")

    def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
        """What a reply means for the entries of its call."""
        return classify_status(reply)

    def __repr__(self) -> str:
        shown = (
            f"{name}={'***' if name in self.secrets else repr(getattr(self, name))}" for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({', '.join(shown)})"


_PAUSING = frozenset({401, 402, 403, 404, 405, 410})
_SAFE_TO_RETRY = frozenset({408, 429})


def classify_status(reply: VendorResponse) -> Verdict:
    """The meaning of a status code, where a vendor says nothing else."""
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
    """Return what the vendor says is wrong: `error.message`, else `error.code`, `error` as text, else the status.

    Read as SessionSight's own SDK does: an empty message counts, and leaves the status
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
