"""Checks that everything was delivered: a figure counts only if no record was dropped."""

from __future__ import annotations

from sessionsight import Client

_PATIENCE = 60.0


def deliver(client: Client, timeout: float = _PATIENCE) -> None:
    """Wait until everything is delivered.

    Raises:
        RuntimeError: It was not, within the time limit in seconds.
    """
    if not client.flush(timeout):
        raise RuntimeError(f"not delivered within {timeout:g} s: {client.stats()}")


def check_delivered(client: Client, records: int) -> None:
    """Check that each lane has delivered as many records as were captured, or accepts none of their kind.

    Raises:
        RuntimeError: A lane has delivered another number.
    """
    lanes = client.stats().lanes
    for name, lane in lanes.items():
        if lane.delivered != lane.captured or lane.delivered not in (0, records):
            raise RuntimeError(f"{name} has not delivered {records} records: {lane}")
    if not any(lane.delivered == records for lane in lanes.values()):
        raise RuntimeError(f"no lane has delivered {records} records: {lanes}")
