"""The ledger as metrics: in Prometheus' text format, and as instruments of OpenTelemetry."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from sessionsight.capture.records import DropReason
from sessionsight.client import Client
from sessionsight.delivery.stats import LaneStats, Stats
from sessionsight.errors import MissingDependencyError

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

__all__ = ["PROMETHEUS_CONTENT_TYPE", "connect_opentelemetry", "prometheus_text"]

PROMETHEUS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The `Content-Type` of `prometheus_text`."""

_STATES = ("closed", "open", "half-open", "paused")

_Sample = tuple[dict[str, str], int]


class _Metric(Struct, frozen=True):
    """One metric and its values. The name is that of OpenTelemetry; Prometheus has underscores in place of dots."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    description: str
    samples: Callable[[Stats], Iterable[_Sample]]


def _by_lane(value: Callable[[LaneStats], int]) -> Callable[[Stats], Iterable[_Sample]]:
    return lambda stats: [({"destination": name}, value(lane)) for name, lane in stats.lanes.items()]


def _dropped(stats: Stats) -> Iterator[_Sample]:
    for name, lane in stats.lanes.items():
        # Also the reasons that have not occurred yet: a rate cannot see the first increment of a new series.
        for reason, number in {**dict.fromkeys(map(str, DropReason), 0), **lane.dropped}.items():
            yield {"destination": name, "reason": reason}, number


def _states(stats: Stats) -> Iterator[_Sample]:
    for name, lane in stats.lanes.items():
        for state in _STATES:
            yield {"destination": name, "state": state}, int(lane.state == state)


_METRICS = (
    _Metric(
        "records.captured",
        "counter",
        "{record}",
        "Records of a kind that the destination accepts.",
        _by_lane(lambda lane: lane.captured),
    ),
    _Metric(
        "records.delivered",
        "counter",
        "{record}",
        "Records that the vendor has accepted.",
        _by_lane(lambda lane: lane.delivered),
    ),
    _Metric("records.dropped", "counter", "{record}", "Records that were not sent, by reason.", _dropped),
    _Metric(
        "records.pending",
        "gauge",
        "{record}",
        "Records that are queued or in flight.",
        _by_lane(lambda lane: lane.pending),
    ),
    _Metric(
        "dead_letters",
        "gauge",
        "{record}",
        "Records that could not be delivered and are kept.",
        _by_lane(lambda lane: lane.dead),
    ),
    _Metric("destination.state", "gauge", "1", "1 for the current state of the destination's lane.", _states),
    _Metric("calls.rejected", "counter", "{call}", "Invalid calls.", lambda stats: [({}, stats.rejected)]),
    _Metric(
        "ids.invalid",
        "counter",
        "{id}",
        "Ids that their vendor would not accept, by cookie or header.",
        lambda stats: [({"source": source}, number) for source, number in stats.invalid_ids.items()],
    ),
    _Metric(
        "ids.mismatched",
        "counter",
        "{request}",
        "Requests whose x-signal-distinct-id was not the signed-in user.",
        lambda stats: [({}, stats.mismatched_ids)],
    ),
)


def prometheus_text(client: Client) -> str:
    """Return the ledger in Prometheus' text format, with the content type `PROMETHEUS_CONTENT_TYPE`.

    With a memory spool it is that of this process. With a durable spool it is that of all processes, and reading it
    blocks for as long as reading the file takes.

    Args:
        client: The client, such as `sessionsight.get_client()`.

    Example:
        >>> from sessionsight import Settings
        >>> print(prometheus_text(Client(Settings(destinations=()))).splitlines()[-1])
        sessionsight_ids_mismatched_total 0
    """
    stats = client.stats()
    lines: list[str] = []
    for metric in _METRICS:
        name = f"sessionsight_{metric.name.replace('.', '_')}{'_total' if metric.kind == 'counter' else ''}"
        lines += [f"# HELP {name} {metric.description}", f"# TYPE {name} {metric.kind}"]
        for labels, value in metric.samples(stats):
            pairs = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
            lines.append(f"{name}{f'{{{pairs}}}' if pairs else ''} {value}")
    return "\n".join(lines) + "\n"


def connect_opentelemetry(client: Client, meter_provider: MeterProvider | None = None) -> None:
    """Observe the ledger with OpenTelemetry, in the meter `sessionsight`. Call it once for each client.

    The names are those of Prometheus with dots, such as `sessionsight.records.captured`, and without `_total`; the
    attributes are the labels. Each collection reads the ledger, on the collecting thread. Once the client has been
    garbage-collected, nothing is observed.

    Args:
        client: The client.
        meter_provider: Makes the meter; the global provider by default.

    Raises:
        MissingDependencyError: opentelemetry-api is not installed.
    """
    try:
        from opentelemetry.metrics import get_meter
    except ImportError:
        raise MissingDependencyError(
            "connect_opentelemetry needs opentelemetry-api: pip install 'sessionsight[otel]'"
        ) from None
    meter = get_meter("sessionsight", meter_provider=meter_provider)
    alive = weakref.ref(client)
    for metric in _METRICS:
        create = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
        create(
            f"sessionsight.{metric.name}",
            callbacks=[_observer(alive, metric)],
            unit=metric.unit,
            description=metric.description,
        )


def _observer(alive: weakref.ref[Client], metric: _Metric) -> Callable[[CallbackOptions], list[Observation]]:
    from opentelemetry.metrics import Observation

    def observe(_: CallbackOptions) -> list[Observation]:
        client = alive()
        if client is None:
            return []
        return [Observation(value, attributes) for attributes, value in metric.samples(client.stats())]

    return observe


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
