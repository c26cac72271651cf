"""A destination of one's own, and a client that sends to it."""

from collections.abc import Iterable, Sequence

from sessionsight import Client, Settings, TrackingContext
from sessionsight.capture.records import DropReason, EventRecord, QueuedRecord, Record
from sessionsight.destinations.base import (
    Destination,
    Limits,
    VendorRequest,
    VendorResponse,
    Verdict,
    classify_status,
    encode_body,
)


class Warehouse:
    """Fits the protocol without a base class."""

    name = "warehouse"
    limits = Limits(max_records=500)

    def supports(self, kind: type[Record]) -> bool:
        return kind is EventRecord

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        return None if record.user_id or context.user_id else DropReason.NO_IDENTITY

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        body = encode_body([entry.record.label for entry in entries])
        return [VendorRequest(url="https://warehouse.example/", headers={}, body=body, entries=entries)]

    def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
        return classify_status(reply)


warehouse: Destination = Warehouse()
client = Client(Settings(destinations=(warehouse, Warehouse())))


class Incomplete:
    """Has a name and nothing else."""

    name = "incomplete"


Settings(destinations=(Incomplete(),))  # type: ignore[arg-type]
