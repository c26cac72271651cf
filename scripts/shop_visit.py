"""Record a visit to the example shop in a real browser, at the pace of a person.

All records are sent by the shop's pages and server. Only their times are changed: each step of the visit takes as long
as the script says, and the visit ends now.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from demo import free_port, serving
from msgspec.structs import replace
from playwright.sync_api import Browser, Page

from sessionsight.inspector.model import InspectedRecord, RecordedRequest
from sessionsight.inspector.server import RunningInspector, run_in_thread
from sessionsight.inspector.store import Store

__all__ = ["record_visit"]

_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|\+00:00)")
_QUIET = 0.7  # seconds without a record that end a step

Clock = Callable[[float], float]


def record_visit(inspector: RunningInspector, browser: Browser) -> str:
    """Run the visit, add its records to those of an inspector, and return the id of its session."""
    with run_in_thread() as witness, serving("django", free_port(0), witness) as (url, _):
        clock = _clock(_visit(url, browser, witness), ends=time.time())
        (visit,) = witness.store.sessions()
        told = [(_request_at(one, clock), [_record_at(each, clock) for each in of]) for one, of in _all(witness.store)]
    told += _all(inspector.store)
    inspector.store.clear()
    for received, records in sorted(told, key=lambda one: one[0].received_at):
        inspector.store.add(received, records)
    return visit.session_id


def _all(store: Store) -> list[tuple[RecordedRequest, list[InspectedRecord]]]:
    """Return the requests that contained records, with the records."""
    ids = dict.fromkeys(record.request_id for record in store.since(0))
    requests = (store.request(one) for one in ids)
    return [(received, store.siblings(received.id)) for received in requests if received is not None]


def _visit(url: str, browser: Browser, witness: RunningInspector) -> list[tuple[float, float]]:
    """Return the start of each step, and the seconds after the first one to show instead."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    first = context.new_page()
    began: list[tuple[float, float]] = []

    def step(seconds: float, do: Callable[[], object]) -> None:
        began.append((time.time(), seconds))
        do()
        _until_quiet(witness)

    step(0, lambda: first.goto(url))
    step(9, lambda: _follow(first, "Dotted notebook"))
    step(34, lambda: _follow(first, "Sign up to buy"))
    first.get_by_label("E-mail address").fill("you@example.com")
    step(61, lambda: _press(first, "Sign up"))
    second = context.new_page()
    step(95, lambda: second.goto(f"{url}membership"))
    step(127, lambda: _press(second, "Subscribe"))
    step(821, lambda: _follow(first, "Dotted notebook"))
    step(838, lambda: _press(first, "Buy now"))
    step(871, lambda: _press(first, "Refund"))
    context.close()
    return began


def _follow(page: Page, link: str) -> None:
    page.get_by_role("link", name=link, exact=True).click()
    page.wait_for_load_state()


def _press(page: Page, button: str) -> None:
    with page.expect_navigation():
        page.get_by_role("button", name=button, exact=True).click()


def _until_quiet(witness: RunningInspector) -> None:
    """Wait until no record has arrived for `_QUIET` seconds, ten seconds at most."""
    deadline = time.monotonic() + 10
    newest, since = 0, time.monotonic()
    while time.monotonic() - since < _QUIET and time.monotonic() < deadline:
        if newest != witness.store.newest():
            newest, since = witness.store.newest(), time.monotonic()
        time.sleep(0.02)


# --- Changed times --------------------------------------------------------------------------------


def _clock(steps: list[tuple[float, float]], *, ends: float) -> Clock:
    """Return a function that maps a time of the visit to the time to show."""
    began = [real for real, _ in steps]
    start = ends - steps[-1][1] - (ends - began[-1])

    def told(real: float) -> float:
        step = max(bisect_right(began, real) - 1, 0)
        return start + steps[step][1] + real - began[step]

    return told


def _request_at(received: RecordedRequest, clock: Clock) -> RecordedRequest:
    at = clock(received.received_at)
    return replace(received, received_at=at, body=_times_in(received.body, clock))


def _record_at(record: InspectedRecord, clock: Clock) -> InspectedRecord:
    raw = msgspec.json.decode(_times_in(msgspec.json.encode(record.raw), clock))
    return replace(record, received_at=clock(record.received_at), occurred_at=clock(record.occurred_at), raw=raw)


def _times_in(text: bytes, clock: Clock) -> bytes:
    def later(found: re.Match[bytes]) -> bytes:
        moment = clock(datetime.fromisoformat(found[0].decode()).timestamp())
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()

    return _TIME.sub(later, text)
