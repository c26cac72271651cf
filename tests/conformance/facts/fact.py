"""Wire fact of a vendor as data: records in, requests out."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sessionsight.capture.records import DropReason, QueuedRecord, Record
from sessionsight.destinations import BY_NAME, from_options
from sessionsight.destinations.base import Destination
from sessionsight.request.context import TrackingContext
from tests.core.destinations.factories import NOBODY

KEYS: dict[str, dict[str, Any]] = {
    "sessionsight": {"secret_api_key": "sessionsight_sec_1", "property_id": "shop"},
    "signal": {"api_key": "signal_key_1", "project_id": "shop"},
    "saytics": {"secret_key": "sk_live_1"},
    "analyse": {"public_key": "pk_live_1"},
}


class Request(NamedTuple):
    """An expected request. The body is compared as JSON, numbers digit by digit."""

    url: str
    headers: Mapping[str, str]
    json: Any
    method: str = "POST"


class Fact(NamedTuple):
    """One fact of a vendor's wire."""

    id: str
    source: str
    """Where the vendor says so, or `OURS` for an assumption or choice of our own."""
    destination: str
    records: list[Record | QueuedRecord]
    """Records go out under `context`; an entry brings its own."""
    requests: Sequence[Request] = ()
    refused: DropReason | None = None
    """The first record's fate, when there is no request."""
    context: TrackingContext = NOBODY
    options: Mapping[str, Any] = MappingProxyType({})

    @property
    def entries(self) -> list[QueuedRecord]:
        return [item if isinstance(item, QueuedRecord) else QueuedRecord(item, self.context) for item in self.records]


OURS = "our own choice or assumption; an option changes it where it says so"


def destination(name: str, options: Mapping[str, Any] | None = None) -> Destination:
    assert name in BY_NAME
    return from_options(name, {**KEYS[name], **(options or {})})
