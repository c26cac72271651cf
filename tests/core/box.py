"""A destination that accepts all records, and a transport that stores them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sessionsight import Client, TrackingContext
from sessionsight.capture.encoding import decode
from sessionsight.capture.records import DropReason, EventRecord, QueuedRecord, Record
from sessionsight.delivery.transport import TimeLimits
from sessionsight.destinations.base import Action, Limits, VendorRequest, VendorResponse, Verdict
from sessionsight.request.raw import HeaderNames, RequestData, from_any


class BoxDestination:
    """Accepts every kind of record unchanged."""

    limits = Limits()

    def __init__(self, name: str = "box") -> None:
        self.name = name

    def supports(self, kind: type[Record]) -> bool:
        return True

    def drop_reason(self, record: Record, context: TrackingContext) -> DropReason | None:
        return None

    def build_requests(self, entries: Sequence[QueuedRecord], *, now: float) -> Iterable[VendorRequest]:
        return [VendorRequest(url=f"https://{self.name}.example/", headers={}, body=b"", entries=entries)]

    def classify(self, call: VendorRequest, reply: VendorResponse) -> Verdict:
        return Verdict(action=Action.DELIVERED)


class Box:
    """A transport that stores the entries of all calls by destination."""

    def __init__(self) -> None:
        self.entries: dict[str, list[QueuedRecord]] = {}

    def send(self, call: VendorRequest, limits: TimeLimits) -> VendorResponse:
        name = call.url.removeprefix("https://").removesuffix(".example/")
        self.entries.setdefault(name, []).extend(call.entries)
        return VendorResponse(status=200)

    def close(self) -> None:
        pass


class Recorder:
    """A client and the box that it delivers to."""

    def __init__(self, client: Client, box: Box) -> None:
        self.client = client
        self.box = box

    def entries(self, destination: str = "box") -> list[QueuedRecord]:
        """Wait for delivery, and return the delivered records."""
        assert self.client.flush(10)
        assert all(lane.balanced for lane in self.client.stats().lanes.values())
        return self.box.entries.get(destination, [])

    def records(self) -> list[Record]:
        return [entry.record for entry in self.entries()]

    def events(self) -> dict[str, Any]:
        """The properties of the events by name."""
        return {record.name: decode(record.properties) for record in self.records() if isinstance(record, EventRecord)}

    def users(self) -> list[str | None]:
        """The user of each record, in order."""
        return [entry.user_id for entry in self.entries()]

    def dropped(self, destination: str = "box") -> dict[str, int]:
        return {reason: n for reason, n in self.client.stats().lanes[destination].dropped.items() if n}


class Visit:
    """A request of any shape that `from_any` reads, with its user and route. Counts how often it is read."""

    def __init__(self, request: object = "", *, user: str | None = None, route: str | None = None) -> None:
        self.request = request
        self.user = user
        self.matched = route
        self.reads: list[object] = []

    def snapshot(self, names: HeaderNames) -> Callable[[], RequestData]:
        request, reads = self.request, self.reads  # the snapshot must not keep the visit

        def read() -> RequestData:
            reads.append(request)
            return from_any(request, names)

        return read

    def framework_request(self) -> object:
        return self.request

    def user_id(self) -> str | None:
        return self.user

    def route(self) -> str | None:
        return self.matched
