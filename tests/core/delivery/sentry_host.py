"""A host with Sentry: it makes a call of its own, and the client delivers, all within one trace.

    echo "httpx static http://127.0.0.1:1234 http://localhost:1235" | python -m tests.core.delivery.sentry_host

That is: the HTTP library, Sentry's way of sending spans (`static`: when the trace ends, `stream`: one by one), somebody
else, and a vendor. It prints all that Sentry would have sent.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any
from urllib.request import urlopen

import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.httpx import HttpxIntegration
from sentry_sdk.integrations.httpx2 import Httpx2Integration
from sentry_sdk.integrations.socket import SocketIntegration
from sentry_sdk.transport import Transport

from sessionsight import Client, Settings
from sessionsight.destinations import Analyse


class Printer(Transport):
    """A transport of Sentry's that keeps everything in this process."""

    def capture_envelope(self, envelope: Envelope) -> None:
        print(envelope.serialize().decode())


def main(library: str, lifecycle: str, elsewhere: str, vendor: str) -> None:
    """Call, deliver, and print what Sentry has seen."""
    sentry_sdk.init(
        "http://key@127.0.0.1:9/1",
        transport=Printer,
        server_name="host",
        traces_sample_rate=1.0,
        # Those for HTTP, which are on by default, and spans for connections and name lookups. The other default ones
        # would import each framework of the environment.
        auto_enabling_integrations=False,
        integrations=[HttpxIntegration(), Httpx2Integration(), SocketIntegration()],
        _experiments={"trace_lifecycle": "stream" if lifecycle == "stream" else "static"},
    )
    if library == "httpx":
        sys.modules["httpx2"] = None  # type: ignore[assignment]
    http: Any = importlib.import_module(library)
    settings = Settings(destinations=(Analyse(public_key="pk_live_1", host=vendor),), linger=0, trust_env=False)
    client = Client(settings)
    begun: Any = sentry_sdk.traces.start_span if lifecycle == "stream" else sentry_sdk.start_transaction
    with begun(name="request"):
        http.post(f"{elsewhere}/by-{library}", trust_env=False)
        with urlopen(f"{elsewhere}/by-stdlib") as reply:
            reply.read()
        client.analytics.capture("seen", user_id="user_1")  # starts our threads, within the trace
        assert client.flush(20)
    sentry_sdk.capture_message("the end")  # with all breadcrumbs
    sentry_sdk.flush()
    client.shutdown(0)


if __name__ == "__main__":
    main(*sys.stdin.read().split())
