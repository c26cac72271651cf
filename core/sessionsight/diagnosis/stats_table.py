"""The ledger of a process as a table."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, zip_longest

from sessionsight.client import Client
from sessionsight.errors import escape_control_characters

__all__ = ["stats_lines"]


def stats_lines(client: Client) -> list[str]:
    """Format the ledger of this process as an aligned table, one line per destination, and count rejected calls.

    Example:
        >>> from sessionsight.settings import Settings
        >>> stats_lines(Client(Settings()))
        ['no destinations']
    """
    stats = client.stats()
    head = ["destination", "captured", "delivered", "pending", "dead", "dropped", "state", "last error"]
    rows = [head]
    for name, lane in stats.lanes.items():
        dropped = ", ".join(f"{number} {reason}" for reason, number in lane.dropped.items() if number) or "0"
        numbers = map(str, (lane.captured, lane.delivered, lane.pending, lane.dead))
        rows.append([name, *numbers, dropped, lane.state, escape_control_characters(lane.last_error or "-")])
    lines = list(_aligned(rows)) if stats.lanes else ["no destinations"]
    if stats.rejected:
        lines.append(f"wrong calls, which captured nothing: {stats.rejected}")
    lines += [f"invalid ids in {name}: {number}" for name, number in stats.invalid_ids.items()]
    return lines


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    for row in rows:
        cells = chain(
            (f"{cell:<{width}}" for cell, width in zip(row[:1], widths[:1], strict=True)),
            (f"{cell:>{width}}" for cell, width in zip(row[1:5], widths[1:5], strict=True)),
            (f"{cell:<{width}}" for cell, width in zip(row[5:], widths[5:], strict=True)),
        )
        yield "  ".join(cells).rstrip()
