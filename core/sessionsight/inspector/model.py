"""Data model of the inspector: received requests, the records parsed from them, and aggregates.

All times are Unix seconds.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from msgspec import Struct

__all__ = [
    "KINDS",
    "VENDORS",
    "WEBSOCKET",
    "Counts",
    "GoalTotal",
    "InspectedRecord",
    "Kind",
    "RecordPage",
    "RecordedRequest",
    "SessionSummary",
    "Source",
    "Vendor",
    "VendorHealth",
    "Visit",
]

Vendor = Literal["sessionsight", "signal", "saytics", "analyse"]
Kind = Literal["event", "identify", "goal", "alias", "group", "person"]
Source = Literal["server", "browser"]

VENDORS: tuple[Vendor, ...] = get_args(Vendor)
KINDS: tuple[Kind, ...] = get_args(Kind)


WEBSOCKET = "WEBSOCKET"
"""Method of records that were received as a message."""


class RecordedRequest(Struct, frozen=True, kw_only=True):
    """HTTP request and its response."""

    id: int = 0
    """Assigned by the store, ascending."""
    received_at: float
    method: str
    path: str
    query: str = ""
    """Without the question mark."""
    headers: list[tuple[str, str]] = []
    """Lower-case names in the order received. Only the first 8 characters of secrets are kept."""
    body: bytes = b""
    """Decompressed; at most the first mebibyte is kept. Secrets in it are masked as well."""
    status: int
    """Status of the response."""
    reply: bytes = b""
    """Body of the response."""
    latency_ms: float = 0.0
    """Milliseconds until the response, including injected latency."""
    vendor: Vendor | None = None
    """Vendor of the endpoint; None for a path without vendor."""
    fault: str | None = None
    """Description of the injected fault."""


class InspectedRecord(Struct, frozen=True, kw_only=True):
    """Record parsed from a request."""

    id: int = 0
    """Assigned by the store, ascending; pages and streams continue from it."""
    request_id: int = 0
    """Id of its `RecordedRequest`."""
    received_at: float
    occurred_at: float
    """Time given in the record, otherwise `received_at`."""
    vendor: Vendor
    kind: Kind
    name: str
    """Name of the event, or id of the goal."""
    side: Source
    """Kind of SDK that sent it, by the endpoint and the request's headers."""
    accepted: bool
    errors: list[str] = []
    """Errors of a rejected record: `goalId: must be a string, not 7`."""
    warnings: list[str] = []
    """Warnings about values that the vendor accepts but discourages or does not document."""
    session_id: str | None = None
    window_id: str | None = None
    visitor_id: str | None = None
    """The browser's id: an anonymous id, a visitor id, or a distinct id that no user has been identified by."""
    user_id: str | None = None
    amount: float | None = None
    """Money or steps; negative for a goal's decrement."""
    properties: dict[str, Any] = {}
    raw: dict[str, Any] = {}
    """The record as in the request."""
    page_url: str | None = None
    """Page or request of the app that caused it, if the record contains it."""


class RecordPage(Struct, frozen=True):
    """Page of records, newest first."""

    records: list[InspectedRecord]
    next: int | None
    """Cursor of the next page with older records; None if there are none."""


class Visit(Struct, frozen=True, kw_only=True):
    """Records of a session, and those linked to it."""

    session_id: str
    """Session that identifies the visit."""
    sessions: list[str]
    """Session ids of all vendors in it."""
    records: list[InspectedRecord]
    """In the order in which they occurred."""
    user_id: str | None = None
    """Latest known user."""
    linked_by_time: frozenset[int] = frozenset()
    """Ids of the records that are linked to it by their time only."""


class SessionSummary(Struct, frozen=True, kw_only=True):
    """Summary of a visit: a session, with the linked sessions of other vendors."""

    session_id: str
    """Session that identifies the visit."""
    sessions: list[str]
    """Session ids of all vendors in it."""
    first: float
    """Time of its first record."""
    last: float
    count: int
    """Records, including linked ones."""
    refused: int
    sides: dict[str, int]
    """Records by side."""
    vendors: dict[str, int]
    """Records by vendor."""
    user_id: str | None
    """Latest known user."""
    visitor_id: str | None
    windows: list[str]
    cursor: int
    """Newest id of a record in these sessions; older visits are `before` it."""


class GoalTotal(Struct, frozen=True, kw_only=True):
    """Total of the accepted records of a goal."""

    goal_id: str
    increments: int
    """Number of increments."""
    decrements: int
    """Number of decrements."""
    total: float
    """Amounts of the increments minus those of the decrements: money for a revenue goal."""
    count: int
    """Increments minus decrements: the progress of a counting goal."""
    money: bool
    """True if the total is probably money: an amount other than 1 was sent. Records do not contain the kind of goal."""
    last: float
    """Time of the latest record."""


class VendorHealth(Struct, frozen=True, kw_only=True):
    """Health of a vendor's endpoints."""

    vendor: Vendor
    accepted: int
    """Records."""
    refused: int
    """Records."""
    requests: int
    statuses: dict[str, int]
    """Requests by status code."""
    latency_p50: float | None
    """Median of the latest 1,000 responses in milliseconds; None before the first."""
    latency_p95: float | None
    accepted_series: list[int]
    """Records in each of the last 60 minutes, oldest first."""
    refused_series: list[int]


class Counts(Struct, frozen=True, kw_only=True):
    """Numbers of records."""

    total: int
    accepted: int
    refused: int
    vendors: dict[str, int]
    """Records by vendor, including vendors without records."""
    kinds: dict[str, int]
    """Records by kind, including kinds without records."""
