"""Cost of a request with a durable spool to the web process: delivered by itself, and by a relay.

The processor time is that of the web process. With `delivery="relay"` it ends when the records are in the file; they
are delivered after all measurements.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from functools import partial

from benchmarks import timing
from benchmarks.apps import wsgi
from benchmarks.apps.kinds import Served, nothing
from benchmarks.delivered import check_delivered, deliver
from benchmarks.isolated import hand_over
from benchmarks.rows.requests import REQUESTS, ROUNDS, capture, total
from benchmarks.server import running
from benchmarks.stores import prepared
from benchmarks.table import Row
from benchmarks.vendors import all_four, analyse
from sessionsight import Client
from sessionsight.relay import Relay

VENDORS = {"one capture": analyse, "one capture, four vendors": all_four}
SERVED = (ROUNDS + timing.WARM_UP) * REQUESTS + (timing.PAIRS + 3) * timing.REQUESTS


def measure() -> list[Row]:
    with ExitStack() as stack:
        url = stack.enter_context(running())
        spools = {"SQLite": f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/{{}}.db"}
        try:
            spools["Redis"] = stack.enter_context(prepared("redis")) + "-{}"
        except LookupError as reason:
            print(f" Redis skipped: {reason}", end="", file=sys.stderr)
        apps: dict[str, Served] = {}
        for name, spool in spools.items():
            for delivery in ("background", "relay") if name == "SQLite" else ("relay",):
                for case, vendors in VENDORS.items():
                    apps[f"wsgi, {name} spool, {case}, delivery={delivery}"] = wsgi.ours(
                        vendors(url), capture, delivery=delivery, spool=spool.format(len(apps))
                    )
        bare = wsgi.bare(nothing)
        totals = total(bare, apps)
        path = {
            case: timing.overhead(bare, served.serve, partial(deliver, served.client)) for case, served in apps.items()
        }
        for served in apps.values():
            finish(served.client)
    return [
        *(Row(what=case, figure=figure, unit="µs") for case, figure in totals.items()),
        *(Row(what=f"{case}: the request's path", figure=figure, unit="µs") for case, figure in path.items()),
    ]


def finish(client: Client) -> None:
    """Deliver what is left, and check that everything was delivered."""
    if client.settings.delivery == "background":
        check_delivered(client, SERVED)
        client.shutdown()
    else:
        client.shutdown()
        relay = Relay(Client(client.settings))
        relay.start()
        deliver(relay.client)
        check_delivered(relay.client, SERVED)
        relay.stop()


if __name__ == "__main__":
    hand_over(measure())
