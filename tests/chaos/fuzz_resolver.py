"""Fuzzes the resolver with coverage-guided input.

    python -m tests.chaos.fuzz_resolver -runs=200000

Needs atheris (the `chaos` extra). Options are libFuzzer's. What breaks a rule ends the run and is written to a file.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

HEADERS = (
    "cookie", "x-signal-session-id", "x-signal-window-id", "x-signal-distinct-id", "host", "referer", "user-agent",
    "x-forwarded-for", "x-anonymous",
)  # fmt: skip
_MODULES = (
    "sessionsight.request.urls",
    "sessionsight.request.context",
    "sessionsight.request.raw",
    "sessionsight.request.resolve",
)


def look_at(headers: dict[str, str], query: str, path: str) -> None:
    """Resolve a request, and check the context against the vendors' limits."""
    from sessionsight.request.context import MAX_ID, TrackingContext, valid_id, valid_session_id
    from sessionsight.request.raw import RequestData
    from sessionsight.request.resolve import resolve

    data = RequestData(headers=headers, query=query, path=path, remote_addr="127.0.0.1")
    context = resolve(
        data, anonymous_id_cookie="anon", anonymous_id_header="x-anonymous", client_ip="truncated", trusted_proxies=1
    ).context
    for session in (context.sessionsight.session_id, context.sessionsight.visitor_id):
        assert session is None or valid_session_id(session)
    signal = context.signal
    for id_ in (signal.session_id, signal.window_id, signal.distinct_id, context.anonymous_id):
        assert id_ is None or (valid_id(id_) and len(id_) <= MAX_ID)
    for name in context.page.__struct_fields__:
        fact = getattr(context.page, name)
        assert fact is None or (fact.isprintable() and len(fact) <= 10_000), name
    carrier = context.to_carrier()
    assert all(len(value) <= 500 for value in carrier.values())
    assert TrackingContext.from_carrier(carrier).sessionsight == context.sessionsight


def main() -> None:
    """Fuzz until the limits of the options are reached."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=list(_MODULES)):
        for module in _MODULES:
            importlib.import_module(module)

    def one(raw: bytes) -> None:
        source = atheris.FuzzedDataProvider(raw)
        headers = {name: source.ConsumeUnicode(source.ConsumeIntInRange(0, 400)) for name in HEADERS}
        if source.ConsumeBool():  # most branches need a name that the resolver reads
            headers["cookie"] = f"ss_sid={headers['cookie']}; anon={headers['x-anonymous']}"
        look_at(headers, source.ConsumeUnicode(200), source.ConsumeUnicode(200))

    atheris.Setup([sys.argv[0], *(sys.argv[1:] or ["-runs=200000"])], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
