"""What the inspector keeps: requests as they came, the records read out of them, and sums over both.

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
    "Page",
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
"""The method of what came as a message."""


class RecordedRequest(Struct, frozen=True, kw_only=True):
    """One HTTP request, and what it was answered."""

    id: int = 0
    """Given by the store, ascending."""
    received_at: float
    method: str
    path: str
    query: str = ""
    """Without the question mark."""
    headers: list[tuple[str, str]] = []
    """Names in lower case, in their order; of a secret only the first 8 characters stand here."""
    body: bytes = b""
    """Unzipped; at most the first mebibyte is kept, and secrets in it are cut as well."""
    status: int
    """Of our reply."""
    reply: bytes = b""
    """Our reply's body."""
    latency_ms: float = 0.0
    """How long the reply took, with the latency that was asked for."""
    vendor: Vendor | None = None
    """Whose endpoint it was; None for a path that no vendor has."""
    fault: str | None = None
    """The fault that was put in place of a reply, in words."""


class InspectedRecord(Struct, frozen=True, kw_only=True):
    """One record out of a request."""

    id: int = 0
    """Given by the store, ascending; pages and streams continue from it."""
    request_id: int = 0
    """The `RecordedRequest` that it came in."""
    received_at: float
    occurred_at: float
    """The time that the record itself bears, else `received_at`."""
    vendor: Vendor
    kind: Kind
    name: str
    """The event's name, or the goal's id."""
    side: Source
    """Which SDK sent it, told by the endpoint and the request's headers."""
    accepted: bool
    rules: list[str] = []
    """Which rules a refused record broke, in words: `goalId: must be a string, not 7`."""
    warnings: list[str] = []
    """What a vendor takes but advises against, or does not document."""
    session_id: str | None = None
    window_id: str | None = None
    visitor_id: str | None = None
    """The browser's id: an anonymous id, a visitor id, or a distinct id that no user has been identified by."""
    user_id: str | None = None
    amount: float | None = None
    """Money or steps; negative for a goal's decrement."""
    properties: dict[str, Any] = {}
    raw: dict[str, Any] = {}
    """The record as it stood in the request."""
    page_url: str | None = None
    """The app's page or request that caused it, where the wire tells it."""


class Page(Struct, frozen=True):
    """Some records, newest first."""

    records: list[InspectedRecord]
    next: int | None
    """The cursor of the page with older ones; None when there are none."""


class Visit(Struct, frozen=True, kw_only=True):
    """A session's records, with those that are tied to it."""

    session_id: str
    """The session that stands for it."""
    sessions: list[str]
    """The ids of all vendors' sessions in it."""
    records: list[InspectedRecord]
    """As they occurred."""
    user_id: str | None = None
    """The latest user that it is known to be of."""
    tied_by_time: frozenset[int] = frozenset()
    """The ids of those records that nothing but their time ties to it."""


class SessionSummary(Struct, frozen=True, kw_only=True):
    """One visit, in a line: a session, with those of other vendors that are tied to it."""

    session_id: str
    """The session that stands for it."""
    sessions: list[str]
    """The ids of all vendors' sessions in it."""
    first: float
    """When its first record occurred."""
    last: float
    count: int
    """Records, tied ones included."""
    refused: int
    sides: dict[str, int]
    """Records by side."""
    vendors: dict[str, int]
    """Records by vendor."""
    user_id: str | None
    """The latest known."""
    visitor_id: str | None
    windows: list[str]
    cursor: int
    """The newest id of a record in these sessions; older visits come `before` it."""


class GoalTotal(Struct, frozen=True, kw_only=True):
    """One goal's accepted records, added up."""

    goal_id: str
    increments: int
    """How many."""
    decrements: int
    """How many."""
    total: float
    """Amounts of the increments less those of the decrements: for a revenue goal, money."""
    count: int
    """Increments less decrements: the progress of a goal that counts."""
    money: bool
    """Whether the total is money: not every step was 1. No record says which kind of goal it is."""
    last: float
    """When the latest occurred."""


class VendorHealth(Struct, frozen=True, kw_only=True):
    """How one vendor's endpoints are doing."""

    vendor: Vendor
    accepted: int
    """Records."""
    refused: int
    """Records."""
    requests: int
    statuses: dict[str, int]
    """Requests by status code."""
    latency_p50: float | None
    """Of the latest 1,000 replies, in milliseconds; None before the first."""
    latency_p95: float | None
    accepted_series: list[int]
    """Records in each of the last 60 minutes, oldest first."""
    refused_series: list[int]


class Counts(Struct, frozen=True, kw_only=True):
    """How many records there are."""

    total: int
    accepted: int
    refused: int
    vendors: dict[str, int]
    """Each vendor, also those without records."""
    kinds: dict[str, int]
    """Each kind, also those without records."""
