"""Whatever our own destinations send, the inspector takes."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from sessionsight.destinations.base import encode_body
from sessionsight.inspector.server import RunningInspector
from tests.conformance.facts.fact import Fact
from tests.conformance.wire_facts import FACTS

EXPECTED = sorted((Path(__file__).parents[2] / "conformance" / "expected").glob("*.json"))
# Sent as the caller or an option wants it, against the vendor's documented limits.
BEYOND_LIMITS = {
    "sessionsight: the call's session goes out as given",
    "sessionsight: U+0085 is not blank",
    "sessionsight: the SDK itself enforces no limit",
    "saytics: property, strings as given",
    "saytics: property, arrays as given",
}


def plain(value: Any) -> Any:
    """An expectation's placeholders as values: `number 4.50` is a number, `<now>` a time."""
    match value:
        case dict():
            return {name: plain(item) for name, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case str() if value.startswith("number "):
            return float(value.removeprefix("number "))
        case "<now>":
            return "2026-05-01T10:00:00.250Z"
    return value


@pytest.mark.parametrize("path", EXPECTED, ids=lambda path: path.stem)
def test_takes_what_every_adapter_sends(path: Path, http: httpx.Client, inspector: RunningInspector) -> None:
    calls = json.loads(path.read_text())["wire"]
    for call in calls:
        method, target = call["request"].split(" ")
        response = http.request(method, target, headers=call["headers"], json=plain(call["body"]))
        assert response.status_code == 200, response.text
    counts = inspector.store.counts()
    assert counts.refused == 0
    captured = [call["body"] for call in calls if not call["request"].endswith("/flags/evaluate")]
    assert counts.accepted == sum(len(body.get("events", [None])) for body in captured)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.id)
def test_takes_every_wire_fact_that_keeps_to_the_vendors_limits(fact: Fact, http: httpx.Client) -> None:
    for request in fact.requests:
        path = httpx.URL(request.url).path
        if not path.startswith("/v1/"):
            continue  # an option of the destination names another
        body = encode_body(request.json)
        response = http.request(request.method, path, headers=dict(request.headers), content=body)
        assert response.status_code == (400 if fact.id in BEYOND_LIMITS else 200), response.text
